//! How many requests may be sent beyond those that were asked for.
//!
//! Retries and hedges help while few requests need them. Where a whole cluster is slow they would be
//! load on top of the load that made it slow, and keep it so. So they take tokens from a bucket that
//! every request fills by a tenth: in the long run they are at most a tenth of all. A client with few
//! requests gets some every second, and a busy one has saved up for the moment in which a node dies
//! with all that was open there.

use tokio::time::Instant;

const PER_REQUEST: f64 = 0.1;
const PER_SECOND: f64 = 10.0;
const FIRST: f64 = 100.0;
const MOST: f64 = 1_000.0;

/// The bucket.
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: f64,
    /// Until when it was filled by time.
    filled: Instant,
}

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Budget { tokens: FIRST, filled: now }
    }

    /// A request is sent for the first time.
    pub(crate) fn request(&mut self) {
        self.add(PER_REQUEST);
    }

    /// Whether one more may be sent.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        // By time no more than a client starts with: what is beyond that it must have earned.
        let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.add((seconds * PER_SECOND).min((FIRST - self.tokens).max(0.0)));
        let is_there = self.tokens >= 1.0;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }

    fn add(&mut self, tokens: f64) {
        self.tokens = (self.tokens + tokens).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn taken(budget: &mut Budget, now: Instant) -> usize {
        (0..10_000).take_while(|_| budget.take(now)).count()
    }

    #[test]
    fn retries_are_a_tenth_of_the_requests() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        assert_eq!(taken(&mut budget, now), 100, "what it starts with");
        (0..500).for_each(|_| budget.request());
        let found = taken(&mut budget, now);
        assert!((49..=50).contains(&found), "{found}");
        (0..100_000).for_each(|_| budget.request());
        assert_eq!(taken(&mut budget, now), 1_000, "and no more is saved");
    }

    #[test]
    fn a_quiet_client_gets_some_every_second() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        taken(&mut budget, now);
        assert_eq!(taken(&mut budget, now + Duration::from_secs(2)), 20);
        assert_eq!(taken(&mut budget, now + Duration::from_secs(1_000)), 100);
    }
}
