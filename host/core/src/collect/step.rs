//! What the leader of a round of collection asks, and what it is answered.

use bytes::Bytes;

use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::keys::StoreKey;
use crate::tree::ObjectHash;

/// An object that may be forgotten, wholly or in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The key.
    pub key: Bytes,
    /// The object, by its hash in the trees.
    pub hash: ObjectHash,
    /// Whether it has no live version but tombstones.
    pub is_deleted: bool,
    /// Of a seal: whether its owner had nothing of the key when it was to mark it.
    pub was_absent: bool,
}

impl Candidate {
    /// What it is called, whatever it holds.
    pub fn name(&self) -> (KeyspaceId, Bytes) {
        (self.keyspace, self.key.clone())
    }

    /// Where a store keeps it.
    pub fn store_key(&self, partition: PartitionId) -> StoreKey {
        StoreKey { partition, keyspace: self.keyspace, key: self.key.clone() }
    }
}

/// What the leader of a round asks, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectAsk {
    /// Of owners: do you hold exactly these, synced?
    Mark(Vec<Candidate>),
    /// Of members: do you hold anything of the partition for others?
    Clean,
    /// Of members: end what may carry objects of the partition, and send under a new epoch.
    Fence,
    /// Of members: refuse what was sent under earlier epochs. Is all as it was?
    Seal {
        /// As [`CollectAnswer::Clean`] said.
        life: u64,
        /// As [`CollectAnswer::Clean`] said.
        arrivals: u64,
        /// The oldest epoch that is not refused, for every member.
        floors: Vec<(NodeId, u64)>,
        /// What owners have marked; nothing for others.
        candidates: Vec<Candidate>,
    },
    /// Of owners: forget these.
    Drop {
        /// As [`CollectAnswer::Marked`] said.
        life: u64,
        /// What all owners have sealed.
        candidates: Vec<Candidate>,
    },
}

/// The answer to a [`CollectAsk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectAnswer {
    /// To [`CollectAsk::Mark`].
    Marked {
        /// The answering node's life: another one voids the mark.
        life: u64,
        /// Places in the list of what is held exactly so, or not at all where that will do.
        agreed: Vec<u32>,
        /// Those of them of which nothing is held.
        absent: Vec<u32>,
    },
    /// To [`CollectAsk::Clean`]: nothing.
    Clean {
        /// The answering node's life.
        life: u64,
        /// How often in this life something of the partition may have come to it: hints that it
        /// stored, and changes of the partition's owners.
        arrivals: u64,
    },
    /// To [`CollectAsk::Fence`]: all that was open has ended, and this is the new epoch.
    Fenced {
        /// The epoch.
        epoch: u64,
    },
    /// To [`CollectAsk::Seal`]: it is.
    Sealed {
        /// Places in the list of what is still held exactly so.
        agreed: Vec<u32>,
    },
    /// To [`CollectAsk::Drop`].
    Dropped {
        /// How many were held and are forgotten.
        count: u64,
    },
}
