//! WIT types for a core module that carries none.
//!
//! Which world it has follows from what it exports. Every function of the WIT has a word of its own,
//! so `resolve` can stand for `stator:merge/resolver@0.1.0#resolve`: AssemblyScript, for one, exports
//! by identifiers only.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use wasm_encoder::reencode::{Reencode as _, RoundtripReencoder};
use wasm_encoder::{ExportSection, Module, RawSection};
use wasmparser::{ExportSectionReader, Parser, Payload, TypeRef};
use wit_component::StringEncoding;
use wit_parser::Resolve;

use super::super::world::{OPTIONS, RESOLVER};
use super::WIT;

/// The functions of the interfaces that a module may export, by their last word.
const FUNCTIONS: [(&str, &str); 6] = [
    ("resolve", RESOLVER),
    ("samples", OPTIONS[0]),
    ("preserves", OPTIONS[1]),
    ("validate", OPTIONS[2]),
    ("schema", OPTIONS[3]),
    ("migrate", OPTIONS[3]),
];

/// The module with WIT types: unchanged if it has some.
pub(super) fn with_types(core: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut interfaces = Vec::new();
    for payload in Parser::new(0).parse_all(core) {
        match payload? {
            Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                return Ok(core.to_vec());
            }
            Payload::ExportSection(exports) => interfaces = interfaces_of(exports)?,
            _ => {}
        }
    }
    ensure!(
        interfaces.contains(&RESOLVER),
        "the module exports neither `{RESOLVER}#resolve` nor `resolve`"
    );
    let mut named = with_full_names(core)?;
    let (wit, world) = world_of(&interfaces)?;
    wit_component::embed_component_metadata(&mut named, &wit, world, StringEncoding::UTF8)?;
    Ok(named)
}

/// The names of the functions that a core module imports from `module`.
pub(super) fn imports(core: &[u8], module: &str) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(core) {
        if let Payload::ImportSection(section) = payload? {
            for import in section.into_imports() {
                let import = import?;
                if import.module == module && matches!(import.ty, TypeRef::Func(_)) {
                    names.push(import.name.to_owned());
                }
            }
        }
    }
    Ok(names)
}

/// The full name of an export and its interface, if it is one of the WIT's.
fn full_name(export: &str) -> Option<(String, &'static str)> {
    let named = |(word, interface): &(&str, &'static str)| {
        let full = format!("{interface}#{word}");
        (export == *word || export == full).then_some((full, *interface))
    };
    FUNCTIONS.iter().find_map(named)
}

fn interfaces_of(exports: ExportSectionReader<'_>) -> anyhow::Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for export in exports {
        found.extend(full_name(export?.name).map(|(_, interface)| interface));
    }
    Ok(found)
}

/// The module with every export under its full name.
fn with_full_names(core: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(core) {
        let payload = payload?;
        if let Payload::ExportSection(exports) = payload {
            let mut renamed = ExportSection::new();
            for export in exports {
                let export = export?;
                let name = full_name(export.name).map(|(full, _)| full);
                let name = name.as_deref().unwrap_or(export.name);
                let kind = RoundtripReencoder.export_kind(export.kind)?;
                renamed.export(name, kind, export.index);
            }
            module.section(&renamed);
        } else if let Some((id, range)) = payload.as_section() {
            module.section(&RawSection { id, data: &core[range] });
        }
    }
    Ok(module.finish())
}

fn world_of(interfaces: &[&str]) -> anyhow::Result<(Resolve, wit_parser::WorldId)> {
    let mut text =
        "package stator:encoded; world module { import stator:merge/log@0.1.0;".to_owned();
    for (at, interface) in interfaces.iter().enumerate() {
        if !interfaces[..at].contains(interface) {
            write!(text, " export {interface};")?;
        }
    }
    text.push_str(" }");
    let mut wit = Resolve::default();
    wit.push_str("merge.wit", WIT)?;
    let package = wit.push_str("encoded.wit", &text).context("Stator's own WIT")?;
    let world = wit.select_world(&[package], Some("module"))?;
    Ok((wit, world))
}
