//! The optional interfaces of a module: which it has, and calls of them.
//!
//! A world has no optional exports, so each option is looked up by name in what the component
//! exports. Every call is like one of `resolve`: a fresh instance, the same limits, and an answer
//! that is bounded before it is taken over.

use std::sync::Arc;

use bytes::Bytes;
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion, MergeFailure, Outcome};
use stator_core::id::ModuleDigest;
use tokio::task::spawn_blocking;
use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};

use super::bindings::options::exports::stator::merge::{invariant, migration, sampler, validator};
use super::bindings::options::stator::merge::types;
use super::host::{CHECKS, Loaded, MergeHost};
use super::laws::Promise;
use super::limits::Limits;
use super::refused::ModuleRefused;
use super::run::{CallFailure, CallState, LoadedModule, readable, within};
use super::stack;
use super::world::OPTIONS;

/// The options that a module has.
pub(super) struct Options {
    pub(super) sampler: Option<sampler::GuestIndices>,
    pub(super) invariant: Option<invariant::GuestIndices>,
    pub(super) validator: Option<validator::GuestIndices>,
    pub(super) migration: Option<migration::GuestIndices>,
}

impl Options {
    /// The options that a component exports. Fails if one lacks a function.
    pub(super) fn of(pre: &InstancePre<CallState>) -> wasmtime::Result<Self> {
        let [sampler, invariant, validator, migration] =
            OPTIONS.map(|name| pre.component().get_export_index(None, name).is_some());
        Ok(Options {
            sampler: sampler.then(|| sampler::GuestIndices::new(pre)).transpose()?,
            invariant: invariant.then(|| invariant::GuestIndices::new(pre)).transpose()?,
            validator: validator.then(|| validator::GuestIndices::new(pre)).transpose()?,
            migration: migration.then(|| migration::GuestIndices::new(pre)).transpose()?,
        })
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let has = [
            ("sampler", self.sampler.is_some()),
            ("invariant", self.invariant.is_some()),
            ("validator", self.validator.is_some()),
            ("migration", self.migration.is_some()),
        ];
        has.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
    }

    /// Says which option has another type than the world, and how.
    fn check(
        &self,
        store: &mut Store<CallState>,
        instance: &Instance,
    ) -> Result<(), (&'static str, String)> {
        let wrong = |option| move |error: wasmtime::Error| (option, format!("{error:#}"));
        if let Some(sampler) = &self.sampler {
            sampler.load(&mut *store, instance).map_err(wrong("sampler"))?;
        }
        if let Some(invariant) = &self.invariant {
            invariant.load(&mut *store, instance).map_err(wrong("invariant"))?;
        }
        if let Some(validator) = &self.validator {
            validator.load(&mut *store, instance).map_err(wrong("validator"))?;
        }
        if let Some(migration) = &self.migration {
            migration.load(&mut *store, instance).map_err(wrong("migration"))?;
        }
        Ok(())
    }
}

impl MergeHost {
    /// Asks the module's validator, if it has one, about a write: `Refused` is its no, any other
    /// failure says nothing about the value. Waits for its turn among the merges.
    pub async fn validate(
        &self,
        module: &ModuleDigest,
        keyspace: &str,
        key: &Bytes,
        candidate: &DivergentVersion,
    ) -> Result<(), MergeFailure> {
        let loaded = self.0.module(module).ok_or(MergeFailure::NotLoaded(*module))?;
        if loaded.module.options.validator.is_none() {
            return Ok(());
        }
        let turn = self.enter(&loaded.class, keyspace).await?;
        let keyspace = keyspace.to_owned();
        let (key, candidate) = (key.clone(), candidate.clone());
        let work = move || {
            let _turn = turn; // until the call ends, even if nobody waits for it
            let (module, limits) = (&loaded.module, &loaded.class.limits);
            stack::suffices(limits.stack_bytes)?;
            module.validate((&keyspace, &key), &candidate, limits)
        };
        match spawn_blocking(work).await {
            Ok(answer) => answer,
            Err(error) => Err(MergeFailure::Unavailable(error.to_string())),
        }
    }

