//! `stator backup create`.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::json;
use stator_client::Admin;
use stator_proto::v1;

use super::Place;
use super::brake::{self, Brake};
use super::chunks::Cutter;
use super::manifest::{Chunk, Keyspace, Manifest, Module};
use super::store::{Store, digest};
use super::tend;
use crate::cli::data::{has_value, progress};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator backup create /backups/stator
  stator backup create s3://backups/stator --keyspace carts --keyspace users
  stator backup create /backups/stator --rate-limit 10MiB --key-file /etc/stator/backup.key
  stator backup create /backups/stator --keep 14
  AWS_ENDPOINT=http://127.0.0.1:3900 AWS_ALLOW_HTTP=true stator backup create s3://backups/stator

Every backup is whole; what another one in the same place has already is not written again. It holds of
each key what at least r of its owners held together when its turn came, and so every write that was
acknowledged before it began, as far as a strict get would have seen it.";

/// Make a backup of keyspaces, with their settings and modules
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    place: Place,
    /// Only this keyspace; may be given several times [default: all]
    #[arg(short, long, value_name = "NAME")]
    keyspace: Vec<String>,
    /// The name of the backup [default: the time]
    #[arg(long, value_name = "NAME", value_parser = id)]
    id: Option<String>,
    /// Read at most so many bytes of objects a second, such as 10MiB [default: as fast as it goes]
    #[arg(long, value_name = "BYTES", value_parser = brake::rate)]
    rate_limit: Option<u64>,
    /// Then remove all but so many of the newest backups of the place [default: keep all]
    #[arg(long, value_name = "COUNT")]
    keep: Option<NonZeroUsize>,
    /// How many owners of each key must answer [default: each keyspace's r]
    #[arg(short, value_name = "REPLICAS")]
    r: Option<u32>,
}

/// Chunks that are written at a time: each up to eight megabytes in memory.
const WRITES: usize = 4;

fn id(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !text.is_empty() && text.len() <= 64 && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("1 to 64 letters, digits, -, _ and . are possible".to_owned()),
    }
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

impl Create {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let began = Instant::now();
        let admin = session.persistent().admin().await?;
        let status = admin.get_status(v1::GetStatusRequest {}).await?;
        let cluster = status.cluster.ok_or_else(|| Failure::refused("the node has no cluster"))?;
        let keyspaces = self.chosen(admin.keyspaces().await?)?;
        let store = self.place.open(true)?;
        let started_at_ms = now_ms();
        let id = self.id.clone().unwrap_or_else(|| output::utc(started_at_ms).replace(':', "-"));
        if store.manifests().await?.iter().any(|manifest| manifest.id == id) {
            return Err(Failure::usage(format!(
                "there is a backup {id} already: choose another --id"
            )));
        }
        let mut manifest = Manifest::new(id, &cluster, started_at_ms);
        let known = store.chunks().await?;
        let brake = Brake::of(self.rate_limit);
        let mut making = Making { admin: &admin, store: &store, known, new_bytes: 0, brake };
        for keyspace in &keyspaces {
            manifest.keyspaces.push(making.copy(keyspace, self.r).await?);
        }
        manifest.new_bytes = making.new_bytes;
        self.modules(&admin, &store, &keyspaces, &mut manifest).await?;
        manifest.ended_at_ms = now_ms();
        store.put_manifest(&manifest).await?;
        if let Some(keep) = self.keep {
            tend::keep_newest(&store, keep.get()).await.map_err(|failure| {
                failure.hint(format!("backup {} is made, and whole; older ones stay", manifest.id))
            })?;
        }
        match session.output {
            Output::Json => output::json(&summary(&manifest)),
            Output::Table => output::line(format!(
                "backup {}: {} keys of {} keyspaces, {} bytes, {} of them new, in {:.1} s",
                manifest.id,
                manifest.keys(),
                manifest.keyspaces.len(),
                manifest.bytes(),
                manifest.new_bytes,
                began.elapsed().as_secs_f64()
            )),
        }
    }

    fn chosen(&self, all: Vec<v1::Keyspace>) -> Result<Vec<v1::Keyspace>, Failure> {
        let missing = self.keyspace.iter().find(|name| !all.iter().any(|k| k.name == **name));
        if let Some(name) = missing {
            return Err(Failure::new(Kind::NotFound, format!("there is no keyspace {name:?}")));
        }
        let is_chosen =
            |k: &v1::Keyspace| self.keyspace.is_empty() || self.keyspace.contains(&k.name);
        Ok(all.into_iter().filter(is_chosen).collect())
    }

    /// The modules that the keyspaces are pinned to.
    async fn modules(
        &self,
        admin: &Admin,
        store: &Store,
        keyspaces: &[v1::Keyspace],
        manifest: &mut Manifest,
    ) -> Result<(), Failure> {
        let pinned =
            keyspaces.iter().filter_map(|k| Some(k.reconcile.as_ref()?.module_digest.clone()));
        let pinned: BTreeSet<String> = pinned.filter(|digest| !digest.is_empty()).collect();
        for module in admin.modules().await? {
            if !pinned.contains(&module.digest) {
                continue;
            }
            let bytes = admin.pull_module(module.digest.clone()).await?;
            store.put_module(&module.digest, bytes).await?;
            manifest.modules.push(Module::of(module));
        }
        Ok(())
    }
}

