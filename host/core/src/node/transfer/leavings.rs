//! What a node holds of partitions that are not its own any more.
//!
//! One partition at a time: its roots tell whether there is anything; if there is, it is exchanged
//! with every owner, which gives each of them all that this node has; then it is dropped. A node
//! takes writes only for what it owns, so nobody has to be asked whether it may still count on the
//! copy: whoever does is answered NOT_OWNER. Only a write that was under way when the ring changed
//! may add something yet; then the partition is looked at again.
//!
//! After a start all partitions are looked at, and again whenever the ring changes.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Action, ExchangeOutcome, Notice, StoreFailure};
use crate::id::{NodeId, PartitionId};
use crate::node::exchange::ExchangeReason;
use crate::node::surroundings::Surroundings;
use crate::node::{Node, Purpose};
use crate::tree::{TreeAnswer, TreeQuery, TreeRead};

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
            partitions.filter(|partition| !self.may_hold(*partition)).collect();
        self.transfers.leavings.unchecked.extend(foreign);
    }

    /// Something was written: by a request that began when the partition was this node's, if it is
    /// not any more.
    pub(super) fn written_elsewhere(&mut self, partition: PartitionId) {
        if !self.may_hold(partition) {
            self.transfers.leavings.unchecked.insert(partition);
        }
    }

    /// Whether what the store holds of the partition is being dropped.
    pub(super) fn is_dropping(&self, partition: PartitionId) -> bool {
        let present = self.transfers.leavings.present.as_ref();
        present.is_some_and(|p| p.partition == partition && matches!(p.step, Step::Dropping))
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
        let present = present.filter(|present| {
            matches!(present.step, Step::Dropping) || !self.may_hold(present.partition)
        });
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
                Some(partition) if !self.may_hold(partition) => break partition,
                Some(_) => {}
            }
        };
        self.transfers.leavings.present = Some(Present { partition, step: Step::Looking });
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
        let Some(present) = &mut self.transfers.leavings.present else { return };
        if present.partition != partition || !matches!(present.step, Step::Looking) {
            return;
        }
        match result {
            Ok(TreeAnswer::Roots(roots)) if roots.is_empty() => {
                self.transfers.leavings.present = None;
                self.next_leavings();
            }
            Ok(TreeAnswer::Roots(_)) => {
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
        let owners = self.catalogue.iter().flat_map(|catalogue| catalogue.ring.owners(partition));
        let left: Vec<NodeId> = owners.filter(|owner| !done.contains(owner)).collect();
        if left.is_empty() {
            if self.transfers.is_writing(partition) {
                return;
            }
            if let Some(present) = &mut self.transfers.leavings.present {
                present.step = Step::Dropping;
            }
            let token = self.effect(Purpose::DropPartition(partition));
            return self.act(Action::DropPartition { token, partition });
        }
        let (left, away): (Vec<NodeId>, Vec<NodeId>) =
            left.into_iter().partition(|owner| self.is_reachable(*owner));
        if left.is_empty() && !away.is_empty() {
            return self.set_leavings_aside();
        }
        for owner in left {
            self.start_exchange((partition, owner), ExchangeReason::Leave);
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
        self.transfers.leavings.present = None;
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
