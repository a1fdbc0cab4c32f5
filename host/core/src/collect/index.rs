//! The index by which a store finds what collection is to look at, so that finding it costs by its
//! number and not by the size of the store.
//!
//! It is written with the records, in the same step. Each record says itself how it is listed, so
//! that whoever replaces it knows what to take off the index.

use crate::causality::Siblings;
use crate::id::PartitionId;
use crate::keys::StoreKey;
use crate::record::Record;
use crate::tree::ObjectHash;

/// How many actors of an object are dead before they are worth a round.
pub const DEAD_ACTORS_MIN: usize = 8;

/// How a record is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listed {
    /// As one that may be forgotten, wholly or in part.
    pub is_forgettable: bool,
    /// As one to be looked at at this time, in milliseconds since 1970: something of it expires, or
    /// no retry of its writes need be recognised any more.
    pub due_ms: Option<u64>,
}

impl Listed {
    /// How `record` is to be listed if the clocks of all members are past `passed_ms`.
    pub fn of(record: &Record, passed_ms: u64, dead_actors_min: usize) -> Listed {
        let siblings: &Siblings = &record.siblings;
        if !siblings.is_deleted() {
            let is_forgettable = siblings.dead_actors() >= dead_actors_min.max(1);
            return Listed { is_forgettable, due_ms: siblings.first_end_ms() };
        }
        let named_until_ms = record.named_until_ms().filter(|until_ms| *until_ms > passed_ms);
        Listed { is_forgettable: named_until_ms.is_none(), due_ms: named_until_ms }
    }
}

/// A place among what is due: behind this time and key.
pub type DuePlace = (u64, StoreKey);

/// What a store's index is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexQuery {
    /// What may be forgotten, in key order: of the first partition that has any, from this one on.
    Forgettable {
        /// The partition.
        from: PartitionId,
        /// Behind this key, which is of that partition.
        after: Option<StoreKey>,
    },
    /// What was to be looked at until a time, in order of that.
    Due {
        /// The time: milliseconds since 1970 (UTC).
        until_ms: u64,
        /// Where the last page ended.
        after: Option<DuePlace>,
    },
}

/// The answer: a page of at most as many as were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexPage {
    /// All of one partition; none at the end of the index.
    Forgettable(Vec<(StoreKey, ObjectHash, bool)>),
    /// With their times; none when nothing else is due.
    Due(Vec<DuePlace>),
}
