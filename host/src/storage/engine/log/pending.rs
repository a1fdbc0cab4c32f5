//! What is in the log and not in the engine yet: in memory, in order, in two generations.
//!
//! The younger generation takes batches; the older one, once there is one, is on its way to the
//! engine and no longer changes. A reader looks into the younger, then the older, then the engine.
//! It does so in this order, and a generation goes only after the engine has it, so nothing is
//! missed in between.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::Ops;

/// Keys with what is to become of them.
pub(super) type Generation = BTreeMap<Bytes, Option<Bytes>>;

/// What an entry takes beside its bytes, about.
const ENTRY_BYTES: usize = 96;

#[derive(Default)]
pub(super) struct Pending {
    young: Generation,
    young_bytes: usize,
    old: Option<Arc<Generation>>,
}

impl Pending {
    pub(super) fn add(&mut self, ops: Ops) {
        for (key, value) in ops {
            let bytes = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
            self.young_bytes += bytes(&value);
            let key_bytes = key.len() + ENTRY_BYTES;
            match self.young.insert(key, value) {
                Some(replaced) => self.young_bytes -= bytes(&replaced),
                None => self.young_bytes += key_bytes,
            }
        }
    }

    /// About how much memory the younger generation takes.
    pub(super) fn young_bytes(&self) -> usize {
        self.young_bytes
    }

    /// What the younger generation holds.
    pub(super) fn into_young(self) -> Generation {
        self.young
    }

    pub(super) fn is_flushing(&self) -> bool {
        self.old.is_some()
    }

    /// Makes the younger generation the older one, which must have gone.
    pub(super) fn turn(&mut self) -> Arc<Generation> {
        self.young_bytes = 0;
        let old = Arc::new(std::mem::take(&mut self.young));
        self.old = Some(old.clone());
        old
    }

    /// The engine has the older generation.
    pub(super) fn is_flushed(&mut self) {
        self.old = None;
    }

    /// What is pending for `key`: a value, or its deletion.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let old = || self.old.as_ref().and_then(|old| old.get(key));
        self.young.get(key).or_else(old).cloned()
    }

    /// The first entries from `from` on and below `to`; at least `count` unless there are no
    /// more. If there are, the bound below which these are all.
    pub(super) fn range(
        &self,
        from: &[u8],
        to: &[u8],
        count: usize,
    ) -> (Generation, Option<Bytes>) {
        let generations = self.old.as_deref().into_iter().chain([&self.young]);
        let mut found = Generation::new();
        let mut bound: Option<Bytes> = None;
        for generation in generations {
            let range = (Bound::Included(from), Bound::Excluded(to));
            let mut entries = generation.range::<[u8], _>(range);
            let first = entries.by_ref().take(count);
            found.extend(first.map(|(key, value)| (key.clone(), value.clone())));
            if let Some((next, _)) = entries.next() {
                bound = Some(bound.map_or(next.clone(), |bound| bound.min(next.clone())));
            }
        }
        if let Some(bound) = &bound {
            drop(found.split_off(bound));
        }
        (found, bound)
    }
}
