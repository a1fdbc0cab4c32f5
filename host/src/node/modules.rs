//! The merge modules of a node: their bytes on disk, and the task that fetches what is missing.
//!
//! The catalogue carries only digests. Whenever it changes, the keeper looks for modules whose
//! bytes are not here and fetches them from a member that has them: whoever pushed one may go. A
//! module that cannot be had now is tried again.
//!
//! A loaded module takes memory, tens of MiB if it is large, so those are loaded into the merge
//! host that a keyspace names, and any that somebody [waits for](ModuleKeeper::wait_for). One that
//! is new in the catalogue is loaded too, so that it is compiled by the time that a keyspace names
//! it. Others are unloaded when nobody has called them for a while. Until a module is loaded, reads
//! that need it answer with siblings and say why.

use std::collections::{BTreeMap, BTreeSet};
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
/// The longest wait, and how often it is looked for modules that nobody needs.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A module that no keyspace names stays loaded for so long after its last call.
const IDLE: Duration = Duration::from_secs(60);

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
    /// Modules that somebody waits for, whether a keyspace names them or not.
    wanted: watch::Sender<BTreeSet<ModuleDigest>>,
}

impl ModuleKeeper {
    /// A keeper of `files` for the node `me`.
    pub fn new(files: ModuleFiles, merges: MergeHost, transport: Transport, me: NodeId) -> Self {
        let (loaded, wanted) = (watch::Sender::new(0), watch::Sender::default());
        ModuleKeeper { files, merges, transport, me, loaded, wanted }
    }

    /// The files it keeps.
    pub fn files(&self) -> &ModuleFiles {
        &self.files
    }

    /// Waits until the module can be called, and has it loaded if the catalogue names it.
    pub async fn wait_for(&self, digest: &ModuleDigest) {
        let mut loaded = self.loaded.subscribe();
        if !self.merges.is_loaded(digest) {
            self.wanted.send_if_modified(|wanted| wanted.insert(*digest));
        }
        while !self.merges.is_loaded(digest) {
            if loaded.changed().await.is_err() {
                return;
            }
        }
    }

    /// Follows the catalogue.
    pub async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        let mut catalogues = shared.watch_catalogue();
        let mut wanted = self.wanted.subscribe();
        let mut retry = RETRY_MIN;
        let all = |catalogue: &Arc<Catalogue>| catalogue.live_modules().map(|(d, _)| *d).collect();
        let mut known: BTreeSet<ModuleDigest> =
            catalogues.borrow().as_ref().map(all).unwrap_or_default();
        loop {
            let catalogue = catalogues.borrow_and_update().clone();
            let mut wanted_now = wanted.borrow_and_update().clone();
            let mut is_complete = true;
            if let Some(catalogue) = &catalogue {
                let modules: BTreeSet<_> = all(catalogue);
                wanted_now.extend(modules.difference(&known));
                is_complete = self.complete(catalogue, &wanted_now).await;
                if is_complete {
                    known = modules;
                }
            }
            // A module that this node cannot load must not keep it compiling for ever.
            retry = if is_complete { RETRY_MAX } else { (retry * 2).clamp(RETRY_MIN, RETRY_MAX) };
            tokio::select! {
                changed = catalogues.changed() => match changed {
                    Ok(()) => retry = RETRY_MIN,
                    Err(_) => return,
                },
                // Cannot end: this keeper has the other side.
                _ = wanted.changed() => retry = RETRY_MIN,
                () = tokio::time::sleep(retry) => {}
            }
        }
    }

    /// Has every module of the catalogue on disk, and loads those that are needed or wanted, as far
    /// as they can be had. Whether that was all of them.
    async fn complete(&self, catalogue: &Catalogue, wanted: &BTreeSet<ModuleDigest>) -> bool {
        let needed: BTreeSet<_> = catalogue.live_keyspaces().flat_map(|k| k.modules()).collect();
        let mut is_complete = true;
        for (digest, module) in &catalogue.modules {
            // One that a keyspace was given while another operator deleted it is needed still.
            if module.is_deleted && !needed.contains(digest) {
                self.remove(digest).await;
                continue;
            }
            let is_needed = needed.contains(digest) || wanted.contains(digest);
            let obtained = match is_needed {
                true if self.merges.is_loaded_as(digest, module.class) => continue,
                true => self.load(digest, module.class, catalogue).await,
                false if self.has(digest).await => continue,
                false => self.fetch(digest, catalogue).await.map(drop),
            };
            if let Err(why) = obtained {
                is_complete = false;
                tracing::warn!(module = %digest, why, "not here yet");
            }
        }
        // Who waits for a module that is not there yet asks again, or has given up.
        self.wanted.send_if_modified(|all| {
            all.retain(|digest| !wanted.contains(digest));
            false
        });
        let unloaded = self.merges.unload_idle(IDLE, |digest| needed.contains(digest));
        if unloaded > 0 {
            tracing::info!(unloaded, "modules that nobody needs were unloaded");
        }
        is_complete
    }

    async fn load(
        &self,
        digest: &ModuleDigest,
        class: ModuleClass,
        catalogue: &Catalogue,
    ) -> Result<(), String> {
        let component = match self.read(digest).await {
            Some(component) => component,
            None => self.fetch(digest, catalogue).await?,
        };
        let loaded = self.merges.load_as(class, *digest, component).await;
        loaded.map_err(|error| error.to_string())?;
        self.loaded.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Unloads a module that is deleted, and removes its bytes.
    async fn remove(&self, digest: &ModuleDigest) {
        if self.merges.is_loaded(digest) {
            self.merges.unload(digest);
        }
        if self.has(digest).await {
            let (merges, path, digest) = (self.merges.clone(), self.files.path(digest), *digest);
            let removed = tokio::task::spawn_blocking(move || {
                merges.forget(&digest);
                std::fs::remove_file(path)
            });
            match removed.await {
                Ok(Ok(())) => tracing::info!(module = %digest, "deleted"),
                Ok(Err(error)) => tracing::warn!(module = %digest, %error, "not deleted yet"),
                Err(error) => tracing::warn!(module = %digest, %error, "not deleted yet"),
            }
        }
    }

    async fn has(&self, digest: &ModuleDigest) -> bool {
        let path = self.files.path(digest);
        tokio::task::spawn_blocking(move || path.exists()).await.unwrap_or_default()
    }

    /// The module's bytes, if they are here and undamaged.
    pub async fn read(&self, digest: &ModuleDigest) -> Option<Bytes> {
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
