//! The index of the hints: who waits for which keys.
//!
//! It is in memory only and is built at the start by reading the hint store through. The store's
//! committer changes it right after each apply, so it names what can be read, and nothing else.
//!
//! What an operator asks of it (how many, how large, how old, for whom) is kept up to date with
//! each change, so that asking costs nothing however many hints there are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use stator_core::id::NodeId;
use stator_core::keys::{PREFIX_BYTES, StoreKey};
use stator_core::record::Record;

use super::engine::EngineError;
use super::job::HintFigures;
use super::records::{Found, Records};

/// About how many bytes `record` takes under `key`: what the budget counts.
pub(super) fn weight_bytes(key: &StoreKey, record: &Record) -> usize {
    PREFIX_BYTES + key.key.len() + record.targets.len() * 8 + record.siblings.weight_bytes()
}

/// Targets, keys and bytes of all hints.
pub(super) struct HintIndex {
    state: Mutex<State>,
    pub(super) bytes_max: usize,
    refused: AtomicU64,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<StoreKey, Entry>,
    by_target: BTreeMap<NodeId, Waiting>,
    bytes: usize,
}

struct Entry {
    targets: BTreeSet<NodeId>,
    bytes: usize,
    sequence: u64,
    since_s: u64,
}

/// What waits for one node.
#[derive(Default)]
struct Waiting {
    keys: BTreeSet<StoreKey>,
    bytes: usize,
    /// How many keys became hints in each second since 1970.
    since_s: BTreeMap<u64, usize>,
}

