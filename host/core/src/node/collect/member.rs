//! A node's part in a round: it answers the steps that a leader asks for, see the head of
//! [`super`]. It remembers nothing of a round from one step to the next; the leader repeats what
//! counts.

use super::epochs::is_epoch_after;
use super::{CANDIDATES_MAX, CollectEffect, FENCE_PERIOD_MS, Fence, Job, JobStep, STEP_MS};
use crate::catalogue::Keyspace;
use crate::collect::{Candidate, CollectAnswer, CollectAsk, Marked};
use crate::event::{Action, Area, Notice, StoreFailure, Stored, Token};
use crate::id::{NodeId, PartitionId};
use crate::message::{Message, RequestId};
use crate::node::timers::Timer;
use crate::node::{InFlight, Node, Purpose};
use crate::write::Change;

impl Node {
    /// A leader asks for a step.
    pub(in crate::node) fn collect_asked(
        &mut self,
        from: NodeId,
        request: RequestId,
        (partition, digest): (PartitionId, [u8; 32]),
        ask: CollectAsk,
    ) {
        if let Err(reason) = self.may_take_part(from, partition, digest) {
            return self.answer_collect(from, request, Err(reason));
        }
        match ask {
            CollectAsk::Mark(candidates) => {
                self.attest((from, request), partition, JobStep::Mark, &candidates);
            }
            CollectAsk::Clean => self.search((from, request), partition),
            CollectAsk::Fence => self.fence((from, request), partition),
            CollectAsk::Seal { life, hints_stored, floors, candidates } => {
                if life != self.collection.life {
                    return self.refuse(from, request, "it was restarted");
                }
                self.take_floors(&floors);
                let step = JobStep::Seal { hints_stored, candidates };
                let job = self.job((from, request), partition, step);
                self.persist_epochs(CollectEffect::Seal { job });
            }
            CollectAsk::Drop { life, candidates } => {
                if life != self.collection.life {
                    return self.refuse(from, request, "it was restarted");
                }
                self.attest((from, request), partition, JobStep::Drop, &candidates);
            }
        }
    }

    fn may_take_part(
        &mut self,
        from: NodeId,
        partition: PartitionId,
        digest: [u8; 32],
    ) -> Result<(), String> {
        if digest != self.digest {
            let digest = self.digest;
            if from != self.id {
                self.send(from, Message::CatalogueDigest { digest });
            }
            return Err("it has another catalogue".to_owned());
        }
        if !self.is_member(from) {
            return Err("the leader is no member".to_owned());
        }
        match self.is_at_rest(partition) {
            true => Ok(()),
            false => Err("the partition moves, is being filled, or the node stops".to_owned()),
        }
    }

    fn answer_collect(
        &mut self,
        to: NodeId,
        request: RequestId,
        result: Result<CollectAnswer, String>,
    ) {
        match to == self.id {
            true => self.collect_answered(to, request, result),
            false => self.send(to, Message::CollectReply { request, result }),
        }
    }

    fn refuse(&mut self, to: NodeId, request: RequestId, reason: &str) {
        self.answer_collect(to, request, Err(reason.to_owned()));
    }

    fn job(
        &mut self,
        (from, request): (NodeId, RequestId),
        partition: PartitionId,
        step: JobStep,
    ) -> u64 {
        let job = self.number();
        let agreed = Vec::new();
        let has_failed = false;
        let absent = Vec::new();
        let known = Job { from, request, partition, step, waiting: 0, agreed, absent, has_failed };
        self.collection.jobs.insert(job, known);
        job
    }

    /// Has the store look at every candidate, or drop it.
    fn attest(
        &mut self,
        asker: (NodeId, RequestId),
        partition: PartitionId,
        step: JobStep,
        candidates: &[Candidate],
    ) {
        let job = self.job(asker, partition, step);
        self.attest_for(job, candidates);
    }

    fn attest_for(&mut self, job: u64, candidates: &[Candidate]) {
        let Some(Job { partition, step, .. }) = self.collection.jobs.get(&job) else { return };
        let (partition, is_drop) = (*partition, *step == JobStep::Drop);
        for (place, candidate) in (0..).zip(candidates.iter().take(CANDIDATES_MAX)) {
            let Some(marked) = self.marked(partition, candidate) else { continue };
            if let Some(job) = self.collection.jobs.get_mut(&job) {
                job.waiting += 1;
            }
            let token = self.collect_effect(CollectEffect::Candidate { job, place });
            let (survivors, key) = (self.survivors(candidate.keyspace), marked.key.clone());
            let change = if is_drop { Change::Collect(marked) } else { Change::Attest(marked) };
            // What is marked must not be lost to a crash; what is dropped may come back.
            let (area, targets, is_sync) = (Area::Data, Vec::new(), !is_drop);
            self.act(Action::Write { token, area, key, change, targets, survivors, is_sync });
        }
        self.end_job(job);
    }

