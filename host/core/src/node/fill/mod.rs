//! The partition fill: a node whose data store was lost gets it back from the other owners.
//!
//! The store starts empty, in a fresh incarnation. For each partition that the node owns, it
//! reads what every other owner holds of it, page by page, and runs each object through the one
//! write path, synced. Until a partition is *done* the node cannot tell what it held of it, so it
//! answers no read of it, not even its own as a coordinator, and no read quorum counts it.
//!
//! # When a partition is done
//! A write that was acknowledged by w owners, this one among them, is held by w - 1 of the other
//! n - 1. So of any n - w + 1 others at least one holds it. A partition is done when the node has
//! exchanged it
//! - with all other owners: then all that exists was copied, even if some of them are being
//!   filled too, or else two nodes that lose their disks would wait for each other for ever. An
//!   owner that was removed has nothing to give any more;
//! - or, once the fill has lasted [`Settings::fill_patience_ms`], for each keyspace with
//!   min(n - w + 1, n - 1) *whole* others: not being filled, and without a damaged record there.
//!
//! and, however long it takes, with those who served it when this node was made its owner without
//! being handed it ([`super::transfer`]), unless they were removed. They may not have heard of it
//! and serve on: until they were read under the new ring this node takes no writes of the
//! partition, as two in one place would make quorums miss each other.
//!
//! The patience is not politeness. An acknowledgement that left before the loss may be counted
//! after it, together with others that are given after their giver was read; only who minted is
//! certain to hold such a write. All others include it, and once the patience is over such
//! puts have ended.
//!
//! w is the keyspace's. A put that asked for less is certain to be found only by the first rule;
//! so is one from before w was raised. What is missed is not lost: its other copies are there, and
//! a get that meets one repairs this node.
//!
//! # Writes
//! are stored and acknowledged as ever, and count for w: the copy is real and synced as its
//! keyspace says, and it will be counted by reads only when the fill is over, with it. Reads
//! meanwhile need r of the other n - 1, of which w - 1 hold the write: r + (w - 1) > n - 1 as
//! r + w > n. Hints that were kept for this node are delivered and acknowledged like before.
//!
//! # Limits
//! One page is in flight per source and [`STREAMS_MAX`] in all, each of [`PAGE_BYTES_MAX`] or
//! [`PAGE_OBJECTS_MAX`] and at most one object beyond; the next is asked for when the last is
//! synced. So at most that much of the store's queue and of the links is taken from clients, and
//! less of it while the foreground is slow ([`crate::admission`]).
//!
//! What is left is kept on disk ([`Backlog`]), about once a second: a restart goes on there. A
//! partition that was half copied starts over, and a further loss starts all over.
//!
//! Left out: filling after an unclean stop, which keyspaces of durability `one` and `buffered`
//! need; hints that were lost with their store.
//!
//! [`Settings::fill_patience_ms`]: super::Settings::fill_patience_ms

mod pages;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use super::Node;
use super::timers::Timer;
use crate::event::{Action, Backlog, FillFigures, Notice};
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::message::RequestId;
use crate::ring::Ring;

/// The most pages in flight.
pub const STREAMS_MAX: usize = 2;
/// A page ends with the object that goes beyond this.
pub const PAGE_BYTES_MAX: usize = 256 << 10;
/// The most objects of a page.
pub const PAGE_OBJECTS_MAX: usize = 256;
/// How often overdue pages, resting sources and the patience are looked at.
const PERIOD_MS: u64 = 250;
/// How often what is left is persisted while it shrinks.
const PERSIST_PERIOD_MS: u64 = 1_000;
/// How long a source is left alone after a failure.
const REST_MS: u64 = 1_000;

/// Where a page starts: behind this key.
type Cursor = Option<(KeyspaceId, Bytes)>;

/// A fill under way.
#[derive(Debug)]
pub(super) struct Fill {
    loss: u64,
    /// Partitions that are not done, with those they were exchanged with, and whether these
    /// were whole.
    left: BTreeMap<PartitionId, BTreeMap<NodeId, bool>>,
    /// Those who served a partition and own it no more.
    also: BTreeMap<PartitionId, BTreeSet<NodeId>>,
    sources: BTreeMap<NodeId, Source>,
    partitions: usize,
    objects_copied: u64,
    started_ms: u64,
    persisted_ms: u64,
    /// What was told and persisted last.
    told: FillFigures,
    persisted_left: usize,
}

