//! The merge modules of a node: their bytes on disk, and the task that fetches what is missing.
//!
//! The catalogue carries only digests. Whenever it changes, the keeper looks for modules whose
//! bytes are not here, fetches them from a member that has them, and loads them into the merge
//! host. A module that cannot be had now is tried again. Until it is here, reads that need it
//! answer with siblings and say why.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stator_core::catalogue::{Catalogue, ModuleClass};
use stator_core::id::{ModuleDigest, NodeId};
use tokio::sync::watch;

use crate::driver::Shared;
use crate::merge::MergeHost;
use crate::transport::Transport;

/// How long to wait before missing modules are asked for again, at first; it doubles each time.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// The longest wait.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The bytes of modules, a file each, named by digest.
#[derive(Debug, Clone)]
pub struct ModuleFiles {
    directory: PathBuf,
}

impl ModuleFiles {
    /// Files in `directory`, which is made if it is missing.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        Ok(ModuleFiles { directory })
    }

    fn path(&self, digest: &ModuleDigest) -> PathBuf {
        self.directory.join(format!("{digest}.wasm"))
    }

    /// The module's bytes, if they are here and undamaged. Blocks.
    pub fn load(&self, digest: &ModuleDigest) -> Option<Bytes> {
        let bytes = Bytes::from(std::fs::read(self.path(digest)).ok()?);
        (ModuleDigest::of(&bytes) == *digest).then_some(bytes)
    }

    /// Keeps the module's bytes durably. Blocks.
    pub fn save(&self, digest: &ModuleDigest, component: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(component)?;
        file.as_file().sync_all()?;
        file.persist(self.path(digest)).map_err(|error| error.error)?;
        std::fs::File::open(&self.directory)?.sync_all()
    }
}

/// Fetches and loads what the catalogue names, until the node stops.
pub struct ModuleKeeper {
    files: ModuleFiles,
    merges: MergeHost,
    transport: Transport,
    me: NodeId,
    /// Says that a module was loaded.
    loaded: watch::Sender<u64>,
}

impl ModuleKeeper {
    /// A keeper of `files` for the node `me`.
    pub fn new(files: ModuleFiles, merges: MergeHost, transport: Transport, me: NodeId) -> Self {
        ModuleKeeper { files, merges, transport, me, loaded: watch::Sender::new(0) }
    }

    /// The files it keeps.
    pub fn files(&self) -> &ModuleFiles {
        &self.files
    }

    /// Waits until the module can be called.
    pub async fn wait_for(&self, digest: &ModuleDigest) {
        let mut loaded = self.loaded.subscribe();
        while !self.merges.is_loaded(digest) {
            if loaded.changed().await.is_err() {
                return;
            }
        }
    }

    /// Follows the catalogue.
    pub async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        let mut catalogues = shared.watch_catalogue();
        let mut retry = RETRY_MIN;
        loop {
            let catalogue = catalogues.borrow_and_update().clone();
            let is_complete = match &catalogue {
                Some(catalogue) => self.complete(catalogue).await,
                None => true,
            };
            let changed = catalogues.changed();
            let outcome = if is_complete {
                changed.await
            } else {
                tokio::time::timeout(retry, changed).await.unwrap_or(Ok(()))
            };
            // A module that this node cannot load must not keep it compiling for ever.
            retry = if is_complete { RETRY_MIN } else { (retry * 2).min(RETRY_MAX) };
            if outcome.is_err() {
                return;
            }
        }
    }

    /// Loads every module of the catalogue that can be had. Whether that was all of them.
    async fn complete(&self, catalogue: &Catalogue) -> bool {
        let mut is_complete = true;
        for (digest, module) in &catalogue.modules {
            if self.merges.is_loaded_as(digest, module.class) {
                continue;
            }
            match self.obtain(digest, module.class, catalogue).await {
                Ok(()) => {
                    self.loaded.send_modify(|count| *count += 1);
                }
                Err(why) => {
                    is_complete = false;
                    tracing::warn!(module = %digest, why, "not loaded yet");
                }
            }
        }
        is_complete
    }

    async fn obtain(
        &self,
        digest: &ModuleDigest,
        class: ModuleClass,
        catalogue: &Catalogue,
    ) -> Result<(), String> {
        let component = match self.read(digest).await {
            Some(component) => component,
            None => self.fetch(digest, catalogue).await?,
        };
        self.merges.load_as(class, *digest, component).await.map_err(|error| error.to_string())
    }

    async fn read(&self, digest: &ModuleDigest) -> Option<Bytes> {
        let (files, digest) = (self.files.clone(), *digest);
        tokio::task::spawn_blocking(move || files.load(&digest)).await.ok().flatten()
    }

    async fn fetch(&self, digest: &ModuleDigest, catalogue: &Catalogue) -> Result<Bytes, String> {
        let mut failures = BTreeMap::new();
        for member in catalogue.members.keys().filter(|member| **member != self.me) {
            match self.transport.fetch_module(*member, *digest).await {
                Ok(component) => {
                    self.keep(digest, component.clone()).await?;
                    return Ok(component);
                }
                Err(error) => drop(failures.insert(*member, error.to_string())),
            }
        }
        Err(format!("no member sent it: {failures:?}"))
    }

    /// Keeps a module's bytes durably.
    pub async fn keep(&self, digest: &ModuleDigest, component: Bytes) -> Result<(), String> {
        let (files, digest) = (self.files.clone(), *digest);
        let saved = tokio::task::spawn_blocking(move || files.save(&digest, &component)).await;
        let failed = |why: String| format!("the module could not be kept on disk: {why}");
        match saved {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}
