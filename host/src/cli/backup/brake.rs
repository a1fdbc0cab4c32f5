//! A brake: no more bytes a second than one says.

use std::time::Duration;

use tokio::time::Instant;

/// The least that may be said: a node ends the connection of who reads less than a quarter of it.
const LEAST: u64 = 64 << 10;

/// Lets so many bytes a second by, and saves none up.
pub(super) struct Brake {
    rate: Option<u64>,
    free_at: Instant,
}

impl Brake {
    /// One that lets `rate` bytes a second by, or all.
    pub(super) fn of(rate: Option<u64>) -> Self {
        Brake { rate, free_at: Instant::now() }
    }

    /// Waits until these bytes, which are there, would be there at that rate.
    pub(super) async fn pass(&mut self, bytes: u64) {
        if let Some(wait) = self.next(bytes, Instant::now()) {
            tokio::time::sleep_until(wait).await;
        }
    }

    fn next(&mut self, bytes: u64, now: Instant) -> Option<Instant> {
        let seconds = bytes as f64 / self.rate? as f64;
        self.free_at = self.free_at.max(now) + Duration::from_secs_f64(seconds);
        Some(self.free_at)
    }
}

/// A rate of the command line.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let plain = text.strip_suffix("/s").unwrap_or(text);
    match crate::cli::parse::bytes(plain)? {
        bytes if bytes >= LEAST => Ok(bytes),
        _ => Err("at least 64KiB a second: a node does not wait for a slower reader".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_at_the_rate_and_a_pause_saves_nothing_up() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut brake = Brake { rate: Some(1_000), free_at: begun };
        assert_eq!(brake.next(2_000, begun), Some(at(2)));
        assert_eq!(brake.next(1_000, at(2)), Some(at(3)));
        assert_eq!(brake.next(1_000, at(10)), Some(at(11)), "the time between is gone");
        assert_eq!(Brake { rate: None, free_at: begun }.next(1 << 40, begun), None);
        assert_eq!((rate("1MiB"), rate("64KiB/s")), (Ok(1 << 20), Ok(64 << 10)));
        assert!(rate("63KiB").is_err() && rate("fast").is_err());
    }
}
