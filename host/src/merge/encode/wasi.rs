//! A stand-in for what a component imports of WASI 0.2, made for each component.
//!
//! The component's own types of its imports say what must be there: for every function a body is
//! written (as WebAssembly text) whose result is the plainest of its type: `err` of a result, the first
//! case without a resource of a variant, none, empty, zero, a fresh resource. The few functions that
//! do something have a body of their own ([`own_body`]). Made a component, it is composed with the
//! module, and nothing of WASI is left.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Context as _;
use wac_graph::{CompositionGraph, EncodeOptions, types::Package};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{
    Function, Handle, LiftLowerAbi, ManglingAndAbi, Resolve, ResourceIntrinsic, SizeAlign, Type,
    TypeDefKind, TypeId, WasmExport, WasmExportKind, WasmImport, WorldId, WorldItem, WorldKey,
};

use super::super::world;
use super::{Encoded, WIT};

const MANGLING: ManglingAndAbi = ManglingAndAbi::Legacy(LiftLowerAbi::Sync);
/// Where the answers of the stand-in lie in its memory, one at a time.
const ANSWER: usize = 16;
/// More than any answer of WASI has.
const ANSWER_BYTES: usize = 1024;
/// Bytes that an output stream says it can take at a time.
const WRITE_BYTES: u64 = 4096;

/// Puts `component` beside a stand-in for what it imports of WASI, and lets out only Stator's
/// interfaces. `None` if there is nothing to do.
pub(super) fn enclose(component: &[u8]) -> anyhow::Result<Option<Encoded>> {
    let DecodedWasm::Component(wit, world) = decode(component)? else {
        anyhow::bail!("this is a package of WIT, not a component");
    };
    let name = |key: &WorldKey| wit.name_world_key(key);
    let imports = wit.worlds[world].imports.keys().map(name);
    let wanted: Vec<_> = imports.filter(|name| name.starts_with("wasi:")).collect();
    let exports = wit.worlds[world].exports.keys().map(name);
    let (kept, dropped): (Vec<_>, Vec<_>) = exports.partition(|name| world::is_stators(name));
    if wanted.is_empty() && dropped.is_empty() {
        return Ok(None);
    }
    let mut remarks: Vec<_> =
        dropped.iter().map(|name| format!("the export `{name}` is left out")).collect();
    let mut graph = CompositionGraph::new();
    let module = Package::from_bytes("stator:module", None, component, graph.types_mut())?;
    let module = graph.register_package(module)?;
    let module = graph.instantiate(module);
    if !wanted.is_empty() {
        let (stand_in, functions) = stand_in(wit, &wanted)?;
        remarks.extend(self::remarks(functions.iter().map(String::as_str)));
        let stand_in = Package::from_bytes("stator:wasi", None, stand_in, graph.types_mut())?;
        let stand_in = graph.register_package(stand_in)?;
        let stand_in = graph.instantiate(stand_in);
        for name in &wanted {
            let interface = graph.alias_instance_export(stand_in, name)?;
            graph.set_instantiation_argument(module, name, interface)?;
        }
    }
    for name in &kept {
        let interface = graph.alias_instance_export(module, name)?;
        graph.export(interface, name)?;
    }
    let component = graph.encode(EncodeOptions::default())?;
    Ok(Some(Encoded { component, remarks }))
}

/// What an author should know of the functions of WASI that a module has.
pub(super) fn remarks<'a>(functions: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut remarks = BTreeSet::new();
    for function in functions {
        remarks.insert(match function {
            "fd_write" | "get-stdout" | "get-stderr" => {
                "what it prints becomes lines of the module's log"
            }
            "clock_time_get" | "now" => "its clocks stand at 0: a merge has no time",
            "random_get"
            | "get-random-bytes"
            | "get-random-u64"
            | "get-insecure-random-bytes"
            | "get-insecure-random-u64"
            | "insecure-seed" => "its random bytes are zeros",
            "path_open" | "[method]descriptor.open-at" => "it can open files; there are none",
            "sock_accept" | "create-tcp-socket" => "it can open sockets, which always fails",
            _ => continue,
        });
    }
    remarks.into_iter().map(str::to_owned).collect()
}