/// Another owner. It is read in the order of the partitions.
#[derive(Debug, Default)]
struct Source {
    /// The partition that was exchanged last.
    behind: Option<PartitionId>,
    rests_until_ms: u64,
    stream: Option<Stream>,
}

/// One partition on its way from one source.
#[derive(Debug)]
struct Stream {
    partition: PartitionId,
    after: Cursor,
    is_whole: bool,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// The next page is to be asked for.
    Idle,
    /// It was asked for.
    Asked { request: RequestId, due_ms: u64 },
    /// It is being stored.
    Storing { request: RequestId, waiting: usize, has_failed: bool, next: Cursor },
}

impl Source {
    fn is_busy(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !matches!(stream.step, Step::Idle))
    }

    /// The page that was asked for does not come. It is asked for again after a rest.
    fn rest(&mut self, until_ms: u64) {
        self.rests_until_ms = until_ms;
        if let Some(stream) = &mut self.stream {
            stream.step = Step::Idle;
        }
    }

    /// The stream whose page was asked for by `request`.
    fn asked(&mut self, request: RequestId) -> Option<&mut Stream> {
        let is_it = |step: &Step| matches!(step, Step::Asked { request: r, .. } if *r == request);
        self.stream.as_mut().filter(|stream| is_it(&stream.step))
    }
}

impl Fill {
    fn figures(&self) -> FillFigures {
        FillFigures {
            partitions: self.partitions,
            partitions_left: self.left.len(),
            objects_copied: self.objects_copied,
        }
    }

    fn backlog(&self) -> Backlog {
        let left = Some(self.left.keys().copied().collect());
        let mut also = self.also.clone();
        also.retain(|partition, _| self.left.contains_key(partition));
        Backlog { loss: self.loss, left, also }
    }

    /// Whether `node` holds something that is needed of `partition`.
    fn is_source(&self, ring: &Ring, partition: PartitionId, node: NodeId) -> bool {
        self.left.contains_key(&partition)
            && (ring.is_owner(partition, node)
                || self.also.get(&partition).is_some_and(|also| also.contains(&node)))
    }
}

impl Node {
    /// The data store was lost, and what `backlog` names is to be filled by the other owners.
    /// To be called before the first event; does nothing on a node without a catalogue.
    pub fn fill(&mut self, backlog: Backlog) {
        self.last_loss = backlog.loss;
        let Some(catalogue) = &self.catalogue else { return };
        let ring = &catalogue.ring;
        let mut left = BTreeMap::new();
        let mut sources: BTreeMap<NodeId, Source> = BTreeMap::new();
        let mut alone = 0;
        for partition in (0..ring.partitions()).filter_map(|p| u16::try_from(p).ok()) {
            let partition = PartitionId(partition);
            let is_left = backlog.left.as_ref().is_none_or(|left| left.contains(&partition));
            let owners: Vec<NodeId> = ring.owners(partition).collect();
            if !is_left || !owners.contains(&self.id) {
                continue;
            }
            left.insert(partition, BTreeMap::new());
            alone += usize::from(owners.len() == 1);
            let also = backlog.also.get(&partition).into_iter().flatten().copied();
            for other in owners.into_iter().chain(also).filter(|owner| *owner != self.id) {
                sources.entry(other).or_default();
            }
        }
        if left.is_empty() {
            return self.act(Action::PersistFill(Backlog::nothing(backlog.loss)));
        }
        let (partitions, started_ms) = (left.len(), self.now.monotonic_ms);
        let fill = Fill {
            loss: backlog.loss,
            persisted_left: usize::MAX,
            left,
            also: backlog.also,
            sources,
            partitions,
            objects_copied: 0,
            started_ms,
            persisted_ms: started_ms,
            told: FillFigures::default(),
        };
        self.notice(Notice::FillStarted(fill.figures()));
        if alone > 0 {
            self.notice(Notice::DataLost(alone));
        }
        self.fill = Some(Box::new(fill));
        self.timers.set(started_ms, Timer::Fill);
    }

