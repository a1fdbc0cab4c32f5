//! One call of a module: a fresh instance, under limits, and what came of it.

use std::fmt;

use bytes::Bytes;
use stator_core::divergence::{
    Ancestor, Divergence, DivergentVersion, MergeEvent, MergeFailure, Outcome, Resolution,
};
use stator_core::id::ModuleDigest;
use wasmtime::component::{Component, Instance, Linker};
use wasmtime::{Engine, ResourceLimiter, Store, Trap};

use super::bindings::exports::stator::merge::resolver as wit;
use super::bindings::stator::merge::types;
use super::bindings::{Module, ModulePre};
use super::limits::Limits;
use super::log::{self, CallLog, LogValve};
use super::options::Options;

/// A module ready to be instantiated.
pub(super) struct LoadedModule {
    digest: ModuleDigest,
    pre: ModulePre<CallState>,
    log: LogValve,
    pub(super) options: Options,
}

/// What the host keeps beside an instance.
pub(super) struct CallState {
    pub(super) log: CallLog,
    bounds: CallBounds,
}

struct CallBounds {
    memory_bytes_max: usize,
    table_elements_max: usize,
    /// What all memories and tables have by now.
    memory_bytes: usize,
    table_elements: usize,
    /// Whether a wish for memory was denied. What the instance makes of it is usually a trap
    /// that says nothing of memory.
    memory_denied: bool,
}

impl ResourceLimiter for CallBounds {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        let fits = total <= self.memory_bytes_max && maximum.is_none_or(|max| desired <= max);
        self.memory_denied |= !fits;
        if fits {
            self.memory_bytes = total;
        }
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        let fits = total <= self.table_elements_max && maximum.is_none_or(|max| desired <= max);
        if fits {
            self.table_elements = total;
        }
        Ok(fits)
    }
}

/// What a merge has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Units of fuel, those of migrations before it included.
    pub fuel: u64,
    /// Bytes of the memories of the instance that merged.
    pub memory_bytes: u64,
}

/// How a call failed, and what it used up.
pub(super) struct CallFailure {
    pub(super) failure: MergeFailure,
    pub(super) fuel_used: u64,
}

impl LoadedModule {
    /// Links a component to what the host offers. Refused if it wants more, or if its resolver's
    /// types are others.
    pub(super) fn link(
        engine: &Engine,
        digest: ModuleDigest,
        component: &Component,
        log: LogValve,
    ) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        log::link(&mut linker)?;
        let pre = linker.instantiate_pre(component)?;
        let options = Options::of(&pre)?;
        Ok(LoadedModule { digest, pre: ModulePre::new(pre)?, log, options })
    }

    /// Calls `resolve` in a fresh instance, with siblings of older schemas migrated before, each
    /// in an instance of its own. Blocks for as long as the fuel lasts, and needs a stack larger
    /// than `limits.stack_bytes`.
    pub(super) fn resolve(
        &self,
        divergence: &Divergence,
        limits: &Limits,
    ) -> (Result<Resolution, MergeFailure>, Used) {
        if self.options.migration.is_none() {
            return self.resolve_as_is(divergence, limits, limits.fuel);
        }
        match self.migrated(divergence, limits) {
            Ok((migrated, fuel)) => self.resolve_as_is(&migrated, limits, fuel),
            Err(CallFailure { failure, fuel_used: fuel }) => {
                (Err(failure), Used { fuel, memory_bytes: 0 })
            }
        }
    }

    fn resolve_as_is(
        &self,
        divergence: &Divergence,
        limits: &Limits,
        fuel: u64,
    ) -> (Result<Resolution, MergeFailure>, Used) {
        let mut store = self.store(limits);
        let answer = call(&self.pre, &mut store, divergence, fuel);
        let fuel = limits.fuel.saturating_sub(store.get_fuel().unwrap_or(0));
        let used = Used { fuel, memory_bytes: store.data().bounds.memory_bytes as u64 };
        let answer = match answer {
            Ok(answer) => convert(answer, fuel, limits),
            Err(error) => Err(explain(&error, store.data(), limits)),
        };
        (answer, used)
    }

    /// Does `work` in a fresh instance with `fuel`. What it gives, and the fuel that is left.
    pub(super) fn in_fresh_instance<T>(
        &self,
        limits: &Limits,
        fuel: u64,
        work: impl FnOnce(&mut Store<CallState>, &Instance) -> wasmtime::Result<T>,
    ) -> Result<(T, u64), CallFailure> {
        let mut store = self.store(limits);
        let done = store.set_fuel(fuel).and_then(|()| {
            let instance = self.pre.instance_pre().instantiate(&mut store)?;
            work(&mut store, &instance)
        });
        let left = store.get_fuel().unwrap_or(0);
        let failed = |error| CallFailure {
            failure: explain(&error, store.data(), limits),
            fuel_used: limits.fuel.saturating_sub(left),
        };
        done.map(|done| (done, left)).map_err(failed)
    }

    fn store(&self, limits: &Limits) -> Store<CallState> {
        let bounds = CallBounds {
            memory_bytes_max: limits.memory_bytes_max,
            table_elements_max: limits.table_elements_max,
            memory_bytes: 0,
            table_elements: 0,
            memory_denied: false,
        };
        let log = CallLog::new(self.log.clone(), self.digest);
        let mut store = Store::new(self.pre.engine(), CallState { log, bounds });
        store.limiter(|state| &mut state.bounds);
        store.set_hostcall_fuel(limits.hostcall_bytes_max);
        store
    }
}