/// The stand-in as a component, and the names of its functions.
fn stand_in(wit: Resolve, wanted: &[String]) -> anyhow::Result<(Vec<u8>, Vec<String>)> {
    let mut own = Resolve::default();
    own.push_str("merge.wit", WIT)?;
    // What the component knows of Stator's package is a part of it.
    own.merge(wit).context("its WIT differs from Stator's")?;
    let mut text = "package stator:wasi; world wasi { import stator:merge/log@0.1.0;".to_owned();
    for name in wanted {
        write!(text, " export {name};")?;
    }
    text.push_str(" }");
    let package = own.push_str("wasi.wit", &text)?;
    let world = own.select_world(&[package], Some("wasi"))?;
    let (text, functions) = Writer::new(&own, world).module()?;
    let mut core = wat::parse_str(text)?;
    wit_component::embed_component_metadata(&mut core, &own, world, StringEncoding::UTF8)?;
    let component = ComponentEncoder::default().module(&core)?.validate(true).encode()?;
    Ok((component, functions))
}

/// Writes the stand-in's core module.
struct Writer<'a> {
    wit: &'a Resolve,
    world: WorldId,
    sizes: SizeAlign,
    imports: String,
    body: String,
}

impl<'a> Writer<'a> {
    fn new(wit: &'a Resolve, world: WorldId) -> Self {
        let mut sizes = SizeAlign::default();
        sizes.fill(wit);
        Writer { wit, world, sizes, imports: String::new(), body: String::new() }
    }

