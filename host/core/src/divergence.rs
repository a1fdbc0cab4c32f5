//! What a merge module is handed and what it answers, as plain values.
//!
//! The types mirror `wit/merge.wit`, so that the merge host converts and decides nothing. How
//! siblings become a divergence (dot order, equal payloads once) is in [`crate::reconcile`].

use bytes::Bytes;

/// Concurrent versions of one key, ready for a merge module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The keyspace's name.
    pub keyspace: String,
    /// The key.
    pub key: Bytes,
    /// The siblings in dot order, equal payloads once, at their lowest dot. At least one.
    pub siblings: Vec<DivergentVersion>,
    /// What the siblings descend from, if that is the same on every replica.
    pub ancestor: Ancestor,
    /// Names this input: a hash over the dots, payload hashes and all else the module sees.
    /// Equal fingerprints mean equal inputs, so it serves as a memo's key.
    pub fingerprint: [u8; 32],
}

/// One sibling as a module sees it; dots stay in the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DivergentVersion {
    /// The payload; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The client's schema number, 0 if it gave none.
    pub schema: u32,
    /// When the coordinator minted it, in milliseconds since 1970 (UTC).
    pub written_at_ms: u64,
}

/// The version that all siblings are based on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ancestor {
    /// Not known to every replica alike.
    Unknown,
    /// The key did not exist.
    Absent,
    /// This version.
    Known(DivergentVersion),
}

/// What a module decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The merged value, or that there is none.
    pub outcome: Outcome,
    /// A word for people, shown in the merge's record.
    pub note: Option<String>,
    /// Things that someone should act on, in the module's order.
    pub events: Vec<MergeEvent>,
    /// What the call used of its fuel.
    pub fuel_used: u64,
}

/// The merged value of a divergence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This payload.
    Value(Bytes),
    /// The key counts as deleted.
    Delete,
    /// The module leaves the siblings to the client.
    KeepSiblings,
}

/// Something a module wants noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeEvent {
    /// The kind of event, in the module's own words.
    pub topic: String,
    /// Its content.
    pub payload: Bytes,
}

/// Why a merge gave no answer. The siblings stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeFailure {
    /// The module answered that it cannot merge these.
    #[error("the module refused: {reason}{}: {message}", sibling.map(|i| format!(" (sibling {i})")).unwrap_or_default())]
    Refused {
        /// `unknown-schema`, `malformed` or `unresolvable`.
        reason: &'static str,
        /// The sibling it means, counted from 0.
        sibling: Option<u32>,
        /// Its words.
        message: String,
    },
    /// The module trapped: a panic, a bad memory access, a stack overflow.
    #[error("the module trapped: {0}")]
    Trapped(String),
    /// The module used up its fuel.
    #[error("the module used up its fuel of {limit} units")]
    OutOfFuel {
        /// The fuel of one call, in wasmtime's units.
        limit: u64,
    },
    /// The module asked for more memory than its limit.
    #[error("the module asked for more memory than its limit of {limit_bytes} bytes")]
    OutOfMemory {
        /// The limit of one instance.
        limit_bytes: u64,
    },
    /// The answer was no valid one: too large, not UTF-8 where text is due, a bad pointer.
    #[error("the module's answer is not valid: {0}")]
    BadAnswer(String),
    /// The module is not loaded on this node (yet).
    #[error("module {0} is not loaded on this node")]
    NotLoaded(crate::id::ModuleDigest),
    /// Too many merges run on this node already.
    #[error("{limit} merges wait on this node already")]
    Overloaded {
        /// The most merges that may wait.
        limit: usize,
    },
    /// It failed too often in a row: this node lets it rest.
    #[error(
        "the module is paused on this node after {failures} failures in a row, for {seconds} s more \
         or until another one is activated"
    )]
    Paused {
        /// Failures in a row.
        failures: u32,
        /// How long it will rest, in seconds.
        seconds: u64,
    },
    /// An operator has paused the keyspace's merges.
    #[error("merges are paused in this keyspace: `stator module resume` lets them go on")]
    PausedByOperator,
    /// The keyspace demands a signature that the module has not got.
    #[error(
        "module {0} is not signed by any of the keys that the keyspace demands, so it is not called: \
         push it with a signature, or activate another one"
    )]
    NotSigned(crate::id::ModuleDigest),
    /// The keyspace has used what it may: the merge is made when its turn comes.
    #[error(
        "the keyspace's budget of {limit} {what} is used up on this node; the merge is made later, \
         read again"
    )]
    OverBudget {
        /// `merges` or `fuel`.
        what: &'static str,
        /// What a second gives.
        limit: u64,
    },
    /// The node failed, not the module.
    #[error("this node cannot run the module now: {0}")]
    Unavailable(String),
}

impl MergeFailure {
    /// Whether the same module will fail on the same siblings again, so that only another module
    /// or another write helps. The rest passes with the node's own trouble.
    pub fn is_lasting(&self) -> bool {
        !matches!(
            self,
            MergeFailure::NotLoaded(_)
                | MergeFailure::Overloaded { .. }
                | MergeFailure::Paused { .. }
                | MergeFailure::PausedByOperator
                | MergeFailure::NotSigned(_)
                | MergeFailure::OverBudget { .. }
                | MergeFailure::Unavailable(_)
        )
    }
}