    /// Refuses a module whose options have other types than the world says. Its schema number, if it
    /// has the option `migration`.
    pub(super) async fn try_options(
        &self,
        module: &Arc<Loaded>,
    ) -> Result<Option<u32>, ModuleRefused> {
        let fault = |failure: MergeFailure| ModuleRefused::NodeFault(failure.to_string());
        let turn = self.enter(&module.class, CHECKS).await.map_err(fault)?;
        let loaded = module.clone();
        let work = move || {
            let _turn = turn; // until the call ends, even if nobody waits for it
            let (module, limits) = (&loaded.module, &loaded.class.limits);
            stack::suffices(limits.stack_bytes).map_err(fault)?;
            let check = |store: &mut Store<CallState>, instance: &Instance| {
                Ok(module.options.check(store, instance))
            };
            let class = limits.class;
            let failed =
                |failed: CallFailure| ModuleRefused::Probe { failure: failed.failure, class };
            let (types, _) =
                module.in_fresh_instance(limits, limits.fuel, check).map_err(failed)?;
            types.map_err(|(option, why)| ModuleRefused::WrongOption { option, why })?;
            let schema = module.schema(limits, limits.fuel).map_err(failed)?;
            Ok(schema.map(|(schema, _)| schema))
        };
        match spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(ModuleRefused::NodeFault(error.to_string())),
        }
    }
}

