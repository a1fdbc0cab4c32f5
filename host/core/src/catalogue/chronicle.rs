//! What a keyspace was pinned to, and what was tried in it: for people who ask what changed, and
//! for the way back.
//!
//! A chronicle only grows by entries and loses its oldest: the join of two is all of both, but for
//! the oldest beyond [`ENTRIES_MAX`]. That is a join of a lattice still (the largest of a union, in
//! one order), so nodes agree whatever arrives when. Times are those of the nodes that made the
//! changes and may be off by what their clocks are; they order the entries and decide nothing else.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Reconcile, Trial};
use crate::id::ModuleDigest;

/// How many entries are kept.
pub const ENTRIES_MAX: usize = 32;
/// The longest reason, in characters.
pub const REASON_CHARS_MAX: usize = 200;

/// What happened to a keyspace's merging.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    /// When: milliseconds since 1970 (UTC); 0 for what was there before there was a chronicle.
    pub at_ms: u64,
    /// What.
    pub what: What,
    /// Why, in the operator's or the node's words.
    pub reason: String,
}

/// The kinds of entries, in the order in which several of one time happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The trial of this module ended.
    TrialEnded(ModuleDigest),
    /// It was pinned to this.
    Pinned(Reconcile),
    /// A trial began.
    Tried(Trial),
}

/// Entries in the order of their times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chronicle(BTreeSet<Entry>);

impl Chronicle {
    /// The entries, the oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.0.iter()
    }

    /// The last module but `pinned` that it was pinned to.
    pub fn module_before(&self, pinned: ModuleDigest) -> Option<ModuleDigest> {
        self.entries().rev().find_map(|entry| match &entry.what {
            What::Pinned(reconcile) => reconcile.module().filter(|module| *module != pinned),
            What::Tried(_) | What::TrialEnded(_) => None,
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn note(&mut self, at_ms: u64, what: What, reason: &str) {
        let reason = reason.chars().take(REASON_CHARS_MAX).collect();
        self.0.insert(Entry { at_ms, what, reason });
        self.shorten();
    }

    pub(super) fn join(&mut self, other: &Chronicle) {
        self.0.extend(other.0.iter().cloned());
        self.shorten();
    }

    fn shorten(&mut self) {
        while self.0.len() > ENTRIES_MAX {
            self.0.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pinned(at_ms: u64, module: u8) -> Entry {
        let what = What::Pinned(Reconcile::Module(ModuleDigest([module; 32])));
        Entry { at_ms, what, reason: String::new() }
    }

    fn chronicle() -> impl Strategy<Value = Chronicle> {
        prop::collection::btree_set((0..60_u64, 0..3_u8), 0..40).prop_map(|entries| {
            let mut chronicle = Chronicle(entries.into_iter().map(|(t, m)| pinned(t, m)).collect());
            chronicle.shorten();
            chronicle
        })
    }

    fn joined(a: &Chronicle, b: &Chronicle) -> Chronicle {
        let mut joined = a.clone();
        joined.join(b);
        joined
    }

    proptest! {
        #[test]
        fn joining_is_a_lattice(a in chronicle(), b in chronicle(), c in chronicle()) {
            prop_assert_eq!(joined(&a, &b), joined(&b, &a));
            prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
            prop_assert_eq!(joined(&a, &a), a.clone());
            prop_assert!(joined(&a, &b).0.len() <= ENTRIES_MAX);
        }
    }
}