    fn module(mut self) -> anyhow::Result<(String, Vec<String>)> {
        let mut functions = Vec::new();
        for (key, item) in &self.wit.worlds[self.world].exports {
            let WorldItem::Interface { id, .. } = item else { continue };
            let interface = &self.wit.interfaces[*id];
            for id in interface.types.values() {
                self.resource(key, *id)?;
            }
            for function in interface.functions.values() {
                self.function(key, function)?;
                functions.push(function.name.clone());
            }
        }
        let heap = ANSWER + ANSWER_BYTES;
        let text = format!(
            r#"(module
  (import "stator:merge/log@0.1.0" "write" (func $write (param i32 i32 i32)))
{imports}
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const {heap}))
  ;; Nothing is ever freed: an instance lives for one call.
  (func $realloc (export "cabi_realloc") (param $old i32) (param $has i32) (param $align i32)
    (param $bytes i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $at) (local.get $bytes)))
    (if (i32.lt_u (global.get $heap) (local.get $at)) (then unreachable))
    (if (i32.gt_u (global.get $heap) (i32.shl (memory.size) (i32.const 16)))
      (then (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1)
        (i32.shr_u (i32.sub (global.get $heap) (i32.shl (memory.size) (i32.const 16))) (i32.const 16)))))
        (then unreachable))))
    (memory.copy (local.get $at) (local.get $old) (local.get $has))
    (local.get $at))
{body}{say})"#,
            imports = self.imports,
            body = self.body,
            say = include_str!("say.wat"),
        );
        Ok((text, functions))
    }

    /// The import by which a resource is made.
    fn resource(&mut self, key: &WorldKey, id: TypeId) -> anyhow::Result<()> {
        if matches!(self.wit.types[id].kind, TypeDefKind::Resource) {
            let intrinsic = ResourceIntrinsic::ExportedNew;
            let import =
                WasmImport::ResourceIntrinsic { interface: Some(key), resource: id, intrinsic };
            let (module, name) = self.wit.wasm_import_name(MANGLING, import);
            let new = id.index();
            writeln!(
                self.imports,
                "  (import {module:?} {name:?} (func $new{new} (param i32) (result i32)))"
            )?;
        }
        Ok(())
    }

    fn function(&mut self, key: &WorldKey, function: &Function) -> anyhow::Result<()> {
        let signature = self.wit.wasm_signature(AbiVariant::GuestExport, function);
        let kind = WasmExportKind::Normal;
        let export = WasmExport::Func { interface: Some(key), func: function, kind };
        let name = self.wit.wasm_export_name(MANGLING, export);
        let interface = self.wit.name_world_key(key);
        let interface = interface.split('@').next().unwrap_or_default();
        let body = match own_body(interface, &function.name) {
            Some(body) => body,
            None => match &function.result {
                None if traps(interface, &function.name) => "unreachable".to_owned(),
                None => String::new(),
                Some(result) if signature.retptr => self.stored_answer(result)?,
                Some(result) => self.plain(result, signature.results.first(), number(interface)),
            },
        };
        let types = |word: &str, types: &[WasmType]| match types {
            [] => String::new(),
            _ => format!(" ({word} {})", types.iter().map(core_type).collect::<Vec<_>>().join(" ")),
        };
        writeln!(
            self.body,
            "  (func (export {name:?}){}{} {body})",
            types("param", &signature.params),
            types("result", &signature.results),
        )?;
        Ok(())
    }

    /// An answer that lies in memory.
    fn stored_answer(&self, result: &Type) -> anyhow::Result<String> {
        let bytes = self.sizes.size(result).size_wasm32();
        anyhow::ensure!(
            bytes <= ANSWER_BYTES,
            "a function of WASI with an answer of {bytes} bytes"
        );
        let mut body =
            format!("(memory.fill (i32.const {ANSWER}) (i32.const 0) (i32.const {ANSWER_BYTES}))");
        self.store(result, ANSWER, &mut body);
        write!(body, " (i32.const {ANSWER})")?;
        Ok(body)
    }

    /// Stores of the plainest value of a type all that is not zero.
    fn store(&self, ty: &Type, at: usize, body: &mut String) {
        let Type::Id(id) = ty else { return };
        let mut byte = |at: usize, value: usize, bytes: usize| {
            let _ = write!(
                body,
                " (i32.store{} (i32.const {at}) (i32.const {value}))",
                if bytes == 4 { String::new() } else { (8 * bytes).to_string() }
            );
        };
        match &self.wit.types[*id].kind {
            TypeDefKind::Type(ty) => self.store(ty, at, body),
            TypeDefKind::Record(record) => {
                let fields = self.sizes.field_offsets(record.fields.iter().map(|field| &field.ty));
                for (offset, ty) in fields {
                    self.store(ty, at + offset.size_wasm32(), body);
                }
            }
            TypeDefKind::Tuple(tuple) => {
                for (offset, ty) in self.sizes.field_offsets(&tuple.types) {
                    self.store(ty, at + offset.size_wasm32(), body);
                }
            }
            TypeDefKind::Result(result) => {
                byte(at, 1, 1);
                if let Some(err) = &result.err {
                    let cases = [result.ok.as_ref(), result.err.as_ref()];
                    let offset = self.sizes.payload_offset(wit_parser::Int::U8, cases);
                    self.store(err, at + offset.size_wasm32(), body);
                }
            }
            TypeDefKind::Variant(variant) => {
                let plain = |ty: &Option<Type>| ty.is_none_or(|ty| !self.has_handle(&ty));
                let case = variant.cases.iter().position(|case| plain(&case.ty)).unwrap_or(0);
                let tag = match variant.tag() {
                    wit_parser::Int::U8 => 1,
                    wit_parser::Int::U16 => 2,
                    _ => 4,
                };
                byte(at, case, tag);
                if let Some(ty) = &variant.cases[case].ty {
                    let cases = variant.cases.iter().map(|case| case.ty.as_ref());
                    let offset = self.sizes.payload_offset(variant.tag(), cases);
                    self.store(ty, at + offset.size_wasm32(), body);
                }
            }
            TypeDefKind::Handle(Handle::Own(resource)) => {
                let new = self.resource_of(*resource).index();
                let _ =
                    write!(body, " (i32.store (i32.const {at}) (call $new{new} (i32.const 0)))");
            }
            _ => {}
        }
    }

    /// The plainest value of a type that is a single number; a resource gets `number`.
    fn plain(&self, ty: &Type, core: Option<&WasmType>, number: u32) -> String {
        let zero = format!("({}.const 0)", core.map_or("i32", core_type));
        let Type::Id(id) = ty else { return zero };
        match &self.wit.types[*id].kind {
            TypeDefKind::Type(ty) => self.plain(ty, core, number),
            TypeDefKind::Record(record) => match record.fields.as_slice() {
                [field] => self.plain(&field.ty, core, number),
                _ => zero,
            },
            TypeDefKind::Result(_) => "(i32.const 1)".to_owned(),
            TypeDefKind::Handle(Handle::Own(resource)) => {
                format!("(call $new{} (i32.const {number}))", self.resource_of(*resource).index())
            }
            _ => zero,
        }
    }

    /// The resource behind the names that interfaces use for it.
    fn resource_of(&self, id: TypeId) -> TypeId {
        match &self.wit.types[id].kind {
            TypeDefKind::Type(Type::Id(behind)) => self.resource_of(*behind),
            _ => id,
        }
    }

    fn has_handle(&self, ty: &Type) -> bool {
        let Type::Id(id) = ty else { return false };
        match &self.wit.types[*id].kind {
            TypeDefKind::Handle(_) => true,
            TypeDefKind::Type(ty) => self.has_handle(ty),
            TypeDefKind::Record(record) => {
                record.fields.iter().any(|field| self.has_handle(&field.ty))
            }
            TypeDefKind::Tuple(tuple) => tuple.types.iter().any(|ty| self.has_handle(ty)),
            _ => false,
        }
    }
}

