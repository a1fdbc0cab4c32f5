//! Merge modules: the real cart, and bad ones from WebAssembly text.

use std::path::PathBuf;

use stator_proto::upload;
use stator_proto::v1::PushModuleRequest;
use tonic::codegen::Bytes;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A body of `resolve` that never ends.
pub const LOOP: &str = "(loop $again (br $again)) (unreachable)";

/// Address of an answer that is all zeros: an empty value, no note, no events.
const EMPTY_ANSWER: &str = "(i32.const 64)";

/// Stator's own WIT package.
const WIT: &str = include_str!("../../../../wit/merge.wit");

/// The signature of `resolve` as a core function: subject, siblings, ancestor; a pointer back.
const SIGNATURE: &str = "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64) (result i32)";

/// The cart component that `make guests` has built.
pub fn cart() -> Bytes {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/components");
    let folder = std::env::var_os("STATOR_COMPONENTS").map_or(built.into(), PathBuf::from);
    let path = folder.join("cart.wasm");
    match std::fs::read(&path) {
        Ok(component) => component.into(),
        Err(error) => panic!("{}: {error}; run `make guests`", path.display()),
    }
}

/// A merge module whose `resolve` has this body.
pub fn module(body: &str) -> Bytes {
    component(WIT, "module", &core("", body))
}

/// A core module, as a compiler makes it: not encoded yet.
pub fn core_module() -> Bytes {
    wat::parse_str(core("", EMPTY_ANSWER)).expect("WebAssembly text").into()
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
    component(&format!("{WIT} {spy}"), "spy", &core(import, &body))
}

/// The messages that upload `component`.
pub fn pushing(component: Bytes) -> impl futures::Stream<Item = PushModuleRequest> + Send {
    futures::stream::iter(upload::messages("bad".to_owned(), String::new(), component, false))
}

fn core(fields: &str, body: &str) -> String {
    format!(
        r#"(module
            {fields}
            (memory (export "memory") 2)
            (global $next (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
                (local.set $at
                    (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.set $next (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            (func (export "stator:merge/resolver@0.1.0#resolve") {SIGNATURE}
                {body}))"#
    )
}

fn component(wit: &str, world: &str, core: &str) -> Bytes {
    let mut core = wat::parse_str(core).expect("WebAssembly text");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", wit).expect("WIT");
    let world = resolve.select_world(&[package], Some(world)).expect("the world is there");
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false)
        .expect("embeds");
    let mut encoder = ComponentEncoder::default();
    encoder.module(&core).expect("a module").validate(true).encode().expect("encodes").into()
}
