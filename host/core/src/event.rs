//! All causes and effects of a node's protocol: read this first.
//!
//! The driver turns the world into [`Event`]s, hands them to [`Node::on_event`] and carries out
//! the [`Action`]s that come back. Everything slow or uncertain (disk, network, clock) is out
//! there; a failed effect comes back as an event. The simulator does the same with a world of
//! its own.
//!
//! [`Node::on_event`]: crate::node::Node::on_event

mod commit;
mod epochs;
mod exchange;
mod fill;
mod repair;
mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::agreement::Acceptor;
use crate::catalogue::{Catalogue, CatalogueChange, ChangeError, Decision};
use crate::causality::{Siblings, Survivors};
use crate::collect::{IndexPage, IndexQuery};
use crate::divergence::{Divergence, MergeFailure, Resolution};
use crate::holder::{Holder, Standing};
use crate::homecoming::Homecoming;
use crate::id::{Dot, KeyspaceId, ModuleDigest, NodeId, PartitionId};
pub use crate::id::{Ticket, Token};
use crate::keys::StoreKey;
use crate::listing::{KeyRange, ListPage, ListRequest, Slice};
use crate::message::Message;
use crate::request::{
    GetReceipt, GetRequest, ImportRequest, PutReceipt, PutRequest, ReplicaReceipt, ReplicaRefused,
    ReplicaRequest, RequestError,
};
use crate::ring::{MadeMoves, Move};
use crate::tree::{TreeAnswer, TreeRead};
use crate::usage::{Estimate, UsageReport};
use crate::write::Change;
pub use commit::{CommitError, CommitRequest};
pub use epochs::Epochs;
pub use exchange::{ExchangeEnd, ExchangeOutcome};
pub use fill::{Backlog, FillFigures};
pub use repair::{RepairError, RepairFigures, RepairId, RepairRequest};
pub use transfer::{ResizeFigures, TransferFigures};

/// What time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// Milliseconds of a clock that never goes back, from any start. Timers use it.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970 (UTC), as the machine believes. Timestamps use it.
    pub wall_ms: u64,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A client wants a key.
    Get(Ticket, GetRequest),
    /// A client wants what this node itself holds of a key.
    GetReplica(Ticket, ReplicaRequest),
    /// A client wants a key written or deleted.
    Put(Ticket, PutRequest),
    /// An operator wants an object taken in as it is.
    Import(Ticket, ImportRequest),
    /// A client wants a page of a keyspace.
    List(Ticket, ListRequest),
    /// An operator wants something changed for the whole cluster.
    Change(Ticket, CatalogueChange),
    /// This node becomes part of a cluster: its first catalogue, persisted already.
    Adopted(Arc<Catalogue>),
    /// A member is served by this process from now on.
    HolderFound(NodeId, Holder),
    /// A member says that this node is another process; with `None`, that it is this one.
    ToldOf(Option<Box<Holder>>),
    /// A peer's message arrived.
    Received(NodeId, Message),
    /// A message that starts a request could not be handed to the network.
    Undelivered(NodeId, Token),
    /// A peer's probe arrived.
    Probed(Bytes),
    /// An [`Action::Load`] ended.
    Loaded(Token, Result<Option<Arc<Siblings>>, StoreFailure>),
    /// An [`Action::Scan`] ended. A range with a damaged record in it is [`StoreFailure::Damaged`].
    Scanned(Token, Result<Slice, StoreFailure>),
    /// An [`Action::Write`] that is told is done, and not durable yet.
    Applied(Token, Stored),
    /// An [`Action::Write`] ended.
    Written(Token, Result<Stored, StoreFailure>),
    /// An [`Action::ListHints`] ended; an empty list is the end of the target's hints.
    HintsListed(NodeId, Result<Vec<HeldHint>, StoreFailure>),
    /// An [`Action::SettleHint`] ended; whether the target was taken off the hint.
    HintSettled(NodeId, KeyspaceId, bool),
    /// An [`Action::Persist`] ended.
    Persisted(Token, Result<(), String>),
    // Hash trees.
    /// An operator wants owners to be compared and repaired.
    Repair(Ticket, RepairRequest),
    /// An [`Action::ReadTree`] ended.
    TreeRead(Token, Result<TreeAnswer, StoreFailure>),
    /// What the data store holds, for [`Action::ReadUsage`]: all of it.
    UsageRead(UsageReport),
    // Collection.
    /// An [`Action::ReadIndex`] ended.
    IndexRead(Token, Result<IndexPage, StoreFailure>),
    /// An [`Action::FindAny`] ended: whether there is anything.
    FoundAny(Token, Result<bool, StoreFailure>),
    // Transfers.
    /// An [`Action::DropPartition`] ended.
    Dropped(Token, Result<(), StoreFailure>),
    /// An [`Action::Merge`] ended.
    Merged(Token, Result<Arc<Resolution>, MergeFailure>),
    // Ring changes.
    /// An operator wants what is staged committed.
    CommitRing(Ticket, CommitRequest),
    /// An [`Action::PersistBallot`] ended.
    BallotPersisted(Token, Result<(), String>),
    /// An operator brings home what a former member held.
    BringHome(Ticket, Box<Homecoming>),
    /// The node is about to stop: what owners are still owed becomes hints, now. Once
    /// [`Node::is_in_debt`](crate::node::Node::is_in_debt) denies it, it may.
    Stopping,
    /// The node was stopped for so many milliseconds, which the clocks show already. What had
    /// arrived from peers meanwhile is dropped.
    Paused {
        /// How long.
        ms: u64,
    },
    /// The time that [`Node::next_timer_ms`](crate::node::Node::next_timer_ms) named has come.
    Tick,
}

