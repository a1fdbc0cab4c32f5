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
//! - *Forwarded and late puts, with an old context*: they carry a new write and what its client had
//!   seen, no old object. They are minted under a fresh dot as ever; a context can only kill.
//! - *Retries of named writes*: owners keep a tombstone while their record knows a name in it, for
//!   the window that is promised for retries ([`crate::request_notes`]).
//! - *Last write wins*: a tombstone stays while an owner's clock is not past its timestamp, so that
//!   the next put gets a later one.
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
//! - *Members that join or leave, rings and keyspaces that change during a round*: every step names
//!   the digest of the leader's catalogue, and who has another one refuses. Nodes that are no
//!   members as far as the receiver knows are answered neither reads nor writes.
//! - *Moves of partitions*: no round while one is pending ([`Node::is_at_rest`]).
//!
//! # Limits
//! One round at a time per leader, of [`CANDIDATES_MAX`] objects. Any owner leads, for what it finds
//! in its own pages; two that find the same do the work twice. A partition is read again only if
//! something was found in it, or written that may be forgotten.
//!
//! Left out: a data directory that was restored from an old copy by hand revives what it holds;
//! a hint that is damaged on disk holds up its partition, because nobody knows what it was.

mod epochs;
mod leader;
mod member;

use std::collections::{BTreeMap, BTreeSet};

use super::exchange::ExchangeId;
use super::{Node, Purpose};
use crate::event::{Action, Area, Epochs, Token};
use crate::id::{NodeId, PartitionId};
use crate::message::RequestId;
use leader::{Round, Walk};

/// The most objects of a round.
pub const CANDIDATES_MAX: usize = 256;
/// The most bytes that the keys of a round take together, but for the last one.
pub const KEYS_BYTES_MAX: usize = 256 << 10;
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
    /// A page of own keys.
    Page,
    /// A candidate is attested or dropped.
    Candidate { job: u64, place: u32 },
    /// Whether something is held for others.
    Search { job: u64 },
    /// A new send epoch is kept.
    Raise { from: NodeId, request: RequestId, epoch: u64 },
    /// The epochs of all are kept.
    Seal { job: u64 },
    /// A peer's word that the own epoch is behind.
    CatchUp { epoch: u64 },
}

/// A step that this node was asked for.
#[derive(Debug)]
struct Job {
    from: NodeId,
    request: RequestId,
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
    Clean { hints_stored: u64 },
    Seal { hints_stored: u64, candidates: Vec<crate::collect::Candidate> },
    Drop,
}

/// A fence that this node was asked for.
#[derive(Debug)]
struct Fence {
    from: NodeId,
    request: RequestId,
    partition: PartitionId,
    /// What was open then.
    requests: BTreeSet<RequestId>,
    exchanges: BTreeSet<ExchangeId>,
    /// Folds of what was read before, once that is known.
    folds: Option<BTreeSet<Token>>,
    until_ms: u64,
}

/// All that a node knows of collection.
#[derive(Debug)]
pub(super) struct Collection {
    /// Drawn at every start.
    life: u64,
    /// Under which this node sends.
    epoch: u64,
    /// What is kept, or being kept.
    epochs: Epochs,
    /// Hints that are being written.
    pub(super) hint_writes: BTreeMap<Token, PartitionId>,
    /// How many hints were stored in this life.
    hints_stored: BTreeMap<PartitionId, u64>,
    jobs: BTreeMap<u64, Job>,
    fences: Vec<Fence>,
    /// Partitions in which something may be to forget: all after a start or a change of the ring,
    /// then those to which it was written.
    pub(super) suspects: BTreeSet<PartitionId>,
    walk: Walk,
    round: Option<Box<Round>>,
    figures: CollectFigures,
}

impl Collection {
    pub(super) fn new(life: u64) -> Self {
        Collection {
            life,
            epoch: 0,
            epochs: Epochs::default(),
            hint_writes: BTreeMap::new(),
            hints_stored: BTreeMap::new(),
            jobs: BTreeMap::new(),
            fences: Vec::new(),
            suspects: BTreeSet::new(),
            walk: Walk::default(),
            round: None,
            figures: CollectFigures::default(),
        }
    }

    /// Every hint that is to be stored counts from the moment it is asked for.
    pub(super) fn watch(&mut self, action: &Action) {
        if let Action::Write { token, area: Area::Hints, key, .. } = action {
            self.hint_writes.insert(*token, key.partition);
            *self.hints_stored.entry(key.partition).or_default() += 1;
        }
    }

    fn hints_stored(&self, partition: PartitionId) -> u64 {
        self.hints_stored.get(&partition).copied().unwrap_or(0)
    }

    fn is_storing_hints(&self, partition: PartitionId) -> bool {
        self.hint_writes.values().any(|known| *known == partition)
    }
}

impl Node {
    /// How collection goes.
    pub fn collect_figures(&self) -> &CollectFigures {
        &self.collection.figures
    }

    /// Whether nothing moves `partition` on this node but requests, hints and exchanges, which a
    /// round deals with itself. Whoever else carries objects between stores says so here: while
    /// the answer is no, this node takes part in no round of the partition. What this node holds
    /// of a partition that it does not own is found by step 2 without help.
    pub(super) fn is_at_rest(&self, partition: PartitionId) -> bool {
        let ring = self.catalogue.as_ref().map(|catalogue| &catalogue.ring);
        let is_moving = ring.is_none_or(|ring| !ring.moves_of(partition).is_empty());
        !is_moving && !self.is_stopping && !self.is_filling(partition)
    }

    fn collect_effect(&mut self, effect: CollectEffect) -> Token {
        self.effect(Purpose::Collect(effect))
    }
}
