//! What a run came to, as its workers count it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::target::{Reading, Reason, Written};
use super::timeline::Timeline;
use super::workload::Kind;

/// How many reasons are told apart; all further ones are `OTHER`.
const REASONS_MAX: usize = 32;

/// Latencies, errors and siblings.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Recorder {
    /// Operations that succeeded; a read-modify-write is one.
    pub(super) operations: u64,
    /// Of each kind, those that succeeded.
    pub(super) latency: BTreeMap<Kind, Latency>,
    /// Requests that failed, by reason.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) siblings: Siblings,
    pub(super) timeline: Timeline,
}

/// What was seen of concurrent versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Siblings {
    /// Reads that met more than one version.
    pub(super) reads: u64,
    /// The most that one read met.
    pub(super) most: u32,
    /// Writes beside which others stayed.
    pub(super) writes: u64,
    /// Reads that found nothing.
    pub(super) absent: u64,
}

impl Recorder {
    /// An operation, or half of one, has succeeded.
    pub(super) fn took(&mut self, kind: Kind, time: Duration) {
        self.latency.entry(kind).or_insert_with(Latency::new).record(time);
    }

    pub(super) fn failed(&mut self, Reason(reason): Reason) {
        let is_one_too_many =
            self.errors.len() >= REASONS_MAX && !self.errors.contains_key(&reason);
        let reason = if is_one_too_many { "OTHER".to_owned() } else { reason };
        *self.errors.entry(reason).or_default() += 1;
    }

    pub(super) fn has_read<S>(&mut self, reading: &Reading<S>) {
        self.siblings.reads += u64::from(reading.siblings > 1);
        self.siblings.most = self.siblings.most.max(reading.siblings);
        self.siblings.absent += u64::from(reading.values.is_empty());
    }

    pub(super) fn has_written(&mut self, written: Written) {
        self.siblings.writes += u64::from(written.has_siblings);
    }

    pub(super) fn add(&mut self, other: &Recorder) {
        self.operations += other.operations;
        for (kind, latency) in &other.latency {
            self.latency.entry(*kind).or_insert_with(Latency::new).add(latency);
        }
        for (reason, count) in &other.errors {
            *self.errors.entry(reason.clone()).or_default() += count;
        }
        self.siblings.reads += other.siblings.reads;
        self.siblings.most = self.siblings.most.max(other.siblings.most);
        self.siblings.writes += other.siblings.writes;
        self.siblings.absent += other.siblings.absent;
        self.timeline.add(&other.timeline);
    }

    /// Requests that failed.
    pub(super) fn failures(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// What a run has come to so far, for whoever watches.
#[derive(Debug, Default)]
pub(super) struct Live {
    operations: AtomicU64,
    failures: AtomicU64,
}

impl Live {
    pub(super) fn count(&self, has_failed: bool) {
        let count = if has_failed { &self.failures } else { &self.operations };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Operations that succeeded, and that failed.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.operations.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bounded() {
        let mut recorder = Recorder::default();
        for number in 0..1_000 {
            recorder.failed(Reason(format!("REASON_{number}")));
        }
        recorder.failed(Reason("REASON_0".to_owned()));
        assert_eq!(recorder.errors.len(), REASONS_MAX + 1);
        assert_eq!((recorder.errors["REASON_0"], recorder.failures()), (2, 1_001));
    }

    #[test]
    fn siblings_are_seen_where_there_are_several() {
        let mut recorder = Recorder::default();
        for siblings in [0, 1, 4, 2] {
            let values = if siblings == 0 { Vec::new() } else { vec!["v".into()] };
            recorder.has_read(&Reading { values, siblings, seen: () });
        }
        let mut sum = recorder.clone();
        sum.add(&recorder);
        assert_eq!(sum.siblings, Siblings { reads: 4, most: 4, writes: 0, absent: 2 });
    }
}