/// Something to be done.
#[derive(Debug, Clone)]
pub enum Action {
    /// A get is answered.
    GetDone(Ticket, Result<GetReceipt, RequestError>),
    /// What this node holds of a key, for a client.
    ReplicaDone(Ticket, Result<ReplicaReceipt, ReplicaRefused>),
    /// A page is read.
    ListDone(Ticket, Result<ListPage, RequestError>),
    /// A put is answered, or an import.
    PutDone(Ticket, Result<PutReceipt, RequestError>),
    /// A change is made and persisted here, or refused.
    ChangeDone(Ticket, Result<Arc<Catalogue>, ChangeFailure>),
    /// What a former member held is durably here, on its way to its owners, or is not taken.
    BroughtHome(Ticket, Result<(), NotBroughtHome>),
    /// Send to a peer. If that cannot be done at once, say [`Event::Undelivered`].
    Send(NodeId, Message),
    /// Send a probe to a peer; it may get lost.
    Probe(NodeId, Bytes),
    /// Read what the store holds of a key.
    Load {
        /// To be repeated.
        token: Token,
        /// The key.
        key: StoreKey,
        /// Whether a hint for the key counts too.
        with_hints: bool,
    },
    /// Read what the data store holds of a range, from its start, as much as a page takes.
    Scan {
        /// To be repeated.
        token: Token,
        /// The range.
        range: KeyRange,
    },
    /// Run the write path for a key.
    Write {
        /// To be repeated.
        token: Token,
        /// In which store.
        area: Area,
        /// The key.
        key: StoreKey,
        /// The change.
        change: Change,
        /// For a hint: who is to receive it.
        targets: Vec<NodeId>,
        /// What the keyspace does with concurrent versions where they are stored.
        survivors: Survivors,
        /// Whether it must be synced first. Hints always are.
        is_sync: bool,
        /// Whether an [`Event::Applied`] is to come first, once others may read it and before it
        /// is synced. None need come.
        is_told: bool,
    },
    /// List hints for `target`, from the first after `after`.
    ListHints {
        /// Whose hints.
        target: NodeId,
        /// The last key of the previous list.
        after: Option<StoreKey>,
        /// The most hints to list.
        count_max: usize,
    },
    /// Take `target` off a hint, if it is still as it was at commit `sequence`.
    SettleHint {
        /// Who has received it.
        target: NodeId,
        /// The hint's key.
        key: StoreKey,
        /// Its commit.
        sequence: u64,
    },
    /// Keep durably what is left of a fill, in place of what was kept before;
    /// [`Event::Persisted`] answers.
    PersistFill(Token, Backlog),
    // Hash trees.
    /// A repair began, or did not. [`Notice::Repair`] tells how far it is.
    RepairStarted(Ticket, Result<RepairId, RepairError>),
    /// Read a part of the data store's hash trees.
    ReadTree {
        /// To be repeated.
        token: Token,
        /// Which part.
        read: TreeRead,
    },
    /// Count the hash trees of a partition anew from its records: they are wrong.
    RebuildTree(PartitionId),
    /// Say what the data store holds of all keyspaces. Nobody waits for it.
    ReadUsage,
    // Collection.
    /// Read a page of the data store's index of what collection is to look at.
    ReadIndex {
        /// To be repeated.
        token: Token,
        /// Which part.
        query: IndexQuery,
        /// The most entries of the page.
        count_max: usize,
    },
    /// Look whether a store holds anything of a partition, whole or damaged, after all that was
    /// asked of it before, and make that durable before the answer.
    FindAny {
        /// To be repeated.
        token: Token,
        /// In which store.
        area: Area,
        /// The partition.
        partition: PartitionId,
    },
    /// Keep the send epochs durably; [`Event::Persisted`] answers.
    PersistEpochs(Token, Epochs),
    // Transfers.
    /// Remove everything that the data store holds of a partition, or of a keyspace in it, synced:
    /// every owner has it.
    DropPartition {
        /// To be repeated.
        token: Token,
        /// The partition.
        partition: PartitionId,
        /// The keyspace; none for all of them.
        keyspace: Option<KeyspaceId>,
    },
    /// Ask a module what a divergence means, for a fold.
    Merge {
        /// To be repeated.
        token: Token,
        /// The module. If it is not loaded that is the answer; it is not waited for.
        module: ModuleDigest,
        /// What it is handed.
        divergence: Box<Divergence>,
        /// The writes that each of its siblings stands for.
        dots: Vec<Vec<Dot>>,
    },
    // Ring changes.
    /// A commit ended, and what it made is persisted here.
    CommitDone(Ticket, Result<Arc<Catalogue>, CommitError>),
    /// Persist durably what this node has promised and accepted, in place of what it had before:
    /// nothing of it leaves the node until that is done.
    PersistBallot(Token, Acceptor<Arc<Decision>>),
    /// Persist the catalogue durably; [`Event::Persisted`] answers. With the next one that is
    /// persisted, what was added by [`Action::PersistMoves`] before is in it.
    Persist(Token, Arc<Catalogue>),
    /// Add to what is persisted that these moves are made, durably; [`Event::Persisted`] answers.
    PersistMoves(Token, MadeMoves),
    /// The catalogue is another now: look for modules to fetch and peers to connect.
    CatalogueChanged(Arc<Catalogue>),
    /// Something worth a log line or a counter.
    Notice(Notice),
}

