//! What concurrent versions of a key mean together: a list to which anyone adds lines.
//!
//! A value is UTF-8 text, one entry a line. The merge is the union of the lines, each once and
//! sorted, so whatever someone added stays. Nothing can be taken out again: a line that one
//! version lacks may be new in the other as well as removed from the one.

use std::collections::BTreeSet;

use stator_guest::{Divergence, Failure, Invariant, Merge, Outcome, Random, Resolution, Sample};

/// The module.
pub struct Lines;

impl Merge for Lines {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let mut lines = BTreeSet::new();
        for (sibling, value) in divergence.values() {
            let text = str::from_utf8(value)
                .map_err(|why| Failure::malformed(sibling, format!("not UTF-8: {why}")))?;
            lines.extend(text.split('\n').filter(|line| !line.is_empty()));
        }
        // Deletes are siblings too, without a value. Whatever was written beside one stays.
        if divergence.values().next().is_none() {
            return Ok(Resolution::delete());
        }
        let merged: String = lines.into_iter().flat_map(|line| [line, "\n"]).collect();
        Ok(Resolution::value(merged))
    }
}

/// For `stator module test`, which checks the merge laws: what can really arise.
impl Sample for Lines {
    /// Three clients that have read the same list, each adding a line to it.
    fn sample(random: &mut Random) -> Divergence {
        let base = added("milk\n", random);
        let edits = [(); 3].map(|()| added(&base, random));
        Divergence::of_edits(base, edits)
    }
}

fn added(list: &str, random: &mut Random) -> String {
    let mut lines: BTreeSet<&str> = list.lines().collect();
    lines.insert(*random.pick(&["bread", "milk", "salt", "tea"]));
    lines.into_iter().flat_map(|line| [line, "\n"]).collect()
}

/// For `stator module test` as well: what users are promised.
impl Invariant for Lines {
    /// No line is lost.
    fn preserves(before: &Divergence, after: &Outcome) -> Result<(), String> {
        let Outcome::Value(after) = after else {
            return Err("there is no list any more".to_owned());
        };
        let lines = |value: &[u8]| -> BTreeSet<String> {
            let text = String::from_utf8_lossy(value);
            text.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect()
        };
        let after = lines(after);
        let mut written = before.values().flat_map(|(_, value)| lines(value));
        match written.find(|line| !after.contains(line)) {
            Some(line) => Err(format!("the line {line} is lost")),
            None => Ok(()),
        }
    }
}

stator_guest::export!(Lines, sampler, invariant);
