//! A class of modules in a host: its limits, its engine, its places.
//!
//! The limits of a pool of instances belong to an engine, so every class has one. That of `small`
//! starts with the host. That of `large` starts with the first module that needs it: its pool
//! reserves several times the address space, and most nodes never run such a module.
//!
//! A place is a permit of the semaphore in front of the pool: there are as many as slots, so that
//! the pool, which fails where it is full, never is.

use std::sync::Arc;

use tokio::sync::Semaphore;
use wasmtime::Engine;

use super::artefact::ArtefactCache;
use super::config::{MergeHostConfig, MergeHostError};
use super::engine;
use super::limits::Limits;
use stator_core::catalogue::ModuleClass;

/// What the modules of one class share.
pub(super) struct Class {
    pub(super) limits: Limits,
    pub(super) engine: Engine,
    pub(super) artefacts: ArtefactCache,
    /// As many places as the pool has.
    pub(super) running: Arc<Semaphore>,
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
        Ok(Class { limits, engine, artefacts, running: Arc::new(Semaphore::new(slots as usize)) })
    }
}
