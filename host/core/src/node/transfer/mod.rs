//! Transfers: partitions on their way to their next owners, sections 4.9 and 6.2 of the Dynamo
//! paper.
//!
//! A committed ring carries [`Move`]s. Each is made by exactly one node, which decides it by
//! writing the catalogue without it durably, once the new owner holds all that the old one had
//! acknowledged. Of a partition one move is made at a time, the first in order.
//!
//! # Someone hands over to someone
//! The *target* drives, the *source* decides:
//!
//! 1. *Copy*: the target exchanges the partition with the source ([`super::exchange`]): that
//!    copies what differs, goes on after a crash where it stopped, and is verified by the hash
//!    trees. Again, until little was different. The source serves.
//! 2. *Freeze*: the source takes no more writes of the partition as its owner (it answers
//!    NOT_OWNER, so coordinators turn to a fallback), waits until those that run have ended, and
//!    answers with a number of this freeze. Reads go on: nobody else serves the slot. A freeze
//!    ends by itself after [`FREEZE_MS`].
//! 3. *Settle*: the target exchanges until the roots are equal.
//! 4. *Hand over*: the target asks for it with the freeze's number. If that freeze still holds, the
//!    source makes the move in its catalogue: it serves no more from that moment, and tells
//!    nobody before that is durable ([`making`]). Then everyone is told ([`Message::Moved`]), and
//!    the target serves once it knows.
//!
//! So at no time do both serve, and every write that the source has acknowledged is in the target
//! before it serves: whoever counts either of them counts the same replica. If either crashes
//! before the move is durable, nothing has happened but copying; if after, the target learns it
//! by gossip. Between 4 and the target's learning the slot is like a node that is down.
//!
//! # Nobody hands over
//! Where the old owner was removed for good, or the partition gets a further owner, the target
//! *gathers*: it exchanges with the other owners until it has caught up ([`super::catchup`]), and
//! makes the move itself. Where the partition is to have an owner less, the one that goes does the
//! same, or the first that stays if that one was removed.
//!
//! # What is left behind
//! [`leavings`]: a node that holds data of partitions that it neither serves nor will, pushes it
//! to all owners and drops it. A node that gave up its seat and has nothing left is retired.
//!
//! A ring that is committed meanwhile: [`overtaken`].
//!
//! Left out: the source does not forward writes while it is copied; what is written meanwhile is
//! found by the next exchange.

mod leavings;
mod making;
mod overtaken;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use super::Node;
use super::catchup::Catchup;
use super::exchange::ExchangeReason;
use super::outgoing::Asker;
use super::timers::Timer;
use crate::catalogue::Catalogue;
use crate::event::{ExchangeEnd, ExchangeOutcome, Notice, Token, TransferFigures};
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::message::{Message, ReplicaError, RequestId, TransferStep};
use crate::ring::Move;

use leavings::Leavings;
use making::Making;
use overtaken::Overtaken;
use source::Frozen;

/// The most partitions that a node takes over at a time.
pub const TRANSFERS_MAX: usize = 4;
/// How long a source stays frozen without being asked to hand over, in milliseconds.
pub const FREEZE_MS: u64 = 5_000;
/// A copy is close enough for a freeze once so many keys or fewer were different.
const CLOSE_KEYS: u64 = 256;
/// It is not tried to come closer more often than this.
const ROUNDS_MAX: u32 = 8;
/// How often what no event tells is looked at.
const PERIOD_MS: u64 = 200;
/// How long a transfer waits after something failed.
const REST_MS: u64 = 1_000;

/// What a node has to do with moves.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    incoming: BTreeMap<PartitionId, Incoming>,
    frozen: BTreeMap<PartitionId, Frozen>,
    making: Making,
    /// The moves that this node is to bring about; `None` when that is to be looked up again.
    own: Option<BTreeSet<Move>>,
    leavings: Leavings,
    overtaken: Overtaken,
    /// What was told last.
    told: Vec<TransferFigures>,
    /// Changes of the data store that are under way.
    pub(super) writing: BTreeMap<Token, (PartitionId, KeyspaceId)>,
}

/// A move that this node is to bring about.
#[derive(Debug)]
struct Incoming {
    made: Move,
    step: Step,
    rounds: u32,
    rests_until_ms: u64,
    keys_copied: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Copy,
    /// The source was asked to freeze.
    Freeze {
        request: RequestId,
        due_ms: u64,
    },
    /// It is frozen, under this number.
    Settle {
        freeze: u64,
        due_ms: u64,
    },
    /// It was asked to hand over.
    HandOver {
        request: RequestId,
        due_ms: u64,
    },
    /// Nobody hands over.
    Gather(Catchup),
    /// The move is made, and being persisted.
    Making,
}

impl Incoming {
    fn new(made: Move, is_from_member: bool, now_ms: u64) -> Self {
        let step = match is_from_member {
            true => Step::Copy,
            false => Step::Gather(Catchup::new(now_ms)),
        };
        Incoming { made, step, rounds: 0, rests_until_ms: 0, keys_copied: 0 }
    }