/// The wall clock: milliseconds since 1970.
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl HintIndex {
    pub(super) fn new(bytes_max: usize) -> Self {
        HintIndex { state: Mutex::default(), bytes_max, refused: AtomicU64::new(0) }
    }

    // No code under the lock panics, so a poisoned one is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `key` now holds `record`, or nothing.
    pub(super) fn set(&self, key: &StoreKey, record: Option<&Record>) {
        let mut state = self.lock();
        state.remove(key);
        if let Some(record) = record {
            let bytes = weight_bytes(key, record);
            state.insert(key, record, bytes);
        }
    }

    /// Takes out a hint that turned out to be unreadable, unless it was replaced since.
    pub(super) fn forget(&self, key: &StoreKey, sequence: u64) {
        let mut state = self.lock();
        if state.keys.get(key).is_some_and(|entry| entry.sequence == sequence) {
            state.remove(key);
        }
    }

    /// Reads the store through and knows its hints, and no others, from then on.
    pub(super) fn rebuild(&self, records: &Records) -> Result<(), EngineError> {
        *self.lock() = State::default();
        records.for_each(|key, found| {
            if let Found::Whole(record, _) = found {
                self.set(&key, Some(&record));
            }
        })
    }

    /// Counts a hint that was refused because it did not fit.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// About how many bytes all hints take.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// The first `limit` keys that `target` waits for, behind `after`, with their sequences.
    pub(super) fn keys(
        &self,
        target: NodeId,
        after: Option<&StoreKey>,
        limit: usize,
    ) -> Vec<(StoreKey, u64)> {
        let state = self.lock();
        let Some(waiting) = state.by_target.get(&target) else {
            return Vec::new();
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        waiting
            .keys
            .range((from, Bound::Unbounded))
            .take(limit)
            .filter_map(|key| Some((key.clone(), state.keys.get(key)?.sequence)))
            .collect()
    }

    pub(super) fn figures(&self) -> HintFigures {
        let state = self.lock();
        let targets = || state.by_target.iter();
        let oldest = |(target, waiting): (&NodeId, &Waiting)| {
            waiting.since_s.keys().next().map(|since_s| (*target, since_s.saturating_mul(1_000)))
        };
        HintFigures {
            waiting: targets().map(|(target, waiting)| (*target, waiting.keys.len())).collect(),
            bytes: state.bytes,
            bytes_max: self.bytes_max,
            waiting_bytes: targets().map(|(target, waiting)| (*target, waiting.bytes)).collect(),
            oldest_ms: targets().filter_map(oldest).collect(),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

impl State {
    fn insert(&mut self, key: &StoreKey, record: &Record, bytes: usize) {
        // The key is a slice of the message that brought it, value and all: a copy of its own
        // lets that go.
        let key = &StoreKey { key: Bytes::copy_from_slice(&key.key), ..*key };
        // One from before that was noted: at least since now.
        let since_s = record.held_since_ms.unwrap_or_else(wall_ms) / 1_000;
        for target in &record.targets {
            let waiting = self.by_target.entry(*target).or_default();
            waiting.keys.insert(key.clone());
            waiting.bytes += bytes;
            *waiting.since_s.entry(since_s).or_default() += 1;
        }
        let (targets, sequence) = (record.targets.clone(), record.sequence);
        let entry = Entry { targets, bytes, sequence, since_s };
        self.keys.insert(key.clone(), entry);
        self.bytes += bytes;
    }

    fn remove(&mut self, key: &StoreKey) {
        let Some(entry) = self.keys.remove(key) else {
            return;
        };
        self.bytes -= entry.bytes;
        for target in entry.targets {
            if let Some(waiting) = self.by_target.get_mut(&target) {
                waiting.remove(key, entry.bytes, entry.since_s);
                if waiting.keys.is_empty() {
                    self.by_target.remove(&target);
                }
            }
        }
    }
}

impl Waiting {
    fn remove(&mut self, key: &StoreKey, bytes: usize, since_s: u64) {
        self.keys.remove(key);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(count) = self.since_s.get_mut(&since_s) {
            *count -= 1;
            if *count == 0 {
                self.since_s.remove(&since_s);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stator_core::id::{KeyspaceId, PartitionId};

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn key(text: &str) -> StoreKey {
        StoreKey {
            partition: PartitionId(0),
            keyspace: KeyspaceId(1),
            key: text.as_bytes().to_vec().into(),
        }
    }

    fn hint(targets: &[NodeId], sequence: u64) -> Record {
        Record { targets: targets.iter().copied().collect(), sequence, ..Record::default() }
    }

    #[test]
    fn keys_are_paged_per_target_in_order() {
        let index = HintIndex::new(1000);
        for (sequence, name) in (1..).zip(["c", "a", "b"]) {
            index.set(&key(name), Some(&hint(&[A, B], sequence)));
        }
        index.set(&key("b"), Some(&hint(&[B], 4)));
        assert_eq!(index.keys(A, None, 9), [(key("a"), 2), (key("c"), 1)]);
        assert_eq!(index.keys(B, Some(&key("a")), 1), [(key("b"), 4)]);
        assert!(index.keys(A, Some(&key("c")), 9).is_empty());
        assert!(index.keys(NodeId(9), None, 9).is_empty());
    }

    #[test]
    fn each_target_knows_its_bytes_and_its_oldest() {
        let index = HintIndex::new(1000);
        let since = |targets: &[NodeId], held_since_ms| {
            Some(Record { held_since_ms: Some(held_since_ms), ..hint(targets, 1) })
        };
        index.set(&key("old"), since(&[A], 5_999).as_ref());
        index.set(&key("new"), since(&[A, B], 9_000).as_ref());
        let figures = index.figures();
        assert_eq!(figures.oldest_ms, BTreeMap::from([(A, 5_000), (B, 9_000)]));
        assert_eq!(figures.waiting_bytes[&A] - figures.waiting_bytes[&B], figures.bytes / 2 - 4);
        index.set(&key("old"), None);
        let figures = index.figures();
        assert_eq!(figures.oldest_ms, BTreeMap::from([(A, 9_000), (B, 9_000)]));
        assert_eq!(figures.waiting_bytes, BTreeMap::from([(A, figures.bytes), (B, figures.bytes)]));
    }

    #[test]
    fn bytes_and_targets_end_at_nothing() {
        let index = HintIndex::new(1000);
        index.set(&key("a"), Some(&hint(&[A, B], 1)));
        let once = index.bytes();
        index.set(&key("a"), Some(&hint(&[A, B], 2)));
        assert_eq!(index.bytes(), once);
        index.forget(&key("a"), 1);
        assert_eq!(index.figures().waiting.len(), 2, "replaced since");
        index.forget(&key("a"), 2);
        index.set(&key("a"), None);
        assert_eq!(index.figures(), HintFigures { bytes_max: 1000, ..Default::default() });
    }
}
