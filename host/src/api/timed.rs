//! How long gets, puts and deletes of a keyspace take: a histogram of each keyspace, and a line in the log
//! for one that was slow.
//!
//! A slow request is one that takes `timings.slow_request_ms` or longer, from its arrival until its answer is
//! made. Its line is inside the request's span, so it has the id by which a client can name it. Slow ones
//! come in crowds, when a disk hangs or a node is overrun: of a second the first few are told, and how
//! many went untold before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tonic::Request;

use super::observe::Arrival;
use crate::node::Node;
use crate::telemetry;
use crate::telemetry::names::KEYSPACE_SECONDS;

/// Lines in a second.
const LINES_MAX: u64 = 10;
/// The most of a key that a line shows, in bytes.
const KEY_BYTES: usize = 64;

static LINES: Lines = Lines { second: AtomicU64::new(0), told: AtomicU64::new(0) };

/// Times a request of a keyspace that is there: until it is dropped, with the answer made.
pub(super) struct Timed {
    keyspace: String,
    key: Bytes,
    operation: &'static str,
    arrived: Instant,
    /// From when on it is slow.
    slow: Option<Duration>,
}

impl Timed {
    pub(super) fn of<T>(
        request: &Request<T>,
        (keyspace, key): (&str, &Bytes),
        operation: &'static str,
        node: &Node,
    ) -> Option<Self> {
        let slow_ms = node.config.timings.slow_request_ms;
        if slow_ms == 0 && !telemetry::is_recording() {
            return None;
        }
        // Names that strangers make up must not fill the metrics.
        node.catalogue()?.keyspace(keyspace)?;
        let arrived = request.extensions().get::<Arrival>().map(|arrival| arrival.0);
        let arrived = arrived.unwrap_or_else(Instant::now);
        let slow = (slow_ms > 0).then(|| Duration::from_millis(slow_ms));
        Some(Timed { keyspace: keyspace.to_owned(), key: key.clone(), operation, arrived, slow })
    }

    fn tell(&self, took: Duration) {
        let Some(untold) = LINES.next(self.arrived + took) else { return };
        let key = self.key.slice(..self.key.len().min(KEY_BYTES));
        tracing::warn!(
            keyspace = self.keyspace,
            key = %key.escape_ascii(),
            operation = self.operation,
            ?took,
            untold,
            "a slow request"
        );
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        let took = self.arrived.elapsed();
        if self.slow.is_some_and(|slow| took >= slow) {
            self.tell(took);
        }
        if telemetry::is_recording() {
            let keyspace = std::mem::take(&mut self.keyspace);
            let labels = [("keyspace", keyspace), ("operation", self.operation.to_owned())];
            metrics::histogram!(KEYSPACE_SECONDS.name, &labels).record(took);
        }
    }
}

/// Which lines may be written. Two threads at the turn of a second may write one too many.
struct Lines {
    second: AtomicU64,
    told: AtomicU64,
}

impl Lines {
    /// If one more may be: how many went untold in the last second that had any.
    fn next(&self, now: Instant) -> Option<u64> {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let second = now.duration_since(*START.get_or_init(|| now)).as_secs() + 1;
        if self.second.swap(second, Ordering::Relaxed) != second {
            let before = self.told.swap(1, Ordering::Relaxed);
            return Some(before.saturating_sub(LINES_MAX));
        }
        (self.told.fetch_add(1, Ordering::Relaxed) < LINES_MAX).then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_second_a_few_lines_are_told_and_the_next_one_tells_of_the_others() {
        let lines = Lines { second: AtomicU64::new(0), told: AtomicU64::new(0) };
        let now = Instant::now();
        let told = (0..25).filter_map(|_| lines.next(now)).count() as u64;
        assert_eq!(told, LINES_MAX);
        assert_eq!(lines.next(now + Duration::from_secs(2)), Some(15));
        assert_eq!(lines.next(now + Duration::from_secs(2)), Some(0));
    }
}
