//! Leading rounds: an owner goes through the index of what may be forgotten, partition by partition,
//! and asks all members through the steps. A round that does not get on is given up; what it was
//! for is found again by the next pass through the index.
//!
//! All owners of a partition have the same in their index. The first one leads; another one only
//! after it has seen the partition there for a while without being asked to drop anything: it may
//! hold what the first does not.

use std::collections::{BTreeMap, BTreeSet};

use super::round::{Next, Round, Step};
use super::{CANDIDATES_MAX, Collection, KEYS_BYTES_MAX, ROUNDS_MAX, STEP_MS, Wish};
use crate::collect::{Candidate, CollectAnswer, DuePlace, IndexQuery};
use crate::event::{Notice, StoreFailure};
use crate::id::{NodeId, PartitionId, RequestId};
use crate::keys::StoreKey;
use crate::message::Message;
use crate::node::surroundings::Surroundings;
use crate::node::timers::Timer;
use crate::tree::ObjectHash;

/// A partition rests for a period after a round that failed, and for twice as long after each that
/// follows: at most for so many times, as a power of two.
const REST_BITS_MAX: u32 = 5;
/// How many periods an owner gives each one before it to lead.
const PATIENCE_PERIODS: u64 = 10;
/// The most keys that are looked at in a period because they are due.
pub(super) const DUE_MAX: usize = 1_024;

/// A pass through the index.
#[derive(Debug, Default)]
pub(super) struct Pass {
    from: PartitionId,
    after: Option<StoreKey>,
    is_reading: bool,
    is_over: bool,
    /// Partitions that were met.
    met: BTreeSet<PartitionId>,
}

/// All that a node knows of the rounds that it leads.
#[derive(Debug, Default)]
pub(super) struct Leading {
    pass: Pass,
    due_after: Option<DuePlace>,
    is_reading_due: bool,
    /// Keys that are being looked at because they are due.
    pub(super) expiring: usize,
    rounds: BTreeMap<u64, Round>,
    /// Since when partitions of which others are the first owner are in the index.
    waiting_since_ms: BTreeMap<PartitionId, u64>,
    /// How many rounds of a partition have failed in succession, and until when it rests.
    resting: BTreeMap<PartitionId, (u32, u64)>,
}

impl Leading {
    /// Somebody leads rounds of this partition.
    pub(super) fn is_led(&mut self, partition: PartitionId) {
        self.waiting_since_ms.remove(&partition);
    }
}

impl Collection {
    /// Looks at what no event tells, and begins a pass.
    pub(in crate::node) fn due(&mut self, around: &mut dyn Surroundings) {
        let period_ms = around.settings().collect_period_ms;
        if period_ms == 0 {
            return;
        }
        let now_ms = around.now().monotonic_ms;
        self.wish(Wish::At(now_ms + period_ms, Timer::Collect));
        let late = self.leading.rounds.iter().filter(|(_, round)| round.until_ms <= now_ms);
        let late: Vec<_> = late.map(|(id, round)| (*id, round.silent())).collect();
        for (id, silent) in late {
            let reason = silent.map_or_else(String::new, |node| format!("{node} does not answer"));
            self.give_up(around, id, reason);
        }
        if around.is_stopping() {
            return;
        }
        self.read_due(around);
        let away = around.members().into_iter().find(|member| !around.is_reachable(*member));
        if let Some(away) = away {
            self.figures.held_up = Some(format!("{away} is not reachable"));
            return;
        }
        if self.leading.pass.is_over {
            self.leading.pass = Pass::default();
        }
        self.read_on(around);
    }

    /// Reads the next page of the index, while another round may begin.
    fn read_on(&mut self, around: &mut dyn Surroundings) {
        let rounds_max = around.window(ROUNDS_MAX);
        let Leading { pass, rounds, .. } = &mut self.leading;
        if pass.is_reading || pass.is_over || rounds.len() >= rounds_max || around.is_stopping() {
            return;
        }
        pass.is_reading = true;
        let query = IndexQuery::Forgettable { from: pass.from, after: pass.after.clone() };
        self.wish(Wish::ReadIndex(query, CANDIDATES_MAX));
    }

