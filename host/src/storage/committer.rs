//! The one writer of a store, with group commit.
//!
//! A single thread takes what has queued up since it last looked and does for each job: load the
//! record (through the group, so that it sees the jobs before it), run the core's write path,
//! stage the result. Then the whole group becomes visible by one apply and durable by one sync,
//! and only then are its jobs answered: the more writers wait, the more of them share a sync.
//!
//! ```text
//!   queue ─▶ take a group ─▶ load, write, stage each ─▶ apply ─▶ answer those that do not
//!     ▲                                                   │      need a sync, tell the others
//!     └───────────────────────────────────────────────────┴────▶ sync ─▶ answer the rest
//! ```
//!
//! Because the thread is the only writer, load, sync and store of a key are one step without any
//! lock, and readers never wait for a sync. Writes that need none are synced soon after.
//!
//! With every group goes the store's note ([`super::meta`]): the latest sequence and the count of
//! objects, so that a start sees what was lost in silence.
//!
//! An engine that fails at a write takes the store out of service: what it holds is unknown until
//! it is reopened, which this thread does once the disk takes writes again (`reopen.rs`).

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stator_core::collect::{DEAD_ACTORS_MIN, Listed};
use stator_core::id::NodeId;
use stator_core::keys::StoreKey;
use stator_core::record::Record;
use stator_core::write::{Change, Minter, Settled, Written, settle, write};

use super::changes::ChangeLog;
use super::chunks;
use super::drops::DropJob;
use super::engine::{Batch, EngineError};
use super::group::{Answer, Group, InEngine, Staged, answer};
use super::hints::{self, HintIndex};
use super::history::SharedHistory;
use super::index;
use super::job::{Area, Done, FindAnyJob, WriteDone, WriteJob};
use super::meta::{self, Meta};
use super::queue::{Queue, Taken};
use super::records::{Found, Records};
use super::reopen::Reopening;
use super::trees::{Replaced, SharedTrees};
use super::{Effect, StoreError};
use crate::telemetry::names::{STORE_GROUP_JOBS, STORE_SYNC_SECONDS};
use crate::telemetry::vital::Vital;

/// The most jobs that share a sync.
const GROUP_JOBS_MAX: usize = 1024;

/// A group that weighs more is applied before more is staged.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// A change that waits for the committer.
pub(super) enum Job {
    Write(Box<WriteJob>),
    Settle {
        target: NodeId,
        key: StoreKey,
        sequence: u64,
        done: Done<bool>,
    },
    /// A partition is to be dropped, from this physical key on.
    Drop(DropJob),
    /// Hash trees are to be rebuilt: nobody waits for it.
    Rebuild,
    /// Whether the store holds anything of a partition: see `collect.rs`.
    FindAny(FindAnyJob),
}

impl Job {
    /// About how many bytes it holds while it waits.
    pub(super) fn weight_bytes(&self) -> usize {
        let Job::Write(job) = self else { return 0 };
        match &job.change {
            Change::Mint { draft, .. } => draft.payload.len_bytes(),
            Change::Sync(siblings) => siblings.weight_bytes(),
            Change::Expire { .. } | Change::Attest(_) | Change::Collect(_) => 0,
        }
    }

    /// Answers with `error`.
    pub(super) fn refuse(self, error: StoreError) {
        match self {
            Job::Write(job) => answer(job.done, Err(error)),
            Job::Settle { done, .. } => answer(done, Err(error)),
            Job::Drop(job) => answer(job.done, Err(error)),
            Job::Rebuild => {}
            Job::FindAny(job) => answer(job.done, Err(error)),
        }
    }
}

/// The writer's state: owned by its thread.
pub(super) struct Committer {
    pub(super) records: Records,
    pub(super) queue: Arc<Queue<Job>>,
    /// The node's, shared by its stores: an epoch drawn for one is not drawn for the other.
    pub(super) minter: Arc<Mutex<Minter>>,
    pub(super) meta: Meta,
    /// The index, if this is the hint store.
    pub(super) hints: Option<Arc<HintIndex>>,
    pub(super) sync_within: Duration,
    pub(super) group: Group,
    /// Since when something is applied and not synced.
    pub(super) unsynced_since: Option<Instant>,
    /// The latest commit that is synced.
    pub(super) synced_sequence: u64,
    /// The hash trees, if this is the data store.
    pub(super) trees: Option<Arc<SharedTrees>>,
    /// What is superseded, if this is the data store and it is kept.
    pub(super) history: SharedHistory,
    /// What is changed, if this is the data store, and up to which commit it was told that.
    pub(super) changes: Option<Arc<ChangeLog>>,
    pub(super) applied_sequence: u64,
    /// How many records are read for them at a time, and from when on again after a failure.
    pub(super) rebuild_step: usize,
    pub(super) trees_rest_until: Option<Instant>,
    /// How the store comes back, if its engine can be opened again.
    pub(super) reopening: Option<Reopening>,
}

