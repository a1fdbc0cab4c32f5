//! How varied the merges of a check were: a law that held on a hundred equal cases held once.
//!
//! Everything is counted on what really reached the module. Hashes stand for the payloads.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};
use stator_core::divergence::{Divergence, MergeFailure, Outcome, Resolution};

/// The most hashes that are kept; more different values than these count as so many.
const HASHES_MAX: usize = 200_000;

/// What the merges of a check were like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variety {
    values: HashSet<u64>,
    results: HashSet<u64>,
    /// Bytes of the largest value that was merged.
    pub largest_bytes: usize,
    /// The most siblings of one merge.
    pub siblings_max: usize,
    /// The most merges and edits behind one value, those of the laws included.
    pub depth: usize,
    /// Merges of versions that were written at different times.
    pub with_times: u64,
    /// Merges of versions of different schema numbers.
    pub with_schemas: u64,
    /// Merges with a delete among the siblings.
    pub with_deletes: u64,
}

impl Variety {
    /// Different values that were merged.
    pub fn values(&self) -> usize {
        self.values.len()
    }

    /// Different values that came of it.
    pub fn results(&self) -> usize {
        self.results.len()
    }

    /// Notes a merge.
    pub(super) fn saw(
        &mut self,
        divergence: &Divergence,
        answer: &Result<Resolution, MergeFailure>,
    ) {
        let siblings = &divergence.siblings;
        let differ = |of: fn(&stator_core::divergence::DivergentVersion) -> u64| {
            siblings.windows(2).any(|pair| of(&pair[0]) != of(&pair[1]))
        };
        for value in siblings.iter().filter_map(|sibling| sibling.value.as_ref()) {
            self.largest_bytes = self.largest_bytes.max(value.len());
            note(&mut self.values, value);
        }
        self.siblings_max = self.siblings_max.max(siblings.len());
        self.with_times += u64::from(differ(|sibling| sibling.written_at_ms));
        self.with_schemas += u64::from(differ(|sibling| sibling.schema.into()));
        self.with_deletes += u64::from(siblings.iter().any(|sibling| sibling.value.is_none()));
        if let Ok(Resolution { outcome: Outcome::Value(value), .. }) = answer {
            note(&mut self.results, value);
        }
    }

    /// What is too little for a fold, in words; `None` if it is enough.
    pub(super) fn lacks(&self) -> Option<String> {
        let figures = [
            ("different values were merged", self.values(), Self::VALUES_FOR_FOLDS),
            ("different values came of it", self.results(), Self::RESULTS_FOR_FOLDS),
            ("merges and edits lie behind the deepest value", self.depth, Self::DEPTH_FOR_FOLDS),
        ];
        let (what, found, wanted) = figures.into_iter().find(|(_, found, min)| found < min)?;
        Some(format!("{found} {what}, and {wanted} are needed: give samples that vary more"))
    }

    /// Different values that a module must have merged before it may fold.
    pub const VALUES_FOR_FOLDS: usize = 100;
    /// Different values that must have come of it.
    pub const RESULTS_FOR_FOLDS: usize = 30;
    /// Merges and edits that must lie behind the deepest value.
    pub const DEPTH_FOR_FOLDS: usize = 3;

    /// One of these figures, for a test.
    #[cfg(test)]
    pub(super) fn of(values: u64, results: u64, depth: usize) -> Self {
        let (values, results) = ((0..values).collect(), (0..results).collect());
        Variety { values, results, depth, ..Variety::default() }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "values": self.values(),
            "results": self.results(),
            "largest_bytes": self.largest_bytes,
            "siblings_max": self.siblings_max,
            "depth": self.depth,
            "with_times": self.with_times,
            "with_schemas": self.with_schemas,
            "with_deletes": self.with_deletes,
        })
    }
}

impl fmt::Display for Variety {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} different values merged to {}: up to {} siblings, up to {} bytes, up to {} merges \
             and edits deep; times differed in {} merges, schemas in {}, a delete was in {}",
            self.values(),
            self.results(),
            self.siblings_max,
            self.largest_bytes,
            self.depth,
            self.with_times,
            self.with_schemas,
            self.with_deletes
        )
    }
}

fn note(known: &mut HashSet<u64>, value: &[u8]) {
    if known.len() < HASHES_MAX {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        known.insert(hasher.finish());
    }
}
