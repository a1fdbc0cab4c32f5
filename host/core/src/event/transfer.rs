//! How far transfers and changes of n are.

use crate::id::KeyspaceId;
use crate::ring::Move;

/// How far a transfer to this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferFigures {
    /// What is being handed over.
    pub made: Move,
    /// Whether anything was begun.
    pub is_begun: bool,
    /// Keys that were copied so far.
    pub keys_copied: u64,
    /// What is done at present, for people.
    pub step: &'static str,
}

/// How far this node is with copying what a change of a keyspace's n wants it to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeFigures {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// Partitions that it has to read of others.
    pub partitions: usize,
    /// Those of them that it has not read of all.
    pub partitions_left: usize,
    /// Keys that were copied so far.
    pub keys_copied: u64,
}
