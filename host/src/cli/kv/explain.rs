//! `stator kv explain`: how the value of a key came to be.

use clap::Args;
use serde_json::json;
use stator_proto::v1;

use super::options::{Target, version_json};
use crate::cli::conflicts::{conflict_json, words};
use crate::cli::failure::Failure;
use crate::cli::members::{self, short};
use crate::cli::output::{self, Output};
use crate::cli::parse;
use crate::cli::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator kv explain cart-7 -k carts
  stator kv explain cart-7 -k carts --output json

It reads the key by --endpoint, and the merges on record of every node that --admin knows.";

/// Tell how the value of a key came to be: who wrote what, and what merged it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Explain {
    #[command(flatten)]
    target: Target,
}

impl Explain {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.kv().await?;
        let key = self.target.key_bytes()?;
        let get = |view: v1::View| v1::GetRequest {
            keyspace: self.target.keyspace.clone(),
            key: key.clone(),
            r: None,
            quorum: v1::Quorum::Unspecified as i32,
            view: view as i32,
            ..Default::default()
        };
        let stored = client.send_get(get(v1::View::Metadata)).await?;
        let merged = client.send_get(get(v1::View::Merged)).await?;
        let conflicts = self.conflicts(session).await?;
        match session.output {
            Output::Json => output::json(&json!({
                "keyspace": self.target.keyspace,
                "key": self.target.key,
                "stored": stored.versions.iter().map(version_json).collect::<Vec<_>>(),
                "read": merged.versions.iter().map(version_json).collect::<Vec<_>>(),
                "merge": merged.merge.as_ref().map(|merge| json!({
                    "module_digest": merge.module_digest,
                    "merged": merge.merged,
                    "failure": merge.failure,
                    "note": merge.note,
                })),
                "conflicts": conflicts.iter().map(conflict_json).collect::<Vec<_>>(),
            })),
            Output::Table => self.print(&stored, &merged, &conflicts),
        }
    }

    /// The merges of the key that nodes have on record, the oldest first.
    async fn conflicts(&self, session: &Session) -> Result<Vec<v1::Conflict>, Failure> {
        let request = v1::TailConflictsRequest {
            keyspace: self.target.keyspace.clone(),
            key: self.target.key_bytes()?,
            no_wait: true,
            ..Default::default()
        };
        let tails = members::gather(session, "merges", async |admin| {
            members::drain(admin.tail_conflicts(request.clone()).await?).await
        });
        let mut all: Vec<_> = tails.await?.into_iter().map(|(_, conflict)| conflict).collect();
        all.sort_by_key(|conflict| conflict.at_ms);
        Ok(all)
    }

    fn print(
        &self,
        stored: &v1::GetResponse,
        merged: &v1::GetResponse,
        conflicts: &[v1::Conflict],
    ) -> Result<(), Failure> {
        let Target { key, keyspace, .. } = &self.target;
        if stored.versions.is_empty() {
            output::line(format!("{key:?} in keyspace {keyspace}: nothing is stored"))?;
        } else {
            output::line(format!("{key:?} in keyspace {keyspace}, as it is stored:"))?;
            let rows = stored.versions.iter().map(|version| {
                [
                    version.dots.join(" "),
                    output::utc(version.written_at_ms),
                    if version.tombstone {
                        "deleted".to_owned()
                    } else {
                        format!("{} bytes", version.value_bytes)
                    },
                    maker(version),
                ]
            });
            output::line(output::table(["writes", "when", "what", "made by"], rows.collect()))?;
        }
        output::line(format!("\na reader gets {}", self.reading(merged)))?;
        if !conflicts.is_empty() {
            output::line("\nmerges of it on record:")?;
            conflicts.iter().map(words).try_for_each(output::line)?;
        }
        Ok(())
    }

    fn reading(&self, answer: &v1::GetResponse) -> String {
        let merge = answer.merge.clone().unwrap_or_default();
        let value = match answer.versions.as_slice() {
            [] => "nothing: it is absent or deleted".to_owned(),
            [one] => match &one.value {
                Some(value) => format!("{} bytes: {}", value.len(), parse::shown(value)),
                None => "a tombstone".to_owned(),
            },
            several => format!("{} siblings", several.len()),
        };
        let module = short(&merge.module_digest);
        match (merge.merged, merge.failure.as_str()) {
            (true, _) => {
                format!("what {module} makes of {} siblings, {value}", merge.sibling_count)
            }
            (false, "") => format!("it as it is, {value}"),
            (false, failure) => format!("{value}, for {module} failed: {failure}"),
        }
    }
}

fn maker(version: &v1::Version) -> String {
    match version.origin.as_ref().and_then(|origin| origin.maker.as_ref()) {
        Some(v1::origin::Maker::Merge(merge)) if merge.module_digest.is_empty() => {
            format!("the last write of {}", merge.input_dots.len())
        }
        Some(v1::origin::Maker::Merge(merge)) => {
            format!(
                "a fold of {} writes by {}",
                merge.input_dots.len(),
                short(&merge.module_digest)
            )
        }
        _ => "a client".to_owned(),
    }
}
