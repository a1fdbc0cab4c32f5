//! The hash trees of the data store: kept by its committer, read by its readers.
//!
//! The committer changes them with every group that it applies, by the hashes of the records that
//! it loaded and stores. They are in memory; a clean stop writes them to a file of the data
//! directory, which the next start reads and removes before the first write. After any other stop
//! the committer reads all records once, a few between two groups, and the trees of a partition
//! answer when it has passed them (`stator_core::tree::Trees`). So they do after the store was out
//! of service: what it holds then is what it says.
//!
//! With them goes how much there is of each keyspace, under the same rules.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stator_core::collect::{DEAD_ACTORS_MIN, Listed};
use stator_core::id::{ClusterId, KeyspaceId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::record::Record;
use stator_core::tree::{
    Addend, Held, KeyHash, Part, Rebuild, TreeAnswer, TreePage, TreeQuery, Trees, bucket_of,
};
use stator_core::usage::{Usage, UsageReport};

use super::StoreError;
use super::chunks;
use super::committer::Committer;
use super::engine::EngineError;
use super::group::Group;
use super::home::{Home, HomeError};
use super::job::TreeJob;
use super::records::{Found, Records};

/// What was read for a rebuild.
#[derive(Default)]
struct RebuildPage {
    /// Damaged ones without a hash.
    met: Vec<(StoreKey, Option<Addend>)>,
    /// Its last key, unless nothing is left.
    next: Option<StoreKey>,
    /// What the index should list and does not.
    unlisted: Vec<StoreKey>,
}

/// The file that holds the trees between a clean stop and the next start.
const FILE: &str = "trees";

/// The most records that are read for a rebuild between two groups.
const REBUILD_MAX: usize = 64;
/// A rebuild reads fewer of them if they take longer than this.
const REBUILD_WITHIN: Duration = Duration::from_millis(2);

/// A page of keys ends after so many records were read for it, or so many bytes.
const PAGE_RECORDS_MAX: usize = 4096;
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Records that are read at once.
const STEP: usize = 16;

/// What a record that is replaced had added to the trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaced {
    /// This; `None` if there was no record.
    Known(Option<Addend>),
    /// It is damaged: nobody knows.
    Unknown,
}

/// The trees, shared by the threads of the store. There are none before the node belongs to a
/// cluster.
#[derive(Debug, Default)]
pub(super) struct SharedTrees(Mutex<Option<Trees>>);

impl SharedTrees {
    /// No code under the lock panics, so a poisoned one is whole.
    fn lock(&self) -> MutexGuard<'_, Option<Trees>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The trees that the last clean stop left, if the store holds exactly commits up to
    /// `sequence` and they are about that. The file is gone when this returns.
    pub(super) fn take(home: &Home, sequence: Option<u64>) -> Result<Self, HomeError> {
        let kept = match home.take(FILE) {
            Ok(kept) => kept,
            // Nothing is lost with it but the time of a rebuild.
            Err(HomeError::Damaged { path, why }) => {
                tracing::warn!(path, why, "the hash trees are counted anew");
                None
            }
            Err(error) => return Err(error),
        };
        let trees = kept.map(Trees::decode).and_then(|decoded| match decoded {
            Ok((trees, noted)) => Some(trees).filter(|_| sequence == Some(noted)),
            Err(why) => {
                tracing::warn!(%why, "the hash trees are counted anew");
                None
            }
        });
        Ok(SharedTrees(Mutex::new(trees)))
    }

    /// Leaves them for the next start, if they are complete.
    pub(super) fn save(&self, home: &Home, sequence: u64) -> Result<(), HomeError> {
        let bytes = self.lock().as_ref().and_then(|trees| trees.encode(sequence));
        bytes.map_or(Ok(()), |bytes| home.save(FILE, &bytes))
    }

    /// From now on there are trees of this cluster.
    pub(super) fn keep(&self, cluster: ClusterId) {
        let mut trees = self.lock();
        if trees.as_ref().is_none_or(|trees| trees.cluster() != cluster) {
            *trees = Some(Trees::unknown(cluster));
        }
    }

    /// Nothing that they say is certain any more.
    pub(super) fn forget(&self) {
        let mut trees = self.lock();
        *trees = trees.as_ref().map(|trees| Trees::unknown(trees.cluster()));
    }

    /// The trees of `partition` are wrong.
    pub(super) fn distrust(&self, partition: PartitionId) {
        if let Some(trees) = self.lock().as_mut() {
            trees.distrust(partition);
        }
    }

    /// What is to be read next, if something is.
    fn rebuild(&self) -> Option<Rebuild> {
        self.lock().as_ref().and_then(Trees::rebuild).cloned()
    }

