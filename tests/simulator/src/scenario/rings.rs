//! Operators change the ring meanwhile.

use super::FaultKind::{Crash, Die, LoseDisk, OneWay, Partition, Rot, Stop};
use super::{CALM, Chore, ROUGH, SECOND, Scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "ring changes",
        budget: "operators join, leave and weigh nodes, two at a time too; partitions, crashes, \
                 lost messages: there is one ring of each version, and nothing may be lost",
        machines: (6, 10),
        quality: ROUGH,
        faults: &[(Partition, 6 * SECOND), (Crash, 4 * SECOND), (OneWay, 12 * SECOND)],
        is_handoff_complete: false,
        spares: 3,
        chores: &[(Chore::Ring, SECOND)],
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
        chores: &[(Chore::Ring, SECOND)],
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
        chores: &[(Chore::Ring, 2 * SECOND)],
        ..CALM
    },
    Scenario {
        name: "rot in new rings",
        budget: "records of one machine are damaged while operators change the ring; crashes, \
                 partitions; w at least 2: nothing may be lost, and every transfer ends",
        machines: (6, 9),
        quality: ROUGH,
        faults: &[(Rot, SECOND / 2), (Crash, 12 * SECOND), (Partition, 10 * SECOND)],
        w_min: 2,
        is_handoff_complete: false,
        is_acked_kept: false,
        spares: 2,
        chores: &[(Chore::Ring, SECOND)],
        ..CALM
    },
];
