//! What the checks of the merge laws need: samples, and what a merge must not lose.

use stator_guest::{Divergence, Invariant, Outcome, Random, Sample};

use crate::{Entry, MaxRegister};

impl Sample for MaxRegister {
    /// Clients that have read the same entry, each with a larger one: often of the same score.
    fn sample(random: &mut Random) -> Divergence {
        let base = entry(random);
        let edits: Vec<_> = (0..2 + random.below(2))
            .map(|_| strict_json::text(&entry(random).max(base.clone())))
            .collect();
        Divergence::of_edits(strict_json::text(&base), edits)
    }
}

fn entry(random: &mut Random) -> Entry {
    let player = *random.pick(&["anna", "ben", "chris"]);
    Entry { score: u64::from(random.below(4)), player: player.to_owned() }
}

impl Invariant for MaxRegister {
    /// No larger entry is lost.
    fn preserves(before: &Divergence, after: &Outcome) -> Result<(), String> {
        let after: Option<Entry> = match after {
            Outcome::Value(json) => Some(strict_json::parse(json)?),
            Outcome::Delete => None,
            Outcome::KeepSiblings => return Err("there is no entry any more".to_owned()),
        };
        let entries = before.values().filter_map(|(_, json)| strict_json::parse(json).ok());
        match entries.max() {
            best if best <= after => Ok(()),
            best => Err(format!("{best:?} is lost")),
        }
    }
}
