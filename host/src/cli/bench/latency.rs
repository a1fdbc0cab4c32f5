//! How long operations took: a histogram of high dynamic range (Gil Tene), in microseconds, to three
//! digits.
//!
//! In a document it stands with the figures that people ask for, and whole, as pairs of a value and
//! its count, so that any other figure can be had of it later and histograms can be added.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Beyond this a latency counts as this: one hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// Latencies of one kind of operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Document", into = "Document")]
pub(super) struct Latency(Histogram<u64>);

/// A latency as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    count: u64,
    mean_us: f64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    /// Of each value in microseconds that occurred how often it did.
    histogram: Vec<(u64, u64)>,
}

impl Latency {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, DIGITS);
        Latency(histogram.unwrap_or_else(|_| unreachable!("1 to an hour in three digits is valid")))
    }

    pub(super) fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LONGEST_US));
    }

    pub(super) fn add(&mut self, other: &Latency) {
        // All have the same bounds.
        let _ = self.0.add(&other.0);
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn mean_us(&self) -> f64 {
        self.0.mean()
    }

    pub(super) fn max_us(&self) -> u64 {
        self.0.max()
    }

    /// The latency in microseconds that a share of `quantile` did not exceed.
    pub(super) fn quantile_us(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }
}

impl From<Latency> for Document {
    fn from(latency: Latency) -> Self {
        let recorded = latency.0.iter_recorded();
        Document {
            count: latency.count(),
            mean_us: latency.mean_us(),
            p50_us: latency.quantile_us(0.5),
            p99_us: latency.quantile_us(0.99),
            p999_us: latency.quantile_us(0.999),
            max_us: latency.max_us(),
            histogram: recorded
                .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
                .collect(),
        }
    }
}

impl From<Document> for Latency {
    fn from(document: Document) -> Self {
        let mut latency = Latency::new();
        for (value, count) in document.histogram {
            latency.0.saturating_record_n(value, count);
        }
        latency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_holds_the_whole_histogram() {
        let mut latency = Latency::new();
        for us in [1, 250, 250, 9_999, 1_234_567, u64::MAX] {
            latency.record(Duration::from_micros(us));
        }
        let text = serde_json::to_string(&latency).expect("serialises");
        let read: Latency = serde_json::from_str(&text).expect("reads");
        assert_eq!(read, latency);
        assert_eq!((read.count(), read.quantile_us(0.5)), (6, 250));
        let hours = read.max_us() as f64 / LONGEST_US as f64;
        assert!((0.999..1.001).contains(&hours), "{hours}");
    }

    #[test]
    fn histograms_add_up() {
        let [mut one, mut other] = [Latency::new(), Latency::new()];
        one.record(Duration::from_millis(1));
        other.record(Duration::from_millis(3));
        one.add(&other);
        assert_eq!(one.count(), 2);
        assert!((1_990.0..2_010.0).contains(&one.mean_us()), "{}", one.mean_us());
    }
}
