//! What became of the operations of each second (`--by-second`): where in a run it was slow.
//!
//! An operation belongs to the second in which it was to begin, so that a stall shows where it
//! began, and with it all that should have begun meanwhile. Histograms are coarser than those of
//! the whole run, two digits up to a minute, for there are as many as seconds and recorders.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest run that is told by the second.
pub(super) const SECONDS_MAX: u64 = 600;

/// Beyond this a latency counts as this: one minute, in microseconds.
const LONGEST_US: u64 = 60_000_000;
const DIGITS: u8 = 2;

/// The seconds of a run; empty if nobody asked for them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Timeline(Vec<Second>);

#[derive(Debug, Clone, PartialEq)]
struct Second {
    latency: Histogram<u32>,
    failed: u64,
}

/// A second as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// Which one, from 0.
    pub(super) second: usize,
    /// Operations that were to begin in it and succeeded.
    pub(super) operations: u64,
    /// Those that failed.
    pub(super) failed: u64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) max_us: u64,
}

impl Second {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LONGEST_US, DIGITS);
        let latency =
            latency.unwrap_or_else(|_| unreachable!("1 to a minute in two digits is valid"));
        Second { latency, failed: 0 }
    }
}

impl Timeline {
    /// An operation that was to begin at `at`, from the beginning of the run, took so long; none if
    /// it failed.
    pub(super) fn ended(&mut self, at: Duration, took: Option<Duration>) {
        let second = at.as_secs().min(SECONDS_MAX) as usize;
        if self.0.len() <= second {
            self.0.resize_with(second + 1, Second::new);
        }
        match took.map(|took| took.as_micros()) {
            None => self.0[second].failed += 1,
            Some(us) => {
                let us = u64::try_from(us).unwrap_or(LONGEST_US);
                self.0[second].latency.saturating_record(us);
            }
        }
    }

    pub(super) fn add(&mut self, other: &Timeline) {
        self.0.resize_with(self.0.len().max(other.0.len()), Second::new);
        for (second, other) in self.0.iter_mut().zip(&other.0) {
            // All have the same bounds.
            let _ = second.latency.add(&other.latency);
            second.failed += other.failed;
        }
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        let row = |(second, Second { latency, failed }): (usize, &Second)| Row {
            second,
            operations: latency.len(),
            failed: *failed,
            p50_us: latency.value_at_quantile(0.5),
            p99_us: latency.value_at_quantile(0.99),
            max_us: latency.max(),
        };
        self.0.iter().enumerate().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_belongs_to_the_second_in_which_it_was_to_begin() {
        let [mut one, mut other] = [Timeline::default(), Timeline::default()];
        assert!(one.rows().is_empty());
        one.ended(Duration::from_millis(900), Some(Duration::from_millis(2_500)));
        one.ended(Duration::from_millis(2_000), None);
        other.ended(Duration::from_millis(10), Some(Duration::from_millis(1)));
        other.add(&one);
        let rows = other.rows();
        let counts: Vec<_> = rows.iter().map(|row| (row.operations, row.failed)).collect();
        assert_eq!(counts, [(2, 0), (0, 0), (0, 1)]);
        assert!(rows[0].p50_us < 1_100 && rows[0].max_us >= 2_500_000, "{rows:?}");
    }

    #[test]
    fn a_run_has_so_many_seconds_at_most() {
        let mut timeline = Timeline::default();
        timeline.ended(Duration::from_secs(1 << 40), None);
        assert_eq!(timeline.rows().len() as u64, SECONDS_MAX + 1);
    }
}
