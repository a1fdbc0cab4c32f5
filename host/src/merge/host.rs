//! The merge host's door: what is loaded, and merges through a gate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use stator_core::catalogue::ModuleClass;
use stator_core::divergence::{Divergence, MergeFailure, Resolution};
use stator_core::id::ModuleDigest;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::class::Class;
use super::config::{MergeHostConfig, MergeHostError};
use super::figures::{Counters, Figures};
use super::laws::Reports;
use super::limits::Limits;
use super::log::{Line, LogValve};
use super::memo::{Answer, Memo, MemoKey};
use super::refused::ModuleRefused;
use super::run::LoadedModule;
use super::stack;
use crate::telemetry::names::{MERGE_FUEL, MERGE_SECONDS};

/// Modules that are received and checked at a time, and so held in memory.
const CHECKS_MAX: usize = 8;

/// In place of a keyspace's name: checks of modules share their places like a keyspace.
pub(super) const CHECKS: &str = "(checks)";

/// See [`MergeHost::place_to_check`].
pub type Place = Arc<OwnedSemaphorePermit>;

/// What came of a merge that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What the module made of it, or why not.
    pub answer: Result<Arc<Resolution>, MergeFailure>,
    /// Whether no module ran for it: it was made before.
    pub is_remembered: bool,
}

/// What a merge holds while it runs.
pub(super) struct Turn {
    _running: OwnedSemaphorePermit,
    _share: OwnedSemaphorePermit,
}

/// A module that can be called, and where.
pub(super) struct Loaded {
    pub(super) module: LoadedModule,
    pub(super) class: Arc<Class>,
    used: Mutex<Instant>,
}

impl Loaded {
    pub(super) fn new(module: LoadedModule, class: Arc<Class>) -> Self {
        Loaded { module, class, used: Mutex::new(Instant::now()) }
    }

    /// What its answer is remembered by.
    fn memo_key(&self, digest: &ModuleDigest, divergence: &Divergence) -> MemoKey {
        let class = self.class.limits.class;
        MemoKey { module: *digest, class, fingerprint: divergence.fingerprint }
    }

    fn used(&self) -> MutexGuard<'_, Instant> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs merge modules. Cheap to clone; all clones are one host.
#[derive(Clone)]
pub struct MergeHost(pub(super) Arc<Inner>);

/// What all clones of a host share.
pub(super) struct Inner {
    pub(super) config: MergeHostConfig,
    small: Arc<Class>,
    large: OnceLock<Arc<Class>>,
    modules: RwLock<HashMap<ModuleDigest, Arc<Loaded>>>,
    /// One compilation at a time: each may take as much memory as its limit.
    pub(super) compiling: tokio::sync::Mutex<()>,
    /// The places in front of the pools'.
    admitted: Arc<Semaphore>,
    /// Of the keyspaces that merge right now, by their names.
    shares: Mutex<HashMap<String, Weak<Semaphore>>>,
    /// Modules that are received and checked at a time.
    checking: Arc<Semaphore>,
    memo: Memo,
    /// How modules stand to the merge laws.
    pub(super) reports: Reports,
    pub(super) log: LogValve,
    pub(super) counters: Counters,
}

impl MergeHost {
    /// Starts the engine of class `small` and opens the cache. Reads and writes files; compiles
    /// nothing.
    pub fn new(config: MergeHostConfig) -> Result<Self, MergeHostError> {
        let slots = config.running_max.get();
        let places = (slots as usize).saturating_add(config.waiting_max);
        Ok(MergeHost(Arc::new(Inner {
            small: Arc::new(Class::start(&config, ModuleClass::Small)?),
            large: OnceLock::new(),
            modules: RwLock::default(),
            compiling: tokio::sync::Mutex::new(()),
            checking: Arc::new(Semaphore::new(CHECKS_MAX)),
            shares: Mutex::default(),
            admitted: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            memo: Memo::new(config.memo_entries_max, config.memo_bytes_max),
            reports: Reports::default(),
            log: LogValve::new(),
            counters: Counters::default(),
            config,
        })))
    }

    /// The limits of the modules of class `small`.
    pub fn limits(&self) -> &Limits {
        &self.0.config.limits
    }

