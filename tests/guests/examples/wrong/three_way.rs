//! Wrong merges with an ancestor: what a sibling lacks of it was removed.

use std::collections::BTreeSet;

use stator_guest::{Ancestor, Divergence, Failure, Resolution};

type Answer = Result<Resolution, Failure>;

fn merge(base: &[u8], divergence: &Divergence) -> Answer {
    let base: BTreeSet<_> = guests::words(base).collect();
    let sets: Vec<BTreeSet<_>> =
        divergence.values().map(|(_, text)| guests::words(text).collect()).collect();
    let all: BTreeSet<_> = sets.iter().flatten().copied().collect();
    let kept = |word: &&[u8]| !base.contains(word) || sets.iter().all(|set| set.contains(word));
    Ok(Resolution::value(all.into_iter().filter(kept).collect::<Vec<_>>().join(&b'\n')))
}

/// Where the ancestor is not known, the first sibling will do.
pub fn first_is_the_base(divergence: &Divergence) -> Answer {
    let first = divergence.values().next().map(|(_, text)| text).unwrap_or_default();
    match &divergence.ancestor {
        Ancestor::Known(known) => merge(known.value.as_deref().unwrap_or_default(), divergence),
        Ancestor::Unknown | Ancestor::Absent => merge(first, divergence),
    }
}

/// There is always one, or so it seems.
pub fn needs_a_base(divergence: &Divergence) -> Answer {
    match &divergence.ancestor {
        Ancestor::Known(known) => merge(known.value.as_deref().unwrap_or_default(), divergence),
        Ancestor::Unknown | Ancestor::Absent => panic!("the ancestor is known"),
    }
}
