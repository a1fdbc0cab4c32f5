//! Other quorums than 2 of 3.

use stator_core::catalogue::Quorums;

use super::FaultKind::{Crash, DieMost, LoseDisk, OneWay, Partition, SlowDisk};
use super::{CALM, Chore, ROUGH, SECOND, Scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "every owner",
        budget: "w is n and r is 1; machines lose all data, each only when the others are filled; \
                 partitions, crashes: nothing may be lost",
        quality: ROUGH,
        faults: &[
            (LoseDisk, 4 * SECOND),
            (Partition, 6 * SECOND),
            (Crash, 10 * SECOND),
            (SlowDisk, 10 * SECOND),
        ],
        quorums: Quorums { n: 3, r: 1, w: 3 },
        w_min: 3,
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "five owners",
        budget: "five owners, w at least 3; machines lose all data, each only when the others are \
                 filled; partitions, crashes: nothing may be lost",
        machines: (5, 8),
        quality: ROUGH,
        faults: &[
            (LoseDisk, 4 * SECOND),
            (Partition, 6 * SECOND),
            (Crash, 8 * SECOND),
            (OneWay, 12 * SECOND),
        ],
        owners: 5,
        quorums: Quorums { n: 5, r: 3, w: 3 },
        w_min: 3,
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "five of five in new rings",
        budget: "five owners, w is 4, operators change the ring; machines lose all data, each only \
                 when the others are filled; partitions, crashes: nothing may be lost",
        machines: (7, 9),
        quality: ROUGH,
        faults: &[(LoseDisk, 5 * SECOND), (Partition, 6 * SECOND), (Crash, 8 * SECOND)],
        owners: 5,
        quorums: Quorums { n: 5, r: 2, w: 4 },
        w_min: 4,
        is_handoff_complete: false,
        spares: 2,
        chores: &[(Chore::Ring, 2 * SECOND)],
        ..CALM
    },
    Scenario {
        name: "lost majority",
        budget: "of five owners w is at least 4; three machines die at once and an operator goes on \
                 without them and without a majority; partitions, crashes: nothing may be lost, and \
                 there is one ring of each version",
        machines: (5, 5),
        quality: ROUGH,
        faults: &[(DieMost, 8 * SECOND), (Partition, 10 * SECOND), (Crash, 10 * SECOND)],
        owners: 5,
        quorums: Quorums { n: 5, r: 2, w: 4 },
        w_min: 4,
        is_handoff_complete: false,
        ..CALM
    },
];
