//! What kinds of runs there are: how bad the world is, and what may be lost in it.
//!
//! Every scenario states its fault budget. Within the budget nothing that was acknowledged may
//! be lost; a scenario that loses something is a bug of Stator or of its statement.

use stator_core::catalogue::{Durability, Reconcile};

use super::merging::UNION;
use super::network::Quality;
use super::queue::Micros;
use super::world::{LATE, N};

/// A kind of fault, with how long it lasts on average where it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The machines fall into two groups that do not hear each other.
    Partition,
    /// Some links carry nothing in one direction.
    OneWay,
    /// A machine loses its power: what was not synced is gone.
    Crash,
    /// All machines lose their power at once.
    PowerCut,
    /// A machine loses its power and all data that it had, synced or not.
    LoseDisk,
    /// A machine stops with everything synced.
    Stop,
    /// A machine does nothing for a while, then goes on.
    Freeze,
    /// A machine's disk takes a hundred times as long.
    SlowDisk,
    /// A machine's store answers some writes with an error.
    BadDisk,
    /// What a machine sends and gets takes forty times as long.
    SlowNode,
    /// An old copy of the first machine's data directory is put back.
    Restore,
    /// A machine dies, and comes back only when all trouble is over. One at most.
    Die,
    /// A machine's wall clock jumps by up to five minutes.
    Skew,
    /// A record of the first machine is damaged.
    Rot,
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
    /// The smallest w that clients ask for.
    pub w_min: u32,
    /// Whether replication and hints alone must bring every write to every owner. A coordinator
    /// that crashes forgets whom it owes what, so only where none does and no disk fails.
    pub is_handoff_complete: bool,
    /// Whether every owner keeps what it acknowledged, so that strict quorums intersect.
    pub is_acked_kept: bool,
    /// How many of the machines are members without a seat at first.
    pub spares: usize,
    /// The mean time between two things that an operator does to the ring, if any is done.
    pub operators_us: Option<Micros>,
    /// Whether clients do nothing but what the script of the race tells them.
    pub is_scripted: bool,
}

impl Scenario {
    /// In what time all partitions are compared with their other owners; 0 for never, so that
    /// anti-entropy does not bring what hints should.
    pub fn exchange_cover_ms(&self) -> u64 {
        if self.is_handoff_complete { 0 } else { 10_000 }
    }

    /// How many owners a keyspace has. Where the ring changes, one of the two has fewer than the
    /// ring has for each partition.
    pub fn replicas(&self, keyspace: &str) -> u32 {
        if keyspace == LATE && self.operators_us.is_some() { N - 1 } else { N }
    }

    /// Whether what was deleted is forgotten. A copy of before would bring it back.
    pub fn is_collecting(&self) -> bool {
        !self.faults.iter().any(|(kind, _)| *kind == Restore)
    }

    /// Whether records get damaged without anyone noticing.
    pub fn is_rotting(&self) -> bool {
        self.faults.iter().any(|(kind, _)| *kind == Rot)
    }

