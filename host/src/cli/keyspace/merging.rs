//! The care for a keyspace's merges, as options of `keyspace create` and `update`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use stator_proto::v1;

use crate::cli::parse;

/// What is done where merges fail, and what is kept
#[derive(Debug, Args)]
pub(super) struct Merging {
    /// Keep superseded versions for so long, for `kv history`; 0s keeps none [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = parse::keeping)]
    history: Option<Duration>,
    /// What a reader gets where the module fails, tried in this order [default: siblings]
    #[arg(long, value_enum, value_delimiter = ',', num_args = 1.., value_name = "WHAT")]
    on_failure: Option<Vec<Instead>>,
    /// Failures in a row after which a node pauses the module, 0 for never [default: 20]
    #[arg(long, value_name = "FAILURES")]
    pause_after: Option<u32>,
    /// Merges that a node makes in a second, 0 for as many as come [default: 0]
    #[arg(long, value_name = "MERGES")]
    merges_per_second: Option<u32>,
    /// Fuel that a node spends in a second, 0 for as much as merges take [default: 0]
    #[arg(long, value_name = "FUEL")]
    fuel_per_second: Option<u64>,
    /// Memory that the merges on a node may have together, 0 for what each may have [default: 0]
    #[arg(long, value_name = "BYTES", value_parser = parse::bytes)]
    merge_memory: Option<u64>,
}

/// What stands in for a module that fails; the order is always this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Instead {
    /// The module that the keyspace was pinned to before
    Previous,
    /// The last write, as long as the siblings are there
    LastWrite,
    /// All of them
    Siblings,
}

impl Merging {
    /// As a message, if anything of it is given.
    pub(super) fn message(&self) -> Option<v1::Merging> {
        let has = |what| self.on_failure.iter().flatten().any(|instead| *instead == what);
        (!self.paths().is_empty()).then(|| v1::Merging {
            history_ms: self.history.map_or(0, |time| time.as_millis() as u64),
            previous: has(Instead::Previous),
            last_write: has(Instead::LastWrite),
            pause_after: self.pause_after,
            merges_per_second: self.merges_per_second.unwrap_or_default(),
            fuel_per_second: self.fuel_per_second.unwrap_or_default(),
            memory_bytes: self.merge_memory.unwrap_or_default(),
            paused: false,
        })
    }

    /// The fields that are given, as an update's mask names them.
    pub(super) fn paths(&self) -> Vec<String> {
        let given = [
            ("history_ms", self.history.is_some()),
            ("previous", self.on_failure.is_some()),
            ("last_write", self.on_failure.is_some()),
            ("pause_after", self.pause_after.is_some()),
            ("merges_per_second", self.merges_per_second.is_some()),
            ("fuel_per_second", self.fuel_per_second.is_some()),
            ("memory_bytes", self.merge_memory.is_some()),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(name, _)| format!("merging.{name}")).collect()
    }
}

/// In words; empty if it is what a keyspace has that says nothing of it.
pub(super) fn words(merging: &v1::Merging) -> [(&'static str, String); 4] {
    let history = match merging.history_ms {
        0 => String::new(),
        ms => format!("superseded versions are kept for {} s", ms / 1_000),
    };
    let on_failure = match (merging.previous, merging.last_write) {
        (false, false) => "",
        (true, false) => "the module before, then siblings",
        (false, true) => "the last write",
        (true, true) => "the module before, then the last write",
    };
    let mut budget = Vec::new();
    if merging.merges_per_second > 0 {
        budget.push(format!("{} merges", merging.merges_per_second));
    }
    if merging.fuel_per_second > 0 {
        budget.push(format!("{} fuel", merging.fuel_per_second));
    }
    if !budget.is_empty() {
        budget = vec![format!("{} a second", budget.join(" and "))];
    }
    if merging.memory_bytes > 0 {
        budget.push(format!("{} bytes of memory", merging.memory_bytes));
    }
    if !budget.is_empty() {
        budget = vec![format!("{} on each node", budget.join(", "))];
    }
    let paused = if merging.paused { "no module is called" } else { "" };
    [
        ("paused", paused.to_owned()),
        ("history", history),
        ("on failure", on_failure.to_owned()),
        ("budget", budget.concat()),
    ]
}

pub(super) fn json(merging: &v1::Merging) -> Value {
    json!({
        "history_ms": merging.history_ms,
        "previous": merging.previous,
        "last_write": merging.last_write,
        "pause_after": merging.pause_after,
        "merges_per_second": merging.merges_per_second,
        "fuel_per_second": merging.fuel_per_second,
        "memory_bytes": merging.memory_bytes,
        "paused": merging.paused,
    })
}
