//! A set from which only what was seen can be removed (observed-remove set; Shapiro, Preguiça,
//! Baquero, Zawirski: "A comprehensive study of Convergent and Commutative Replicated Data Types",
//! 2011, section 3.3.5).
//!
//! Of a plain set `["tea"]` and a plain set `[]` nobody can say whether tea was added to the one
//! or removed from the other. So a value says more: every add has a *tag* that no other add ever
//! uses, and a removal names the tags that its client saw. An add that a removal did not see
//! survives it.
//!
//! # The format (schema 1)
//! ```json
//! {"elements":{"milk":["laptop:1"],"tea":["laptop:2","phone:1"]},"removed":["phone:0"]}
//! ```
//! - `elements`: each element with the tags of its adds. An element is in the set while it has a
//!   tag that is not removed.
//! - `removed`: the tags that are gone for good.
//!
//! Both may be missing. A tag is any string: a UUID, or a client's name with a counter that the
//! client keeps.
//!
//! # What a client does
//! It reads the set with its context, changes it and puts it with that context.
//! - Add: put a fresh tag under the element.
//! - Remove: drop the element and append *all its tags* to `removed`.
//! - Never drop anything from `removed`: a device that was away may still bring its element.
//!
//! # What the merge does
//! The union of all pairs of element and tag, without the tags in the union of `removed`. That is
//! a join, so the module may fold.
//!
//! A deleted key (a tombstone among the siblings) names no tags, so it removes nothing that was
//! written at the same time: not even elements that the deleting client saw. To empty the set,
//! remove its elements; delete the key when nobody writes it any more.
//!
//! # Limits
//! `removed` grows with every removal for as long as the key lives. Names that an object has twice
//! and fields that are not listed here are refused: dropping them would lose what someone wrote.

mod checks;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stator_guest::{Divergence, Failure, Merge, Resolution};

/// The module.
pub struct OrSet;

/// A set as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Set {
    /// The elements, each with the tags of its adds.
    #[serde(deserialize_with = "strict_json::unique")]
    pub elements: BTreeMap<String, BTreeSet<String>>,
    /// The tags that are gone.
    pub removed: BTreeSet<String>,
}

impl Set {
    fn absorb(&mut self, other: Set) {
        for (element, tags) in other.elements {
            self.elements.entry(element).or_default().extend(tags);
        }
        self.removed.extend(other.removed);
    }

    /// Drops what is removed, and elements without a tag: they are in no set.
    fn settle(&mut self) {
        self.elements.retain(|_, tags| {
            tags.retain(|tag| !self.removed.contains(tag));
            !tags.is_empty()
        });
    }
}

impl Merge for OrSet {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let mut merged = Set::default();
        for (sibling, version) in divergence.live() {
            merged.absorb(strict_json::read(sibling, version)?);
        }
        if divergence.live().next().is_none() {
            return Ok(Resolution::delete());
        }
        merged.settle();
        Ok(strict_json::resolution(&merged))
    }
}

stator_guest::export!(OrSet, sampler, invariant);
