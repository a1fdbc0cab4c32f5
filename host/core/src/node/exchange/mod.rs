//! Anti-entropy: two owners of a partition compare their hash trees and send each other what
//! differs. Section 4.7 of the Dynamo paper.
//!
//! Hints and read repair bring nearly every write to every owner. What they miss (a coordinator
//! that crashed before it could tell all owners, a hint that was lost with its disk, a record that
//! rotted, a key that nobody reads) is found here.
//!
//! # An exchange
//! has an initiator and a peer, and goes on in steps, each one question to both:
//!
//! 1. the roots of all keyspaces; if they are equal, that was all;
//! 2. for each keyspace that differs, the sums below the nodes that differ, down to the buckets:
//!    three questions;
//! 3. the keys of these buckets with the hashes of their objects, a page at a time: the peer's
//!    page, then the initiator's own keys of the same range;
//! 4. of the keys that differ, the peer's objects, a batch of [`TreeQuery::OBJECTS_MAX`] at a time
//!    and fewer while the foreground is slow. Each is joined with the own one, and the join is sent
//!    to the peer if that is more than it has. Both through the one write path, synced;
//! 5. the roots once more, for the outcome.
//!
//! It is the one way in which a node copies: a fill and a gathering ([`super::catchup`]) are
//! exchanges, too. A fill only takes: what it has is for its owners to ask for.
//!
//! # Damage
//! A record that rotted is still in its tree's sums. Whoever lists it finds it out: it has no hash,
//! so it differs, and the store counts its tree anew without it. It is replaced by the other side's
//! copy if there is one. If neither has one it counts as damaged, and not as a difference that an
//! exchange could mend, so that nobody tries for ever. An owner whose roots tell of damage has its
//! partition compared with all other owners ([`super::catchup`]).
//!
//! Nothing is locked: what is written meanwhile may look like a difference, and is joined once too
//! often, which changes nothing.
//!
//! A bucket may differ although no key does: then a tree is wrong, by a record that was damaged or
//! by a bug. The initiator adds its keys up, and if they are not what its own tree said before and
//! after, it has the tree rebuilt. The peer does so when it is the initiator.
//!
//! # When
//! `schedule` decides, or an operator (`operator`). Whoever else needs two nodes to be equal calls
//! [`Exchanges::start`], and is told by [`Wish::Ended`].
//!
//! # Shape
//! [`Exchanges`] is a value as collection is ([`super::collect`]), and so is each [`Exchange`] in it:
//! what happens is told to it with a look at its [`Surroundings`], and what it wants done are
//! [`Wish`]es. The node grants them (`grant.rs`).
//!
//! Left out: damage that nobody meets, because its bucket is equal. A read finds it.

mod compare;
mod damage;
mod grant;
mod operator;
mod repair;
mod schedule;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::surroundings::Surroundings;
use crate::causality::Siblings;
use crate::event::{
    ExchangeEnd, ExchangeOutcome, Notice, RepairError, RepairId, StoreFailure, Stored, Ticket,
};
use crate::id::{KeyspaceId, NodeId, PartitionId, RequestId};
use crate::keys::StoreKey;
use crate::message::{Comparison, ReplicaError};
use crate::tree::{TreeAnswer, TreeQuery};
use compare::Exchange;
use damage::Damage;
pub use operator::REPAIRS_RUNNING_MAX;
use operator::Repair;
use schedule::Schedule;

/// The most exchanges that a node runs by its schedule at a time.
pub const EXCHANGES_MAX: usize = 2;

/// Names an exchange within its initiator's life.
pub(super) type ExchangeId = u64;

/// A partition, and another owner of it.
pub(super) type Pair = (PartitionId, NodeId);

/// Why an exchange is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeReason {
    /// It was its turn.
    Schedule,
    /// The initiator may have lost what it held.
    Recovery,
    /// The initiator cannot tell what it held, and takes all that the peer has.
    Fill,
    /// The initiator is to become an owner, or the partition is to have an owner less.
    Transfer,
    /// The initiator is no owner any more and holds a copy.
    Leave,
    /// The keyspace's n changes, and the initiator is to hold what the peer does.
    Resize(KeyspaceId),
    /// An operator wants it, and this node is told under this number.
    Operator(NodeId, RequestId),
}

/// What has become of something that an exchange wanted.
#[derive(Debug)]
pub(super) enum Told {
    /// The own store has answered.
    Ours(Result<TreeAnswer, StoreFailure>),
    /// The peer has answered, or does not.
    Theirs(Result<TreeAnswer, ReplicaError>),
    /// The own object of a key was read, joined with what the peer holds of it.
    Joined(Bytes, Result<Option<Stored>, StoreFailure>),
    /// The peer has synced the object of a key, or has not.
    Given(Bytes, bool),
}

