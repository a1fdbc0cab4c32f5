//! A repair that an operator asks for, and how far it is.

use crate::id::{KeyspaceId, PartitionId};
use crate::message::ExchangeFigures;

/// Names a repair within the life of the node that was asked.
pub type RepairId = u64;

/// What is to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepairRequest {
    /// Only this keyspace.
    pub keyspace: Option<KeyspaceId>,
    /// Only this partition.
    pub partition: Option<PartitionId>,
}

/// A repair was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RepairError {
    /// The node belongs to no cluster.
    #[error("the node belongs to no cluster yet")]
    NoCluster,
    /// Too many repairs run.
    #[error("{max} repairs run on this node already, the most that may: wait for one to end")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The ring has no such partition.
    #[error("there is no partition {partition}: the ring has {partitions}, counted from 0")]
    NoPartition {
        /// The partition.
        partition: PartitionId,
        /// How many there are.
        partitions: u32,
    },
}

/// How far a repair is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairFigures {
    /// Partitions that are to be repaired.
    pub partitions: usize,
    /// Those of them whose owners were found or made equal.
    pub partitions_done: usize,
    /// Those of them that were given up.
    pub partitions_failed: usize,
    /// What was found, of every pair of owners.
    pub found: ExchangeFigures,
    /// Why the first partition was given up.
    pub why: Option<String>,
}

impl RepairFigures {
    /// Whether nothing is left to be done.
    pub fn is_done(&self) -> bool {
        self.partitions_done + self.partitions_failed == self.partitions
    }
}
