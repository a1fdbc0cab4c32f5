//! The way of a module into the host; the stages are told in the head of [`crate::merge`].

use std::sync::Arc;

use bytes::Bytes;
use stator_core::catalogue::ModuleClass;
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion, MergeFailure};
use stator_core::id::ModuleDigest;
use tokio::task::spawn_blocking;

use super::artefact::Artefact;
use super::class::Class;
use super::host::{Inner, Loaded, MergeHost, Place};
use super::laws::{LawsUnchecked, Plan, Report};
use super::memo::Answer;
use super::refused::ModuleRefused;
use super::run::LoadedModule;
use super::{bounds, compile, world};

/// What is known of a module that was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleInfo {
    /// The name of its bytes.
    pub digest: ModuleDigest,
    /// The class of its limits.
    pub class: ModuleClass,
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
    /// [`Self::admit_as`] of class `small`.
    pub async fn admit(&self, component: Bytes) -> Result<ModuleInfo, ModuleRefused> {
        self.admit_as(ModuleClass::Small, component).await
    }

    /// Takes a module that someone pushed: checks, compiles, loads and probes it, all with the
    /// limits of `class`. It is loaded afterwards; a refused one is not.
    pub async fn admit_as(
        &self,
        class: ModuleClass,
        component: Bytes,
    ) -> Result<ModuleInfo, ModuleRefused> {
        let (info, module) = self.try_out(class, component, Keep::Artefact).await?;
        // Who tries a loaded module with a smaller class does not take it from its users.
        if !self.is_loaded_as(&info.digest, ModuleClass::Large) {
            self.0.insert(info.digest, module);
        }
        Ok(info)
    }

    /// As [`Self::admit_as`] for one who only wants to know, its standing to the merge laws too:
    /// nothing of the module is kept, neither in memory nor on disk.
    pub async fn dry_run(
        &self,
        class: ModuleClass,
        component: Bytes,
        place: &Place,
    ) -> Result<(ModuleInfo, Result<Report, LawsUnchecked>), ModuleRefused> {
        let (info, module) = self.try_out(class, component, Keep::Nothing).await?;
        let laws = self.check_laws_of(module, None, Plan::OF_NODE, Some(place)).await;
        Ok((info, laws))
    }

    async fn try_out(
        &self,
        class: ModuleClass,
        component: Bytes,
        keep: Keep,
    ) -> Result<(ModuleInfo, Arc<Loaded>), ModuleRefused> {
        let digest = ModuleDigest::of(&component);
        let component_bytes = component.len();
        let prepared = self.prepare(class, digest, component, keep).await?;
        let limits = prepared.module.class.limits.clone();
        let (answer, _) = self.run(&prepared.module, &probe(), limits).await;
        let probed = match judge(answer, class) {
            Ok(fuel) => self.try_options(&prepared.module).await.map(|schema| (fuel, schema)),
            Err(refusal) => Err(refusal),
        };
        let (probe_fuel, schema) = match probed {
            Ok(probed) => probed,
            Err(refusal) => {
                // Or refused modules would fill the disk, one push after the other.
                if keep == Keep::Artefact {
                    blocking(move || {
                        prepared.module.class.artefacts.remove(&digest);
                        Ok(())
                    })
                    .await?;
                }
                return Err(refusal);
            }
        };
        let options = prepared.module.module.options.names();
        let code_bytes = prepared.code_bytes;
        let info =
            ModuleInfo { digest, class, component_bytes, code_bytes, options, schema, probe_fuel };
        Ok((info, prepared.module))
    }

    /// [`Self::load_as`] of class `small`.
    pub async fn load(&self, digest: ModuleDigest, component: Bytes) -> Result<(), ModuleRefused> {
        self.load_as(ModuleClass::Small, digest, component).await
    }

    /// Loads a module that was admitted to `class` before, here or on another node. Does nothing
    /// if it is loaded so already.
    pub async fn load_as(
        &self,
        class: ModuleClass,
        digest: ModuleDigest,
        component: Bytes,
    ) -> Result<(), ModuleRefused> {
        if self.is_loaded_as(&digest, class) {
            return Ok(());
        }
        let prepared = self.prepare(class, digest, component, Keep::Artefact).await?;
        self.0.insert(digest, prepared.module);
        Ok(())
    }

    /// Everything up to the first call: bounds, world, artefact, linking.
    async fn prepare(
        &self,
        class: ModuleClass,
        digest: ModuleDigest,
        component: Bytes,
        keep: Keep,
    ) -> Result<Prepared, ModuleRefused> {
        let inner = self.0.clone();
        let bytes = component.clone();
        blocking(move || inner.inspect(class, digest, &bytes)).await?;
        let inner = self.0.clone();
        let class = blocking(move || inner.class(class)).await?;
        let (inner, shared) = (self.0.clone(), class.clone());
        if let Some(prepared) = blocking(move || Ok(inner.cached(&shared, digest))).await? {
            return Ok(prepared);
        }
        let _turn = self.0.compiling.lock().await;
        let (inner, shared) = (self.0.clone(), class.clone());
        // Whoever had the turn before may have compiled the same module.
        if let Some(prepared) = blocking(move || Ok(inner.cached(&shared, digest))).await? {
            return Ok(prepared);
        }
        let artefact = self.compile(&component, &class).await?;
        let inner = self.0.clone();
        blocking(move || {
            let kept = match keep {
                Keep::Artefact => class.artefacts.put(&digest, &artefact).unwrap_or_else(|error| {
                    // The next start compiles again; that is all.
                    tracing::warn!(module = %digest, %error, "a compiled module cannot be cached");
                    None
                }),
                Keep::Nothing => None,
            };
            let linked = inner.link(&class, digest, &kept.unwrap_or(Artefact::Bytes(artefact)));
            if linked.is_err() {
                class.artefacts.remove(&digest);
            }
            linked
        })
        .await
    }

    async fn compile(&self, component: &Bytes, class: &Class) -> Result<Vec<u8>, ModuleRefused> {
        let counters = &self.0.counters;
        counters.compilations.add(1);
        let compiler = &self.0.config.compiler;
        let (artefact, cost) = compile::compile(compiler, component, &class.limits).await;
        counters.compile_cpu_ms.add(cost.cpu.as_millis() as u64);
        counters.compile_memory_peak_bytes.raise_to(cost.memory_peak_bytes);
        artefact
    }
}

