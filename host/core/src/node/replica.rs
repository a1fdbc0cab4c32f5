//! What this node does for other coordinators: reads and writes of what it owns, and hints.

use std::sync::Arc;

use bytes::Bytes;

use super::surroundings::Surroundings;
use super::{Node, Purpose};
use crate::catalogue::{Catalogue, Keyspace};
use crate::causality::Siblings;
use crate::event::{Action, Notice, StoreFailure, Stored};
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::keys::StoreKey;
use crate::message::{Message, ReplicaError, ReplicaWrite, RequestId};
use crate::write::Change;

impl Node {
    /// The key's place, if this node owns it, or does not need to because it is asked as a
    /// fallback. A node whose ring is older than the sender's asks for the newer one.
    pub(super) fn own(
        &mut self,
        from: NodeId,
        (keyspace, key): (KeyspaceId, &Bytes),
        their_ring: u64,
        is_fallback: bool,
    ) -> Result<PartitionId, ReplicaError> {
        self.own_partition(from, keyspace, their_ring, is_fallback, |catalogue| {
            catalogue.ring.partition(keyspace, key)
        })
    }

    /// As [`Self::own`], of a partition that the catalogue tells.
    pub(super) fn own_partition(
        &mut self,
        from: NodeId,
        keyspace: KeyspaceId,
        their_ring: u64,
        is_fallback: bool,
        partition: impl FnOnce(&Catalogue) -> PartitionId,
    ) -> Result<PartitionId, ReplicaError> {
        let ring_version = self.ring_version();
        if their_ring > ring_version {
            let digest = self.digest;
            self.send(from, Message::CatalogueDigest { digest });
        }
        if !self.is_member(from) {
            let digest = self.digest;
            self.send(from, Message::CatalogueDigest { digest });
            return Err(ReplicaError::NotMember);
        }
        let Ok((catalogue, keyspace)) = self.keyspace(keyspace) else {
            // The catalogue that knows the keyspace is on its way; ask for it at once.
            let digest = self.digest;
            self.send(from, Message::CatalogueDigest { digest });
            self.notice(Notice::UnknownKeyspace(keyspace));
            return Err(ReplicaError::UnknownKeyspace);
        };
        let partition = partition(catalogue);
        let n = keyspace.holders();
        if is_fallback || self.is_owner_for(catalogue, (partition, n), their_ring) {
            Ok(partition)
        } else {
            Err(ReplicaError::NotOwner { ring_version })
        }
    }

    /// A key's partition, and whether this node is one of the owners that gets ask, for who goes by
    /// `their_ring`.
    pub(super) fn place_of(
        &self,
        (catalogue, keyspace): (&Catalogue, &Keyspace),
        key: &Bytes,
        their_ring: u64,
    ) -> (PartitionId, bool) {
        let partition = catalogue.ring.partition(keyspace.id, key);
        let n = keyspace.reading().n as usize;
        (partition, self.is_owner_for(catalogue, (partition, n), their_ring))
    }

    pub(super) fn is_owner_for(
        &self,
        catalogue: &Catalogue,
        (partition, n): (PartitionId, usize),
        their_ring: u64,
    ) -> bool {
        let is_owner = catalogue.ring.owners(partition).take(n).any(|owner| owner == self.id);
        is_owner && !self.is_overtaken(partition, their_ring)
    }

    pub(super) fn peer_reads(
        &mut self,
        from: NodeId,
        request: RequestId,
        (keyspace, key): (KeyspaceId, Bytes),
        ring_version: u64,
        is_fallback: bool,
    ) {
        match self.own(from, (keyspace, &key), ring_version, is_fallback) {
            Ok(partition) if self.is_filling(partition) => {
                let result = Err(ReplicaError::Filling);
                self.send(from, Message::ReadReply { request, result });
            }
            Ok(partition) => {
                let token = self.effect(Purpose::PeerRead(from, request));
                let key = StoreKey { partition, keyspace, key };
                self.act(Action::Load { token, key, with_hints: is_fallback });
            }
            Err(error) => {
                self.send(from, Message::ReadReply { request, result: Err(error) });
            }
        }
    }

    pub(super) fn peer_read_ended(
        &mut self,
        from: NodeId,
        request: RequestId,
        result: Result<Option<Arc<Siblings>>, StoreFailure>,
    ) {
        let result = result.map_err(|error| match error {
            StoreFailure::Damaged => ReplicaError::Damaged,
            StoreFailure::NoRoom { bytes_max } => ReplicaError::NoRoom { bytes_max },
            other => ReplicaError::Store(other.to_string()),
        });
        self.send(from, Message::ReadReply { request, result });
    }

    pub(super) fn peer_writes(&mut self, from: NodeId, write: ReplicaWrite) {
        let ReplicaWrite { request, keyspace, key, siblings, is_sync, .. } = write;
        // Another owner's hint that comes to its target is no hint any more.
        let mut targets = write.hint_for;
        targets.retain(|node| *node != self.id);
        let is_hint = !targets.is_empty();
        let own = self.own(from, (keyspace, &key), write.ring_version, is_hint);
        match own.and_then(|partition| self.open_epoch(from, write.epoch).map(|()| partition)) {
            Ok(partition) if !is_hint && self.is_frozen((partition, keyspace), from) => {
                let ring_version = self.ring_version();
                let result = Err(ReplicaError::NotOwner { ring_version });
                self.send(from, Message::WriteReply { request, result });
            }
            Ok(partition) => {
                let writer = (from, request, write.is_background);
                let purpose = Purpose::PeerWrite(writer, keyspace, targets.clone());
                let key = StoreKey { partition, keyspace, key };
                self.write(purpose, key, Change::Sync(siblings), targets, is_sync);
            }
            Err(error) => {
                self.send(from, Message::WriteReply { request, result: Err(error) });
            }
        }
    }

    pub(super) fn peer_write_ended(
        &mut self,
        from: NodeId,
        request: RequestId,
        (keyspace, hint_for): (KeyspaceId, &[NodeId]),
        result: Result<Stored, StoreFailure>,
    ) {
        match &result {
            Ok(_) => hint_for.iter().for_each(|owner| self.hint_kept(*owner, keyspace)),
            Err(error) => hint_for.iter().for_each(|owner| self.hint_failed(*owner, error)),
        }
        let result = result.map(drop).map_err(|error| ReplicaError::Store(error.to_string()));
        self.send(from, Message::WriteReply { request, result });
    }
}