    fn figures(&self) -> TransferFigures {
        let step = match &self.step {
            Step::Copy => "copying",
            Step::Freeze { .. } | Step::Settle { .. } | Step::HandOver { .. } => "handing over",
            Step::Gather(_) => "gathering",
            Step::Making => "persisting",
        };
        let keys_copied = self.keys_copied;
        TransferFigures { made: self.made, is_begun: true, keys_copied, step }
    }
}

/// Who brings a move about.
fn maker(catalogue: &Catalogue, pending: &Move) -> Option<NodeId> {
    let is_member = |node: &NodeId| catalogue.members.contains_key(node);
    let stays = || catalogue.ring.planned_owners(pending.partition).next();
    pending.to.or(pending.from.filter(is_member)).or_else(stays)
}

impl Node {
    /// The transfers that this node drives at present.
    pub fn transfers(&self) -> Vec<TransferFigures> {
        self.transfers.incoming.values().map(Incoming::figures).collect()
    }

    /// Looks at what no event tells.
    pub(super) fn transfer_due(&mut self) {
        self.thaw();
        self.save_moves();
        self.find_transfers();
        let partitions: Vec<PartitionId> = self.transfers.incoming.keys().copied().collect();
        partitions.into_iter().for_each(|partition| self.drive(partition));
        self.look_at_leavings();
        self.go_on_resizing();
        let figures = self.transfers();
        if figures != self.transfers.told {
            self.transfers.told.clone_from(&figures);
            self.notice(Notice::TransferProgress(figures));
        }
        let at_ms = self.in_ms(PERIOD_MS);
        self.timers.set(at_ms, Timer::Transfer);
    }

    /// Takes up moves that are this node's business, and drops those that are not any more.
    fn find_transfers(&mut self) {
        let Some(catalogue) = self.catalogue.clone() else { return };
        let ring = &catalogue.ring;
        let own = self.transfers.own.take().unwrap_or_else(|| {
            let is_own = |pending: &&Move| maker(&catalogue, pending) == Some(self.id);
            ring.moves().iter().filter(is_own).copied().collect()
        });
        let is_current = |pending: &Move| ring.moves_of(pending.partition).first() == Some(pending);
        self.transfers.incoming.retain(|_, incoming| is_current(&incoming.made));
        let going = self.transfers.incoming.values().filter(|incoming| self.can_go_on(incoming));
        let mut free = self.admission.window(TRANSFERS_MAX).saturating_sub(going.count());
        let now_ms = self.now.monotonic_ms;
        if self.was_removed() {
            free = 0;
        }
        for pending in &own {
            if free == 0 {
                break;
            }
            let partition = pending.partition;
            if !is_current(pending)
                || self.transfers.incoming.contains_key(&partition)
                || self.is_dropping(partition)
            {
                continue;
            }
            let hands_over =
                |from: NodeId| from != self.id && catalogue.members.contains_key(&from);
            let incoming = Incoming::new(*pending, pending.from.is_some_and(hands_over), now_ms);
            // Those that wait for one node must not hold up the others.
            if self.can_go_on(&incoming) {
                self.transfers.incoming.insert(partition, incoming);
                free -= 1;
            }
        }
        self.transfers.own = Some(own);
    }

    /// Whether a transfer does not only wait for nodes that are not reachable.
    fn can_go_on(&self, incoming: &Incoming) -> bool {
        match (&incoming.step, incoming.made.from) {
            (Step::Copy, Some(source)) => self.is_reachable(source),
            (Step::Gather(catchup), _) => {
                let mut missing = self.missing(&incoming.made, catchup).into_iter().peekable();
                missing.peek().is_none() || missing.any(|other| self.is_reachable(other))
            }
            _ => true,
        }
    }

    /// Takes up what a move that is made leaves room for.
    fn go_on_transferring(&mut self) {
        self.find_transfers();
        let is_new = |incoming: &Incoming| match &incoming.step {
            Step::Copy => incoming.rounds == 0,
            Step::Gather(catchup) => catchup.is_new(),
            _ => false,
        };
        let new = self.transfers.incoming.iter().filter(|(_, incoming)| is_new(incoming));
        let new: Vec<PartitionId> = new.map(|(partition, _)| *partition).collect();
        new.into_iter().for_each(|partition| self.drive(partition));
    }

    /// Does what a transfer waits for.
    fn drive(&mut self, partition: PartitionId) {
        let now_ms = self.now.monotonic_ms;
        let Some(incoming) = self.transfers.incoming.get_mut(&partition) else { return };
        if let Step::Freeze { due_ms, .. }
        | Step::Settle { due_ms, .. }
        | Step::HandOver { due_ms, .. } = incoming.step
            && due_ms <= now_ms
        {
            // The source has thawed.
            incoming.step = Step::Copy;
            incoming.rests_until_ms = now_ms.saturating_add(REST_MS);
        }
        if incoming.rests_until_ms > now_ms {
            return;
        }
        let (made, source) = (incoming.made, incoming.made.from);
        match incoming.step.clone() {
            Step::Copy | Step::Settle { .. } => {
                if let Some(source) = source.filter(|source| self.is_reachable(*source)) {
                    self.start_exchange((partition, source), ExchangeReason::Transfer);
                }
            }
            Step::Gather(catchup) => self.gather(made, &catchup),
            Step::Freeze { .. } | Step::HandOver { .. } | Step::Making => {}
        }
    }

