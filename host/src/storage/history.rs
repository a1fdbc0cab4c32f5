//! What was superseded: versions that a write, a fold or a sync put others in the place of.
//!
//! A keyspace may keep them for a time ([`stator_core::catalogue::Merging::history_ms`]), so that
//! what a wrong client or a wrong module replaced can be looked at and put back. They are no part of
//! the protocol: each owner notes, in a [journal](crate::journal) on its own disk, what its own store
//! lets go, while the committer stages the write; who asks, asks all members, so that what an owner
//! of before has noted is found as long as it is a member. To put one back is a write like any other.
//!
//! What is promised: as long as there is room, a version that was in the store of an owner and made
//! way for another is in that owner's journal, also after the process was killed. Not promised: that
//! it survives a power cut (the journal is not synced), or that node's leave: copies of a partition
//! come without its history.
//!
//! Left out: versions that were never stored (of two last writes the loser may never be), and those
//! that expired: who gives a value an end means it.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use stator_core::catalogue::Catalogue;
use stator_core::causality::{LiveVersion, Siblings};
use stator_core::id::KeyspaceId;
use stator_core::keys::StoreKey;
use stator_core::version::{Origin, Payload};

use crate::journal::{Entry, Journal, base64_bytes, base64_option};

/// A version that made way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    /// Its number in this node's history, from 1.
    pub number: u64,
    /// When this node put something in its place: milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// The keyspace's name.
    pub keyspace: String,
    /// Which one of this name.
    pub generation: u64,
    /// The key.
    #[serde(with = "base64_bytes")]
    pub key: Vec<u8>,
    /// The writes that it stood for and that were live.
    pub dots: Vec<String>,
    /// The payload; none is a tombstone.
    #[serde(with = "base64_option")]
    pub value: Option<Vec<u8>>,
    /// The client's schema number.
    pub schema: u32,
    /// When the coordinator took the write: milliseconds since 1970 (UTC).
    pub written_at_ms: u64,
    /// The module that made it by a fold; none is a client's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// The module whose fold stands in its place; none is a client's write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folded_by: Option<String>,
    /// The writes that stand in its place.
    pub by: Vec<String>,
}

impl Entry for Superseded {
    fn number_mut(&mut self) -> &mut u64 {
        &mut self.number
    }
}

/// The history of a node's data store.
pub struct History {
    journal: Journal<Superseded>,
    /// The keyspaces that keep one: name and generation.
    kept: RwLock<HashMap<KeyspaceId, Kept>>,
}

struct Kept {
    name: String,
    generation: u64,
    for_ms: u64,
}

impl History {
    /// The history in `folder`, up to so many bytes. Blocks.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        let journal = Journal::open(("history", folder), bytes_max)?;
        Ok(History { journal, kept: RwLock::default() })
    }

    /// Keeps from now on what the keyspaces of `catalogue` ask for.
    pub fn follow(&self, catalogue: &Catalogue) {
        let kept = catalogue.live_keyspaces().filter_map(|keyspace| {
            let for_ms = keyspace.merging.value.history_ms;
            let (name, generation) = (keyspace.name.clone(), keyspace.generation);
            (for_ms > 0).then_some((keyspace.id, Kept { name, generation, for_ms }))
        });
        let kept = kept.collect();
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    /// Notes what is in `before` and no longer in `after`.
    pub(super) fn note(&self, key: &StoreKey, before: &Siblings, after: &Siblings, now_ms: u64) {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let Some(keyspace) = kept.get(&key.keyspace) else { return };
        let now = after.versions();
        let is_left = |old: &LiveVersion| now.iter().any(|new| new.version == old.version);
        for old in before.versions().iter().filter(|old| !is_left(old)) {
            self.journal.append(&mut superseded((key, keyspace), old, &now, now_ms));
        }
    }

    /// The journal of it.
    pub fn journal(&self) -> &Journal<Superseded> {
        &self.journal
    }

    /// Whether `entry` is to be shown: it is of a keyspace that is there and keeps it still.
    pub fn is_kept(&self, entry: &Superseded, now_ms: u64) -> bool {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let is_of =
            |kept: &&Kept| (kept.generation, &kept.name) == (entry.generation, &entry.keyspace);
        kept.values()
            .find(is_of)
            .is_some_and(|kept| now_ms.saturating_sub(entry.at_ms) <= kept.for_ms)
    }
}

fn superseded(
    (key, keyspace): (&StoreKey, &Kept),
    old: &LiveVersion,
    now: &[LiveVersion],
    at_ms: u64,
) -> Superseded {
    let folder = |origin: &Origin| match origin {
        Origin::Fold { module, .. } => Some(module.to_string()),
        Origin::Client(_) => None,
    };
    // A fold holds what it replaced; a write stands under a dot of its own.
    let holds = |new: &&LiveVersion| {
        let inputs = new.version.origin.inputs();
        old.version.origin.inputs().iter().all(|dot| inputs.binary_search(dot).is_ok())
    };
    let fold = now.iter().find(holds).filter(|new| folder(&new.version.origin).is_some());
    let by = fold.map_or_else(|| now.iter().collect(), |fold| vec![fold]);
    let value = match &old.version.payload {
        Payload::Value(value) => Some(value.to_vec()),
        Payload::Tombstone => None,
    };
    Superseded {
        number: 0,
        at_ms,
        keyspace: keyspace.name.clone(),
        generation: keyspace.generation,
        key: key.key.to_vec(),
        dots: old.dots.iter().map(ToString::to_string).collect(),
        value,
        schema: old.version.schema,
        written_at_ms: old.version.written_at_ms,
        made_by: folder(&old.version.origin),
        folded_by: fold.and_then(|fold| folder(&fold.version.origin)),
        by: by.iter().flat_map(|new| new.dots.iter().map(ToString::to_string)).collect(),
    }
}

/// What the committer of the data store notes things in, if it keeps any.
pub(super) type SharedHistory = Option<Arc<History>>;
