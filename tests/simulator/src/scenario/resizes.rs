//! Operators change the n of a keyspace, up and down, and think better of it now and then.

use stator_core::catalogue::{Quorums, Reconcile};

use super::FaultKind::{Crash, LoseDisk, OneWay, Partition, SlowNode, StopInOrder};
use super::{CALM, Chore, ROUGH, SECOND, Scenario};
use crate::merging::UNION;

/// Every n that is asked for has an r and w with r + w > n.
const RESIZED: Scenario = Scenario {
    machines: (5, 7),
    quality: ROUGH,
    owners: 5,
    quorums: Quorums { n: 3, r: 2, w: 2 },
    is_handoff_complete: false,
    chores: &[(Chore::Resize, 3 * SECOND)],
    ..CALM
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "resized",
        budget: "a keyspace's n goes up and down between 1 and 5; partitions, crashes, slow nodes: \
                 nothing may be lost, what was deleted stays so, every strict get sees every strict \
                 put before it, and each change ends",
        faults: &[
            (Partition, 6 * SECOND),
            (Crash, 6 * SECOND),
            (OneWay, 10 * SECOND),
            (SlowNode, 10 * SECOND),
        ],
        ..RESIZED
    },
    Scenario {
        name: "resized with lost disks",
        budget: "a keyspace's n goes up and down, w at least 2; machines lose all data, each only when \
                 the others are filled; partitions, clean stops: nothing may be lost",
        faults: &[(LoseDisk, 4 * SECOND), (Partition, 8 * SECOND), (StopInOrder, 6 * SECOND)],
        w_min: 2,
        ..RESIZED
    },
    Scenario {
        name: "resized in new rings",
        budget: "a keyspace's n goes up and down while operators change the ring, w at least 2; \
                 machines lose all data, each only when the others are filled; partitions, crashes: \
                 nothing may be lost",
        machines: (7, 9),
        faults: &[(LoseDisk, 6 * SECOND), (Partition, 6 * SECOND), (Crash, 8 * SECOND)],
        w_min: 2,
        spares: 2,
        chores: &[(Chore::Ring, 3 * SECOND), (Chore::Resize, 3 * SECOND)],
        ..RESIZED
    },
    Scenario {
        name: "resized folds",
        budget: "siblings are folded while a keyspace's n goes up and down; partitions, crashes: \
                 nothing may be lost, and what was deleted stays so",
        faults: &[(Partition, 6 * SECOND), (Crash, 8 * SECOND), (OneWay, 12 * SECOND)],
        reconcile: Reconcile::Fold(UNION),
        ..RESIZED
    },
];
