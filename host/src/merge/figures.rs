//! What a merge host has done, for the status.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a merge host has done since it was made, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Figures {
    /// Calls of modules, those for probes included.
    pub merges: u64,
    /// Answers that the memo gave.
    pub memo_hits: u64,
    /// Calls that gave no answer.
    pub failures: u64,
    /// Merges that were turned away because too many waited.
    pub overloads: u64,
    /// Fuel that all calls have used.
    pub fuel_used: u64,
    /// Compilations in a child process; loads from the artefact cache are not among them.
    pub compilations: u64,
    /// Processor time of all compilations, in milliseconds.
    pub compile_cpu_ms: u64,
    /// The most memory that a compilation has taken, in bytes.
    pub compile_memory_peak_bytes: u64,
    /// Modules loaded now.
    pub modules: usize,
    /// Answers in the memo now.
    pub memo_entries: usize,
    /// Bytes in the memo now.
    pub memo_bytes: usize,
}

/// The counters behind [`Figures`].
#[derive(Default)]
pub(super) struct Counters {
    pub(super) merges: Counter,
    pub(super) memo_hits: Counter,
    pub(super) failures: Counter,
    pub(super) overloads: Counter,
    pub(super) fuel_used: Counter,
    pub(super) compilations: Counter,
    pub(super) compile_cpu_ms: Counter,
    pub(super) compile_memory_peak_bytes: Counter,
}

#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(super) fn raise_to(&self, n: u64) {
        self.0.fetch_max(n, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
