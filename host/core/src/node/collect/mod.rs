//! Collection: forgetting deleted objects and dead actors ([`crate::collect`]), never by age, but
//! once it is certain that nobody can bring back what they stand against.
//!
//! The Dynamo paper is silent about it. Stores that drop tombstones after a grace period revive
//! what was deleted whenever a node was away for longer (Cassandra's `gc_grace_seconds`). Here a
//! node that is away delays it.
//!
//! # A round
//! is led by an owner of one partition, for some objects S, each known by its hash. An *old* state
//! of such a key is one that does not know all that S knows. The round shows that no old state is
//! left in any store, memory or message, and that none can come to be; then owners forget S. It
//! goes through five steps, each once all have answered the one before:
//!
//! 1. **Mark**: every owner holds exactly S, synced; or, if S is deleted, nothing at all. From now
//!    on whoever reads an owner gets S or more, or nothing.
//! 2. **Clean**: every member holds no hint of the partition, and nothing of it that it does not
//!    own; what it has dropped of that is synced. It counts the hints that it stores from now on.
//! 3. **Fence**: every member waits until each request, fold and exchange of the partition that
//!    was open when it was asked has ended. Then it raises its *send epoch*, durably. Every write
//!    that a node sends carries that epoch.
//! 4. **Seal**: every member takes the new epochs of all, durably, and refuses what was sent under
//!    an earlier one. Nothing was hinted to it since it was clean, it has not been restarted, and
//!    every owner still holds what it has marked.
//! 5. **Drop**: owners forget S, each if it still holds exactly S.
//!
//! Why nothing old is left after 4. Take the moment between the last answer to 2 and the first
//! question of 3. No store holds an old state: not the owners by 1, not the others by 2. Until 4
//! none comes to be in a hint store, or its count would tell; nor at an owner that held S, which
//! would join it into S; nor at one that held nothing, which would not seal. A request that was
//! open at that moment may carry one, and has ended at 3; what it had sent is of an earlier epoch,
//! and refused after 4. A request that began later can have read owners and empty hint stores only.
//! So nothing old is left to copy, and what is not there cannot come back. After 4 nothing need be
//! held still: a step 5 that comes late, or twice, or not to all, is harmless.
//!
//! # Every carrier of old values
//! - *Hints*: a round waits for them (2); one that is stored during the round ends it (4). That a
//!   delivered hint's deletion is synced (2) keeps it from coming back with a crash.
//! - *Delayed, overtaken and repeated replica writes*, read repairs and folds among them: their
//!   epoch is closed (4), also after a restart of their receiver, because epochs are kept on disk.
//! - *Requests in memory*: a get that has read an old value and repairs later, a put that owes it
//!   to a fallback, a fold in flight, an exchange: waited for (3). Later answers to them are dropped.
//! - *Pages of a listing*, which one owner has answered and another has not: likewise. Beside what an
//!   owner holds after the drop, what another one told before the mark would look alive.
//! - *Forwarded and late puts, with an old context*: they carry a new write and what its client had
//!   seen, no old object. They are minted under a fresh dot as ever; a context can only kill.
//! - *Retries of named writes*: owners keep a tombstone while their record knows a name in it, for
//!   the window that is promised for retries ([`crate::request_notes`]).
//! - *Last write wins*: a tombstone stays while an owner's clock is not past its timestamp, so that
//!   the next put gets a later one.
//! - *Values that expire*: an old state of such a key is one like any. S is what is left once all
//!   members' clocks were past the end ([`crate::expiry`]); a round knows nothing of time.
//! - *Pages of a fill*: an owner that is being filled takes part in no round. A page that is
//!   stored after the drop is S itself, at worst: a tombstone that the next round takes.
//! - *Repair among owners that have dropped and those that have not yet*: likewise.
//! - *Damaged records*: their owner does not mark. One that is damaged after the mark is not dropped,
//!   and what others send to repair it is of an open epoch, so not old.
//! - *A node that is down*: no round ends without it. One that went down after the seal comes back
//!   with S or without it, no hints, and its epochs.
//! - *Restarts during a round*, clean or not: an owner and a member answer with the number of their
//!   life; another life does not seal. What was marked is synced, so a crash leads back to S, never
//!   to what was before.
//! - *Members that join or leave, partitions that move, and keyspaces that change during a round*:
//!   every step names the digest of what the round depends on (the members, this partition's owners
//!   and moves, what keyspaces store: `Catalogue::scope_of`), and who has another one refuses. What
//!   happens to other partitions is none of it: no object goes from one to another. Should a
//!   partition leave an owner and come back between two steps, whoever has seen it change counts that
//!   as a hint that came (4). Nodes that are no members as far as the receiver knows are answered
//!   neither reads nor writes.
//! - *Moves of the partition*: no round while one is pending (`Node::is_at_rest`).
//!
//! # Finding what may be forgotten
//! Each store keeps an index of it with its records ([`crate::collect::Listed`]). A pass goes through
//! that once a period, so it costs by what it finds. A leader has up to [`ROUNDS_MAX`] rounds under
//! way, each of up to [`CANDIDATES_MAX`] objects of one partition, several of one partition too: two
//! rounds that meet are harmless, as the marks of one void those of the other. Each step is a
//! question and an answer, and all fences that are ready share one raise of the epoch, so rounds
//! take as long as the network does and wait for the disk together.
//!
//! # Shape
//! [`Collection`] is a value as the failure detector is: what happens is told to it with a look at its
//! [`Surroundings`], and what it wants done are [`Wish`]es. The node grants them (`grant.rs`).
//!
//! Left out: a data directory that was restored from an old copy by hand revives what it holds;
//! a hint that is damaged on disk holds up its partition, because nobody knows what it was.