    /// The owners that were not read whole yet, other than this node, the one whose place is taken,
    /// and those who are gone.
    fn missing(&self, made: &Move, catchup: &Catchup) -> Vec<NodeId> {
        let Some(catalogue) = &self.catalogue else { return Vec::new() };
        let is_asked = |owner: &NodeId| {
            let is_other = *owner != self.id && Some(*owner) != made.from;
            is_other && catalogue.members.contains_key(owner) && !catchup.has_read_whole(*owner)
        };
        catalogue.ring.owners(made.partition).filter(is_asked).collect()
    }

    fn gather(&mut self, made: Move, catchup: &Catchup) {
        if catchup.is_enough(self, made.partition, made.from) {
            return self.make_move(made, None);
        }
        for other in self.missing(&made, catchup) {
            if self.is_reachable(other) {
                self.start_exchange((made.partition, other), ExchangeReason::Transfer);
            }
        }
    }

    /// An exchange that a transfer asked for is over.
    pub(super) fn transfer_exchange_ended(
        &mut self,
        partition: PartitionId,
        peer: NodeId,
        outcome: ExchangeOutcome,
    ) {
        let (rest_ms, rounds_max) = (self.in_ms(REST_MS), ROUNDS_MAX);
        if self.left_exchange_ended(partition, peer, outcome) {
            return;
        }
        let Some(incoming) = self.transfers.incoming.get_mut(&partition) else { return };
        let is_compared = outcome.is_compared();
        incoming.keys_copied += outcome.figures.keys_repaired;
        if !is_compared {
            incoming.rests_until_ms = rest_ms;
            return;
        }
        match &mut incoming.step {
            Step::Copy if incoming.made.from == Some(peer) => {
                incoming.rounds += 1;
                let is_close = outcome.end == ExchangeEnd::Equal
                    || outcome.figures.keys_differed <= CLOSE_KEYS
                    || incoming.rounds >= rounds_max;
                match is_close {
                    true => self.ask_to_freeze(partition, peer),
                    false => self.drive(partition),
                }
            }
            Step::Settle { freeze, .. } if incoming.made.from == Some(peer) => {
                let freeze = *freeze;
                match outcome.end == ExchangeEnd::Equal {
                    true => self.ask_to_hand_over(partition, peer, freeze),
                    false => self.drive(partition),
                }
            }
            Step::Gather(catchup) => {
                catchup.note(peer, outcome.is_peer_whole);
                if !outcome.is_peer_whole {
                    // It may be whole later.
                    incoming.rests_until_ms = rest_ms;
                }
                self.drive(partition);
            }
            _ => {}
        }
    }

    fn ask_to_freeze(&mut self, partition: PartitionId, source: NodeId) {
        let (request, due_ms) = self.transfer_asked(partition, source, TransferStep::Freeze);
        if let Some(incoming) = self.transfers.incoming.get_mut(&partition) {
            incoming.step = Step::Freeze { request, due_ms };
        }
    }

    fn ask_to_hand_over(&mut self, partition: PartitionId, source: NodeId, freeze: u64) {
        let step = TransferStep::HandOver { freeze };
        let (request, due_ms) = self.transfer_asked(partition, source, step);
        if let Some(incoming) = self.transfers.incoming.get_mut(&partition) {
            incoming.step = Step::HandOver { request, due_ms };
        }
    }

    fn transfer_asked(
        &mut self,
        partition: PartitionId,
        source: NodeId,
        step: TransferStep,
    ) -> (RequestId, u64) {
        let (request, ring_version) = (self.number(), self.ring_version());
        let due_ms = self.in_ms(FREEZE_MS);
        let ask = Message::TransferAsk { request, ring_version, partition, step };
        self.ask_as(request, (source, Asker::Transfer(partition)), FREEZE_MS, ask);
        (request, due_ms)
    }

    /// The source has answered.
    pub(super) fn transfer_answered(
        &mut self,
        partition: PartitionId,
        request: RequestId,
        result: Result<u64, ReplicaError>,
    ) {
        let rest_ms = self.in_ms(REST_MS);
        let is_asked = |incoming: &&mut Incoming| match incoming.step {
            Step::Freeze { request: asked, .. } | Step::HandOver { request: asked, .. } => {
                asked == request
            }
            _ => false,
        };
        let incoming = self.transfers.incoming.get_mut(&partition).filter(is_asked);
        let Some(incoming) = incoming else { return };
        match (&incoming.step, result) {
            (Step::Freeze { due_ms, .. }, Ok(freeze)) => {
                incoming.step = Step::Settle { freeze, due_ms: *due_ms };
                self.drive(partition);
            }
            // That the move is made is told to everyone, and then this transfer is over.
            (_, Ok(_)) => {}
            (_, Err(_)) => (incoming.step, incoming.rests_until_ms) = (Step::Copy, rest_ms),
        }
    }
}
