//! What is done to keys: the core workloads of YCSB (Cooper et al., "Benchmarking Cloud Serving
//! Systems with YCSB", SoCC 2010) but E, which scans, and the cart of the Dynamo paper.
//!
//! `cart` reads, merges what siblings it finds, changes an item and writes; in a chosen share of its
//! operations a second writer, who has read the same, writes at the same time. `load` is YCSB's
//! loading phase as a workload of its own: new keys only.

use bytes::Bytes;
use clap::ValueEnum;
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

use super::choice::{Distribution, below};

/// A mix of operations with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Workload {
    /// YCSB A: 50 % reads, 50 % updates
    A,
    /// YCSB B: 95 % reads, 5 % updates
    B,
    /// YCSB C: reads only
    C,
    /// YCSB D: 95 % reads of the latest keys, 5 % inserts
    D,
    /// YCSB F: 50 % reads, 50 % read-modify-writes
    F,
    /// Carts are read, merged, changed and written, some by two at once (--conflicts)
    Cart,
    /// New keys only, as in YCSB's loading phase
    Load,
}

/// What is done to one key, as latencies are told apart. Both halves of a read-modify-write count
/// as a read and an update as well, as in YCSB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Read,
    Update,
    Insert,
    ReadModifyWrite,
}

impl Kind {
    /// Its name in tables and documents.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Update => "update",
            Kind::Insert => "insert",
            Kind::ReadModifyWrite => "read-modify-write",
        }
    }
}

/// Which keys and values a workload is about: those of carts are of no use to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    /// Bytes without a meaning.
    Plain,
    /// Carts in the format of the cart module.
    Carts,
}

impl Family {
    /// Its key with this number, the same in every store.
    pub(super) fn key(self, number: u64) -> Bytes {
        let prefix = match self {
            Family::Plain => "key",
            Family::Carts => "cart",
        };
        format!("{prefix}-{number:012}").into()
    }
}

impl Workload {
    /// Its name in tables and documents.
    pub(super) fn name(self) -> &'static str {
        match self {
            Workload::A => "a",
            Workload::B => "b",
            Workload::C => "c",
            Workload::D => "d",
            Workload::F => "f",
            Workload::Cart => "cart",
            Workload::Load => "load",
        }
    }

    /// Of 100 operations, how many are of each kind.
    fn mix(self) -> &'static [(Kind, u64)] {
        match self {
            Workload::A => &[(Kind::Read, 50), (Kind::Update, 50)],
            Workload::B => &[(Kind::Read, 95), (Kind::Update, 5)],
            Workload::C => &[(Kind::Read, 100)],
            Workload::D => &[(Kind::Read, 95), (Kind::Insert, 5)],
            Workload::F => &[(Kind::Read, 50), (Kind::ReadModifyWrite, 50)],
            Workload::Cart => &[(Kind::ReadModifyWrite, 100)],
            Workload::Load => &[(Kind::Insert, 100)],
        }
    }

    /// The kind of the next operation.
    pub(super) fn draw(self, random: &mut impl Rng) -> Kind {
        let mut roll = below(100, random);
        for (kind, percent) in self.mix() {
            if roll < *percent {
                return *kind;
            }
            roll -= percent;
        }
        self.mix()[0].0
    }

    /// The choice of keys that YCSB gives it.
    pub(super) fn distribution(self) -> Distribution {
        match self {
            Workload::D => Distribution::Latest,
            _ => Distribution::Zipfian,
        }
    }

    /// Whether the keys must be there before.
    pub(super) fn needs_keys(self) -> bool {
        self != Workload::Load
    }

    /// What it is about.
    pub(super) fn family(self) -> Family {
        if self == Workload::Cart { Family::Carts } else { Family::Plain }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn every_mix_is_whole_and_drawn_by_its_shares() {
        for workload in Workload::value_variants() {
            assert_eq!(workload.mix().iter().map(|(_, percent)| percent).sum::<u64>(), 100);
            let mut random = ChaCha8Rng::seed_from_u64(1);
            let drawn: Vec<_> = (0..20_000).map(|_| workload.draw(&mut random)).collect();
            for (kind, percent) in workload.mix() {
                let share = drawn.iter().filter(|drawn| *drawn == kind).count() as f64 / 200.0;
                assert!((share - *percent as f64).abs() < 1.5, "{workload:?} {kind:?}: {share} %");
            }
        }
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for workload in Workload::value_variants() {
            let value = workload.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), workload.name());
        }
        let kind = serde_json::to_value(Kind::ReadModifyWrite).expect("serialises");
        assert_eq!(kind, Kind::ReadModifyWrite.name());
    }
}
