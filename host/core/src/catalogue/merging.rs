//! How a keyspace's merges are cared for: what a reader gets when its module fails, how much the
//! module may use, and how long what merges and writes replace is kept.
//!
//! Each node judges by its own merges. Nothing here changes what is stored, so nodes need not
//! agree on it at any moment.

use serde::{Deserialize, Serialize};

/// Failures in a row after which a node pauses a module, in a keyspace that says nothing of it.
pub const PAUSE_AFTER: u32 = 20;
/// The longest history: a year.
pub const HISTORY_MS_MAX: u64 = 366 * 86_400_000;

/// The care for a keyspace's merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Merging {
    /// How long superseded versions are kept, in milliseconds; 0 keeps none.
    pub history_ms: u64,
    /// Where the module fails, the module that the keyspace was pinned to before is tried.
    pub previous: bool,
    /// Where no module has an answer, a reader gets the last write in place of siblings.
    pub last_write: bool,
    /// No module is called: readers get what stands in for it, or siblings.
    pub paused: bool,
    /// Failures in a row after which a node pauses the module for this keyspace; 0 never does.
    pub pause_after: u32,
    /// Merges that a node makes in a second; 0 is as many as come.
    pub merges_per_second: u32,
    /// Fuel that a node spends in a second; 0 is as much as merges take.
    pub fuel_per_second: u64,
    /// Bytes of memory that all merges that run on a node may have together, and so each of them;
    /// 0 is as much as the module's class allows each.
    #[serde(skip_serializing_if = "is_zero")]
    pub memory_bytes: u64,
}

impl Default for Merging {
    fn default() -> Self {
        Merging {
            history_ms: 0,
            previous: false,
            last_write: false,
            paused: false,
            pause_after: PAUSE_AFTER,
            merges_per_second: 0,
            fuel_per_second: 0,
            memory_bytes: 0,
        }
    }
}

/// A catalogue in which nobody has set it is as one of before.
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}
