//! Counts what a component holds, before anything compiles it.
//!
//! Compiling is not linear in the size of a module. All of these are valid and none is large:
//! 64 KiB with 20,000 locals take 3.6 s and 514 MB, 256 KiB of that kind more than 12 GB, 1 MiB of
//! tiny functions 976 MB. Counting is linear and needs no memory.

use wasmparser::{
    BinaryReader, ComponentTypeSectionReader, Encoding, FunctionBody, Parser, Payload,
};

use super::limits::Limits;
use super::nesting;
use super::refused::ModuleRefused;

/// Refuses what is no component, or one that is larger in any respect than `limits` allow. What
/// passes need not be valid.
pub(super) fn check(component: &[u8], limits: &Limits) -> Result<(), ModuleRefused> {
    let bytes = component.len() as u64;
    within("bytes", bytes, limits.component_bytes_max as u64, limits)?;
    if !component.starts_with(b"\0asm") {
        return Err(ModuleRefused::NotWasm);
    }
    if Parser::is_core_wasm(component) {
        return Err(ModuleRefused::CoreModule);
    }
    let mut count = Count {
        component,
        limits,
        modules: 0,
        functions: 0,
        depth: 0,
        declarations: 0,
        instances: 0,
    };
    for payload in Parser::new(0).parse_all(component) {
        count.take(&payload.map_err(malformed)?)?;
    }
    Ok(())
}

/// What has been seen so far, in all core modules at any depth.
struct Count<'a> {
    component: &'a [u8],
    limits: &'a Limits,
    modules: u32,
    functions: u32,
    depth: u32,
    declarations: u64,
    instances: u64,
}

impl Count<'_> {
    fn take(&mut self, payload: &Payload<'_>) -> Result<(), ModuleRefused> {
        match payload {
            Payload::Version { encoding, .. } => self.enter(*encoding),
            Payload::End(_) => {
                self.depth -= 1;
                Ok(())
            }
            Payload::ComponentTypeSection(s) => self.types(s),
            Payload::CoreTypeSection(s) => self.declare(s.count()),
            Payload::InstanceSection(s) => self.declare(s.count()),
            Payload::ComponentInstanceSection(s) => {
                self.instances += u64::from(s.count());
                let max = self.limits.component_instances_max.into();
                within("instances of components", self.instances, max, self.limits)?;
                self.declare(s.count())
            }
            Payload::ComponentAliasSection(s) => self.declare(s.count()),
            Payload::ComponentCanonicalSection(s) => self.declare(s.count()),
            Payload::ComponentImportSection(s) => {
                self.declare(s.count())?;
                s.clone()
                    .into_iter()
                    .try_for_each(|import| self.name(import.map_err(malformed)?.name.name))
            }
            Payload::ComponentExportSection(s) => {
                self.declare(s.count())?;
                s.clone()
                    .into_iter()
                    .try_for_each(|export| self.name(export.map_err(malformed)?.name.name))
            }
            _ => self.take_core(payload),
        }
    }

    fn enter(&mut self, encoding: Encoding) -> Result<(), ModuleRefused> {
        let limits = self.limits;
        self.depth += 1;
        within(
            "components inside one another",
            self.depth.into(),
            limits.nesting_max.into(),
            limits,
        )?;
        match encoding {
            Encoding::Component => Ok(()),
            Encoding::Module => {
                self.modules += 1;
                let max = limits.core_modules_max.into();
                within("core modules", self.modules.into(), max, limits)
            }
        }
    }

    fn types(&mut self, section: &ComponentTypeSectionReader<'_>) -> Result<(), ModuleRefused> {
        let range = section.range();
        let bytes = self.component.get(range.clone()).unwrap_or_default();
        let max = self.limits.nesting_max;
        let depth = nesting::depth_of_types(BinaryReader::new(bytes, range.start), max);
        let depth = depth.map_err(malformed)?;
        within("types inside one another", depth.into(), max.into(), self.limits)?;
        self.declare(section.count())
    }

    fn declare(&mut self, count: u32) -> Result<(), ModuleRefused> {
        self.declarations += u64::from(count);
        let max = self.limits.declarations_max.into();
        within("declarations", self.declarations, max, self.limits)
    }

    fn name(&self, name: &str) -> Result<(), ModuleRefused> {
        let max = self.limits.name_bytes_max.into();
        within("bytes in one name", name.len() as u64, max, self.limits)
    }

    fn take_core(&mut self, payload: &Payload<'_>) -> Result<(), ModuleRefused> {
        let limits = self.limits;
        match payload {
            Payload::CodeSectionStart { count, .. } => {
                let functions = u64::from(self.functions) + u64::from(*count);
                within("functions", functions, limits.functions_max.into(), limits)
            }
            Payload::CodeSectionEntry(body) => {
                self.functions += 1;
                self.function(body)
            }
            _ => Ok(()),
        }
    }

    fn function(&self, body: &FunctionBody<'_>) -> Result<(), ModuleRefused> {
        let (number, limits) = (self.functions, self.limits);
        let range = body.range();
        let what = || format!("bytes in function {number}");
        within_named(
            what,
            (range.end - range.start) as u64,
            limits.function_bytes_max.into(),
            limits,
        )?;
        let mut locals: u64 = 0;
        for group in body.get_locals_reader().map_err(malformed)? {
            let (count, _) = group.map_err(malformed)?;
            locals += u64::from(count);
        }
        let what = || format!("locals in function {number}");
        within_named(what, locals, limits.function_locals_max.into(), limits)
    }
}

fn within(what: &str, found: u64, max: u64, limits: &Limits) -> Result<(), ModuleRefused> {
    within_named(|| what.to_owned(), found, max, limits)
}

fn within_named(
    what: impl FnOnce() -> String,
    found: u64,
    max: u64,
    limits: &Limits,
) -> Result<(), ModuleRefused> {
    if found <= max {
        return Ok(());
    }
    Err(ModuleRefused::TooLarge {
        what: what(),
        found,
        max,
        class: limits.class,
        fits_larger: false,
    })
}

fn malformed(error: wasmparser::BinaryReaderError) -> ModuleRefused {
    ModuleRefused::Malformed(error.to_string())
}
