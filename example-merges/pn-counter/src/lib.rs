//! A counter that counts every increment and decrement once (positive-negative counter; Shapiro
//! et al. 2011, section 3.1.3).
//!
//! A plain number cannot be merged: of 7 and 8, both made from 6, nobody can say that 9 is meant,
//! and adding the siblings up would count again what was counted before. So each client keeps its
//! own two numbers that only grow: how much it has ever added, and how much it has ever taken
//! away. Of two values for one client the larger is the later one, which makes merging the maximum.
//!
//! # The format (schema 1)
//! ```json
//! {"added":{"laptop":3,"phone":5},"taken":{"phone":1}}
//! ```
//! The counter's value is the sum of `added` without the sum of `taken`: 7. Either may be
//! missing. Numbers are integers from 0 to 2^53-1, which every JSON library keeps exactly.
//!
//! # What a client does
//! It reads the counter with its context, raises its own number in `added` or `taken`, and puts
//! the whole with that context. It never lowers a number and touches no other client's. Two
//! devices need two names: under one name, of two concurrent increments only the larger counts.
//!
//! # What the merge does
//! The maximum of each client's numbers; zeros are left out. That is a join, so the module may
//! fold.
//!
//! A deleted key (a tombstone among the siblings) takes nothing from a value that was written at
//! the same time: that value holds all earlier counts, so they are back. To start at zero again,
//! use another key.
//!
//! # Limits
//! One entry for each client that ever counted. The value of a client that is gone can never be
//! dropped: the merge would bring it back from the next sibling.

mod checks;

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use stator_guest::{Divergence, Failure, Merge, Resolution};

/// The largest number of a client, 2^53 - 1.
pub const COUNT_MAX: u64 = (1 << 53) - 1;

/// The module.
pub struct PnCounter;

/// A counter as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Counter {
    /// How much each client has added.
    #[serde(deserialize_with = "strict_json::unique")]
    pub added: BTreeMap<String, Count>,
    /// How much each client has taken away.
    #[serde(deserialize_with = "strict_json::unique")]
    pub taken: BTreeMap<String, Count>,
}

/// What one client has counted: at most [`COUNT_MAX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Count(pub u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            count @ 0..=COUNT_MAX => Ok(Count(count)),
            count => Err(D::Error::custom(format!("{count} is above {COUNT_MAX}"))),
        }
    }
}

impl Counter {
    fn absorb(&mut self, other: Counter) {
        for (mine, theirs) in [(&mut self.added, other.added), (&mut self.taken, other.taken)] {
            for (client, count) in theirs.into_iter().filter(|(_, count)| *count > Count(0)) {
                let known = mine.entry(client).or_default();
                *known = count.max(*known);
            }
        }
    }
}

impl Merge for PnCounter {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let mut merged = Counter::default();
        for (sibling, version) in divergence.live() {
            merged.absorb(strict_json::read(sibling, version)?);
        }
        if divergence.live().next().is_none() {
            return Ok(Resolution::delete());
        }
        Ok(strict_json::resolution(&merged))
    }
}

stator_guest::export!(PnCounter, sampler, invariant);
