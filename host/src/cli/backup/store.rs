//! A place for backups: a directory, or a bucket of an S3 server.
//!
//! S3 is told by the variables that all tools use: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
//! `AWS_REGION`, and `AWS_ENDPOINT` with `AWS_ALLOW_HTTP=true` for a server of one's own.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Name;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload};
use stator_core::id::ModuleDigest;

use super::Place;
use super::manifest::Manifest;
use super::seal::{self, Seal};
use crate::cli::failure::{Failure, Kind};

/// The place, opened.
#[derive(Clone)]
pub(super) struct Store {
    inner: Arc<dyn ObjectStore>,
    name: String,
    seal: Option<Seal>,
}

/// The name of bytes: their BLAKE3 digest, as everywhere.
pub(super) fn digest(bytes: &[u8]) -> String {
    ModuleDigest::of(bytes).to_string()
}

fn chunk_name(file: &str) -> Name {
    Name::from(format!("chunks/{}/{file}", file.get(..2).unwrap_or("")))
}

impl Place {
    /// The place; a directory is made if `is_new`.
    pub(super) fn open(&self, is_new: bool) -> Result<Store, Failure> {
        let name = self.place.clone();
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::usage(format!("{name} is no place for backups: {error}"))
        };
        let seal = self.key_file.as_deref().map(Seal::read).transpose()?;
        let inner: Arc<dyn ObjectStore> = match name.strip_prefix("s3://") {
            Some(rest) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let s3 = AmazonS3Builder::from_env().with_bucket_name(bucket);
                let s3 = s3.build().map_err(|error| wrong(&error))?;
                Arc::new(PrefixStore::new(s3, prefix))
            }
            None if name.contains("://") => {
                return Err(wrong(&"only directories and s3://BUCKET/PREFIX are known"));
            }
            None => {
                let path = Path::new(&name);
                if is_new {
                    std::fs::create_dir_all(path).map_err(|error| wrong(&error))?;
                }
                let local =
                    LocalFileSystem::new_with_prefix(path).map_err(|error| wrong(&error))?;
                Arc::new(local.with_automatic_cleanup(true))
            }
        };
        Ok(Store { inner, name, seal })
    }
}

impl Store {
    fn failed(&self, error: &object_store::Error) -> Failure {
        let message = format!("{}: {error}", self.name);
        Failure::new(Kind::Unavailable, message).hint("nothing in the cluster was changed by this")
    }

    /// The name of the file of what has this digest.
    pub(super) fn file(&self, digest: &str) -> String {
        self.seal.as_ref().map_or_else(|| digest.to_owned(), |seal| seal.name(digest))
    }

    /// The files of the chunks that are there.
    pub(super) async fn chunks(&self) -> Result<BTreeSet<String>, Failure> {
        let listed = self.inner.list(Some(&Name::from("chunks")));
        let names = listed.try_filter_map(|meta| async move {
            Ok(meta.location.filename().map(ToOwned::to_owned))
        });
        names.try_collect().await.map_err(|error| self.failed(&error))
    }

    pub(super) async fn put_chunk(&self, digest: &str, bytes: Bytes) -> Result<(), Failure> {
        self.put(chunk_name(&self.file(digest)), bytes).await
    }

    pub(super) async fn chunk(&self, digest: &str) -> Result<Bytes, Failure> {
        self.get(chunk_name(&self.file(digest)), digest).await
    }

    pub(super) async fn delete_chunk(&self, file: &str) -> Result<(), Failure> {
        let deleted = self.inner.delete(&chunk_name(file)).await;
        deleted.map_err(|error| self.failed(&error))
    }

    pub(super) async fn put_module(&self, digest: &str, bytes: Bytes) -> Result<(), Failure> {
        self.put(self.module_name(digest), bytes).await
    }

    pub(super) async fn module(&self, digest: &str) -> Result<Bytes, Failure> {
        self.get(self.module_name(digest), digest).await
    }

    fn module_name(&self, digest: &str) -> Name {
        Name::from(format!("modules/{}.wasm", self.file(digest)))
    }

    fn sealed(&self, name: &Name, bytes: Bytes) -> Result<Bytes, Failure> {
        match &self.seal {
            Some(seal) => seal.seal(name.as_ref(), &bytes),
            None => Ok(bytes),
        }
    }

    async fn opened(&self, name: &Name) -> Result<Bytes, Failure> {
        let got = self.inner.get(name).await.map_err(|error| self.failed(&error))?;
        let bytes = got.bytes().await.map_err(|error| self.failed(&error))?;
        seal::open(self.seal.as_ref(), name.as_ref(), bytes)
            .map_err(|why| Failure::refused(format!("{}/{name}: {why}", self.name)))
    }

    async fn put(&self, name: Name, bytes: Bytes) -> Result<(), Failure> {
        let bytes = self.sealed(&name, bytes)?;
        let put = self.inner.put(&name, PutPayload::from_bytes(bytes)).await;
        put.map(drop).map_err(|error| self.failed(&error))
    }

    /// Bytes that must have this digest.
    async fn get(&self, name: Name, expected: &str) -> Result<Bytes, Failure> {
        let bytes = self.opened(&name).await?;
        match digest(&bytes) == expected {
            true => Ok(bytes),
            false => Err(Failure::refused(format!(
                "{}/{name} is damaged: its bytes have another digest",
                self.name
            ))),
        }
    }

    /// Writes a manifest; one of the same id must not be there.
    pub(super) async fn put_manifest(&self, manifest: &Manifest) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(manifest).map_err(|error| {
            Failure::refused(format!("the manifest cannot be written: {error}"))
        })?;
        let name = Name::from(format!("backups/{}.json", manifest.id));
        let text = self.sealed(&name, text.into())?;
        let once = PutOptions { mode: PutMode::Create, ..Default::default() };
        let put = self.inner.put_opts(&name, PutPayload::from(text), once).await;
        put.map(drop).map_err(|error| self.failed(&error))
    }

    pub(super) async fn delete_manifest(&self, id: &str) -> Result<(), Failure> {
        let name = Name::from(format!("backups/{id}.json"));
        self.inner.delete(&name).await.map_err(|error| self.failed(&error))
    }

    /// All manifests, the oldest first.
    pub(super) async fn manifests(&self) -> Result<Vec<Manifest>, Failure> {
        let listed = self.inner.list(Some(&Name::from("backups")));
        let listed: Vec<_> = listed.try_collect().await.map_err(|error| self.failed(&error))?;
        let mut all = Vec::new();
        for meta in listed {
            let bytes = self.opened(&meta.location).await?;
            all.push(Manifest::read(&bytes).map_err(|why| {
                Failure::refused(format!("{}/{}: {why}", self.name, meta.location))
            })?);
        }
        all.sort_by(|a, b| (a.started_at_ms, &a.id).cmp(&(b.started_at_ms, &b.id)));
        Ok(all)
    }

    /// The backup with this id, or the latest.
    pub(super) async fn manifest(&self, id: Option<&str>) -> Result<Manifest, Failure> {
        let mut all = self.manifests().await?;
        let found = match id {
            Some(id) => all.into_iter().find(|manifest| manifest.id == id),
            None => all.pop(),
        };
        found.ok_or_else(|| {
            let which = id.map_or("no backup".to_owned(), |id| format!("no backup {id}"));
            Failure::new(Kind::NotFound, format!("there is {which} in {}", self.name))
                .hint("`stator backup list` shows those there are")
        })
    }
}
