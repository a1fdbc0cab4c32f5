//! What is kept of a merge.

use serde::{Deserialize, Serialize};
use stator_core::divergence::{Divergence, MergeFailure, Outcome, Resolution};
use stator_core::id::ModuleDigest;

use crate::journal::{Entry, base64_bytes};

/// The longest words of a failure that are kept, in characters.
const WORDS_CHARS_MAX: usize = 1_024;

/// Why there was a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Someone read the key.
    Read,
    /// What it makes replaces the siblings in the store.
    Fold,
    /// A module on trial, or the pinned one beside a canary: what it made was only compared.
    Trial,
    /// A failed merge was tried again.
    Retry,
}

impl Cause {
    /// As it is called everywhere.
    pub fn word(self) -> &'static str {
        match self {
            Cause::Read => "read",
            Cause::Fold => "fold",
            Cause::Trial => "trial",
            Cause::Retry => "retry",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Came {
    /// A value.
    Value,
    /// The key counts as deleted.
    Delete,
    /// The module left the siblings to the client.
    KeptSiblings,
    /// It failed: why, in words.
    Failed(String),
}

/// How a trial's two modules compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// Both made the same.
    Same,
    /// They made different things.
    Differs,
    /// The candidate failed, the pinned module did not.
    CandidateFailed,
    /// The pinned module failed, the candidate did not.
    PinnedFailed,
}

/// Something that a module wants noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// The kind, in the module's own words.
    pub topic: String,
    /// Its content.
    #[serde(with = "base64_bytes")]
    pub payload: Vec<u8>,
}

/// One merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Its number in this node's feed, from 1.
    pub sequence: u64,
    /// Names the merge: the same for the same module and siblings, on every node and each time, so
    /// that who acts on it can drop repeats.
    pub id: String,
    /// When it ended: milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// The keyspace's name.
    pub keyspace: String,
    /// The key.
    #[serde(with = "base64_bytes")]
    pub key: Vec<u8>,
    /// Why.
    pub cause: Cause,
    /// The module, 64 hexadecimal digits.
    pub module: String,
    /// What came of it.
    pub came: Came,
    /// The writes that each sibling stands for, in order.
    pub siblings: Vec<Vec<String>>,
    /// Bytes of all siblings together.
    pub bytes_in: u64,
    /// Bytes of what was made.
    pub bytes_out: u64,
    /// What the module used of its fuel, where it answered.
    pub fuel: u64,
    /// How long it took, waiting for a turn included, in microseconds.
    pub micros: u64,
    /// The module's remark.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// What it wants noticed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Noted>,
    /// In a trial: how it compares with the other module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

impl Entry for Conflict {
    fn number_mut(&mut self) -> &mut u64 {
        &mut self.sequence
    }
}

impl Conflict {
    /// Whether the merge failed.
    pub fn is_failure(&self) -> bool {
        matches!(self.came, Came::Failed(_))
    }

    /// The record of a merge that has just ended. Its sequence is given by the feed, what its
    /// siblings stand for by who asked.
    pub(super) fn of(
        cause: Cause,
        module: &ModuleDigest,
        divergence: &Divergence,
        answer: Result<&Resolution, &MergeFailure>,
        (at_ms, micros): (u64, u64),
    ) -> Self {
        let values = divergence.siblings.iter().filter_map(|sibling| sibling.value.as_ref());
        let bytes_in = values.map(|value| value.len() as u64).sum();
        let mut conflict = Conflict {
            sequence: 0,
            id: id(module, divergence),
            at_ms,
            keyspace: divergence.keyspace.clone(),
            key: divergence.key.to_vec(),
            cause,
            module: module.to_string(),
            came: Came::KeptSiblings,
            siblings: Vec::new(),
            bytes_in,
            bytes_out: 0,
            fuel: 0,
            micros,
            note: String::new(),
            events: Vec::new(),
            comparison: None,
        };
        match answer {
            Ok(resolution) => conflict.take(resolution),
            Err(failure) => {
                let words: String = failure.to_string().chars().take(WORDS_CHARS_MAX).collect();
                conflict.came = Came::Failed(words);
            }
        }
        conflict
    }

    fn take(&mut self, resolution: &Resolution) {
        (self.came, self.bytes_out) = match &resolution.outcome {
            Outcome::Value(value) => (Came::Value, value.len() as u64),
            Outcome::Delete => (Came::Delete, 0),
            Outcome::KeepSiblings => (Came::KeptSiblings, 0),
        };
        self.fuel = resolution.fuel_used;
        self.note = resolution.note.clone().unwrap_or_default();
        let noted = resolution
            .events
            .iter()
            .map(|event| Noted { topic: event.topic.clone(), payload: event.payload.to_vec() });
        self.events = noted.collect();
    }
}

/// Names a merge by its module and all that the module sees.
fn id(module: &ModuleDigest, divergence: &Divergence) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("stator conflict v1");
    hasher.update(&module.0).update(&divergence.fingerprint);
    hex::encode(&hasher.finalize().as_bytes()[..16])
}