impl Committer {
    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) -> Self {
        let _vital = Vital("a store's committer");
        loop {
            let sync_at = self.unsynced_since.map(|since| since + self.sync_within);
            let reopen_at = self.reopen_at();
            let rebuild_at = self.rebuild_at();
            let wake_at = sync_at.into_iter().chain(reopen_at).chain(rebuild_at).min();
            match self.queue.take(GROUP_JOBS_MAX, wake_at) {
                Taken::Items(jobs) => self.commit_all(jobs),
                Taken::TimedOut => {}
                Taken::Closed => return self,
            }
            if reopen_at.is_some_and(|at| at <= Instant::now()) {
                self.reopen();
            }
            if rebuild_at.is_some_and(|at| at <= Instant::now()) {
                self.rebuild_trees();
            }
            // Under a steady stream of buffered writes the wait above never times out.
            if sync_at.is_some_and(|at| at <= Instant::now()) {
                let _ = self.sync();
            }
        }
    }

    /// Ends the work for good: everything is durable, and the engine is let go.
    pub(super) fn finish(mut self) -> Result<Meta, StoreError> {
        self.sync()?;
        match self.out_of_service() {
            Some(error) => Err(error),
            None => Ok(self.meta),
        }
    }

    fn commit_all(&mut self, jobs: Vec<Job>) {
        let store = self.records.area.name();
        metrics::histogram!(STORE_GROUP_JOBS.name, "store" => store).record(jobs.len() as f64);
        for job in jobs {
            if let Some(error) = self.out_of_service() {
                job.refuse(error);
                continue;
            }
            match job {
                Job::Write(job) => self.stage_write(*job),
                Job::Settle { target, key, sequence, done } => {
                    self.stage_settle(target, key, sequence, done);
                }
                Job::Drop(job) => self.stage_drop(job),
                Job::Rebuild => {}
                Job::FindAny(job) => self.find_any(job),
            }
            if self.group.bytes > GROUP_BYTES_MAX {
                self.commit();
            }
        }
        self.commit();
    }

    /// Loads `key` into the group.
    pub(super) fn load(&mut self, key: &StoreKey) -> Result<(), StoreError> {
        if self.group.staged.contains_key(key) {
            return Ok(());
        }
        // Refused by the operating system, such as for a lack of memory: only this job fails.
        let store = self.records.area.name();
        let unread = |error| StoreError::Engine { store, why: Arc::new(error) };
        let kept = self.records.cache.as_ref().and_then(|cache| cache.get(key));
        let found = match kept {
            Some(seen) => Found::from(seen),
            None => self.records.find(key).map_err(unread)?,
        };
        let (record, stored, replaced) = match found {
            Found::Missing => (None, InEngine::Nothing, Replaced::Known(None)),
            Found::Whole(record, chunks) => {
                let added = self.trees.is_some().then(|| record.addend(key));
                (Some(record), InEngine::Value(chunks), Replaced::Known(added))
            }
            // Without its mark: the core draws a fresh epoch for the key.
            Found::Damaged(_, chunks) => (None, InEngine::Value(chunks), Replaced::Unknown),
        };
        let listed = match replaced {
            Replaced::Unknown => index::OF_DAMAGED,
            Replaced::Known(_) => record.as_ref().map_or(Listed::default(), |r| r.listed),
        };
        let staged = Staged { record, stored, replaced, listed, is_changed: false };
        self.group.staged.insert(key.clone(), staged);
        Ok(())
    }

    fn stage_write(&mut self, job: WriteJob) {
        match self.try_write(&job) {
            Ok(outcome) => self.group.answers.push(Answer::Write {
                done: job.done,
                applied: job.applied,
                outcome,
                needs_sync: job.sync || job.area == Area::Hints,
            }),
            Err(error) => answer(job.done, Err(error)),
        }
    }

    fn try_write(&mut self, job: &WriteJob) -> Result<WriteDone, StoreError> {
        if job.area == Area::Hints && job.targets.is_empty() {
            return Err(StoreError::HintWithoutTarget);
        }
        if job.until.is_some_and(|until| until <= Instant::now()) {
            return Err(StoreError::Expired { store: self.records.area.name() });
        }
        self.load(&job.key)?;
        self.refuse_damaged(&job.key, &job.change)?;
        let before = self.staged(&job.key).and_then(|staged| staged.record.clone());
        self.check_quota(job, before.as_ref())?;
        let written = {
            let mut minter = self.minter.lock().unwrap_or_else(PoisonError::into_inner);
            write(before.clone(), &job.change, &job.targets, job.survivors, &mut minter)?
        };
        let Written { mut record, dot, mut is_changed, is_removed, gained_ms } = written;
        if !is_removed && before.is_some() | is_changed && self.trees.is_some() {
            is_changed |= self.list(job, &mut record, is_changed);
        }
        if is_changed && !is_removed {
            if job.area == Area::Hints {
                record.held_since_ms.get_or_insert_with(hints::wall_ms);
            }
            self.check_budget(&job.key, before.as_ref(), &record)?;
            self.meta.sequence += 1;
            record.sequence = self.meta.sequence;
        }
        let outcome = WriteDone {
            siblings: record.siblings.clone(),
            dot,
            gained_ms,
            sequence: record.sequence,
        };
        if is_changed {
            if let Some(before) = &before {
                self.note_superseded(job, before, &outcome);
            }
            if is_removed {
                self.note_forgotten(before.as_ref());
            }
            self.stage(&job.key, (!is_removed).then_some(record));
        }
        Ok(outcome)
    }

    fn note_forgotten(&mut self, before: Option<&Record>) {
        let Some(changes) = &self.changes else { return };
        let forgotten = before.map_or(0, |before| before.sequence);
        self.meta.forgotten = self.meta.forgotten.max(forgotten);
        changes.forgot(forgotten);
    }

    fn note_superseded(&self, job: &WriteJob, before: &Record, done: &WriteDone) {
        let Some(history) = &self.history else { return };
        // What ends by its time, or is forgotten because all are alike, nobody replaced.
        if matches!(job.change, Change::Mint { .. } | Change::Sync(_)) {
            history.note(&job.key, &before.siblings, &done.siblings, hints::wall_ms());
        }
    }

    /// Lists a record anew that has changed, or was due. Says whether it is listed otherwise.
    fn list(&mut self, job: &WriteJob, record: &mut Record, is_changed: bool) -> bool {
        let (passed_ms, due) = match job.change {
            Change::Expire { passed_ms, due_ms } => (passed_ms, Some(due_ms)),
            _ if is_changed => (0, None),
            _ => return false,
        };
        let before = record.listed;
        record.listed = Listed::of(record, passed_ms, DEAD_ACTORS_MIN);
        if let Some(due_ms) = due.filter(|due_ms| record.listed.due_ms != Some(*due_ms)) {
            self.group.not_due.push((due_ms, job.key.clone()));
        }
        record.listed != before
    }

    /// Refuses a put that goes beyond its keyspace's quota, before it has its dot.
    fn check_quota(&mut self, job: &WriteJob, before: Option<&Record>) -> Result<(), StoreError> {
        let (Change::Mint { context, draft, now_ms, allowance: Some(allowance), .. }, Some(trees)) =
            (&job.change, &self.trees)
        else {
            return Ok(());
        };
        let keyspace = job.key.keyspace;
        // What the group takes in is in the trees when it is applied.
        let granted = self.group.granted.entry(keyspace).or_default();
        let held = trees.usage_of(keyspace).plus(*granted);
        let put = (draft, context, *now_ms);
        let added = allowance.check((&job.key, before), put, job.survivors, held)?;
        *granted = granted.plus(added);
        Ok(())
    }

    /// Refuses a hint that does not fit, unless it takes no more room than the one it replaces.
    fn check_budget(
        &mut self,
        key: &StoreKey,
        before: Option<&Record>,
        after: &Record,
    ) -> Result<(), StoreError> {
        let Some(index) = &self.hints else {
            return Ok(());
        };
        let old_bytes = before.map_or(0, |record| hints::weight_bytes(key, record));
        let new_bytes = hints::weight_bytes(key, after);
        let held_bytes = index.bytes().saturating_add_signed(self.group.hint_bytes);
        let added_bytes = new_bytes.saturating_sub(old_bytes);
        let bytes_max = index.bytes_max;
        if added_bytes > 0 && held_bytes + added_bytes > bytes_max {
            index.refused();
            return Err(StoreError::HintBudget { held_bytes, added_bytes, bytes_max });
        }
        Ok(())
    }

    fn stage_settle(&mut self, target: NodeId, key: StoreKey, sequence: u64, done: Done<bool>) {
        if let Err(error) = self.load(&key) {
            return answer(done, Err(error));
        }
        let record = self.staged(&key).and_then(|staged| staged.record.as_ref());
        let settled = record.map_or(Settled::Stays, |record| settle(record, target, sequence));
        let is_removed = settled != Settled::Stays;
        match settled {
            Settled::Stays => {}
            Settled::Remains(record) => self.stage(&key, Some(record)),
            Settled::Done => self.stage(&key, None),
        }
        self.group.answers.push(Answer::Settle { done, is_removed });
    }

    fn fail(&mut self, error: EngineError, effect: Effect) -> StoreError {
        self.records.forget_kept();
        self.give_up_if_damaged_again(&error);
        if let Some(trees) = &self.trees {
            trees.forget();
        }
        self.records.health.fail(self.records.area, error, effect)
    }

    pub(super) fn out_of_service(&self) -> Option<StoreError> {
        self.records.health.out_of_service(self.records.area)
    }

    pub(super) fn staged(&self, key: &StoreKey) -> Option<&Staged> {
        self.group.staged.get(key)
    }

    /// Leaves `record` under a key that was loaded.
    pub(super) fn stage(&mut self, key: &StoreKey, record: Option<Record>) {
        let Some(staged) = self.group.staged.get_mut(key) else {
            return;
        };
        let weight = |record: &Option<Record>| {
            record.as_ref().map_or(0, |record| hints::weight_bytes(key, record))
        };
        let (old_bytes, new_bytes) = (weight(&staged.record), weight(&record));
        self.group.bytes += new_bytes;
        self.group.hint_bytes += new_bytes as isize - old_bytes as isize;
        staged.record = record;
        staged.is_changed = true;
    }

    /// Applies the group, syncs if one of its jobs needs it, and answers all of them.
    pub(super) fn commit(&mut self) {
        let mut group = std::mem::take(&mut self.group);
        self.hash_objects(&mut group);
        if let Err(error) = self.apply(&group) {
            return group.answers.into_iter().for_each(|answer| answer.give(Err(error.clone())));
        }
        let (mut waiting, ready): (Vec<_>, Vec<_>) =
            group.answers.drain(..).partition(Answer::needs_sync);
        ready.into_iter().for_each(|answer| answer.give(Ok(())));
        if !waiting.is_empty() {
            waiting.iter_mut().for_each(Answer::tell_applied);
            let result = self.sync();
            waiting.into_iter().for_each(|answer| answer.give(result.clone()));
        }
    }

    fn apply(&mut self, group: &Group) -> Result<(), StoreError> {
        // An earlier part of this very group may have failed.
        if let Some(error) = self.out_of_service() {
            return Err(error);
        }
        if group.changes().next().is_none() && group.not_due.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        let written = group.write_to(&mut batch, self.trees.is_some(), || {
            self.meta.sequence += 1;
            self.meta.sequence
        });
        self.meta.objects = self.meta.objects.saturating_add_signed(group.objects_added());
        chunks::put_note(&mut batch, meta::NAME, self.meta.encode());
        self.records.engine.apply(batch).map_err(|error| self.fail(error, Effect::Maybe))?;
        self.records.keep(written);
        self.unsynced_since.get_or_insert_with(Instant::now);
        self.change_trees(group);
        if let Some(changes) = &self.changes {
            changes.applied(group, (self.applied_sequence, self.meta.sequence));
        }
        self.applied_sequence = self.meta.sequence;
        if let Some(index) = &self.hints {
            group.changes().for_each(|(key, record)| index.set(key, record));
        }
        self.records.health.commits.fetch_add(1, Ordering::Relaxed);
        self.records.health.show(&self.meta);
        Ok(())
    }

    /// Makes everything applied so far durable.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        // Taken even if it fails: there is no second try at a failed sync.
        if self.unsynced_since.take().is_none() {
            return Ok(());
        }
        if let Some(error) = self.out_of_service() {
            return Err(error);
        }
        let started = Instant::now();
        self.records.engine.sync().map_err(|error| self.fail(error, Effect::Maybe))?;
        self.synced_sequence = self.meta.sequence;
        self.records.health.syncs.fetch_add(1, Ordering::Relaxed);
        let store = self.records.area.name();
        metrics::histogram!(STORE_SYNC_SECONDS.name, "store" => store).record(started.elapsed());
        Ok(())
    }
}
