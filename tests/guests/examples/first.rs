//! Gives back the first sibling and looks at no other: what a merge costs that does nothing.

use stator_guest::{Divergence, Failure, Merge, Resolution};

struct First;

impl Merge for First {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let first = divergence.values().next().map(|(_, text)| text.to_vec());
        Ok(Resolution::value(first.unwrap_or_default()))
    }
}

stator_guest::export!(First);
