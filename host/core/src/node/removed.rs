//! What becomes of nodes that were removed from the cluster.
//!
//! A removed node is told, by the first member that it meets, and from then on serves nobody:
//! neither clients nor peers. What it had begun for clients ends then, because an acknowledgement
//! of nodes that are no members is worth nothing. It is told which ring removed it, and nothing
//! else. Writes that it holds and no member has are brought home by an operator, through a member
//! ([`crate::homecoming`] says which).

use std::sync::Arc;

use super::{InFlight, Node, Purpose};
use crate::catalogue::{Catalogue, CatalogueChange};
use crate::event::{Action, NotBroughtHome, StoreFailure, Stored, Ticket};
use crate::homecoming::Homecoming;
use crate::id::{KeyspaceId, NodeId};
use crate::keys::StoreKey;
use crate::message::Message;
use crate::request::{Effect, RequestError};
use crate::write::Change;

impl Node {
    /// Whether `node` was removed from the cluster.
    pub(super) fn is_removed(&self, node: NodeId) -> bool {
        self.catalogue.as_ref().is_some_and(|catalogue| catalogue.removed.contains_key(&node))
    }

    /// Whether this node was removed from its cluster.
    pub fn was_removed(&self) -> bool {
        self.is_removed(self.id)
    }

    /// A removed node that asks what there is to know is told that it was removed.
    pub(super) fn tell_removed(&mut self, node: NodeId, message: &Message) {
        let is_news = match message {
            Message::CatalogueDigest { digest } => *digest != self.digest,
            Message::Catalogue { catalogue, .. } => !catalogue.removed.contains_key(&node),
            _ => false,
        };
        if let Some(ours) = self.catalogue.as_ref().filter(|_| is_news) {
            let catalogue = Arc::new(ours.removal());
            self.send(node, Message::Catalogue { catalogue, is_reply_wanted: false });
        }
    }

    /// This process is no node any more, and `why`: nothing that it has begun for clients is answered
    /// as if it counted.
    pub(super) fn leave_requests(&mut self, why: &RequestError) {
        let ring_version = self.ring_version();
        for request in std::mem::take(&mut self.requests).into_values() {
            match request {
                InFlight::Get(mut get) => {
                    let is_open = get.take_answer(u64::MAX, ring_version).is_some();
                    if let Some(ticket) = get.ticket.filter(|_| is_open) {
                        self.act(Action::GetDone(ticket, Err(why.clone())));
                    }
                }
                InFlight::Put(put) if put.is_answered() => {}
                // Replicas, of whom some may be members, may hold it.
                InFlight::Put(put) if put.is_begun() => {
                    let (needed, effect) = (put.needed(), Effect::Maybe);
                    let short = RequestError::QuorumNotReached { needed, answered: 0, effect };
                    self.put_done(put.ticket, Err(short));
                }
                InFlight::Put(put) => {
                    self.put_done(put.ticket, Err(why.clone()));
                }
            }
        }
    }

    /// Takes what a former member held, or a second holder of a place: as a hint for that node, which
    /// is durable, goes to all owners, and stays until each has synced it ([`super::handoff`]).
    pub(super) fn bring_home(&mut self, ticket: Ticket, home: Homecoming) {
        let Homecoming { from, keyspace, key, siblings } = home;
        let partition = match self.keyspace(keyspace) {
            Ok((catalogue, _)) => catalogue.ring.partition(keyspace, &key),
            Err(error) => return self.act(Action::BroughtHome(ticket, Err(error.into()))),
        };
        let purpose = Purpose::BringHome(ticket, from, keyspace);
        let key = StoreKey { partition, keyspace, key };
        self.write(purpose, key, Change::Sync(siblings), vec![from], true);
    }

    pub(super) fn brought_home(
        &mut self,
        ticket: Ticket,
        (from, keyspace): (NodeId, KeyspaceId),
        result: Result<Stored, StoreFailure>,
    ) {
        match &result {
            Ok(_) => self.hint_kept(from, keyspace),
            Err(error) => self.hint_failed(from, error),
        }
        let result = result.map(drop).map_err(NotBroughtHome::Store);
        self.act(Action::BroughtHome(ticket, result));
    }

    /// This node has given its seat up and holds nothing any more: it leaves the cluster.
    pub fn retire(&mut self) {
        let Some(catalogue) = &self.catalogue else { return };
        let retired = CatalogueChange::Retire { node: self.id, at_ms: self.now.wall_ms };
        let mut changed = Catalogue::clone(catalogue);
        if retired.apply(&mut changed).is_ok() {
            self.publish(changed, Purpose::Gossip);
        }
    }
}
