//! What may be forgotten of a key, and how a store forgets it: see [`crate::node`]'s collection for
//! when that is safe.
//!
//! Two things pile up under a key although no reader will ever see them:
//! - a *deleted* object, whose live versions are all tombstones, is dropped with its record;
//! - a *dead actor* of an object, in its vector but without a live dot, loses its entry.
//!
//! Both forget that certain dots are dead. Whoever still holds one of them alive would revive it, so
//! neither may happen before it is certain that nobody does. What remains behaves as before towards
//! everything that knows as much as the object did, and towards every new write.
//!
//! A node whose own actor is dead loses its mark with it, and draws a fresh epoch for its next write.
//!
//! Left out: tombstones beside live values, which stay until a client resolves the siblings.

use bytes::Bytes;

use crate::causality::{Siblings, Survivors};
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::keys::StoreKey;
use crate::record::Record;
use crate::tree::ObjectHash;
use crate::write::{WriteRefused, Written};

/// An object that may be forgotten, wholly or in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The key.
    pub key: Bytes,
    /// The object, by its hash in the trees.
    pub hash: ObjectHash,
    /// Whether all its live versions are tombstones.
    pub is_deleted: bool,
    /// Of a seal: whether its owner had nothing of the key when it was to mark it.
    pub was_absent: bool,
}

impl Candidate {
    /// What it is called, whatever it holds.
    pub fn name(&self) -> (KeyspaceId, Bytes) {
        (self.keyspace, self.key.clone())
    }

    /// Where a store keeps it.
    pub fn store_key(&self, partition: PartitionId) -> StoreKey {
        StoreKey { partition, keyspace: self.keyspace, key: self.key.clone() }
    }
}

/// What the leader of a round asks, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectAsk {
    /// Of owners: do you hold exactly these, synced?
    Mark(Vec<Candidate>),
    /// Of members: do you hold anything of the partition for others?
    Clean,
    /// Of members: end what may carry objects of the partition, and send under a new epoch.
    Fence,
    /// Of members: refuse what was sent under earlier epochs. Is all as it was?
    Seal {
        /// As [`CollectAnswer::Clean`] said.
        life: u64,
        /// As [`CollectAnswer::Clean`] said.
        hints_stored: u64,
        /// The oldest epoch that is not refused, for every member.
        floors: Vec<(NodeId, u64)>,
        /// What owners have marked; nothing for others.
        candidates: Vec<Candidate>,
    },
    /// Of owners: forget these.
    Drop {
        /// As [`CollectAnswer::Marked`] said.
        life: u64,
        /// What all owners have sealed.
        candidates: Vec<Candidate>,
    },
}

/// The answer to a [`CollectAsk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectAnswer {
    /// To [`CollectAsk::Mark`].
    Marked {
        /// The answering node's life: another one voids the mark.
        life: u64,
        /// Places in the list of what is held exactly so, or not at all where that will do.
        agreed: Vec<u32>,
        /// Those of them of which nothing is held.
        absent: Vec<u32>,
    },
    /// To [`CollectAsk::Clean`]: nothing.
    Clean {
        /// The answering node's life.
        life: u64,
        /// How many hints of the partition it has stored in this life.
        hints_stored: u64,
    },
    /// To [`CollectAsk::Fence`]: all that was open has ended, and this is the new epoch.
    Fenced {
        /// The epoch.
        epoch: u64,
    },
    /// To [`CollectAsk::Seal`]: it is.
    Sealed {
        /// Places in the list of what is still held exactly so.
        agreed: Vec<u32>,
    },
    /// To [`CollectAsk::Drop`].
    Dropped {
        /// How many were held and are forgotten.
        count: u64,
    },
}

/// An object that a store is asked about, or is to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// The key.
    pub key: StoreKey,
    /// The object.
    pub hash: ObjectHash,
    /// Whether a store that has nothing of the key agrees too.
    pub may_be_absent: bool,
    /// Whether a store that has something of the key disagrees, whatever it is: it had nothing
    /// when it was to mark it, and what has come since may be old.
    pub must_be_absent: bool,
    /// The clock: milliseconds since 1970 (UTC). Decides about names of writes and, where the
    /// last write wins, about timestamps; never about what is safe to forget.
    pub now_ms: u64,
}

/// Whether the stored object is the marked one. Changes nothing.
pub(crate) fn attest(
    stored: Option<Record>,
    marked: &Marked,
    survivors: Survivors,
) -> Result<Written, WriteRefused> {
    let is_as_marked = match &stored {
        None => marked.may_be_absent || marked.must_be_absent,
        Some(_) if marked.must_be_absent => false,
        Some(record) => {
            record.object_hash(&marked.key) == marked.hash
                && is_forgettable(record, marked, survivors)
        }
    };
    let record = stored.unwrap_or_default();
    match is_as_marked {
        true => Ok(Written { record, dot: None, is_changed: false, is_removed: false }),
        false => Err(WriteRefused::NotAsMarked),
    }
}

/// Forgets what may be forgotten of the marked object.
pub(crate) fn collect(
    stored: Option<Record>,
    marked: &Marked,
    survivors: Survivors,
) -> Result<Written, WriteRefused> {
    let Some(mut record) = stored else { return Err(WriteRefused::NotAsMarked) };
    if record.object_hash(&marked.key) != marked.hash || !is_forgettable(&record, marked, survivors)
    {
        return Err(WriteRefused::NotAsMarked);
    }
    let is_removed = record.siblings.is_deleted();
    if !is_removed {
        record.siblings_mut().drop_dead_actors();
        let vector = record.siblings.vector();
        record.mark = record.mark.filter(|mark| vector.get(&mark.actor) > 0);
        record.object_hash = None;
    }
    Ok(Written { record, dot: None, is_changed: true, is_removed })
}

/// Whether the record may go, as far as its own node's promises are concerned.
fn is_forgettable(record: &Record, marked: &Marked, survivors: Survivors) -> bool {
    if !record.siblings.is_deleted() {
        return record.siblings.dead_actors() > 0;
    }
    // The retry of a named write is still recognised here.
    let is_named = record.knows_names(marked.now_ms);
    // A put that meets the tombstone gets a later timestamp; one that does not must have one, too.
    let is_of_the_future =
        survivors == Survivors::LastWrite && record.siblings.latest_ms() >= marked.now_ms;
    !is_named && !is_of_the_future
}

impl Siblings {
    /// Whether every live version is a tombstone.
    pub fn is_deleted(&self) -> bool {
        self.live().all(|(_, version)| version.payload.value().is_none())
    }
}
