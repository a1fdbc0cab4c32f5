//! Remembers what came of merges, bounded in number and bytes.
//!
//! The key is (module, fingerprint of the divergence): equal inputs of one module give equal
//! answers. The class of limits and the memory that a keyspace allows belong to the key as well; so does the host's version, which is
//! the same for the whole memo because it lives and dies with one merge host. Failures are remembered too, so that
//! a module that loops costs its fuel once a divergence and not once a read; they do not leave
//! this memory, because other nodes need not fail alike.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use stator_core::catalogue::ModuleClass;
use stator_core::divergence::{MergeFailure, Outcome, Resolution};
use stator_core::id::ModuleDigest;

/// What came of a merge.
pub(super) type Answer = Result<Arc<Resolution>, MergeFailure>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct MemoKey {
    pub(super) module: ModuleDigest,
    /// A failure in one class need not be one in another.
    pub(super) class: ModuleClass,
    pub(super) memory_bytes_max: usize,
    pub(super) fingerprint: [u8; 32],
}

/// The memo; the entries used least recently go first.
pub(super) struct Memo {
    inner: Mutex<Inner>,
    entries_max: usize,
    bytes_max: usize,
}

struct Inner {
    answers: LruCache<MemoKey, Answer>,
    bytes: usize,
}

impl Memo {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Self {
        let inner = Inner { answers: LruCache::unbounded(), bytes: 0 };
        Memo { inner: Mutex::new(inner), entries_max, bytes_max }
    }

    pub(super) fn get(&self, key: &MemoKey) -> Option<Answer> {
        self.lock().answers.get(key).cloned()
    }

    pub(super) fn put(&self, key: MemoKey, answer: Answer) {
        let mut inner = self.lock();
        inner.bytes += bytes_of(&answer);
        if let Some(old) = inner.answers.put(key, answer) {
            inner.bytes -= bytes_of(&old);
        }
        while inner.bytes > self.bytes_max || inner.answers.len() > self.entries_max {
            let Some((_, oldest)) = inner.answers.pop_lru() else {
                break;
            };
            inner.bytes -= bytes_of(&oldest);
        }
    }

    /// Entries and bytes held.
    pub(super) fn size(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.answers.len(), inner.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About what an entry holds: its texts and payloads, and a flat amount for the rest.
fn bytes_of(answer: &Answer) -> usize {
    const FLAT: usize = 256;
    let held = match answer {
        Ok(resolution) => {
            let value = match &resolution.outcome {
                Outcome::Value(value) => value.len(),
                Outcome::Delete | Outcome::KeepSiblings => 0,
            };
            let events = resolution.events.iter().map(|e| e.topic.len() + e.payload.len());
            value + resolution.note.as_ref().map_or(0, String::len) + events.sum::<usize>()
        }
        Err(MergeFailure::Refused { message, .. }) => message.len(),
        Err(MergeFailure::Trapped(message) | MergeFailure::BadAnswer(message)) => message.len(),
        Err(_) => 0,
    };
    FLAT + held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> MemoKey {
        let (module, class) = (ModuleDigest([0; 32]), ModuleClass::Small);
        MemoKey { module, class, memory_bytes_max: 1 << 20, fingerprint: [n; 32] }
    }

    fn answer(bytes: usize) -> Answer {
        let outcome = Outcome::Value(vec![0; bytes].into());
        Ok(Arc::new(Resolution { outcome, note: None, events: Vec::new(), fuel_used: 1 }))
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let memo = Memo::new(2, usize::MAX);
        memo.put(key(1), answer(1));
        memo.put(key(2), answer(1));
        assert!(memo.get(&key(1)).is_some());
        memo.put(key(3), answer(1));
        assert!(memo.get(&key(1)).is_some());
        assert!(memo.get(&key(2)).is_none());
    }

    #[test]
    fn bytes_are_bounded_and_counted_exactly() {
        let memo = Memo::new(100, 3000);
        for n in 0..10 {
            memo.put(key(n), answer(1000));
            memo.put(key(n), answer(900));
        }
        assert_eq!(memo.size(), (2, 2 * (900 + 256)));
        memo.put(key(11), answer(5000));
        assert_eq!(memo.size(), (0, 0));
    }
}
