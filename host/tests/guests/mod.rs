//! Merge modules made from WebAssembly text, for all tests that need one: the merge host's and,
//! by path, those of real nodes.

use std::path::PathBuf;

use bytes::Bytes;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Stator's own WIT package.
pub const WIT: &str = include_str!("../../../wit/merge.wit");

/// The interface that makes a component a merge module.
pub const RESOLVER: &str = "stator:merge/resolver@0.1.0";

/// The signature of `resolve` as a core function: subject, siblings, ancestor; a pointer back.
/// Parameter 4 points at the siblings, each 24 bytes: value (flag, pointer, length), schema, time.
const SIGNATURE: &str = "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64) (result i32)";

/// An allocator that only goes on.
const REALLOC: &str = "(local.set $at
        (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get $at) (local.get 3)))
    (local.get $at)";

/// A body that never ends.
pub const LOOP: &str = "(loop $again (br $again)) (unreachable)";

/// Address of an answer that is all zeros: an empty value, no note, no events.
pub const EMPTY_ANSWER: &str = "(i32.const 64)";

/// The cart component that `make guests` has built.
pub fn cart() -> Bytes {
    built("cart")
}

/// Another one: `or-set`, or one of the tests' own, `tests/options`.
pub fn built(name: &str) -> Bytes {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/components");
    let folder = std::env::var_os("STATOR_COMPONENTS").map_or(built.into(), PathBuf::from);
    let path = folder.join(format!("{name}.wasm"));
    match std::fs::read(&path) {
        Ok(component) => component.into(),
        Err(error) => panic!("{}: {error}; run `make guests`", path.display()),
    }
}

/// A merge module whose `resolve` has this body.
pub fn module(body: &str) -> Bytes {
    module_with("", body)
}

/// The same with further fields in the core module.
pub fn module_with(fields: &str, body: &str) -> Bytes {
    component(WIT, "module", &core(fields, RESOLVER, body))
}

/// A merge module whose allocator has this body.
pub fn module_allocating(realloc: &str) -> Bytes {
    component(WIT, "module", &core_allocating("", RESOLVER, realloc, EMPTY_ANSWER))
}

/// A module that survives the probe (a tombstone) and does `harm` to a value.
pub fn ambush(harm: &str) -> Bytes {
    ambush_with("", harm)
}

/// The same with further fields in the core module.
pub fn ambush_with(fields: &str, harm: &str) -> Bytes {
    let body = format!("(if (i32.load8_u (local.get 4)) (then {harm})) {EMPTY_ANSWER}");
    module_with(fields, &body)
}

/// The text of a core module that exports a memory, an allocator and `resolve`. `fields` come
/// first, as imports must.
pub fn core(fields: &str, interface: &str, body: &str) -> String {
    core_allocating(fields, interface, REALLOC, body)
}

fn core_allocating(fields: &str, interface: &str, realloc: &str, body: &str) -> String {
    format!(
        r#"(module
            {fields}
            (memory (export "memory") 2)
            (global $next (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
                {realloc})
            (func (export "{interface}#resolve") {SIGNATURE}
                {body}))"#
    )
}

/// Encodes a core module as a component of a world of `wit`.
pub fn component(wit: &str, world: &str, core: &str) -> Bytes {
    encode(&typed(wit, world, core), true)
}

/// The same for a core module that is not valid.
pub fn component_unchecked(wit: &str, world: &str, core: &str) -> Bytes {
    encode(&typed(wit, world, core), false)
}

fn encode(core: &[u8], is_valid: bool) -> Bytes {
    let encoder = ComponentEncoder::default().module(core).expect("a module");
    encoder.validate(is_valid).encode().expect("encodes").into()
}

/// A core module that carries the types of a world of `wit`, as a compiler makes it.
pub fn typed(wit: &str, world: &str, core: &str) -> Vec<u8> {
    let mut core = wat::parse_str(core).expect("WebAssembly text");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", wit).expect("WIT");
    let world = resolve.select_world(&[package], Some(world)).expect("the world is there");
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).expect("embeds");
    core
}

/// A core module, as a compiler makes it: not encoded yet.
pub fn core_module() -> Bytes {
    wat::parse_str(core("", RESOLVER, EMPTY_ANSWER)).expect("WebAssembly text").into()
}

/// A component that is no merge module.
pub fn other_world() -> Bytes {
    let wit = "package acme:tools; interface run { go: func(); } world w { export run; }";
    component(wit, "w", r#"(module (func (export "acme:tools/run#go")))"#)
}

/// A merge module that wants more than it may have.
pub fn foreign_import() -> Bytes {
    let spy = "world spy { include module; import secrets: interface { read: func() -> u32; } }";
    let import = r#"(import "secrets" "read" (func $read (result i32)))"#;
    let body = format!("(drop (call $read)) {EMPTY_ANSWER}");
    component(&format!("{WIT} {spy}"), "spy", &core(import, RESOLVER, &body))
}

/// A body of about `bytes` that changes `locals` variables inside of `loops` loops, each inside the
/// one before: small to write, but each variable is another one in each loop for a compiler. The
/// first 12 locals are the parameters of `resolve`.
pub fn many_locals(locals: usize, bytes: usize, loops: usize) -> String {
    const STEP_BYTES: usize = 6;
    const LOOP_BYTES: usize = 7;
    let steps = (0..bytes.saturating_sub(loops * LOOP_BYTES) / STEP_BYTES).map(|step| {
        let (to, from) = (12 + step % locals, 12 + (step * 7 + 1) % locals);
        format!("local.get {from} local.set {to} ")
    });
    // Written flat: a text parser would dive for folded ones.
    format!(
        "(local {}) {} {} {}",
        "i64 ".repeat(locals),
        "loop ".repeat(loops),
        steps.collect::<String>(),
        "i32.const 0 br_if 0 end ".repeat(loops)
    )
}

/// A module within all bounds that keeps the compiler busy for longer than anyone waits. Each
/// `variant` has other bytes.
pub fn compile_bomb(variant: u32) -> Bytes {
    let body = many_locals(1_900, 200_000, 3_000);
    let function = format!("(func (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64) {body})");
    let mark = format!("(func (drop (i32.const {variant})))");
    module_with(&format!("{}{mark}", function.repeat(9)), EMPTY_ANSWER)
}
