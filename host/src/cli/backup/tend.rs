//! `stator backup list`, `verify` and `delete`.

use std::collections::BTreeSet;

use clap::Args;
use futures::stream::{self, StreamExt};
use serde_json::json;

use super::Place;
use super::chunks::objects;
use super::create::summary;
use super::manifest::{Chunk, Manifest};
use super::store::Store;
use crate::cli::data::progress;
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

/// Chunks that are read at a time.
const READS: usize = 4;

/// List the backups of a place, the oldest first
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    place: Place,
}

impl List {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let all = self.place.open(false)?.manifests().await?;
        if session.output == Output::Json {
            let all: Vec<_> = all.iter().map(summary).collect();
            return output::json(&json!({ "backups": all }));
        }
        let rows = all.iter().map(|manifest| {
            [
                manifest.id.clone(),
                manifest.cluster_name.clone(),
                manifest.keyspaces.len().to_string(),
                manifest.keys().to_string(),
                manifest.bytes().to_string(),
                manifest.new_bytes.to_string(),
            ]
        });
        let head = ["backup", "cluster", "keyspaces", "keys", "bytes", "new bytes"];
        output::line(output::table(head, rows.collect()))
    }
}

/// Read a backup, and tell whether all of it is there and unharmed
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    #[command(flatten)]
    place: Place,
    /// The backup [default: the latest]
    #[arg(value_name = "BACKUP")]
    id: Option<String>,
}

impl Verify {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let store = self.place.open(false)?;
        let manifest = store.manifest(self.id.as_deref()).await?;
        let bar = progress::bytes(manifest.bytes());
        let checks = manifest.chunks().map(|chunk| check(&store, chunk));
        let mut checks = stream::iter(checks).buffer_unordered(READS);
        let mut bad = Vec::new();
        while let Some((bytes, result)) = checks.next().await {
            bar.inc(bytes);
            bad.extend(result.err());
        }
        for module in &manifest.modules {
            bad.extend(store.module(&module.digest).await.err());
        }
        drop(bar);
        let Manifest { id, .. } = &manifest;
        if let Some(first) = bad.first() {
            let message = format!("backup {id}: {} parts are missing or damaged", bad.len());
            return Err(Failure::refused(message)
                .hint(first.message())
                .hint("make a new backup; what is whole of this one can be restored"));
        }
        let (keys, bytes) = (manifest.keys(), manifest.bytes());
        match session.output {
            Output::Json => output::json(&json!({ "id": id, "keys": keys, "bytes": bytes })),
            Output::Table => {
                output::line(format!("backup {id} is whole: {keys} keys, {bytes} bytes"))
            }
        }
    }
}

async fn check(store: &Store, chunk: &Chunk) -> (u64, Result<(), Failure>) {
    let result = async {
        let found = objects(&store.chunk(&chunk.digest).await?)?.len() as u64;
        match found == chunk.keys {
            true => Ok(()),
            false => Err(Failure::refused(format!(
                "chunk {} has {found} keys and should have {}",
                chunk.digest, chunk.keys
            ))),
        }
    };
    (chunk.bytes, result.await)
}

const DELETE_EXAMPLES: &str = "\
Examples:
  stator backup delete /backups/stator 2026-11-22T20-08-48.123Z

Not while a backup is being made in the same place: what it relies on could be removed.";

/// Remove a backup, and what only it consists of
#[derive(Debug, Args)]
#[command(after_help = DELETE_EXAMPLES)]
pub(in crate::cli) struct Delete {
    #[command(flatten)]
    place: Place,
    /// The backup
    #[arg(value_name = "BACKUP")]
    id: String,
}

impl Delete {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let store = self.place.open(false)?;
        let gone = store.manifest(Some(&self.id)).await?;
        store.delete_manifest(&gone.id).await?;
        let removed = sweep(&store).await?;
        match session.output {
            Output::Json => output::json(&json!({ "id": gone.id, "chunks_removed": removed })),
            Output::Table => {
                output::line(format!("backup {} removed, with {removed} chunks", gone.id))
            }
        }
    }
}

/// Removes what no backup consists of. Says how many chunks that were.
async fn sweep(store: &Store) -> Result<u64, Failure> {
    let kept = store.manifests().await?;
    let chunks = kept.iter().flat_map(Manifest::chunks);
    let needed: BTreeSet<String> = chunks.map(|chunk| store.file(&chunk.digest)).collect();
    let mut removed = 0;
    for chunk in store.chunks().await?.iter().filter(|chunk| !needed.contains(*chunk)) {
        store.delete_chunk(chunk).await?;
        removed += 1;
    }
    Ok(removed)
}

/// Removes all backups of a place but the newest ones.
pub(super) async fn keep_newest(store: &Store, count: usize) -> Result<(), Failure> {
    let all = store.manifests().await?;
    let old = &all[..all.len().saturating_sub(count)];
    for manifest in old {
        store.delete_manifest(&manifest.id).await?;
    }
    if !old.is_empty() {
        sweep(store).await?;
    }
    Ok(())
}
