//! The source's side of a transfer: to freeze a partition, and to hand it over.

use super::{FREEZE_MS, Transfers};
use crate::event::Token;
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::message::{Message, ReplicaError, RequestId, TransferStep};
use crate::node::Node;
use crate::ring::Move;

/// A partition of which this node takes no writes as an owner.
#[derive(Debug)]
pub(super) struct Frozen {
    /// Who is to take over.
    to: NodeId,
    /// Names this freeze, in this life of the node: a hand-over that was asked for under another
    /// one may lack what was written in between.
    number: u64,
    until_ms: u64,
    /// Whether anything was written since the target asked for the roots last: it may lack that.
    is_written: bool,
    /// Who is to be told once running writes have ended.
    asker: Option<RequestId>,
}

impl Transfers {
    /// Whether something of the partition is being written to the data store.
    pub(in crate::node) fn is_writing(&self, partition: PartitionId) -> bool {
        self.writing.values().any(|(written, _)| *written == partition)
    }

    /// Whether something of a keyspace in it is.
    pub(super) fn is_writing_of(&self, stretch: (PartitionId, KeyspaceId)) -> bool {
        self.writing.values().any(|written| *written == stretch)
    }
}

impl Node {
    /// Whether this node takes no writes of a keyspace in the partition from `from`, though it owns it.
    pub(in crate::node) fn is_frozen(
        &self,
        (partition, keyspace): (PartitionId, KeyspaceId),
        from: NodeId,
    ) -> bool {
        let frozen = self.transfers.frozen.get(&partition);
        // What is dropped must not be added to, whoever sends it.
        self.is_dropping(partition)
            || self.is_dropping_of(keyspace, Some(partition))
            || self.is_served_elsewhere(partition, from)
            || frozen.is_some_and(|f| f.to != from && self.now.monotonic_ms < f.until_ms)
    }

    /// The next owner of a partition asks.
    pub(in crate::node) fn transfer_asked_by(
        &mut self,
        from: NodeId,
        request: RequestId,
        their_ring: u64,
        (partition, step): (PartitionId, TransferStep),
    ) {
        let result = match (self.move_to(partition, from), step) {
            _ if their_ring != self.ring_version() => Err(self.not_owner()),
            (None, _) => Err(self.not_owner()),
            _ if self.is_filling(partition) => Err(ReplicaError::Filling),
            _ if !self.is_mended(partition) => Err(ReplicaError::Damaged),
            (Some(_), TransferStep::Freeze) => return self.freeze(from, request, partition),
            (Some(made), TransferStep::HandOver { freeze }) => {
                let now_ms = self.now.monotonic_ms;
                let frozen = self.transfers.frozen.get(&partition);
                let holds = |f: &Frozen| {
                    (f.to, f.number) == (from, freeze) && !f.is_written && now_ms < f.until_ms
                };
                if frozen.is_some_and(holds) {
                    self.transfers.frozen.remove(&partition);
                    return self.make_move(made, Some((from, request)));
                }
                Err(ReplicaError::Store("the freeze is over".to_owned()))
            }
        };
        if matches!(result, Err(ReplicaError::NotOwner { .. })) {
            let digest = self.digest;
            self.send(from, Message::CatalogueDigest { digest });
        }
        self.send(from, Message::TransferAnswer { request, result });
    }

    fn not_owner(&self) -> ReplicaError {
        ReplicaError::NotOwner { ring_version: self.ring_version() }
    }

    /// The move that this node is to make next in favour of `to`, if it is one.
    fn move_to(&self, partition: PartitionId, to: NodeId) -> Option<Move> {
        let first = *self.catalogue.as_ref()?.ring.moves_of(partition).first()?;
        (first.from == Some(self.id) && first.to == Some(to)).then_some(first)
    }

    fn freeze(&mut self, to: NodeId, request: RequestId, partition: PartitionId) {
        let (number, until_ms) = (self.number(), self.in_ms(FREEZE_MS));
        let frozen = Frozen { to, number, until_ms, is_written: true, asker: Some(request) };
        self.transfers.frozen.insert(partition, frozen);
        self.tell_drained(partition);
    }

    /// Tells who asked for a freeze, once no write is under way.
    fn tell_drained(&mut self, partition: PartitionId) {
        if self.transfers.is_writing(partition) {
            return;
        }
        let Some(frozen) = self.transfers.frozen.get_mut(&partition) else { return };
        let (to, number) = (frozen.to, frozen.number);
        if let Some(request) = frozen.asker.take() {
            self.send(to, Message::TransferAnswer { request, result: Ok(number) });
        }
    }

    /// A change of the data store begins.
    pub(in crate::node) fn write_begins(&mut self, token: Token, p: PartitionId, of: KeyspaceId) {
        self.transfers.writing.insert(token, (p, of));
        if let Some(frozen) = self.transfers.frozen.get_mut(&p) {
            frozen.is_written = true;
        }
    }

    /// A peer asks for the roots of a partition. What is written from now on they do not show;
    /// what is being written they may not show.
    pub(in crate::node) fn roots_asked(&mut self, from: NodeId, partition: PartitionId) {
        let is_writing = self.transfers.is_writing(partition);
        if let Some(frozen) = self.transfers.frozen.get_mut(&partition)
            && frozen.to == from
        {
            frozen.is_written = is_writing;
        }
    }

    /// A change of the data store has ended.
    pub(in crate::node) fn write_ended(&mut self, token: Token) {
        let Some((partition, keyspace)) = self.transfers.writing.remove(&token) else { return };
        self.written_elsewhere(partition, keyspace);
        if self.transfers.frozen.contains_key(&partition) {
            self.tell_drained(partition);
        }
    }

    /// Ends freezes that nobody came back to.
    pub(super) fn thaw(&mut self) {
        let now_ms = self.now.monotonic_ms;
        self.transfers.frozen.retain(|_, frozen| now_ms < frozen.until_ms);
    }
}
