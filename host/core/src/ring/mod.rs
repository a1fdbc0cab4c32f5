//! The ring: which nodes own which partition.
//!
//! Strategy 3 of the Dynamo paper (section 6.2): the hash space is cut into Q equal partitions,
//! Q a power of two that is fixed when the cluster is made, and every partition has an ordered
//! list of owners. How many partitions a node owns follows its weight. A ring is a value with a
//! version: it is computed once per change of membership ([`claim`]) and then only read.
//!
//! Left out: changing the ring (staging, agreement on one ring per version, transfers), which
//! needs this type to stay as it is and adds to it.

mod claim;
mod preference;

pub use claim::{ClaimError, Seat, claim};
pub use preference::{PreferenceList, Replica, Role};

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
    /// The nodes that own something, in ascending order.
    nodes: Vec<NodeId>,
    /// Per partition its owners in order, as places in `nodes`: a ring of 4,096 partitions
    /// stays small enough to travel.
    owners: Vec<Vec<u16>>,
}

impl Ring {
    /// The ring of a cluster that was not made yet.
    pub fn empty() -> Self {
        Ring { version: 0, replicas_max: 0, nodes: Vec::new(), owners: Vec::new() }
    }

    /// A ring with these owners per partition.
    fn from_owners(version: u64, replicas_max: u16, owners: &[Vec<NodeId>]) -> Self {
        let mut nodes: Vec<NodeId> = owners.iter().flatten().copied().collect();
        nodes.sort_unstable();
        nodes.dedup();
        let place = |node: &NodeId| nodes.partition_point(|known| known < node) as u16;
        let owners = owners.iter().map(|list| list.iter().map(place).collect()).collect();
        Ring { version, replicas_max, nodes, owners }
    }

    /// Counts the changes of the ring, from 1.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Q, the number of partitions.
    pub fn partitions(&self) -> u32 {
        self.owners.len() as u32
    }

    /// The nodes that own something, in ascending order.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The most owners that a partition is to have: the largest n that a keyspace can have.
    pub fn replicas_max(&self) -> usize {
        usize::from(self.replicas_max)
    }

    /// How many owners each partition has: `replicas_max`, or all nodes if they are fewer.
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

    /// The owners of `partition`, in order; none if the ring has no such partition.
    pub fn owners(&self, partition: PartitionId) -> impl Iterator<Item = NodeId> + '_ {
        let places = self.owners.get(usize::from(partition.0)).map_or(&[][..], Vec::as_slice);
        places.iter().filter_map(|&place| self.nodes.get(usize::from(place)).copied())
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
            && same_length
            && self.owners.iter().all(|list| list.iter().all(known) && distinct(list))
    }
}
