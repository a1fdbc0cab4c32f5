//! `stator module remerge`: what a bad module has folded, merged anew from what the folds replaced.

use std::collections::BTreeMap;

use bytes::Bytes;
use clap::Args;
use futures::stream::{self, StreamExt};
use serde_json::json;
use stator_client::Client;
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion, Outcome};
use stator_core::id::ModuleDigest;
use stator_proto::v1;

use super::replay::take;
use super::resolve;
use super::test::Bench;
use crate::cli::data::progress;
use crate::cli::failure::Failure;
use crate::cli::kv::history::{stored, superseded, write};
use crate::cli::members::short;
use crate::cli::output::{self, Output};
use crate::cli::parse;
use crate::cli::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator keyspace activate carts cart-v1 --reason 'v2 loses lines'
  stator module remerge carts cart-v2 --dry-run
  stator module remerge carts cart-v2

Of every key that holds a fold by the bad module it takes what the fold replaced from the keyspace's
history (keyspace update --history), merges that here by the module that the keyspace is pinned to
now, and writes the result in the fold's place. A key that was written since, by a client or an earlier
run, keeps what was written and is listed: `stator kv history` shows what there was.

It may be stopped and started again at any time: each key is written at once or not at all, and what
is done already is not done twice.";

/// How many keys are merged at a time.
const KEYS: usize = 16;

