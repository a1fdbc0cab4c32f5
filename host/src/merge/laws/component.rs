//! A loaded module as a specimen: the laws in the sandbox in which it serves.
//!
//! Every call takes its turn among the merges of readers, so a check never holds a place for
//! longer than one call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stator_core::catalogue::ModuleClass;
use stator_core::divergence::{Divergence, MergeFailure, Outcome, Resolution};
use stator_core::id::ModuleDigest;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::check::GROWN_BYTES_MAX;
use super::gate::LawsUnchecked;
use super::law::{Law, Report, Verdict};
use super::reach::{self, Reach};
use super::{Plan, Promise, Specimen, Variety, check};
use crate::merge::host::{CHECKS, Loaded, MergeHost, Place};
use crate::merge::memo::Answer;
use crate::merge::stack;

/// Samples asked for in one call, so that one answer and its fuel stay small.
const SAMPLES_A_CALL: u32 = 50;
/// Samples of one check: more cases are made by combining them anew.
const SAMPLES_MAX: u64 = 2_000;

impl Plan {
    /// What a node checks by itself, at a push and before a fold. The same on every node; only the
    /// time may end it earlier on a slow one, and then no verdict is made up.
    pub const OF_NODE: Plan = Plan {
        cases: 400,
        seed: 1,
        mutate: true,
        grown_bytes_max: GROWN_BYTES_MAX,
        merges_max: 80_000,
        fuel_max: 30_000_000_000,
        wall: Some(Duration::from_secs(20)),
    };
}

/// The reports that a host has made by its own plan, by module.
#[derive(Default)]
pub(in crate::merge) struct Reports(Mutex<HashMap<ModuleDigest, Arc<Report>>>);

impl Reports {
    fn get(&self, module: &ModuleDigest) -> Option<Arc<Report>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(module).cloned()
    }

    fn put(&self, module: ModuleDigest, report: Arc<Report>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(module, report);
    }

    /// Forgets a module.
    pub(in crate::merge) fn remove(&self, module: &ModuleDigest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(module);
    }
}

impl MergeHost {
    /// How the module stands to the merge laws, checked by the node's own plan on the module's own
    /// samples; at the first time in some seconds, later at once.
    pub async fn laws(&self, module: &ModuleDigest) -> Result<Arc<Report>, LawsUnchecked> {
        self.laws_in(module, None).await
    }

    /// The same for one who has a place among those who check modules: it is kept as long as the
    /// check runs, be it that nobody waits for it any more.
    pub async fn laws_in(
        &self,
        module: &ModuleDigest,
        place: Option<&Place>,
    ) -> Result<Arc<Report>, LawsUnchecked> {
        if let Some(report) = self.0.reports.get(module) {
            return Ok(report);
        }
        let loaded = self.0.module(module).ok_or(LawsUnchecked::NotLoaded(*module))?;
        let report = Arc::new(self.check_laws_of(loaded, None, Plan::OF_NODE, place).await?);
        // One that ran out of time may do better when the node is less busy.
        if report.stopped.is_none() {
            self.0.reports.put(*module, report.clone());
        }
        Ok(report)
    }

    /// Merges the first sample of the module's sampler that has several siblings: how many it has,
    /// and the fuel of its merge. `None` without a sampler, or such a sample.
    pub async fn sample_merge(
        &self,
        module: &ModuleDigest,
    ) -> Result<Option<(usize, u64)>, MergeFailure> {
        let loaded = self.0.module(module).ok_or(MergeFailure::NotLoaded(*module))?;
        let running = self.running(loaded, None);
        let work = move || {
            let samples = running.samples(&Plan { cases: 1, ..Plan::OF_NODE })?;
            let sample = samples.iter().find(|sample| sample.siblings.len() > 1);
            let Some(sample) = sample else { return Ok(None) };
            let merged = running.merge(sample)?;
            Ok(Some((sample.siblings.len(), merged.fuel_used)))
        };
        match spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => Err(MergeFailure::Unavailable(error.to_string())),
        }
    }

    /// What the module's sampler gives: at most so many divergences. None without a sampler.
    pub async fn samples(
        &self,
        module: &ModuleDigest,
        cases: u64,
        seed: u64,
    ) -> Result<Vec<Divergence>, MergeFailure> {
        let loaded = self.0.module(module).ok_or(MergeFailure::NotLoaded(*module))?;
        let running = self.running(loaded, None);
        let plan = Plan { cases, seed, ..Plan::OF_NODE };
        let samples = spawn_blocking(move || running.samples(&plan)).await;
        samples.unwrap_or_else(|error| Err(MergeFailure::Unavailable(error.to_string())))
    }

    /// Checks the laws by a plan, on `samples` or on those of the module's sampler.
    pub async fn check_laws(
        &self,
        module: &ModuleDigest,
        samples: Option<Vec<Divergence>>,
        plan: Plan,
    ) -> Result<Report, LawsUnchecked> {
        let loaded = self.0.module(module).ok_or(LawsUnchecked::NotLoaded(*module))?;
        self.check_laws_of(loaded, samples, plan, None).await
    }

    /// [`Self::check_laws`] that also counts how much of the module's code it reached, which takes
    /// about twice as long. `component` are the module's bytes. Where that cannot be counted the
    /// report says why.
    pub async fn check_laws_and_reach(
        &self,
        module: &ModuleDigest,
        component: &[u8],
        samples: Option<Vec<Divergence>>,
        plan: Plan,
    ) -> Result<Report, LawsUnchecked> {
        let loaded = self.0.module(module).ok_or(LawsUnchecked::NotLoaded(*module))?;
        let (telling, why) = match self.telling(component, loaded.class.limits.class).await {
            Ok(telling) => (Some(telling), None),
            Err(why) => (None, Some(why)),
        };
        let running = self.running(loaded, telling);
        let mut report = running.checked(samples, plan, None).await?;
        let unknown = |why| format!("how much of its code was reached is not known: {why}");
        report.remarks.extend(why.map(unknown));
        Ok(report)
    }

    /// The copy of a module that tells what it reaches, loaded.
    async fn telling(&self, component: &[u8], class: ModuleClass) -> Result<Told, String> {
        if class == ModuleClass::Large {
            return Err("of an interpreter it would say nothing".to_owned());
        }
        let telling = reach::telling(component)?;
        let admitted = self.admit_as(class, telling.component.into()).await;
        let copy = admitted.map_err(|refusal| refusal.to_string())?.digest;
        let copy = self.0.module(&copy).ok_or("it was dropped at once")?;
        Ok(Told { copy, reached: Mutex::new(Reach::of(telling.blocks)) })
    }

    fn running(&self, module: Arc<Loaded>, told: Option<Told>) -> Running {
        Running { host: self.clone(), module, runtime: Handle::current(), told }
    }

    pub(in crate::merge) async fn check_laws_of(
        &self,
        module: Arc<Loaded>,
        samples: Option<Vec<Divergence>>,
        plan: Plan,
        place: Option<&Place>,
    ) -> Result<Report, LawsUnchecked> {
        self.running(module, None).checked(samples, plan, place).await
    }
}