fn call(
    pre: &ModulePre<CallState>,
    store: &mut Store<CallState>,
    divergence: &Divergence,
    fuel: u64,
) -> wasmtime::Result<Result<types::Resolution, types::Failure>> {
    // Before instantiation, which already runs code: the start function.
    store.set_fuel(fuel)?;
    let module: Module = pre.instantiate(&mut *store)?;
    let siblings: Vec<_> = divergence.siblings.iter().map(version).collect();
    let divergence = wit::Divergence {
        subject: types::Subject { keyspace: &divergence.keyspace, key: &divergence.key },
        siblings: &siblings,
        ancestor: match &divergence.ancestor {
            Ancestor::Unknown => types::Ancestor::Unknown,
            Ancestor::Absent => types::Ancestor::Absent,
            Ancestor::Known(known) => types::Ancestor::Known(version(known)),
        },
    };
    module.stator_merge_resolver().call_resolve(&mut *store, divergence)
}

fn version(version: &DivergentVersion) -> types::Version<'_> {
    types::Version {
        value: version.value.as_deref(),
        schema: version.schema,
        written_at_ms: version.written_at_ms,
    }
}

/// Takes an answer over, unless it is too large.
fn convert(
    answer: Result<types::Resolution, types::Failure>,
    fuel_used: u64,
    limits: &Limits,
) -> Result<Resolution, MergeFailure> {
    let answer = answer.map_err(refusal)?;
    if let types::Outcome::Value(value) = &answer.outcome {
        within("bytes of value", value.len(), limits.value_bytes_max)?;
    }
    within("events", answer.events.len(), limits.events_max)?;
    let events = answer.events.iter().map(|event| event.topic.len() + event.payload.len());
    let remarks = answer.note.as_ref().map_or(0, String::len) + events.sum::<usize>();
    within("bytes of note and events", remarks, limits.remarks_bytes_max)?;
    Ok(Resolution {
        outcome: match answer.outcome {
            types::Outcome::Value(value) => Outcome::Value(value.into()),
            types::Outcome::Delete => Outcome::Delete,
            types::Outcome::KeepSiblings => Outcome::KeepSiblings,
        },
        note: answer.note,
        events: answer.events.into_iter().map(event).collect(),
        fuel_used,
    })
}

fn event(event: types::Event) -> MergeEvent {
    MergeEvent { topic: event.topic, payload: Bytes::from(event.payload) }
}

/// A refusal's words are for people; more than this is not for reading.
const MESSAGE_BYTES_MAX: usize = 4096;

fn refusal(failure: types::Failure) -> MergeFailure {
    let message = readable(failure.message);
    MergeFailure::Refused {
        reason: match failure.reason {
            types::Reason::UnknownSchema => "unknown-schema",
            types::Reason::Malformed => "malformed",
            types::Reason::Unresolvable => "unresolvable",
        },
        sibling: failure.sibling,
        message,
    }
}