    /// This node serves partitions of which it cannot tell whether it holds them: they are filled,
    /// too, before they count, also by those who are given.
    pub(super) fn fill_again(&mut self, partitions: BTreeMap<PartitionId, BTreeSet<NodeId>>) {
        let mut all: BTreeSet<PartitionId> = partitions.keys().copied().collect();
        let mut also = partitions;
        if let Some(fill) = &self.fill {
            all.extend(fill.left.keys());
            for (partition, nodes) in &fill.also {
                also.entry(*partition).or_default().extend(nodes);
            }
        }
        also.retain(|_, nodes| !nodes.is_empty());
        self.fill(Backlog { loss: self.last_loss, left: Some(all), also });
        if let Some(fill) = &self.fill {
            let backlog = fill.backlog();
            self.act(Action::PersistFill(backlog));
        }
    }

    /// Whether the node cannot tell yet what it held of `partition`.
    pub fn is_filling(&self, partition: PartitionId) -> bool {
        self.fill.as_ref().is_some_and(|fill| fill.left.contains_key(&partition))
    }

    /// Whether another node may still serve `partition` in the place that this one was given: both
    /// must not take writes. That one, `from`, may send what it has.
    pub(super) fn is_served_elsewhere(&self, partition: PartitionId, from: NodeId) -> bool {
        let (Some(fill), Some(catalogue)) = (&self.fill, &self.catalogue) else { return false };
        let (Some(exchanged), Some(also)) = (fill.left.get(&partition), fill.also.get(&partition))
        else {
            return false;
        };
        let is_open =
            |node: &NodeId| !exchanged.contains_key(node) && catalogue.members.contains_key(node);
        !also.contains(&from) && also.iter().any(is_open)
    }

    /// How far the fill is, while there is one.
    pub fn fill_figures(&self) -> Option<FillFigures> {
        self.fill.as_ref().map(|fill| fill.figures())
    }

    /// Looks at what no event tells.
    pub(super) fn fill_due(&mut self) {
        let Some(mut fill) = self.fill.take() else { return };
        let (now_ms, rest_ms) = (self.now.monotonic_ms, self.in_ms(REST_MS));
        for source in fill.sources.values_mut() {
            let step = source.stream.as_ref().map(|stream| &stream.step);
            if matches!(step, Some(Step::Asked { due_ms, .. }) if *due_ms <= now_ms) {
                source.rest(rest_ms);
            }
        }
        self.follow_ring(&mut fill);
        let done: Vec<PartitionId> =
            fill.left.keys().copied().filter(|p| self.is_done(&fill, *p)).collect();
        done.iter().for_each(|partition| drop(fill.left.remove(partition)));
        self.fill = Some(fill);
        self.go_on_filling();
        if self.fill.is_some() {
            let at_ms = self.in_ms(PERIOD_MS);
            self.timers.set(at_ms, Timer::Fill);
        }
    }

    /// The ring may have changed: what is not this node's any more need not be filled, and others
    /// may be its sources.
    fn follow_ring(&self, fill: &mut Fill) {
        let Some(catalogue) = &self.catalogue else { return };
        let ring = &catalogue.ring;
        fill.left.retain(|partition, _| ring.is_owner(*partition, self.id));
        for partition in fill.left.keys() {
            for other in ring.owners(*partition).filter(|owner| *owner != self.id) {
                fill.sources.entry(other).or_default();
            }
        }
        let mut sources = std::mem::take(&mut fill.sources);
        for (node, source) in &mut sources {
            let is_void = |stream: &mut Stream| {
                matches!(stream.step, Step::Idle) && !fill.is_source(ring, stream.partition, *node)
            };
            drop(source.stream.take_if(is_void));
        }
        fill.sources = sources;
    }

