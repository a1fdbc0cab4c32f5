//! The catalogue: what a whole cluster agrees on without a leader. Members, keyspaces, modules,
//! and the ring.
//!
//! Every node holds one, persists it and joins it with what peers send ([`Catalogue::join`]).
//! The join is commutative, associative and idempotent, so it does not matter in which order or
//! how often changes arrive. Each part says how it joins:
//! - what has a version ([`Versioned`]) by the larger (version, digest of the value);
//! - a keyspace's identity is (name, generation): the higher generation stands, and a deletion
//!   is remembered for ever as the highest generation deleted;
//! - a module is its digest, immutable but for the day it was first pushed and the class of its
//!   limits, which only rises, and its signatures, which become more; it can be deleted and pushed
//!   again, which counts up its generation;
//! - what a keyspace was pinned to is a set that grows, but for its oldest entries;
//! - the ring by its version; rings of one version differ only in the moves they know to be made,
//!   and join to all of them;
//! - what is staged for the next ring has a version; who was removed, and which rings were
//!   committed, only grows.
//!
//! The encoding is JSON: catalogues are small, change seldom, and an operator can read them.

mod access;
mod change;
mod chronicle;
mod class;
mod digest;
mod keyspace;
mod laws;
mod merging;
mod quota;
mod resize;
mod ring_change;
mod signing;
mod stage;
mod trial;
mod versioned;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use access::{
    Access, AccessChange, AccessError, Grant, PRINCIPAL_CHARS_MAX, Principal, Role, TokenDigest,
};
pub use change::{CatalogueChange, ChangeError, KeyspaceUpdate};
pub use chronicle::{Chronicle, ENTRIES_MAX, Entry, REASON_CHARS_MAX, What};
pub use class::{ModuleClass, UnknownClass};
pub use digest::CatalogueDigest;
pub use keyspace::{
    Durability, Keyspace, KeyspaceSpec, KeyspaceState, NAME_BYTES_MAX, Quorums,
    READ_REPAIR_PERCENT, Reconcile,
};
pub use laws::{KeptVerdict, Laws, WHY_CHARS_MAX};
pub use merging::{HISTORY_MS_MAX, Merging, PAUSE_AFTER};
pub use quota::Quota;
pub use resize::{Report, Resize, Resizes, Stage};
pub use ring_change::{Committed, Decision, Removed, RingChange, Staged};
pub use signing::{
    BadSigning, PublicKey, SIGNATURES_MAX, SIGNERS_MAX, Signature, Signatures, signed_text,
};
pub use stage::{REPLICAS_MAX, STAGED_MAX, StageError, WEIGHT_MAX, ZONE_BYTES_MAX};
pub(crate) use stage::{check as check_change, seats_after};
pub use trial::{CanaryLimits, JUDGED_FROM, Trial, TrialFigures, TrialKind};
pub use versioned::Versioned;
pub(crate) use versioned::digest as digest_of;

use crate::causality::SECRET_BYTES;
use crate::holder::Holder;
use crate::id::{ClusterId, Incarnation, KeyspaceId, ModuleDigest, NodeId, PartitionId};
use crate::ring::{Ring, Seat};

/// The level of what a catalogue can hold, told to peers in the handshake. What nodes of a lower level
/// would pass over is not begun while one is connected.
pub const FEATURE_LEVEL: u32 = 7;
/// From this level on a node looks at signatures of modules.
pub const SIGNATURES_LEVEL: u32 = 5;
/// From this level on a node holds puts against quotas, and merges against budgets of memory.
pub const QUOTAS_LEVEL: u32 = 6;
/// From this level on a node knows that a keyspace's n may become another one.
pub const RESIZES_LEVEL: u32 = 7;

/// What a cluster agrees on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its name, for people.
    pub cluster_name: String,
    /// The secrets that authenticate causal contexts; the first one signs.
    pub context_secrets: Versioned<Vec<Secret>>,
    /// The nodes that belong to it.
    pub members: BTreeMap<NodeId, Versioned<Member>>,
    /// The keyspaces, by name, deleted ones included.
    pub keyspaces: BTreeMap<String, KeyspaceState>,
    /// The merge modules that were pushed.
    pub modules: BTreeMap<ModuleDigest, Module>,
    /// Who owns what.
    pub ring: Ring,
    /// Changes of the ring that are staged; catalogues of before have none.
    #[serde(default)]
    pub staged: Versioned<Staged>,
    /// The nodes that are no members any more, for ever.
    #[serde(default)]
    pub removed: BTreeMap<NodeId, Removed>,
    /// What led to each ring after the first, by its version. Kept whole: entries are small, and
    /// operators change a ring seldom.
    #[serde(default)]
    pub history: BTreeMap<u64, Committed>,
    /// Who may do what; catalogues of before, and those of clusters that are open, have nothing.
    #[serde(default, skip_serializing_if = "Access::is_untouched")]
    pub access: Access,
}

