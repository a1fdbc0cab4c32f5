//! A node's part in a round: it answers the steps that a leader asks for, see the head of
//! [`super`]. It remembers nothing of a round from one step to the next; the leader repeats what
//! counts.

use super::epochs::Waiter;
use super::{
    CANDIDATES_MAX, CollectEffect, Collection, FENCE_PERIOD_MS, Fence, Job, JobStep, STEP_MS, Wish,
};
use crate::collect::{Candidate, CollectAnswer, CollectAsk, Marked};
use crate::event::{Area, Notice, StoreFailure, Stored};
use crate::id::{NodeId, PartitionId, RequestId};
use crate::message::Message;
use crate::node::surroundings::Surroundings;
use crate::node::timers::Timer;
use crate::write::Change;

/// Who asked, and under which number.
type From = (NodeId, RequestId);

impl Collection {
    /// A leader asks for a step.
    pub(in crate::node) fn asked(
        &mut self,
        around: &mut dyn Surroundings,
        from: From,
        (partition, scope): (PartitionId, [u8; 32]),
        ask: CollectAsk,
    ) {
        if scope != around.scope(partition) {
            self.wish(Wish::Gossip(from.0));
            return self.refuse(around, from, "it has another catalogue");
        }
        if !around.members().contains(&from.0) {
            return self.refuse(around, from, "the leader is no member");
        }
        if !around.is_at_rest(partition) {
            let reason = "the partition moves, is being filled, or the node stops";
            return self.refuse(around, from, reason);
        }
        match ask {
            CollectAsk::Mark(candidates) => {
                let job = self.job(around, from, partition, JobStep::Mark);
                self.attest(around, job, &candidates);
            }
            CollectAsk::Clean => self.search(around, from, partition),
            CollectAsk::Fence => self.fence(around, from, partition),
            CollectAsk::Seal { life, arrivals, floors, candidates } => {
                if life != self.life {
                    return self.refuse(around, from, "it was restarted");
                }
                let members = around.members();
                self.epochs.take_floors(&floors, |node| members.contains(&node));
                let step = JobStep::Seal { arrivals, candidates };
                let job = self.job(around, from, partition, step);
                self.keep_epochs(Waiter::Seal(job));
            }
            CollectAsk::Drop { life, candidates } => {
                if life != self.life {
                    return self.refuse(around, from, "it was restarted");
                }
                self.leading.is_led(partition);
                let job = self.job(around, from, partition, JobStep::Drop);
                self.attest(around, job, &candidates);
            }
        }
    }

    fn answer(
        &mut self,
        around: &mut dyn Surroundings,
        (to, request): From,
        result: Result<CollectAnswer, String>,
    ) {
        match to == around.me() {
            true => self.answered(around, (to, request), result),
            false => self.wish(Wish::Send(to, Message::CollectReply { request, result })),
        }
    }

    fn refuse(&mut self, around: &mut dyn Surroundings, to: From, reason: &str) {
        self.answer(around, to, Err(reason.to_owned()));
    }

    fn job(
        &mut self,
        around: &mut dyn Surroundings,
        from: From,
        partition: PartitionId,
        step: JobStep,
    ) -> u64 {
        let job = around.number();
        let (agreed, absent, has_failed) = (Vec::new(), Vec::new(), false);
        let known = Job { from, partition, step, waiting: 0, agreed, absent, has_failed };
        self.jobs.insert(job, known);
        job
    }

    /// Has the store look at every candidate, or drop it.
    fn attest(&mut self, around: &mut dyn Surroundings, job: u64, candidates: &[Candidate]) {
        let Some(Job { partition, step, .. }) = self.jobs.get(&job) else { return };
        let (partition, is_drop) = (*partition, *step == JobStep::Drop);
        for (place, candidate) in (0..).zip(candidates.iter().take(CANDIDATES_MAX)) {
            let Some(marked) = marked(around, partition, candidate) else { continue };
            if let Some(job) = self.jobs.get_mut(&job) {
                job.waiting += 1;
            }
            let effect = CollectEffect::Candidate { job, place };
            let key = marked.key.clone();
            let change = if is_drop { Change::Collect(marked) } else { Change::Attest(marked) };
            // What is marked must not be lost to a crash; what is dropped may come back.
            self.wish(Wish::Write { effect, key, change, is_sync: !is_drop });
        }
        self.end_job(around, job);
    }

    /// The store has looked at a candidate, or dropped it.
    pub(in crate::node) fn attested(
        &mut self,
        around: &mut dyn Surroundings,
        (job, place): (u64, u32),
        result: Result<Stored, StoreFailure>,
    ) {
        let Some(known) = self.jobs.get_mut(&job) else { return };
        known.waiting -= 1;
        if let Ok(stored) = result {
            known.agreed.push(place);
            if stored.siblings.is_empty() {
                known.absent.push(place);
            }
        }
        self.end_job(around, job);
    }

    /// Answers once all effects of a job have ended.
    fn end_job(&mut self, around: &mut dyn Surroundings, job: u64) {
        if self.jobs.get(&job).is_none_or(|known| known.waiting > 0) {
            return;
        }
        let Some(known) = self.jobs.remove(&job) else { return };
        let Job { from, partition, step, mut agreed, mut absent, has_failed, .. } = known;
        agreed.sort_unstable();
        absent.sort_unstable();
        let is_unchanged = |arrivals| {
            !has_failed
                && self.arrivals(partition) == arrivals
                && !self.is_storing_hints_of(partition)
        };
        let answer = match step {
            JobStep::Mark => CollectAnswer::Marked { life: self.life, agreed, absent },
            JobStep::Clean { arrivals } if is_unchanged(arrivals) => {
                CollectAnswer::Clean { life: self.life, arrivals }
            }
            JobStep::Clean { .. } => {
                return self.refuse(around, from, "it holds hints, or what it does not own");
            }
            JobStep::Seal { arrivals, .. } if is_unchanged(arrivals) => {
                CollectAnswer::Sealed { agreed }
            }
            JobStep::Seal { .. } => {
                return self.refuse(around, from, "a hint or another owner came during the round");
            }
            JobStep::Drop => {
                let count = agreed.len() as u64;
                self.figures.collected += count;
                if count > 0 {
                    self.wish(Wish::Notice(Notice::Collected(partition, count)));
                }
                CollectAnswer::Dropped { count }
            }
        };
        self.answer(around, from, Ok(answer));
    }

