//! Dropping what no one asks for any more: a partition that has other owners now, a keyspace in one that
//! has, or keyspaces that were deleted; all their records, a page at a time.
//!
//! Between two pages the committer does what has queued up meanwhile, so that nobody waits for a
//! large partition. The records leave through the group like any change, so that the hash trees
//! and the counts stay right. After a crash what is left is dropped again: a partition by whoever
//! asked, and keyspaces by the next start, because nothing but the catalogue remembers them.
//!
//! A keyspace has a stretch in each partition. They are found by seeking: behind a record of another
//! keyspace the next look is where that one's stretch ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use stator_core::id::{KeyspaceId, PartitionId};
use stator_core::keys::StoreKey;

use super::StoreError;
use super::chunks;
use super::committer::{Committer, Job};
use super::group::{Answer, answer};
use super::job::Done;
use super::queue::Rejected;

/// Records that leave together.
const STEP: usize = 64;

/// Records on their way out.
pub(super) struct DropJob {
    what: What,
    /// The physical key where the next page starts.
    from: Vec<u8>,
    /// How many records are looked at next.
    step: usize,
    pub(super) done: Done<()>,
}

enum What {
    Partition(PartitionId),
    Stretch(PartitionId, KeyspaceId),
    Keyspaces(BTreeSet<KeyspaceId>),
}

/// What becomes of the walk at a record.
enum Met {
    Goes,
    /// Nothing goes before this physical key; `None` is the end.
    Stays(Option<Vec<u8>>),
}

impl DropJob {
    pub(super) fn partition(partition: PartitionId, done: Done<()>) -> Self {
        let from = partition.0.to_be_bytes().to_vec();
        DropJob { what: What::Partition(partition), from, step: STEP, done }
    }

    pub(super) fn stretch(
        (partition, keyspace): (PartitionId, KeyspaceId),
        done: Done<()>,
    ) -> Self {
        let from = StoreKey { partition, keyspace, key: Default::default() }.encode();
        DropJob { what: What::Stretch(partition, keyspace), from, step: STEP, done }
    }

    pub(super) fn keyspaces(keyspaces: BTreeSet<KeyspaceId>, done: Done<()>) -> Self {
        DropJob { what: What::Keyspaces(keyspaces), from: Vec::new(), step: 1, done }
    }

    fn meets(&self, key: &StoreKey) -> Met {
        match &self.what {
            What::Partition(partition) if key.partition == *partition => Met::Goes,
            What::Stretch(partition, keyspace)
                if (key.partition, key.keyspace) == (*partition, *keyspace) =>
            {
                Met::Goes
            }
            What::Partition(_) | What::Stretch(..) => Met::Stays(None),
            What::Keyspaces(keyspaces) if keyspaces.contains(&key.keyspace) => Met::Goes,
            What::Keyspaces(_) => Met::Stays(behind(key.partition, key.keyspace)),
        }
    }
}

/// The first physical key behind a keyspace's stretch in a partition.
fn behind(partition: PartitionId, keyspace: KeyspaceId) -> Option<Vec<u8>> {
    let next = match keyspace.0.checked_add(1) {
        Some(next) => (partition, KeyspaceId(next)),
        None => (PartitionId(partition.0.checked_add(1)?), KeyspaceId(0)),
    };
    Some(StoreKey { partition: next.0, keyspace: next.1, key: Default::default() }.encode())
}

impl Committer {
    /// Stages the removal of a page, and queues the rest behind what waits.
    pub(super) fn stage_drop(&mut self, mut job: DropJob) {
        let store = self.records.area.name();
        let unreadable = |why| StoreError::Engine { store, why: Arc::new(why) };
        let page = chunks::scan(&*self.records.engine, &job.from, job.step).map_err(unreadable);
        let page = match page {
            Ok(page) => page,
            Err(error) => return answer(job.done, Err(error)),
        };
        let is_last = page.len() < job.step;
        for (physical, _) in page {
            job.from = [&physical[..], &[0]].concat();
            let Some(key) = StoreKey::decode(&physical) else { continue };
            match job.meets(&key) {
                Met::Goes => {}
                Met::Stays(None) => {
                    return self.group.answers.push(Answer::Drop { done: job.done });
                }
                Met::Stays(Some(next)) => {
                    (job.from, job.step) = (next, 1);
                    return self.go_on_dropping(job);
                }
            }
            if let Err(error) = self.load(&key) {
                return answer(job.done, Err(error));
            }
            self.stage(&key, None);
            job.step = STEP;
        }
        match is_last {
            true => self.group.answers.push(Answer::Drop { done: job.done }),
            false => self.go_on_dropping(job),
        }
    }

    fn go_on_dropping(&self, job: DropJob) {
        let store = self.records.area.name();
        match self.queue.push(Job::Drop(job)) {
            Ok(()) => {}
            Err(Rejected::Full(job)) => {
                job.refuse(StoreError::Overloaded { store, jobs_max: self.queue.items_max() });
            }
            Err(Rejected::Closed(job)) => job.refuse(StoreError::Closed { store }),
        }
    }
}
