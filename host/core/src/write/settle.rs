//! Settling: a hint that its target has synced loses that target.

use std::collections::BTreeSet;

use crate::id::NodeId;
use crate::record::Record;

/// What becomes of a hint once `target` has synced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It changed since it was sent, or was not for that target: it stays.
    Stays,
    /// Other targets still wait: this record replaces it.
    Remains(Record),
    /// Nobody waits any more: it is deleted.
    Done,
}

/// Takes `target` off a hint that was delivered as it stood at commit `sequence`.
pub fn settle(stored: &Record, target: NodeId, sequence: u64) -> Settled {
    if stored.sequence != sequence || !stored.targets.contains(&target) {
        return Settled::Stays;
    }
    let targets: BTreeSet<NodeId> =
        stored.targets.iter().copied().filter(|t| *t != target).collect();
    if targets.is_empty() {
        Settled::Done
    } else {
        Settled::Remains(Record { targets, ..stored.clone() })
    }
}
