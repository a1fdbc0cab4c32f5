//! When exchanges are made.
//!
//! Every owner walks the pairs of a partition of its own and another owner of it, in an order that
//! it draws anew for each walk, one exchange at a time, at a pace that covers all in
//! [`Settings::exchange_cover_ms`] (0 is never). Both owners do so: a pair is compared twice in that time.
//!
//! Between regions not every pair is walked: of the owners in one region, one on the average compares
//! itself with one in each other region, both drawn by lot. What differs crosses the sea once then, and
//! owners of one region bring it to each other.
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

use super::{EXCHANGES_MAX, ExchangeReason, Exchanges, Pair};
use crate::catalogue::Durability;
use crate::event::ExchangeOutcome;
use crate::id::{NodeId, PartitionId};
use crate::node::surroundings::Surroundings;
use crate::region::Regions;

/// How often the schedule is looked at.
pub(super) const PERIOD_MS: u64 = 250;
/// How long a peer with which an exchange failed is left alone.
const REST_MS: u64 = 1_000;

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
    pub(super) fn owe(&mut self, pairs: impl IntoIterator<Item = Pair>) {
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

/// Every partition that this node serves, with every other node that does.
fn pairs(around: &dyn Surroundings) -> Vec<Pair> {
    let others = |own| around.others(own).into_iter().map(move |other| (own, other));
    served(around).into_iter().flat_map(others).collect()
}

/// The partitions that this node serves.
fn served(around: &dyn Surroundings) -> Vec<PartitionId> {
    let partitions = around.catalogue().into_iter().flat_map(|c| c.ring.partition_ids());
    partitions.filter(|partition| around.is_owner(*partition, around.me())).collect()
}

fn is_pair(around: &dyn Surroundings, (partition, peer): Pair) -> bool {
    around.is_owner(partition, around.me()) && around.is_owner(partition, peer)
}

impl Exchanges {
    /// All pairs are owed, if a keyspace's durability allows that the node has lost something.
    pub(super) fn recover(&mut self, around: &dyn Surroundings) {
        let mut durabilities = around.keyspaces().values().map(|k| k.durability.value);
        if durabilities.any(|durability| durability != Durability::All) {
            self.owe_all(around);
        }
    }

    /// All pairs are to be exchanged as soon as may be.
    pub(in crate::node) fn owe_all(&mut self, around: &dyn Surroundings) {
        self.schedule.owe(pairs(around));
    }

    /// How many exchanges are owed.
    pub(super) fn owed(&self) -> usize {
        self.schedule.owed.values().map(|owed| owed.partitions.len()).sum()
    }

    /// Starts what is owed or due.
    pub(super) fn go_on(&mut self, around: &mut dyn Surroundings) {
        while self.scheduled() < around.window(EXCHANGES_MAX) {
            let next = match self.next_owed(around) {
                Some(pair) => Some((pair, ExchangeReason::Recovery)),
                None => self.next_of_walk(around).map(|pair| (pair, ExchangeReason::Schedule)),
            };
            let Some((pair, reason)) = next else { return };
            self.start(around, pair, None, reason);
        }
    }

    fn scheduled(&self) -> usize {
        let is_ours =
            |reason| matches!(reason, ExchangeReason::Schedule | ExchangeReason::Recovery);
        self.running.values().filter(|exchange| is_ours(exchange.reason)).count()
    }

    fn may_exchange_with(&self, around: &dyn Surroundings, peer: NodeId) -> bool {
        let rests_until_ms = self.schedule.rests.get(&peer).copied().unwrap_or(0);
        rests_until_ms <= around.now().monotonic_ms && around.is_reachable(peer)
    }

    fn next_owed(&mut self, around: &dyn Surroundings) -> Option<Pair> {
        let peers: Vec<NodeId> = self.schedule.owed.keys().copied().collect();
        peers.into_iter().find_map(|peer| self.next_owed_to(around, peer))
    }

    fn next_owed_to(&mut self, around: &dyn Surroundings, peer: NodeId) -> Option<Pair> {
        let tries = self.schedule.owed.get(&peer)?.partitions.len();
        for _ in 0..tries {
            let owed = self.schedule.owed.get_mut(&peer)?;
            let pair = (owed.next()?, peer);
            owed.behind = Some(pair.0);
            if !is_pair(around, pair) {
                self.schedule.settle(pair);
            } else if !self.may_exchange_with(around, peer) {
                return None;
            } else if !around.is_filling(pair.0)
                && !self.is_under_way(pair, ExchangeReason::Recovery)
            {
                return Some(pair);
            }
        }
        None
    }

    fn next_of_walk(&mut self, around: &mut dyn Surroundings) -> Option<Pair> {
        let (now_ms, cover_ms) = (around.now().monotonic_ms, around.settings().exchange_cover_ms);
        if now_ms < self.schedule.next_ms || cover_ms == 0 {
            return None;
        }
        if self.schedule.walk.is_empty() {
            self.schedule.walk = drawn(around);
            let count = self.schedule.walk.len() as u64;
            self.schedule.apart_ms = (cover_ms / count.max(1)).max(1);
        }
        let mut walk = std::mem::take(&mut self.schedule.walk);
        let is_possible = |pair: &Pair| {
            is_pair(around, *pair)
                && self.may_exchange_with(around, pair.1)
                && !around.is_filling(pair.0)
                && !self.is_under_way(*pair, ExchangeReason::Schedule)
        };
        let next = std::iter::from_fn(|| walk.pop()).find(is_possible);
        let schedule = &mut self.schedule;
        schedule.walk = walk;
        // What fell due between two looks at the clock is made up for, a longer pause is not.
        let due_ms = schedule.next_ms.max(now_ms.saturating_sub(PERIOD_MS));
        schedule.next_ms = due_ms + schedule.apart_ms;
        next
    }

    pub(super) fn scheduled_ended(
        &mut self,
        around: &dyn Surroundings,
        pair: Pair,
        reason: ExchangeReason,
        outcome: ExchangeOutcome,
    ) {
        if !outcome.is_compared() {
            self.schedule.rests.insert(pair.1, around.in_ms(REST_MS));
            return;
        }
        self.note_mending(pair, outcome.is_peer_whole);
        if reason == ExchangeReason::Recovery {
            self.schedule.settle(pair);
        }
    }
}

/// All pairs of a region, and some between regions.
fn near_pairs(around: &mut dyn Surroundings, regions: &Regions) -> Vec<Pair> {
    let mut walk = Vec::new();
    let me = around.me();
    for partition in served(around) {
        let (near, far): (Vec<NodeId>, Vec<NodeId>) =
            around.others(partition).into_iter().partition(|other| regions.are_near(*other, me));
        let is_there = |other: &NodeId| around.is_reachable(*other);
        let takers = 1 + near.iter().filter(|other| is_there(other)).count();
        let far: Vec<NodeId> = far.into_iter().filter(is_there).collect();
        walk.extend(near.into_iter().map(|other| (partition, other)));
        for there in regions.split(far) {
            if around.random().is_multiple_of(takers as u64) {
                walk.push((partition, there[(around.random() % there.len() as u64) as usize]));
            }
        }
    }
    walk
}

/// What is to be compared, in an order of its own.
fn drawn(around: &mut dyn Surroundings) -> Vec<Pair> {
    let mut walk = match around.regions() {
        Some(regions) => near_pairs(around, &regions),
        None => pairs(around),
    };
    for last in (1..walk.len()).rev() {
        let chosen = (around.random() % (last as u64 + 1)) as usize;
        walk.swap(last, chosen);
    }
    walk
}
