//! A ring that overtakes moves, and one that is new to this node.
//!
//! Ring n+2 starts from the owners that its proposer knew to serve. Who is an owner there and was
//! none a moment ago (it had handed over, and the proposer did not know) fills the partition anew
//! and counts for no read until it has. So does who is told that it owns a partition without having
//! asked for it in this life: it may have lost its disk since; and who becomes one of the first n,
//! which are the owners of a keyspace with n replicas, because another one went. Coordinators with
//! an older ring are refused for partitions that were moving in it, or they might be acknowledged
//! what a node that was filled by then lacks.
//!
//! Left out: a keyspace that is made while a commit changes the order of owners can leave copies at
//! owners that are not among its n any more; they are kept like the others' by exchanges.

use std::collections::{BTreeMap, BTreeSet};

use super::making::Making;
use super::{Incoming, Step};
use crate::catalogue::Catalogue;
use crate::id::{NodeId, PartitionId};
use crate::node::Node;
use crate::ring::{Move, Ring};

/// The oldest rings of which coordinators are served.
#[derive(Debug, Default)]
pub(super) struct Overtaken {
    /// Of partitions that were moving since.
    oldest: BTreeMap<PartitionId, u64>,
    /// Of all. What earlier lives knew is not kept.
    oldest_of_all: u64,
}

/// Whether `node` is one of the first n owners: those of a keyspace with n replicas.
fn is_in(ring: &Ring, partition: PartitionId, n: usize, node: NodeId) -> bool {
    ring.owners(partition).take(n).any(|owner| owner == node)
}

impl Node {
    /// Whether a coordinator's ring is too old for `partition`: it was moving since, and who serves
    /// it now may have been filled before what that coordinator has acknowledged.
    pub(in crate::node) fn is_overtaken(&self, partition: PartitionId, their_ring: u64) -> bool {
        let Overtaken { oldest, oldest_of_all } = &self.transfers.overtaken;
        their_ring < oldest.get(&partition).map_or(0, |oldest| *oldest).max(*oldest_of_all)
    }

    /// Another catalogue stands: see the module's head.
    pub(in crate::node) fn moves_taken_over(&mut self, before: Option<&Catalogue>) {
        let Some(catalogue) = self.catalogue.clone() else { return };
        let new = &catalogue.ring;
        let Some(old) = before.map(|before| &before.ring).filter(|old| old.version() > 0) else {
            self.transfers.overtaken.oldest_of_all = new.version();
            return self.check_leavings(new.partition_ids());
        };
        // Members may be others, and with them who brings a move about.
        self.transfers.own = None;
        if self.was_removed() {
            return;
        }
        if old.version() == new.version() {
            return self.moves_made(old, &old.made_beyond(new));
        }
        self.new_ring(old, &catalogue);
        self.owners_changed(old, new.partition_ids().collect());
    }

    /// Moves of the present ring are made; `old` is the ring before them.
    pub(super) fn moves_made(&mut self, old: &Ring, made: &[Move]) {
        self.transfers.making.note(made);
        if let Some(own) = &mut self.transfers.own {
            for made in made {
                own.remove(made);
            }
        }
        if !self.was_removed() {
            self.owners_changed(old, made.iter().map(|made| made.partition).collect());
        }
    }

    /// The owners of these partitions may be others than in `old`.
    fn owners_changed(&mut self, old: &Ring, changed: BTreeSet<PartitionId>) {
        let Some(catalogue) = self.catalogue.clone().filter(|_| !changed.is_empty()) else {
            return;
        };
        self.check_leavings(changed.iter().copied());
        self.collection.owners_changed(&changed);
        let regained = self.regained(old, &catalogue.ring, changed);
        if !regained.is_empty() {
            self.fill_again(regained);
        }
    }

    /// Moves of the old ring are void, and coordinators that still have it are refused where they
    /// could miss somebody.
    fn new_ring(&mut self, old: &Ring, catalogue: &Catalogue) {
        let new = &catalogue.ring;
        let is_lost =
            |made: &Move| made.from.is_some_and(|from| !catalogue.members.contains_key(&from));
        let differs = |p: &PartitionId| {
            !old.moves_of(*p).is_empty()
                || !old.owners(*p).eq(new.owners(*p))
                || new.moves_of(*p).iter().any(is_lost)
        };
        let moving = new.partition_ids().filter(differs).map(|p| (p, new.version()));
        self.transfers.overtaken.oldest.extend(moving);
        // Nobody was told of what was not durable: it is to be made again, of the new ring.
        self.transfers.making = Making::default();
        self.transfers.incoming.clear();
    }

    /// The partitions of which this node became an owner, for some keyspace at least, without
    /// being handed them, each with those who were owners in its place.
    fn regained(
        &self,
        old: &Ring,
        new: &Ring,
        changed: BTreeSet<PartitionId>,
    ) -> BTreeMap<PartitionId, BTreeSet<NodeId>> {
        let id = self.id;
        // Who has asked for it in this life holds all of it; before, it may have lost it since.
        let is_ready = |partition: &PartitionId| {
            let incoming = self.transfers.incoming.get(partition);
            let is_asked = |i: &Incoming| matches!(i.step, Step::HandOver { .. } | Step::Making);
            old.version() == new.version() && incoming.is_some_and(is_asked)
        };
        let mut counts: BTreeSet<usize> =
            self.keyspaces.values().flat_map(|keyspace| keyspace.counts()).collect();
        counts.insert(usize::MAX);
        let is_regained = |p: &PartitionId| {
            counts.iter().any(|&n| is_in(new, *p, n, id) && !is_in(old, *p, n, id)) && !is_ready(p)
        };
        let served = |partition: PartitionId| {
            let before = |&n: &usize| old.owners(partition).take(n).map(move |owner| (n, owner));
            let gone = counts.iter().flat_map(before);
            let gone = gone.filter(|(n, owner)| !is_in(new, partition, *n, *owner));
            (partition, gone.map(|(_, owner)| owner).filter(|owner| *owner != id).collect())
        };
        changed.into_iter().filter(is_regained).map(served).collect()
    }
}