    /// Whether some are being counted anew.
    pub(super) fn is_rebuilding(&self) -> bool {
        self.rebuild().is_some()
    }

    /// Whether all say what the store holds, and how many buckets take memory.
    pub(super) fn figures(&self) -> (bool, usize) {
        let trees = self.lock();
        trees.as_ref().map_or((false, 0), |trees| (trees.is_complete(), trees.buckets()))
    }

    /// How much there is of all keyspaces.
    pub(super) fn usage(&self) -> UsageReport {
        let trees = self.lock();
        let usages = trees.as_ref().map(|trees| trees.usages().clone()).unwrap_or_default();
        let is_complete = trees.as_ref().is_some_and(Trees::is_complete);
        UsageReport { usages, is_all: true, is_complete, wants_all: false }
    }

    /// How much there is of one.
    pub(super) fn usage_of(&self, keyspace: KeyspaceId) -> Usage {
        let trees = self.lock();
        let usage = trees.as_ref().and_then(|trees| trees.usages().get(&keyspace));
        usage.copied().unwrap_or_default()
    }

    fn changed(&self, group: &Group) {
        let mut trees = self.lock();
        let Some(trees) = trees.as_mut() else { return };
        for (key, staged) in group.staged.iter().filter(|(_, staged)| staged.is_changed) {
            let new = staged.record.as_ref().map(|record| record.addend(key));
            match staged.replaced {
                Replaced::Known(old) => trees.changed(key, old, new),
                Replaced::Unknown => trees.mended(key, new),
            }
        }
    }

    /// Answers a question.
    pub(super) fn read(&self, records: &Records, job: &TreeJob) -> Result<TreeAnswer, StoreError> {
        let (partition, query) = (job.read.partition, &job.read.query);
        let answer = match self.lock().as_ref() {
            None => Some(TreeAnswer::NotReady),
            Some(trees) => trees.answer(partition, query),
        };
        match (answer, query) {
            (Some(answer), _) => Ok(answer),
            (None, TreeQuery::Keys(part)) => {
                self.keys(records, partition, part).map(TreeAnswer::Keys)
            }
            (None, TreeQuery::Objects(keyspace, keys)) => {
                let keys = keys.iter().take(TreeQuery::OBJECTS_MAX);
                let place = |key: &bytes::Bytes| StoreKey {
                    partition,
                    keyspace: *keyspace,
                    key: key.clone(),
                };
                self.objects(records, keys.map(place)).map(TreeAnswer::Objects)
            }
            (None, _) => Ok(TreeAnswer::NotReady),
        }
    }

    /// A page of the keys of some buckets.
    fn keys(
        &self,
        records: &Records,
        partition: PartitionId,
        part: &Part,
    ) -> Result<TreePage, StoreError> {
        let store = records.area.name();
        let unreadable = |why: EngineError| StoreError::Engine { store, why: Arc::new(why) };
        let place = |key: &bytes::Bytes| {
            let key = StoreKey { partition, keyspace: part.keyspace, key: key.clone() };
            key.encode()
        };
        let mut from = match &part.after {
            Some(after) => above(&place(after)),
            None => place(&bytes::Bytes::new()),
        };
        let mut page = TreePage::default();
        let (mut read, mut read_bytes) = (0, 0);
        loop {
            let entries = chunks::scan(&*records.engine, &from, STEP).map_err(unreadable)?;
            let Some((last, _)) = entries.last() else { return Ok(page) };
            from = above(last);
            for (physical, stored) in entries {
                let Some(key) = StoreKey::decode(&physical) else { continue };
                let is_behind = part.until.as_ref().is_some_and(|until| key.key > *until);
                if (key.partition, key.keyspace) != (partition, part.keyspace) || is_behind {
                    return Ok(page);
                }
                read += 1;
                if let chunks::Stored::Whole(bytes, _) = &stored {
                    read_bytes += bytes.len();
                }
                if part.buckets.contains(&bucket_of(&key)) {
                    let hash = match records.judge(&key, stored) {
                        Found::Whole(record, _) => Some(record.object_hash(&key)),
                        Found::Damaged(..) => {
                            self.met_damaged(&key);
                            None
                        }
                        Found::Missing => continue,
                    };
                    page.keys.push(KeyHash { key: key.key.clone(), hash });
                }
                if read >= PAGE_RECORDS_MAX || read_bytes >= PAGE_BYTES_MAX {
                    page.next = Some(key.key);
                    return Ok(page);
                }
            }
        }
    }

