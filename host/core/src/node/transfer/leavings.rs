//! What a node holds of partitions that are not its own any more.
//!
//! One partition at a time: its roots tell whether there is anything; if there is, it is exchanged
//! with every owner, which gives each of them all that this node has; then it is dropped. A node
//! takes writes only for what it owns, so nobody has to be asked whether it may still count on the
//! copy: whoever does is answered NOT_OWNER. Only a write that was under way when the ring changed
//! may add something yet; then the partition is looked at again.
//!
//! After a start all partitions are looked at, and again whenever the ring changes.
//!
//! The same is done with what a node holds of a keyspace whose n became smaller, in partitions that it
//! owns still: all that are among the first n are given it, and that stretch is dropped. While it is, nothing
//! of the keyspace is taken there, should n rise again.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalogue::Keyspace;
use crate::event::{Action, ExchangeOutcome, Notice, StoreFailure};
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::node::exchange::ExchangeReason;
use crate::node::surroundings::Surroundings;
use crate::node::{Node, Purpose};
use crate::tree::{Sum, TreeAnswer, TreeQuery, TreeRead};

/// Partitions to be looked through.
#[derive(Debug, Default)]
pub(super) struct Leavings {
    unchecked: BTreeSet<PartitionId>,
    /// Those that wait for an owner, and until when. They hold up no others.
    waiting: BTreeSet<PartitionId>,
    waits_until_ms: u64,
    present: Option<Present>,
}

/// The partition that is being given away.
#[derive(Debug)]
struct Present {
    partition: PartitionId,
    /// The keyspace that is; none for all of them.
    keyspace: Option<KeyspaceId>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Looking,
    Pushing(BTreeSet<NodeId>),
    Dropping,
}

impl Node {
    /// Whether there is nothing here of partitions of other owners.
    pub fn has_no_leavings(&self) -> bool {
        let Leavings { unchecked, waiting, present, .. } = &self.transfers.leavings;
        unchecked.is_empty() && waiting.is_empty() && present.is_none()
    }

    /// The owners of these partitions may be others.
    pub(super) fn check_leavings(&mut self, partitions: impl IntoIterator<Item = PartitionId>) {
        let partitions = partitions.into_iter();
        let foreign: Vec<PartitionId> =
            partitions.filter(|partition| self.may_have_leavings(*partition)).collect();
        self.transfers.leavings.unchecked.extend(foreign);
    }

    /// A keyspace's n may have become smaller.
    pub(in crate::node) fn check_all_leavings(&mut self) {
        let ring = self.catalogue.as_ref().map(|catalogue| &catalogue.ring);
        let partitions: Vec<PartitionId> = ring.iter().flat_map(|r| r.partition_ids()).collect();
        self.check_leavings(partitions);
    }

    /// Something was written: by a request that began when the partition was this node's, if it is
    /// not any more.
    pub(super) fn written_elsewhere(&mut self, partition: PartitionId, keyspace: KeyspaceId) {
        if !self.may_hold(partition) || self.is_beyond(partition, keyspace) {
            self.transfers.leavings.unchecked.insert(partition);
        }
    }

    /// Whether this node owns the partition, and is not one of the owners of a keyspace whose n has
    /// changed.
    fn is_beyond(&self, partition: PartitionId, keyspace: KeyspaceId) -> bool {
        self.keyspaces.get(&keyspace).is_some_and(|known| self.is_beyond_of(partition, known))
    }

    fn is_beyond_of(&self, partition: PartitionId, keyspace: &Keyspace) -> bool {
        let (resizes, Some(catalogue)) = (&keyspace.resizes, &self.catalogue) else { return false };
        let ring = &catalogue.ring;
        resizes.number > 0
            && resizes.present.is_none()
            && ring.moves_of(partition).is_empty()
            && ring.owners(partition).skip(keyspace.holders()).any(|owner| owner == self.id)
    }

    /// Whether gets of the keyspace ask this node.
    fn is_read(&self, partition: PartitionId, keyspace: KeyspaceId) -> bool {
        let n = self.keyspaces.get(&keyspace).map_or(0, |known| known.reading().n as usize);
        let ring = self.catalogue.as_ref().map(|catalogue| &catalogue.ring);
        ring.is_some_and(|ring| ring.owners(partition).take(n).any(|owner| owner == self.id))
    }

