//! Leading rounds: an owner walks its partitions page by page, and where it finds something to
//! forget it asks all members through the steps. A round that does not get on is given up; what
//! it was for is found again by the next walk.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{CANDIDATES_MAX, CollectEffect, KEYS_BYTES_MAX, Node, STEP_MS};
use crate::causality::Siblings;
use crate::collect::{Candidate, CollectAnswer, CollectAsk};
use crate::event::{Action, Notice, ScanPage, StoreFailure, Token};
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::keys::StoreKey;
use crate::message::{Message, RequestId};
use crate::node::timers::Timer;
use crate::tree::object_hash;

/// The most objects of a page.
const PAGE_OBJECTS_MAX: usize = 256;
/// A page ends with the object that goes beyond this.
const PAGE_BYTES_MAX: usize = 256 << 10;
/// The most pages of a period.
const PAGES_MAX: usize = 8;

/// Where the walk through the own partitions is.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The partition that is being read, or was last.
    partition: Option<PartitionId>,
    after: Option<StoreKey>,
    is_reading: bool,
    /// How many pages may still be read in this period.
    pages: usize,
    found: Vec<Candidate>,
}

/// A round that this node leads.
#[derive(Debug)]
pub(super) struct Round {
    partition: PartitionId,
    digest: [u8; 32],
    step: Step,
    waiting: BTreeMap<RequestId, NodeId>,
    until_ms: u64,
    candidates: Vec<Candidate>,
    owners: Vec<NodeId>,
    members: Vec<NodeId>,
    /// How many owners agree, per candidate.
    agreed: Vec<usize>,
    /// The lives in which owners have marked, and in which members were clean.
    marked: BTreeMap<NodeId, u64>,
    clean: BTreeMap<NodeId, (u64, u64)>,
    floors: BTreeMap<NodeId, u64>,
    /// What owners had nothing of when they marked.
    absent: BTreeMap<NodeId, BTreeSet<(KeyspaceId, Bytes)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Mark,
    Clean,
    Fence,
    Seal,
    Drop,
}

impl Round {
    /// Keeps those candidates to which every owner has agreed.
    fn keep_agreed(&mut self) {
        let owners = self.owners.len();
        let mut agreed = std::mem::take(&mut self.agreed).into_iter();
        self.candidates.retain(|_| agreed.next() == Some(owners));
    }

    fn ask(&self, node: NodeId) -> CollectAsk {
        let is_owner = self.owners.contains(&node);
        let mut candidates = if is_owner { self.candidates.clone() } else { Vec::new() };
        if let Some(absent) = self.absent.get(&node).filter(|_| self.step == Step::Seal) {
            candidates.iter_mut().for_each(|c| c.was_absent = absent.contains(&c.name()));
        }
        let (life, hints_stored) = self.clean.get(&node).copied().unwrap_or_default();
        match self.step {
            Step::Mark => CollectAsk::Mark(candidates),
            Step::Clean => CollectAsk::Clean,
            Step::Fence => CollectAsk::Fence,
            Step::Seal => {
                let floors = self.floors.iter().map(|(node, floor)| (*node, *floor)).collect();
                CollectAsk::Seal { life, hints_stored, floors, candidates }
            }
            Step::Drop => CollectAsk::Drop { life, candidates },
        }
    }

    /// Takes an answer in; `None` if it is no answer to the step.
    fn answered(&mut self, node: NodeId, answer: CollectAnswer) -> Option<()> {
        match (self.step, answer) {
            (Step::Mark, CollectAnswer::Marked { life, agreed, absent }) => {
                self.marked.insert(node, life);
                let at = |place: &u32| self.candidates.get(*place as usize);
                let keys = absent.iter().filter_map(at).map(Candidate::name).collect();
                self.absent.insert(node, keys);
                self.count(&agreed);
            }
            (Step::Clean, CollectAnswer::Clean { life, hints_stored }) => {
                if self.marked.get(&node).is_some_and(|marked| *marked != life) {
                    return None;
                }
                self.clean.insert(node, (life, hints_stored));
            }
            (Step::Fence, CollectAnswer::Fenced { epoch }) => {
                self.floors.insert(node, epoch);
            }
            (Step::Seal, CollectAnswer::Sealed { agreed }) => {
                if self.owners.contains(&node) {
                    self.count(&agreed);
                }
            }
            (Step::Drop, CollectAnswer::Dropped { .. }) => {}
            _ => return None,
        }
        Some(())
    }

