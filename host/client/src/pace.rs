//! How fast a node answers one kind of request, and what that says of the next one.
//!
//! The mean and the mean deviation of the latency are exponentially weighted moving averages, as TCP
//! keeps them of its round trips (Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988).
//! - *Cost*: the mean, for each request that is open there and the one to come. So a node that gets
//!   slower under load is chosen less before its answers say so (the "peak EWMA" of Finagle).
//! - *Patience*: the mean and three deviations, about the 95th percentile where latencies spread
//!   exponentially. Who has not answered by then is one of the slow tail.
//! - *Failures* count as a second, at once and not by degrees.
//! - *Exploration*: what is known halves with every ten seconds without news. A node that was slow
//!   is tried again when it seems fast by that, and one request tells.
//!
//! Left out: sizes. A large value makes its node slow for a while, alike at all owners of the key.

use std::time::Duration;

use tokio::time::Instant;

/// How much the latest answer weighs in the mean, and in the deviation.
const MEAN_WEIGHT: f64 = 1.0 / 8.0;
const DEVIATION_WEIGHT: f64 = 1.0 / 4.0;
/// In what time half of what is known is forgotten.
const HALF_LIFE_S: f64 = 10.0;
/// What a failure counts for, and what nothing is faster than: below it nodes are alike.
const FAILURE_S: f64 = 1.0;
const LEAST_S: f64 = 50e-6;
/// Bounds of the patience, and the patience with a node that has not answered yet.
const PATIENCE_MIN: Duration = Duration::from_millis(1);
const PATIENCE_MAX: Duration = Duration::from_millis(250);
const PATIENCE_FIRST: Duration = Duration::from_millis(20);

/// What is known of a node's answers to one kind of request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    mean_s: f64,
    deviation_s: f64,
    /// When that was learned; `None` before the first answer.
    at: Option<Instant>,
    open: u32,
}

impl Pace {
    /// What one more request costs at `now`, in seconds of waiting.
    pub(crate) fn cost(&self, now: Instant) -> f64 {
        self.mean_s(now).max(LEAST_S) * f64::from(self.open + 1)
    }

    /// After what time without an answer the node is slow.
    pub(crate) fn patience(&self) -> Duration {
        match self.at {
            Some(_) => Duration::from_secs_f64(self.mean_s + 3.0 * self.deviation_s)
                .clamp(PATIENCE_MIN, PATIENCE_MAX),
            None => PATIENCE_FIRST,
        }
    }

    /// A request is on its way.
    pub(crate) fn asked(&mut self) {
        self.open += 1;
    }

    /// It took so long until it was answered.
    pub(crate) fn answered(&mut self, now: Instant, took: Duration) {
        let took_s = took.as_secs_f64();
        match self.at {
            None => self.jump(now, took_s),
            Some(_) => {
                // What is forgotten of the mean is the latest answer's.
                let mean_s = self.mean_s(now);
                let weight = 1.0 - (1.0 - MEAN_WEIGHT) * self.kept(now);
                self.deviation_s += DEVIATION_WEIGHT * ((took_s - mean_s).abs() - self.deviation_s);
                self.mean_s = mean_s + weight * (took_s - mean_s);
                self.ended(now);
            }
        }
    }

    /// It failed.
    pub(crate) fn failed(&mut self, now: Instant, took: Duration) {
        self.jump(now, took.as_secs_f64().max(FAILURE_S));
    }

    /// Nobody waits for it any more. If it had taken longer than usual by then, that is known.
    pub(crate) fn given_up(&mut self, now: Instant, after: Duration) {
        match after.as_secs_f64() > self.mean_s(now) {
            true => self.answered(now, after),
            false => self.open = self.open.saturating_sub(1),
        }
    }

    fn jump(&mut self, now: Instant, to_s: f64) {
        (self.mean_s, self.deviation_s) = (to_s, to_s / 2.0);
        self.ended(now);
    }

    fn ended(&mut self, now: Instant) {
        self.at = Some(now);
        self.open = self.open.saturating_sub(1);
    }

    fn mean_s(&self, now: Instant) -> f64 {
        self.mean_s * self.kept(now)
    }

    /// How much of what is known is not forgotten.
    fn kept(&self, now: Instant) -> f64 {
        let idle = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        0.5_f64.powf(idle.as_secs_f64() / HALF_LIFE_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn answered(at: Instant, times: &[Duration]) -> Pace {
        let mut pace = Pace::default();
        for took in times {
            pace.asked();
            pace.answered(at, *took);
        }
        pace
    }

    #[test]
    fn the_faster_node_costs_less_until_it_has_enough_to_do() {
        let now = Instant::now();
        let (mut fast, slow) = (answered(now, &[MS; 20]), answered(now, &[3 * MS; 20]));
        assert!(fast.cost(now) < slow.cost(now));
        (0..2).for_each(|_| fast.asked());
        assert!(fast.cost(now) <= slow.cost(now) * 1.001, "two open ones still pay");
        fast.asked();
        assert!(fast.cost(now) > slow.cost(now));
        assert!(Pace::default().cost(now) < slow.cost(now), "who is new is tried");
    }

    #[test]
    fn a_failure_is_known_at_once_and_forgotten_with_time() {
        let now = Instant::now();
        let (mut failed, other) = (answered(now, &[MS; 20]), answered(now, &[10 * MS; 20]));
        failed.asked();
        failed.failed(now, MS);
        assert!(failed.cost(now) > 50.0 * other.cost(now));
        let later = now + Duration::from_secs(90);
        let mut other = other;
        other.asked();
        other.answered(later, 10 * MS);
        assert!(failed.cost(later) < other.cost(later), "it is tried again");
        failed.asked();
        failed.failed(later, MS);
        assert!(failed.cost(later) > other.cost(later), "one request told");
    }

    #[test]
    fn patience_follows_the_tail_within_bounds() {
        let now = Instant::now();
        assert_eq!(Pace::default().patience(), PATIENCE_FIRST);
        assert_eq!(answered(now, &[MS / 100; 50]).patience(), PATIENCE_MIN);
        let steady = answered(now, &[10 * MS; 50]).patience();
        assert!(steady >= 10 * MS && steady < 11 * MS, "{steady:?}");
        let spread: Vec<Duration> =
            (0..200).map(|i| if i % 2 == 0 { 5 } else { 15 } * MS).collect();
        let patience = answered(now, &spread).patience();
        assert!(patience > 20 * MS && patience < 30 * MS, "{patience:?}");
        assert_eq!(answered(now, &[Duration::from_secs(9)]).patience(), PATIENCE_MAX);
    }

    #[test]
    fn who_is_given_up_is_known_to_be_slow() {
        let now = Instant::now();
        let mut pace = answered(now, &[MS; 20]);
        let before = pace.cost(now);
        pace.asked();
        pace.given_up(now, MS / 2);
        assert_eq!(pace.cost(now), before, "so early it says nothing");
        pace.asked();
        pace.given_up(now, 50 * MS);
        assert!(pace.cost(now) > 5.0 * before);
    }
}
