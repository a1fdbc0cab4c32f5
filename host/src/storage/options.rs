//! How the stores are run: what a node's configuration sets.

use std::ffi::OsString;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which engine keeps the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// On disk: a log-structured tree.
    #[default]
    Sled,
    /// On disk: a log-structured merge tree.
    Fjall,
    /// In memory: everything is lost when the node stops.
    Memory,
}

impl EngineKind {
    /// Its name, in settings and in the data directory.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Sled => "sled",
            EngineKind::Fjall => "fjall",
            EngineKind::Memory => "memory",
        }
    }

    /// Whether what it holds outlives the process.
    pub fn is_kept(self) -> bool {
        self != EngineKind::Memory
    }
}

/// How the stores are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Where the data is kept.
    pub engine: EngineKind,
    /// Cache of the data store's engine. `sled` takes about five times as much memory.
    pub cache_bytes: u64,
    /// The most bytes of objects that are kept in memory, decoded.
    pub objects_bytes_max: u64,
    /// The most bytes that hints may take before new ones are refused.
    pub hints_bytes_max: usize,
    /// The most bytes of superseded versions that are kept; 0 keeps none.
    pub history_bytes_max: u64,
    /// The most jobs that wait for one store, or for the readers, before they are refused.
    pub jobs_max: usize,
    /// Threads that read for clients and peers; the background has one of its own.
    pub readers: usize,
    /// How long a write that needs no sync may stay without one.
    pub sync_within: Duration,
    /// How long a store may take to open, beside the time that its size explains, before it is
    /// taken as damaged.
    pub open_within: Duration,
    /// The program, and its arguments, that answers [`OPEN_STORE`](super::OPEN_STORE): opens a
    /// store in the place of a node that may have died of it. Without it damage that ends the
    /// process does so at every start.
    pub trial: Option<Vec<OsString>>,
    /// How long a store that failed at a write waits before it is first tried again.
    pub reopen_after: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            engine: EngineKind::Sled,
            cache_bytes: 64 << 20,
            objects_bytes_max: 64 << 20,
            hints_bytes_max: 1 << 30,
            history_bytes_max: 0,
            jobs_max: 16 << 10,
            readers: 4,
            sync_within: Duration::from_millis(100),
            open_within: Duration::from_secs(60),
            trial: None,
            reopen_after: Duration::from_secs(1),
        }
    }
}
