//! What the parts of a node that are values of their own may see of the node around them. They
//! change nothing of it: what they want done they say as wishes, which the node grants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::exchange::ExchangeId;
use super::{InFlight, Node, Purpose, Settings};
use crate::catalogue::{Catalogue, Keyspace};
use crate::event::Now;
use crate::id::{KeyspaceId, NodeId, PartitionId, RequestId, Token};
use crate::region::Regions;

/// What is under way of a partition, and may carry what was read before.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) requests: BTreeSet<RequestId>,
    pub(super) exchanges: BTreeSet<ExchangeId>,
}

impl Open {
    pub(super) fn is_none(&self) -> bool {
        self.requests.is_empty() && self.exchanges.is_empty()
    }
}

/// What a part asks of the node around it.
pub(super) trait Surroundings {
    fn me(&self) -> NodeId;
    fn now(&self) -> Now;
    fn settings(&self) -> &Settings;
    fn is_stopping(&self) -> bool;
    /// A number that was not used in this life.
    fn number(&mut self) -> u64;
    fn random(&mut self) -> u64;
    /// How much of `max` background work may take now.
    fn window(&self, max: usize) -> usize;
    fn catalogue(&self) -> Option<&Catalogue>;
    /// Those that are not deleted.
    fn keyspaces(&self) -> &BTreeMap<KeyspaceId, Keyspace>;
    /// Whether the keyspace was deleted; one that is not known may be new.
    fn is_deleted(&self, keyspace: KeyspaceId) -> bool;
    fn is_reachable(&self, node: NodeId) -> bool;
    /// Where there is more than one.
    fn regions(&self) -> Option<Arc<Regions>>;
    /// Whether it cannot tell yet what it held of the partition.
    fn is_filling(&self, partition: PartitionId) -> bool;
    /// Whether nothing moves the partition on this node but requests, hints and exchanges.
    fn is_at_rest(&self, partition: PartitionId) -> bool;
    /// Whether the data store is being written to in the partition.
    fn is_writing(&self, partition: PartitionId) -> bool;
    fn open(&self, partition: PartitionId) -> Open;
    /// Takes out of `open` what has ended.
    fn still_open(&self, partition: PartitionId, open: &mut Open);
    /// Merges under way whose results are to be folds.
    fn folds(&self, partition: PartitionId) -> BTreeSet<Token>;
    fn is_effect_open(&self, token: Token) -> bool;

    fn in_ms(&self, delay_ms: u64) -> u64 {
        self.now().monotonic_ms.saturating_add(delay_ms)
    }

    /// All members, this one included.
    fn members(&self) -> Vec<NodeId> {
        self.catalogue().iter().flat_map(|catalogue| catalogue.members.keys().copied()).collect()
    }

    /// Whether `node` is a member, as far as this node knows.
    fn is_member(&self, node: NodeId) -> bool {
        self.catalogue().is_some_and(|catalogue| catalogue.members.contains_key(&node))
    }

    /// A digest of what a round of the partition depends on.
    fn scope(&self, partition: PartitionId) -> [u8; 32] {
        self.catalogue().map_or([0; 32], |catalogue| catalogue.scope_of(partition))
    }

    fn owners(&self, partition: PartitionId) -> Vec<NodeId> {
        self.catalogue().iter().flat_map(|catalogue| catalogue.ring.owners(partition)).collect()
    }

    fn is_owner(&self, partition: PartitionId, node: NodeId) -> bool {
        self.catalogue().is_some_and(|catalogue| catalogue.ring.is_owner(partition, node))
    }

    /// The owners but this one.
    fn others(&self, partition: PartitionId) -> Vec<NodeId> {
        let mut others = self.owners(partition);
        others.retain(|owner| *owner != self.me());
        others
    }

    /// Whether this node owns the partition, or will. If not, nothing new of it must get into the
    /// store: who looks for what could bring back a deleted value has been there already.
    fn may_hold(&self, partition: PartitionId) -> bool {
        let is_ours = |ring: &crate::ring::Ring| {
            ring.is_owner(partition, self.me()) || ring.is_next_owner(partition, self.me())
        };
        self.catalogue().is_none_or(|catalogue| is_ours(&catalogue.ring))
    }

    /// How many of a partition's owners hold the keyspace; `None` if it is not known, or this node
    /// was removed.
    fn replicas(&self, keyspace: KeyspaceId) -> Option<usize> {
        self.catalogue().filter(|catalogue| !catalogue.removed.contains_key(&self.me()))?;
        Some(self.keyspaces().get(&keyspace)?.holders())
    }

    fn partition(&self, keyspace: KeyspaceId, key: &Bytes) -> Option<PartitionId> {
        self.catalogue().map(|catalogue| catalogue.ring.partition(keyspace, key))
    }
}

impl Surroundings for Node {
    fn me(&self) -> NodeId {
        self.id
    }

    fn now(&self) -> Now {
        self.now
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    fn number(&mut self) -> u64 {
        Node::number(self)
    }

    fn random(&mut self) -> u64 {
        rand_chacha::rand_core::Rng::next_u64(&mut self.rng)
    }

    fn window(&self, max: usize) -> usize {
        self.admission.window(max)
    }

    fn catalogue(&self) -> Option<&Catalogue> {
        self.catalogue.as_deref()
    }

    fn keyspaces(&self) -> &BTreeMap<KeyspaceId, Keyspace> {
        &self.keyspaces
    }

    fn is_deleted(&self, keyspace: KeyspaceId) -> bool {
        Node::is_deleted(self, keyspace)
    }

    fn is_reachable(&self, node: NodeId) -> bool {
        Node::is_reachable(self, node)
    }

    fn regions(&self) -> Option<Arc<Regions>> {
        self.regions.clone()
    }

    fn is_filling(&self, partition: PartitionId) -> bool {
        Node::is_filling(self, partition)
    }

    fn is_at_rest(&self, partition: PartitionId) -> bool {
        Node::is_at_rest(self, partition)
    }

    fn is_writing(&self, partition: PartitionId) -> bool {
        self.transfers.is_writing(partition)
    }

    fn open(&self, partition: PartitionId) -> Open {
        let is_of = |request: &InFlight| match request {
            InFlight::Get(get) => get.key.partition == partition,
            InFlight::Put(put) => put.key.partition == partition,
        };
        let requests = self.requests.iter().filter(|(_, request)| is_of(request));
        let listings = self.listings.iter().filter(|(_, listing)| listing.partition == partition);
        let listings = listings.map(|(listing, _)| *listing);
        Open {
            requests: requests.map(|(request, _)| *request).chain(listings).collect(),
            exchanges: self.exchanges.of(partition),
        }
    }

    fn still_open(&self, partition: PartitionId, open: &mut Open) {
        let exchanges = self.exchanges.of(partition);
        let is_open = |request: &RequestId| {
            self.requests.contains_key(request) || self.listings.contains_key(request)
        };
        open.requests.retain(is_open);
        open.exchanges.retain(|exchange| exchanges.contains(exchange));
    }

    fn folds(&self, partition: PartitionId) -> BTreeSet<Token> {
        let is_of = |purpose: &Purpose| match purpose {
            Purpose::Fold(job) => job.partition() == partition,
            _ => false,
        };
        self.effects.iter().filter(|(_, purpose)| is_of(purpose)).map(|(t, _)| *t).collect()
    }

    fn is_effect_open(&self, token: Token) -> bool {
        self.effects.contains_key(&token)
    }
}
