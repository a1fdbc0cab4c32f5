//! Options that get, put and delete share.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use stator_proto::v1;

use crate::cli::failure::Failure;
use crate::cli::parse;

/// Which key.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The key
    pub(super) key: String,
    /// The keyspace
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    pub(super) keyspace: String,
    /// KEY is given in base64
    #[arg(long)]
    key_base64: bool,
}

impl Target {
    pub(super) fn key_bytes(&self) -> Result<Bytes, Failure> {
        parse::key(&self.key, self.key_base64)
    }
}

/// Which replicas count.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Replicas {
    /// Count the owners of the key only, no fallbacks
    #[arg(long)]
    strict: bool,
    /// Count the owners in the region of the node that is asked only; a majority of them, unless
    /// -r or -w says how many
    #[arg(long, conflicts_with = "strict")]
    local_quorum: bool,
}

impl Replicas {
    pub(in crate::cli) fn is_strict(&self) -> bool {
        self.strict
    }

    pub(in crate::cli) fn word(&self) -> &'static str {
        match (self.strict, self.local_quorum) {
            (true, _) => "strict",
            (_, true) => "local",
            _ => "sloppy",
        }
    }

    pub(in crate::cli) fn quorum(&self) -> i32 {
        let quorum = match (self.strict, self.local_quorum) {
            (true, _) => v1::Quorum::Strict,
            (_, true) => v1::Quorum::Local,
            _ => v1::Quorum::Sloppy,
        };
        quorum as i32
    }
}

/// What a put or delete replaces.
#[derive(Debug, Args)]
pub(super) struct Contexts {
    /// The context of a get (base64); may be given several times
    #[arg(long = "context", value_name = "BASE64", value_parser = parse::context)]
    contexts: Vec<Bytes>,
    /// A file with the context of a get, as `kv get --context-file` writes it
    #[arg(long, value_name = "FILE")]
    context_file: Vec<PathBuf>,
}

impl Contexts {
    /// All contexts given, files read.
    pub(super) fn take(&self) -> Result<Vec<Bytes>, Failure> {
        let mut contexts = self.contexts.clone();
        for path in &self.context_file {
            let text = fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("cannot read the context file {}: {error}", path.display()))
            })?;
            contexts.push(parse::context(&text).map_err(|error| {
                Failure::usage(format!("the context file {}: {error}", path.display()))
            })?);
        }
        Ok(contexts)
    }
}

/// When an acknowledgement counts, as an option.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum Durability {
    /// Each acknowledging replica has synced the write to its disk
    All,
    /// One of the acknowledging replicas has synced the write to its disk
    One,
    /// The write is in memory and synced soon after
    Buffered,
}

impl Durability {
    /// The protocol's number for `durability`, or for leaving it to the server.
    pub(in crate::cli) fn number(durability: Option<Durability>) -> i32 {
        let durability = match durability {
            None => v1::Durability::Unspecified,
            Some(Durability::All) => v1::Durability::All,
            Some(Durability::One) => v1::Durability::One,
            Some(Durability::Buffered) => v1::Durability::Buffered,
        };
        durability as i32
    }

    /// A word for the protocol's number.
    pub(in crate::cli) fn word(number: i32) -> &'static str {
        match v1::Durability::try_from(number) {
            Ok(v1::Durability::One) => "one",
            Ok(v1::Durability::Buffered) => "buffered",
            Ok(v1::Durability::All | v1::Durability::Unspecified) => "all",
            Err(_) => "unknown",
        }
    }
}

/// What a put or delete came to, the same for both.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) dot: String,
    pub(super) context: Option<Bytes>,
    pub(super) siblings_remain: bool,
    pub(super) acked: u32,
    pub(super) hinted: u32,
    pub(super) ring_version: u64,
}

impl Written {
    pub(super) fn json(&self, target: &Target) -> Value {
        json!({
            "keyspace": target.keyspace,
            "key": target.key,
            "dot": self.dot,
            "context": self.context.as_deref().map(parse::print_base64),
            "siblings_remain": self.siblings_remain,
            "acked": self.acked,
            "hinted": self.hinted,
            "ring_version": self.ring_version,
        })
    }

    /// A sentence for people that begins with what was done.
    pub(super) fn sentence(&self, done: &str) -> String {
        let nodes =
            if self.acked == 1 { "1 node".to_owned() } else { format!("{} nodes", self.acked) };
        let mut text = format!("{done}, acknowledged by {nodes}");
        if self.hinted > 0 {
            text.push_str(&format!(" ({} of them in place of an absent one)", self.hinted));
        }
        if self.siblings_remain {
            text.push_str("; other versions remain beside it: read it with `stator kv get`");
        }
        text
    }
}

/// A version as JSON. The value is there as text if it is UTF-8, and always in base64.
pub(in crate::cli) fn version_json(version: &v1::Version) -> Value {
    let mut json = Map::new();
    if let Some(value) = &version.value {
        if let Ok(text) = std::str::from_utf8(value) {
            json.insert("value".into(), text.into());
        }
        json.insert("value_base64".into(), parse::print_base64(value).into());
    }
    json.insert("tombstone".into(), version.tombstone.into());
    json.insert("value_bytes".into(), version.value_bytes.into());
    json.insert("dots".into(), version.dots.clone().into());
    json.insert("written_at_ms".into(), version.written_at_ms.into());
    json.insert("expires_at_ms".into(), version.expires_at_ms.into());
    json.insert("schema".into(), version.schema.into());
    json.insert("labels".into(), json!(version.labels));
    json.insert("origin".into(), origin_json(version));
    json.into()
}

fn origin_json(version: &v1::Version) -> Value {
    match version.origin.as_ref().and_then(|origin| origin.maker.as_ref()) {
        Some(v1::origin::Maker::Merge(merge)) => json!({
            "merge": { "module_digest": merge.module_digest, "input_dots": merge.input_dots },
        }),
        Some(v1::origin::Maker::Client(_)) => "client".into(),
        None => Value::Null,
    }
}
