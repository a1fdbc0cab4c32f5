//! JSON documents, merged path by path against the version that they were all made from.
//!
//! Two people edit one document at different places. What each of them *changed* can be told only
//! by comparing with the common ancestor: a field that one sibling lacks may be new in the other,
//! or removed from the one. In a keyspace that keeps ancestors (`--ancestor`) Stator hands it over
//! where all siblings have the same (`Ancestor::Known`), says so where the key did not exist before
//! (`Absent`), and otherwise that it does not know (`Unknown`).
//!
//! # The format
//! A value is a JSON object, nested at most [`DEPTH_MAX`] deep. Clients change fields as they like
//! and put the document with the context that they got.
//!
//! # What the merge does
//! For every path, beginning at the top:
//! - **With an ancestor**, the siblings that changed it are those that differ from the ancestor
//!   there. None: it stays. One, or several with the same result: that result, be it a value or a
//!   removal. Several different ones: objects are merged in turn, field by field. What is left
//!   is a *conflict*.
//! - **Absent** is an ancestor without any field: everything is new.
//! - **Unknown**: the union of all fields. Nothing counts as removed, so a removed field comes
//!   back from any sibling that still has it.
//!
//! A conflict is decided by a rule that is arbitrary, but the same everywhere: a value beats a
//! removal, an object beats what is none, and of other values the one with the larger canonical
//! text counts (so `9` beats `10`, and any number beats any string). Arrays are values, never
//! merged inside. The note says at how many paths there was a conflict, and for each of the first
//! [`CONFLICTS_MAX`] an event `conflict` tells the path.
//!
//! # Why this is a view and must not fold
//! It is commutative, associative and idempotent for one and the same ancestor. But a client that
//! read *a* may lower or remove what it read, and with an unknown ancestor a merge with *a*'s own
//! past brings that back: the law checker finds `derived: violated`. As a view that is harmless, for
//! the siblings stay until a client's put settles them.
//!
//! A deleted key (a tombstone among the siblings) removes nothing from a document that was written
//! at the same time: that document stays whole, for half of it makes no sense.
//!
//! # Limits
//! Integers between -2^63 and 2^64 are kept; other numbers are 64-bit floating point and may lose
//! digits (put such in strings). Names that an object has twice are refused.

mod checks;
mod json;
mod merge;

use json::Json;
use merge::Conflicts;
use stator_guest::{Ancestor, Divergence, Failure, Merge, Resolution, Version};

pub use json::DEPTH_MAX;

/// The topic of the event that tells the path of a conflict, as a JSON pointer (RFC 6901).
pub const CONFLICT: &str = "conflict";
/// The most conflicts that are told one by one: a host takes so many events and bytes only.
pub const CONFLICTS_MAX: usize = 20;
/// The longest path that is told.
pub const PATH_BYTES_MAX: usize = 1_000;

/// The module.
pub struct JsonThreeWay;

impl Merge for JsonThreeWay {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let documents = divergence
            .live()
            .map(|(sibling, version)| json::read(sibling, version))
            .collect::<Result<Vec<_>, _>>()?;
        if documents.is_empty() {
            return Ok(Resolution::delete());
        }
        let base = ancestor(&divergence.ancestor)?;
        let documents: Vec<Option<&Json>> = documents.iter().map(Some).collect();
        let mut conflicts = Conflicts::default();
        let merged = merge::merge(base.as_ref(), &documents, &mut conflicts);
        let mut resolution = strict_json::resolution(&merged);
        if conflicts.count > 0 {
            resolution = resolution.with_note(format!("conflicts: {}", conflicts.count));
        }
        for path in conflicts.paths {
            resolution = resolution.with_event(CONFLICT, path);
        }
        Ok(resolution)
    }
}

/// What the siblings are compared with; `None` if that is not known.
fn ancestor(ancestor: &Ancestor) -> Result<Option<Json>, Failure> {
    match ancestor {
        Ancestor::Unknown => Ok(None),
        Ancestor::Absent | Ancestor::Known(Version { value: None, .. }) => Ok(Some(Json::empty())),
        Ancestor::Known(version) => match json::read(0, version) {
            Ok(document) => Ok(Some(document)),
            Err(why) => {
                Err(Failure::unresolvable(format!("the ancestor cannot be read: {}", why.message)))
            }
        },
    }
}

stator_guest::export!(JsonThreeWay, sampler, invariant);
