//! When operations begin: the two loops.
//!
//! In a *closed* loop each of some workers begins the next operation when its last one has ended.
//! A store that stalls then meets fewer requests just while it stalls, and the stall is one slow
//! operation per worker: *coordinated omission* (Gil Tene, "How NOT to Measure Latency", 2013). An
//! *open* loop begins operation k at k / rate, whatever became of the others. Should all workers be
//! busy then, it begins later, and yet its latency is counted from when it was *intended*, as in
//! Tene's wrk2, so a stall of a second shows as a thousand slow operations at 1,000 a second. The
//! workers stay bounded; what was never begun by the end of the time is counted.
//!
//! A thread of its own keeps the time, since tokio's timers tick by the millisecond.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// How long the time-keeper sleeps at least, so that a high rate leaves processors to others, and
/// at most, so that it ends with the run.
const NAP: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(50)];

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum End {
    /// No operation begins after this time.
    After(Duration),
    /// So many operations are begun.
    Operations(u64),
}

/// A fixed rate.
#[derive(Debug, Clone, Copy)]
struct Rate(f64);

impl Rate {
    /// When operation `number`, from 0, is to begin.
    fn intended(self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.0)
    }

    /// How many operations are to begin before `elapsed`.
    fn due(self, elapsed: Duration) -> u64 {
        (elapsed.as_secs_f64() * self.0).ceil() as u64
    }
}

/// The right to begin operations, handed to workers one by one.
#[derive(Debug)]
pub(super) struct Tickets {
    started: Instant,
    ends_at: Option<Instant>,
    /// How many there are at most.
    total: u64,
    taken: AtomicU64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    rate: Rate,
    /// A permit for each operation whose time has come.
    due: Semaphore,
}

impl Tickets {
    /// Tickets from now on for `workers`: at `per_second`, or whenever a worker asks.
    pub(super) fn start(end: End, per_second: Option<f64>, workers: usize) -> Arc<Self> {
        let started = Instant::now();
        let open = per_second.map(|rate| Open { rate: Rate(rate), due: Semaphore::new(0) });
        let (ends_at, total) = match (end, &open) {
            (End::Operations(total), _) => (None, total),
            (End::After(time), Some(open)) => (started.checked_add(time), open.rate.due(time)),
            (End::After(time), None) => (started.checked_add(time), u64::MAX),
        };
        let tickets = Arc::new(Tickets { started, ends_at, total, taken: AtomicU64::new(0), open });
        if tickets.open.is_some() {
            let held = Arc::downgrade(&tickets);
            std::thread::spawn(move || keep_time(held, workers));
        }
        tickets
    }

    /// When the next operation was to begin: now, or earlier in an open loop that is late. None at
    /// the end.
    pub(super) async fn next(&self) -> Option<Instant> {
        if let Some(open) = &self.open {
            open.due.acquire().await.ok()?.forget();
        }
        let now = Instant::now();
        if self.ends_at.is_some_and(|end| now >= end) {
            return None;
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        if number >= self.total {
            return None;
        }
        Some(match &self.open {
            Some(open) => self.started + open.rate.intended(number),
            None => now,
        })
    }

    /// How long ago the first could be taken.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How long after the beginning `intended` was.
    pub(super) fn since_start(&self, intended: Instant) -> Duration {
        intended.saturating_duration_since(self.started)
    }

    /// How many of an open loop's operations were due and never begun.
    pub(super) fn never_begun(&self) -> u64 {
        let taken = self.taken.load(Ordering::Relaxed);
        if self.open.is_some() { self.total.saturating_sub(taken) } else { 0 }
    }
}

/// Lets operations begin when it is time, until all may or nobody waits for them any more.
fn keep_time(tickets: Weak<Tickets>, workers: usize) {
    let mut released = 0;
    loop {
        let Some(tickets) = tickets.upgrade() else {
            return;
        };
        let Some(open) = &tickets.open else {
            return;
        };
        let elapsed = tickets.elapsed();
        let due = open.rate.due(elapsed).min(tickets.total);
        open.due.add_permits(usize::try_from(due.saturating_sub(released)).unwrap_or(0));
        released = released.max(due);
        if released == tickets.total {
            // One more for each worker, to find that there are none.
            open.due.add_permits(workers);
            return;
        }
        let left = open.rate.intended(released).saturating_sub(elapsed);
        drop(tickets);
        std::thread::sleep(left.clamp(NAP[0], NAP[1]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The latencies, in milliseconds, of one worker on a store that takes 1 ms for a request but
    /// stalls for a second at the 100th, by virtual time. At 100 requests a second.
    fn latencies(rate: Option<Rate>) -> Vec<u128> {
        let (mut now, mut latencies) = (Duration::ZERO, Vec::new());
        for number in 0..1_000 {
            let intended = rate.map_or(now, |rate| rate.intended(number));
            now = now.max(intended);
            now += Duration::from_millis(if number == 100 { 1_000 } else { 1 });
            latencies.push((now - intended).as_millis());
        }
        latencies
    }

    #[test]
    fn an_open_loop_does_not_omit_what_waited_for_a_stall() {
        let slow = |latencies: &[u128]| latencies.iter().filter(|ms| **ms >= 100).count();
        assert_eq!(slow(&latencies(None)), 1, "a closed loop sees one slow request");
        let open = latencies(Some(Rate(100.0)));
        // The stall of 1,000 ms holds up those intended in it, each 10 ms less, 1 ms for each before.
        assert_eq!(&open[100..103], [1_000, 991, 982]);
        assert_eq!(slow(&open), 101);
        assert_eq!(open.last(), Some(&1), "it has caught up");
    }

    #[test]
    fn due_and_intended_agree() {
        let rate = Rate(100.0);
        assert_eq!(rate.due(Duration::ZERO), 0);
        for number in 0..100 {
            let at = rate.intended(number);
            assert_eq!(rate.due(at + Duration::from_millis(1)), number + 1);
        }
        assert_eq!(rate.due(Duration::from_secs(1)), 100);
    }

    #[tokio::test]
    async fn tickets_are_as_many_as_asked_for_in_both_loops() {
        for rate in [None, Some(100_000.0)] {
            let tickets = Tickets::start(End::Operations(500), rate, 2);
            let mut taken = 0;
            let mut last = None;
            while let Some(intended) = tickets.next().await {
                assert!(last <= Some(intended));
                last = Some(intended);
                taken += 1;
            }
            assert_eq!((taken, tickets.never_begun()), (500, 0), "{rate:?}");
            assert!(tickets.next().await.is_none(), "the other worker ends too");
        }
    }

    #[tokio::test]
    async fn what_was_not_begun_in_time_is_counted() {
        let tickets = Tickets::start(End::After(Duration::from_millis(20)), Some(10_000.0), 1);
        assert!(tickets.next().await.is_some());
        while tickets.elapsed() < Duration::from_millis(20) {
            tokio::task::yield_now().await;
        }
        assert!(tickets.next().await.is_none());
        assert_eq!(tickets.never_begun(), 199);
    }
}
