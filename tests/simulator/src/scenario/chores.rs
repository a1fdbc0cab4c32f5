//! Operators do other things than changing the ring, or mind where the machines stand.

use stator_core::catalogue::Reconcile;

use super::FaultKind::{Crash, OneWay, Partition, StopInOrder};
use super::{CALM, Chore, ROUGH, SECOND, Scenario};
use crate::merging::UNION;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "stops",
        budget: "machines are told to stop, and do once owners are owed nothing; partitions: \
                 replication and hints alone bring every write to every owner",
        machines: (4, 6),
        quality: ROUGH,
        faults: &[(StopInOrder, 2 * SECOND), (Partition, 6 * SECOND), (OneWay, 8 * SECOND)],
        ..CALM
    },
    Scenario {
        name: "repairs",
        budget: "crashes and partitions, and nobody compares hash trees but for an operator: \
                 nothing may be lost, and all owners hold the same once a repair is done",
        quality: ROUGH,
        faults: &[(Crash, SECOND), (Partition, 8 * SECOND)],
        keys: (10, 25),
        is_handoff_complete: false,
        chores: &[(Chore::Repair, 12 * SECOND)],
        ..CALM
    },
    Scenario {
        name: "keyspaces",
        budget: "a keyspace is deleted and made anew, another one's quorums change; partitions, \
                 crashes: nothing may be lost, and nothing of a deleted one shows in the next",
        quality: ROUGH,
        faults: &[(Partition, 6 * SECOND), (Crash, 8 * SECOND)],
        is_handoff_complete: false,
        chores: &[(Chore::Keyspaces, 2 * SECOND)],
        ..CALM
    },
    Scenario {
        name: "modules",
        budget: "a module is activated, for folds too, and rolled back; partitions, crashes: \
                 nothing may be lost, and what was deleted stays so",
        quality: ROUGH,
        faults: &[(Partition, 6 * SECOND), (Crash, 8 * SECOND), (OneWay, 12 * SECOND)],
        is_handoff_complete: false,
        chores: &[(Chore::Modules, 3 * SECOND)],
        ..CALM
    },
    Scenario {
        name: "release",
        budget: "a module that loses writes is activated and taken back, and what it folded is merged \
                 anew; partitions, crashes: only what it has lost may be missing, and at the end \
                 only where someone has written since",
        quality: ROUGH,
        faults: &[(Partition, 6 * SECOND), (Crash, 8 * SECOND), (OneWay, 12 * SECOND)],
        reconcile: Reconcile::Fold(UNION),
        is_handoff_complete: false,
        chores: &[(Chore::Release, SECOND)],
        ..CALM
    },
    Scenario {
        name: "zones",
        budget: "machines stand in three zones, operators change the ring and the number of \
                 owners; partitions, crashes: nothing may be lost, and owners are as far apart as \
                 can be",
        machines: (6, 10),
        quality: ROUGH,
        faults: &[(Partition, 6 * SECOND), (Crash, 6 * SECOND)],
        is_handoff_complete: false,
        spares: 3,
        zones: 3,
        chores: &[(Chore::Ring, SECOND)],
        ..CALM
    },
];
