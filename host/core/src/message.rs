//! What nodes say to one another.
//!
//! A request carries a number that is unique in its sender's life; the reply repeats it. Replies
//! that nobody waits for any more are dropped. Every request about a key carries the sender's
//! ring version. [`crate::wire`] makes bytes of these values.

use std::sync::Arc;

use bytes::Bytes;

use crate::agreement::{Answer, Ask};
use crate::catalogue::{Catalogue, Decision};
use crate::causality::Siblings;
use crate::collect::{CollectAnswer, CollectAsk};
pub use crate::id::RequestId;
use crate::id::{Dot, KeyspaceId, NodeId, PartitionId};
use crate::listing::{KeyRange, Slice};
use crate::request::{PutRequest, QuorumKind, RequestError};
use crate::ring::MadeMoves;
use crate::tree::{TreeAnswer, TreeRead};
use crate::usage::UsageReport;
use crate::write::WriteRefused;

/// A message from one node to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// What do you hold of this key?
    Read {
        /// To be repeated in the reply.
        request: RequestId,
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The key.
        key: Bytes,
        /// The sender's ring.
        ring_version: u64,
        /// Whether the receiver is asked as a fallback, for the hint it may hold.
        is_fallback: bool,
    },
    /// The answer to [`Message::Read`].
    ReadReply {
        /// The read's number.
        request: RequestId,
        /// What is held.
        result: Result<Option<Arc<Siblings>>, ReplicaError>,
    },
    /// Join this object with what you hold.
    Write(ReplicaWrite),
    /// The answer to [`Message::Write`]: the object is joined, and synced if that was asked.
    WriteReply {
        /// The write's number.
        request: RequestId,
        /// Whether it is done.
        result: Result<(), ReplicaError>,
    },
    /// Lend me a dot for this put: you own the key. Nothing comes of it unless I make it so.
    Forward {
        /// To be repeated in the reply.
        request: RequestId,
        /// The put; its `timeout_ms` is what is left.
        put: PutRequest,
    },
    /// The answer to [`Message::Forward`].
    ForwardReply {
        /// The forward's number.
        request: RequestId,
        /// The dot, and the object with the new version under it, which the sender has not stored.
        result: Result<(Dot, Arc<Siblings>), RequestError>,
    },
    /// What do you hold of this range?
    List {
        /// To be repeated in the reply.
        request: RequestId,
        /// The sender's ring.
        ring_version: u64,
        /// The range.
        range: KeyRange,
    },
    /// The answer to [`Message::List`].
    ListReply {
        /// The question's number.
        request: RequestId,
        /// As much as a page takes.
        result: Result<Slice, ReplicaError>,
    },
    // Anti-entropy.
    /// What do your hash trees of this partition say, or what do you hold?
    TreeRead {
        /// To be repeated in the reply.
        request: RequestId,
        /// The sender's ring.
        ring_version: u64,
        /// Whether the sender cannot tell what it held: it wants what there is, be it little, and
        /// of one that served before it, too.
        is_fill: bool,
        /// Which part of them.
        read: TreeRead,
    },
    /// The answer to [`Message::TreeRead`].
    TreeReply {
        /// The read's number.
        request: RequestId,
        /// What they say.
        result: Result<TreeAnswer, ReplicaError>,
    },
    // Collection.
    /// A step of a round of collection.
    Collect {
        /// To be repeated in the reply.
        request: RequestId,
        /// The partition.
        partition: PartitionId,
        /// A digest of what the round depends on, by the sender's catalogue.
        scope: [u8; 32],
        /// The step.
        ask: CollectAsk,
    },
    /// The answer to [`Message::Collect`].
    CollectReply {
        /// The question's number.
        request: RequestId,
        /// The answer, or why the round cannot go on.
        result: Result<CollectAnswer, String>,
    },
    /// An operator wants the owners of this partition to hold the same: compare with this one.
    Compare {
        /// To be repeated in the replies.
        request: RequestId,
        /// The partition.
        partition: PartitionId,
        /// The other owner.
        peer: NodeId,
        /// Only this keyspace.
        keyspace: Option<KeyspaceId>,
    },
    /// The answers to [`Message::Compare`]: that it goes on, several times a second, then its end.
    CompareReply {
        /// The comparison's number.
        request: RequestId,
        /// How far it is.
        result: Result<Comparison, ReplicaError>,
    },
    // Transfers.
    /// What the next owner of a partition wants of the one that serves.
    TransferAsk {
        /// To be repeated in the reply.
        request: RequestId,
        /// The sender's ring.
        ring_version: u64,
        /// The partition.
        partition: PartitionId,
        /// What it wants.
        step: TransferStep,
    },
    /// The answer to [`Message::TransferAsk`].
    TransferAnswer {
        /// The request's number.
        request: RequestId,
        /// The number of the freeze, or of nothing.
        result: Result<u64, ReplicaError>,
    },
    /// The sender has made moves, durably.
    Moved(MadeMoves),
    /// What the sender has heard of the members' clocks: see [`crate::expiry`].
    Clocks(Vec<(NodeId, u64)>),
    /// What the sender's data store holds of keyspaces: see [`crate::usage`].
    Usage(UsageReport),
    /// The digest of the sender's catalogue; who has another one sends its own.
    CatalogueDigest {
        /// The digest.
        digest: [u8; 32],
    },
    /// The sender's catalogue.
    Catalogue {
        /// All of it.
        catalogue: Arc<Catalogue>,
        /// Whether the sender wants the joined one back.
        is_reply_wanted: bool,
    },
    // Ring changes.
    /// Promise, or accept, for the ring of this version.
    RingAsk {
        /// The ring that is to be agreed on.
        ring_version: u64,
        /// What is asked.
        ask: Box<Ask<Arc<Decision>>>,
    },
    /// The answer to [`Message::RingAsk`].
    RingAnswer {
        /// The ring that is to be agreed on.
        ring_version: u64,
        /// What is answered; it is persisted.
        answer: Box<Answer<Arc<Decision>>>,
    },
}