/// A backup that is being made.
struct Making<'a> {
    admin: &'a Admin,
    store: &'a Store,
    /// The files of chunks that are there.
    known: BTreeSet<String>,
    new_bytes: u64,
    brake: Brake,
}

impl Making<'_> {
    async fn copy(&mut self, keyspace: &v1::Keyspace, r: Option<u32>) -> Result<Keyspace, Failure> {
        let request =
            v1::ExportObjectsRequest { keyspace: keyspace.name.clone(), r, ..Default::default() };
        let mut export = self.admin.export(request);
        let mut copied = Keyspace::of(keyspace);
        let mut cutter = Cutter::default();
        let mut writes = FuturesUnordered::new();
        let bar = progress::permille();
        bar.set_message(keyspace.name.clone());
        loop {
            let page = export.next().await?;
            let objects = page.iter().flat_map(|page| &page.objects);
            self.brake
                .pass(objects.map(|(key, object)| (key.len() + object.len()) as u64).sum())
                .await;
            let is_end = page.is_none();
            let mut cut = Vec::new();
            for (key, object) in page.iter().flat_map(|page| &page.objects) {
                if has_value(object)? {
                    cut.extend(cutter.add(key, object)?);
                }
            }
            page.iter().for_each(|page| bar.set_position(page.permille.into()));
            if is_end {
                cut.extend(cutter.end());
            }
            for (bytes, keys) in cut {
                let digest = digest(&bytes);
                let size = bytes.len() as u64;
                copied.keys += keys;
                copied.bytes += size;
                copied.chunks.push(Chunk { digest: digest.clone(), keys, bytes: size });
                if !self.known.insert(self.store.file(&digest)) {
                    continue;
                }
                self.new_bytes += size;
                while writes.len() >= WRITES {
                    writes.next().await.transpose()?;
                }
                let store = self.store.clone();
                writes.push(async move { store.put_chunk(&digest, bytes).await });
            }
            if is_end {
                break;
            }
        }
        while let Some(written) = writes.next().await {
            written?;
        }
        Ok(copied)
    }
}

/// A backup for programs.
pub(super) fn summary(manifest: &Manifest) -> serde_json::Value {
    let keyspaces = manifest.keyspaces.iter().map(
        |keyspace| json!({ "name": keyspace.name, "keys": keyspace.keys, "bytes": keyspace.bytes }),
    );
    json!({
        "id": manifest.id,
        "cluster_id": manifest.cluster_id,
        "cluster_name": manifest.cluster_name,
        "started_at_ms": manifest.started_at_ms,
        "ended_at_ms": manifest.ended_at_ms,
        "keys": manifest.keys(),
        "bytes": manifest.bytes(),
        "new_bytes": manifest.new_bytes,
        "keyspaces": keyspaces.collect::<Vec<_>>(),
    })
}
