//! The other side of an exchange: an owner tells a peer what its hash trees say.

use super::Node;
use crate::event::{Action, StoreFailure};
use crate::id::NodeId;
use crate::message::{Message, ReplicaError, RequestId};
use crate::node::Purpose;
use crate::tree::{TreeAnswer, TreeQuery, TreeRead};

impl Node {
    /// A peer asks. Who cannot tell what it held says so: its tree would call for its loss to be
    /// repaired key by key, which the fill does better.
    pub(in crate::node) fn peer_reads_tree(
        &mut self,
        from: NodeId,
        request: RequestId,
        their_ring: u64,
        read: TreeRead,
    ) {
        let ring_version = self.ring_version();
        if their_ring > ring_version {
            let digest = self.digest;
            self.send(from, Message::CatalogueDigest { digest });
        }
        let error = match self.owns(read.partition) {
            // Who asks must not miss what is acknowledged here for coordinators of the older ring.
            _ if their_ring > ring_version => Some(ReplicaError::NotOwner { ring_version }),
            _ if self.is_filling(read.partition) => Some(ReplicaError::Filling),
            false => Some(ReplicaError::NotOwner { ring_version }),
            true => None,
        };
        if let Some(error) = error {
            return self.send(from, Message::TreeReply { request, result: Err(error) });
        }
        if read.query == TreeQuery::Roots {
            self.roots_asked(from, read.partition);
        }
        let token = self.effect(Purpose::PeerTree(from, request));
        self.act(Action::ReadTree { token, read });
    }

    pub(super) fn peer_tree_read(
        &mut self,
        to: NodeId,
        request: RequestId,
        result: Result<TreeAnswer, StoreFailure>,
    ) {
        let result = result.map_err(|error| ReplicaError::Store(error.to_string()));
        self.send(to, Message::TreeReply { request, result });
    }
}