/// A module that is called whenever it is its turn. Blocks.
struct Running {
    host: MergeHost,
    module: Arc<Loaded>,
    runtime: Handle,
    told: Option<Told>,
}

/// A copy that tells what it reaches, and what it told.
struct Told {
    copy: Arc<Loaded>,
    reached: Mutex<Reach>,
}

impl Running {
    async fn checked(
        self,
        samples: Option<Vec<Divergence>>,
        plan: Plan,
        place: Option<&Place>,
    ) -> Result<Report, LawsUnchecked> {
        let place = place.cloned();
        let checking = spawn_blocking(move || {
            let _place = place;
            let samples = match samples {
                Some(samples) => samples,
                None => match self.samples(&plan) {
                    Ok(samples) => samples,
                    Err(failure) if failure.is_lasting() => {
                        return Ok(without_samples(&plan, &failure));
                    }
                    Err(failure) => return Err(failure),
                },
            };
            let mut report = check(&self, &samples, &plan)?;
            let reached = |told: Told| told.reached.into_inner();
            report.reach =
                self.told.map(|told| reached(told).unwrap_or_else(PoisonError::into_inner));
            Ok(report)
        });
        match checking.await {
            Ok(report) => report.map_err(LawsUnchecked::Node),
            Err(error) => Err(LawsUnchecked::Node(MergeFailure::Unavailable(error.to_string()))),
        }
    }

    /// Has the copy tell what this merge reaches. One that it does not survive tells nothing.
    fn tell(&self, told: &Told, divergence: &Divergence) -> Result<(), MergeFailure> {
        let answer = self.in_turn(|_| self.call(&told.copy, divergence))?;
        if let Ok(Outcome::Value(bits)) = answer.as_ref().map(|answer| &answer.outcome) {
            told.reached.lock().unwrap_or_else(PoisonError::into_inner).add(bits);
        }
        Ok(())
    }

    fn in_turn<T>(&self, call: impl FnOnce(&Loaded) -> T) -> Result<T, MergeFailure> {
        let _turn = self.runtime.block_on(self.host.enter(&self.module.class, CHECKS))?;
        stack::suffices(self.module.class.limits.stack_bytes)?;
        Ok(call(&self.module))
    }

    fn call(&self, loaded: &Loaded, divergence: &Divergence) -> Answer {
        self.host.0.call(loaded, divergence, &loaded.class.limits).0
    }

    fn samples(&self, plan: &Plan) -> Result<Vec<Divergence>, MergeFailure> {
        let mut samples = Vec::new();
        let wanted = plan.cases.min(SAMPLES_MAX);
        for seed in 0..wanted.div_ceil(u64::from(SAMPLES_A_CALL)) {
            let seed = plan.seed.wrapping_add(seed);
            let more = self.in_turn(|loaded| {
                loaded.module.samples(seed, SAMPLES_A_CALL, &loaded.class.limits)
            })??;
            match more {
                Some(more) => samples.extend(more),
                None => break,
            }
        }
        Ok(samples)
    }
}

impl Specimen for Running {
    fn merge(&self, divergence: &Divergence) -> Result<Resolution, MergeFailure> {
        if let Some(told) = &self.told {
            self.tell(told, divergence)?;
        }
        let answer = self.in_turn(|loaded| self.call(loaded, divergence))??;
        Ok(Arc::unwrap_or_clone(answer))
    }

    fn preserves(&self, before: &Divergence, after: &Outcome) -> Promise {
        self.in_turn(|loaded| loaded.module.preserves(before, after, &loaded.class.limits))
            .unwrap_or_else(Promise::Unanswered)
    }

    fn migrates(&self) -> bool {
        self.module.module.options.migration.is_some()
    }
}

/// The report on a module whose sampler fails.
fn without_samples(plan: &Plan, failure: &MergeFailure) -> Report {
    let why = format!("the module's sampler fails: {failure}");
    let verdict = |law| (law, Verdict::NotCheckable { why: why.clone() });
    Report {
        seed: plan.seed,
        samples: 0,
        merges: 0,
        fuel: 0,
        stopped: None,
        variety: Variety::default(),
        reach: None,
        remarks: Vec::new(),
        verdicts: Law::ALL.into_iter().map(verdict).collect(),
    }
}
