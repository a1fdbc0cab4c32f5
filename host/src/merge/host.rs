//! The merge host's door: what is loaded, and merges through a gate.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use stator_core::catalogue::ModuleClass;
use stator_core::divergence::{Divergence, MergeFailure, Resolution};
use stator_core::id::ModuleDigest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::class::Class;
use super::config::{MergeHostConfig, MergeHostError};
use super::figures::{Counters, Figures};
use super::laws::Reports;
use super::limits::Limits;
use super::log::{Line, LogValve};
use super::memo::{Answer, Memo, MemoKey};
use super::refused::ModuleRefused;
use super::run::{LoadedModule, Used};
use super::stack;
use super::turns::{Full, Turn};
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
    /// What the module used for it; `None` if none ran, because it was made before.
    pub used: Option<Used>,
}

/// A module that can be called, and where.
pub(super) struct Loaded {
    pub(super) module: LoadedModule,
    pub(super) class: Arc<Class>,
    used: Mutex<Instant>,
    /// The most memory that one of its merges has had, in bytes.
    memory_peak_bytes: AtomicU64,
}

impl Loaded {
    pub(super) fn new(module: LoadedModule, class: Arc<Class>) -> Self {
        let used = Mutex::new(Instant::now());
        Loaded { module, class, used, memory_peak_bytes: AtomicU64::new(0) }
    }

    /// The limits of a merge that may have so much memory, if its class allows it that; 0 for all
    /// that the class allows.
    fn limits_with(&self, memory_bytes_max: u64) -> Limits {
        let mut limits = self.class.limits.clone();
        if let Ok(bytes) = usize::try_from(memory_bytes_max)
            && bytes > 0
        {
            limits.memory_bytes_max = limits.memory_bytes_max.min(bytes);
        }
        limits
    }

    /// What its answer is remembered by.
    fn memo_key(&self, digest: &ModuleDigest, divergence: &Divergence, limits: &Limits) -> MemoKey {
        let (class, memory_bytes_max) = (limits.class, limits.memory_bytes_max);
        let fingerprint = divergence.fingerprint;
        MemoKey { module: *digest, class, memory_bytes_max, fingerprint }
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
        Ok(MergeHost(Arc::new(Inner {
            small: Arc::new(Class::start(&config, ModuleClass::Small)?),
            large: OnceLock::new(),
            modules: RwLock::default(),
            compiling: tokio::sync::Mutex::new(()),
            checking: Arc::new(Semaphore::new(CHECKS_MAX)),
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

    /// [`Self::merge`], with the memory of the module's class, for who only asks for the answer.
    pub async fn resolve(
        &self,
        digest: &ModuleDigest,
        divergence: &Divergence,
    ) -> Result<Arc<Resolution>, MergeFailure> {
        self.merge(digest, divergence, 0).await.answer
    }

    /// The answer that it gave before, if it remembers one.
    pub fn recall(
        &self,
        digest: &ModuleDigest,
        divergence: &Divergence,
        memory_bytes_max: u64,
    ) -> Option<Answer> {
        let module = self.0.module(digest)?;
        let limits = module.limits_with(memory_bytes_max);
        self.0.recall(&module.memo_key(digest, divergence, &limits))
    }

    /// The last lines that a module has logged here, the oldest first.
    pub fn lines(&self, module: &ModuleDigest) -> Vec<Line> {
        self.0.log.lines(module)
    }

    /// The memory that a merge of the module may need, in bytes: the most that one has needed so far,
    /// and before there was one all that its class allows. 0 if it is not loaded.
    pub fn memory_needed(&self, digest: &ModuleDigest) -> u64 {
        let Some(module) = self.0.module(digest) else { return 0 };
        match module.memory_peak_bytes.load(Relaxed) {
            0 => module.class.limits.memory_bytes_max as u64,
            peak => peak,
        }
    }

    /// Merges, or gives the answer that it gave before. Waits for its turn. With `memory_bytes_max`
    /// the module may not have more memory than that, 0 for what its class allows.
    pub async fn merge(
        &self,
        digest: &ModuleDigest,
        divergence: &Divergence,
        memory_bytes_max: u64,
    ) -> Resolved {
        let Some(module) = self.0.module(digest) else {
            let answer = Err(MergeFailure::NotLoaded(*digest));
            return Resolved { answer, used: Some(Used::default()) };
        };
        let limits = module.limits_with(memory_bytes_max);
        let key = module.memo_key(digest, divergence, &limits);
        if let Some(answer) = self.0.recall(&key) {
            return Resolved { answer, used: None };
        }
        let (answer, used) = self.run(&module, divergence, limits).await;
        if answer.as_ref().err().is_none_or(MergeFailure::is_lasting) {
            self.0.memo.put(key, answer.clone());
        }
        Resolved { answer, used: Some(used) }
    }

    /// Merges at once, on this thread, which needs a stack larger than the module may use. It
    /// neither asks the memo nor waits for a turn: for measuring and checking modules.
    pub fn call(
        &self,
        digest: &ModuleDigest,
        divergence: &Divergence,
    ) -> Result<Arc<Resolution>, MergeFailure> {
        let module = self.0.module(digest).ok_or(MergeFailure::NotLoaded(*digest))?;
        self.0.call(&module, divergence, &module.class.limits).0
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
    pub(super) async fn run(
        &self,
        module: &Arc<Loaded>,
        divergence: &Divergence,
        limits: Limits,
    ) -> (Answer, Used) {
        let turn = match self.enter(&module.class, &divergence.keyspace).await {
            Ok(turn) => turn,
            Err(failure) => return (Err(failure), Used::default()),
        };
        let (inner, module, divergence) = (self.0.clone(), module.clone(), divergence.clone());
        let merge = move || {
            let _turn = turn; // ends with the call, even if nobody waits for its answer
            inner.call(&module, &divergence, &limits)
        };
        let unavailable = |error: tokio::task::JoinError| {
            (Err(MergeFailure::Unavailable(error.to_string())), Used::default())
        };
        spawn_blocking(merge).await.unwrap_or_else(unavailable)
    }

    /// Waits for a turn among the merges of a class.
    pub(super) async fn enter(&self, class: &Class, keyspace: &str) -> Result<Turn, MergeFailure> {
        class.turns.take(keyspace).await.map_err(|Full| {
            self.0.counters.overloads.add(1);
            MergeFailure::Overloaded { limit: self.0.config.waiting_max }
        })
    }
}

impl Inner {
    fn recall(&self, key: &MemoKey) -> Option<Answer> {
        let answer = self.memo.get(key)?;
        self.counters.memo_hits.add(1);
        Some(answer)
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

    pub(super) fn call(
        &self,
        loaded: &Loaded,
        divergence: &Divergence,
        limits: &Limits,
    ) -> (Answer, Used) {
        if let Err(failure) = stack::suffices(limits.stack_bytes) {
            return (Err(failure), Used::default());
        }
        self.counters.merges.add(1);
        let started = Instant::now();
        let (answer, used) = loaded.module.resolve(divergence, limits);
        metrics::histogram!(MERGE_SECONDS.name).record(started.elapsed());
        self.counters.fuel_used.add(used.fuel);
        loaded.memory_peak_bytes.fetch_max(used.memory_bytes, Relaxed);
        match &answer {
            Ok(_) => metrics::histogram!(MERGE_FUEL.name).record(used.fuel as f64),
            Err(_) => self.counters.failures.add(1),
        }
        (answer.map(Arc::new), used)
    }
}
