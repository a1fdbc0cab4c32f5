//! Every planted bug is found within its seeds.
//!
//! `STATOR_SIM_BUG` names a part of the names of those to look for.

use std::collections::BTreeSet;

use stator_simulator::Options;
use stator_simulator::planted::{BUGS, Bug};
use stator_simulator::seeds::run_all;

/// So many seeds run before it is looked whether the bug was found.
const AT_ONCE: u64 = 4;

/// The seed that finds the bug, and the rule that it broke.
fn found(bug: &Bug) -> Result<(u64, &'static str), BTreeSet<&'static str>> {
    let mut others = BTreeSet::new();
    let options = |seed| Options {
        planted: bug.planted,
        scenario: Some(bug.scenario),
        ..Options::of_seed(seed)
    };
    let mut first = 0;
    while first < bug.seeds {
        let until = (first + AT_ONCE).min(bug.seeds);
        let tally = run_all((first..until).map(options), usize::MAX, |_| {});
        for outcome in &tally.failed {
            for rule in outcome.violations.iter().map(|violation| violation.rule) {
                if bug.rules.contains(&rule) {
                    return Ok((outcome.options.seed, rule));
                }
                others.insert(rule);
            }
        }
        first = until;
    }
    Err(others)
}

#[test]
fn every_planted_bug_is_found_within_its_seeds() {
    let mut missed = Vec::new();
    println!("{:<50} {:>8} {:>8}  rule", "bug", "in seed", "of");
    let only = std::env::var("STATOR_SIM_BUG").unwrap_or_default();
    for bug in BUGS.iter().filter(|bug| bug.name.contains(&only)) {
        match found(bug) {
            Ok((seed, rule)) => {
                println!("{:<50} {seed:>8} {:>8}  {rule}", bug.name, bug.seeds);
            }
            Err(others) => {
                println!("{:<50} {:>8} {:>8}  only {others:?}", bug.name, "-", bug.seeds);
                missed.push(bug.name);
            }
        }
    }
    assert!(missed.is_empty(), "not found within their seeds: {missed:?}");
}