/// Which store of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// What the node owns.
    Data,
    /// What it keeps for others.
    Hints,
}

/// A change that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The whole object now.
    pub siblings: Arc<Siblings>,
    /// The dot that was minted, for a client's write.
    pub dot: Option<Dot>,
    /// When the newest version was written that a sync has brought.
    pub gained_ms: Option<u64>,
}

/// The store did not do it. What was stored before stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    /// A client's write is over the sibling limit.
    #[error(transparent)]
    Refused(#[from] crate::write::WriteRefused),
    /// The record is damaged and counts as missing.
    #[error("the stored record is damaged")]
    Damaged,
    /// The store is out of service, its queue or its budget is full. The text says which.
    /// Nothing was stored.
    #[error("{0}")]
    Unavailable(String),
    /// The value does not fit what values that are being read may take together.
    #[error("values that are being read take {bytes_max} bytes already")]
    NoRoom {
        /// What they may take.
        bytes_max: u64,
    },
    /// The store failed in the middle; the change may or may not be stored.
    #[error("{0}")]
    Failed(String),
}

/// A hint as the store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldHint {
    /// The key.
    pub key: StoreKey,
    /// The object.
    pub siblings: Arc<Siblings>,
    /// The commit that wrote it.
    pub sequence: u64,
}

