//! Dropping a partition that has other owners now: all its records, a page at a time.
//!
//! Between two pages the committer does what has queued up meanwhile, so that nobody waits for a
//! large partition. The records leave through the group like any change, so that the hash trees
//! and the counts stay right. After a crash what is left is dropped again by whoever asked.

use std::sync::Arc;

use stator_core::id::PartitionId;
use stator_core::keys::StoreKey;

use super::StoreError;
use super::chunks;
use super::committer::{Committer, Job};
use super::group::{Answer, answer};
use super::job::Done;
use super::queue::Rejected;

/// Records that leave together.
const STEP: usize = 64;

/// A partition on its way out.
pub(super) struct DropJob {
    partition: PartitionId,
    /// The physical key where the next page starts.
    from: Vec<u8>,
    pub(super) done: Done<()>,
}

impl DropJob {
    pub(super) fn new(partition: PartitionId, done: Done<()>) -> Self {
        DropJob { partition, from: partition.0.to_be_bytes().to_vec(), done }
    }
}

impl Committer {
    /// Stages the removal of a page, and queues the rest behind what waits.
    pub(super) fn stage_drop(&mut self, mut job: DropJob) {
        let store = self.records.area.name();
        let unreadable = |why| StoreError::Engine { store, why: Arc::new(why) };
        let page = chunks::scan(&*self.records.engine, &job.from, STEP).map_err(unreadable);
        let page = match page {
            Ok(page) => page,
            Err(error) => return answer(job.done, Err(error)),
        };
        let is_last = page.len() < STEP;
        for (physical, _) in page {
            let Some(key) = StoreKey::decode(&physical) else { continue };
            if key.partition != job.partition {
                return self.group.answers.push(Answer::Drop { done: job.done });
            }
            if let Err(error) = self.load(&key) {
                return answer(job.done, Err(error));
            }
            self.stage(&key, None);
            job.from = [&physical[..], &[0]].concat();
        }
        if is_last {
            return self.group.answers.push(Answer::Drop { done: job.done });
        }
        match self.queue.push(Job::Drop(job)) {
            Ok(()) => {}
            Err(Rejected::Full(job)) => {
                job.refuse(StoreError::Overloaded { store, jobs_max: self.queue.items_max() });
            }
            Err(Rejected::Closed(job)) => job.refuse(StoreError::Closed { store }),
        }
    }
}
