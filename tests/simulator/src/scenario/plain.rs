//! A ring that stays, and one kind of trouble after the other.

use stator_core::catalogue::{Durability, Reconcile};

use super::FaultKind::{
    BadDisk, Crash, Freeze, LoseDisk, OneWay, Partition, PowerCut, Restore, Rot, Skew, SlowDisk,
    SlowNode, Stop,
};
use super::{CALM, LOSSY, ROUGH, SECOND, Scenario, TARDY, WRITE_BEHIND_US};
use crate::merging::UNION;

pub(super) const SCENARIOS: &[Scenario] = &[
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
        name: "pauses",
        budget: "machines are stopped for up to four seconds, and clients who have asked them go on \
                 elsewhere; links that carry nothing in one direction, crashes: nothing may be lost, \
                 and what nobody had read when its client gave up has no effect",
        machines: (4, 6),
        quality: ROUGH,
        faults: &[(Freeze, SECOND), (OneWay, 6 * SECOND), (Crash, 12 * SECOND)],
        is_handoff_complete: false,
        ..CALM
    },
];
