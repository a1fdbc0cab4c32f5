//! Wrong: merges the first two siblings and forgets the others.

use std::collections::BTreeSet;

use stator_guest::{Divergence, Failure, Invariant, Merge, Outcome, Random, Resolution, Sample};

struct DropsThird;

impl Merge for DropsThird {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let mut words = BTreeSet::new();
        for (_, text) in divergence.values().take(2) {
            words.extend(guests::words(text));
        }
        Ok(Resolution::value(words.into_iter().collect::<Vec<_>>().join(&b'\n')))
    }
}

impl Sample for DropsThird {
    fn sample(random: &mut Random) -> Divergence {
        let base = guests::more_words("ant", |bound| random.below(bound));
        let edits = [(); 3].map(|()| guests::more_words(&base, |bound| random.below(bound)));
        Divergence::of_edits(base, edits)
    }
}

impl Invariant for DropsThird {
    fn preserves(before: &Divergence, after: &Outcome) -> Result<(), String> {
        let Outcome::Value(after) = after else { return Err("no words are left".to_owned()) };
        let kept: BTreeSet<_> = guests::words(after).collect();
        let mut words = before.values().flat_map(|(_, text)| guests::words(text));
        match words.find(|word| !kept.contains(word)) {
            Some(word) => Err(format!("{:?} is lost", String::from_utf8_lossy(word))),
            None => Ok(()),
        }
    }
}

stator_guest::export!(DropsThird, sampler, invariant);
