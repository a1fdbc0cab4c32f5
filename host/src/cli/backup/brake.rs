//! A brake: no more bytes a second than one says.

use std::time::Duration;

use tokio::time::Instant;

/// The least that may be said: a node ends the connection of who reads less than a quarter of it.
const LEAST: u64 = 64 << 10;

/// So many bytes pass at a time: timers are too coarse to wait for a single object.
const STEP: u64 = 64 << 10;

/// Lets so many bytes a second by, and saves none up.
pub(super) struct Brake {
    rate: Option<u64>,
    free_at: Instant,
    /// Passed, and not waited for yet.
    ahead: u64,
}

impl Brake {
    /// One that lets `rate` bytes a second by, or all.
    pub(super) fn of(rate: Option<u64>) -> Self {
        Brake { rate, free_at: Instant::now(), ahead: 0 }
    }

    /// Waits until these bytes, which are there, would be there at that rate.
    pub(super) async fn pass(&mut self, bytes: u64) {
        if let Some(wait) = self.next(bytes, Instant::now()) {
            tokio::time::sleep_until(wait).await;
        }
    }

    fn next(&mut self, bytes: u64, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        self.ahead += bytes;
        if self.ahead < STEP {
            return None;
        }
        let seconds = std::mem::take(&mut self.ahead) as f64 / rate as f64;
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
        let brake = |rate| Brake { rate, free_at: begun, ahead: 0 };
        let (all, mut brake) = (brake(None).next(1 << 40, begun), brake(Some(STEP)));
        assert_eq!(all, None);
        assert_eq!(brake.next(2 * STEP, begun), Some(at(2)));
        assert_eq!(brake.next(STEP - 1, at(2)), None, "it comes with what follows");
        assert_eq!(brake.next(1, at(2)), Some(at(3)));
        assert_eq!(brake.next(STEP, at(10)), Some(at(11)), "the time between is gone");
        assert_eq!((rate("1MiB"), rate("64KiB/s")), (Ok(1 << 20), Ok(64 << 10)));
        assert!(rate("63KiB").is_err() && rate("fast").is_err());
    }
}
