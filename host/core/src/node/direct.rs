//! What this node does for clients that coordinate gets themselves: it tells what it holds of a key.
//!
//! Section 6.4 of the Dynamo paper, client-driven coordination: the client asks the owners itself and
//! counts their answers, so an answer must be worth what one between nodes is. It is given by an owner
//! that other members would read from, under a ring that is not overtaken for the client either, with
//! all that it ever held, both when it was asked and when it answers. Everything else is a refusal; the
//! client asks another owner, or has the get coordinated by a node.
//!
//! The client's ring matters as much as this node's. A client may hear for long from one node only, which
//! is cut off and was replaced without its knowledge: with it, and with an owner that misses the latest
//! writes, the client would have a quorum that has seen nothing of them. That owner refuses, because the
//! client's ring is overtaken.
//!
//! What owners hold is not compared here, hints do not count, and nothing is repaired: a client that
//! finds owners divided has a node read the key.

use std::sync::Arc;

use super::{Node, Purpose};
use crate::causality::Siblings;
use crate::event::{Action, StoreFailure, Ticket};
use crate::id::PartitionId;
use crate::keys::StoreKey;
use crate::request::{Effect, ReplicaReceipt, ReplicaRefused, ReplicaRequest, RequestError};

impl Node {
    pub(super) fn start_direct(&mut self, ticket: Ticket, request: ReplicaRequest) {
        match self.owned(&request) {
            Ok(partition) => {
                let (keyspace, key) = (request.keyspace, request.key.clone());
                let token = self.effect(Purpose::ClientRead(ticket, Box::new(request)));
                let key = StoreKey { partition, keyspace, key };
                self.act(Action::Load { token, key, with_hints: false });
            }
            Err(refused) => self.act(Action::ReplicaDone(ticket, Err(refused))),
        }
    }

    /// Where the key lies, if what this node holds of it counts.
    fn owned(&self, request: &ReplicaRequest) -> Result<PartitionId, ReplicaRefused> {
        // Other members would not count a copy of this node that they have not accepted.
        self.may_write()?;
        let found = self.keyspace(request.keyspace)?;
        let (partition, is_owner) = self.place_of(found, &request.key, request.ring_version);
        match is_owner {
            false => Err(ReplicaRefused::NotOwner { ring_version: self.ring_version() }),
            true if self.is_filling(partition) => Err(ReplicaRefused::NotWhole),
            true => Ok(partition),
        }
    }

    pub(super) fn direct_ended(
        &mut self,
        ticket: Ticket,
        request: &ReplicaRequest,
        result: Result<Option<Arc<Siblings>>, StoreFailure>,
    ) {
        let held = result.map(Option::unwrap_or_default).map_err(|failure| match failure {
            StoreFailure::Damaged => ReplicaRefused::NotWhole,
            StoreFailure::NoRoom { bytes_max } => RequestError::NoRoom { bytes_max }.into(),
            other => RequestError::Store { reason: other.to_string(), effect: Effect::None }.into(),
        });
        // The ring, and what this node is in it, may have changed meanwhile.
        let answer = self.owned(request).and(held);
        let ring_version = self.ring_version();
        let answer = answer.map(|siblings| ReplicaReceipt { siblings, ring_version });
        self.act(Action::ReplicaDone(ticket, answer));
    }
}
