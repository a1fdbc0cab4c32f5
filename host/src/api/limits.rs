//! How much a node takes at a time, and how long a request may take.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::errors;
use crate::driver::Held;

/// The most requests of clients that are under way on a node.
const REQUESTS_MAX: usize = 4_096;
/// The longest that a request may take, whatever its client says.
const TIMEOUT_MS_MAX: u64 = 600_000;
/// What of a client's deadline is left for the way back.
const ANSWER_MARGIN_MS: u64 = 20;

/// The most bytes of values, contexts and labels that puts and deletes under way hold together, in
/// units of 1 KiB.
const VALUES_KIB_MAX: usize = 256 << 10;

/// Admits requests up to a limit.
#[derive(Clone)]
pub(super) struct Admission {
    requests: Arc<Semaphore>,
    values_kib: Arc<Semaphore>,
}

impl Admission {
    pub(super) fn new() -> Self {
        Admission {
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            values_kib: Arc::new(Semaphore::new(VALUES_KIB_MAX)),
        }
    }

    /// A place for a request that carries so much, kept until its work is done: a client that
    /// resets it, and sends the next, does not end what runs for it.
    pub(super) fn enter(&self, carried_bytes: usize) -> Result<Held, Status> {
        let place = self.requests.clone().try_acquire_owned();
        let place = place.map_err(|_| errors::overloaded("requests", REQUESTS_MAX))?;
        let kib = u32::try_from(carried_bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = self.values_kib.clone().try_acquire_many_owned(kib);
        let room = room.map_err(|_| errors::overloaded("KiB of values", VALUES_KIB_MAX))?;
        Ok(Arc::new((place, room)))
    }
}

/// How long the client of a request waits, in milliseconds: its gRPC deadline, or the default.
///
/// A little less than the deadline itself, so that the answer, which says what is known of the
/// outcome, is there before the client gives up.
pub(super) fn timeout_ms(metadata: &MetadataMap, default_ms: u64) -> u64 {
    let asked = metadata
        .get("grpc-timeout")
        .and_then(|value| value.to_str().ok())
        .and_then(parse_timeout)
        .map(|timeout| timeout.as_millis() as u64);
    match asked {
        Some(ms) => {
            // Some clients round what they tell up to three digits.
            let margin_ms = ANSWER_MARGIN_MS.max(ms / 100).min(ms / 4);
            ms.saturating_sub(margin_ms).clamp(1, TIMEOUT_MS_MAX)
        }
        None => default_ms,
    }
}

/// The gRPC form: at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(count.checked_mul(3_600)?)),
        'M' => Some(Duration::from_secs(count.checked_mul(60)?)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_in_every_unit() {
        let table = [
            ("2H", Some(7_200_000)),
            ("1M", Some(60_000)),
            ("3S", Some(3_000)),
            ("250m", Some(250)),
            ("5000u", Some(5)),
            ("x", None),
            ("", None),
            ("5", None),
        ];
        for (text, expected) in table {
            let found = parse_timeout(text).map(|timeout| timeout.as_millis() as u64);
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn the_answer_comes_before_the_deadline() {
        let mut metadata = MetadataMap::new();
        assert_eq!(timeout_ms(&metadata, 5_000), 5_000);
        metadata.insert("grpc-timeout", tonic::metadata::MetadataValue::from_static("1S"));
        assert_eq!(timeout_ms(&metadata, 5_000), 980);
        metadata.insert("grpc-timeout", tonic::metadata::MetadataValue::from_static("1n"));
        assert_eq!(timeout_ms(&metadata, 5_000), 1);
    }
}