/// Merge anew what a bad module has folded
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Remerge {
    /// The keyspace
    keyspace: String,
    /// The bad module: its digest, the beginning of it, or its name
    module: String,
    /// Say what would be done, change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What became of a key.
enum Done {
    Merged,
    /// It is no fold by the module any more.
    WrittenSince,
    /// It stays as it is: why.
    Left(String),
}

impl Remerge {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let admin = session.admin().await?;
        let bad = resolve(&admin, &self.module).await?;
        let request = v1::GetKeyspaceRequest { name: self.keyspace.clone() };
        let keyspace = admin.get_keyspace(request).await?;
        let pinned = keyspace.reconcile.unwrap_or_default().module_digest;
        if pinned == bad || pinned.is_empty() {
            let message = format!("keyspace {} is pinned to no other module", self.keyspace);
            return Err(Failure::usage(message).hint("activate the one to merge with first"));
        }
        if keyspace.unsigned_modules.contains(&pinned) {
            let message = format!("keyspace {} does not call what it is pinned to", self.keyspace);
            return Err(Failure::refused(message).hint(
                "it is not signed by a key that the keyspace demands: push it with a signature",
            ));
        }
        let pinned = pinned.parse().map_err(|_| Failure::refused("the node names a bad digest"))?;
        let bench = Bench::new()?;
        take(&bench, session, &pinned).await?;
        let mut by_key: BTreeMap<Bytes, Vec<v1::Superseded>> = BTreeMap::new();
        for one in superseded(session, &self.keyspace, Bytes::new(), &bad).await? {
            by_key.entry(one.key.clone()).or_default().push(one);
        }
        let (client, bar) = (session.kv().await?, progress::keys(by_key.len() as u64));
        let merged = stream::iter(by_key).map(async |(key, replaced)| {
            let with = (&client, &bench, &pinned);
            let done = self.remerge(with, (&bad, &key), replaced).await;
            bar.inc(1);
            (key, done.unwrap_or_else(|failure| Done::Left(failure.message().to_owned())))
        });
        let mut done: Vec<_> = merged.buffer_unordered(KEYS).collect().await;
        done.sort_by(|(a, _), (b, _)| a.cmp(b));
        drop(bar);
        self.tell(session, &done)
    }

    /// Merges one key anew.
    async fn remerge(
        &self,
        (client, bench, module): (&Client, &Bench, &ModuleDigest),
        (bad, key): (&str, &Bytes),
        replaced: Vec<v1::Superseded>,
    ) -> Result<Done, Failure> {
        let now = stored(client, &self.keyspace, key.clone()).await?;
        let [version] = now.versions.as_slice() else { return Ok(Done::WrittenSince) };
        let maker = version.origin.as_ref().and_then(|origin| origin.maker.as_ref());
        let inputs = match maker {
            Some(v1::origin::Maker::Merge(merge)) if merge.module_digest == bad => {
                &merge.input_dots
            }
            _ => return Ok(Done::WrittenSince),
        };
        // What the bad module made itself is no witness; what it was made of is here too.
        let is_input = |one: &v1::Superseded| {
            one.made_by_digest != bad && one.dots.iter().all(|dot| inputs.contains(dot))
        };
        let witnesses: Vec<_> = replaced.into_iter().filter(is_input).collect();
        let is_known = |dot: &String| witnesses.iter().any(|one| one.dots.contains(dot));
        if let Some(dot) = version.dots.iter().find(|dot| !is_known(dot)) {
            return Ok(Done::Left(format!("the history has nothing of the write {dot} any more")));
        }
        let schema = witnesses.iter().map(|one| one.schema).max().unwrap_or_default();
        let value = match bench.host.resolve(module, &self.divergence(key, &witnesses)).await {
            Ok(made) => match &made.outcome {
                Outcome::Value(value) => Some(value.clone()),
                Outcome::Delete => None,
                Outcome::KeepSiblings => {
                    return Ok(Done::Left("the module leaves the siblings to clients".to_owned()));
                }
            },
            Err(failure) => return Ok(Done::Left(failure.to_string())),
        };
        if !self.dry_run {
            write(client, (&self.keyspace, key.clone()), &now, (value, schema)).await?;
        }
        Ok(Done::Merged)
    }

    /// As a node would ask a module about the versions.
    fn divergence(&self, key: &Bytes, witnesses: &[v1::Superseded]) -> Divergence {
        let sibling = |one: &v1::Superseded| DivergentVersion {
            value: one.value.clone(),
            schema: one.schema,
            written_at_ms: one.written_at_ms,
        };
        let mut siblings: Vec<_> = witnesses.iter().map(sibling).collect();
        siblings.sort_by(|a, b| {
            (&a.value, a.schema, a.written_at_ms).cmp(&(&b.value, b.schema, b.written_at_ms))
        });
        siblings.dedup_by(|a, b| a.value == b.value);
        Divergence {
            keyspace: self.keyspace.clone(),
            key: key.clone(),
            siblings,
            ancestor: Ancestor::Unknown,
            // The host remembers merges by it, and each key is merged once.
            fingerprint: *blake3::hash(key).as_bytes(),
        }
    }

    fn tell(&self, session: &Session, done: &[(Bytes, Done)]) -> Result<(), Failure> {
        let merged = done.iter().filter(|(_, done)| matches!(done, Done::Merged)).count();
        let rest = done.iter().filter_map(|(key, done)| match done {
            Done::Merged => None,
            Done::WrittenSince => Some((key, "it was written since".to_owned())),
            Done::Left(why) => Some((key, why.clone())),
        });
        let rest: Vec<_> = rest.collect();
        match session.output {
            Output::Json => output::json(&json!({
                "merged": merged,
                "dry_run": self.dry_run,
                "left": rest
                    .iter()
                    .map(|(key, why)| json!({ "key": parse::shown(key), "why": why }))
                    .collect::<Vec<_>>(),
            })),
            Output::Table => {
                let word =
                    if self.dry_run { "would be merged, nothing was changed" } else { "merged" };
                let name = short(&self.module);
                output::line(format!("{merged} keys that {name} had folded {word} anew"))?;
                if !rest.is_empty() {
                    let rows = rest.iter().map(|(key, why)| [parse::shown(key), why.clone()]);
                    output::line(output::table(["key", "left as it is"], rows.collect()))?;
                }
                Ok(())
            }
        }
    }
}
