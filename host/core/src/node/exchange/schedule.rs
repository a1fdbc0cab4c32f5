//! When exchanges are made.
//!
//! Every owner walks the pairs of a partition of its own and another owner of it, in an order that
//! it draws anew for each walk, one exchange at a time, at a pace that covers all in
//! [`Settings::exchange_cover_ms`] (0 is never). Both owners do so: a pair is compared twice in that time.
//!
//! Pairs that are *owed* come first and as fast as [`EXCHANGES_MAX`] allows: all of them, after an
//! unclean stop that may have lost what a keyspace of durability `one` or `buffered` had
//! acknowledged, and after a fill. They are tried until the two have been compared, or are no
//! longer both owners.
//!
//! A node whose copy is being filled makes no exchange of that partition; neither does one with a
//! peer that is not reachable. What is skipped comes in the next walk.
//!
//! How many run at a time gives way to the foreground: [`crate::admission`].
//!
//! Left out: what is owed is not kept over a restart; the walk covers it.
//!
//! [`Settings::exchange_cover_ms`]: crate::node::Settings::exchange_cover_ms

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use rand_chacha::rand_core::Rng;

use super::{EXCHANGES_MAX, ExchangeReason};
use crate::catalogue::Durability;
use crate::event::ExchangeOutcome;
use crate::id::{NodeId, PartitionId};
use crate::node::Node;
use crate::node::timers::Timer;

/// How often overdue questions and the schedule are looked at.
const PERIOD_MS: u64 = 250;
/// How long a peer with which an exchange failed is left alone.
const REST_MS: u64 = 1_000;

/// A partition, and another owner of it.
type Pair = (PartitionId, NodeId);

/// What is to be exchanged.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// What is left of the present walk; the last one is next.
    walk: Vec<Pair>,
    /// When the next one is due, and how far apart they are.
    next_ms: u64,
    apart_ms: u64,
    /// What is to be exchanged with each peer as soon as may be.
    owed: BTreeMap<NodeId, Owed>,
    rests: BTreeMap<NodeId, u64>,
}

/// What is owed to one peer. It is gone through in turn, so that what cannot be repaired does not
/// hold up the rest.
#[derive(Debug, Default)]
struct Owed {
    partitions: BTreeSet<PartitionId>,
    behind: Option<PartitionId>,
}

impl Owed {
    /// The next one in turn.
    fn next(&self) -> Option<PartitionId> {
        let from = self.behind.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.partitions.range((from, Bound::Unbounded)).next();
        rest.or_else(|| self.partitions.first()).copied()
    }
}

impl Schedule {
    fn owe(&mut self, pairs: impl IntoIterator<Item = Pair>) {
        for (partition, peer) in pairs {
            self.owed.entry(peer).or_default().partitions.insert(partition);
        }
    }

    fn settle(&mut self, (partition, peer): Pair) {
        if let Some(owed) = self.owed.get_mut(&peer) {
            owed.partitions.remove(&partition);
            if owed.partitions.is_empty() {
                self.owed.remove(&peer);
            }
        }
    }
}

impl Node {
    /// This node may have lost what it had acknowledged: all of its partitions are exchanged with
    /// all other owners, if a keyspace's durability allows such a loss. To be called after an
    /// unclean stop, before the first event.
    pub fn recover(&mut self) {
        let may_lose = |durability: &Durability| *durability != Durability::All;
        if self.keyspaces.values().any(|keyspace| may_lose(&keyspace.durability.value)) {
            self.owe_all_exchanges();
        }
    }

    /// How many exchanges are still owed after an unclean stop or a fill.
    pub fn exchanges_owed(&self) -> usize {
        self.exchanges.schedule.owed.values().map(|owed| owed.partitions.len()).sum()
    }

    /// All pairs are to be exchanged as soon as may be.
    pub(in crate::node) fn owe_all_exchanges(&mut self) {
        let pairs = self.pairs();
        self.exchanges.schedule.owe(pairs);
    }

    /// A partition of this node is to be compared with its other owners as soon as may be.
    pub(super) fn owe_exchanges_of(&mut self, partition: PartitionId) {
        let Some(catalogue) = &self.catalogue else { return };
        let others = catalogue.ring.owners(partition).filter(|owner| *owner != self.id);
        self.exchanges.schedule.owe(others.map(|owner| (partition, owner)));
    }

    /// Every partition that this node serves, with every other node that does.
    fn pairs(&self) -> Vec<Pair> {
        let Some(catalogue) = &self.catalogue else { return Vec::new() };
        let ring = &catalogue.ring;
        let own = ring.partition_ids().filter(|partition| ring.is_owner(*partition, self.id));
        let others = |partition| {
            let others = ring.owners(partition).filter(|owner| *owner != self.id);
            others.map(move |owner| (partition, owner))
        };
        own.flat_map(others).collect()
    }

