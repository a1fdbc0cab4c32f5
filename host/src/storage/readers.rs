//! The threads that read: few, and never in the way of the committers. What the background reads,
//! pages of thousands of records, has a queue and a thread of its own, and is never in the way of
//! a client's read.

use std::sync::{Arc, OnceLock};

use stator_core::causality::Siblings;
use stator_core::keys::StoreKey;
use stator_core::record::Record;

use super::StoreError;
use super::committer::Job;
use super::engine::EngineError;
use super::group::answer;
use super::hints::{self, HintIndex};
use super::index;
use super::job::{HeldHint, IndexJob, ListHintsJob, LoadJob, ScanJob, TreeJob};
use super::queue::{Queue, Taken};
use super::records::{Found, Records};
use super::scan;
use super::trees::SharedTrees;
use crate::budget::{ByteBudget, NoRoom};
use crate::telemetry::vital::Vital;

/// A read that waits for a thread.
pub(super) enum Read {
    Load(LoadJob),
    ListHints(ListHintsJob),
    Scan(ScanJob),
    Tree(TreeJob),
    Index(IndexJob),
}

/// What every reading thread sees.
pub(super) struct Reader {
    pub(super) data: Records,
    pub(super) hints: Records,
    pub(super) index: Arc<HintIndex>,
    pub(super) trees: Arc<SharedTrees>,
    pub(super) queue: Arc<Queue<Read>>,
    /// What the values take that it reads for clients and peers, until their answers are made.
    pub(super) budget: Arc<OnceLock<ByteBudget>>,
    /// Of the data store's committer.
    pub(super) committer: Arc<Queue<Job>>,
}

impl Reader {
    /// Works until the queue is closed and empty.
    pub(super) fn run(&self) {
        let _vital = Vital("a thread that reads");
        // One at a time, so that a slow read holds up only its own thread.
        while let Taken::Items(reads) = self.queue.take(1, None) {
            for read in reads {
                match read {
                    Read::Load(job) => {
                        let result = self.load(&job.key, job.from_hints_too);
                        answer(job.done, result);
                    }
                    Read::ListHints(job) => {
                        let result = self.list_hints(&job);
                        answer(job.done, result);
                    }
                    Read::Scan(job) => {
                        let result = scan::page(&self.data, &job);
                        answer(job.done, result);
                    }
                    Read::Index(job) => {
                        let result = index::page(&self.data, &job);
                        answer(job.done, result);
                    }
                    Read::Tree(job) => {
                        let result = self.trees.read(&self.data, &job);
                        if self.trees.is_rebuilding() {
                            // Damage may have been met. A full queue is one that will look.
                            drop(self.committer.push(Job::Rebuild));
                        }
                        answer(job.done, result);
                    }
                }
            }
        }
    }

    fn load(
        &self,
        key: &StoreKey,
        from_hints_too: bool,
    ) -> Result<Option<Arc<Siblings>>, StoreError> {
        let own = self.find(&self.data, key)?.map(|record| record.siblings);
        if !from_hints_too {
            return Ok(own);
        }
        let held = self.find(&self.hints, key)?.map(|record| record.siblings);
        Ok(match (own, held) {
            (Some(mut own), Some(held)) => {
                Arc::make_mut(&mut own).sync(&held);
                Some(own)
            }
            (own, held) => own.or(held),
        })
    }

    /// The record of `key`, its bytes charged.
    fn find(&self, records: &Records, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        let Some(budget) = self.budget.get() else { return find(records, key) };
        let store = records.area.name();
        let unread = |why| StoreError::Engine { store, why: Arc::new(why) };
        let no_room = |NoRoom { bytes_max }| StoreError::NoRoom { bytes_max };
        found(records, records.find_in(key, budget).map_err(unread)?.map_err(no_room)?)
    }

    fn list_hints(&self, job: &ListHintsJob) -> Result<Vec<HeldHint>, StoreError> {
        let mut page = Vec::new();
        let mut bytes = 0;
        let mut after = job.after.clone();
        // An empty page says that there are no more hints, so go on behind those that were
        // settled meanwhile or cannot be read.
        while page.is_empty() {
            let keys = self.index.keys(job.target, after.as_ref(), job.hints_max.max(1));
            let Some((last, _)) = keys.last() else {
                break;
            };
            after = Some(last.clone());
            for (key, sequence) in keys {
                let Some(record) = self.find_hint(&key, sequence)? else {
                    continue;
                };
                if !record.targets.contains(&job.target) {
                    continue;
                }
                bytes += hints::weight_bytes(&key, &record);
                let (siblings, sequence) = (record.siblings, record.sequence);
                page.push(HeldHint { key, siblings, sequence });
                if bytes >= job.bytes_max {
                    break;
                }
            }
        }
        Ok(page)
    }

    fn find_hint(&self, key: &StoreKey, sequence: u64) -> Result<Option<Record>, StoreError> {
        match find(&self.hints, key) {
            Err(StoreError::Damaged { .. }) => {
                // Nothing is left to deliver: the target gets the key by repair, if anyone has it.
                tracing::error!(
                    keyspace = %key.keyspace,
                    "a hint is damaged and was dropped: read the key to repair its owner"
                );
                self.index.forget(key, sequence);
                Ok(None)
            }
            found => found,
        }
    }
}

fn find(records: &Records, key: &StoreKey) -> Result<Option<Record>, StoreError> {
    let store = records.area.name();
    let unreadable = |why: EngineError| StoreError::Engine { store, why: Arc::new(why) };
    found(records, records.find(key).map_err(unreadable)?)
}

fn found(records: &Records, found: Found) -> Result<Option<Record>, StoreError> {
    let store = records.area.name();
    match found {
        Found::Missing => Ok(None),
        Found::Whole(record, _) => Ok(Some(record)),
        Found::Damaged(why, _) => Err(StoreError::Damaged { store, why }),
    }
}
