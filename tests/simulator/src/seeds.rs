//! Many seeds on all processors, each a run of its own.

use std::sync::Mutex;

use super::{Options, Outcome, Report, run};

/// What came of seeds so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many runs have ended.
    pub runs: u64,
    /// What happened in all of them.
    pub report: Report,
    /// Those that broke a rule, without their traces.
    pub failed: Vec<Outcome>,
}

/// Runs until `options` end or `failures_max` have failed; tells `told` after each run.
pub fn run_all(
    options: impl Iterator<Item = Options> + Send,
    failures_max: usize,
    told: impl FnMut(&Tally) + Send,
) -> Tally {
    let options = Mutex::new(options);
    let state = Mutex::new((Tally::default(), told));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    // Only a panic of `told` or of `options` poisons a lock, and that one ends the scope anyway.
    let next = || options.lock().ok()?.next();
    let is_enough = || state.lock().map_or(true, |state| state.0.failed.len() >= failures_max);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !is_enough() {
                    let Some(options) = next() else { return };
                    let outcome = run(options);
                    let Ok(mut state) = state.lock() else { return };
                    let (tally, told) = &mut *state;
                    tally.runs += 1;
                    tally.report.add(&outcome.report);
                    if !outcome.violations.is_empty() {
                        tally.failed.push(outcome);
                    }
                    told(tally);
                }
            });
        }
    });
    let (mut tally, _) = state.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    tally.failed.sort_by_key(|outcome| outcome.options.seed);
    tally
}