    /// The limits of the modules of a class.
    pub fn limits_of(&self, class: ModuleClass) -> &Limits {
        self.0.config.limits_of(class)
    }

    /// A place for a module that is to be received and checked. Take it before the bytes: each
    /// module is held in memory until it is refused or kept.
    pub fn place_to_check(&self) -> Result<Place, ModuleRefused> {
        let place = self.0.checking.clone().try_acquire_owned();
        place.map(Arc::new).map_err(|_| ModuleRefused::Busy { limit: CHECKS_MAX })
    }

    /// Whether the module can be called.
    pub fn is_loaded(&self, digest: &ModuleDigest) -> bool {
        self.0.is_loaded(digest, |_| true)
    }

    /// Whether the module can be called with the limits of `class`.
    pub fn is_loaded_as(&self, digest: &ModuleDigest, class: ModuleClass) -> bool {
        self.0.is_loaded(digest, |loaded| loaded.class.limits.class == class)
    }

    /// Forgets a module. Merges that run finish; its compiled form stays in the cache.
    pub fn unload(&self, digest: &ModuleDigest) {
        self.0.modules.write().unwrap_or_else(PoisonError::into_inner).remove(digest);
        self.0.reports.remove(digest);
    }

    /// Forgets a module's compiled form too. Blocks.
    pub fn forget(&self, digest: &ModuleDigest) {
        for class in [Some(&self.0.small), self.0.large.get()].into_iter().flatten() {
            class.artefacts.remove(digest);
        }
    }

    /// Forgets the modules that nobody called for so long, but those of which `is_needed` holds.
    /// Tells how many that were.
    pub fn unload_idle(&self, idle: Duration, is_needed: impl Fn(&ModuleDigest) -> bool) -> usize {
        let modules = self.0.modules.read().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |loaded: &Loaded| loaded.used().elapsed() >= idle;
        let all = modules.iter().filter(|(digest, loaded)| !is_needed(digest) && is_idle(loaded));
        let idle: Vec<ModuleDigest> = all.map(|(digest, _)| *digest).collect();
        drop(modules);
        idle.iter().for_each(|digest| self.unload(digest));
        idle.len()
    }

    /// [`Self::merge`], for who does not ask whether it was made before.
    pub async fn resolve(
        &self,
        digest: &ModuleDigest,
        divergence: &Divergence,
    ) -> Result<Arc<Resolution>, MergeFailure> {
        self.merge(digest, divergence).await.answer
    }

    /// The answer that it gave before, if it remembers one.
    pub fn recall(&self, digest: &ModuleDigest, divergence: &Divergence) -> Option<Answer> {
        self.0.recall(&self.0.module(digest)?.memo_key(digest, divergence))
    }

    /// The last lines that a module has logged here, the oldest first.
    pub fn lines(&self, module: &ModuleDigest) -> Vec<Line> {
        self.0.log.lines(module)
    }

    /// Merges, or gives the answer that it gave before. Waits for its turn.
    pub async fn merge(&self, digest: &ModuleDigest, divergence: &Divergence) -> Resolved {
        let Some(module) = self.0.module(digest) else {
            let answer = Err(MergeFailure::NotLoaded(*digest));
            return Resolved { answer, is_remembered: false };
        };
        let key = module.memo_key(digest, divergence);
        if let Some(answer) = self.0.recall(&key) {
            return Resolved { answer, is_remembered: true };
        }
        let answer = self.run(&module, divergence).await;
        if answer.as_ref().err().is_none_or(MergeFailure::is_lasting) {
            self.0.memo.put(key, answer.clone());
        }
        Resolved { answer, is_remembered: false }
    }

    /// Merges at once, on this thread, which needs a stack larger than the module may use. It
    /// neither asks the memo nor waits for a turn: for measuring and checking modules.
    pub fn call(
        &self,
        digest: &ModuleDigest,
        divergence: &Divergence,
    ) -> Result<Arc<Resolution>, MergeFailure> {
        let module = self.0.module(digest).ok_or(MergeFailure::NotLoaded(*digest))?;
        self.0.call(&module, divergence)
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
            compile_cpu_ms: counters.compile_cpu_ms.get(),
            compile_memory_peak_bytes: counters.compile_memory_peak_bytes.get(),
            modules: inner.modules.read().unwrap_or_else(PoisonError::into_inner).len(),
            memo_entries,
            memo_bytes,
        }
    }