    /// What is held under some keys.
    fn objects(
        &self,
        records: &Records,
        keys: impl Iterator<Item = StoreKey>,
    ) -> Result<Vec<Held>, StoreError> {
        let store = records.area.name();
        let (mut objects, mut bytes) = (Vec::new(), 0);
        for key in keys {
            let found = records.find(&key);
            let found = found.map_err(|why| StoreError::Engine { store, why: Arc::new(why) })?;
            objects.push(match found {
                Found::Missing => Held::Nothing,
                Found::Damaged(..) => {
                    self.met_damaged(&key);
                    Held::Damaged
                }
                Found::Whole(record, _) => {
                    bytes += record.siblings.weight_bytes();
                    Held::Whole(record.siblings)
                }
            });
            if bytes >= TreeQuery::OBJECTS_BYTES_MAX {
                break;
            }
        }
        Ok(objects)
    }

    /// A damaged record was met: what it had added is taken out of the sums.
    pub(super) fn met_damaged(&self, key: &StoreKey) {
        if let Some(trees) = self.lock().as_mut() {
            trees.met_damaged(key);
        }
    }
}

impl Committer {
    /// When the next records are read for a rebuild, if one is under way: at once, if nothing
    /// else waits.
    pub(super) fn rebuild_at(&self) -> Option<Instant> {
        let trees = self.trees.as_ref()?;
        let is_due = self.records.health.failure().is_none() && trees.rebuild().is_some();
        is_due.then(|| self.trees_rest_until.unwrap_or_else(Instant::now))
    }

    /// Reads some records for trees that are being rebuilt.
    pub(super) fn rebuild_trees(&mut self) {
        let Some(trees) = self.trees.clone() else { return };
        let Some(rebuild) = trees.rebuild() else { return };
        let started = Instant::now();
        self.trees_rest_until = None;
        match self.rebuild_page(&rebuild) {
            Ok(RebuildPage { met, next, unlisted }) => {
                if let Some(trees) = trees.lock().as_mut() {
                    trees.met(met, next);
                }
                self.list_anew(unlisted);
            }
            Err(error) => {
                let store = self.records.area.name();
                tracing::warn!(store, %error, "records cannot be read for the hash trees");
                self.trees_rest_until = Some(Instant::now() + Duration::from_secs(1));
            }
        }
        self.rebuild_step = match started.elapsed() > REBUILD_WITHIN {
            true => (self.rebuild_step / 2).max(1),
            false => (self.rebuild_step * 2).min(REBUILD_MAX),
        };
    }

    fn rebuild_page(&self, rebuild: &Rebuild) -> Result<RebuildPage, EngineError> {
        let from = match &rebuild.behind {
            Some(behind) => above(&behind.encode()),
            None => rebuild.first.0.to_be_bytes().to_vec(),
        };
        let entries = chunks::scan(&*self.records.engine, &from, self.rebuild_step)?;
        let is_end = entries.len() < self.rebuild_step;
        let mut page = RebuildPage::default();
        for (physical, stored) in entries {
            let Some(key) = StoreKey::decode(&physical) else { continue };
            if key.partition > rebuild.last {
                return Ok(RebuildPage { next: None, ..page });
            }
            match self.records.judge(&key, stored) {
                Found::Whole(record, _) => {
                    page.met.push((key.clone(), Some(record.addend(&key))));
                    if record.listed == Listed::default() && listed(&record) != record.listed {
                        page.unlisted.push(key.clone());
                    }
                }
                Found::Damaged(..) => page.met.push((key.clone(), None)),
                Found::Missing => {}
            }
            page.next = Some(key);
        }
        page.next = page.next.filter(|_| !is_end);
        Ok(page)
    }

    /// Lists records that an earlier release has written.
    fn list_anew(&mut self, unlisted: Vec<StoreKey>) {
        for key in unlisted {
            if self.load(&key).is_err() {
                continue;
            }
            let record = self.staged(&key).and_then(|staged| staged.record.clone());
            if let Some(mut record) = record {
                record.listed = listed(&record);
                self.stage(&key, Some(record));
            }
        }
        self.commit();
    }

    /// Sets the hashes of all records that the group changes.
    pub(super) fn hash_objects(&self, group: &mut Group) {
        if self.trees.is_none() {
            return;
        }
        for (key, staged) in group.staged.iter_mut().filter(|(_, staged)| staged.is_changed) {
            if let Some(record) = &mut staged.record {
                record.object_hash = Some(stator_core::tree::object_hash(key, &record.siblings));
            }
        }
    }

    /// A group is applied.
    pub(super) fn change_trees(&self, group: &Group) {
        if let Some(trees) = &self.trees {
            trees.changed(group);
        }
    }
}

fn listed(record: &Record) -> Listed {
    Listed::of(record, 0, DEAD_ACTORS_MIN)
}

/// The smallest physical key above this one.
fn above(physical: &[u8]) -> Vec<u8> {
    [physical, &[0]].concat()
}
