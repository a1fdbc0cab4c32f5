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
//! [`Node::start_exchange`], and is told by `exchange_ended`.
//!
//! Left out: damage that nobody meets, because its bucket is equal. A read finds it.

mod compare;
mod damage;
mod operator;
mod repair;
mod schedule;
mod source;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::{Node, Purpose};
use crate::event::{Action, ExchangeEnd, ExchangeOutcome, Notice, StoreFailure, Token};
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::message::{ExchangeFigures, Message, ReplicaError, RequestId};
use crate::tree::{Buckets, KeyHash, Sum, TreeAnswer, TreeNode, TreePage, TreeQuery, TreeRead};
use damage::Damage;
pub use operator::REPAIRS_RUNNING_MAX;
use operator::Repairs;
use repair::Repair;
use schedule::Schedule;

/// The most exchanges that a node runs by its schedule at a time.
pub const EXCHANGES_MAX: usize = 2;

/// Names an exchange within its initiator's life.
pub(super) type ExchangeId = u64;

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
    /// An operator wants it, by this lead.
    Operator(u64),
}

/// All exchanges that this node is the initiator of, and those that are to be made.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    running: BTreeMap<ExchangeId, Exchange>,
    /// Whose question or repair a request is.
    asked: BTreeMap<RequestId, ExchangeId>,
    schedule: Schedule,
    repairs: Repairs,
    /// Partitions of this node in which records are damaged.
    damaged: BTreeMap<PartitionId, Damage>,
}

/// One exchange under way.
#[derive(Debug)]
struct Exchange {
    partition: PartitionId,
    peer: NodeId,
    reason: ExchangeReason,
    /// Of one keyspace only.
    only: Option<KeyspaceId>,
    step: Step,
    /// The question to the peer that is not answered yet, and when it is overdue.
    question: Option<(RequestId, u64)>,
    /// The answers to the present question.
    ours: Option<TreeAnswer>,
    theirs: Option<TreeAnswer>,
    /// Keyspaces that differ, the present one first.
    keyspaces: VecDeque<KeyspaceId>,
    walk: Walk,
    /// Keys to be repaired, with whether the peer has something under them, and those that are.
    differing: VecDeque<(Bytes, bool)>,
    repairs: BTreeMap<RequestId, Repair>,
    figures: ExchangeFigures,
    is_peer_whole: bool,
}

/// Where an exchange is.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Roots,
    Sums(Vec<TreeNode>),
    /// A page of the peer's keys is asked for.
    TheirKeys,
    /// The own keys of the range of the peer's page are being read.
    OurKeys {
        theirs: TreePage,
        ours: Vec<KeyHash>,
    },
    /// The peer's objects of these keys are asked for.
    Objects {
        asked: Vec<Bytes>,
        /// Where the next page of keys starts, if there is one.
        next: Option<Bytes>,
    },
    Repairs {
        next: Option<Bytes>,
    },
    /// The own buckets are read once more, because no key differed.
    Doubt,
    LastRoots,
}

/// What is known of the present keyspace.
#[derive(Debug, Default)]
struct Walk {
    buckets: Buckets,
    after: Option<Bytes>,
    /// What the own tree says of the buckets, and what its keys add up to.
    seen: BTreeMap<u16, Sum>,
    listed: BTreeMap<u16, Sum>,
    /// Whether a key differed, or a record was damaged.
    is_explained: bool,
}

impl Node {
    /// The exchanges of `partition` that this node is the initiator of.
    pub(super) fn exchanges_of(&self, partition: PartitionId) -> BTreeSet<ExchangeId> {
        let running = self.exchanges.running.iter();
        running.filter(|(_, e)| e.partition == partition).map(|(id, _)| *id).collect()
    }

    /// Compares `partition` with `peer` and repairs what differs, on both sides. Does nothing if
    /// that is being done already. [`Self::exchange_ended`] is told the outcome.
    pub(super) fn start_exchange(
        &mut self,
        partition: PartitionId,
        peer: NodeId,
        only: Option<KeyspaceId>,
        reason: ExchangeReason,
    ) {
        if self.is_exchanging(partition, peer, reason) {
            return;
        }
        let exchange = Exchange {
            partition,
            peer,
            reason,
            only,
            step: Step::Roots,
            question: None,
            ours: None,
            theirs: None,
            keyspaces: VecDeque::new(),
            walk: Walk::default(),
            differing: VecDeque::new(),
            repairs: BTreeMap::new(),
            figures: ExchangeFigures::default(),
            is_peer_whole: true,
        };
        let id = self.number();
        self.exchanges.running.insert(id, exchange);
        self.ask_both(id, TreeQuery::Roots);
    }

    /// What is being exchanged for this reason, and with whom.
    pub(super) fn exchanges_for(&self, reason: ExchangeReason) -> Vec<(PartitionId, NodeId)> {
        let running = self.exchanges.running.values().filter(|e| e.reason == reason);
        running.map(|e| (e.partition, e.peer)).collect()
    }

    /// Whether such an exchange is under way.
    pub(super) fn is_exchanging(
        &self,
        partition: PartitionId,
        peer: NodeId,
        reason: ExchangeReason,
    ) -> bool {
        let mut running = self.exchanges.running.values();
        running.any(|e| (e.partition, e.peer, e.reason) == (partition, peer, reason))
    }

    /// How many exchanges this node is the initiator of.
    pub fn exchanges_in_flight(&self) -> usize {
        self.exchanges.running.len()
    }

