//! Client requests and the state of those that a node coordinates.
//!
//! [`get`] and [`put`] are pure request states: the [node](crate::node) tells them what came
//! back and asks what is to be done next. Both follow the same plan, sections 4.5 and 4.6 of the
//! Dynamo paper: ask the first n reachable nodes of the preference list, count distinct answers,
//! move on to the next fallback for each node that fails or is too slow, answer the client as
//! soon as the quorum is reached, and finish the rest afterwards.

pub mod get;
pub mod put;

use std::sync::Arc;

use bytes::Bytes;

use crate::causality::{Context, Siblings};
use crate::id::{Dot, Incarnation, KeyspaceId};
use crate::write::{Draft, SiblingLimits};

/// Which nodes count for a quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QuorumKind {
    /// The first n reachable nodes of the preference list.
    #[default]
    Sloppy,
    /// Owners only.
    Strict,
    /// Owners in the coordinator's region only: see [`crate::node`]'s `regions`.
    Local,
}

/// A client's get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetRequest {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The key.
    pub key: Bytes,
    /// How many replicas must answer; `None` takes the keyspace's r.
    pub r: Option<u32>,
    /// Which nodes count.
    pub quorum: QuorumKind,
    /// How long the client waits, in milliseconds.
    pub timeout_ms: u64,
}

/// What a client that coordinates a get itself wants of one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRequest {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The key.
    pub key: Bytes,
    /// The client's ring.
    pub ring_version: u64,
    /// How long the client waits, in milliseconds.
    pub timeout_ms: u64,
}

/// A client's put, or delete: a put of a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutRequest {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The key.
    pub key: Bytes,
    /// What the client had seen, its contexts joined.
    pub context: Context,
    /// What it wants written.
    pub draft: Draft,
    /// How many nodes must acknowledge; `None` takes the keyspace's w.
    pub w: Option<u32>,
    /// Which nodes count.
    pub quorum: QuorumKind,
    /// What the acknowledgement promises; `None` takes the keyspace's durability.
    pub durability: Option<crate::catalogue::Durability>,
    /// The sibling limit.
    pub limits: SiblingLimits,
    /// How long the client waits, in milliseconds.
    pub timeout_ms: u64,
}

/// An object that is taken in as it is, with its dots: of a backup, or of another cluster.
///
/// It is joined with what there is, so to take it in twice is to take it in once, and what has
/// replaced it stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRequest {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The key.
    pub key: Bytes,
    /// The object.
    pub siblings: Arc<Siblings>,
    /// How many nodes must acknowledge; `None` takes the keyspace's w.
    pub w: Option<u32>,
    /// How long the client waits, in milliseconds.
    pub timeout_ms: u64,
}

/// What a get found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetReceipt {
    /// What the answering replicas hold, joined. Empty for a key that none of them knows.
    pub siblings: Arc<Siblings>,
    /// Distinct nodes that answered.
    pub answered: u32,
    /// The coordinator's ring.
    pub ring_version: u64,
}

/// What a put did, as its coordinator saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutReceipt {
    /// The name of the write.
    pub dot: Dot,
    /// What the client has seen now, only if its version is the only one left: with siblings
    /// left, it would claim what the client has not seen.
    pub context: Option<Context>,
    /// The versions that remain beside it.
    pub siblings_remaining: u32,
    /// Distinct nodes that hold it.
    pub acked: u32,
    /// Those of them that hold it as a hint.
    pub hinted: u32,
    /// The coordinator's ring.
    pub ring_version: u64,
}