    /// Runs a merge on a blocking thread, when it is its turn.
    pub(super) async fn run(&self, module: &Arc<Loaded>, divergence: &Divergence) -> Answer {
        let (_place, turn) = self.enter(&module.class, &divergence.keyspace).await?;
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

    /// Waits for a turn: first among the merges of the keyspace, then among all.
    pub(super) async fn enter(
        &self,
        class: &Class,
        keyspace: &str,
    ) -> Result<(OwnedSemaphorePermit, Turn), MergeFailure> {
        let Ok(place) = self.0.admitted.clone().try_acquire_owned() else {
            self.0.counters.overloads.add(1);
            return Err(MergeFailure::Overloaded { limit: self.0.config.waiting_max });
        };
        let closed = |closed: AcquireError| MergeFailure::Unavailable(closed.to_string());
        let share = self.0.share(keyspace).acquire_owned().await.map_err(closed)?;
        let running = class.running.clone().acquire_owned().await.map_err(closed)?;
        Ok((place, Turn { _running: running, _share: share }))
    }
}

impl Inner {
    fn recall(&self, key: &MemoKey) -> Option<Answer> {
        let answer = self.memo.get(key)?;
        self.counters.memo_hits.add(1);
        Some(answer)
    }

    /// The places of a keyspace: one less than there are, so that a module that loops holds up its
    /// own keyspace and not another one. Two such can hold up all.
    fn share(&self, keyspace: &str) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(keyspace).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let places = (self.config.running_max.get() as usize).saturating_sub(1).max(1);
        let share = Arc::new(Semaphore::new(places));
        shares.insert(keyspace.to_owned(), Arc::downgrade(&share));
        share
    }

    /// The class, started if this is its first module. Blocks.
    pub(super) fn class(&self, class: ModuleClass) -> Result<Arc<Class>, ModuleRefused> {
        match class {
            ModuleClass::Small => Ok(self.small.clone()),
            ModuleClass::Large => {
                if let Some(large) = self.large.get() {
                    return Ok(large.clone());
                }
                let started = Class::start(&self.config, class)
                    .map_err(|error| ModuleRefused::NodeFault(error.to_string()))?;
                // Of two that start at once one is dropped: address space, for a moment.
                Ok(self.large.get_or_init(|| Arc::new(started)).clone())
            }
        }
    }

    /// To ask this is not to use the module.
    fn is_loaded(&self, digest: &ModuleDigest, matches: impl FnOnce(&Loaded) -> bool) -> bool {
        let modules = self.modules.read().unwrap_or_else(PoisonError::into_inner);
        modules.get(digest).is_some_and(|loaded| matches(loaded))
    }

    pub(super) fn module(&self, digest: &ModuleDigest) -> Option<Arc<Loaded>> {
        let modules = self.modules.read().unwrap_or_else(PoisonError::into_inner);
        let found = modules.get(digest).cloned();
        if let Some(loaded) = &found {
            *loaded.used() = Instant::now();
        }
        found
    }

    pub(super) fn insert(&self, digest: ModuleDigest, module: Arc<Loaded>) {
        let class = module.class.limits.class;
        let mut modules = self.modules.write().unwrap_or_else(PoisonError::into_inner);
        let old = modules.insert(digest, module);
        drop(modules);
        // What could not be checked with the limits of one class may be with those of another.
        if old.is_some_and(|old| old.class.limits.class != class) {
            self.reports.remove(&digest);
        }
    }

    pub(super) fn call(&self, loaded: &Loaded, divergence: &Divergence) -> Answer {
        let (module, limits) = (&loaded.module, &loaded.class.limits);
        stack::suffices(limits.stack_bytes)?;
        self.counters.merges.add(1);
        let started = Instant::now();
        let answer = module.resolve(divergence, limits);
        metrics::histogram!(MERGE_SECONDS.name).record(started.elapsed());
        match answer {
            Ok(resolution) => {
                self.counters.fuel_used.add(resolution.fuel_used);
                metrics::histogram!(MERGE_FUEL.name).record(resolution.fuel_used as f64);
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