/// A secret of 32 bytes; prints nothing of itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(pub [u8; SECRET_BYTES]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; SECRET_BYTES];
        hex::decode_to_slice(&text, &mut bytes)
            .map_err(|_| serde::de::Error::custom("a secret is 64 hexadecimal digits"))?;
        Ok(Secret(bytes))
    }
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where peers reach it: `host:port`, TCP for data, UDP for probes.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where operators reach it.
    pub admin_address: String,
    /// Its region, for people; empty if it has none.
    pub region: String,
    /// Its failure domain; empty if it has none.
    pub zone: String,
    /// Its capacity beside the others'; at least 1.
    pub weight: u32,
    /// The start of it that is served as the member (see [`crate::holder`]); catalogues of before
    /// name none, which is 0.
    #[serde(default)]
    pub incarnation: Incarnation,
}

impl Member {
    /// The process that is served as the member.
    pub fn holder(&self) -> Holder {
        Holder {
            incarnation: self.incarnation,
            peer_address: self.peer_address.clone(),
            client_address: self.client_address.clone(),
            admin_address: self.admin_address.clone(),
        }
    }

    /// The member, served by another process.
    pub fn held_by(&self, holder: &Holder) -> Member {
        Member {
            incarnation: holder.incarnation,
            peer_address: holder.peer_address.clone(),
            client_address: holder.client_address.clone(),
            admin_address: holder.admin_address.clone(),
            ..self.clone()
        }
    }
}

/// A merge module that was pushed; its bytes are fetched by digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Module {
    /// When it was pushed first: milliseconds since 1970 (UTC).
    pub pushed_at_ms: u64,
    /// The name that its team gave it.
    pub name: String,
    /// The length of the component.
    pub size_bytes: u64,
    /// The class of its limits; catalogues from before there were classes have none.
    #[serde(default)]
    pub class: ModuleClass,
    /// How often it was deleted and pushed again; catalogues of before have 0.
    #[serde(default)]
    pub generation: u64,
    /// Whether it is deleted. Its entry stays, lest a node that has not heard of it brings it back.
    #[serde(default)]
    pub is_deleted: bool,
    /// How it stood to the merge laws when it was pushed; none if they were not checked.
    #[serde(default)]
    pub laws: Option<Laws>,
    /// Who has signed it; catalogues of before have nobody.
    #[serde(default, skip_serializing_if = "Signatures::is_empty")]
    pub signatures: Signatures,
}

impl Module {
    /// Takes in what another node knows of the same bytes.
    fn join(&mut self, other: &Module) {
        match self.generation.cmp(&other.generation) {
            Ordering::Less => *self = other.clone(),
            Ordering::Greater => {}
            Ordering::Equal => {
                let class = self.class.max(other.class);
                let is_deleted = self.is_deleted || other.is_deleted;
                let laws = self.laws.clone().max(other.laws.clone());
                let mut signatures = self.signatures.clone();
                signatures.join(&other.signatures);
                let earlier = self.clone().min(other.clone());
                *self = Module { class, is_deleted, laws, signatures, ..earlier };
            }
        }
    }
}

/// Two catalogues are not of the same cluster. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the catalogue is of cluster {theirs}, this node belongs to {ours}")]
pub struct ForeignCatalogue {
    /// The cluster of this node.
    pub ours: ClusterId,
    /// The other one.
    pub theirs: ClusterId,
}

impl Catalogue {
    /// The catalogue of a new cluster without members, keyspaces or modules.
    pub fn new(cluster: ClusterId, cluster_name: &str, secret: Secret) -> Self {
        Catalogue {
            cluster,
            cluster_name: cluster_name.to_owned(),
            context_secrets: Versioned::new(vec![secret]),
            members: BTreeMap::new(),
            keyspaces: BTreeMap::new(),
            modules: BTreeMap::new(),
            ring: Ring::empty(),
            staged: Versioned::default(),
            removed: BTreeMap::new(),
            history: BTreeMap::new(),
            access: Access::default(),
        }
    }

    /// Takes in all that `other` knows.
    pub fn join(&mut self, other: &Catalogue) -> Result<(), ForeignCatalogue> {
        if self.cluster != other.cluster {
            return Err(ForeignCatalogue { ours: self.cluster, theirs: other.cluster });
        }
        if other.cluster_name > self.cluster_name {
            self.cluster_name.clone_from(&other.cluster_name);
        }
        self.context_secrets.join(&other.context_secrets);
        for (node, theirs) in &other.members {
            match self.members.get_mut(node) {
                Some(ours) => ours.join(theirs),
                None => drop(self.members.insert(*node, theirs.clone())),
            }
        }
        for (name, theirs) in &other.keyspaces {
            self.keyspaces.entry(name.clone()).or_default().join(theirs);
        }
        for (digest, theirs) in &other.modules {
            let ours = self.modules.entry(*digest).or_insert_with(|| theirs.clone());
            ours.join(theirs);
        }
        self.ring.join(&other.ring);
        self.staged.join(&other.staged);
        self.take_history(&other.history);
        self.take_removed(&other.removed);
        self.access.join(&other.access);
        self.label();
        Ok(())
    }

