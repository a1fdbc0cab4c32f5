//! A loaded module as a specimen: the laws in the sandbox in which it serves.
//!
//! Every call takes its turn among the merges of readers, so a check never holds a place for
//! longer than one call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stator_core::divergence::{Divergence, MergeFailure, Outcome, Resolution};
use stator_core::id::ModuleDigest;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::gate::LawsUnchecked;
use super::law::{Law, Report, Verdict};
use super::{Plan, Promise, Specimen, check};
use crate::merge::host::{Loaded, MergeHost, Place};
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
        mutate: false,
        merges_max: 20_000,
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
        let running = Running { host: self.clone(), module: loaded, runtime: Handle::current() };
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

    pub(in crate::merge) async fn check_laws_of(
        &self,
        module: Arc<Loaded>,
        samples: Option<Vec<Divergence>>,
        plan: Plan,
        place: Option<&Place>,
    ) -> Result<Report, LawsUnchecked> {
        let place = place.cloned();
        let running = Running { host: self.clone(), module, runtime: Handle::current() };
        let checking = spawn_blocking(move || {
            let _place = place;
            let samples = match samples {
                Some(samples) => samples,
                None => match running.samples(&plan) {
                    Ok(samples) => samples,
                    Err(failure) if failure.is_lasting() => {
                        return Ok(without_samples(&plan, &failure));
                    }
                    Err(failure) => return Err(failure),
                },
            };
            check(&running, &samples, &plan)
        });
        match checking.await {
            Ok(report) => report.map_err(LawsUnchecked::Node),
            Err(error) => Err(LawsUnchecked::Node(MergeFailure::Unavailable(error.to_string()))),
        }
    }
}

/// A module that is called whenever it is its turn. Blocks.
struct Running {
    host: MergeHost,
    module: Arc<Loaded>,
    runtime: Handle,
}

impl Running {
    fn in_turn<T>(&self, call: impl FnOnce(&Loaded) -> T) -> Result<T, MergeFailure> {
        let _places = self.runtime.block_on(self.host.enter(&self.module.class))?;
        stack::suffices(self.module.class.limits.stack_bytes)?;
        Ok(call(&self.module))
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
        let answer = self.in_turn(|loaded| self.host.0.call(loaded, divergence))??;
        Ok(Arc::unwrap_or_clone(answer))
    }

    fn preserves(&self, before: &Divergence, after: &Outcome) -> Promise {
        self.in_turn(|loaded| loaded.module.preserves(before, after, &loaded.class.limits))
            .unwrap_or_else(Promise::Unanswered)
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
        remarks: Vec::new(),
        verdicts: Law::ALL.into_iter().map(verdict).collect(),
    }
}