    fn count(&mut self, agreed: &[u32]) {
        // A place that is named twice counts once.
        let places: BTreeSet<usize> = agreed.iter().map(|place| *place as usize).collect();
        for place in places {
            if let Some(count) = self.agreed.get_mut(place) {
                *count += 1;
            }
        }
    }
}

impl Node {
    /// Looks at what no event tells, and begins to read.
    pub(in crate::node) fn collect_due(&mut self) {
        let period_ms = self.settings.collect_period_ms;
        if period_ms == 0 {
            return;
        }
        let at_ms = self.in_ms(period_ms);
        self.timers.set(at_ms, Timer::Collect);
        if self.collection.round.as_ref().is_some_and(|r| r.until_ms <= self.now.monotonic_ms) {
            let late = self.collection.round.as_ref().and_then(|r| r.waiting.values().next());
            let late = late.map_or_else(String::new, |node| format!("{node} does not answer"));
            self.give_up(late);
        }
        if self.collection.round.is_some() || self.collection.walk.is_reading || self.is_stopping {
            return;
        }
        let members: Vec<NodeId> = self.peers();
        let away = members.into_iter().find(|member| !self.is_reachable(*member));
        if let Some(away) = away {
            self.collection.figures.held_up = Some(format!("{away} is not reachable"));
            return;
        }
        self.collection.walk.pages = self.admission.window(PAGES_MAX);
        self.read_on();
    }

    /// Reads the next page, of this partition or the next, while the period allows it.
    fn read_on(&mut self) {
        if self.collection.walk.pages == 0 {
            return;
        }
        if self.collection.walk.after.is_none() {
            let next = self.next_partition();
            self.collection.walk.partition = next;
            // Put back by what is found, or written meanwhile.
            if let Some(next) = next {
                self.collection.suspects.remove(&next);
            }
        }
        let Some(partition) = self.collection.walk.partition else { return };
        let walk = &mut self.collection.walk;
        walk.pages -= 1;
        walk.is_reading = true;
        let after = walk.after.clone();
        let token = self.collect_effect(CollectEffect::Page);
        let (count_max, bytes_max) = (PAGE_OBJECTS_MAX, PAGE_BYTES_MAX);
        self.act(Action::Scan { token, partition, after, count_max, bytes_max });
    }

    /// The next own partition in which something may be to forget.
    fn next_partition(&self) -> Option<PartitionId> {
        let ring = &self.catalogue.as_ref()?.ring;
        let behind = self.collection.walk.partition;
        let own = |p: &&PartitionId| ring.is_owner(**p, self.id);
        let later = |p: &&PartitionId| behind.is_none_or(|behind| **p > behind);
        let suspects = &self.collection.suspects;
        let next = suspects.iter().filter(later).find(own);
        next.or_else(|| suspects.iter().find(own)).copied()
    }

    /// A page is read.
    pub(in crate::node) fn collect_scanned(&mut self, result: Result<ScanPage, StoreFailure>) {
        self.collection.walk.is_reading = false;
        let has_failed = result.is_err();
        let page = result.unwrap_or_default();
        let found: Vec<Candidate> =
            page.objects.iter().filter_map(|(key, held)| self.candidate(key, held)).collect();
        if has_failed || !found.is_empty() {
            self.collection.suspects.extend(self.collection.walk.partition);
        }
        let walk = &mut self.collection.walk;
        let is_end = page.next.is_none();
        walk.after = page.next;
        walk.found.extend(found);
        let bytes: usize = walk.found.iter().map(|candidate| candidate.key.len()).sum();
        let is_full = walk.found.len() >= CANDIDATES_MAX || bytes >= KEYS_BYTES_MAX;
        if !walk.found.is_empty() && (is_end || is_full || walk.pages == 0) {
            let mut candidates = std::mem::take(&mut walk.found);
            candidates.truncate(CANDIDATES_MAX);
            return self.start_round(candidates);
        }
        self.read_on();
    }

    fn is_worth_forgetting(&self, held: &Siblings) -> bool {
        held.is_deleted() || held.dead_actors() >= self.settings.dead_actors_min.max(1)
    }

    /// Something was written to the data store.
    pub(in crate::node) fn suspect(&mut self, token: Token, held: &Siblings) {
        if let Some(partition) = self.transfers.writing.get(&token)
            && !held.is_empty()
            && self.is_worth_forgetting(held)
        {
            self.collection.suspects.insert(*partition);
        }
    }

