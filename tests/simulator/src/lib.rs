//! A deterministic simulation of a whole cluster: the real [`stator_core::node::Node`] and the
//! real write path, in a world of one random source and virtual time.
//!
//! A run is a seed. It chooses the [scenario](scenario::all), how many machines there are,
//! what clients do, what fails when, how long every message takes. For forty virtual seconds
//! clients read and write while faults strike; then everything heals, the
//! cluster must come to rest, and the checkers judge what is left by the clients'
//! own history, which knows nothing of vectors and dots.
//!
//! The idea is FoundationDB's; the shape (one scheduler, network and disk as values that decide,
//! checkers apart) follows TigerBeetle's `vopr`.
//!
//! [`seeds`] runs many; [`planted`] is the table of bugs that must be found.
//!
//! Left out: several disks per machine, clocks that run at different speeds
//! (they only jump), and the transport: a message is a value here.

mod brief;
pub mod checkers;
pub mod clients;
mod copies;
mod disk;
mod doors;
mod faults;
mod files;
mod finale;
pub mod history;
mod listings;
mod machine;
pub mod merging;
pub mod metadata;
mod naming;
pub mod network;
mod operators;
mod pauses;
pub mod planted;
pub mod queue;
mod race;
pub mod scenario;
pub mod seeds;
pub mod store;
pub mod trace;
mod traffic;
mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use checkers::Violation;
use merging::Merger;
pub use planted::Planted;
use scenario::Scenario;
pub use world::{TROUBLE_US, World};

/// What to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// All randomness.
    pub seed: u64,
    /// The scenario; `None` takes the seed's.
    pub scenario: Option<&'static str>,
    /// A bug of the world.
    pub planted: Planted,
    /// Whether to keep the trace's lines.
    pub is_traced: bool,
}

impl Options {
    /// A run of this seed.
    pub fn of_seed(seed: u64) -> Self {
        Options { seed, ..Options::default() }
    }

    /// The scenario that is run.
    pub fn scenario(&self) -> &'static Scenario {
        let named = self.scenario.and_then(scenario::named);
        named.unwrap_or_else(|| scenario::of_seed(self.seed))
    }
}

/// How much happened in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Events that nodes took in.
    pub events: u64,
    /// Puts that were acknowledged.
    pub puts_acked: u64,
    /// Puts that were not, but for the sibling limit.
    pub puts_failed: u64,
    /// Gets that were answered.
    pub gets_answered: u64,
    /// Answers with siblings.
    pub siblings_seen: u64,
    /// Siblings with a known ancestor, among answers and at the end.
    pub ancestors_known: u64,
    /// Hints that were stored.
    pub hints_stored: u64,
    /// Hints that were delivered.
    pub hints_delivered: u64,
    /// Stale replicas that a get repaired.
    pub repairs: u64,
    /// Crashes.
    pub crashes: u64,
    /// Disks that were lost.
    pub losses: u64,
    /// Old copies of a disk that were put back.
    pub restored: u64,
    /// Lost disks that were filled.
    pub fills: u64,
    /// Partitions that were compared with another owner.
    pub exchanges: u64,
    /// Keys that such a comparison repaired.
    pub exchanged_keys: u64,
    /// Siblings that were folded into one version.
    pub folds: u64,
    /// Keys that were merged anew after a bad module.
    pub remerged: u64,
    /// Puts and deletes that the state of their key did not allow.
    pub puts_refused: u64,
    /// Objects that a store forgot, wholly or in part.
    pub collected: u64,
    /// Rounds of collection that came to no end.
    pub rounds_failed: u64,
    /// Races of a fold and a write that has seen all there was.
    pub races: u64,
    /// Rings that were committed, as their operators were told.
    pub rings: u64,
    /// Partitions that were handed to another owner.
    pub moves: u64,
    /// Copies of partitions that were left behind, and dropped.
    pub partitions_dropped: u64,
    /// Machines that stopped after they had handed over what they owed.
    pub stops_in_order: u64,
    /// Small files that a disk did not save.
    pub saves_failed: u64,
    /// Changes of a keyspace's n that have ended.
    pub resizes: u64,
    /// Keyspaces that were deleted.
    pub keyspaces_deleted: u64,
    /// Repairs that an operator asked for and that came to their end.
    pub repaired: u64,
    /// Hints that a full store refused.
    pub hints_refused: u64,
    /// Puts that clients tried again.
    pub retries: u64,
    /// Dots that were minted for a write that had one.
    pub minted_twice: u64,
    /// Copies of a data directory that were started.
    pub copies: u64,
    /// Times that a process was told that another one is its node.
    pub refused: u64,
    /// Objects that were brought home from processes that are no node in the end.
    pub brought_home: u64,
}