    /// Asks sources for what is left, or ends the fill.
    fn go_on_filling(&mut self) {
        let Some(mut fill) = self.fill.take() else { return };
        let figures = fill.figures();
        if fill.left.is_empty() {
            self.act(Action::PersistFill(Backlog::nothing(fill.loss)));
            // What other owners lack of each other, and what changed behind a page.
            self.owe_all_exchanges();
            return self.notice(Notice::FillEnded(figures));
        }
        let now_ms = self.now.monotonic_ms;
        let is_persist_due = fill.persisted_ms + PERSIST_PERIOD_MS <= now_ms;
        if is_persist_due && fill.persisted_left != fill.left.len() {
            (fill.persisted_ms, fill.persisted_left) = (now_ms, fill.left.len());
            self.act(Action::PersistFill(fill.backlog()));
        }
        if fill.told != figures {
            fill.told = figures;
            self.notice(Notice::FillProgress(figures));
        }
        self.ask_sources(&mut fill);
        self.fill = Some(fill);
    }

    fn ask_sources(&mut self, fill: &mut Fill) {
        let now_ms = self.now.monotonic_ms;
        let streams = self.admission.window(STREAMS_MAX);
        let mut free =
            streams.saturating_sub(fill.sources.values().filter(|s| s.is_busy()).count());
        let mut order: Vec<NodeId> = fill.sources.keys().copied().collect();
        // What was begun first, then who is behind, so that partitions are done one by one.
        order.sort_by_key(|node| {
            let source = &fill.sources[node];
            (source.stream.is_none(), source.behind)
        });
        for node in order {
            if free == 0 {
                return;
            }
            let is_reachable = self.is_reachable(node);
            let Some(source) = fill.sources.get(&node) else { continue };
            if source.is_busy() || source.rests_until_ms > now_ms || !is_reachable {
                continue;
            }
            let next = match source.stream {
                None => self.next_stream(fill, (node, source.behind)),
                Some(_) => None,
            };
            let Some(source) = fill.sources.get_mut(&node) else { continue };
            source.stream = source.stream.take().or(next);
            if source.stream.is_none() {
                // Through. What it did not hold whole then, it may hold now.
                source.behind = None;
                source.rests_until_ms = now_ms + self.settings.fill_patience_ms;
                continue;
            }
            self.ask_for_page(node, source);
            free -= 1;
        }
    }

    /// The next partition of which `source` has something and has not given it whole.
    fn next_stream(
        &self,
        fill: &Fill,
        (source, behind): (NodeId, Option<PartitionId>),
    ) -> Option<Stream> {
        let ring = &self.catalogue.as_ref()?.ring;
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let mut left = fill.left.range((from, Bound::Unbounded));
        let (partition, _) = left.find(|(partition, exchanged)| {
            exchanged.get(&source) != Some(&true) && fill.is_source(ring, **partition, source)
        })?;
        let partition = *partition;
        Some(Stream { partition, after: None, is_whole: true, step: Step::Idle })
    }

    /// Whether enough owners were read, see the module's head.
    fn is_done(&self, fill: &Fill, partition: PartitionId) -> bool {
        let (Some(catalogue), Some(exchanged)) = (&self.catalogue, fill.left.get(&partition))
        else {
            return false;
        };
        let owners: Vec<NodeId> = catalogue.ring.owners(partition).collect();
        let is_gone = |owner: &NodeId| !catalogue.members.contains_key(owner);
        let is_read =
            |owner: &NodeId| *owner == self.id || exchanged.contains_key(owner) || is_gone(owner);
        if !fill.also.get(&partition).into_iter().flatten().all(is_read) {
            return false;
        }
        if owners.iter().all(is_read) {
            return true;
        }
        if self.now.monotonic_ms < fill.started_ms + self.settings.fill_patience_ms {
            return false;
        }
        self.keyspaces.values().all(|keyspace| {
            let quorums = keyspace.quorums.value;
            let owners = &owners[..owners.len().min(quorums.n as usize)];
            if !owners.contains(&self.id) {
                return true;
            }
            let others = owners.len() - 1;
            let needed = (owners.len() + 1).saturating_sub(quorums.w as usize).min(others);
            let is_whole = |owner: &&NodeId| exchanged.get(owner) == Some(&true);
            owners.iter().filter(is_whole).count() >= needed
        })
    }
}
