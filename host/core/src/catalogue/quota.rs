//! How much a keyspace may hold, and be asked: see [`crate::quota`] for how the first is checked.

use serde::{Deserialize, Serialize};

/// The quota of a keyspace; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// Keys that have a value.
    pub keys: u64,
    /// Bytes of one copy of all keys and objects.
    pub bytes: u64,
    /// Requests of clients in a second, in the whole cluster: each node takes its share.
    pub requests_per_second: u64,
}

impl Quota {
    /// Whether puts are to be held against what there is.
    pub fn bounds_storage(&self) -> bool {
        self.keys > 0 || self.bytes > 0
    }
}
