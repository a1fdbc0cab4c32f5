//! The physical key: partition, keyspace, key, in this order.
//!
//! `partition (2 bytes) keyspace id (8 bytes) key`, numbers big-endian: everything of one
//! partition is one range, and within it everything of one keyspace. Transfer, backup and scans
//! are range reads.

use bytes::Bytes;

use crate::id::{KeyspaceId, PartitionId};

/// Bytes in front of the key.
pub const PREFIX_BYTES: usize = 10;

/// Where a key's record is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreKey {
    /// The partition of the key's position.
    pub partition: PartitionId,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The key, as the client gave it.
    pub key: Bytes,
}

impl StoreKey {
    /// The physical key.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PREFIX_BYTES + self.key.len());
        out.extend_from_slice(&self.partition.0.to_be_bytes());
        out.extend_from_slice(&self.keyspace.0.to_be_bytes());
        out.extend_from_slice(&self.key);
        out
    }

    /// Reads what [`Self::encode`] wrote; `None` if the bytes are no physical key.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (partition, rest) = bytes.split_first_chunk()?;
        let (keyspace, key) = rest.split_first_chunk()?;
        Some(StoreKey {
            partition: PartitionId(u16::from_be_bytes(*partition)),
            keyspace: KeyspaceId(u64::from_be_bytes(*keyspace)),
            key: Bytes::copy_from_slice(key),
        })
    }
}
