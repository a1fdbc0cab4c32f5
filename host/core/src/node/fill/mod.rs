//! The partition fill: a node whose data store was lost gets it back from the other owners.
//!
//! The store starts empty, in a fresh incarnation. For each partition that the node owns, it makes
//! an exchange with every other owner that only takes ([`super::exchange`]): each object runs
//! through the one write path, synced. Until it has caught up with a partition ([`super::catchup`])
//! the node cannot tell what it held of it, so it answers no read of it, not even its own as a
//! coordinator, and no read quorum counts it.
//!
//! A node that was made an owner without being handed the partition ([`super::transfer`]) is filled
//! likewise, and, however long it takes, by those who served it before, too, unless they were
//! removed. They may not have heard of it and serve on: until they were read under the new ring
//! this node takes no writes of the partition, as two in one place would make quorums miss each
//! other.
//!
//! # Writes
//! are stored and acknowledged as ever, and count for w: the copy is real and synced as its
//! keyspace says, and it will be counted by reads only when the fill is over, with it. Reads
//! meanwhile need r of the other n - 1, of which w - 1 hold the write: r + (w - 1) > n - 1 as
//! r + w > n. Hints that were kept for this node are delivered and acknowledged like before.
//!
//! # Limits
//! One exchange goes on per source and [`STREAMS_MAX`] in all, each with one batch of objects in
//! flight, which are synced before the next is asked for. So at most that much of the store's
//! queue and of the links is taken from clients, and less of it while the foreground is slow
//! ([`crate::admission`]). An exchange that goes on though its partition is done stores nothing that
//! collection does not wait for ([`super::collect`]).
//!
//! What is left is kept on disk ([`Backlog`]), about once a second: a restart goes on there. A
//! partition that was half copied is compared again, and a further loss starts all over.
//!
//! Left out: filling after an unclean stop, which keyspaces of durability `one` and `buffered`
//! need; hints that were lost with their store.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::Node;
use super::catchup::Catchup;
use super::exchange::ExchangeReason;
use super::timers::Timer;
use crate::event::{Backlog, ExchangeEnd, ExchangeOutcome, FillFigures, Notice};
use crate::id::{NodeId, PartitionId};
use crate::ring::Ring;

/// The most exchanges of a fill at a time.
pub const STREAMS_MAX: usize = 2;
/// How often resting sources and the patience are looked at.
const PERIOD_MS: u64 = 250;
/// How often what is left is persisted while it shrinks.
const PERSIST_PERIOD_MS: u64 = 1_000;
/// How long a source is left alone after a failure.
const REST_MS: u64 = 1_000;

/// A fill under way.
#[derive(Debug)]
pub(super) struct Fill {
    loss: u64,
    /// Partitions that are not done.
    left: BTreeMap<PartitionId, Filling>,
    sources: BTreeMap<NodeId, Source>,
    partitions: usize,
    objects_copied: u64,
    persisted_ms: u64,
    /// What was told and persisted last.
    told: FillFigures,
    persisted_left: usize,
}

/// A partition that is being filled.
#[derive(Debug)]
struct Filling {
    catchup: Catchup,
    /// Those who served it before, and are to be read whether they own it or not.
    also: BTreeSet<NodeId>,
}

/// Another owner. It is read in the order of the partitions.
#[derive(Debug, Default)]
struct Source {
    /// The partition that was exchanged last.
    behind: Option<PartitionId>,
    /// Whether anything was passed over since the first one.
    has_failed: bool,
    rests_until_ms: u64,
}

impl Fill {
    fn new(loss: u64, now_ms: u64) -> Self {
        Fill {
            loss,
            left: BTreeMap::new(),
            sources: BTreeMap::new(),
            partitions: 0,
            objects_copied: 0,
            persisted_ms: now_ms,
            told: FillFigures::default(),
            persisted_left: usize::MAX,
        }
    }

    fn figures(&self) -> FillFigures {
        FillFigures {
            partitions: self.partitions,
            partitions_left: self.left.len(),
            objects_copied: self.objects_copied,
        }
    }

    fn backlog(&self) -> Backlog {
        let left = Some(self.left.keys().copied().collect());
        let with_also = self.left.iter().filter(|(_, filling)| !filling.also.is_empty());
        let also = with_also.map(|(p, filling)| (*p, filling.also.clone())).collect();
        Backlog { loss: self.loss, left, also }
    }

    /// Whether `node` holds something that is needed of `partition`.
    fn is_source(&self, ring: &Ring, partition: PartitionId, node: NodeId) -> bool {
        let filling = self.left.get(&partition);
        filling.is_some_and(|f| f.also.contains(&node) || ring.is_owner(partition, node))
    }

    /// The next partition of which `node` has something and has not given it whole.
    fn next_of(&self, ring: &Ring, node: NodeId) -> Option<PartitionId> {
        let behind = self.sources.get(&node)?.behind;
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let mut left = self.left.range((from, Bound::Unbounded));
        let (partition, _) = left.find(|(partition, filling)| {
            !filling.catchup.has_read_whole(node) && self.is_source(ring, **partition, node)
        })?;
        Some(*partition)
    }
}

