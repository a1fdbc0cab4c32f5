//! The other side of a fill: an owner reads what it holds of a partition to a peer, page by page.

use bytes::Bytes;

use super::{PAGE_BYTES_MAX, PAGE_OBJECTS_MAX};
use crate::event::{Action, ScanPage, StoreFailure, Token};
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::keys::StoreKey;
use crate::message::{FillPage, Message, ReplicaError, RequestId};
use crate::node::{Node, Purpose};

impl Node {
    pub(in crate::node) fn peer_fills(
        &mut self,
        from: NodeId,
        request: RequestId,
        partition: PartitionId,
        their_ring: u64,
        after: Option<(KeyspaceId, Bytes)>,
        bytes_max: u64,
    ) {
        let ring_version = self.ring_version();
        if their_ring > ring_version {
            let digest = self.digest;
            self.send(from, Message::CatalogueDigest { digest });
        }
        // Who asks must not miss what is acknowledged here for coordinators of the older ring. Of
        // the same ring this node may be one that served before.
        if their_ring > ring_version || (!self.owns(partition) && their_ring != ring_version) {
            let result = Err(ReplicaError::NotOwner { ring_version });
            return self.send(from, Message::FillReply { request, result });
        }
        let token = self.effect(Purpose::Scan(from, request, partition));
        let after = after.map(|(keyspace, key)| StoreKey { partition, keyspace, key });
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(PAGE_BYTES_MAX);
        let count_max = PAGE_OBJECTS_MAX;
        self.act(Action::Scan { token, partition, after, count_max, bytes_max });
    }

    /// A page for a peer was read.
    pub(in crate::node) fn scanned(
        &mut self,
        token: Token,
        result: Result<ScanPage, StoreFailure>,
    ) {
        let (to, request, partition) = match self.effects.remove(&token) {
            Some(Purpose::Scan(to, request, partition)) => (to, request, partition),
            Some(Purpose::Collect(_)) => return self.collect_scanned(result),
            _ => return,
        };
        let is_filling = self.is_filling(partition);
        let result = result.map_err(|error| ReplicaError::Store(error.to_string()));
        let result = result.map(|page| FillPage {
            objects: page.objects.into_iter().map(|(k, held)| (k.keyspace, k.key, held)).collect(),
            next: page.next.map(|key| (key.keyspace, key.key)),
            is_whole: !is_filling && page.damaged == 0,
        });
        self.send(to, Message::FillReply { request, result });
    }

    /// Whether this node is one of the owners of `partition`, for some keyspace at least.
    pub(in crate::node) fn owns(&self, partition: PartitionId) -> bool {
        let ring = self.catalogue.as_ref().map(|catalogue| &catalogue.ring);
        ring.is_some_and(|ring| ring.owners(partition).any(|owner| owner == self.id))
    }
}