/// The body of a function that does something. A stream is known by its number, which for what is
/// printed is the level of the log: 1 `info`, 2 `warn`.
fn own_body(interface: &str, function: &str) -> Option<String> {
    let is_ok = format!(
        "(memory.fill (i32.const {ANSWER}) (i32.const 0) (i32.const {ANSWER_BYTES})) \
         (i32.const {ANSWER})"
    );
    Some(match (interface, function) {
        (
            "wasi:io/streams",
            "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush",
        ) => format!(
            "(if (local.get 0) (then (call $say (local.get 0) (local.get 1) (local.get 2)))) {is_ok}"
        ),
        ("wasi:io/streams", "[method]output-stream.check-write") => format!(
            "(memory.fill (i32.const {ANSWER}) (i32.const 0) (i32.const {ANSWER_BYTES})) \
             (i64.store (i32.const {}) (i64.const {WRITE_BYTES})) (i32.const {ANSWER})",
            ANSWER + 8
        ),
        (
            "wasi:io/streams",
            "[method]output-stream.flush" | "[method]output-stream.blocking-flush",
        ) => is_ok,
        // All is ready at once: who waits for a clock that stands would wait for ever.
        ("wasi:io/poll", "[method]pollable.ready") => "(i32.const 1)".to_owned(),
        ("wasi:io/poll", "poll") => format!(
            "(i32.store (i32.const {ANSWER}) (i32.const {list})) \
             (i32.store (i32.const {}) (i32.const 1)) (i32.store (i32.const {list}) (i32.const 0)) \
             (i32.const {ANSWER})",
            ANSWER + 4,
            list = ANSWER + 8,
        ),
        ("wasi:random/random", "get-random-bytes")
        | ("wasi:random/insecure", "get-insecure-random-bytes") => format!(
            "(if (i64.gt_u (local.get 0) (i64.const 0xffffff)) (then unreachable)) \
             (i32.store (i32.const {ANSWER}) (call $realloc (i32.const 0) (i32.const 0) \
             (i32.const 1) (i32.wrap_i64 (local.get 0)))) \
             (i32.store (i32.const {}) (i32.wrap_i64 (local.get 0))) (i32.const {ANSWER})",
            ANSWER + 4
        ),
        ("wasi:clocks/monotonic-clock", "resolution") => "(i64.const 1)".to_owned(),
        _ => return None,
    })
}

/// The number of the stream that an interface gives: 1 and 2 are what is printed.
fn number(interface: &str) -> u32 {
    match interface {
        "wasi:cli/stdout" => 1,
        "wasi:cli/stderr" => 2,
        _ => 0,
    }
}

/// Functions without an answer that do not return.
fn traps(interface: &str, function: &str) -> bool {
    interface == "wasi:cli/exit" && function.starts_with("exit")
}

fn core_type(ty: &WasmType) -> &'static str {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
    }
}
