//! Runs seeds of the simulator and says what came of them; `make simulate` calls it.
//!
//! `SEEDS` is how many (1000), `FIRST` the first one (0), `SCENARIO` one for all of them (each
//! seed's own), `FAILURES` after how many failures to stop (10). With `REPLAY=1` the first seed
//! alone runs, and its whole trace is printed. The exit status is 1 if a rule was broken, and 2
//! if the question makes no sense.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use stator_simulator::scenario;
use stator_simulator::seeds::{Tally, run_all};
use stator_simulator::{Options, run};

fn asked<T: FromStr>(name: &str, default: T) -> Result<T, String> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().map_err(|_| format!("{name}={text:?} is not a number"))
        }
        _ => Ok(default),
    }
}

fn asked_scenario() -> Result<Option<&'static str>, String> {
    let Some(name) = std::env::var("SCENARIO").ok().filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    match scenario::named(&name) {
        Some(known) => Ok(Some(known.name)),
        None => {
            let names: Vec<_> = scenario::all().map(|scenario| scenario.name).collect();
            Err(format!("SCENARIO={name:?} is none of {}", names.join(", ")))
        }
    }
}

fn main() -> ExitCode {
    match simulate() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all rules hold.
fn simulate() -> Result<bool, String> {
    let (first, seeds) = (asked("FIRST", 0u64)?, asked("SEEDS", 1_000u64)?);
    let (failures_max, scenario) = (asked("FAILURES", 10usize)?, asked_scenario()?);
    let options = move |seed| Options { scenario, ..Options::of_seed(seed) };
    if asked("REPLAY", 0u8)? != 0 {
        return Ok(replay(options(first)));
    }
    let end = first.checked_add(seeds).ok_or("FIRST and SEEDS go beyond 2^64")?;
    let started = Instant::now();
    let mut shown = Duration::ZERO;
    let progress = |tally: &Tally| {
        let elapsed = started.elapsed();
        if elapsed > shown + Duration::from_secs(5) {
            shown = elapsed;
            println!("{}", line(tally, seeds, elapsed));
        }
    };
    let tally = run_all((first..end).map(options), failures_max, progress);
    println!("{}", line(&tally, seeds, started.elapsed()));
    println!("in all: {:?}", tally.report);
    if let Some(outcome) = tally.failed.first() {
        println!("{}", run(Options { is_traced: true, ..outcome.options }));
    }
    for outcome in &tally.failed {
        let (seed, scenario) = (outcome.options.seed, outcome.options.scenario().name);
        let violated = outcome.violations.first().map(ToString::to_string).unwrap_or_default();
        println!("failed: seed {seed}, scenario {scenario:?}: {violated}");
        println!("  replay: make simulate REPLAY=1 FIRST={seed} SCENARIO='{scenario}'");
    }
    Ok(tally.failed.is_empty())
}

fn line(tally: &Tally, seeds: u64, elapsed: Duration) -> String {
    let an_hour = tally.runs as f64 * 3_600.0 / elapsed.as_secs_f64().max(0.001);
    let (runs, failed) = (tally.runs, tally.failed.len());
    format!("{runs} of {seeds} seeds, {failed} failed, {an_hour:.0} seeds/hour")
}

fn replay(options: Options) -> bool {
    let outcome = run(Options { is_traced: true, ..options });
    outcome.trace.iter().for_each(|line| println!("{line}"));
    println!("trace hash {:016x}, {:?}", outcome.trace_hash, outcome.report);
    outcome.violations.iter().for_each(|violation| println!("VIOLATED: {violation}"));
    outcome.violations.is_empty()
}
