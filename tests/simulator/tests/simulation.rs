//! Seeds of the simulator: the protocol holds in all of them, and a seed runs alike twice.
//!
//! `STATOR_SIM_SEEDS` sets how many seeds run (200 by default), `STATOR_SIM_FIRST` the first one.
//! A failure prints its seed, and the command that runs it again and prints everything.

use stator_simulator::{Options, Outcome, Report, run, seeds};

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")),
        Err(_) => default,
    }
}

/// Runs seeds. Gives the first failures and what happened in all.
fn run_all(
    options: impl Iterator<Item = Options> + Send,
    failures_max: usize,
) -> (Vec<Outcome>, Report) {
    let tally = seeds::run_all(options, failures_max, |_| {});
    (tally.failed, tally.report)
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
        assert!(report.ancestors_known > 10, "too few siblings had an ancestor: {report:?}");
        assert!(counts.iter().all(|count| *count > 100), "too little happened: {report:?}");
    }
}

#[test]
fn a_seed_runs_alike_twice() {
    for seed in 0..10 {
        let hashes = [(); 2].map(|()| run(Options::of_seed(seed)).trace_hash);
        assert_eq!(hashes[0], hashes[1], "seed {seed} had two courses");
        assert_ne!(hashes[0], run(Options::of_seed(seed + 10)).trace_hash, "seeds {seed}, +10");
    }
}

#[test]
fn nothing_fails_without_a_fault() {
    let calm = (0..10).map(|seed| Options { scenario: Some("calm"), ..Options::of_seed(seed) });
    let (failed, report) = run_all(calm, 1);
    assert!(failed.is_empty(), "{}", failed[0]);
    assert_eq!(report.puts_failed, 0, "{report:?}");
    assert_eq!(report.hints_stored, 0, "{report:?}");
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

/// The page of a listing had an owner's answer of before a round of collection, and another one's of
/// after it: what was replaced looked alive.
#[test]
fn a_listing_that_is_under_way_holds_up_collection() {
    let outcome = run(Options { scenario: Some("folds"), ..Options::of_seed(197) });
    assert!(outcome.violations.is_empty(), "{outcome}");
}

/// A round of collection met a damaged record that no get and no exchange had seen, and told nobody.
#[test]
fn damage_that_a_round_of_collection_meets_is_mended() {
    for seed in [99, 267, 346] {
        let outcome = run(Options { scenario: Some("rot in new rings"), ..Options::of_seed(seed) });
        assert!(outcome.violations.is_empty(), "{outcome}");
    }
}

/// A coordinator handed the key's partition over while another owner gave its put the dot, and counted
/// itself as an owner all the same: whoever read from the next one missed what was acknowledged.
#[test]
fn a_coordinator_does_not_count_for_what_it_has_handed_over() {
    let new_rings = Some("new rings in regions");
    let outcome = run(Options { scenario: new_rings, ..Options::of_seed(23) });
    assert!(outcome.violations.is_empty(), "{outcome}");
}

/// `STATOR_SIM_RINGS` sets how many seeds run (30 by default).
#[test]
fn operators_change_the_ring_under_faults_and_there_is_one_of_each_version() {
    let options = (0..number("STATOR_SIM_RINGS", 30))
        .map(|seed| Options { scenario: Some("ring changes"), ..Options::of_seed(seed) });
    let (failed, report) = run_all(options, 1);
    println!("{report:?}");
    assert!(failed.is_empty(), "{}", failed[0]);
    assert!(report.rings > 100, "too few rings were committed: {report:?}");
}