    /// Looks for hints of the partition, and for what this node holds without owning it.
    fn search(&mut self, around: &mut dyn Surroundings, from: From, partition: PartitionId) {
        let is_owner = around.owners(partition).contains(&around.me());
        if !is_owner && around.is_writing(partition) {
            return self.refuse(around, from, "it writes what it does not own any more");
        }
        let arrivals = self.arrivals(partition);
        let job = self.job(around, from, partition, JobStep::Clean { arrivals });
        let areas = [Some(Area::Hints), (!is_owner).then_some(Area::Data)];
        for area in areas.into_iter().flatten() {
            if let Some(job) = self.jobs.get_mut(&job) {
                job.waiting += 1;
            }
            self.wish(Wish::FindAny { effect: CollectEffect::Search { job }, area, partition });
        }
    }

    /// A store was looked through.
    pub(in crate::node) fn found_any(
        &mut self,
        around: &mut dyn Surroundings,
        job: u64,
        found: Result<bool, StoreFailure>,
    ) {
        if let Some(known) = self.jobs.get_mut(&job) {
            known.waiting -= 1;
            known.has_failed |= found != Ok(false);
        }
        self.end_job(around, job);
    }

    /// Remembers what is open, to wait for it.
    fn fence(&mut self, around: &mut dyn Surroundings, from: From, partition: PartitionId) {
        let open = around.open(partition);
        let until_ms = around.now().monotonic_ms.saturating_add(2 * STEP_MS);
        self.fences.push(Fence { from, partition, open, folds: None, until_ms });
        self.fence_due(around);
    }

    /// Looks whether what fences wait for has ended.
    pub(in crate::node) fn fence_due(&mut self, around: &mut dyn Surroundings) {
        let now_ms = around.now().monotonic_ms;
        for mut fence in std::mem::take(&mut self.fences) {
            around.still_open(fence.partition, &mut fence.open);
            if fence.open.is_none() {
                // What these requests have read may still be folded.
                let mut folds = fence.folds.take().unwrap_or_else(|| around.folds(fence.partition));
                folds.retain(|fold| around.is_effect_open(*fold));
                fence.folds = Some(folds);
            }
            if fence.folds.as_ref().is_some_and(|folds| folds.is_empty()) {
                let (from, request) = fence.from;
                self.keep_epochs(Waiter::Raise(from, request));
            } else if now_ms < fence.until_ms {
                self.fences.push(fence);
            }
        }
        if !self.fences.is_empty() {
            self.wish(Wish::At(now_ms.saturating_add(FENCE_PERIOD_MS), Timer::Fence));
        }
    }

    fn keep_epochs(&mut self, waiter: Waiter) {
        if let Some(epochs) = self.epochs.keep(waiter) {
            self.wish(Wish::KeepEpochs(epochs));
        }
    }

    /// A peer refused a write because it has closed what is below `floor`.
    pub(in crate::node) fn epoch_refused(&mut self, floor: u64) {
        if let Some(epochs) = self.epochs.catch_up(floor) {
            self.wish(Wish::KeepEpochs(epochs));
        }
    }

    /// Epochs are kept, or not: `own` is the one that was to be.
    pub(in crate::node) fn epochs_kept(
        &mut self,
        around: &mut dyn Surroundings,
        own: u64,
        result: Result<(), String>,
    ) {
        let (waiters, next) = self.epochs.kept(result.is_ok().then_some(own));
        if let Some(epochs) = next {
            self.wish(Wish::KeepEpochs(epochs));
        }
        for waiter in waiters {
            match waiter {
                Waiter::Raise(from, request) => {
                    let fenced = result.clone().map(|()| CollectAnswer::Fenced { epoch: own });
                    self.answer(around, (from, request), fenced);
                }
                // Now owners look once more.
                Waiter::Seal(job) => {
                    let Some(known) = self.jobs.get_mut(&job) else { continue };
                    known.has_failed |= result.is_err();
                    let candidates = match &mut known.step {
                        JobStep::Seal { candidates, .. } => std::mem::take(candidates),
                        _ => Vec::new(),
                    };
                    self.attest(around, job, &candidates);
                }
                Waiter::Nobody => {}
            }
        }
    }
}

/// What the store is asked of a candidate; nothing if it is not one of this partition.
fn marked(
    around: &dyn Surroundings,
    partition: PartitionId,
    candidate: &Candidate,
) -> Option<Marked> {
    let n = around.replicas(candidate.keyspace)?;
    if around.partition(candidate.keyspace, &candidate.key) != Some(partition) {
        return None;
    }
    let is_replica = around.owners(partition).iter().take(n).any(|owner| *owner == around.me());
    Some(Marked {
        key: candidate.store_key(partition),
        hash: candidate.hash,
        may_be_absent: candidate.is_deleted || !is_replica,
        must_be_absent: candidate.was_absent,
        now_ms: around.now().wall_ms,
    })
}