/// Whether a request that failed changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It certainly did not.
    None,
    /// It may have been applied, or may yet be.
    Maybe,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The node belongs to no cluster.
    #[error("this node belongs to no cluster yet: run `stator cluster init` first")]
    NoCluster,
    /// The node was removed from its cluster.
    #[error(
        "this node was removed from its cluster with ring version {ring_version}, and serves \
         nothing any more: ask another node"
    )]
    Removed {
        /// The ring from which on it has no seat.
        ring_version: u64,
    },
    /// No other member has accepted this start of the node yet.
    #[error(
        "no other member of the cluster has accepted this node since it started, so what it takes \
         might be known to nobody; nothing was changed: ask another node, or try again"
    )]
    NotAccepted,
    /// Another process is this node.
    #[error(
        "another process, of incarnation {incarnation} at {address}, is this node: the data \
         directory was copied, and the members serve the other one; nothing was changed: ask \
         another node"
    )]
    SecondHolder {
        /// The start that is the node.
        incarnation: Incarnation,
        /// Where its peers reach it.
        address: String,
    },
    /// There is no such keyspace (any more).
    #[error("keyspace {0} does not exist (any more)")]
    UnknownKeyspace(KeyspaceId),
    /// r or w cannot be met by any number of answers.
    #[error("{name}={found} is not possible: it must be from 1 to n={n}")]
    BadQuorum {
        /// `r` or `w`.
        name: &'static str,
        /// What was asked.
        found: u32,
        /// The keyspace's replicas.
        n: u32,
    },
    /// The cluster has too few nodes for what is asked.
    #[error(
        "{name}={needed} cannot be reached: the key has {owners} owners, fewer than the \
         keyspace's n, until more nodes join"
    )]
    TooFewNodes {
        /// `r` or `w`.
        name: &'static str,
        /// What was asked.
        needed: u32,
        /// Owners of the key.
        owners: u32,
    },
    /// Too few owners of the key are in the coordinator's region.
    #[error(
        "{name}={needed} cannot be reached in this region: {owners} owners of the key are in it; \
         nothing was changed: ask a node of a region that has more, or do not ask for a local quorum"
    )]
    TooFewNear {
        /// `r` or `w`.
        name: &'static str,
        /// What was asked, or the majority.
        needed: u32,
        /// Owners of the key in the region.
        owners: u32,
    },
    /// Too few nodes answered in time.
    #[error("{answered} of the needed {needed} nodes answered")]
    QuorumNotReached {
        /// Distinct nodes needed.
        needed: u32,
        /// Distinct nodes that answered.
        answered: u32,
        /// Whether the put may have been applied.
        effect: Effect,
    },
    /// Its deadline had passed before its turn came.
    #[error(
        "the request's deadline had passed before this node came to it, counted from its arrival; \
         nothing was done"
    )]
    Expired,
    /// The key's siblings do not allow it.
    #[error(transparent)]
    Refused(crate::write::WriteRefused),
    /// The request id belongs to another write.
    #[error(
        "the request id was used for another write of this key, {0}, which asked for something \
         else; nothing was changed: a retry repeats its request, a new request needs a new id"
    )]
    RequestReused(Dot),
    /// The coordinator's store did not take it.
    #[error("the store of the coordinating node did not take the write: {reason}")]
    Store {
        /// What the store said.
        reason: String,
        /// Whether it may have been applied.
        effect: Effect,
    },
    /// The value does not fit what values that are being read may take together.
    #[error(
        "the value does not fit: those that are being read take nearly limits.reads_bytes_max = \
         {bytes_max} bytes on a node that was asked; nothing was changed, try again"
    )]
    NoRoom {
        /// What they may take.
        bytes_max: u64,
    },
}

/// What an owner holds of a key, for a client that coordinates its get itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaReceipt {
    /// The object; empty if it knows none.
    pub siblings: Arc<Siblings>,
    /// Its ring.
    pub ring_version: u64,
}

/// Why what a node holds of a key does not count for a client that coordinates its get itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaRefused {
    /// It would not coordinate the get either, or its store does not give it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It is no owner of the key, or was made one after the client's ring.
    #[error(
        "this node is no owner of the key for the ring that the client goes by; its own has version \
         {ring_version}: fetch the ring again, and ask an owner"
    )]
    NotOwner {
        /// The node's ring.
        ring_version: u64,
    },
    /// It is an owner and does not hold all that it held.
    #[error("what this node held of the key is damaged or lost, and not refilled yet: send a Get")]
    NotWhole,
}
