//! The merge host's door: modules in and out, merges through a gate.

use std::collections::HashMap;
use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::available_parallelism;

use bytes::Bytes;
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion, MergeFailure, Resolution};
use stator_core::id::ModuleDigest;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::artefact::ArtefactCache;
use super::figures::{Counters, Figures};
use super::limits::Limits;
use super::log::LogValve;
use super::memo::{Answer, Memo, MemoKey};
use super::refused::ModuleRefused;
use super::run::LoadedModule;
use super::{bounds, compile, engine, world};

/// How a merge host is set up.
#[derive(Debug, Clone)]
pub struct MergeHostConfig {
    /// Where compiled modules are kept; made if it is not there. Its content may be deleted at
    /// any time.
    pub cache_dir: PathBuf,
    /// The program that answers [`COMPILE_MODULE`](super::COMPILE_MODULE).
    pub compiler: PathBuf,
    /// The limits of every module.
    pub limits: Limits,
    /// Merges that run at a time. More than there are processors helps nothing.
    pub running_max: NonZero<u32>,
    /// Merges that may wait for their turn; further ones are turned away.
    pub waiting_max: usize,
    /// Answers that are remembered.
    pub memo_entries_max: usize,
    /// Bytes of the answers that are remembered.
    pub memo_bytes_max: usize,
}

impl MergeHostConfig {
    /// The usual set-up: class `small`, a running merge for each processor, 1,024 that wait, a
    /// memo of 64 MiB, and this very program as the compiler.
    pub fn new(cache_dir: impl Into<PathBuf>) -> io::Result<Self> {
        let processors = available_parallelism().map_or(1, |n| n.get().min(64) as u32);
        Ok(MergeHostConfig {
            cache_dir: cache_dir.into(),
            compiler: std::env::current_exe()?,
            limits: Limits::small(),
            running_max: NonZero::new(processors).unwrap_or(NonZero::<u32>::MIN),
            waiting_max: 1024,
            memo_entries_max: 65_536,
            memo_bytes_max: 64 << 20,
        })
    }
}

/// Why there is no merge host. The node cannot serve keyspaces with modules without one.
#[derive(Debug, thiserror::Error)]
pub enum MergeHostError {
    /// The cache's directory cannot be used.
    #[error("the directory for compiled modules, {}, cannot be used: {source}", path.display())]
    CacheDirectory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// wasmtime does not start.
    #[error(
        "the WebAssembly engine does not start: {0}. It reserves several GiB of address space for \
         each merge that may run at a time; check `ulimit -v`"
    )]
    Engine(String),
}

/// What is known of a module that was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleInfo {
    /// The name of its bytes.
    pub digest: ModuleDigest,
    /// Bytes of the component.
    pub component_bytes: usize,
    /// Bytes of machine code, about what it holds in memory.
    pub code_bytes: usize,
}

/// Runs merge modules. Cheap to clone; all clones are one host.
#[derive(Clone)]
pub struct MergeHost(Arc<Inner>);

struct Inner {
    config: MergeHostConfig,
    engine: Engine,
    artefacts: ArtefactCache,
    modules: RwLock<HashMap<ModuleDigest, Arc<LoadedModule>>>,
    /// One compilation at a time: each may take as much memory as its limit.
    compiling: Mutex<()>,
    /// As many places as the pool has.
    running: Arc<Semaphore>,
    /// The places in front of them.
    admitted: Arc<Semaphore>,
    memo: Memo,
    log: LogValve,
    counters: Counters,
}

impl MergeHost {
    /// Starts the engine and opens the cache. Reads and writes files; compiles nothing.
    pub fn new(config: MergeHostConfig) -> Result<Self, MergeHostError> {
        let slots = config.running_max.get();
        let engine = engine::running(&config.limits, slots)
            .map_err(|e| MergeHostError::Engine(format!("{e:#}")))?;
        let artefact_bytes_max = config.limits.artefact_bytes_max;
        let artefacts = ArtefactCache::open(&config.cache_dir, &engine, artefact_bytes_max)
            .map_err(|source| MergeHostError::CacheDirectory {
                path: config.cache_dir.clone(),
                source,
            })?;
        let places = (slots as usize).saturating_add(config.waiting_max);
        Ok(MergeHost(Arc::new(Inner {
            engine,
            artefacts,
            modules: RwLock::default(),
            compiling: Mutex::new(()),
            running: Arc::new(Semaphore::new(slots as usize)),
            admitted: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            memo: Memo::new(config.memo_entries_max, config.memo_bytes_max),
            log: LogValve::new(),
            counters: Counters::default(),
            config,
        })))
    }