/// What stays of a module that was only tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Its compiled form, in the cache.
    Artefact,
    /// Nothing.
    Nothing,
}

/// A module that can be called, and is not yet known to anyone.
struct Prepared {
    module: Arc<Loaded>,
    code_bytes: usize,
}

impl Inner {
    /// What can be said of a component without compiling it.
    fn inspect(
        &self,
        class: ModuleClass,
        wanted: ModuleDigest,
        component: &[u8],
    ) -> Result<(), ModuleRefused> {
        let found = ModuleDigest::of(component);
        if found != wanted {
            return Err(ModuleRefused::OtherModule { wanted, found });
        }
        bounds::check(component, self.config.limits_of(class)).map_err(|refusal| {
            let larger = class.larger().map(|class| self.config.limits_of(class));
            let fits = larger.is_some_and(|limits| bounds::check(component, limits).is_ok());
            if fits { refusal.fitting_larger() } else { refusal }
        })?;
        // The rest of the world, which needs types, is checked where it is compiled.
        world::check_names(component)
    }

    fn cached(&self, class: &Arc<Class>, digest: ModuleDigest) -> Option<Prepared> {
        let artefact = class.artefacts.get(&digest)?;
        self.link(class, digest, &artefact)
            .inspect_err(|error| tracing::warn!(module = %digest, %error, "recompiling"))
            .ok()
    }

    fn link(
        &self,
        class: &Arc<Class>,
        digest: ModuleDigest,
        artefact: &Artefact,
    ) -> Result<Prepared, ModuleRefused> {
        let refused = |e: wasmtime::Error| {
            let why = format!("{e:#}");
            // The words of all of wasmtime's pool limits.
            let is_of_limits = why.contains("exceeds the");
            ModuleRefused::Load { why, is_of_limits, class: class.limits.class }
        };
        // SAFETY: it comes from this program's own compiler, either just now over a pipe or from
        // the cache, whose checksum and engine hash were right.
        let component = unsafe { artefact.load(&class.engine) }.map_err(refused)?;
        let module = LoadedModule::link(&class.engine, digest, &component, self.log.clone())
            .map_err(refused)?;
        let module = Arc::new(Loaded::new(module, class.clone()));
        Ok(Prepared { module, code_bytes: artefact.bytes() })
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
fn judge(answer: Answer, class: ModuleClass) -> Result<u64, ModuleRefused> {
    match answer {
        Ok(resolution) => Ok(resolution.fuel_used),
        Err(MergeFailure::Refused { .. }) => Ok(0),
        Err(failure) if failure.is_lasting() => Err(ModuleRefused::Probe { failure, class }),
        Err(failure) => Err(ModuleRefused::NodeFault(failure.to_string())),
    }
}
