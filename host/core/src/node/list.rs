//! Pages of a keyspace in key order, for clients and for other nodes: see [`crate::listing`].
//!
//! An owner answers under the terms of a read: it owns the partition by a ring that is not
//! overtaken, its store is whole, and both still hold when the page is read. One that has a damaged
//! record there does not answer; anti-entropy mends it.

use super::outgoing::Asker;
use super::{Node, Purpose};
use crate::event::{Action, StoreFailure, Ticket};
use crate::id::{NodeId, RequestId};
use crate::listing::{KeyRange, ListRequest, Listing, Slice};
use crate::message::{Message, ReplicaError};
use crate::request::{Effect, RequestError};

impl Node {
    pub(super) fn start_list(&mut self, ticket: Ticket, request: ListRequest) {
        let ListRequest { range, timeout_ms, .. } = &request;
        let (owners, needed) = match self.list_owners(&request) {
            Ok(found) => found,
            Err(error) => return self.act(Action::ListDone(ticket, Err(error))),
        };
        let number = self.number();
        let listing = Listing::new((ticket, range.partition), needed, owners.iter().copied());
        self.listings.insert(number, listing);
        let (range, patience_ms) = (range.clone(), self.patience_ms().min(*timeout_ms));
        let ring_version = self.ring_version();
        for owner in owners {
            let (request, range) = (self.number(), range.clone());
            let message = Message::List { request, ring_version, range };
            self.ask_as(request, (owner, Asker::Listing(number)), patience_ms, message);
        }
    }

    /// The owners in reach, and how many of them must answer.
    fn list_owners(&self, request: &ListRequest) -> Result<(Vec<NodeId>, u32), RequestError> {
        self.may_write()?;
        let (catalogue, keyspace) = self.keyspace(request.range.keyspace)?;
        let quorums = keyspace.reading();
        let needed = request.r.unwrap_or(quorums.r);
        if needed == 0 || needed > quorums.n {
            return Err(RequestError::BadQuorum { name: "r", found: needed, n: quorums.n });
        }
        let owners = catalogue.ring.owners(request.range.partition).take(quorums.n as usize);
        let reached: Vec<NodeId> = owners.filter(|owner| self.is_reachable(*owner)).collect();
        let answered = reached.len() as u32;
        match answered < needed {
            true => Err(RequestError::QuorumNotReached { needed, answered, effect: Effect::None }),
            false => Ok((reached, needed)),
        }
    }

    pub(super) fn list_answered(
        &mut self,
        from: NodeId,
        request: RequestId,
        result: Result<Slice, ReplicaError>,
    ) {
        let is_asker = |asker: &Asker| matches!(asker, Asker::Listing(_));
        if let Some(Asker::Listing(number)) = self.answered(from, request, is_asker) {
            let slice = self.noting(from, result).ok();
            self.list_ended(number, from, slice);
        }
    }

    /// An owner's part of a page is there, or will not be.
    pub(super) fn list_ended(&mut self, number: RequestId, owner: NodeId, slice: Option<Slice>) {
        let is_over = self.listings.get_mut(&number).is_some_and(|l| l.ended(owner, slice));
        let Some(listing) = is_over.then(|| self.listings.remove(&number)).flatten() else {
            return;
        };
        let (ticket, needed, answered) = (listing.ticket, listing.needed, listing.answered());
        let result = match answered < needed {
            true => Err(RequestError::QuorumNotReached { needed, answered, effect: Effect::None }),
            false => Ok(listing.join()),
        };
        self.act(Action::ListDone(ticket, result));
    }

    /// Another node, or this one, wants to know what is held here.
    pub(super) fn peer_lists(
        &mut self,
        from: NodeId,
        request: RequestId,
        (ring_version, range): (u64, KeyRange),
    ) {
        match self.may_tell(from, ring_version, &range) {
            Ok(()) => {
                let token = self.effect(Purpose::Scan(from, request, ring_version, range.clone()));
                self.act(Action::Scan { token, range });
            }
            Err(error) => self.tell(from, Message::ListReply { request, result: Err(error) }),
        }
    }

    fn may_tell(
        &mut self,
        from: NodeId,
        ring_version: u64,
        range: &KeyRange,
    ) -> Result<(), ReplicaError> {
        let partition = range.partition;
        self.own_partition(from, range.keyspace, ring_version, false, |_| partition)?;
        match self.is_filling(partition) {
            true => Err(ReplicaError::Filling),
            false => Ok(()),
        }
    }

    pub(super) fn scanned(&mut self, token: RequestId, result: Result<Slice, StoreFailure>) {
        let Some(Purpose::Scan(from, request, ring_version, range)) = self.effects.remove(&token)
        else {
            return;
        };
        let held = result.map_err(|error| match error {
            StoreFailure::Damaged => ReplicaError::Damaged,
            other => ReplicaError::Store(other.to_string()),
        });
        // The ring, and what this node is in it, may have changed meanwhile.
        let result = self.may_tell(from, ring_version, &range).and(held);
        self.tell(from, Message::ListReply { request, result });
    }
}
