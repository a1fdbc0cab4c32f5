//! `stator kv delete-many`.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use serde_json::json;
use stator_proto::v1;
use v1::batch_item::Request as Item;
use v1::batch_outcome::Outcome;

use super::{Range, progress};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{self, Output};
use crate::cli::parse;
use crate::cli::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator kv delete-many -k carts --prefix cart-2024- --dry-run
  stator kv delete-many -k carts --prefix cart-2024-
  stator kv delete-many -k carts --keys FILE

It deletes of each key exactly what it saw when it listed it, or, with --keys, what is there when its
turn comes; what is written at the same time stays. A file has one key a line.";

/// Keys in one request.
const BATCH: usize = 100;

/// Delete the keys of a range, or of a list
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Erase {
    #[command(flatten)]
    range: Range,
    /// The keys of this file, one a line; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prefix", "from", "until", "all"])]
    keys: Option<PathBuf>,
    /// All keys of the keyspace
    #[arg(long, conflicts_with_all = ["prefix", "from", "until"])]
    all: bool,
    /// Say what would be deleted, change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Erase {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let range = &self.range;
        let has_range = range.prefix.is_some() || range.from.is_some() || range.until.is_some();
        if !has_range && !self.all && self.keys.is_none() {
            return Err(Failure::usage("nothing is said of which keys")
                .hint("give --prefix, --from or --until, --keys FILE, or --all"));
        }
        let client = session.kv().await?;
        let mut work = Work { client, erase: &self, waiting: Vec::new(), done: 0, failed: None };
        match &self.keys {
            Some(path) => {
                for key in parse::lines(path)? {
                    let key = parse::key(&key, range.key_base64)?;
                    work.add(key, None).await?;
                }
            }
            None => {
                let mut listing = session.kv().await?.list(range.request(v1::View::Metadata)?);
                let bar = progress::permille();
                while let Some(page) = listing.next().await? {
                    bar.set_position(page.permille.into());
                    for key in page.keys {
                        work.add(key.key, key.context).await?;
                    }
                }
            }
        }
        work.send().await?;
        let Work { done, failed, .. } = work;
        let verb = if self.dry_run { "would be deleted, nothing was changed" } else { "deleted" };
        match session.output {
            Output::Json => output::json(&json!({
                "keyspace": range.keyspace, "deleted": done, "dry_run": self.dry_run,
                "failed": failed.as_ref().map_or(0, |(count, _)| *count),
            }))?,
            Output::Table => output::line(format!("{done} keys {verb}"))?,
        }
        match failed {
            None => Ok(()),
            Some((count, why)) => {
                let message = format!("{count} keys could not be deleted: {why}");
                Err(Failure::new(Kind::Unavailable, message).hint("run it again for these"))
            }
        }
    }
}

struct Work<'a> {
    client: stator_client::Client,
    erase: &'a Erase,
    waiting: Vec<v1::DeleteRequest>,
    done: u64,
    failed: Option<(u64, String)>,
}

impl Work<'_> {
    async fn add(&mut self, key: Bytes, context: Option<Bytes>) -> Result<(), Failure> {
        if self.erase.dry_run {
            self.done += 1;
            output::say(parse::shown_key(&key));
            return Ok(());
        }
        self.waiting.push(v1::DeleteRequest {
            keyspace: self.erase.range.keyspace.clone(),
            key,
            observed: context.is_none(),
            contexts: context.into_iter().collect(),
            ..Default::default()
        });
        if self.waiting.len() >= BATCH { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> Result<(), Failure> {
        let items = std::mem::take(&mut self.waiting).into_iter();
        let items: Vec<_> =
            items.map(|delete| v1::BatchItem { request: Some(Item::Delete(delete)) }).collect();
        if items.is_empty() {
            return Ok(());
        }
        let answer = self.client.send_batch(v1::BatchRequest { items }).await?;
        for outcome in answer.outcomes {
            match outcome.outcome {
                Some(Outcome::Failure(failure)) => {
                    let (count, _) = self.failed.get_or_insert((0, failure.message));
                    *count += 1;
                }
                _ => self.done += 1,
            }
        }
        Ok(())
    }
}
