//! How much a keyspace may hold, and holds: options of `keyspace create` and `update`, and words.

use clap::Args;
use serde_json::{Value, json};
use stator_proto::v1;

use crate::cli::{output, parse};

/// How much it may hold, and be asked
#[derive(Debug, Args)]
pub(super) struct Quota {
    /// The most keys, 0 for as many as come [default: 0]
    #[arg(long, value_name = "KEYS")]
    quota_keys: Option<u64>,
    /// The most bytes of one copy of all keys and values, such as 10GiB; 0 for as many as come [default: 0]
    #[arg(long, value_name = "BYTES", value_parser = parse::bytes)]
    quota_bytes: Option<u64>,
    /// The most requests of clients in a second, over all nodes; 0 for as many as come [default: 0]
    #[arg(long, value_name = "REQUESTS")]
    quota_requests: Option<u64>,
}

impl Quota {
    /// As a message, if anything of it is given.
    pub(super) fn message(&self) -> Option<v1::Quota> {
        (!self.paths().is_empty()).then(|| v1::Quota {
            keys: self.quota_keys.unwrap_or_default(),
            bytes: self.quota_bytes.unwrap_or_default(),
            requests_per_second: self.quota_requests.unwrap_or_default(),
        })
    }

    /// The fields that are given, as an update's mask names them.
    pub(super) fn paths(&self) -> Vec<String> {
        let given = [
            ("keys", self.quota_keys.is_some()),
            ("bytes", self.quota_bytes.is_some()),
            ("requests_per_second", self.quota_requests.is_some()),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(name, _)| format!("quota.{name}")).collect()
    }
}

/// In words; empty if there is none.
pub(super) fn words(keyspace: &v1::Keyspace) -> String {
    let v1::Quota { keys, bytes, requests_per_second } = keyspace.quota.unwrap_or_default();
    let limits = [
        (keys, format!("{keys} keys")),
        (bytes, output::bytes(bytes)),
        (requests_per_second, format!("{requests_per_second} requests a second")),
    ];
    let limits = limits.into_iter().filter(|(limit, _)| *limit > 0);
    limits.map(|(_, words)| words).collect::<Vec<_>>().join(", ")
}

/// What there is of it: keys, bytes of one copy, bytes on all disks.
pub(super) fn usage_cells(keyspace: &v1::Keyspace) -> [String; 3] {
    let Some(usage) = &keyspace.usage else { return ["-".into(), "-".into(), "-".into()] };
    let more = if usage.members_unknown > 0 { "+" } else { "" };
    let bytes = |count| format!("{}{more}", output::bytes(count));
    [format!("{}{more}", usage.keys), bytes(usage.bytes), bytes(usage.stored_bytes)]
}

/// The same in words; empty where it is not told.
pub(super) fn usage_words(keyspace: &v1::Keyspace) -> String {
    let Some(usage) = &keyspace.usage else { return String::new() };
    let (one, all) = (output::bytes(usage.bytes), output::bytes(usage.stored_bytes));
    let unknown = match usage.members_unknown {
        0 => String::new(),
        count => format!("; of {count} members not all is known, so it may be more"),
    };
    format!("about {} keys, {one}; {all} on all disks together{unknown}", usage.keys)
}

pub(super) fn json(quota: &v1::Quota) -> Value {
    json!({
        "keys": quota.keys,
        "bytes": quota.bytes,
        "requests_per_second": quota.requests_per_second,
    })
}

pub(super) fn usage_json(usage: &v1::KeyspaceUsage) -> Value {
    json!({
        "keys": usage.keys,
        "bytes": usage.bytes,
        "stored_bytes": usage.stored_bytes,
        "members_unknown": usage.members_unknown,
    })
}
