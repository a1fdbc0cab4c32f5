//! The union of lines, sorted: what simulated worlds merge with.

use std::collections::BTreeSet;

use stator_guest::{Divergence, Failure, Merge, Resolution};

struct Lines;

impl Merge for Lines {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let mut lines = BTreeSet::new();
        for (_, text) in divergence.values() {
            lines.extend(text.split_inclusive(|byte| *byte == b'\n'));
        }
        if divergence.values().next().is_none() {
            return Ok(Resolution::delete());
        }
        Ok(Resolution::value(lines.into_iter().flatten().copied().collect::<Vec<u8>>()))
    }
}

stator_guest::export!(Lines);