    /// Whether anything that the store holds of the partition is being dropped.
    pub(in crate::node) fn is_dropping_any(&self, partition: PartitionId) -> bool {
        let present = self.transfers.leavings.present.as_ref();
        present.is_some_and(|p| p.partition == partition && matches!(p.step, Step::Dropping))
    }

    fn may_have_leavings(&self, partition: PartitionId) -> bool {
        !self.may_hold(partition)
            || self.keyspaces.values().any(|keyspace| self.is_beyond_of(partition, keyspace))
    }

    /// Whether what is being given away is that still.
    fn is_left(&self, present: &Present) -> bool {
        match (present.keyspace, &present.step) {
            (_, Step::Dropping) => true,
            (None, Step::Looking) => self.may_have_leavings(present.partition),
            (None, Step::Pushing(_)) => !self.may_hold(present.partition),
            (Some(keyspace), _) => self.is_beyond(present.partition, keyspace),
        }
    }

    /// Whether all that the store holds of the partition is being dropped.
    pub(super) fn is_dropping(&self, partition: PartitionId) -> bool {
        let present = self.transfers.leavings.present.as_ref();
        let is_dropping = |p: &Present| p.keyspace.is_none() && matches!(p.step, Step::Dropping);
        present.is_some_and(|p| p.partition == partition && is_dropping(p))
    }

    /// Whether what it holds of the keyspace is, there or anywhere.
    pub(in crate::node) fn is_dropping_of(
        &self,
        keyspace: KeyspaceId,
        partition: Option<PartitionId>,
    ) -> bool {
        let Some(present) = &self.transfers.leavings.present else { return false };
        present.keyspace == Some(keyspace)
            && matches!(present.step, Step::Dropping)
            && partition.is_none_or(|partition| partition == present.partition)
    }

    pub(super) fn look_at_leavings(&mut self) {
        if self.was_removed() {
            return;
        }
        let leavings = &mut self.transfers.leavings;
        if leavings.waits_until_ms <= self.now.monotonic_ms {
            let waiting = std::mem::take(&mut leavings.waiting);
            leavings.unchecked.extend(waiting);
        }
        let present = leavings.present.take();
        let present = present.filter(|present| self.is_left(present));
        let Some(present) = present else { return self.next_leavings() };
        let partition = present.partition;
        let done = match &present.step {
            Step::Pushing(done) => Some(done.clone()),
            Step::Looking | Step::Dropping => None,
        };
        self.transfers.leavings.present = Some(present);
        if let Some(done) = done {
            self.push_leavings(partition, &done);
        }
    }

    /// The present partition waits for an owner, and the next one is looked at.
    fn set_leavings_aside(&mut self) {
        let rest_ms = self.in_ms(super::REST_MS);
        let leavings = &mut self.transfers.leavings;
        if let Some(present) = leavings.present.take() {
            leavings.waiting.insert(present.partition);
            leavings.waits_until_ms = rest_ms;
        }
        self.next_leavings();
    }

    /// Looks at the next partition, or at whether this node may go.
    fn next_leavings(&mut self) {
        let partition = loop {
            match self.transfers.leavings.unchecked.pop_first() {
                None => return self.retire_if_done(),
                Some(partition) if self.may_have_leavings(partition) => break partition,
                Some(_) => {}
            }
        };
        let (keyspace, step) = (None, Step::Looking);
        self.transfers.leavings.present = Some(Present { partition, keyspace, step });
        let token = self.effect(Purpose::LeftTree(partition));
        let read = TreeRead { partition, query: TreeQuery::Roots };
        self.act(Action::ReadTree { token, read });
    }

    /// The roots of a partition are read.
    pub(in crate::node) fn left_tree_read(
        &mut self,
        partition: PartitionId,
        result: Result<TreeAnswer, StoreFailure>,
    ) {
        let may_hold = self.may_hold(partition);
        let beyond = |sums: &[(KeyspaceId, Sum)]| {
            let mut held = sums.iter().filter(|(_, sum)| *sum != Sum::default());
            held.find(|(keyspace, _)| self.is_beyond(partition, *keyspace)).map(|(k, _)| *k)
        };
        let left = match &result {
            Ok(TreeAnswer::Roots(roots)) if may_hold => beyond(&roots.sums),
            _ => None,
        };
        let Some(present) = &mut self.transfers.leavings.present else { return };
        if present.partition != partition || !matches!(present.step, Step::Looking) {
            return;
        }
        match result {
            Ok(TreeAnswer::Roots(roots)) if roots.is_empty() || (may_hold && left.is_none()) => {
                self.transfers.leavings.present = None;
                self.next_leavings();
            }
            Ok(TreeAnswer::Roots(_)) => {
                present.keyspace = left;
                present.step = Step::Pushing(BTreeSet::new());
                self.push_leavings(partition, &BTreeSet::new());
            }
            // Trees that are being counted, or a store in trouble: later.
            _ => {
                self.transfers.leavings.present = None;
                self.transfers.leavings.unchecked.insert(partition);
            }
        }
    }