mod epochs;
mod grant;
mod leader;
mod member;
mod round;

use std::collections::{BTreeMap, BTreeSet};

use super::surroundings::{Open, Surroundings};
use super::timers::Timer;
use crate::collect::{Candidate, IndexQuery};
use crate::event::{Action, Area, Epochs, Notice};
use crate::expiry::Clocks;
use crate::id::{NodeId, PartitionId, RequestId, Token};
use crate::keys::StoreKey;
use crate::message::{Message, ReplicaError};
use crate::write::Change;
use epochs::EpochKeeper;
use leader::Leading;

/// The most objects of a round.
pub const CANDIDATES_MAX: usize = 256;
/// The most bytes that the keys of a round take together, but for the last one.
pub const KEYS_BYTES_MAX: usize = 256 << 10;
/// The most rounds that a node leads at a time.
pub const ROUNDS_MAX: usize = 8;
/// How often what a fence waits for is looked at.
const FENCE_PERIOD_MS: u64 = 25;
/// How long the answers to one step are waited for.
const STEP_MS: u64 = 15_000;

/// How collection goes on this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CollectFigures {
    /// Rounds that this node led to their end.
    pub rounds: u64,
    /// Rounds that it led and that ended early.
    pub rounds_failed: u64,
    /// Objects that were forgotten here, wholly or in part.
    pub collected: u64,
    /// Why there is no collection at present, if this node leads none for a reason.
    pub held_up: Option<String>,
}

/// What an effect is for.
#[derive(Debug, Clone)]
pub(super) enum CollectEffect {
    /// A page of what may be forgotten.
    Forgettable,
    /// A page of what is due.
    Due,
    /// A key that is due is looked at.
    Expire,
    /// A candidate is attested or dropped.
    Candidate { job: u64, place: u32 },
    /// Whether something is held for others.
    Search { job: u64 },
    /// Epochs are kept, with this own one.
    Epochs { own: u64 },
}

/// What collection wants done.
#[derive(Debug)]
pub(super) enum Wish {
    /// Send this.
    Send(NodeId, Message),
    /// Ask a member this, under this number.
    Ask(NodeId, RequestId, Message),
    /// See that a peer and this node have the same catalogue.
    Gossip(NodeId),
    /// Read the index, so many at most.
    ReadIndex(IndexQuery, usize),
    /// Ask the data store about a candidate, or have it dropped.
    Write { effect: CollectEffect, key: StoreKey, change: Change, is_sync: bool },
    /// Let go of what of a key has expired.
    Expire { key: StoreKey, due_ms: u64, passed_ms: u64 },
    /// Look whether a store holds anything of a partition.
    FindAny { effect: CollectEffect, area: Area, partition: PartitionId },
    /// Keep the epochs durably.
    KeepEpochs(Epochs),
    /// Wake it then, by the monotonic clock.
    At(u64, Timer),
    /// Say so.
    Notice(Notice),
}

