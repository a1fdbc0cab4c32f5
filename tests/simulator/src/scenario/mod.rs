//! What kinds of runs there are: how bad the world is, and what may be lost in it.
//!
//! Every scenario states its fault budget. Within the budget nothing that was acknowledged may
//! be lost; a scenario that loses something is a bug of Stator or of its statement.

mod chores;
mod copies;
mod limits;
mod plain;
mod quorums;
mod regions;
mod resizes;
mod rings;

use stator_core::catalogue::{Durability, Quorums, Reconcile};
use stator_core::node::Settings;

use super::merging::UNION;
use super::network::{Quality, region_of};
use super::queue::Micros;
use super::world::LATE;

/// A kind of fault, with how long it lasts on average where it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The machines fall into two groups that do not hear each other.
    Partition,
    /// Some links carry nothing in one direction.
    OneWay,
    /// The machines of a region hear nobody else.
    CutRegion,
    /// A machine loses its power: what was not synced is gone.
    Crash,
    /// All machines lose their power at once.
    PowerCut,
    /// A machine loses its power and all data that it had, synced or not.
    LoseDisk,
    /// A machine stops with everything synced.
    Stop,
    /// A machine is told to stop, and does once owners are owed nothing.
    StopInOrder,
    /// A machine does nothing for a while, then goes on.
    Freeze,
    /// A machine's disk takes a hundred times as long.
    SlowDisk,
    /// A machine's store answers some writes with an error.
    BadDisk,
    /// A machine's disk does not save some of the small files.
    BadFiles,
    /// What a machine sends and gets takes forty times as long.
    SlowNode,
    /// An old copy of the first machine's data directory is put back.
    Restore,
    /// A machine's data directory is copied, and a process runs on the copy: beside it, instead of
    /// it, or where it was.
    Copy,
    /// The directories of all machines are copied, and the copies run as a cluster. Once at most.
    CopyAll,
    /// A machine is started anew at another address.
    Move,
    /// A machine dies, and comes back only when all trouble is over. One at most.
    Die,
    /// Half of the machines with a seat and one more die at once, and come back only when all
    /// trouble is over. An operator goes on without them. Once at most.
    DieMost,
    /// A machine's wall clock jumps by up to five minutes.
    Skew,
    /// A record of the first machine is damaged.
    Rot,
}

/// Something that operators do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// They change the ring, two at a time too.
    Ring,
    /// They change the quorums of a keyspace, and delete one and make it anew.
    Keyspaces,
    /// They switch what is done with concurrent versions: a module is activated, and rolled back.
    Modules,
    /// They activate a module that loses writes, go back, and have merged anew what it folded.
    Release,
    /// They want owners compared and repaired.
    Repair,
    /// They change a keyspace's n.
    Resize,
}

/// A kind of run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What faults it has, and what may be lost by them.
    pub budget: &'static str,
    /// The least and the most machines.
    pub machines: (usize, usize),
    /// The network without cuts.
    pub quality: Quality,
    /// Kinds of faults with the mean time between two of the kind.
    pub faults: &'static [(FaultKind, Micros)],
    /// No two crashes are closer than this.
    pub crashes_apart_us: Micros,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// What concurrent versions mean.
    pub reconcile: Reconcile,
    /// Owners of each partition of the ring.
    pub owners: u32,
    /// What the keyspaces ask for.
    pub quorums: Quorums,
    /// The smallest w that clients ask for.
    pub w_min: u32,
    /// The least and the most partitions, as powers of two.
    pub partitions_log2: (u32, u32),
    /// The least and the most keys that there are from the start; two more come later.
    pub keys: (usize, usize),
    /// Over how many keyspaces they are spread.
    pub keyspaces: usize,
    /// Over how many zones the machines are spread.
    pub zones: usize,
    /// Over how many regions they are spread, with a longer way between these.
    pub regions: usize,
    /// How many hints a store keeps at most.
    pub hints_max: Option<usize>,
    /// How many messages are on their way from one machine to another at most.
    pub outbox_max: Option<usize>,
    /// Whether replication and hints alone must bring every write to every owner. A coordinator
    /// that crashes forgets whom it owes what, so only where none does and no disk fails.
    pub is_handoff_complete: bool,
    /// Whether every owner keeps what it acknowledged, so that strict quorums intersect.
    pub is_acked_kept: bool,
    /// How many of the machines are members without a seat at first.
    pub spares: usize,
    /// What operators do, with the mean time between two of the kind.
    pub chores: &'static [(Chore, Micros)],
    /// Whether clients write large values, and the same bytes as others.
    pub is_varied: bool,
    /// Whether clients name their writes, and try them again.
    pub is_naming: bool,
    /// Whether clients do nothing but what a script tells them.
    pub is_scripted: bool,
    /// In what time all partitions are compared, where that is not the scenario's to decide.
    pub cover_ms: Option<u64>,
}

impl Scenario {
    /// Whether operators do this.
    pub fn does(&self, chore: Chore) -> bool {
        self.chores.iter().any(|(kind, _)| *kind == chore)
    }

    /// The region in which a machine stands.
    pub fn region_of(&self, machine: usize) -> usize {
        region_of(machine, self.regions)
    }

    /// How many machines of the first ring die at once, in a scenario where most do.
    pub fn dead_max(&self) -> usize {
        self.owners as usize / 2 + 1
    }

    /// In what time all partitions are compared with their other owners; 0 for never, so that
    /// anti-entropy does not bring what hints or an operator should.
    pub fn exchange_cover_ms(&self) -> u64 {
        let is_off = self.is_handoff_complete || self.does(Chore::Repair);
        self.cover_ms.unwrap_or(if is_off { 0 } else { 10_000 })
    }