impl Node {
    /// The data store was lost, and what `backlog` names is to be filled by the other owners.
    /// To be called before the first event; does nothing on a node without a catalogue.
    pub fn fill(&mut self, backlog: Backlog) {
        self.last_loss = backlog.loss;
        let Some(catalogue) = self.catalogue.clone() else { return };
        let ring = &catalogue.ring;
        let is_left = |p: &PartitionId| backlog.left.as_ref().is_none_or(|left| left.contains(p));
        let left = ring.partition_ids().filter(is_left);
        let also = |p: PartitionId| backlog.also.get(&p).cloned().unwrap_or_default();
        let wanted = left.map(|partition| (partition, also(partition))).collect();
        self.fill = None;
        if !self.add_to_fill(wanted) {
            self.save_backlog(Backlog::nothing(backlog.loss), false);
        }
    }

    /// This node serves partitions of which it cannot tell whether it holds them: they are filled,
    /// too, before they count, also by those who are given.
    pub(super) fn fill_again(&mut self, partitions: BTreeMap<PartitionId, BTreeSet<NodeId>>) {
        if self.add_to_fill(partitions) {
            let backlog = self.backlog();
            self.save_backlog(backlog, true);
        }
    }

    /// What is left.
    pub(super) fn backlog(&self) -> Backlog {
        self.fill.as_ref().map_or_else(|| Backlog::nothing(self.last_loss), |fill| fill.backlog())
    }

    /// Has these partitions filled, beside those that are. Whether there was one to add.
    fn add_to_fill(&mut self, partitions: BTreeMap<PartitionId, BTreeSet<NodeId>>) -> bool {
        let Some(catalogue) = self.catalogue.clone() else { return false };
        let now_ms = self.now.monotonic_ms;
        let is_running = self.fill.is_some();
        let mut fill =
            self.fill.take().unwrap_or_else(|| Box::new(Fill::new(self.last_loss, now_ms)));
        let (mut added, mut alone) = (0, 0);
        for (partition, also) in partitions {
            let owners: Vec<NodeId> = catalogue.ring.owners(partition).collect();
            if !owners.contains(&self.id) {
                continue;
            }
            added += 1;
            alone += usize::from(owners.len() == 1);
            // What was read of it counts for nothing: this node was no owner meanwhile.
            let before = fill.left.remove(&partition);
            fill.partitions += usize::from(before.is_none());
            let mut also: BTreeSet<NodeId> =
                before.into_iter().flat_map(|filling| filling.also).chain(also).collect();
            also.remove(&self.id);
            fill.left.insert(partition, Filling { catchup: Catchup::new(now_ms), also });
        }
        if fill.left.is_empty() {
            return false;
        }
        let figures = fill.figures();
        self.fill = Some(fill);
        if !is_running {
            self.notice(Notice::FillStarted(figures));
            self.timers.set(now_ms, Timer::Fill);
        }
        if alone > 0 {
            self.notice(Notice::DataLost(alone));
        }
        added > 0
    }

    /// Whether the node cannot tell yet what it held of `partition`.
    pub fn is_filling(&self, partition: PartitionId) -> bool {
        self.fill.as_ref().is_some_and(|fill| fill.left.contains_key(&partition))
    }

    /// Whether another node may still serve `partition` in the place that this one was given: both
    /// must not take writes. That one, `from`, may send what it has.
    pub(super) fn is_served_elsewhere(&self, partition: PartitionId, from: NodeId) -> bool {
        let (Some(fill), Some(catalogue)) = (&self.fill, &self.catalogue) else { return false };
        let Some(Filling { catchup, also }) = fill.left.get(&partition) else { return false };
        let is_open =
            |node: &NodeId| !catchup.has_read(*node) && catalogue.members.contains_key(node);
        !also.contains(&from) && also.iter().any(is_open)
    }

    /// How far the fill is, while there is one.
    pub fn fill_figures(&self) -> Option<FillFigures> {
        self.fill.as_ref().map(|fill| fill.figures())
    }

    /// Looks at what no event tells.
    pub(super) fn fill_due(&mut self) {
        let (Some(mut fill), Some(catalogue)) = (self.fill.take(), self.catalogue.clone()) else {
            return;
        };
        let ring = &catalogue.ring;
        // The ring may have changed: what is not this node's any more need not be filled, and
        // others may be its sources.
        fill.left.retain(|partition, _| ring.is_owner(*partition, self.id));
        let done: Vec<PartitionId> =
            fill.left.keys().copied().filter(|p| self.is_done(&fill, *p)).collect();
        done.iter().for_each(|partition| drop(fill.left.remove(partition)));
        for (partition, filling) in &fill.left {
            let sources = ring.owners(*partition).chain(filling.also.iter().copied());
            for other in sources.filter(|owner| *owner != self.id) {
                fill.sources.entry(other).or_default();
            }
        }
        self.fill = Some(fill);
        self.go_on_filling();
        if self.fill.is_some() {
            let at_ms = self.in_ms(PERIOD_MS);
            self.timers.set(at_ms, Timer::Fill);
        }
    }

