//! Checks a component's imports and exports by name.
//!
//! A module that imports nothing can do nothing but compute, so the sandbox is decided here. Two
//! imports do no harm: `types`, which holds only types (a component names them that way when an
//! exported function uses them), and `log`. Whether signatures fit is for the linker and for the
//! first call to say.

use wasmparser::component_types::{ComponentEntityType, ComponentInstanceTypeId};
use wasmparser::types::{Types, TypesRef};
use wasmparser::{ComponentExternName, Parser, Payload, Validator};

use super::refused::ModuleRefused;

/// The interface that makes a component a merge module.
pub(super) const RESOLVER: &str = "stator:merge/resolver@0.1.0";
/// The options, each by the name of its interface.
pub(super) const OPTIONS: [&str; 4] = [
    "stator:merge/sampler@0.1.0",
    "stator:merge/invariant@0.1.0",
    "stator:merge/validator@0.1.0",
    "stator:merge/migration@0.1.0",
];
/// The one import that does something.
pub(super) const LOG: &str = "stator:merge/log@0.1.0";
const TYPES: &str = "stator:merge/types@0.1.0";
const PACKAGE: &str = "stator:merge/";

/// Refuses a component that is not valid, imports more than it may, lacks the resolver, or
/// exports what this host does not know. An option's type is checked at the first call.
///
/// Validating hostile bytes can take any amount of memory: a node leaves it to its compiling
/// process and asks for [`check_names`] only.
pub(super) fn check(component: &[u8]) -> Result<(), ModuleRefused> {
    let imports = names(component)?;
    let types = Validator::new().validate_all(component).map_err(malformed)?;
    imports.iter().try_for_each(|name| check_import(name, &types))
}

/// What of [`check`] can be said by names alone, in time and memory linear in the bytes. What
/// passes need not be valid.
pub(super) fn check_names(component: &[u8]) -> Result<(), ModuleRefused> {
    names(component).map(drop)
}

fn malformed(error: wasmparser::BinaryReaderError) -> ModuleRefused {
    ModuleRefused::Malformed(error.to_string())
}

/// A version may stand apart from the name that it is of.
fn full(name: ComponentExternName<'_>) -> String {
    [name.name, name.version_suffix.unwrap_or_default()].concat()
}

/// Checks the names of exports and imports; returns the latter.
fn names(component: &[u8]) -> Result<Vec<String>, ModuleRefused> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(malformed)? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(full(import.map_err(malformed)?.name));
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(full(export.map_err(malformed)?.name));
                }
            }
            _ => {}
        }
    }
    check_exports(&exports)?;
    imports.iter().try_for_each(|name| functions_of(name).map(drop))?;
    Ok(imports)
}

/// What a component shows to the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surface {
    /// The resolver's interface with its version.
    pub world: String,
    /// What it imports, types left out.
    pub imports: Vec<String>,
}

/// Reads the names of a component's exports and imports. Checks nothing.
pub fn surface(component: &[u8]) -> Result<Surface, ModuleRefused> {
    let mut surface = Surface { world: String::new(), imports: Vec::new() };
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(malformed)? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let name = full(import.map_err(malformed)?.name);
                    if interface(&name) != "types" {
                        surface.imports.push(name);
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    let name = full(export.map_err(malformed)?.name);
                    if interface(&name) == "resolver" {
                        surface.world = name;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(surface)
}

/// The functions that the import of this name may have.
fn functions_of(name: &str) -> Result<&'static [&'static str], ModuleRefused> {
    let refuse = |why| Err(ModuleRefused::ImportRefused { name: shown(name), why });
    if !name.starts_with(PACKAGE) {
        return refuse("a module may import `stator:merge/log` and nothing else");
    }
    match interface(name) {
        "types" => fits(name, TYPES).map(|()| &[][..]),
        "log" => fits(name, LOG).map(|()| &["write"][..]),
        _ => refuse("of Stator's interfaces, a module may import `log` only"),
    }
}

fn check_import(name: &str, types: &Types) -> Result<(), ModuleRefused> {
    let (functions, types) = (functions_of(name)?, types.as_ref());
    match types.component_item_for_import(name).map(|item| item.ty) {
        Some(ComponentEntityType::Instance(id)) if holds_only(types, id, functions) => Ok(()),
        _ => {
            let why = "it asks for more than the interface of that name has";
            Err(ModuleRefused::ImportRefused { name: shown(name), why })
        }
    }
}

/// Characters of a foreign name that an error repeats.
const SHOWN_CHARS_MAX: usize = 100;
/// Foreign names that an error repeats.
const SHOWN_NAMES_MAX: usize = 10;

/// A name as an error repeats it: a message of 100 KB would reach nobody.
fn shown(name: &str) -> String {
    match name.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.to_owned(),
    }
}

/// Whether an instance consists of types and, at most, these functions.
fn holds_only(types: TypesRef<'_>, id: ComponentInstanceTypeId, functions: &[&str]) -> bool {
    types[id].exports.iter().all(|(name, item)| match item.ty {
        ComponentEntityType::Type { .. } => true,
        ComponentEntityType::Func(_) => functions.contains(&name.as_str()),
        _ => false,
    })
}

/// Whether an interface is of Stator's package.
pub(super) fn is_stators(name: &str) -> bool {
    name.starts_with(PACKAGE)
}

fn check_exports(exports: &[String]) -> Result<(), ModuleRefused> {
    let mut resolver = false;
    for name in exports.iter().filter(|name| is_stators(name)) {
        let known = || [RESOLVER].into_iter().chain(OPTIONS);
        let Some(supported) = known().find(|known| interface(known) == interface(name)) else {
            let supported = known().collect::<Vec<_>>().join("`, `");
            return Err(ModuleRefused::UnknownExport { name: shown(name), supported });
        };
        fits(name, supported)?;
        resolver |= supported == RESOLVER;
    }
    if resolver {
        return match exports.iter().find(|name| !is_stators(name)) {
            Some(name) => Err(ModuleRefused::ForeignExport { name: shown(name) }),
            None => Ok(()),
        };
    }
    let found = match exports {
        [] => "nothing".to_owned(),
        names => {
            let shown = names.iter().take(SHOWN_NAMES_MAX).map(|name| format!("`{}`", shown(name)));
            let shown = shown.collect::<Vec<_>>().join(", ");
            match names.len().saturating_sub(SHOWN_NAMES_MAX) {
                0 => shown,
                more => format!("{shown} and {more} more"),
            }
        }
    };
    Err(ModuleRefused::ResolverMissing { wanted: RESOLVER, found })
}

/// `resolver` of `stator:merge/resolver@0.1.0`.
fn interface(name: &str) -> &str {
    let name = name.strip_prefix(PACKAGE).unwrap_or(name);
    name.split_once('@').map_or(name, |(interface, _)| interface)
}

/// Any 0.1.x is the same interface: within 0.1 nothing changes, interfaces are only added.
fn fits(name: &str, supported: &'static str) -> Result<(), ModuleRefused> {
    let version = name.split_once('@').map(|(_, version)| version);
    match version.and_then(|version| version.strip_prefix("0.1.")) {
        Some(patch) if !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        _ => Err(ModuleRefused::WrongVersion { name: shown(name), supported }),
    }
}
