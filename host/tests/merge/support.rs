//! Hosts, divergences, and components made from WebAssembly text.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use stator::merge::{Limits, MergeHost, MergeHostConfig};
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion, Outcome, Resolution};
use tempfile::TempDir;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A host with a cache of its own, which goes with it.
pub struct TestHost {
    pub host: MergeHost,
    pub cache: TempDir,
}

impl TestHost {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    /// A host whose set-up the test has changed.
    pub fn with(change: impl FnOnce(&mut MergeHostConfig)) -> Self {
        let cache = tempfile::tempdir().expect("a temporary directory");
        let host = host_on(cache.path(), change);
        TestHost { host, cache }
    }

    pub fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        Self::with(|config| change(&mut config.limits))
    }
}

/// A host on a cache that exists.
pub fn host_on(cache: &Path, change: impl FnOnce(&mut MergeHostConfig)) -> MergeHost {
    let mut config = MergeHostConfig::new(cache).expect("this program has a path");
    config.compiler = PathBuf::from(env!("CARGO_BIN_EXE_stator"));
    change(&mut config);
    MergeHost::new(config).expect("the engine starts")
}

/// The cart component that `make guests` has built.
pub fn cart() -> Bytes {
    built("cart")
}

/// Another one: `or-set`, or one of the test's own, `tests/options`.
pub fn built(name: &str) -> Bytes {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/components");
    let directory = std::env::var_os("STATOR_COMPONENTS").map_or(built.into(), PathBuf::from);
    let path = directory.join(format!("{name}.wasm"));
    match std::fs::read(&path) {
        Ok(component) => component.into(),
        Err(error) => panic!("{}: {error}; run `make guests`", path.display()),
    }
}

/// A divergence of values (`None` is a tombstone), with a fingerprint of them.
pub fn divergence(values: &[Option<&str>]) -> Divergence {
    let siblings: Vec<_> = values
        .iter()
        .map(|value| DivergentVersion {
            value: value.map(|text| Bytes::copy_from_slice(text.as_bytes())),
            schema: 0,
            written_at_ms: 0,
        })
        .collect();
    Divergence {
        keyspace: "carts".to_owned(),
        key: Bytes::from_static(b"key"),
        siblings,
        ancestor: Ancestor::Unknown,
        fingerprint: *blake3::hash(format!("{values:?}").as_bytes()).as_bytes(),
    }
}

/// The merged value as text.
pub fn text(resolution: &Resolution) -> &str {
    match &resolution.outcome {
        Outcome::Value(value) => std::str::from_utf8(value).expect("UTF-8"),
        other => panic!("{other:?} is no value"),
    }
}

/// Stator's own WIT package.
pub const WIT: &str = include_str!("../../../wit/merge.wit");

/// The signature of `resolve` as a core function: subject, siblings, ancestor; a pointer back.
/// Parameter 4 points at the siblings, each 24 bytes: value (flag, pointer, length), schema, time.
const SIGNATURE: &str = "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64) (result i32)";

/// Address of an answer that is all zeros: an empty value, no note, no events.
pub const EMPTY_ANSWER: &str = "(i32.const 64)";

/// A merge module whose `resolve` has this body.
pub fn module(body: &str) -> Bytes {
    module_with("", body)
}

/// The same with further fields in the core module.
pub fn module_with(fields: &str, body: &str) -> Bytes {
    component(WIT, "module", &core(fields, "stator:merge/resolver@0.1.0", body))
}

/// A module that survives the probe (a tombstone) and does `harm` to a value.
pub fn ambush(harm: &str) -> Bytes {
    ambush_with("", harm)
}

pub fn ambush_with(fields: &str, harm: &str) -> Bytes {
    let body = format!("(if (i32.load8_u (local.get 4)) (then {harm})) {EMPTY_ANSWER}");
    module_with(fields, &body)
}

/// The text of a core module that exports a memory, an allocator and `resolve`. `fields` come
/// first, as imports must.
pub fn core(fields: &str, interface: &str, body: &str) -> String {
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
            (func (export "{interface}#resolve") {SIGNATURE}
                {body}))"#
    )
}

/// Encodes a core module as a component of a world of `wit`.
pub fn component(wit: &str, world: &str, core: &str) -> Bytes {
    let core = typed(wit, world, core);
    let mut encoder = ComponentEncoder::default();
    encoder.module(&core).expect("a module").validate(true).encode().expect("encodes").into()
}

/// A core module that carries the types of a world of `wit`, as a compiler makes it.
pub fn typed(wit: &str, world: &str, core: &str) -> Vec<u8> {
    let mut core = wat::parse_str(core).expect("WebAssembly text");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", wit).expect("WIT");
    let world = resolve.select_world(&[package], Some(world)).expect("the world is there");
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false)
        .expect("embeds");
    core
}
