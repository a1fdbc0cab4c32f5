//! A register that keeps the largest value: the high score of a game.
//!
//! The simplest merge there is, and the one most often written wrong. "The larger score wins" says
//! nothing about two players with the *same* score. This loop decides it by the order in which
//! the siblings come:
//!
//! ```ignore
//! for (_, entry) in entries {
//!     if entry.score >= best.score { best = entry }   // wrong: of equal scores, the last one seen
//! }
//! ```
//!
//! `>` instead takes the first one seen, and is as wrong: merges of the same versions in another
//! order, or of a part of them first, disagree. The order must be *total*: of any two different
//! values one is larger. Here that is the score, then the bytes of the player's name.
//!
//! # The format (schema 1)
//! ```json
//! {"score":120,"player":"anna"}
//! ```
//! `score` is an integer from 0 to 2^64-1, `player` any string. Both are required.
//!
//! # What a client does
//! It reads the entry with its context and puts a larger one with that context, or nothing. A
//! client that lowered the score would see it come back from any sibling that still has it: such
//! a register is last-write-wins, which is built in and needs no module.
//!
//! # What the merge does
//! The largest entry. The maximum of a total order is a join, so the module may fold.
//!
//! A deleted key (a tombstone among the siblings) is smaller than every entry: what was written at
//! the same time stays.

mod checks;

use serde::{Deserialize, Serialize};
use stator_guest::{Divergence, Failure, Merge, Resolution};

/// The module.
pub struct MaxRegister;

/// An entry. The derived order compares the fields from top to bottom: it is the total order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What counts.
    pub score: u64,
    /// What decides between equal scores, by its bytes.
    pub player: String,
}

impl Merge for MaxRegister {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let mut best: Option<Entry> = None;
        for (sibling, version) in divergence.live() {
            // None is smaller than every entry.
            best = best.max(Some(strict_json::read(sibling, version)?));
        }
        // The entry is written anew, not copied: the same entry with other white space is the same.
        Ok(best.map_or_else(Resolution::delete, |entry| strict_json::resolution(&entry)))
    }
}

stator_guest::export!(MaxRegister, sampler, invariant);