    /// A hash over all of it: equal digests, equal catalogues.
    pub fn digest(&self) -> [u8; 32] {
        CatalogueDigest::of(self).whole()
    }

    /// The modules that are not deleted, by digest.
    pub fn live_modules(&self) -> impl Iterator<Item = (&ModuleDigest, &Module)> {
        self.modules.iter().filter(|(_, module)| !module.is_deleted)
    }

    /// The module with this digest, unless it is deleted or was never pushed.
    pub fn module(&self, digest: &ModuleDigest) -> Option<&Module> {
        self.modules.get(digest).filter(|module| !module.is_deleted)
    }

    /// The keyspaces that are pinned to a module, or try it.
    pub fn keyspaces_with(&self, digest: &ModuleDigest) -> impl Iterator<Item = &Keyspace> {
        self.live_keyspaces().filter(|keyspace| keyspace.modules().any(|module| module == *digest))
    }

    /// The keyspace called `name`, if it exists.
    pub fn keyspace(&self, name: &str) -> Option<&Keyspace> {
        self.keyspaces.get(name).and_then(KeyspaceState::live)
    }

    /// The keyspaces that exist, by name.
    pub fn live_keyspaces(&self) -> impl Iterator<Item = &Keyspace> {
        self.keyspaces.values().filter_map(KeyspaceState::live)
    }

    /// The keyspace with this id, if it exists.
    pub fn keyspace_by_id(&self, id: KeyspaceId) -> Option<&Keyspace> {
        self.live_keyspaces().find(|keyspace| keyspace.id == id)
    }

    /// A digest of what a round of collection in `partition` depends on: who the members are, who
    /// serves the partition or is about to, and what keyspaces store where.
    pub fn scope_of(&self, partition: PartitionId) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("stator collection scope v1");
        let mut part = |name: &str, numbers: &mut dyn Iterator<Item = u64>| {
            hasher.update(name.as_bytes());
            for number in numbers {
                hasher.update(&number.to_be_bytes());
            }
        };
        let node = |node: Option<NodeId>| node.map_or(0, |node| node.0);
        part("partition", &mut [u64::from(partition.0)].into_iter());
        part("members", &mut self.members.keys().map(|member| member.0));
        part("removed", &mut self.removed.keys().map(|removed| removed.0));
        part("owners", &mut self.ring.owners(partition).map(|owner| owner.0));
        let moves = self.ring.moves_of(partition).iter();
        part("moves", &mut moves.flat_map(|made| [node(made.from), node(made.to)]));
        let stored = |keyspace: &Keyspace| {
            let survivors = keyspace.reconcile.value.survivors() as u64;
            [keyspace.id.0, u64::from(keyspace.quorums.value.n), survivors]
        };
        let resized =
            self.resizes().flat_map(|(keyspace, resize)| [keyspace.id.0, u64::from(resize.to.n)]);
        part("keyspaces", &mut self.live_keyspaces().flat_map(stored).chain(resized));
        *hasher.finalize().as_bytes()
    }

    /// The changes of n that are under way.
    pub fn resizes(&self) -> impl Iterator<Item = (&Keyspace, &Resize)> {
        self.live_keyspaces().filter_map(|keyspace| {
            keyspace.resizes.present.as_ref().map(|resize| (keyspace, resize))
        })
    }

    /// A member tells how far it is with the change of a keyspace's n, and what that leads to is
    /// done.
    pub fn go_on_resizing(&mut self, name: &str, member: NodeId, report: Report) {
        let Catalogue { keyspaces, members, ring, .. } = self;
        if let Some(keyspace) = keyspaces.get_mut(name) {
            keyspace.go_on_resizing((member, report), members.keys(), ring.version());
        }
    }

    /// The keyspaces that were deleted. What is not known at all may be one that a peer has just
    /// made.
    pub fn deleted_keyspaces(&self) -> impl Iterator<Item = KeyspaceId> {
        self.keyspaces.iter().flat_map(|(name, state)| {
            (1..=state.deleted_through).map(move |generation| KeyspaceId::of(name, generation))
        })
    }

    /// The members as a first ring takes them: all of them.
    pub fn seats(&self) -> Vec<Seat> {
        self.members.keys().filter_map(|node| self.seat(*node)).collect()
    }

    /// A member as a ring takes it.
    pub fn seat(&self, node: NodeId) -> Option<Seat> {
        let Member { region, zone, weight, .. } = self.members.get(&node)?.value.clone();
        Some(Seat { node, region, zone, weight })
    }

    /// The bytes to store or send.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// A text for people: where the bytes are not a catalogue.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let catalogue: Catalogue =
            serde_json::from_slice(bytes).map_err(|error| format!("not a catalogue: {error}"))?;
        if catalogue.ring.is_sound() {
            Ok(catalogue)
        } else {
            Err("not a catalogue: its ring contradicts itself".to_owned())
        }
    }
}
