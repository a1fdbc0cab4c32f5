//! The ring: which nodes own which partition.
//!
//! Strategy 3 of the Dynamo paper (section 6.2): the hash space is cut into Q equal partitions,
//! Q a power of two that is fixed when the cluster is made, and every partition has an ordered
//! list of owners. How many partitions a node owns follows its weight. A ring is a value with a
//! version: it is computed once per change of membership ([`claim`]) and then only read.
//!
//! A change of the ring takes effect move by move. Ring n+1 is what was planned, and the list of
//! [`Move`]s that lead there from the owners that served in ring n. A move is made
//! ([`Ring::hand_over`]) when its new owner holds all that the old one held; from then on it is
//! never unmade. [`Ring::owners`] are always those that serve: what was planned, with the moves
//! undone that were not made yet. So two rings of one version differ only in how many of the same
//! moves they know to be made, and their join knows all of them.

mod claim;
mod digest;
mod made;
mod moves;
mod plan;
mod preference;
mod share;
mod spread;

pub use claim::{ClaimError, Seat, claim, claim_from};
pub use digest::RingDigest;
pub use made::MadeMoves;
pub use moves::Move;
pub use plan::{NodeShare, Plan, PlanError, plan, plan_of};
pub use preference::{PreferenceList, Replica, Role};

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::position::{partition_of, position};

/// The default number of partitions, Q.
pub const PARTITIONS_DEFAULT: u32 = 256;
/// The most partitions.
pub const PARTITIONS_MAX: u32 = 1 << 16;

/// A versioned map from partitions to their owners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    version: u64,
    /// The most owners that a partition is to have; small clusters have fewer.
    replicas_max: u16,
    /// The nodes that own something, or will once all moves are made, in ascending order.
    nodes: Vec<NodeId>,
    /// Per partition its planned owners in order, as places in `nodes`: a ring of 4,096
    /// partitions stays small enough to travel. Shared, because a move changes none of it.
    owners: Arc<Vec<Vec<u16>>>,
    /// What is still to be handed over, in order. Catalogues from before rings could
    /// change have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    moves: Vec<Move>,
    /// The nodes that it was claimed for, in ascending order: they agree on the next ring. Fixed
    /// with the version, while `nodes` gets shorter with the moves that are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    seats: Vec<NodeId>,
}

impl Ring {
    /// The ring of a cluster that was not made yet.
    pub fn empty() -> Self {
        Ring {
            version: 0,
            replicas_max: 0,
            nodes: Vec::new(),
            owners: Arc::default(),
            moves: Vec::new(),
            seats: Vec::new(),
        }
    }

    /// A ring that is planned with these owners per partition, with `moves` still to be made.
    fn new(version: u64, replicas_max: u16, planned: &[Vec<NodeId>], moves: Vec<Move>) -> Self {
        let mut nodes: Vec<NodeId> = planned.iter().flatten().copied().collect();
        nodes.extend(moves.iter().filter_map(|pending| pending.from));
        nodes.sort_unstable();
        nodes.dedup();
        let place = |node: &NodeId| nodes.partition_point(|known| known < node) as u16;
        let owners: Vec<Vec<u16>> =
            planned.iter().map(|list| list.iter().map(place).collect()).collect();
        let owners = Arc::new(owners);
        Ring { version, replicas_max, nodes, owners, moves, seats: Vec::new() }
    }

    fn with_seats(mut self, mut seats: Vec<NodeId>) -> Self {
        seats.sort_unstable();
        seats.dedup();
        self.seats = seats;
        self
    }

    /// Counts the changes of the ring, from 1.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Q, the number of partitions.
    pub fn partitions(&self) -> u32 {
        self.owners.len() as u32
    }

    /// The nodes that own something, or will once all moves are made, in ascending order.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The nodes that the ring was claimed for, in ascending order. A node can have a seat and
    /// own nothing, where partitions are few.
    pub fn seats(&self) -> &[NodeId] {
        // Rings of before seats were noted had no moves, so that their nodes are as fixed.
        if self.seats.is_empty() { &self.nodes } else { &self.seats }
    }

    /// Whether the ring was claimed for `node`.
    pub fn has_seat(&self, node: NodeId) -> bool {
        self.seats().binary_search(&node).is_ok()
    }

    /// The most owners that a partition is to have: the largest n that a keyspace can have.
    pub fn replicas_max(&self) -> usize {
        usize::from(self.replicas_max)
    }

    /// How many owners each partition has once all moves are made: `replicas_max`, or all nodes
    /// if they are fewer.
    pub fn replicas(&self) -> usize {
        self.owners.first().map_or(0, Vec::len)
    }

    /// The partition of a key.
    ///
    /// On an empty ring it is partition 0, which nobody owns.
    pub fn partition(&self, keyspace: KeyspaceId, key: &[u8]) -> PartitionId {
        match self.partitions() {
            0 => PartitionId(0),
            partitions => partition_of(position(keyspace, key), partitions),
        }
    }

    /// The serving owners of `partition`, in order; none if the ring has no such partition.
    pub fn owners(&self, partition: PartitionId) -> impl Iterator<Item = NodeId> + '_ {
        let pending = self.moves_of(partition);
        let serving = self.planned_owners(partition).filter_map(|owner| {
            match pending.iter().find(|pending| pending.to == Some(owner)) {
                Some(pending) => pending.from,
                None => Some(owner),
            }
        });
        let leaving = pending.iter().filter(|pending| pending.to.is_none());
        serving.chain(leaving.filter_map(|pending| pending.from))
    }

    /// The owners of `partition` once all moves are made, in order.
    pub fn planned_owners(&self, partition: PartitionId) -> impl Iterator<Item = NodeId> + '_ {
        let places = self.owners.get(usize::from(partition.0)).map_or(&[][..], Vec::as_slice);
        places.iter().filter_map(|&place| self.nodes.get(usize::from(place)).copied())
    }

    /// All partitions.
    pub fn partition_ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.partitions()).map(|partition| PartitionId(partition as u16))
    }

    /// Whether the parts fit each other, for a ring that came from outside.
    pub fn is_sound(&self) -> bool {
        let partitions = self.partitions();
        let known = |place: &u16| usize::from(*place) < self.nodes.len();
        let distinct = |list: &Vec<u16>| (1..list.len()).all(|i| !list[..i].contains(&list[i]));
        let same_length = self.owners.iter().all(|list| list.len() == self.replicas());
        let sorted = self.nodes.windows(2).all(|pair| pair[0] < pair[1]);
        (partitions == 0 || (partitions.is_power_of_two() && partitions <= PARTITIONS_MAX))
            && sorted
            && self.seats.windows(2).all(|pair| pair[0] < pair[1])
            && same_length
            && self.owners.iter().all(|list| list.iter().all(known) && distinct(list))
            && self.has_sound_moves()
    }
}
