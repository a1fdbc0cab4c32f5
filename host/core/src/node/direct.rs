//! What this node does for clients that coordinate gets themselves: it tells what it holds of a key.
//!
//! Section 6.4 of the Dynamo paper, client-driven coordination: the client asks the owners itself and
//! counts their answers, so an answer must be worth what one between nodes is. It is given by an owner
//! that other members would read from, under a ring that is not overtaken for the client either, with
//! all that it ever held. Everything else is a refusal; the client asks another owner, or has the get
//! coordinated by a node. What owners hold is not compared here, hints do not count, and nothing is
//! repaired: a client that finds owners divided has a node read the key.

use std::sync::Arc;

use super::{Node, Purpose};
use crate::causality::Siblings;
use crate::event::{Action, StoreFailure, Ticket};
use crate::id::{KeyspaceId, PartitionId};
use crate::keys::StoreKey;
use crate::request::{Effect, ReplicaRefused, ReplicaRequest, RequestError};

impl Node {
    pub(super) fn start_direct(&mut self, ticket: Ticket, request: ReplicaRequest) {
        match self.owned(&request) {
            Ok(partition) => {
                let ReplicaRequest { keyspace, key, .. } = request;
                let token = self.effect(Purpose::ClientRead(ticket, keyspace));
                let key = StoreKey { partition, keyspace, key };
                self.act(Action::Load { token, key, with_hints: false });
            }
            Err(error) => self.act(Action::ReplicaDone(ticket, Err(error))),
        }
    }

    fn owned(&self, request: &ReplicaRequest) -> Result<PartitionId, ReplicaRefused> {
        let found = self.may_write().and_then(|()| self.keyspace(request.keyspace))?;
        let (partition, is_owner) = self.place_of(found, &request.key, request.ring_version);
        match is_owner {
            false => Err(ReplicaRefused::NotOwner { ring_version: self.ring_version() }),
            true if self.is_filling(partition) => Err(ReplicaRefused::NotWhole),
            true => Ok(partition),
        }
    }

    /// Whether other members would count what this node says of a keyspace: no copy of it that they
    /// have not accepted, none that was removed.
    fn may_count(&self, keyspace: KeyspaceId) -> Result<(), RequestError> {
        self.may_write().and_then(|()| self.keyspace(keyspace).map(drop))
    }

    pub(super) fn direct_ended(
        &mut self,
        ticket: Ticket,
        keyspace: KeyspaceId,
        result: Result<Option<Arc<Siblings>>, StoreFailure>,
    ) {
        let held = result.map(Option::unwrap_or_default).map_err(|failure| match failure {
            StoreFailure::Damaged => ReplicaRefused::NotWhole,
            StoreFailure::NoRoom { bytes_max } => RequestError::NoRoom { bytes_max }.into(),
            other => RequestError::Store { reason: other.to_string(), effect: Effect::None }.into(),
        });
        // It may have been told otherwise meanwhile.
        let answer = self.may_count(keyspace).map_err(ReplicaRefused::from).and(held);
        self.act(Action::ReplicaDone(ticket, answer));
    }
}
