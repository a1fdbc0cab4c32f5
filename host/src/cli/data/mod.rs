//! Data in and out by the key range: `stator kv list|count|export|import`, and deleting many keys.
//!
//! `export` and `import` share the formats of `format.rs`; what is exported is sorted by key
//! (`sort.rs`), because a ring hands keys out in an order of its own.

mod count;
mod erase;
mod export;
pub(super) mod format;
mod import;
mod list;
pub(super) mod progress;
mod sort;

pub(super) use count::Count;
pub(super) use erase::Erase;
pub(super) use export::{Export, has_value};
pub(super) use import::{Import, Outcome, Upload};
pub(super) use list::List;

use bytes::Bytes;
use clap::Args;
use stator_proto::v1;

use super::failure::Failure;
use super::parse;

/// Which keys of a keyspace.
#[derive(Debug, Args)]
pub(super) struct Range {
    /// The keyspace
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    pub(super) keyspace: String,
    /// Only keys that begin with this
    #[arg(long, value_name = "KEY", conflicts_with_all = ["from", "until"])]
    pub(super) prefix: Option<String>,
    /// Only this key and those above it
    #[arg(long, value_name = "KEY")]
    from: Option<String>,
    /// Only keys below this one
    #[arg(long, value_name = "KEY")]
    until: Option<String>,
    /// KEYs are given in base64
    #[arg(long)]
    key_base64: bool,
    /// How many owners of each key must answer [default: the keyspace's r]
    #[arg(short, value_name = "REPLICAS")]
    pub(super) r: Option<u32>,
}

impl Range {
    pub(super) fn bytes(&self, key: Option<&String>) -> Result<Bytes, Failure> {
        key.map_or(Ok(Bytes::new()), |key| parse::key(key, self.key_base64))
    }

    fn request(&self, view: v1::View) -> Result<v1::ListRequest, Failure> {
        Ok(v1::ListRequest {
            keyspace: self.keyspace.clone(),
            prefix: self.bytes(self.prefix.as_ref())?,
            from: self.bytes(self.from.as_ref())?,
            until: self.bytes(self.until.as_ref())?,
            view: view.into(),
            r: self.r,
            ..Default::default()
        })
    }
}