impl Report {
    /// Adds another run's.
    pub fn add(&mut self, other: &Report) {
        self.events += other.events;
        self.puts_acked += other.puts_acked;
        self.puts_failed += other.puts_failed;
        self.gets_answered += other.gets_answered;
        self.siblings_seen += other.siblings_seen;
        self.ancestors_known += other.ancestors_known;
        self.hints_stored += other.hints_stored;
        self.hints_delivered += other.hints_delivered;
        self.repairs += other.repairs;
        self.crashes += other.crashes;
        self.losses += other.losses;
        self.restored += other.restored;
        self.fills += other.fills;
        self.exchanges += other.exchanges;
        self.exchanged_keys += other.exchanged_keys;
        self.folds += other.folds;
        self.remerged += other.remerged;
        self.puts_refused += other.puts_refused;
        self.races += other.races;
        self.collected += other.collected;
        self.rounds_failed += other.rounds_failed;
        self.rings += other.rings;
        self.moves += other.moves;
        self.partitions_dropped += other.partitions_dropped;
        self.stops_in_order += other.stops_in_order;
        self.saves_failed += other.saves_failed;
        self.resizes += other.resizes;
        self.keyspaces_deleted += other.keyspaces_deleted;
        self.repaired += other.repaired;
        self.hints_refused += other.hints_refused;
        self.retries += other.retries;
        self.minted_twice += other.minted_twice;
        self.copies += other.copies;
        self.refused += other.refused;
        self.brought_home += other.brought_home;
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was run.
    pub options: Options,
    /// How much happened.
    pub report: Report,
    /// What must never be, and was.
    pub violations: Vec<Violation>,
    /// The hash over the trace.
    pub trace_hash: u64,
    /// The trace, if it was kept.
    pub trace: Vec<String>,
}

/// Runs a seed.
pub fn run(options: Options) -> Outcome {
    run_merging(options, merging::union)
}

/// Runs a seed in whose world `merger` merges.
pub fn run_merging(options: Options, merger: Merger) -> Outcome {
    let mut world = World::new(&options);
    world.merger = merger;
    let course = || match options.scenario().is_scripted {
        true => world.race(),
        false => world.live(),
    };
    if catch_unwind(AssertUnwindSafe(course)).is_err() {
        // The core may meet a bug before the checkers do.
        let found = "the node panicked".to_owned();
        world.violations.push(Violation { rule: checkers::PANICKED, key: None, found });
    }
    let World { report, violations, trace, .. } = world;
    let trace_hash = trace.hash();
    Outcome { options, report, violations, trace_hash, trace: trace.into_lines() }
}

/// How many lines of the trace a failure shows.
const SHOWN_MAX: usize = 400;

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { name, budget, .. } = self.options.scenario();
        let seed = self.options.seed;
        writeln!(f, "seed {seed}, scenario {name:?} ({budget}): {:?}", self.report)?;
        for violation in &self.violations {
            writeln!(f, "VIOLATED: {violation}")?;
        }
        let key = self.violations.first().and_then(|violation| violation.key);
        let name = key.map(|key| format!("\"key {key}\""));
        // Lines of other keys only hide what happened to this one.
        let is_shown = |line: &&String| match &name {
            Some(name) => line.contains(name.as_str()) || !line.contains("\"key "),
            None => true,
        };
        let shown: Vec<&String> = self.trace.iter().filter(is_shown).collect();
        let first = shown.len().saturating_sub(SHOWN_MAX);
        if first > 0 {
            writeln!(f, "({first} earlier lines are left out; the replay prints all)")?;
        }
        shown[first..].iter().try_for_each(|line| writeln!(f, "{line}"))?;
        writeln!(
            f,
            "replay: make simulate REPLAY=1 FIRST={seed} SCENARIO='{}'",
            self.options.scenario().name
        )
    }
}
