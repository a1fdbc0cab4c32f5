//! `stator kv list`.

use clap::Args;
use serde_json::{Value, json};
use stator_proto::v1;

use super::Range;
use crate::cli::failure::Failure;
use crate::cli::kv::version_json;
use crate::cli::output::{self, Output};
use crate::cli::parse;
use crate::cli::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator kv list -k carts
  stator kv list -k carts --prefix cart- --limit 20 --long
  stator kv list -k carts --output json | jq -r '.keys[].key'

Keys come partition by partition of the ring, in order within each: sort them if you need to. It is
no snapshot: what is written meanwhile is listed or not. All owners of a key that are in reach are
asked, and at least r must answer.";

/// List the keys of a keyspace
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    range: Range,
    /// End after so many keys
    #[arg(long, value_name = "KEYS")]
    limit: Option<u64>,
    /// With sizes, times and the number of versions
    #[arg(short, long)]
    long: bool,
    /// Also keys that are deleted and not forgotten yet
    #[arg(long)]
    deleted: bool,
}

impl List {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let request = v1::ListRequest {
            deleted: self.deleted,
            limit: self.limit.unwrap_or_default(),
            ..self.range.request(v1::View::Metadata)?
        };
        let mut listing = session.kv().await?.list(request);
        let mut is_first = true;
        if session.output == Output::Json {
            output::text(format!("{{\"keyspace\":{},\"keys\":[", json!(self.range.keyspace)))?;
        }
        while let Some(page) = listing.next().await? {
            for key in &page.keys {
                match session.output {
                    Output::Json => {
                        let comma = if is_first { "" } else { "," };
                        output::text(format!("{comma}{}", document(key)))?;
                    }
                    Output::Table if self.long => {
                        if is_first {
                            output::line(format!(
                                "{:>10}  {:>8}  {:24}  KEY",
                                "BYTES", "VERSIONS", "WRITTEN"
                            ))?;
                        }
                        output::line(row(key))?;
                    }
                    Output::Table => output::line(parse::shown_key(&key.key))?,
                }
                is_first = false;
            }
        }
        match session.output {
            Output::Json => output::line("]}"),
            Output::Table => Ok(()),
        }
    }
}

fn row(key: &v1::ListedKey) -> String {
    let bytes: u64 = key.versions.iter().map(|version| version.value_bytes).sum();
    let latest = key.versions.iter().map(|version| version.written_at_ms).max();
    let written = output::utc(latest.unwrap_or_default());
    let versions = match key.versions.iter().all(|version| version.tombstone) {
        true => "deleted".to_owned(),
        false => key.versions.len().to_string(),
    };
    format!("{bytes:>10}  {versions:>8}  {written:24}  {}", parse::shown_key(&key.key))
}

fn document(key: &v1::ListedKey) -> Value {
    let mut json = parse::key_json(&key.key);
    json.insert("versions".into(), key.versions.iter().map(version_json).collect());
    let context = key.context.as_ref().map(|context| parse::print_base64(context));
    json.insert("context".into(), context.into());
    json.into()
}