/// A step that this node was asked for.
#[derive(Debug)]
struct Job {
    from: (NodeId, RequestId),
    partition: PartitionId,
    step: JobStep,
    /// Effects that have not ended.
    waiting: usize,
    agreed: Vec<u32>,
    absent: Vec<u32>,
    has_failed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum JobStep {
    Mark,
    Clean { arrivals: u64 },
    Seal { arrivals: u64, candidates: Vec<Candidate> },
    Drop,
}

/// A fence that this node was asked for.
#[derive(Debug)]
struct Fence {
    from: (NodeId, RequestId),
    partition: PartitionId,
    /// What was open then.
    open: Open,
    /// Folds of what was read before, once that is known.
    folds: Option<BTreeSet<Token>>,
    until_ms: u64,
}

/// All that a node knows of collection.
#[derive(Debug, Default)]
pub(super) struct Collection {
    /// Drawn at every start.
    life: u64,
    epochs: EpochKeeper,
    clocks: Clocks,
    /// Hints that are being written.
    hint_writes: BTreeMap<Token, PartitionId>,
    /// How often in this life something of a partition may have come to this node: a hint that it
    /// stores, or what another owner had.
    arrivals: BTreeMap<PartitionId, u64>,
    jobs: BTreeMap<u64, Job>,
    fences: Vec<Fence>,
    leading: Leading,
    figures: CollectFigures,
    wishes: Vec<Wish>,
}

impl Collection {
    pub(super) fn new(life: u64) -> Self {
        Collection { life, ..Collection::default() }
    }

    /// Goes on with the epochs that were kept.
    pub(super) fn keep(&mut self, epochs: Epochs) {
        self.epochs = EpochKeeper::new(epochs);
    }

    fn wish(&mut self, wish: Wish) {
        self.wishes.push(wish);
    }

    /// Every hint that is to be stored counts from the moment it is asked for.
    pub(super) fn watch(&mut self, action: &Action) {
        if let Action::Write { token, area: Area::Hints, key, .. } = action {
            self.hint_writes.insert(*token, key.partition);
            *self.arrivals.entry(key.partition).or_default() += 1;
        }
    }

    /// The owners of these partitions changed, or are about to: copies may be where none were.
    pub(super) fn owners_changed(&mut self, partitions: &BTreeSet<PartitionId>) {
        partitions.iter().for_each(|partition| *self.arrivals.entry(*partition).or_default() += 1);
    }

    /// A write has ended.
    pub(super) fn write_ended(&mut self, token: Token) {
        self.hint_writes.remove(&token);
    }

    /// Whether a hint is being written.
    pub(super) fn is_storing_hints(&self) -> bool {
        !self.hint_writes.is_empty()
    }

    fn is_storing_hints_of(&self, partition: PartitionId) -> bool {
        self.hint_writes.values().any(|known| *known == partition)
    }

    fn arrivals(&self, partition: PartitionId) -> u64 {
        self.arrivals.get(&partition).copied().unwrap_or(0)
    }

    /// The epoch that a replica write carries.
    pub(super) fn send_epoch(&self) -> u64 {
        self.epochs.used()
    }

    /// Whether what `from`, another node, sent under `epoch` is taken.
    pub(super) fn open_epoch(&self, from: NodeId, epoch: u64) -> Result<(), ReplicaError> {
        self.epochs.check(from, epoch)
    }

    /// A member told what it knows of the members' clocks.
    pub(super) fn clocks_heard(&mut self, told: &[(NodeId, u64)]) {
        self.clocks.heard(told);
    }

    /// What this node has to tell of them.
    pub(super) fn clocks_told(&mut self, members: &[NodeId], own: (NodeId, u64)) -> Message {
        Message::Clocks(self.clocks.told(members, own))
    }

    /// The moment that all members' clocks are safely past.
    pub(super) fn clocks_passed_ms(&self, around: &dyn Surroundings) -> u64 {
        let own = (around.me(), around.now().wall_ms);
        self.clocks.passed_ms(around.members().into_iter(), own)
    }
}