/// A step of a transfer that the target asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferStep {
    /// Take no more writes of the partition, and say when those that run have ended.
    Freeze,
    /// I hold all that you hold under this freeze: make the move.
    HandOver {
        /// The freeze's number.
        freeze: u64,
    },
}

/// An object for a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaWrite {
    /// To be repeated in the reply.
    pub request: RequestId,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The key.
    pub key: Bytes,
    /// The sender's ring.
    pub ring_version: u64,
    /// The object.
    pub siblings: Arc<Siblings>,
    /// The owners for which the receiver is to keep it as a hint; none if it is an owner itself.
    pub hint_for: Vec<NodeId>,
    /// Whether it must be synced before the reply.
    pub is_sync: bool,
    /// The sender's send epoch, see [`crate::node`]'s collection.
    pub epoch: u64,
    /// Whether no client waits for it: a hint that is delivered, a repair, a fold.
    pub is_background: bool,
}

/// How far a comparison of two owners is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// What was found so far.
    pub found: ExchangeFigures,
    /// Whether it is over.
    pub is_over: bool,
    /// Why the two could not be compared, if they could not.
    pub failure: Option<String>,
}

/// Why a replica did not do what it was asked. It changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// It knows no such keyspace (yet).
    #[error("it does not know the keyspace")]
    UnknownKeyspace,
    /// It does not own the partition by its ring, which has this version.
    #[error("it does not own the partition in ring version {ring_version}")]
    NotOwner {
        /// Its ring's version.
        ring_version: u64,
    },
    /// The sender is not a member of the cluster, as far as the replica knows.
    #[error("it knows no such member")]
    NotMember,
    /// It was sent under an epoch that collection has closed. Send it again.
    #[error("it was sent under a closed epoch; the oldest open one is {floor}")]
    StaleEpoch {
        /// The sender's oldest epoch that is taken.
        floor: u64,
    },
    /// What it holds of the key is damaged; it counts as missing and waits for repair.
    #[error("its copy is damaged")]
    Damaged,
    /// Its data store was lost and is being filled by its peers: it cannot tell what it held.
    #[error("its store was lost and is being filled")]
    Filling,
    /// Its store failed or is out of service, or has no room for hints.
    #[error("its store is not available: {0}")]
    Store(String),
    /// The value does not fit what values that are being read may take together, there or here.
    #[error("values that are being read take {bytes_max} bytes already")]
    NoRoom {
        /// What they may take.
        bytes_max: u64,
    },
}

impl Message {
    /// The version of the peer protocol that has it. Who speaks none as new is not sent it.
    pub fn since(&self) -> u32 {
        match self {
            Message::Usage(_) => 6,
            Message::ForwardReply {
                result:
                    Err(RequestError::Refused(
                        WriteRefused::OverKeys { .. } | WriteRefused::OverBytes { .. },
                    )),
                ..
            } => 6,
            Message::List { .. } | Message::ListReply { .. } => 4,
            Message::Forward { put, .. } if put.quorum == QuorumKind::Local => 4,
            _ => 3,
        }
    }

    /// The number of the request that the message starts, if it starts one: what the sender is
    /// told if it cannot be delivered.
    pub fn starts_request(&self) -> Option<RequestId> {
        match self {
            Message::Read { request, .. }
            | Message::Forward { request, .. }
            | Message::List { request, .. }
            | Message::TreeRead { request, .. }
            | Message::Collect { request, .. }
            | Message::TransferAsk { request, .. }
            | Message::Compare { request, .. } => Some(*request),
            Message::Write(write) => Some(write.request),
            Message::ReadReply { .. }
            | Message::WriteReply { .. }
            | Message::ForwardReply { .. }
            | Message::ListReply { .. }
            | Message::TreeReply { .. }
            | Message::CollectReply { .. }
            | Message::TransferAnswer { .. }
            | Message::Moved(_)
            | Message::CompareReply { .. }
            | Message::CatalogueDigest { .. }
            | Message::Clocks(_)
            | Message::Usage(_)
            | Message::Catalogue { .. }
            | Message::RingAsk { .. }
            | Message::RingAnswer { .. } => None,
        }
    }
}

/// What an exchange found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExchangeFigures {
    /// Questions that were put to the peer.
    pub questions: u64,
    /// Keys whose hashes were compared.
    pub keys_compared: u64,
    /// Keys that differed.
    pub keys_differed: u64,
    /// Those of them that both sides hold alike now.
    pub keys_repaired: u64,
    /// Those of them that are damaged on one side and not whole on the other.
    pub keys_damaged: u64,
}