/// A module's words, cut to what is for reading.
pub(super) fn readable(mut words: String) -> String {
    words.truncate(words.floor_char_boundary(MESSAGE_BYTES_MAX));
    words
}

pub(super) fn within(
    what: impl fmt::Display,
    found: usize,
    max: usize,
) -> Result<(), MergeFailure> {
    if found <= max {
        return Ok(());
    }
    Err(MergeFailure::BadAnswer(format!("it has {found} {what}, and {max} are allowed")))
}

/// Says why a call gave no answer at all.
fn explain(error: &wasmtime::Error, state: &CallState, limits: &Limits) -> MergeFailure {
    let trap = error.downcast_ref::<Trap>();
    match trap {
        Some(Trap::OutOfFuel) => MergeFailure::OutOfFuel { limit: limits.fuel },
        _ if state.bounds.memory_denied => {
            MergeFailure::OutOfMemory { limit_bytes: limits.memory_bytes_max as u64 }
        }
        // The pool is behind a gate with as many places, so this is the host's own trouble.
        _ if error.is::<wasmtime::PoolConcurrencyLimitError>() => {
            MergeFailure::Unavailable(format!("{error:#}"))
        }
        Some(trap) => MergeFailure::Trapped(match state.log.last_words() {
            words if words.is_empty() => trap.to_string(),
            words => format!("{trap}; its last words: {words}"),
        }),
        // What is no trap is an answer, or a line of log, that cannot be read from its memory.
        None => MergeFailure::BadAnswer(causes(error)),
    }
}

/// What went wrong, without the way through the module, which tells nobody anything: its functions
/// have no names.
fn causes(error: &wasmtime::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    let causes = causes.filter(|cause| !cause.starts_with("error while executing at wasm"));
    causes.collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::engine;
    use super::*;

    /// `make guests && cargo test --release -p stator --lib -- --ignored --nocapture measure`
    #[test]
    #[ignore = "a measurement; it checks nothing"]
    fn measure_a_merge_of_three_carts_of_1_kib() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/components/cart.wasm");
        let component = std::fs::read(path).expect("run `make guests`");
        let artefact = engine::compiling().expect("starts").precompile_component(&component);
        let limits = Limits::small();
        let engine = engine::running(&limits, 1).expect("starts");
        // SAFETY: compiled a line ago.
        let component = unsafe { Component::deserialize(&engine, artefact.expect("compiles")) };
        let digest = ModuleDigest([0; 32]);
        let module =
            LoadedModule::link(&engine, digest, &component.expect("loads"), LogValve::new())
                .expect("links");
        let cart = |device: u32| {
            let item = |n| {
                format!(r#""6a3f4f0e-9d0c-{device:04}:{n}":{{"quantity":{n},"sku":"8512{n}A"}}"#)
            };
            let items: Vec<_> = (10..28).map(item).collect();
            format!(r#"{{"items":{{{}}},"removed":["1:12"]}}"#, items.join(","))
        };
        let siblings = [1, 2, 3].map(|device| DivergentVersion {
            value: Some(cart(device).into()),
            schema: 0,
            written_at_ms: 0,
        });
        let divergence = |siblings: &[DivergentVersion]| Divergence {
            keyspace: "carts".to_owned(),
            key: Bytes::from_static(b"key"),
            siblings: siblings.to_vec(),
            ancestor: Ancestor::Unknown,
            fingerprint: [0; 32],
        };
        let tombstone = DivergentVersion { value: None, schema: 0, written_at_ms: 0 };
        for (what, divergence) in
            [("a tombstone", divergence(&[tombstone])), ("three carts", divergence(&siblings))]
        {
            let mut nanos: Vec<_> = (0..20_000)
                .map(|_| {
                    let start = Instant::now();
                    let answer = module.resolve(&divergence, &limits);
                    assert!(answer.0.is_ok());
                    start.elapsed().as_nanos()
                })
                .collect();
            nanos.sort_unstable();
            let bytes: usize =
                divergence.siblings.iter().filter_map(|s| Some(s.value.as_ref()?.len())).sum();
            let fuel = module.resolve(&divergence, &limits).1.fuel;
            println!("{what}, {bytes} bytes: {} ns (median), {fuel} fuel", nanos[10_000]);
        }
    }
}
