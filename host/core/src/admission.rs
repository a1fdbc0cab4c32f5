//! How much background work may run beside the clients: the admission controller.
//!
//! Section 6.5 of the Dynamo paper: handing over and repairing must not slow down gets and puts,
//! so all background tasks share slices of what the machine can do, and feedback from the
//! foreground sets how many there are. The paper watches the 99th percentile of the database's
//! latency over the last 60 s against a threshold; so does this.
//!
//! - A *sample* is the time from asking the store for what a client or another coordinator waits
//!   for until its answer is there: queue, lock, disk and sync are in it.
//! - Once a second the percentile is compared with [`LATENCY_MAX_MS`]. Above it the slices are
//!   halved, below it there is one more: a machine in trouble is left alone at once, and given
//!   work again slowly.
//! - A task has a window of its own (hints on their way, pages of a fill, keys of an exchange) and
//!   asks [`Admission::window`] how much of it is open. It is never shut: what owners are owed
//!   must go on.
//!
//! Left out: slices of different size for different tasks; what other processes do to the disk,
//! except where it shows in the samples.

use std::collections::{BTreeMap, VecDeque};

use crate::id::Token;

/// The 99th percentile of the store's foreground latency above which background work gives way,
/// in milliseconds. The paper's example.
pub const LATENCY_MAX_MS: u64 = 50;
/// How far back samples count, in seconds. The paper's example.
pub const WINDOW_S: u64 = 60;
/// All slices there are.
pub const SLICES_MAX: usize = 64;
/// A second with fewer samples than this in the window decides nothing by itself.
const SAMPLES_MIN: u64 = 20;
/// Latencies are counted by their power of two, in milliseconds.
const BINS: usize = 24;

/// The samples of one second.
#[derive(Debug, Clone, Copy)]
struct Second {
    at_s: u64,
    bins: [u32; BINS],
}

/// Sets how wide the windows of background work are.
#[derive(Debug)]
pub struct Admission {
    started: BTreeMap<Token, u64>,
    seconds: VecDeque<Second>,
    slices: usize,
    decided_s: u64,
}

impl Default for Admission {
    fn default() -> Self {
        let (started, seconds) = (BTreeMap::new(), VecDeque::new());
        Admission { started, seconds, slices: SLICES_MAX, decided_s: 0 }
    }
}

impl Admission {
    /// The store was asked for something in the foreground.
    pub fn started(&mut self, token: Token, now_ms: u64) {
        self.started.insert(token, now_ms);
    }

    /// The store has answered; a token that was not started says nothing.
    pub fn ended(&mut self, token: Token, now_ms: u64) {
        let Some(started_ms) = self.started.remove(&token) else { return };
        let at_s = now_ms / 1_000;
        if self.seconds.back().is_none_or(|second| second.at_s != at_s) {
            self.seconds.push_back(Second { at_s, bins: [0; BINS] });
        }
        let bin = (u64::BITS - now_ms.saturating_sub(started_ms).leading_zeros()) as usize;
        if let Some(second) = self.seconds.back_mut() {
            second.bins[bin.min(BINS - 1)] += 1;
        }
        self.decide(at_s);
    }

    /// Time passes, also where nothing is asked for in the foreground.
    pub fn pass(&mut self, now_ms: u64) {
        self.decide(now_ms / 1_000);
    }

    /// How much of a window of `max` is open: from 1 to `max`.
    pub fn window(&self, max: usize) -> usize {
        (max * self.slices / SLICES_MAX).clamp(1, max.max(1))
    }

    /// The slices that background work has now, of [`SLICES_MAX`].
    pub fn slices(&self) -> usize {
        self.slices
    }

