//! The other side of an exchange: an owner tells a peer what its hash trees say.

use crate::event::{Action, StoreFailure};
use crate::id::{NodeId, PartitionId};
use crate::message::{Message, ReplicaError, RequestId};
use crate::node::surroundings::Surroundings;
use crate::node::{Node, Purpose};
use crate::tree::{TreeAnswer, TreeQuery, TreeRead};

impl Node {
    /// A peer asks. Who cannot tell what it held says so: it would be asked for what it lacks, which
    /// its fill brings anyway.
    pub(in crate::node) fn peer_reads_tree(
        &mut self,
        from: NodeId,
        request: RequestId,
        (their_ring, is_fill): (u64, bool),
        read: TreeRead,
    ) {
        let ring_version = self.ring_version();
        if their_ring > ring_version {
            let digest = self.digest;
            self.send(from, Message::CatalogueDigest { digest });
        }
        let error = match self.owns(read.partition) {
            // What one holds that was removed must not be joined with, nor handed out to it.
            _ if !self.is_member(from) => Some(ReplicaError::NotMember),
            // Who asks must not miss what is acknowledged here for coordinators of the older ring.
            _ if their_ring > ring_version => Some(ReplicaError::NotOwner { ring_version }),
            // Of two that are being filled each gives what it has. Of the same ring this node may
            // be one that served before.
            true if is_fill => None,
            false if is_fill && their_ring == ring_version => None,
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
        let token = self.effect(Purpose::PeerTree(from, request, read.partition));
        self.act(Action::ReadTree { token, read });
    }

    pub(super) fn peer_tree_read(
        &mut self,
        to: NodeId,
        request: RequestId,
        partition: PartitionId,
        result: Result<TreeAnswer, StoreFailure>,
    ) {
        let mut result = result.map_err(|error| ReplicaError::Store(error.to_string()));
        if let Ok(answer) = &mut result {
            self.exchanging(|exchanges, around| exchanges.note_damage(around, partition, answer));
            if let TreeAnswer::Roots(roots) = answer {
                roots.damaged += u64::from(self.is_filling(partition));
            }
        }
        self.send(to, Message::TreeReply { request, result });
    }
}
