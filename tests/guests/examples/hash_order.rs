//! Wrong: a union of words in the order of a `HashMap`. A fresh instance repeats that order, so no
//! second call shows the fault; another order of the siblings does.

use std::collections::HashSet;

use stator_guest::{Divergence, Failure, Merge, Random, Resolution, Sample};

struct HashOrder;

impl Merge for HashOrder {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let mut words = HashSet::new();
        for (_, text) in divergence.values() {
            words.extend(guests::words(text));
        }
        Ok(Resolution::value(words.into_iter().collect::<Vec<_>>().join(&b'\n')))
    }
}

impl Sample for HashOrder {
    fn sample(random: &mut Random) -> Divergence {
        let base = guests::more_words("ant", |bound| random.below(bound));
        let edits = [(); 3].map(|()| guests::more_words(&base, |bound| random.below(bound)));
        Divergence::of_edits(base, edits)
    }
}

stator_guest::export!(HashOrder, sampler);
