//! Other stores that the same bench measures: what is said of them on the command line.
//!
//! Driver, choice of keys, recorder and document are the same for all, so figures of one run stand
//! beside each other. What a store promises with an answer is not the same: see `docs/performance.md`.

use clap::{Args, ValueEnum};

use super::options::{Coordinator, Options};
use crate::cli::failure::Failure;

/// A store that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Store {
    /// This one
    Stator,
    /// etcd 3, by its gRPC interface
    Etcd,
    /// Redis, by RESP2
    Redis,
}

impl Store {
    /// Its name in documents.
    pub(super) fn name(self) -> &'static str {
        match self {
            Store::Stator => "stator",
            Store::Etcd => "etcd",
            Store::Redis => "redis",
        }
    }
}

/// What to measure in place of Stator, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Other stores")]
pub(super) struct Peers {
    /// What answers at --endpoints; they are then plain HOST:PORT
    #[arg(long, value_enum, default_value = "stator", value_name = "STORE")]
    pub(super) against: Store,
    /// etcd's gets are serializable: the node that is asked answers by itself [default: linearizable]
    #[arg(long)]
    pub(super) serializable: bool,
    /// After each SET of Redis wait until so many replicas have it too
    #[arg(long, value_name = "REPLICAS", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) wait_replicas: Option<u32>,
    /// The servers' processes, if they run on this machine, to tell their processor time
    #[arg(long, value_name = "PID", value_delimiter = ',', conflicts_with = "local")]
    pub(super) server_pid: Vec<u32>,
}

impl Peers {
    /// Whether the options belong to the store.
    ///
    /// # Errors
    /// One does not.
    pub(super) fn check(&self, options: &Options) -> Result<(), Failure> {
        let store = self.against;
        let of_stator = [
            ("--local", options.local.nodes.is_some()),
            ("--keyspace", options.keyspace.is_some()),
            ("-r", options.r.is_some()),
            ("-w", options.w.is_some()),
            ("--strict", options.replicas.is_strict()),
            ("--local-quorum", options.replicas.word() == "local"),
            ("--durability", options.durability.is_some()),
            ("--coordination", options.coordination != Coordinator::Any),
            ("--blind", options.blind),
            ("--attempts", options.attempts > 1),
        ];
        let foreign = of_stator.map(|(name, is_given)| (name, Store::Stator, is_given));
        let others = [
            ("--serializable", Store::Etcd, self.serializable),
            ("--wait-replicas", Store::Redis, self.wait_replicas.is_some()),
        ];
        match foreign.iter().chain(&others).find(|(_, of, given)| *given && *of != store) {
            None if store != Store::Stator && options.endpoints.is_empty() => {
                Err(Failure::usage(format!("--against {} needs --endpoints", store.name())))
            }
            None => Ok(()),
            Some((name, of, _)) => {
                Err(Failure::usage(format!("{name} is an option of --against {}", of.name())))
            }
        }
    }
}
