//! What concurrent versions of a key mean together: a list to which anyone adds lines.
//!
//! A value is UTF-8 text, one entry a line. The merge is the union of the lines, each once and
//! sorted, so whatever someone added stays. Nothing can be taken out again: a line that one
//! version lacks may be new in the other as well as removed from the one.

use std::collections::BTreeSet;

use stator_guest::{Divergence, Failure, Merge, Resolution};

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

stator_guest::export!(Lines);