impl LoadedModule {
    /// Up to `count` samples of the module's sampler; `None` if it has none.
    pub(super) fn samples(
        &self,
        seed: u64,
        count: u32,
        limits: &Limits,
    ) -> Result<Option<Vec<Divergence>>, MergeFailure> {
        let Some(option) = &self.options.sampler else { return Ok(None) };
        let call = |store: &mut Store<CallState>, instance: &Instance| {
            option.load(&mut *store, instance)?.call_samples(store, seed, count)
        };
        let called = self.in_fresh_instance(limits, limits.fuel, call);
        let (samples, _) = called.map_err(|failed| failed.failure)?;
        within("samples", samples.len(), count as usize)?;
        let samples = samples.into_iter().map(divergence);
        samples
            .filter(|sample| !sample.siblings.is_empty())
            .map(Ok)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// What the module's invariant says about a merge.
    pub(super) fn preserves(
        &self,
        before: &Divergence,
        after: &Outcome,
        limits: &Limits,
    ) -> Promise {
        let Some(option) = &self.options.invariant else { return Promise::NotStated };
        let before = types::Divergence {
            subject: subject(&before.keyspace, &before.key),
            siblings: before.siblings.iter().map(version).collect(),
            ancestor: match &before.ancestor {
                Ancestor::Unknown => types::Ancestor::Unknown,
                Ancestor::Absent => types::Ancestor::Absent,
                Ancestor::Known(known) => types::Ancestor::Known(version(known)),
            },
        };
        let after = match after {
            Outcome::Value(value) => types::Outcome::Value(value.to_vec()),
            Outcome::Delete => types::Outcome::Delete,
            Outcome::KeepSiblings => types::Outcome::KeepSiblings,
        };
        let call = |store: &mut Store<CallState>, instance: &Instance| {
            option.load(&mut *store, instance)?.call_preserves(store, &before, &after)
        };
        match self.in_fresh_instance(limits, limits.fuel, call) {
            Ok((Ok(()), _)) => Promise::Kept,
            Ok((Err(words), _)) => Promise::Broken(readable(words)),
            Err(failed) => Promise::Unanswered(failed.failure),
        }
    }

    /// What the module's validator says of a write: nothing against it, or why it is refused.
    pub(super) fn validate(
        &self,
        (keyspace, key): (&str, &Bytes),
        candidate: &DivergentVersion,
        limits: &Limits,
    ) -> Result<(), MergeFailure> {
        let Some(option) = &self.options.validator else { return Ok(()) };
        let (subject, candidate) = (subject(keyspace, key), version(candidate));
        let call = |store: &mut Store<CallState>, instance: &Instance| {
            option.load(&mut *store, instance)?.call_validate(store, &subject, &candidate)
        };
        match self.in_fresh_instance(limits, limits.fuel, call) {
            Ok((Ok(()), _)) => Ok(()),
            Ok((Err(refused), _)) => Err(refusal(refused)),
            Err(failed) => Err(failed.failure),
        }
    }

    /// The divergence with all versions of older schemas migrated, and the fuel that is left for
    /// its merge. Versions that become equal count once, like those that were written equal.
    pub(super) fn migrated(
        &self,
        divergence: &Divergence,
        limits: &Limits,
    ) -> Result<(Divergence, u64), CallFailure> {
        let mut migrated = divergence.clone();
        let Some((schema, mut fuel)) = self.schema(limits, limits.fuel)? else {
            return Ok((migrated, limits.fuel));
        };
        let subject = (divergence.keyspace.as_str(), &divergence.key);
        migrated.siblings.clear();
        for (n, sibling) in (0..).zip(&divergence.siblings) {
            let (sibling, left) = self
                .migrate(subject, sibling, schema, limits, fuel)
                .map_err(|failed| about(failed, n))?;
            fuel = left;
            if migrated.siblings.iter().all(|known| known.value != sibling.value) {
                migrated.siblings.push(sibling);
            }
        }
        if let Ancestor::Known(known) = &divergence.ancestor {
            let (known, left) = self.migrate(subject, known, schema, limits, fuel)?;
            fuel = left;
            migrated.ancestor = Ancestor::Known(known);
        }
        Ok((migrated, fuel))
    }

    /// The version in the module's schema. A tombstone, and what is of this schema or a newer one,
    /// stays as it is: of a newer one it is for the merge to speak.
    fn migrate(
        &self,
        (keyspace, key): (&str, &Bytes),
        old: &DivergentVersion,
        schema: u32,
        limits: &Limits,
        fuel: u64,
    ) -> Result<(DivergentVersion, u64), CallFailure> {
        let Some(option) = &self.options.migration else { return Ok((old.clone(), fuel)) };
        if old.value.is_none() || old.schema >= schema {
            return Ok((old.clone(), fuel));
        }
        let (subject, candidate) = (subject(keyspace, key), version(old));
        let call = |store: &mut Store<CallState>, instance: &Instance| {
            option.load(&mut *store, instance)?.call_migrate(store, &subject, &candidate)
        };
        let (answer, left) = self.in_fresh_instance(limits, fuel, call)?;
        let failed = |failure| CallFailure { failure, fuel_used: limits.fuel.saturating_sub(left) };
        let migrated = answer.map_err(|refused| failed(refusal(refused)))?;
        let bytes = migrated.value.as_ref().map_or(0, Vec::len);
        within("bytes of migrated value", bytes, limits.value_bytes_max).map_err(failed)?;
        Ok((
            DivergentVersion {
                value: migrated.value.map(Bytes::from),
                schema,
                // When it was written is not the module's to say.
                written_at_ms: old.written_at_ms,
            },
            left,
        ))
    }

    /// The schema number that the module's migration leads to, and the fuel that is left.
    fn schema(&self, limits: &Limits, fuel: u64) -> Result<Option<(u32, u64)>, CallFailure> {
        let Some(option) = &self.options.migration else { return Ok(None) };
        let call = |store: &mut Store<CallState>, instance: &Instance| {
            option.load(&mut *store, instance)?.call_schema(store)
        };
        self.in_fresh_instance(limits, fuel, call).map(Some)
    }
}

/// A refusal to migrate names the sibling, whatever the module counted.
fn about(mut failed: CallFailure, n: u32) -> CallFailure {
    if let MergeFailure::Refused { sibling, .. } = &mut failed.failure {
        *sibling = Some(n);
    }
    failed
}

fn refusal(refused: types::Failure) -> MergeFailure {
    MergeFailure::Refused {
        reason: match refused.reason {
            types::Reason::UnknownSchema => "unknown-schema",
            types::Reason::Malformed => "malformed",
            types::Reason::Unresolvable => "unresolvable",
        },
        sibling: refused.sibling,
        message: readable(refused.message),
    }
}

fn subject(keyspace: &str, key: &Bytes) -> types::Subject {
    types::Subject { keyspace: keyspace.to_owned(), key: key.to_vec() }
}

fn version(version: &DivergentVersion) -> types::Version {
    types::Version {
        value: version.value.as_ref().map(|value| value.to_vec()),
        schema: version.schema,
        written_at_ms: version.written_at_ms,
    }
}

fn divergence(sample: types::Divergence) -> Divergence {
    let version = |version: types::Version| DivergentVersion {
        value: version.value.map(Bytes::from),
        schema: version.schema,
        written_at_ms: version.written_at_ms,
    };
    Divergence {
        keyspace: sample.subject.keyspace,
        key: sample.subject.key.into(),
        siblings: sample.siblings.into_iter().map(version).collect(),
        ancestor: match sample.ancestor {
            types::Ancestor::Unknown => Ancestor::Unknown,
            types::Ancestor::Absent => Ancestor::Absent,
            types::Ancestor::Known(known) => Ancestor::Known(version(known)),
        },
        fingerprint: [0; 32], // not used: the laws pass the memo by
    }
}
