//! The keys that are there, by number: 0 up to how many there are.
//!
//! Inserts take numbers in order and end in any order. A key counts as present once it and all
//! before it have ended (YCSB's `AcknowledgedCounterGenerator`), so that no read asks for one that
//! is still being written. An insert that failed counts too: its key may be there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Keys that are there, and those that are being inserted.
#[derive(Debug)]
pub(super) struct Population {
    next: AtomicU64,
    present: AtomicU64,
    /// Ended before one with a lower number: no more than there are inserts at a time.
    early: Mutex<BTreeSet<u64>>,
}

impl Population {
    /// A population of the keys below `present`.
    pub(super) fn of(present: u64) -> Self {
        let (next, present) = (AtomicU64::new(present), AtomicU64::new(present));
        Population { next, present, early: Mutex::default() }
    }

    /// How many keys there are.
    pub(super) fn present(&self) -> u64 {
        self.present.load(Ordering::Acquire)
    }

    /// The number of the next key, for one insert.
    pub(super) fn begin_insert(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The insert of `number` has ended.
    pub(super) fn end_insert(&self, number: u64) {
        // Whoever panicked with the lock has left a set that is whole.
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        early.insert(number);
        let mut present = self.present.load(Ordering::Relaxed);
        while early.remove(&present) {
            present += 1;
        }
        self.present.store(present, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_present_once_all_before_it_are() {
        let keys = Population::of(10);
        assert_eq!([keys.begin_insert(), keys.begin_insert(), keys.begin_insert()], [10, 11, 12]);
        keys.end_insert(12);
        keys.end_insert(11);
        assert_eq!(keys.present(), 10);
        keys.end_insert(10);
        assert_eq!(keys.present(), 13);
        assert!(keys.early.lock().expect("whole").is_empty());
    }
}