    fn is_pair(&self, (partition, peer): Pair) -> bool {
        let ring = self.catalogue.as_ref().map(|catalogue| &catalogue.ring);
        ring.is_some_and(|r| r.is_owner(partition, self.id) && r.is_owner(partition, peer))
    }

    /// Looks at what no event tells.
    pub(in crate::node) fn exchange_due(&mut self) {
        self.admission.pass(self.now.monotonic_ms);
        self.overdue_exchanges();
        self.repairs_due();
        self.forget_damage();
        self.go_on_exchanging();
        let at_ms = self.in_ms(PERIOD_MS);
        self.timers.set(at_ms, Timer::Exchange);
    }

    /// Starts what is owed or due.
    pub(super) fn go_on_exchanging(&mut self) {
        while self.scheduled() < self.admission.window(EXCHANGES_MAX) {
            let next = match self.next_owed() {
                Some(pair) => Some((pair, ExchangeReason::Recovery)),
                None => self.next_of_walk().map(|pair| (pair, ExchangeReason::Schedule)),
            };
            let Some(((partition, peer), reason)) = next else { return };
            self.start_exchange(partition, peer, None, reason);
        }
    }

    fn scheduled(&self) -> usize {
        let is_ours =
            |reason| matches!(reason, ExchangeReason::Schedule | ExchangeReason::Recovery);
        self.exchanges.running.values().filter(|exchange| is_ours(exchange.reason)).count()
    }

    fn may_exchange_with(&self, peer: NodeId) -> bool {
        let rests_until_ms = self.exchanges.schedule.rests.get(&peer).copied().unwrap_or(0);
        rests_until_ms <= self.now.monotonic_ms && self.is_reachable(peer)
    }

    fn is_possible(&self, (partition, peer): Pair) -> bool {
        self.may_exchange_with(peer) && !self.is_filling(partition)
    }

    fn next_owed(&mut self) -> Option<Pair> {
        let peers: Vec<NodeId> = self.exchanges.schedule.owed.keys().copied().collect();
        peers.into_iter().find_map(|peer| self.next_owed_to(peer))
    }

    fn next_owed_to(&mut self, peer: NodeId) -> Option<Pair> {
        let tries = self.exchanges.schedule.owed.get(&peer)?.partitions.len();
        for _ in 0..tries {
            let owed = self.exchanges.schedule.owed.get_mut(&peer)?;
            let pair = (owed.next()?, peer);
            owed.behind = Some(pair.0);
            if !self.is_pair(pair) {
                self.exchanges.schedule.settle(pair);
            } else if !self.may_exchange_with(peer) {
                return None;
            } else if !self.is_filling(pair.0)
                && !self.is_exchanging(pair.0, peer, ExchangeReason::Recovery)
            {
                return Some(pair);
            }
        }
        None
    }

    fn next_of_walk(&mut self) -> Option<Pair> {
        let now_ms = self.now.monotonic_ms;
        if now_ms < self.exchanges.schedule.next_ms || self.settings.exchange_cover_ms == 0 {
            return None;
        }
        if self.exchanges.schedule.walk.is_empty() {
            self.draw_walk();
        }
        let mut walk = std::mem::take(&mut self.exchanges.schedule.walk);
        let is_running =
            |(partition, peer): Pair| self.is_exchanging(partition, peer, ExchangeReason::Schedule);
        let is_skipped =
            |pair: Pair| !self.is_pair(pair) || !self.is_possible(pair) || is_running(pair);
        let mut next = walk.pop();
        while next.is_some_and(is_skipped) {
            next = walk.pop();
        }
        let schedule = &mut self.exchanges.schedule;
        schedule.walk = walk;
        // What fell due between two looks at the clock is made up for, a longer pause is not.
        let due_ms = schedule.next_ms.max(now_ms.saturating_sub(PERIOD_MS));
        schedule.next_ms = due_ms + schedule.apart_ms;
        next
    }

    fn draw_walk(&mut self) {
        let mut walk = self.pairs();
        for last in (1..walk.len()).rev() {
            let chosen = (self.rng.next_u64() % (last as u64 + 1)) as usize;
            walk.swap(last, chosen);
        }
        let schedule = &mut self.exchanges.schedule;
        let apart_ms = self.settings.exchange_cover_ms / (walk.len() as u64).max(1);
        schedule.apart_ms = apart_ms.max(1);
        schedule.walk = walk;
    }

    pub(super) fn scheduled_exchange_ended(
        &mut self,
        pair: Pair,
        reason: ExchangeReason,
        outcome: ExchangeOutcome,
    ) {
        let rest_ms = self.in_ms(REST_MS);
        let is_compared = outcome.is_compared();
        if is_compared {
            self.note_mending(pair, outcome.is_peer_whole);
        }
        let schedule = &mut self.exchanges.schedule;
        if is_compared && reason == ExchangeReason::Recovery {
            schedule.settle(pair);
        }
        if !is_compared {
            schedule.rests.insert(pair.1, rest_ms);
        }
    }
}
