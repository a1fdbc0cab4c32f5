//! `stator backup restore`.

use std::time::{Duration, Instant};

use clap::Args;
use futures::stream::{self, StreamExt};
use serde_json::json;
use stator_client::Admin;
use stator_proto::v1;

use super::Place;
use super::brake::{self, Brake};
use super::chunks::objects;
use super::manifest::{Keyspace, Manifest};
use super::store::Store;
use crate::cli::data::{Outcome, Upload, progress};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator backup restore /backups/stator
  stator backup restore s3://backups/stator 2026-11-22T20-08-48.123Z --keyspace carts
  stator backup restore /backups/stator --keyspace carts --as carts-of-monday
  stator backup restore /backups/stator --rate-limit 10MiB

Keyspaces that are missing are made as they were; those that are there keep their settings. Objects are
joined with what there is: nothing that has replaced a value is undone, and to restore again is
harmless. Of the cluster that was backed up, keys that are gone were deleted since, and stay
deleted unless you say --revive.";

/// Bring a backup into a cluster, of whatever size
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Restore {
    #[command(flatten)]
    place: Place,
    /// The backup [default: the latest]
    #[arg(value_name = "BACKUP")]
    id: Option<String>,
    /// Only this keyspace; may be given several times [default: all]
    #[arg(short, long, value_name = "NAME")]
    keyspace: Vec<String>,
    /// The keyspace that it becomes; with one --keyspace
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Bring back what was deleted since
    #[arg(long)]
    revive: bool,
    /// Send at most so many bytes of objects a second, such as 10MiB [default: as fast as it goes]
    #[arg(long, value_name = "BYTES", value_parser = brake::rate)]
    rate_limit: Option<u64>,
    /// How many nodes must acknowledge each key [default: the keyspace's w]
    #[arg(short, value_name = "REPLICAS")]
    w: Option<u32>,
}

/// Chunks that are read ahead: each up to eight megabytes in memory.
const READS: usize = 3;
/// How long an upload may take, retries included.
const PATIENCE: Duration = Duration::from_secs(120);

impl Restore {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let began = Instant::now();
        let store = self.place.open(false)?;
        let manifest = store.manifest(self.id.as_deref()).await?;
        let chosen = self.chosen(&manifest)?;
        let admin = session.patient(PATIENCE).persistent().admin().await?;
        let there = admin.keyspaces().await?;
        let bar = progress::bytes(chosen.iter().map(|keyspace| keyspace.bytes).sum());
        let mut brake = Brake::of(self.rate_limit);
        let mut all = Vec::new();
        for keyspace in chosen {
            let name = self.name.as_ref().unwrap_or(&keyspace.name).clone();
            if !there.iter().any(|there| there.name == name) {
                self.make(&admin, &store, &manifest, keyspace, &name).await?;
            }
            let header = v1::ImportHeader {
                keyspace: name.clone(),
                origin_cluster_id: manifest.cluster_id.clone(),
                origin_keyspace_id: keyspace.id.clone(),
                w: self.w,
                revive: self.revive,
            };
            bar.set_message(name.clone());
            let mut upload = Upload::new(admin.clone(), header);
            let chunks = keyspace.chunks.iter().map(|chunk| store.chunk(&chunk.digest));
            let mut chunks = stream::iter(chunks).buffered(READS);
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk?;
                for (key, object) in objects(&chunk)? {
                    brake.pass((key.len() + object.len()) as u64).await;
                    upload.add(key, object).await?;
                }
                bar.inc(chunk.len() as u64);
            }
            all.push((name, upload.end().await?));
        }
        drop(bar);
        report(session, &manifest, &all, began.elapsed())
    }

    fn chosen<'a>(&self, manifest: &'a Manifest) -> Result<Vec<&'a Keyspace>, Failure> {
        if self.name.is_some() && self.keyspace.len() != 1 {
            return Err(Failure::usage("--as needs exactly one --keyspace"));
        }
        if self.keyspace.is_empty() {
            return Ok(manifest.keyspaces.iter().collect());
        }
        let find = |name: &String| {
            let found = manifest.keyspaces.iter().find(|keyspace| keyspace.name == *name);
            found.ok_or_else(|| {
                let message = format!("backup {} has no keyspace {name:?}", manifest.id);
                Failure::new(Kind::NotFound, message)
            })
        };
        self.keyspace.iter().map(find).collect()
    }

    /// Makes a keyspace as it was, with the module that it is pinned to.
    async fn make(
        &self,
        admin: &Admin,
        store: &Store,
        manifest: &Manifest,
        keyspace: &Keyspace,
        name: &str,
    ) -> Result<(), Failure> {
        let settings = keyspace.settings(name).map_err(Failure::refused)?;
        let pinned = settings.reconcile.as_ref().map(|reconcile| reconcile.module_digest.clone());
        let pinned = pinned.unwrap_or_default();
        if let Some(module) = manifest.modules.iter().find(|module| module.digest == pinned) {
            let bytes = store.module(&module.digest).await?;
            let header = module.header().map_err(Failure::refused)?;
            admin.push_module_with(header, bytes).await?;
        }
        let n = settings.n;
        let request = v1::CreateKeyspaceRequest { keyspace: Some(settings), validate_only: false };
        admin.create_keyspace(request).await.map(drop).map_err(|error| {
            Failure::from(error).hint(format!(
                "keyspace {name} had n={n}: where that is not possible, create it as it shall be \
                 and restore again"
            ))
        })
    }
}

fn report(
    session: &Session,
    manifest: &Manifest,
    all: &[(String, Outcome)],
    took: Duration,
) -> Result<(), Failure> {
    if session.output == Output::Json {
        let keyspaces = all.iter().map(|(name, outcome)| {
            let Outcome { taken, known, deleted, revived } = outcome;
            json!({
                "name": name, "taken": taken, "known": known, "deleted": deleted,
                "revived": revived,
            })
        });
        let keyspaces: Vec<_> = keyspaces.collect();
        return output::json(&json!({ "id": manifest.id, "keyspaces": keyspaces }));
    }
    let mut sum = Outcome::default();
    all.iter().for_each(|(_, outcome)| sum.add(outcome));
    let Outcome { taken, known, deleted, revived } = sum;
    let seconds = took.as_secs_f64();
    output::line(format!("backup {}: {taken} keys restored in {seconds:.1} s", manifest.id))?;
    for (count, what) in [
        (known, "were there already, or are newer"),
        (deleted, "were deleted since, and left so (--revive brings them back)"),
        (revived, "had been deleted, and are back"),
    ] {
        if count > 0 {
            output::line(format!("{count} keys {what}"))?;
        }
    }
    Ok(())
}
