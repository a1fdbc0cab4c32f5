//! What a catalogue knows of changes of the ring: those that are staged, those that were made,
//! and the nodes that were removed.
//!
//! Operators stage changes, look at the plan, and commit it. Staged changes are a value with a
//! version like any other and hold for the ring they were staged for: with the next ring those
//! that were not part of it are void. What a commit makes is one [`Decision`], on which the nodes
//! of the ring agree ([`crate::agreement`]); it enters the catalogue whole ([`Catalogue::decide`]).
//!
//! A removed node is remembered for ever: a catalogue of before, wherever it comes from, does not
//! bring it back. Its data directory cannot be a member again; an emptied one is another node.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Catalogue, Secret, Versioned, digest_of};
use crate::agreement::Acceptor;
use crate::causality::SECRET_BYTES;
use crate::id::NodeId;
use crate::ring::Ring;

/// One change of who owns what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RingChange {
    /// A member gets a seat, and its share.
    Join {
        /// The member.
        node: NodeId,
    },
    /// A node hands all it owns to the others, then leaves the cluster.
    Leave {
        /// The node.
        node: NodeId,
    },
    /// A node that will not return is removed at the commit; the others take its share, copied
    /// from its partitions' other owners.
    Remove {
        /// The node.
        node: NodeId,
    },
    /// A node that will not return is removed at the commit, and a member without a seat takes
    /// its place.
    Replace {
        /// The node that goes.
        node: NodeId,
        /// The member that comes.
        by: NodeId,
    },
    /// A member's capacity or labels become others.
    Set {
        /// The member.
        node: NodeId,
        /// Its capacity beside the others'.
        weight: Option<u32>,
        /// Its failure domain.
        zone: Option<String>,
        /// Its region, for people.
        region: Option<String>,
    },
    /// Partitions get at most this many owners.
    Replicas {
        /// The most owners of a partition.
        replicas_max: u16,
    },
}

impl RingChange {
    /// The node that the change is about first, if it is about one.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            RingChange::Join { node }
            | RingChange::Leave { node }
            | RingChange::Remove { node }
            | RingChange::Replace { node, .. }
            | RingChange::Set { node, .. } => Some(*node),
            RingChange::Replicas { .. } => None,
        }
    }
}

/// Changes that an operator wants and has not committed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// The ring for which they were staged; with another one they are void.
    pub base_ring_version: u64,
    /// In the order in which they were staged.
    pub changes: Vec<RingChange>,
}

/// A node that is no member any more, and never will be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Removed {
    /// When: milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// The ring from which on it has no seat.
    pub ring_version: u64,
    /// Where peers reached it, for people.
    pub peer_address: String,
}

/// A ring that was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// When: milliseconds since 1970 (UTC), by the clock of the node that proposed it.
    pub at_ms: u64,
    /// That node.
    pub by: NodeId,
    /// 64 random bits that name the commit.
    pub nonce: u64,
    /// Whether an operator had it made without a majority.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_majority: bool,
    /// What was changed.
    pub changes: Vec<RingChange>,
    /// How many ownerships were to be handed over.
    pub moves: u64,
}

/// What a commit makes: all of it, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The next ring, with its moves.
    pub ring: Ring,
    /// Its entry in the history.
    pub committed: Committed,
    /// The nodes that go at once.
    pub removed: BTreeMap<NodeId, Removed>,
}

impl Decision {
    /// Whether the parts fit each other, for one that came from outside.
    pub fn is_sound(&self) -> bool {
        self.ring.is_sound() && self.ring.version() > 1
    }
}

impl Catalogue {
    /// The changes that are staged for the present ring.
    pub fn staged_changes(&self) -> &[RingChange] {
        match self.staged.value.base_ring_version == self.ring.version() {
            true => &self.staged.value.changes,
            false => &[],
        }
    }

    /// Takes a decision in, unless the ring is at that version already.
    pub fn decide(&mut self, decision: &Decision) {
        let version = decision.ring.version();
        if version <= self.ring.version() {
            return;
        }
        self.ring = decision.ring.clone();
        self.history.insert(version, decision.committed.clone());
        self.take_removed(&decision.removed);
        self.label();
    }

    /// Gives members the weight and labels that were committed last. They are not a change of the
    /// member's version: a node that tells of new addresses without having heard of the commit
    /// would undo it, or the other way round.
    pub(super) fn label(&mut self) {
        for change in self.history.values().flat_map(|made| &made.changes) {
            let RingChange::Set { node, weight, zone, region } = change else { continue };
            let Some(known) = self.members.get_mut(node) else { continue };
            weight.iter().for_each(|weight| known.value.weight = (*weight).max(1));
            zone.iter().for_each(|zone| known.value.zone.clone_from(zone));
            region.iter().for_each(|region| known.value.region.clone_from(region));
        }
    }

    /// Takes in who was removed: of two records of a node the lower one stands.
    pub(super) fn take_removed(&mut self, removed: &BTreeMap<NodeId, Removed>) {
        for (node, theirs) in removed {
            let ours = self.removed.entry(*node).or_insert_with(|| theirs.clone());
            if theirs < ours {
                ours.clone_from(theirs);
            }
        }
        let Catalogue { members, removed, .. } = self;
        members.retain(|node, _| !removed.contains_key(node));
    }

    /// What a removed node is told: who was removed, and with which ring. Of what has happened
    /// since it needs to know nothing else, least of all the secrets.
    pub fn removal(&self) -> Catalogue {
        let mut told = Catalogue::new(self.cluster, &self.cluster_name, Secret([0; SECRET_BYTES]));
        told.context_secrets = Versioned::default();
        told.ring = self.ring.clone();
        told.removed = self.removed.clone();
        told
    }

    /// Takes in what was committed. Nothing makes two rings of one version; if it happened
    /// nevertheless, all nodes keep the same entry.
    pub(super) fn take_history(&mut self, history: &BTreeMap<u64, Committed>) {
        for (version, theirs) in history {
            let ours = self.history.entry(*version).or_insert_with(|| theirs.clone());
            if theirs != ours && digest_of(theirs) > digest_of(ours) {
                ours.clone_from(theirs);
            }
        }
    }

    /// Whether `node` had a seat, gave it up, and is a member until it has handed all over.
    pub fn is_leaving(&self, node: NodeId) -> bool {
        let changes = self.history.values().rev().flat_map(|made| made.changes.iter().rev());
        let mut last = changes.filter(|change| change.node() == Some(node));
        let has_left = last
            .find(|change| matches!(change, RingChange::Join { .. } | RingChange::Leave { .. }));
        self.members.contains_key(&node)
            && !self.ring.has_seat(node)
            && matches!(has_left, Some(RingChange::Leave { .. }))
    }
}

impl Decision {
    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// A text for people: where the bytes are not a decision.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let decision: Decision =
            serde_json::from_slice(bytes).map_err(|error| format!("not a decision: {error}"))?;
        match decision.is_sound() {
            true => Ok(decision),
            false => Err("not a decision: its ring contradicts itself".to_owned()),
        }
    }
}

impl Acceptor<Arc<Decision>> {
    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`Self::encode`] wrote; `None` if it is anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let acceptor: Self = serde_json::from_slice(bytes).ok()?;
        let is_sound = acceptor.accepted().is_none_or(|(_, decision)| decision.is_sound());
        is_sound.then_some(acceptor)
    }
}