    /// The 99th percentile over the window, in milliseconds: the upper end of the power of two
    /// in which it lies. `None` with too few samples.
    pub fn latency_p99_ms(&self) -> Option<u64> {
        let mut bins = [0_u64; BINS];
        for second in &self.seconds {
            bins.iter_mut().zip(second.bins).for_each(|(sum, count)| *sum += u64::from(count));
        }
        let all: u64 = bins.iter().sum();
        if all < SAMPLES_MIN {
            return None;
        }
        let mut above = all.div_ceil(100);
        let bin = (0..BINS).rev().find(|&bin| {
            let is_here = bins[bin] >= above;
            above = above.saturating_sub(bins[bin]);
            is_here
        })?;
        Some((1_u64 << bin) - 1)
    }

    fn decide(&mut self, now_s: u64) {
        if self.decided_s == now_s {
            return;
        }
        self.decided_s = now_s;
        while self.seconds.front().is_some_and(|second| second.at_s + WINDOW_S <= now_s) {
            self.seconds.pop_front();
        }
        self.slices = match self.latency_p99_ms() {
            Some(found_ms) if found_ms > LATENCY_MAX_MS => (self.slices / 2).max(1),
            _ => (self.slices + 1).min(SLICES_MAX),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One sample of `latency_ms` that ends at `now_ms`.
    fn sample(admission: &mut Admission, token: Token, latency_ms: u64, now_ms: u64) {
        admission.started(token, now_ms.saturating_sub(latency_ms));
        admission.ended(token, now_ms);
    }

    /// `seconds` with 100 samples each, of which `slow` take 200 ms.
    fn run(admission: &mut Admission, from_s: u64, seconds: u64, slow: u64) {
        for second in from_s..from_s + seconds {
            for n in 0..100 {
                let latency_ms = if n < slow { 200 } else { 1 };
                sample(admission, second * 100 + n, latency_ms, second * 1_000 + n);
            }
        }
    }

    #[test]
    fn background_work_gives_way_at_once_and_comes_back_slowly() {
        let mut admission = Admission::default();
        run(&mut admission, 10, 10, 50);
        assert_eq!(admission.latency_p99_ms(), Some(255));
        assert_eq!(admission.window(64), 1, "after ten such seconds");
        assert_eq!(admission.window(1), 1, "never shut");
        // The slow minute has passed, and one more second for each slice.
        run(&mut admission, 20, WINDOW_S + 10, 0);
        assert_eq!(admission.latency_p99_ms(), Some(1));
        assert!(admission.slices() < SLICES_MAX);
        run(&mut admission, 30 + WINDOW_S, 64, 0);
        assert_eq!(admission.slices(), SLICES_MAX);
    }

    #[test]
    fn an_idle_machine_gets_its_background_work_back() {
        let mut admission = Admission::default();
        run(&mut admission, 10, 10, 50);
        assert_eq!(admission.window(64), 1);
        (20..20 + WINDOW_S + 70).for_each(|second| admission.pass(second * 1_000));
        assert_eq!(admission.slices(), SLICES_MAX);
    }

    #[test]
    fn few_samples_decide_nothing() {
        let mut admission = Admission::default();
        for second in 1..15 {
            sample(&mut admission, second, 900, second * 1_000);
        }
        assert_eq!(admission.slices(), SLICES_MAX);
    }

    proptest! {
        #[test]
        fn the_percentile_is_that_of_the_samples(
            latencies in prop::collection::vec(0u64..5_000, 20..300),
        ) {
            let mut admission = Admission::default();
            for (token, latency_ms) in latencies.iter().enumerate() {
                sample(&mut admission, token as u64, *latency_ms, 10_000);
            }
            let mut sorted = latencies.clone();
            sorted.sort_unstable();
            let exact = sorted[sorted.len() - sorted.len().div_ceil(100)];
            let found = admission.latency_p99_ms().unwrap();
            prop_assert!(exact <= found && found <= exact * 2, "{exact} and {found}");
        }

        #[test]
        fn a_window_is_never_shut_nor_too_wide(max in 0usize..1_000, slow in 0u64..100) {
            let mut admission = Admission::default();
            run(&mut admission, 5, 8, slow);
            let open = admission.window(max);
            prop_assert!(open >= 1 && open <= max.max(1));
        }
    }
}
