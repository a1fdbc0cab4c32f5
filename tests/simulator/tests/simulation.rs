//! Seeds of the simulator: the protocol holds in all of them, a seed runs alike twice, and bugs
//! that are planted are found.
//!
//! `STATOR_SIM_SEEDS` sets how many seeds run (200 by default), `STATOR_SIM_FIRST` the first one.
//! A failure prints its seed; `replay` runs that one again and prints everything.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use stator_simulator::checkers;
use stator_simulator::{Options, Outcome, Planted, Report, run};

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")),
        Err(_) => default,
    }
}

/// Runs seeds on all processors. Gives the first failures and what happened in all.
fn run_all(
    options: impl Iterator<Item = Options> + Send,
    failures_max: usize,
) -> (Vec<Outcome>, Report) {
    let options = Mutex::new(options);
    let failed = Mutex::new(Vec::new());
    let total = Mutex::new(Report::default());
    let failures = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failures.load(Ordering::Relaxed) < failures_max as u64 {
                    let Some(options) = options.lock().unwrap().next() else { return };
                    let outcome = run(options);
                    total.lock().unwrap().add(&outcome.report);
                    if !outcome.violations.is_empty() {
                        failures.fetch_add(1, Ordering::Relaxed);
                        failed.lock().unwrap().push(outcome);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_by_key(|outcome| outcome.options.seed);
    (failed, total.into_inner().unwrap())
}

#[test]
fn seeds_hold() {
    let first = number("STATOR_SIM_FIRST", 0);
    let seeds = first..first + number("STATOR_SIM_SEEDS", 200);
    let (failed, report) = run_all(seeds.clone().map(Options::of_seed), 5);
    println!("{seeds:?}: {report:?}");
    if let Some(first) = failed.first() {
        let again = run(Options { is_traced: true, ..first.options });
        let seeds: Vec<u64> = failed.iter().map(|outcome| outcome.options.seed).collect();
        panic!("seeds {seeds:?} and perhaps others failed; the first one:\n{again}");
    }
    if seeds.end - seeds.start >= 100 {
        // A simulation in which nothing happens proves nothing.
        let Report { siblings_seen, hints_delivered, repairs, crashes, .. } = report;
        let counts = [siblings_seen, hints_delivered, repairs, crashes, report.puts_acked];
        assert!(report.fills > 10, "too few lost disks were filled: {report:?}");
        assert!(counts.iter().all(|count| *count > 100), "too little happened: {report:?}");
    }
}

#[test]
fn replay() {
    let name = std::env::var("STATOR_SIM_SCENARIO").ok();
    let scenario = name.map(|name| &*name.leak());
    let seed = number("STATOR_SIM_SEED", 0);
    let outcome = run(Options { is_traced: true, scenario, ..Options::of_seed(seed) });
    outcome.trace.iter().for_each(|line| println!("{line}"));
    assert!(outcome.violations.is_empty(), "{outcome}");
}

#[test]
fn a_seed_runs_alike_twice() {
    for seed in 0..10 {
        let hashes = [(); 2].map(|()| run(Options::of_seed(seed)).trace_hash);
        assert_eq!(hashes[0], hashes[1], "seed {seed} had two courses");
        assert_ne!(hashes[0], run(Options::of_seed(seed + 10)).trace_hash, "seeds {seed}, +10");
    }
}

/// The rules that a planted bug breaks in seeds of a scenario, in the order of the seeds.
fn broken(planted: Planted, scenario: &'static str, seeds: u64) -> Vec<&'static str> {
    let run_of = |seed| Options { planted, scenario: Some(scenario), ..Options::of_seed(seed) };
    let (failed, _) = run_all((0..seeds).map(run_of), usize::MAX);
    println!("{planted:?} is found in {} of {seeds} seeds of {scenario:?}", failed.len());
    failed.iter().flat_map(|outcome| &outcome.violations).map(|found| found.rule).collect()
}

#[test]
fn a_dropped_hint_is_found_within_20_seeds() {
    let rules = broken(Planted::DropHints, "partitions", 20);
    assert!(rules.contains(&checkers::HANDED_OFF), "{rules:?}");
}

#[test]
fn an_early_acknowledgement_is_found_within_20_seeds() {
    let rules = broken(Planted::EagerAck, "one", 20);
    assert!(rules.contains(&checkers::LOST), "{rules:?}");
}

#[test]
fn an_early_collection_is_found_within_20_seeds() {
    let rules = broken(Planted::EarlyCollection, "one", 20);
    assert!(rules.contains(&checkers::REVIVED), "{rules:?}");
}

#[test]
fn a_dropped_context_is_found_within_20_seeds() {
    let rules = broken(Planted::DropContext, "calm", 20);
    assert!(rules.contains(&checkers::SIBLINGS), "{rules:?}");
}

#[test]
fn nothing_fails_without_a_fault() {
    let calm = (0..10).map(|seed| Options { scenario: Some("calm"), ..Options::of_seed(seed) });
    let (failed, report) = run_all(calm, 1);
    assert!(failed.is_empty(), "{}", failed[0]);
    assert_eq!(report.puts_failed, 0, "{report:?}");
    assert_eq!(report.hints_stored, 0, "{report:?}");
}

#[test]
fn an_old_actor_is_found_within_40_seeds() {
    let rules = broken(Planted::OldActor, "buffered", 40);
    assert!(rules.contains(&checkers::DOT), "{rules:?}");
}

#[test]
fn a_node_that_counts_before_its_fill_is_found_within_40_seeds() {
    let rules = broken(Planted::CountBeforeFill, "lost disks", 40);
    assert!(rules.contains(&checkers::STRICT), "{rules:?}");
}

/// A fold and a write that has seen all there was, in worlds of one key: the write wins, be it
/// a delete or a put. `STATOR_FOLD_RACES` sets how many seeds run (10,000 by default).
#[test]
fn a_racing_delete_or_put_wins_over_a_fold() {
    let seeds = number("STATOR_FOLD_RACES", 10_000);
    let race = |seed| Options { scenario: Some("fold race"), ..Options::of_seed(seed) };
    let (failed, report) = run_all((0..seeds).map(race), 5);
    println!("{seeds} races: {report:?}");
    if let Some(first) = failed.first() {
        panic!("{}", run(Options { is_traced: true, ..first.options }));
    }
    // Races in which nothing was folded, or the write was not sure, prove nothing.
    assert!(report.races > seeds / 2, "too little happened: {report:?}");
}

/// `STATOR_FOLD_SEEDS` sets how many seeds run (40 by default).
#[test]
fn folds_lose_and_revive_nothing_among_faults() {
    let seeds = number("STATOR_FOLD_SEEDS", 40);
    let run_of = |seed| Options { scenario: Some("folds"), ..Options::of_seed(seed) };
    let (failed, report) = run_all((0..seeds).map(run_of), 5);
    println!("{seeds} seeds: {report:?}");
    if let Some(first) = failed.first() {
        panic!("{}", run(Options { is_traced: true, ..first.options }));
    }
    assert!(report.folds > 20 * seeds, "too little happened: {report:?}");
}

#[test]
fn a_fold_with_a_fresh_dot_is_found_within_100_seeds() {
    let rules = broken(Planted::FreshDot, "fold race", 100);
    assert!(rules.contains(&checkers::REVIVED), "{rules:?}");
}

#[test]
fn a_write_without_its_mark_in_the_hash_tree_is_found_within_20_seeds() {
    let rules = broken(Planted::SkipTree, "crashes", 20);
    assert!(rules.contains(&checkers::TREES), "{rules:?}");
}

/// Without anti-entropy, a coordinator that crashed leaves owners that nobody tells.
#[test]
fn owners_that_nobody_compares_are_found_within_40_seeds() {
    let rules = broken(Planted::NoExchange, "crashes", 40);
    assert!(rules.contains(&checkers::RESTS), "{rules:?}");
}

#[test]
fn operators_change_the_ring_under_faults_and_there_is_one_of_each_version() {
    let options = (0..number("STATOR_SIM_RINGS", 30))
        .map(|seed| Options { scenario: Some("ring changes"), ..Options::of_seed(seed) });
    let (failed, report) = run_all(options, 1);
    println!("{report:?}");
    assert!(failed.is_empty(), "{}", failed[0]);
    assert!(report.rings > 100, "too few rings were committed: {report:?}");
}

#[test]
fn a_forgotten_promise_is_found_within_40_seeds() {
    let rules = broken(Planted::ForgetPromise, "ring changes", 40);
    assert!(rules.contains(&checkers::ONE_RING), "{rules:?}");
}

/// Whether something came back: seen at the end, or beside what had replaced it.
fn is_revival(rules: &[&str]) -> bool {
    rules.iter().any(|rule| [checkers::REVIVED, checkers::SIBLINGS].contains(rule))
}

#[test]
fn a_collection_while_a_hint_holds_the_value_is_found_within_20_seeds() {
    let rules = broken(Planted::CollectOverHints, "partitions", 20);
    assert!(is_revival(&rules), "{rules:?}");
}

#[test]
fn a_collection_while_a_replica_write_is_in_flight_is_found_within_40_seeds() {
    let rules = broken(Planted::CollectOverWrites, "late", 40);
    assert!(is_revival(&rules), "{rules:?}");
}

#[test]
fn a_collection_of_what_an_owner_does_not_hold_is_found_within_40_seeds() {
    let rules = broken(Planted::CollectUnmarked, "one", 40);
    assert!(is_revival(&rules), "{rules:?}");
}
