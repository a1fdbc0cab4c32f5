//! Data directories are copied, and processes run on the copies.

use super::FaultKind::{Copy, CopyAll, Crash, Freeze, Move, OneWay, Partition, Stop};
use super::{CALM, Chore, ROUGH, SECOND, Scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "copies",
        budget: "directories are copied, and run beside the originals, before them, after them and \
                 at their addresses; machines are moved; crashes, stops, partitions, pauses; nobody \
                 forgets what was deleted: once what refused processes hold is brought home, \
                 nothing may be lost that any of them has acknowledged",
        quality: ROUGH,
        faults: &[
            (Copy, 5 * SECOND),
            (Move, 12 * SECOND),
            (Stop, 6 * SECOND),
            (Crash, 8 * SECOND),
            (Partition, 10 * SECOND),
            (OneWay, 15 * SECOND),
            (Freeze, 15 * SECOND),
        ],
        is_handoff_complete: false,
        is_acked_kept: false,
        ..CALM
    },
    Scenario {
        name: "copied cluster",
        budget: "the directories of all machines are copied, and the copies are started with one \
                 secret beside a cluster that runs, or before it; nobody forgets what was deleted: \
                 who was never gone is served throughout, and nothing may be lost",
        faults: &[(CopyAll, 4 * SECOND)],
        is_handoff_complete: false,
        is_acked_kept: false,
        ..CALM
    },
];

/// Nothing is lost in it; but of two processes that are served as one node on two sides of a parted
/// network both vote for a ring.
pub(super) const IN_NEW_RINGS: Scenario = Scenario {
    name: "copies in new rings",
    budget: "directories are copied while operators change the ring; crashes, partitions; nobody \
             forgets what was deleted: there is one ring of each version, and nothing may be lost \
             once what refused processes hold is brought home",
    machines: (4, 6),
    quality: ROUGH,
    faults: &[(Copy, 4 * SECOND), (Crash, 8 * SECOND), (Partition, 5 * SECOND)],
    is_handoff_complete: false,
    is_acked_kept: false,
    spares: 1,
    chores: &[(Chore::Ring, SECOND)],
    ..CALM
};