    /// What the store is asked of a candidate; nothing if it is not one of this partition.
    fn marked(&self, partition: PartitionId, candidate: &Candidate) -> Option<Marked> {
        let (catalogue, Keyspace { quorums, .. }) = self.keyspace(candidate.keyspace).ok()?;
        if catalogue.ring.partition(candidate.keyspace, &candidate.key) != partition {
            return None;
        }
        let n = quorums.value.n as usize;
        let is_replica = catalogue.ring.owners(partition).take(n).any(|owner| owner == self.id);
        Some(Marked {
            key: candidate.store_key(partition),
            hash: candidate.hash,
            may_be_absent: candidate.is_deleted || !is_replica,
            must_be_absent: candidate.was_absent,
            now_ms: self.now.wall_ms,
        })
    }

    /// The store has looked at a candidate, or dropped it.
    pub(in crate::node) fn collect_written(
        &mut self,
        effect: CollectEffect,
        result: Result<Stored, StoreFailure>,
    ) {
        let CollectEffect::Candidate { job, place } = effect else { return };
        let Some(known) = self.collection.jobs.get_mut(&job) else { return };
        known.waiting -= 1;
        if let Ok(stored) = result {
            known.agreed.push(place);
            if stored.siblings.is_empty() {
                known.absent.push(place);
            }
        }
        self.end_job(job);
    }

    /// Answers once all effects of a job have ended.
    fn end_job(&mut self, job: u64) {
        if self.collection.jobs.get(&job).is_none_or(|known| known.waiting > 0) {
            return;
        }
        let Some(known) = self.collection.jobs.remove(&job) else { return };
        let Job { from, request, partition, step, mut agreed, mut absent, has_failed, .. } = known;
        agreed.sort_unstable();
        absent.sort_unstable();
        let life = self.collection.life;
        let is_unchanged = |hints_stored| {
            self.collection.hints_stored(partition) == hints_stored
                && !self.collection.is_storing_hints(partition)
        };
        let answer = match step {
            JobStep::Mark => CollectAnswer::Marked { life, agreed, absent },
            JobStep::Clean { hints_stored } if !has_failed && is_unchanged(hints_stored) => {
                CollectAnswer::Clean { life, hints_stored }
            }
            JobStep::Clean { .. } => {
                return self.refuse(from, request, "it holds hints, or what it does not own");
            }
            JobStep::Seal { hints_stored, .. } if !has_failed && is_unchanged(hints_stored) => {
                CollectAnswer::Sealed { agreed }
            }
            JobStep::Seal { .. } => {
                return self.refuse(from, request, "a hint came to it during the round");
            }
            JobStep::Drop => {
                let count = agreed.len() as u64;
                self.collection.figures.collected += count;
                if count > 0 {
                    self.notice(Notice::Collected(partition, count));
                }
                CollectAnswer::Dropped { count }
            }
        };
        self.answer_collect(from, request, Ok(answer));
    }

    /// Looks for hints of the partition, and for what this node holds without owning it.
    fn search(&mut self, asker: (NodeId, RequestId), partition: PartitionId) {
        let is_owner = self.owns(partition);
        if !is_owner && self.transfers.is_writing(partition) {
            return self.refuse(asker.0, asker.1, "it writes what it does not own any more");
        }
        let hints_stored = self.collection.hints_stored(partition);
        let job = self.job(asker, partition, JobStep::Clean { hints_stored });
        let areas = [Some(Area::Hints), (!is_owner).then_some(Area::Data)];
        for area in areas.into_iter().flatten() {
            if let Some(job) = self.collection.jobs.get_mut(&job) {
                job.waiting += 1;
            }
            let token = self.collect_effect(CollectEffect::Search { job });
            self.act(Action::FindAny { token, area, partition });
        }
    }

