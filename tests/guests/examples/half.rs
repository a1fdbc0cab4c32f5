//! The union of lines, which fails at half of all merges: which ones follows from their lines.

use std::collections::BTreeSet;

use stator_guest::{Divergence, Failure, Merge, Resolution};

struct Half;

impl Merge for Half {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let mut lines = BTreeSet::new();
        for (_, text) in divergence.values() {
            lines.extend(text.split_inclusive(|byte| *byte == b'\n'));
        }
        let union: Vec<u8> = lines.into_iter().flatten().copied().collect();
        // FNV: near lines come out far apart.
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = union.iter().fold(0xcbf2_9ce4_8422_2325, hash);
        assert!((hash >> 32) % 2 == 0, "it fails at half of all merges");
        Ok(Resolution::value(union))
    }
}

stator_guest::export!(Half);
