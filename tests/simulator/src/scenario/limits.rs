//! What is full, large or many, or cannot be kept.

use super::FaultKind::{BadFiles, Crash, Freeze, LoseDisk, OneWay, Partition};
use super::{CALM, Chore, ROUGH, SECOND, Scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "payloads",
        budget: "many values are large, beyond the limit of siblings too, and many are the same; \
                 crashes, partitions: nothing may be lost",
        quality: ROUGH,
        faults: &[(Crash, 4 * SECOND), (Partition, 6 * SECOND)],
        is_varied: true,
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "named",
        budget: "clients name their writes and try again what they do not know the end of; \
                 crashes, partitions, pauses: nothing may be lost, and who has received a write \
                 does not mint it again",
        quality: ROUGH,
        faults: &[
            (Crash, 5 * SECOND),
            (Partition, 4 * SECOND),
            (OneWay, 4 * SECOND),
            (Freeze, 4 * SECOND),
        ],
        is_naming: true,
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "full",
        budget: "stores keep three hints, and a few messages are on their way from one machine to \
                 another, what is more is refused; partitions, pauses: nothing may be lost",
        machines: (4, 6),
        quality: ROUGH,
        faults: &[(Partition, 4 * SECOND), (OneWay, 6 * SECOND), (Freeze, 8 * SECOND)],
        hints_max: Some(3),
        outbox_max: Some(3),
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "bad files",
        budget: "disks do not save some of the small files, while operators change the ring and \
                 machines lose all data, each only when the others are filled; crashes; w at least \
                 2: nothing may be lost, and there is one ring of each version",
        machines: (4, 7),
        quality: ROUGH,
        faults: &[
            (BadFiles, SECOND),
            (LoseDisk, 6 * SECOND),
            (Crash, 2 * SECOND),
            (Partition, 10 * SECOND),
        ],
        w_min: 2,
        is_handoff_complete: false,
        spares: 1,
        chores: &[(Chore::Ring, SECOND)],
        ..CALM
    },
];

/// Large worlds, which few seeds take.
pub(super) const LARGE: &[Scenario] = &[
    Scenario {
        name: "large",
        budget: "up to 1,024 partitions, 100 keys and eight keyspaces; crashes, partitions: nothing \
                 may be lost",
        quality: ROUGH,
        faults: &[(Crash, 4 * SECOND), (Partition, 10 * SECOND)],
        partitions_log2: (6, 10),
        keys: (20, 100),
        keyspaces: 8,
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "large in new rings",
        budget: "up to 1,024 partitions, 100 keys and eight keyspaces, operators change the ring; \
                 crashes, partitions: nothing may be lost",
        machines: (6, 9),
        quality: ROUGH,
        faults: &[(Crash, 6 * SECOND), (Partition, 10 * SECOND)],
        partitions_log2: (6, 10),
        keys: (20, 100),
        keyspaces: 8,
        is_handoff_complete: false,
        spares: 3,
        chores: &[(Chore::Ring, 10 * SECOND)],
        ..CALM
    },
];