    /// A store was looked through.
    pub(in crate::node) fn found_any(&mut self, token: Token, found: Result<bool, StoreFailure>) {
        let Some(Purpose::Collect(CollectEffect::Search { job })) = self.effects.remove(&token)
        else {
            return;
        };
        if let Some(known) = self.collection.jobs.get_mut(&job) {
            known.waiting -= 1;
            known.has_failed |= found != Ok(false);
        }
        self.end_job(job);
    }

    /// Remembers what is open, to wait for it.
    fn fence(&mut self, (from, request): (NodeId, RequestId), partition: PartitionId) {
        let is_of = |request: &InFlight| match request {
            InFlight::Get(get) => get.key.partition == partition,
            InFlight::Put(put) => put.key.partition == partition,
        };
        let open = self.requests.iter().filter(|(_, request)| is_of(request));
        let requests = open.map(|(request, _)| *request).collect();
        let exchanges = self.exchanges_of(partition);
        let until_ms = self.in_ms(2 * STEP_MS);
        let folds = None;
        let fence = Fence { from, request, partition, requests, exchanges, folds, until_ms };
        self.collection.fences.push(fence);
        self.fence_due();
    }

    /// Looks whether what fences wait for has ended.
    pub(in crate::node) fn fence_due(&mut self) {
        let now_ms = self.now.monotonic_ms;
        for mut fence in std::mem::take(&mut self.collection.fences) {
            let exchanges = self.exchanges_of(fence.partition);
            fence.requests.retain(|request| self.requests.contains_key(request));
            fence.exchanges.retain(|exchange| exchanges.contains(exchange));
            if fence.requests.is_empty() && fence.exchanges.is_empty() {
                // What these requests have read may still be folded.
                let folds = fence.folds.take().unwrap_or_else(|| self.folds_of(fence.partition));
                let open = folds.into_iter().filter(|fold| self.effects.contains_key(fold));
                fence.folds = Some(open.collect());
            }
            if fence.folds.as_ref().is_some_and(|folds| folds.is_empty()) {
                self.raise_epoch(fence.from, fence.request);
            } else if now_ms < fence.until_ms {
                self.collection.fences.push(fence);
            }
        }
        if !self.collection.fences.is_empty() {
            let at_ms = self.in_ms(FENCE_PERIOD_MS);
            self.timers.set(at_ms, Timer::Fence);
        }
    }

    /// Merges in flight whose results are to be folds.
    fn folds_of(&self, partition: PartitionId) -> std::collections::BTreeSet<Token> {
        let is_of = |purpose: &Purpose| match purpose {
            Purpose::Fold(job) => job.partition() == partition,
            _ => false,
        };
        self.effects.iter().filter(|(_, purpose)| is_of(purpose)).map(|(t, _)| *t).collect()
    }

    fn raise_epoch(&mut self, from: NodeId, request: RequestId) {
        let Some(epoch) = self.collection.epochs.own.checked_add(1) else {
            return self.refuse(from, request, "it has no epochs left");
        };
        self.collection.epochs.own = epoch;
        self.persist_epochs(CollectEffect::Raise { from, request, epoch });
    }

    pub(super) fn epoch_raised(
        &mut self,
        from: NodeId,
        request: RequestId,
        epoch: u64,
        result: Result<(), String>,
    ) {
        match result {
            Ok(()) => {
                self.use_epoch(epoch);
                self.answer_collect(from, request, Ok(CollectAnswer::Fenced { epoch }));
            }
            Err(reason) => self.answer_collect(from, request, Err(reason)),
        }
    }

    fn take_floors(&mut self, floors: &[(NodeId, u64)]) {
        let Some(catalogue) = &self.catalogue else { return };
        let known = &mut self.collection.epochs.floors;
        for (node, floor) in floors {
            let known = known.entry(*node).or_insert(0);
            if is_epoch_after(*floor, *known) {
                *known = *floor;
            }
        }
        // Who is no member, or no more, is refused anyway.
        known.retain(|node, _| catalogue.members.contains_key(node));
    }

    /// The epochs of all are kept, or not: now owners look once more.
    pub(super) fn floors_kept(&mut self, job: u64, result: Result<(), String>) {
        let Some(known) = self.collection.jobs.get_mut(&job) else { return };
        known.has_failed |= result.is_err();
        let candidates = match &known.step {
            JobStep::Seal { candidates, .. } => candidates.clone(),
            _ => Vec::new(),
        };
        self.attest_for(job, &candidates);
    }
}