    /// Whether what a module makes of siblings is stored in their place.
    pub fn is_folding(&self) -> bool {
        matches!(self.reconcile, Reconcile::Fold(_))
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
    w_min: 1,
    is_handoff_complete: true,
    is_acked_kept: true,
    spares: 0,
    operators_us: None,
    is_scripted: false,
};

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

use FaultKind::{
    BadDisk, Crash, Die, Freeze, LoseDisk, OneWay, Partition, PowerCut, Restore, Rot, Skew,
    SlowDisk, SlowNode, Stop,
};

/// All scenarios, in the order in which seeds take them.
pub const SCENARIOS: &[Scenario] = &[
    CALM,
    Scenario {
        name: "lossy",
        budget: "messages are lost, repeated, overtaken and late, disks slow, machines freeze: \
                 nothing may be lost",
        quality: LOSSY,
        faults: &[(SlowDisk, 8 * SECOND), (Freeze, 8 * SECOND)],
        ..CALM
    },
    Scenario {
        name: "partitions",
        budget: "any partition, one-way ones too: nothing may be lost",
        quality: ROUGH,
        faults: &[(Partition, 6 * SECOND), (OneWay, 8 * SECOND)],
        ..CALM
    },
    Scenario {
        name: "crashes",
        budget: "durability all, any number of crashes and partitions, all machines at once \
                 too: nothing may be lost",
        quality: ROUGH,
        faults: &[
            (Crash, 3 * SECOND),
            (PowerCut, 15 * SECOND),
            (Partition, 10 * SECOND),
            (SlowDisk, 10 * SECOND),
        ],
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "restarts",
        budget: "clean stops, clocks that jump, partitions: nothing may be lost",
        quality: ROUGH,
        faults: &[
            (Stop, 3 * SECOND),
            (Skew, 3 * SECOND),
            (Partition, 12 * SECOND),
            (OneWay, 12 * SECOND),
        ],
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "buffered",
        budget: "durability buffered, w at least 2, and at most one crash within the time that \
                 writes stay in memory: nothing may be lost",
        quality: ROUGH,
        faults: &[(Crash, 3 * SECOND), (Partition, 10 * SECOND)],
        crashes_apart_us: 2 * WRITE_BEHIND_US,
        durability: Durability::Buffered,
        w_min: 2,
        is_handoff_complete: false,
        is_acked_kept: false,
        ..CALM
    },
    Scenario {
        name: "one",
        budget: "durability one, any number of crashes, all machines at once too: the \
                 coordinator has synced, so nothing may be lost",
        quality: ROUGH,
        faults: &[(Crash, 4 * SECOND), (PowerCut, 10 * SECOND), (OneWay, 10 * SECOND)],
        durability: Durability::One,
        is_handoff_complete: false,
        is_acked_kept: false,
        ..CALM
    },
    Scenario {
        name: "bad disks",
        budget: "disks are slow and answer with errors, machines crash: nothing may be lost",
        quality: ROUGH,
        faults: &[(BadDisk, 4 * SECOND), (SlowDisk, 6 * SECOND), (Crash, 8 * SECOND)],
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "rot",
        budget: "records of one machine are damaged, w at least 2: nothing may be lost",
        quality: ROUGH,
        faults: &[(Rot, 2 * SECOND), (Partition, 10 * SECOND), (Crash, 12 * SECOND)],
        w_min: 2,
        is_handoff_complete: false,
        is_acked_kept: false,
        ..CALM
    },
    Scenario {
        name: "lost disks",
        budget: "machines lose all data, each only when the others are filled; crashes, \
                 partitions, slow disks; w at least 2: nothing may be lost",
        quality: ROUGH,
        faults: &[
            (LoseDisk, 4 * SECOND),
            (Partition, 10 * SECOND),
            (Crash, 8 * SECOND),
            (SlowDisk, 10 * SECOND),
        ],
        w_min: 2,
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "late",
        budget: "many messages come twice, and many seconds late, after others that were sent \
                 later: nothing may be lost",
        quality: TARDY,
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "last write wins",
        budget: "partitions, crashes, clocks that jump: of concurrent writes one may win",
        quality: ROUGH,
        faults: &[(Partition, 6 * SECOND), (Crash, 8 * SECOND), (Skew, 4 * SECOND)],
        reconcile: Reconcile::LastWriteWins,
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "folds",
        budget: "siblings are folded, some merges fail; partitions, crashes, lost messages: \
                 nothing may be lost, and what was deleted stays so",
        quality: ROUGH,
        faults: &[(Partition, 6 * SECOND), (Crash, 8 * SECOND), (OneWay, 12 * SECOND)],
        reconcile: Reconcile::Fold(UNION),
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "restored copy",
        budget: "an old copy of one machine's data directory is put back, w at least 2; crashes, partitions; nobody forgets what was deleted: nothing may be lost",
        quality: ROUGH,
        faults: &[(Restore, 2 * SECOND), (Partition, 10 * SECOND), (Crash, 10 * SECOND)],
        w_min: 2,
        is_handoff_complete: false,
        is_acked_kept: false,
        ..CALM
    },
    Scenario {
        name: "one way",
        budget: "links that carry nothing in one direction, pauses, slow nodes: hints come and \
                 change while they are delivered, and nothing may be lost",
        machines: (4, 6),
        quality: ROUGH,
        faults: &[(OneWay, SECOND), (Freeze, 2 * SECOND), (SlowNode, 2 * SECOND)],
        ..CALM
    },
    Scenario {
        name: "crowd",
        budget: "up to 30 machines; crashes, partitions, pauses, slow nodes and disks, clocks that \
                 jump: nothing may be lost",
        machines: (10, 30),
        quality: ROUGH,
        faults: &[
            (Crash, 2 * SECOND),
            (Partition, 10 * SECOND),
            (OneWay, 6 * SECOND),
            (Freeze, 3 * SECOND),
            (SlowNode, 3 * SECOND),
            (SlowDisk, 8 * SECOND),
            (Skew, 8 * SECOND),
        ],
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "ring changes",
        budget: "operators join, leave and weigh nodes, two at a time too; partitions, crashes, \
                 lost messages: there is one ring of each version, and nothing may be lost",
        machines: (6, 10),
        quality: ROUGH,
        faults: &[(Partition, 6 * SECOND), (Crash, 4 * SECOND), (OneWay, 12 * SECOND)],
        is_handoff_complete: false,
        spares: 3,
        operators_us: Some(SECOND),
        ..CALM
    },
    Scenario {
        name: "dead nodes",
        budget: "one machine dies, and operators replace or remove it while they change the ring; \
                 crashes, clean stops, partitions; w at least 2: nothing may be lost, and the dead \
                 one is no member any more if it comes back",
        machines: (6, 9),
        quality: ROUGH,
        faults: &[
            (Die, 5 * SECOND),
            (Crash, 8 * SECOND),
            (Stop, 8 * SECOND),
            (Partition, 10 * SECOND),
        ],
        w_min: 2,
        is_handoff_complete: false,
        spares: 2,
        operators_us: Some(SECOND),
        ..CALM
    },
    Scenario {
        name: "lost disks in new rings",
        budget: "machines lose all data while operators change the ring, each only when the others \
                 are filled; crashes, partitions; w at least 2: nothing may be lost",
        machines: (6, 9),
        quality: ROUGH,
        faults: &[(LoseDisk, 4 * SECOND), (Crash, 8 * SECOND), (Partition, 10 * SECOND)],
        w_min: 2,
        is_handoff_complete: false,
        spares: 2,
        operators_us: Some(2 * SECOND),
        ..CALM
    },
];

/// The scenario that a seed runs.
pub fn of_seed(seed: u64) -> &'static Scenario {
    &SCENARIOS[(seed % SCENARIOS.len() as u64) as usize]
}
