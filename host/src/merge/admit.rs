//! The way of a module into the host; the stages are told in the head of [`crate::merge`].

use std::sync::Arc;

use bytes::Bytes;
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion, MergeFailure};
use stator_core::id::ModuleDigest;
use tokio::task::spawn_blocking;
use wasmtime::component::Component;

use super::host::{Inner, MergeHost};
use super::memo::Answer;
use super::refused::ModuleRefused;
use super::run::LoadedModule;
use super::{bounds, compile, world};

/// What is known of a module that was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleInfo {
    /// The name of its bytes.
    pub digest: ModuleDigest,
    /// Bytes of the component.
    pub component_bytes: usize,
    /// Bytes of machine code, about what it holds in memory.
    pub code_bytes: usize,
    /// The options of the world that it has: `sampler`, `invariant`, `validator`, `migration`.
    pub options: Vec<&'static str>,
    /// The schema number that its option `migration` leads to.
    pub schema: Option<u32>,
    /// What the first call, with a tombstone, used of its fuel.
    pub probe_fuel: u64,
}

impl MergeHost {
    /// Takes a module that someone pushed: checks, compiles, loads and probes it. It is loaded
    /// afterwards; a refused one is not.
    pub async fn admit(&self, component: Bytes) -> Result<ModuleInfo, ModuleRefused> {
        let digest = ModuleDigest::of(&component);
        let component_bytes = component.len();
        let prepared = self.prepare(digest, component).await?;
        let probed = match judge(self.run(&prepared.module, &probe()).await) {
            Ok(fuel) => self.try_options(&prepared.module).await.map(|schema| (fuel, schema)),
            Err(refusal) => Err(refusal),
        };
        let (probe_fuel, schema) = match probed {
            Ok(probed) => probed,
            Err(refusal) => {
                // Or refused modules would fill the disk, one push after the other.
                let inner = self.0.clone();
                blocking(move || {
                    inner.artefacts.remove(&digest);
                    Ok(())
                })
                .await?;
                return Err(refusal);
            }
        };
        let options = prepared.module.options.names();
        self.0.insert(digest, prepared.module);
        let code_bytes = prepared.code_bytes;
        Ok(ModuleInfo { digest, component_bytes, code_bytes, options, schema, probe_fuel })
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
        if let Some(prepared) = blocking(move || Ok(inner.cached(digest))).await? {
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
}

/// A module that can be called, and is not yet known to anyone.
struct Prepared {
    module: Arc<LoadedModule>,
    code_bytes: usize,
}

impl Inner {
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
        Ok(self.cached(wanted))
    }

    fn cached(&self, digest: ModuleDigest) -> Option<Prepared> {
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
        Ok(Prepared { module: Arc::new(module), code_bytes: artefact.len() })
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
        siblings: vec![DivergentVersion { value: None, schema: 0, written_at_ms: 0 }],
        ancestor: Ancestor::Unknown,
        fingerprint: [0; 32], // not used: the probe passes the memo by
    }
}

/// Whether a probe speaks against the module. A refusal does not: it is a proper answer.
/// What it used of its fuel, as far as that is known.
fn judge(answer: Answer) -> Result<u64, ModuleRefused> {
    match answer {
        Ok(resolution) => Ok(resolution.fuel_used),
        Err(MergeFailure::Refused { .. }) => Ok(0),
        Err(failure) if failure.is_lasting() => Err(ModuleRefused::Probe(failure)),
        Err(failure) => Err(ModuleRefused::NodeFault(failure.to_string())),
    }
}