    /// Takes a module that someone pushed: checks, compiles, loads and probes it. It is loaded
    /// afterwards; a refused one is not.
    pub async fn admit(&self, component: Bytes) -> Result<ModuleInfo, ModuleRefused> {
        let digest = ModuleDigest::of(&component);
        let component_bytes = component.len();
        let prepared = self.prepare(digest, component).await?;
        judge(self.run(&prepared.module, &probe()).await)?;
        self.0.insert(digest, prepared.module);
        Ok(ModuleInfo {
            digest,
            component_bytes,
            code_bytes: prepared.code_bytes,
        })
    }

    /// Loads a module that was admitted before, here or on another node. Does nothing if it is
    /// loaded already.
    pub async fn load(&self, digest: ModuleDigest, component: Bytes) -> Result<(), ModuleRefused> {
        if self.is_loaded(&digest) {
            return Ok(());
        }
        let prepared = self.prepare(digest, component).await?;
        self.0.insert(digest, prepared.module);
        Ok(())
    }

    /// Whether the module can be called.
    pub fn is_loaded(&self, digest: &ModuleDigest) -> bool {
        self.0.module(digest).is_some()
    }

    /// Forgets a module. Merges that run finish; its compiled form stays in the cache.
    pub fn unload(&self, digest: &ModuleDigest) {
        self.0
            .modules
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(digest);
    }

    /// Merges, or gives the answer that it gave before. Waits for its turn.
    pub async fn resolve(
        &self,
        digest: &ModuleDigest,
        divergence: &Divergence,
    ) -> Result<Arc<Resolution>, MergeFailure> {
        let module = self
            .0
            .module(digest)
            .ok_or(MergeFailure::NotLoaded(*digest))?;
        let key = MemoKey {
            module: *digest,
            fingerprint: divergence.fingerprint,
        };
        if let Some(answer) = self.0.memo.get(&key) {
            self.0.counters.memo_hits.add(1);
            return answer;
        }
        let answer = self.run(&module, divergence).await;
        if answer.as_ref().err().is_none_or(MergeFailure::is_lasting) {
            self.0.memo.put(key, answer.clone());
        }
        answer
    }

    /// What the host has done and holds.
    pub fn figures(&self) -> Figures {
        let (inner, counters) = (&self.0, &self.0.counters);
        let (memo_entries, memo_bytes) = inner.memo.size();
        Figures {
            merges: counters.merges.get(),
            memo_hits: counters.memo_hits.get(),
            failures: counters.failures.get(),
            overloads: counters.overloads.get(),
            fuel_used: counters.fuel_used.get(),
            compilations: counters.compilations.get(),
            modules: inner
                .modules
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .len(),
            memo_entries,
            memo_bytes,
        }
    }

    /// Everything up to the first call: bounds, world, artefact, linking.
    async fn prepare(
        &self,
        digest: ModuleDigest,
        component: Bytes,
    ) -> Result<Prepared, ModuleRefused> {
        let inner = self.0.clone();
        let bytes = component.clone();
        let cached = blocking(move || inner.inspect(digest, &bytes)).await?;
        if let Some(prepared) = cached {
            return Ok(prepared);
        }
        let _turn = self.0.compiling.lock().await;
        let inner = self.0.clone();
        // Whoever had the turn before may have compiled the same module.
        if let Some(prepared) = blocking(move || Ok(inner.from_cache(digest))).await? {
            return Ok(prepared);
        }
        let config = &self.0.config;
        self.0.counters.compilations.add(1);
        let artefact = compile::compile(&config.compiler, &component, &config.limits).await?;
        let inner = self.0.clone();
        blocking(move || {
            let prepared = inner.link(digest, &artefact)?;
            // Without the file the next start compiles again; that is all.
            if let Err(error) = inner.artefacts.put(&digest, &artefact) {
                tracing::warn!(module = %digest, %error, "a compiled module cannot be cached");
            }
            Ok(prepared)
        })
        .await
    }