    /// A page of what may be forgotten was read.
    pub(in crate::node) fn forgettable(
        &mut self,
        around: &mut dyn Surroundings,
        result: Result<Vec<(StoreKey, ObjectHash, bool)>, StoreFailure>,
    ) {
        let page = result.unwrap_or_default();
        let Leading { pass, waiting_since_ms, resting, .. } = &mut self.leading;
        pass.is_reading = false;
        let Some((last, ..)) = page.last() else {
            pass.is_over = true;
            waiting_since_ms.retain(|partition, _| pass.met.contains(partition));
            resting.retain(|partition, _| pass.met.contains(partition));
            if pass.met.is_empty() {
                self.figures.held_up = None;
            }
            return;
        };
        let partition = last.partition;
        pass.met.insert(partition);
        pass.from = partition;
        // A store may give fewer than it was asked for: what is behind the last is told by the next.
        pass.after = Some(last.clone());
        if !self.start_round(around, partition, page) {
            let pass = &mut self.leading.pass;
            pass.after = None;
            match partition.0.checked_add(1) {
                Some(next) => pass.from = PartitionId(next),
                None => pass.is_over = true,
            }
        }
        self.read_on(around);
    }

    /// Whether it is for this node to lead rounds of a partition.
    fn leads(&mut self, around: &dyn Surroundings, owners: &[NodeId], p: PartitionId) -> bool {
        let place = owners.iter().position(|owner| *owner == around.me());
        match place {
            None => false,
            Some(0) => true,
            Some(place) => {
                let now_ms = around.now().monotonic_ms;
                let since_ms = *self.leading.waiting_since_ms.entry(p).or_insert(now_ms);
                let patience_ms = PATIENCE_PERIODS * around.settings().collect_period_ms;
                now_ms - since_ms >= patience_ms * place as u64
            }
        }
    }

    /// Starts a round for a page, if there is to be one. Says whether this node leads rounds of the
    /// partition.
    fn start_round(
        &mut self,
        around: &mut dyn Surroundings,
        partition: PartitionId,
        page: Vec<(StoreKey, ObjectHash, bool)>,
    ) -> bool {
        let owners = around.owners(partition);
        let until_ms = self.leading.resting.get(&partition).map_or(0, |(_, until_ms)| *until_ms);
        let is_resting = around.now().monotonic_ms < until_ms;
        if is_resting || !around.is_at_rest(partition) || !self.leads(around, &owners, partition) {
            return false;
        }
        let rounds = self.leading.rounds.values().filter(|round| round.partition == partition);
        let under_way: BTreeSet<_> = rounds.flat_map(Round::names).collect();
        let mut bytes = 0;
        let mut candidates = Vec::new();
        for (StoreKey { keyspace, key, .. }, hash, is_deleted) in page {
            let candidate = Candidate { keyspace, key, hash, is_deleted, was_absent: false };
            let is_known = around.replicas(keyspace).is_some();
            if is_known && bytes < KEYS_BYTES_MAX && !under_way.contains(&candidate.name()) {
                bytes += candidate.key.len();
                candidates.push(candidate);
            }
        }
        if !candidates.is_empty() {
            let id = around.number();
            let scope = around.scope(partition);
            let round = Round::new(partition, scope, (owners, around.members()), candidates);
            self.leading.rounds.insert(id, round);
            self.ask_step(around, id, Step::Mark);
        }
        true
    }

