//! What may be forgotten of a key, and how a store forgets it: see [`crate::node`]'s collection for
//! when that is safe.
//!
//! Two things pile up under a key although no reader will ever see them:
//! - a *deleted* object, without a live version or with tombstones only, is dropped with its record;
//! - a *dead actor* of an object, in its vector but without a live dot, loses its entry.
//!
//! Both forget that certain dots are dead. Whoever still holds one of them alive would revive it, so
//! neither may happen before it is certain that nobody does. What remains behaves as before towards
//! everything that knows as much as the object did, and towards every new write.
//!
//! Versions that have expired become one or the other first ([`crate::expiry`]).
//!
//! A node whose own actor is dead loses its mark with it, and draws a fresh epoch for its next write.
//!
//! A store finds such objects by its index ([`Listed`]), which is written with the records.
//!
//! Left out: tombstones beside live values, which stay until a client resolves the siblings.

mod index;
mod step;

pub use index::{DEAD_ACTORS_MIN, DuePlace, IndexPage, IndexQuery, Listed};
pub use step::{Candidate, CollectAnswer, CollectAsk};

use crate::causality::{Siblings, Survivors};
use crate::keys::StoreKey;
use crate::record::Record;
use crate::tree::ObjectHash;
use crate::write::{WriteRefused, Written};

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
        true => Ok(Written::kept(record, None)),
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
    Ok(Written { is_changed: true, is_removed, ..Written::kept(record, None) })
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
