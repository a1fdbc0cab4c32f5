//! Records that were read or written lately, decoded: to read one of them takes no thread, no
//! engine and no checksum.
//!
//! Who reads a record from the engine leaves it here, and the committer leaves what it has
//! applied. A reader could come with a record that was replaced while it read. So it takes a
//! place in the cache before it reads, and leaves the record only if the place is still its own:
//! what the committer leaves or takes away takes the place too.
//!
//! Which records stay is `quick_cache`'s choice (S3-FIFO and CLOCK-Pro, by weight). Left out:
//! records above [`RECORD_BYTES_MAX`], which are charged to the budget of reads until they are
//! answered, and hints, which are read once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, GuardResult};
use stator_core::keys::StoreKey;
use stator_core::record::Record;

/// A larger record is not kept.
pub(super) const RECORD_BYTES_MAX: usize = 8 << 10;

/// About what a record takes beside its encoding: the decoded parts, the key, the cache's entry.
const ENTRY_BYTES: usize = 512;

/// About how large records are, for the first size of the cache's table.
const USUAL_BYTES: u64 = 1024;

/// A record as it is in the store, or that there is none.
type Seen = Option<Arc<Record>>;

#[derive(Clone)]
struct Kept {
    seen: Seen,
    bytes: u64,
}

#[derive(Clone)]
struct Weigh;

impl Weighter<StoreKey, Kept> for Weigh {
    fn weight(&self, key: &StoreKey, kept: &Kept) -> u64 {
        kept.bytes + (key.key.len() + ENTRY_BYTES) as u64
    }
}

/// The records of one store that are kept, of at most so many bytes.
pub(super) struct RecordCache(Cache<StoreKey, Kept, Weigh>);

impl RecordCache {
    pub(super) fn new(bytes_max: u64) -> Self {
        RecordCache(Cache::with_weighter((bytes_max / USUAL_BYTES) as usize, bytes_max, Weigh))
    }

    /// What is known of `key`: its record, or that there is none.
    pub(super) fn get(&self, key: &StoreKey) -> Option<Seen> {
        Some(self.0.get(key)?.seen)
    }

    /// What `read` finds under `key`; kept if it tells how many bytes that has.
    pub(super) fn fill<T>(
        &self,
        key: &StoreKey,
        read: impl FnOnce() -> T,
        keep: impl FnOnce(&T) -> Option<(Seen, usize)>,
    ) -> T {
        let place = self.0.get_value_or_guard(&detached(key), Some(Duration::ZERO));
        let found = read();
        // Where another reader has the place, that one leaves the record.
        if let (GuardResult::Guard(place), Some((seen, bytes))) = (place, keep(&found)) {
            let _ = place.insert(Kept { seen, bytes: bytes as u64 });
        }
        found
    }

    /// `key` has this record now, which was just encoded to these bytes. Read from them it has
    /// memory of its own, whatever it came with.
    pub(super) fn put(&self, key: &StoreKey, encoded: Bytes) {
        let bytes = encoded.len() as u64;
        match Record::decode_own(encoded) {
            Ok(record) => self.0.insert(detached(key), Kept { seen: Some(record.into()), bytes }),
            Err(_) => self.remove(key),
        }
    }

    /// What `key` has now is not kept.
    pub(super) fn remove(&self, key: &StoreKey) {
        self.0.remove(key);
    }

    /// It is unknown what the store holds.
    pub(super) fn clear(&self) {
        self.0.clear();
    }
}

/// The key in memory of its own: that of a request is a part of all that came with it.
fn detached(key: &StoreKey) -> StoreKey {
    StoreKey { key: Bytes::copy_from_slice(&key.key), ..key.clone() }
}

#[cfg(test)]
mod tests {
    use stator_core::id::{KeyspaceId, PartitionId};

    use super::*;

    fn key() -> StoreKey {
        let key = Bytes::from_static(b"key");
        StoreKey { partition: PartitionId(1), keyspace: KeyspaceId(2), key }
    }

    fn record(sequence: u64) -> Record {
        Record { sequence, ..Record::default() }
    }

    fn sequence(cache: &RecordCache) -> Option<Option<u64>> {
        Some(cache.get(&key())?.map(|record| record.sequence))
    }

    #[test]
    fn a_reader_that_comes_late_leaves_nothing() {
        let cache = RecordCache::new(1 << 20);
        let keep = |read: &Option<u64>| Some((read.map(|sequence| record(sequence).into()), 100));
        assert_eq!(cache.fill(&key(), || None, keep), None);
        assert_eq!(sequence(&cache), Some(None), "that there is none is known");
        cache.clear();
        // Written while it is read.
        let read = || {
            cache.put(&key(), record(2).encode().into());
            Some(1)
        };
        assert_eq!(cache.fill(&key(), read, keep), Some(1));
        assert_eq!(sequence(&cache), Some(Some(2)));
        // Replaced by what is not kept, and the store failed, while it is read.
        for taken_away in
            [RecordCache::remove as fn(&RecordCache, &StoreKey), |cache, _| cache.clear()]
        {
            cache.remove(&key());
            let read = || {
                taken_away(&cache, &key());
                Some(3)
            };
            assert_eq!(cache.fill(&key(), read, keep), Some(3));
            assert_eq!(sequence(&cache), None);
        }
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let cache = RecordCache::new(64 << 10);
        for number in 0..1000u32 {
            let key = StoreKey { key: number.to_be_bytes().to_vec().into(), ..key() };
            cache.put(&key, record(1).encode().into());
        }
        assert!(cache.0.weight() <= 64 << 10, "{}", cache.0.weight());
        assert!(cache.0.len() > 20, "{}", cache.0.len());
    }
}
