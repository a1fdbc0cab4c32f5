//! A class of modules in a host: its limits, its engine, its places.
//!
//! The limits of a pool of instances belong to an engine, so every class has one. That of `small`
//! starts with the host. That of `large` starts with the first module that needs it: its pool
//! reserves several times the address space, and most nodes never run such a module.
//!
//! In front of the pool are turns (`turns.rs`), with as many places as it has slots, so that the
//! pool, which fails where it is full, never is.

use wasmtime::Engine;

use super::artefact::ArtefactCache;
use super::config::{MergeHostConfig, MergeHostError};
use super::engine;
use super::limits::Limits;
use super::turns::Turns;
use stator_core::catalogue::ModuleClass;

/// What the modules of one class share.
pub(super) struct Class {
    pub(super) limits: Limits,
    pub(super) engine: Engine,
    pub(super) artefacts: ArtefactCache,
    pub(super) turns: Turns,
}

impl Class {
    /// Starts the engine of `class` and opens its cache. Blocks.
    pub(super) fn start(
        config: &MergeHostConfig,
        class: ModuleClass,
    ) -> Result<Self, MergeHostError> {
        let (limits, slots) = (config.limits_of(class).clone(), config.running_max.get());
        let engine = engine::running(&limits, slots)
            .map_err(|e| MergeHostError::Engine(format!("{e:#}")))?;
        let artefacts = ArtefactCache::open(
            &config.cache_dir,
            &engine,
            limits.artefact_bytes_max,
            class == ModuleClass::Large,
        )
        .map_err(|source| MergeHostError::CacheDirectory {
            path: config.cache_dir.clone(),
            source,
        })?;
        let turns = Turns::new(slots as usize, config.waiting_max);
        Ok(Class { limits, engine, artefacts, turns })
    }
}