    /// Asks sources for what is left, or ends the fill.
    fn go_on_filling(&mut self) {
        let Some(fill) = &mut self.fill else { return };
        let (figures, loss) = (fill.figures(), fill.loss);
        if fill.left.is_empty() {
            self.fill = None;
            self.save_backlog(Backlog::nothing(loss), false);
            // What other owners lack of each other, and what changed behind an exchange.
            self.exchanging(|exchanges, around| exchanges.owe_all(around));
            return self.notice(Notice::FillEnded(figures));
        }
        let now_ms = self.now.monotonic_ms;
        let is_persist_due = fill.persisted_ms + PERSIST_PERIOD_MS <= now_ms;
        let mut backlog = None;
        if is_persist_due && fill.persisted_left != fill.left.len() {
            (fill.persisted_ms, fill.persisted_left) = (now_ms, fill.left.len());
            backlog = Some(fill.backlog());
        }
        let is_news = fill.told != figures;
        fill.told = figures;
        backlog.into_iter().for_each(|backlog| self.save_backlog(backlog, false));
        if is_news {
            self.notice(Notice::FillProgress(figures));
        }
        self.ask_sources();
    }

    fn ask_sources(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let busy = self.exchanges.made_for(ExchangeReason::Fill);
        let mut free = self.admission.window(STREAMS_MAX).saturating_sub(busy.len());
        let (Some(fill), Some(catalogue)) = (&mut self.fill, self.catalogue.clone()) else {
            return;
        };
        let is_free = |(node, source): &(&NodeId, &Source)| {
            source.rests_until_ms <= now_ms && busy.iter().all(|(_, peer)| peer != *node)
        };
        let mut order: Vec<(Option<PartitionId>, NodeId)> =
            fill.sources.iter().filter(is_free).map(|(node, s)| (s.behind, *node)).collect();
        // Who is behind first, so that partitions are done one by one.
        order.sort_unstable();
        let mut next = Vec::new();
        for (_, node) in order.into_iter().filter(|(_, node)| self.detector.is_reachable(*node)) {
            if free == 0 {
                break;
            }
            match fill.next_of(&catalogue.ring, node) {
                Some(partition) => {
                    next.push((partition, node));
                    free -= 1;
                }
                // Through. What it did not hold whole then, it may hold now.
                None => {
                    let has_failed = fill.sources.get(&node).is_some_and(|s| s.has_failed);
                    let rest_ms = if has_failed { REST_MS } else { self.settings.fill_patience_ms };
                    let rests_until_ms = now_ms + rest_ms;
                    fill.sources.insert(node, Source { rests_until_ms, ..Source::default() });
                }
            }
        }
        for (partition, node) in next {
            self.start_exchange((partition, node), ExchangeReason::Fill);
        }
    }

    /// All that `peer` holds of `partition` was taken over, or could not be.
    pub(super) fn fill_exchange_ended(
        &mut self,
        partition: PartitionId,
        peer: NodeId,
        outcome: ExchangeOutcome,
    ) {
        let rest_ms = self.in_ms(REST_MS);
        let Some(fill) = &mut self.fill else { return };
        fill.objects_copied += outcome.figures.keys_repaired;
        if let Some(source) = fill.sources.get_mut(&peer) {
            // What cannot be stored here must not hold up all other partitions.
            if matches!(outcome.end, ExchangeEnd::Equal | ExchangeEnd::Different) {
                source.behind = Some(partition);
            }
            if !outcome.is_compared() {
                source.rests_until_ms = rest_ms;
                source.has_failed = true;
            }
        }
        if outcome.is_compared()
            && let Some(filling) = fill.left.get_mut(&partition)
        {
            filling.catchup.note(peer, outcome.is_peer_whole);
        }
        if let Some(mut fill) = self.fill.take() {
            if self.is_done(&fill, partition) {
                fill.left.remove(&partition);
            }
            self.fill = Some(fill);
        }
        self.go_on_filling();
    }

    /// Whether a partition counts for reads again, see the module's head.
    fn is_done(&self, fill: &Fill, partition: PartitionId) -> bool {
        let (Some(catalogue), Some(filling)) = (&self.catalogue, fill.left.get(&partition)) else {
            return false;
        };
        let is_gone = |node: &NodeId| !catalogue.members.contains_key(node);
        let mut also = filling.also.iter();
        // What is being dropped takes with it what was copied.
        !self.is_dropping_any(partition)
            && also.all(|node| filling.catchup.has_read(*node) || is_gone(node))
            && filling.catchup.is_enough(self, partition, Some(self.id))
    }
}