    /// Runs a merge on a blocking thread, when it is its turn.
    async fn run(&self, module: &Arc<LoadedModule>, divergence: &Divergence) -> Answer {
        let (_place, turn) = self.enter().await?;
        let (inner, module, divergence) = (self.0.clone(), module.clone(), divergence.clone());
        let merge = move || {
            let _turn = turn; // ends with the call, even if nobody waits for its answer
            inner.call(&module, &divergence)
        };
        match spawn_blocking(merge).await {
            Ok(answer) => answer,
            Err(error) => Err(MergeFailure::Unavailable(error.to_string())),
        }
    }

    async fn enter(&self) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), MergeFailure> {
        let Ok(place) = self.0.admitted.clone().try_acquire_owned() else {
            self.0.counters.overloads.add(1);
            return Err(MergeFailure::Overloaded {
                limit: self.0.config.waiting_max,
            });
        };
        match self.0.running.clone().acquire_owned().await {
            Ok(turn) => Ok((place, turn)),
            Err(closed) => Err(MergeFailure::Unavailable(closed.to_string())),
        }
    }
}

/// A module that can be called, and is not yet known to anyone.
struct Prepared {
    module: Arc<LoadedModule>,
    code_bytes: usize,
}

impl Inner {
    fn module(&self, digest: &ModuleDigest) -> Option<Arc<LoadedModule>> {
        self.modules
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(digest)
            .cloned()
    }

    fn insert(&self, digest: ModuleDigest, module: Arc<LoadedModule>) {
        self.modules
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(digest, module);
    }

    /// What can be said of a component without compiling it; also its cached form, if there is
    /// one.
    fn inspect(
        &self,
        wanted: ModuleDigest,
        component: &[u8],
    ) -> Result<Option<Prepared>, ModuleRefused> {
        let found = ModuleDigest::of(component);
        if found != wanted {
            return Err(ModuleRefused::OtherModule { wanted, found });
        }
        bounds::check(component, &self.config.limits)?;
        world::check(component)?;
        Ok(self.from_cache(wanted))
    }

    fn from_cache(&self, digest: ModuleDigest) -> Option<Prepared> {
        let artefact = self.artefacts.get(&digest)?;
        self.link(digest, &artefact)
            .inspect_err(|error| tracing::warn!(module = %digest, %error, "recompiling"))
            .ok()
    }

    fn link(&self, digest: ModuleDigest, artefact: &[u8]) -> Result<Prepared, ModuleRefused> {
        let refused = |e: wasmtime::Error| ModuleRefused::Load(format!("{e:#}"));
        // SAFETY: the bytes come from this program's own compiler, either just now over a pipe or
        // from the cache, whose checksum and engine hash were right.
        let component = unsafe { Component::deserialize(&self.engine, artefact) };
        let component = component.map_err(refused)?;
        let module = LoadedModule::link(&self.engine, digest, &component, self.log.clone())
            .map_err(refused)?;
        Ok(Prepared {
            module: Arc::new(module),
            code_bytes: artefact.len(),
        })
    }

    fn call(&self, module: &LoadedModule, divergence: &Divergence) -> Answer {
        self.counters.merges.add(1);
        match module.resolve(divergence, &self.config.limits) {
            Ok(resolution) => {
                self.counters.fuel_used.add(resolution.fuel_used);
                Ok(Arc::new(resolution))
            }
            Err(failed) => {
                self.counters.fuel_used.add(failed.fuel_used);
                self.counters.failures.add(1);
                Err(failed.failure)
            }
        }
    }
}

/// Runs what blocks on a thread where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ModuleRefused> + Send + 'static,
) -> Result<T, ModuleRefused> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ModuleRefused::NodeFault(error.to_string())),
    }
}

/// The call that a module must survive to be taken: a lone tombstone, the one input of which
/// every module knows the form.
fn probe() -> Divergence {
    Divergence {
        keyspace: "probe".to_owned(),
        key: Bytes::from_static(b"probe"),
        siblings: vec![DivergentVersion {
            value: None,
            schema: 0,
            written_at_ms: 0,
        }],
        ancestor: Ancestor::Unknown,
        fingerprint: [0; 32], // not used: the probe passes the memo by
    }
}

/// Whether a probe speaks against the module. A refusal does not: it is a proper answer.
fn judge(answer: Answer) -> Result<(), ModuleRefused> {
    match answer {
        Ok(_) | Err(MergeFailure::Refused { .. }) => Ok(()),
        Err(failure) if failure.is_lasting() => Err(ModuleRefused::Probe(failure)),
        Err(failure) => Err(ModuleRefused::NodeFault(failure.to_string())),
    }
}