    fn push_leavings(&mut self, partition: PartitionId, done: &BTreeSet<NodeId>) {
        let keyspace = self.transfers.leavings.present.as_ref().and_then(|p| p.keyspace);
        let n = keyspace.map(|k| self.keyspaces.get(&k).map_or(0, Keyspace::holders));
        let owners = self.catalogue.iter().flat_map(|catalogue| catalogue.ring.owners(partition));
        let owners = owners.take(n.unwrap_or(usize::MAX));
        let left: Vec<NodeId> = owners.filter(|owner| !done.contains(owner)).collect();
        if left.is_empty() {
            let is_writing = match keyspace {
                Some(keyspace) => self.transfers.is_writing_of((partition, keyspace)),
                None => self.transfers.is_writing(partition),
            };
            if is_writing {
                return;
            }
            if let Some(present) = &mut self.transfers.leavings.present {
                present.step = Step::Dropping;
            }
            let token = self.effect(Purpose::DropPartition(partition));
            return self.act(Action::DropPartition { token, partition, keyspace });
        }
        let (left, away): (Vec<NodeId>, Vec<NodeId>) =
            left.into_iter().partition(|owner| self.is_reachable(*owner));
        if left.is_empty() && !away.is_empty() {
            return self.set_leavings_aside();
        }
        for owner in left {
            let (pair, reason) = ((partition, owner), ExchangeReason::Leave);
            self.exchanging(|exchanges, around| exchanges.start(around, pair, keyspace, reason));
        }
    }

    /// An exchange is over; whether it was for what is left here.
    pub(super) fn left_exchange_ended(
        &mut self,
        partition: PartitionId,
        peer: NodeId,
        outcome: ExchangeOutcome,
    ) -> bool {
        let Some(present) = &mut self.transfers.leavings.present else { return false };
        let Step::Pushing(done) = &mut present.step else { return false };
        if present.partition != partition {
            return false;
        }
        match outcome.is_compared() {
            true => {
                done.insert(peer);
                let done = done.clone();
                self.push_leavings(partition, &done);
            }
            false => self.set_leavings_aside(),
        }
        true
    }

    /// The store has dropped a partition.
    pub(in crate::node) fn partition_dropped(
        &mut self,
        partition: PartitionId,
        result: Result<(), StoreFailure>,
    ) {
        let present = self.transfers.leavings.present.take();
        if let Some(keyspace) = present.and_then(|present| present.keyspace) {
            return self.stretch_dropped((partition, keyspace), result.is_ok());
        }
        match result {
            Ok(()) => {
                self.notice(Notice::PartitionDropped(partition));
                self.next_leavings();
            }
            Err(_) => {
                self.transfers.leavings.unchecked.insert(partition);
            }
        }
        if self.may_hold(partition) && self.owns(partition) {
            // The ring changed while it was dropped.
            self.fill_again(BTreeMap::from([(partition, BTreeSet::new())]));
        }
    }

    fn stretch_dropped(&mut self, (partition, keyspace): (PartitionId, KeyspaceId), is_done: bool) {
        // There may be another one.
        self.transfers.leavings.unchecked.insert(partition);
        if is_done {
            self.next_leavings();
        }
        if self.is_read(partition, keyspace) {
            // The ring changed while it was dropped.
            self.fill_again(BTreeMap::from([(partition, BTreeSet::new())]));
        }
    }

    /// A node that gave its seat up goes once it holds nothing for anybody.
    fn retire_if_done(&mut self) {
        let is_leaving = self.catalogue.as_ref().is_some_and(|c| c.is_leaving(self.id));
        let has_nothing = self.handoffs.is_empty()
            && !self.is_in_debt()
            && self.transfers.incoming.is_empty()
            && !self.collection.is_storing_hints()
            && !self.transfers.making.is_open();
        if is_leaving && has_nothing && self.has_no_leavings() {
            self.retire();
        }
    }
}