/// What exchanges want done.
#[derive(Debug)]
pub(super) enum Wish {
    /// Ask an exchange's peer this.
    AskPeer(ExchangeId, Pair, ExchangeReason, TreeQuery),
    /// Ask the own store this.
    AskStore(ExchangeId, PartitionId, TreeQuery),
    /// Read what the own store has of a key.
    Load(ExchangeId, StoreKey),
    /// Join this with what the own store has of a key.
    Join(ExchangeId, StoreKey, Arc<Siblings>),
    /// Send this to the peer, and have it joined there.
    Give(ExchangeId, NodeId, StoreKey, Arc<Siblings>),
    /// Count the trees of a partition anew.
    Rebuild(PartitionId),
    /// Tell who wanted it that an exchange is over.
    Ended(Pair, ExchangeReason, ExchangeOutcome),
    /// Have an owner compare itself with another one, for a repair.
    Compare(RepairId, NodeId, Pair, Option<KeyspaceId>),
    /// Tell who asked for a comparison how far it is.
    Report(NodeId, RequestId, Result<Comparison, ReplicaError>),
    /// Tell an operator whether a repair began.
    Started(Ticket, Result<RepairId, RepairError>),
    /// Say so.
    Notice(Notice),
}

/// All exchanges that this node is the initiator of, and those that are to be made.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    running: BTreeMap<ExchangeId, Exchange>,
    schedule: Schedule,
    /// Repairs that operators asked this node for.
    repairs: BTreeMap<RepairId, Repair>,
    /// Partitions of this node in which records are damaged.
    damaged: BTreeMap<PartitionId, Damage>,
    wishes: Vec<Wish>,
}

impl Exchanges {
    /// How many are under way.
    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    /// Those of `partition`.
    pub(super) fn of(&self, partition: PartitionId) -> BTreeSet<ExchangeId> {
        let running = self.running.iter();
        running.filter(|(_, e)| e.partition == partition).map(|(id, _)| *id).collect()
    }

    /// What is being exchanged for this reason, and with whom.
    pub(super) fn made_for(&self, reason: ExchangeReason) -> Vec<Pair> {
        let running = self.running.values().filter(|e| e.reason == reason);
        running.map(|e| (e.partition, e.peer)).collect()
    }

    fn is_under_way(&self, (partition, peer): Pair, reason: ExchangeReason) -> bool {
        let mut running = self.running.values();
        running.any(|e| (e.partition, e.peer, e.reason) == (partition, peer, reason))
    }

    fn wish(&mut self, wish: Wish) {
        self.wishes.push(wish);
    }

    /// Compares a pair and repairs what differs, on both sides. Does nothing if that is being done
    /// already.
    pub(super) fn start(
        &mut self,
        around: &mut dyn Surroundings,
        pair: Pair,
        only: Option<KeyspaceId>,
        reason: ExchangeReason,
    ) {
        if !self.is_under_way(pair, reason) {
            let id = around.number();
            let mut exchange = Exchange::new(id, pair, only, reason);
            self.wishes.append(&mut exchange.wishes);
            self.running.insert(id, exchange);
        }
    }

    /// Tells an exchange what has become of something that it wanted.
    pub(super) fn tell(&mut self, around: &mut dyn Surroundings, id: ExchangeId, told: Told) {
        let partition = self.running.get(&id).map(|exchange| exchange.partition);
        if let (Told::Ours(Ok(answer)), Some(partition)) = (&told, partition) {
            self.note_damage(around, partition, answer);
        }
        let Some(exchange) = self.running.get_mut(&id) else { return };
        exchange.told(around, told);
        self.wishes.append(&mut exchange.wishes);
        if let Some(end) = exchange.end {
            self.ended(around, id, end);
        }
    }

    fn ended(&mut self, around: &mut dyn Surroundings, id: ExchangeId, end: ExchangeEnd) {
        let Some(exchange) = self.running.remove(&id) else { return };
        let Exchange { partition, peer, reason, figures, is_peer_whole, .. } = exchange;
        let outcome = ExchangeOutcome { end, figures, is_peer_whole };
        self.wish(Wish::Notice(Notice::Exchanged(partition, peer, outcome)));
        match reason {
            ExchangeReason::Schedule | ExchangeReason::Recovery => {
                self.scheduled_ended(around, (partition, peer), reason, outcome);
            }
            ExchangeReason::Operator(asker, request) => {
                let comparison = operator::comparison(peer, outcome);
                self.wish(Wish::Report(asker, request, Ok(comparison)));
            }
            ExchangeReason::Fill
            | ExchangeReason::Transfer
            | ExchangeReason::Leave
            | ExchangeReason::Resize(_) => {
                self.wish(Wish::Ended((partition, peer), reason, outcome));
            }
        }
        self.go_on(around);
    }

    /// Looks at what no event tells.
    fn due(&mut self, around: &mut dyn Surroundings) {
        self.go_on_with_repairs(around);
        self.damaged.retain(|partition, _| around.is_owner(*partition, around.me()));
        self.go_on(around);
    }
}