    /// An exchange is over. Whoever asked for it goes on from here.
    fn exchange_ended(
        &mut self,
        partition: PartitionId,
        peer: NodeId,
        reason: ExchangeReason,
        outcome: ExchangeOutcome,
    ) {
        match reason {
            ExchangeReason::Schedule | ExchangeReason::Recovery => {
                self.scheduled_exchange_ended((partition, peer), reason, outcome);
            }
            ExchangeReason::Fill => self.fill_exchange_ended(partition, peer, outcome),
            ExchangeReason::Transfer | ExchangeReason::Leave => {
                self.transfer_exchange_ended(partition, peer, outcome);
            }
            ExchangeReason::Operator(lead) => self.led_exchange_ended(lead, peer, outcome),
        }
    }

    /// Asks the peer, and the own store the same.
    fn ask_both(&mut self, id: ExchangeId, query: TreeQuery) {
        self.ask_peer(id, query.clone());
        self.ask_store(id, query);
    }

    fn ask_peer(&mut self, id: ExchangeId, query: TreeQuery) {
        let (request, ring_version) = (self.number(), self.ring_version());
        let due_ms = self.in_ms(self.settings.replica_timeout_ms.saturating_mul(4));
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        exchange.question = Some((request, due_ms));
        exchange.figures.questions += 1;
        let (peer, read) = (exchange.peer, TreeRead { partition: exchange.partition, query });
        let is_fill = exchange.reason == ExchangeReason::Fill;
        self.exchanges.asked.insert(request, id);
        self.send(peer, Message::TreeRead { request, ring_version, is_fill, read });
    }

    fn ask_store(&mut self, id: ExchangeId, query: TreeQuery) {
        let Some(exchange) = self.exchanges.running.get(&id) else { return };
        let read = TreeRead { partition: exchange.partition, query };
        let token = self.effect(Purpose::OwnTree(id));
        self.act(Action::ReadTree { token, read });
    }

    /// The own store has answered.
    fn own_tree_read(&mut self, id: ExchangeId, result: Result<TreeAnswer, StoreFailure>) {
        let partition = self.exchanges.running.get(&id).map(|exchange| exchange.partition);
        if let (Ok(answer), Some(partition)) = (&result, partition) {
            self.note_damage(partition, answer);
        }
        match (result, self.exchanges.running.get_mut(&id)) {
            (Ok(TreeAnswer::NotReady), Some(_)) => self.end_exchange(id, ExchangeEnd::Skipped),
            (Ok(answer), Some(exchange)) => {
                exchange.ours = Some(answer);
                self.compare(id);
            }
            (Err(_), Some(_)) => self.end_exchange(id, ExchangeEnd::Failed),
            (_, None) => {}
        }
    }

    /// The peer has answered.
    pub(super) fn tree_replied(
        &mut self,
        from: NodeId,
        request: RequestId,
        result: Result<TreeAnswer, ReplicaError>,
    ) {
        let Some((id, exchange)) = self.question_of(from, request) else { return };
        exchange.question = None;
        match result {
            Ok(TreeAnswer::NotReady)
            | Err(ReplicaError::Filling | ReplicaError::NotOwner { .. }) => {
                self.end_exchange(id, ExchangeEnd::Skipped);
            }
            Ok(answer) => {
                exchange.theirs = Some(answer);
                self.exchanges.asked.remove(&request);
                self.compare(id);
            }
            Err(_) => self.end_exchange(id, ExchangeEnd::Failed),
        }
    }

    /// The exchange whose question to `peer` this is.
    fn question_of(
        &mut self,
        peer: NodeId,
        request: RequestId,
    ) -> Option<(ExchangeId, &mut Exchange)> {
        let id = *self.exchanges.asked.get(&request)?;
        let exchange = self.exchanges.running.get_mut(&id)?;
        let is_it = exchange.peer == peer && exchange.question.is_some_and(|(r, _)| r == request);
        is_it.then_some((id, exchange))
    }

    /// A message of an exchange did not leave this node, or was refused.
    pub(super) fn exchange_refused(&mut self, peer: NodeId, request: RequestId) {
        if let Some((id, _)) = self.question_of(peer, request) {
            return self.end_exchange(id, ExchangeEnd::Failed);
        }
        self.repair_refused(peer, request);
        self.lead_refused(peer, request);
    }

    /// Ends what got no answer.
    fn overdue_exchanges(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let running = self.exchanges.running.iter();
        let is_late = |e: &Exchange| e.question.is_some_and(|(_, due_ms)| due_ms <= now_ms);
        let late: Vec<ExchangeId> =
            running.filter(|(_, exchange)| is_late(exchange)).map(|(id, _)| *id).collect();
        late.into_iter().for_each(|id| self.end_exchange(id, ExchangeEnd::Failed));
        self.overdue_repairs();
    }

    fn end_exchange(&mut self, id: ExchangeId, end: ExchangeEnd) {
        let Some(exchange) = self.exchanges.running.remove(&id) else { return };
        self.exchanges.asked.retain(|_, known| *known != id);
        let Exchange { partition, peer, reason, figures, is_peer_whole, .. } = exchange;
        let outcome = ExchangeOutcome { end, figures, is_peer_whole };
        self.notice(Notice::Exchanged(partition, peer, outcome));
        self.exchange_ended(partition, peer, reason, outcome);
        self.go_on_exchanging();
    }

    /// A part of a hash tree was read, for an exchange of this node or for a peer.
    pub(super) fn tree_read(&mut self, token: Token, result: Result<TreeAnswer, StoreFailure>) {
        match self.effects.remove(&token) {
            Some(Purpose::OwnTree(id)) => self.own_tree_read(id, result),
            Some(Purpose::LeftTree(partition)) => self.left_tree_read(partition, result),
            Some(Purpose::PeerTree(to, request, partition)) => {
                self.peer_tree_read(to, request, partition, result);
            }
            _ => {}
        }
    }
}
