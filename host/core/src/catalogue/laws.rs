//! How a module stood to the merge laws when it was pushed.
//!
//! It is kept for people, with the module: each node checks a module itself before a keyspace folds
//! by it, and believes nobody's word for that.

use serde::{Deserialize, Serialize};

/// The longest reason, in characters.
pub const WHY_CHARS_MAX: usize = 400;

/// The verdicts on a module.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Laws {
    /// On each law, by its name.
    pub verdicts: Vec<(String, KeptVerdict)>,
    /// Why it may not fold; empty if it may.
    pub why_no_fold: String,
}

/// The verdict on a law.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptVerdict {
    /// It holds on so many cases.
    Holds(u64),
    /// There is a counterexample.
    Violated,
    /// It cannot be said.
    NotCheckable,
}