/// What a former member held was not taken: nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBroughtHome {
    /// This node or the keyspace cannot take it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The store of hints did not take it.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// A catalogue change that was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeFailure {
    /// It does not fit the catalogue, which is as it was.
    #[error(transparent)]
    Refused(#[from] ChangeError),
    /// It could not be persisted here; other nodes may know it already.
    #[error("the change could not be persisted on this node: {0}; it may still take effect")]
    NotPersisted(String),
}

/// Something worth a log line or a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A member is taken as reachable again.
    MemberUp(NodeId),
    /// A member is taken as unreachable.
    MemberDown(NodeId),
    /// A write for an absent owner is kept here.
    HintStored(NodeId, KeyspaceId),
    /// A write that should have become a hint did not; anti-entropy or a read must repair it.
    HintLost(NodeId, KeyspaceId, String),
    /// All owners acknowledged a put that this node coordinates, so many milliseconds after it began.
    Everywhere(KeyspaceId, u64),
    /// A hint reached its target, which synced it.
    HintDelivered(NodeId, KeyspaceId),
    /// A stale replica was sent what it lacked after a get.
    ReadRepaired(NodeId),
    /// An owner lacked what a read repair or a comparison has brought it, the newest of which was
    /// written at this time.
    WasStale(KeyspaceId, u64),
    /// Siblings were folded into one version, which is on its way to the owners.
    Folded(KeyspaceId),
    /// A module gave no value to fold siblings into; they stay.
    NotFolded(KeyspaceId, String),
    /// Another operator changed the same keyspace at the same time, and that change stands.
    Overruled(String),
    /// A catalogue of another cluster arrived and was dropped.
    ForeignCatalogue(NodeId),
    /// A message names a keyspace that this node does not know.
    UnknownKeyspace(KeyspaceId),
    /// The data store was lost: this node's partitions are copied from their other owners.
    FillStarted(FillFigures),
    /// Partitions or objects were copied.
    FillProgress(FillFigures),
    /// Every partition counts for quorums again.
    FillEnded(FillFigures),
    // Anti-entropy.
    /// A partition was compared with another owner of it.
    Exchanged(PartitionId, NodeId, ExchangeOutcome),
    // Collection.
    /// So many objects were dropped here with their tombstones, and so many lost dead actors.
    Collected(PartitionId, u64),
    /// A round that this node led did not come to its end.
    NotCollected(PartitionId, String),
    /// How far a repair is that an operator asked this node for.
    Repair(RepairId, RepairFigures),
    /// So many partitions have no other owner: what they held is lost for good.
    DataLost(usize),
    /// What there is of each keyspace, as far as the node has heard, has changed.
    Usage(Arc<BTreeMap<KeyspaceId, Estimate>>),
    // Transfers.
    /// How far the transfers to this node are; none that is over is named.
    TransferProgress(Vec<TransferFigures>),
    /// This node is so far with copying for changes of n.
    Resizing(Vec<ResizeFigures>),
    /// This node has made a move: its new owner serves.
    Moved(Move),
    /// What this node held of a partition of others is with its owners, and dropped here.
    PartitionDropped(PartitionId),
    // Ring changes.
    /// There is a next ring, of this version.
    RingCommitted(u64),
    /// Another operator staged changes at the same time elsewhere, and those stand.
    StagingOverruled,
    /// Whether this process is served as the node it says it is.
    Standing(Standing),
    /// This node was removed from the cluster with the ring of this version.
    Removed(u64),
}