    /// What a keyspace asks for. Where the ring changes, one has fewer owners than the ring has
    /// for each partition.
    pub fn quorums(&self, keyspace: &str) -> Quorums {
        let Quorums { n, r, w } = self.quorums;
        let is_less = keyspace == LATE && self.does(Chore::Ring) && n == self.owners;
        let n = if is_less { n - 1 } else { n };
        Quorums { n, r: r.min(n), w: w.min(n) }
    }

    /// Whether what was deleted is forgotten. A copy of before would bring it back.
    pub fn is_collecting(&self) -> bool {
        !self.faults.iter().any(|(kind, _)| *kind == FaultKind::Restore) && !self.is_copying()
    }

    /// Whether several processes may say that they are one node.
    pub fn is_copying(&self) -> bool {
        let is_copying = |kind| matches!(kind, FaultKind::Copy | FaultKind::CopyAll);
        self.faults.iter().any(|(kind, _)| is_copying(*kind))
    }

    /// Whether machines are stopped, and clients ask them meanwhile.
    pub fn is_pausing(&self) -> bool {
        self.faults.iter().any(|(kind, _)| *kind == FaultKind::Freeze)
    }

    /// Whether records get damaged without anyone noticing.
    pub fn is_rotting(&self) -> bool {
        self.faults.iter().any(|(kind, _)| *kind == FaultKind::Rot)
    }

    /// Whether some values are put with a time to live. They are not folded.
    pub fn is_expiring(&self) -> bool {
        !self.is_folding() && !self.is_copying()
    }

    /// Whether what a module makes of siblings is stored in their place.
    pub fn is_folding(&self) -> bool {
        matches!(self.reconcile, Reconcile::Fold(_)) || self.does(Chore::Modules)
    }
}

const SECOND: Micros = 1_000_000;

/// How long unsynced writes stay in memory at most.
pub const WRITE_BEHIND_US: Micros = 2 * SECOND;

const LOSSY: Quality = Quality {
    delay_min_us: 100,
    delay_max_us: 20_000,
    straggles: 0.01,
    loses: 0.08,
    repeats: 0.05,
};

const TARDY: Quality =
    Quality { delay_min_us: 100, delay_max_us: 60_000, straggles: 0.06, loses: 0.0, repeats: 0.3 };

const ROUGH: Quality = Quality {
    delay_min_us: 100,
    delay_max_us: 8_000,
    straggles: 0.005,
    loses: 0.01,
    repeats: 0.02,
};

/// Good machines on a good network: the base of all other scenarios.
const CALM: Scenario = Scenario {
    name: "calm",
    budget: "no faults: nothing may be lost",
    machines: (3, 6),
    quality: Quality::GOOD,
    faults: &[],
    crashes_apart_us: 0,
    durability: Durability::All,
    // Siblings are kept, and with them what they have in common.
    reconcile: Reconcile::ThreeWay(UNION),
    owners: 3,
    quorums: Quorums { n: 3, r: 2, w: 2 },
    w_min: 1,
    partitions_log2: (2, 5),
    keys: (2, 7),
    keyspaces: 1,
    zones: 1,
    regions: 1,
    hints_max: None,
    outbox_max: None,
    is_handoff_complete: true,
    is_acked_kept: true,
    spares: 0,
    chores: &[],
    is_varied: false,
    is_naming: false,
    is_scripted: false,
    cover_ms: None,
};

/// So many nodes that nobody asks for anything, at their own pace.
pub fn at_rest(nodes: usize, partitions_log2: u32) -> Scenario {
    Scenario {
        name: "at rest",
        machines: (nodes, nodes),
        partitions_log2: (partitions_log2, partitions_log2),
        is_scripted: true,
        cover_ms: Some(Settings::default().exchange_cover_ms),
        ..CALM
    }
}

/// One conflict of one key, folded while a client that has seen all of it deletes or replaces it.
pub const FOLD_RACE: Scenario = Scenario {
    name: "fold race",
    budget: "messages are late, repeated and rarely lost: the client's write wins",
    machines: (3, 4),
    quality: ROUGH,
    reconcile: Reconcile::Fold(UNION),
    is_handoff_complete: false,
    is_scripted: true,
    ..CALM
};

/// All scenarios, in the order in which seeds take them.
const GROUPS: &[&[Scenario]] = &[
    plain::SCENARIOS,
    rings::SCENARIOS,
    quorums::SCENARIOS,
    chores::SCENARIOS,
    resizes::SCENARIOS,
    regions::SCENARIOS,
    limits::SCENARIOS,
    copies::SCENARIOS,
];

/// One seed of so many takes a large world.
const LARGE_APART: u64 = 50;

/// All scenarios that seeds take, the large ones last.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    GROUPS.iter().copied().flatten().chain(limits::LARGE)
}

/// The scenario of this name, be it one that no seed takes.
pub fn named(name: &str) -> Option<&'static Scenario> {
    all().chain([&FOLD_RACE, &copies::IN_NEW_RINGS]).find(|scenario| scenario.name == name)
}

/// The scenario that a seed runs.
pub fn of_seed(seed: u64) -> &'static Scenario {
    let large = limits::LARGE.len() as u64;
    let usual = all().count() as u64 - large;
    let place = match seed % LARGE_APART == LARGE_APART - 1 {
        true => usual + seed / LARGE_APART % large,
        false => seed % usual,
    };
    all().nth(place as usize).unwrap_or(&CALM)
}
