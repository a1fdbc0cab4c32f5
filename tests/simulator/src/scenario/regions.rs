//! Machines in several regions, and clients that want an answer of theirs.

use stator_core::catalogue::Quorums;

use super::FaultKind::{Crash, CutRegion, OneWay, Partition};
use super::{CALM, Chore, ROUGH, SECOND, Scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "regions",
        budget: "two regions of two zones, each cut off from the other now and then; partitions, \
                 one-way ones too: nothing may be lost, and replication and hints bring it everywhere",
        machines: (4, 8),
        quality: ROUGH,
        faults: &[(CutRegion, 6 * SECOND), (Partition, 10 * SECOND), (OneWay, 12 * SECOND)],
        zones: 4,
        regions: 2,
        ..CALM
    },
    Scenario {
        name: "crashes in regions",
        budget: "three regions, five owners; crashes, regions cut off, partitions: nothing may be \
                 lost, and few exchanges between regions bring it everywhere",
        machines: (5, 9),
        quality: ROUGH,
        faults: &[(Crash, 4 * SECOND), (CutRegion, 6 * SECOND), (Partition, 10 * SECOND)],
        owners: 5,
        quorums: Quorums { n: 5, r: 3, w: 3 },
        zones: 3,
        regions: 3,
        is_handoff_complete: false,
        ..CALM
    },
    Scenario {
        name: "new rings in regions",
        budget: "operators change the ring of two regions; crashes, regions cut off: nothing may be \
                 lost, and there is one ring of each version",
        machines: (6, 9),
        quality: ROUGH,
        faults: &[(CutRegion, 6 * SECOND), (Crash, 6 * SECOND)],
        zones: 4,
        regions: 2,
        is_handoff_complete: false,
        spares: 2,
        chores: &[(Chore::Ring, SECOND)],
        ..CALM
    },
];