    /// Asks everyone whom the step concerns.
    fn ask_step(&mut self, around: &mut dyn Surroundings, id: u64, step: Step) {
        let Some(round) = self.leading.rounds.get_mut(&id) else { return };
        round.until_ms = around.now().monotonic_ms.saturating_add(STEP_MS);
        let (partition, scope) = (round.partition, round.scope);
        let asks = round.begin(step, || around.number());
        let me = around.me();
        let (own, others): (Vec<_>, Vec<_>) =
            asks.into_iter().partition(|(_, node, _)| *node == me);
        for (request, node, ask) in others {
            let ask = Message::Collect { request, partition, scope, ask };
            self.wish(Wish::Ask(node, request, ask));
        }
        // Last, because its answer may end the step.
        for (request, node, ask) in own {
            self.asked(around, (node, request), (partition, scope), ask);
        }
    }

    fn round_of(&self, from: NodeId, request: RequestId) -> Option<u64> {
        let mut rounds = self.leading.rounds.iter();
        rounds.find(|(_, round)| round.waits_for(from, request)).map(|(id, _)| *id)
    }

    /// A member has answered a step, or does not.
    pub(in crate::node) fn answered(
        &mut self,
        around: &mut dyn Surroundings,
        (from, request): (NodeId, RequestId),
        result: Result<CollectAnswer, String>,
    ) {
        let Some(id) = self.round_of(from, request) else { return };
        let Some(round) = self.leading.rounds.get_mut(&id) else { return };
        match round.answered(from, request, result) {
            Next::Wait => {}
            Next::Step(step) => self.ask_step(around, id, step),
            Next::Done => {
                if let Some(round) = self.leading.rounds.remove(&id) {
                    self.leading.resting.remove(&round.partition);
                }
                self.figures.rounds += 1;
                self.figures.held_up = None;
                self.read_on(around);
            }
            Next::GiveUp(reason) => {
                self.give_up(around, id, reason);
                self.read_on(around);
            }
        }
    }

    fn give_up(&mut self, around: &dyn Surroundings, id: u64, reason: String) {
        if let Some(round) = self.leading.rounds.remove(&id) {
            let (failures, until_ms) = self.leading.resting.entry(round.partition).or_default();
            let rest_ms = around.settings().collect_period_ms << *failures;
            *until_ms = around.now().monotonic_ms.saturating_add(rest_ms);
            *failures = (*failures + 1).min(REST_BITS_MAX);
            self.figures.rounds_failed += 1;
            self.figures.held_up = Some(reason.clone());
            self.wish(Wish::Notice(Notice::NotCollected(round.partition, reason)));
        }
    }

    /// Reads what was to be looked at before all clocks were where they are.
    fn read_due(&mut self, around: &mut dyn Surroundings) {
        let until_ms = self.clocks_passed_ms(around);
        let Leading { is_reading_due, expiring, due_after, .. } = &mut self.leading;
        if until_ms == 0 || *is_reading_due || *expiring > 0 {
            return;
        }
        *is_reading_due = true;
        let query = IndexQuery::Due { until_ms, after: due_after.take() };
        self.wish(Wish::ReadIndex(query, around.window(DUE_MAX)));
    }

    /// A page of what is due was read.
    pub(in crate::node) fn due_read(
        &mut self,
        around: &mut dyn Surroundings,
        result: Result<Vec<DuePlace>, StoreFailure>,
    ) {
        self.leading.is_reading_due = false;
        let page = result.unwrap_or_default();
        // What cannot be dealt with now does not hold up what is behind it.
        self.leading.due_after = page.last().cloned();
        let passed_ms = self.clocks_passed_ms(around);
        for (due_ms, key) in page {
            // A partition that moves is left alone: its next owner lets go by itself.
            if around.replicas(key.keyspace).is_some() && around.is_at_rest(key.partition) {
                self.leading.expiring += 1;
                self.wish(Wish::Expire { key, due_ms, passed_ms });
            }
        }
    }

    /// The store has looked at a key that was due.
    pub(in crate::node) fn expired(&mut self, around: &mut dyn Surroundings) {
        self.leading.expiring = self.leading.expiring.saturating_sub(1);
        if self.leading.expiring == 0 && self.leading.due_after.is_some() && !around.is_stopping() {
            self.read_due(around);
        }
    }
}