    fn candidate(&self, key: &StoreKey, held: &Siblings) -> Option<Candidate> {
        let is_deleted = held.is_deleted();
        let is_one = self.is_worth_forgetting(held);
        let StoreKey { keyspace, key: bytes, .. } = key;
        let (keyspace, bytes) = (*keyspace, bytes.clone());
        (is_one && self.keyspaces.contains_key(&keyspace)).then(|| Candidate {
            keyspace,
            key: bytes,
            hash: object_hash(key, held),
            is_deleted,
            was_absent: false,
        })
    }

    fn start_round(&mut self, candidates: Vec<Candidate>) {
        let (Some(partition), Some(catalogue)) =
            (self.collection.walk.partition, self.catalogue.clone())
        else {
            return;
        };
        if !self.is_at_rest(partition) {
            return;
        }
        let round = Round {
            partition,
            digest: self.digest,
            step: Step::Mark,
            waiting: BTreeMap::new(),
            until_ms: 0,
            candidates,
            owners: catalogue.ring.owners(partition).collect(),
            members: catalogue.members.keys().copied().collect(),
            agreed: Vec::new(),
            marked: BTreeMap::new(),
            clean: BTreeMap::new(),
            floors: BTreeMap::new(),
            absent: BTreeMap::new(),
        };
        self.collection.round = Some(Box::new(round));
        self.ask_step(Step::Mark);
    }

    /// Asks everyone whom the step concerns.
    fn ask_step(&mut self, step: Step) {
        let until_ms = self.in_ms(STEP_MS);
        let Some(round) = &self.collection.round else { return };
        let nodes = match step {
            Step::Mark | Step::Drop => round.owners.clone(),
            Step::Clean | Step::Fence | Step::Seal => round.members.clone(),
        };
        let asked: Vec<(RequestId, NodeId)> =
            nodes.into_iter().map(|node| (self.number(), node)).collect();
        let Some(round) = &mut self.collection.round else { return };
        round.step = step;
        round.until_ms = until_ms;
        round.agreed = vec![0; round.candidates.len()];
        round.waiting = asked.iter().copied().collect();
        let (partition, digest) = (round.partition, round.digest);
        let asks: Vec<_> =
            asked.into_iter().map(|(request, node)| (request, node, round.ask(node))).collect();
        let (own, others): (Vec<_>, Vec<_>) =
            asks.into_iter().partition(|(_, node, _)| *node == self.id);
        for (request, node, ask) in others {
            self.send(node, Message::Collect { request, partition, digest, ask });
        }
        // Last, because its answer may end the step.
        for (request, node, ask) in own {
            self.collect_asked(node, request, (partition, digest), ask);
        }
    }

    /// A member has answered a step.
    pub(in crate::node) fn collect_answered(
        &mut self,
        from: NodeId,
        request: RequestId,
        result: Result<CollectAnswer, String>,
    ) {
        let Some(round) = &mut self.collection.round else { return };
        if round.waiting.get(&request) != Some(&from) {
            return;
        }
        round.waiting.remove(&request);
        let answer = match result {
            Ok(answer) => answer,
            Err(reason) => return self.give_up(format!("{from}: {reason}")),
        };
        if round.answered(from, answer).is_none() {
            return self.give_up(format!("{from} was restarted, or answers something else"));
        }
        if round.waiting.is_empty() {
            self.next_step();
        }
    }

    fn next_step(&mut self) {
        let Some(round) = &mut self.collection.round else { return };
        if matches!(round.step, Step::Mark | Step::Seal) {
            round.keep_agreed();
            if round.candidates.is_empty() {
                return self.give_up("owners hold different objects".to_owned());
            }
        }
        let next = match round.step {
            Step::Mark => Step::Clean,
            Step::Clean => Step::Fence,
            Step::Fence => Step::Seal,
            Step::Seal => Step::Drop,
            Step::Drop => return self.end_round(),
        };
        self.ask_step(next);
    }

    fn end_round(&mut self) {
        self.collection.round = None;
        self.collection.figures.rounds += 1;
        self.collection.figures.held_up = None;
        self.read_on();
    }

    fn give_up(&mut self, reason: String) {
        if let Some(round) = self.collection.round.take() {
            self.collection.figures.rounds_failed += 1;
            self.collection.figures.held_up = Some(reason.clone());
            self.notice(Notice::NotCollected(round.partition, reason));
        }
    }

    /// A question did not leave this node.
    pub(in crate::node) fn collect_refused(&mut self, to: NodeId, request: RequestId) {
        let round = self.collection.round.as_ref();
        if round.is_some_and(|round| round.waiting.get(&request) == Some(&to)) {
            self.give_up(format!("{to} is not reachable"));
        }
    }
}
