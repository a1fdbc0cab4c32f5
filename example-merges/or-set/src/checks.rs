//! What the checks of the merge laws need: samples, and what a merge must not lose.

use std::collections::BTreeSet;

use stator_guest::{Divergence, Invariant, Outcome, Random, Sample};

use crate::{OrSet, Set};

impl Sample for OrSet {
    /// Clients that have read the same set, each with a few adds and removals of its own.
    fn sample(random: &mut Random) -> Divergence {
        let mut base = Set::default();
        edit(&mut base, "base", random);
        let edits: Vec<_> = (0..2 + random.below(2))
            .map(|client| {
                let mut set = base.clone();
                edit(&mut set, &format!("client-{client}"), random);
                strict_json::text(&set)
            })
            .collect();
        Divergence::of_edits(strict_json::text(&base), edits)
    }
}

/// Does what the head of this crate asks of a client.
fn edit(set: &mut Set, client: &str, random: &mut Random) {
    for n in 0..random.below(4) {
        let element = *random.pick(&["bread", "milk", "tea"]);
        if random.chance(1, 3) {
            set.removed.extend(set.elements.remove(element).unwrap_or_default());
        } else {
            set.elements.entry(element.to_owned()).or_default().insert(format!("{client}:{n}"));
        }
    }
}

impl Invariant for OrSet {
    /// No add is lost but by a removal that saw it, and what is removed does not come back.
    fn preserves(before: &Divergence, after: &Outcome) -> Result<(), String> {
        let sets: Vec<Set> =
            before.values().filter_map(|(_, json)| strict_json::parse(json).ok()).collect();
        let after: Set = match after {
            Outcome::Value(json) => strict_json::parse(json)?,
            Outcome::Delete if sets.is_empty() => return Ok(()),
            _ => return Err("there is no set any more".to_owned()),
        };
        let removed: BTreeSet<_> = sets.iter().flat_map(|set| &set.removed).collect();
        let adds = sets.iter().flat_map(|set| &set.elements);
        for (element, tag) in
            adds.flat_map(|(element, tags)| tags.iter().map(move |t| (element, t)))
        {
            let is_there = after.elements.get(element).is_some_and(|tags| tags.contains(tag));
            match (removed.contains(tag), is_there) {
                (false, false) => return Err(format!("the add {tag} of {element} is lost")),
                (true, true) => return Err(format!("the removed {tag} of {element} is back")),
                _ => {}
            }
        }
        match removed.into_iter().find(|tag| !after.removed.contains(*tag)) {
            Some(tag) => Err(format!("the removal of {tag} is lost")),
            None => Ok(()),
        }
    }
}
