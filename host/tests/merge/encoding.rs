//! `encode_component`: what compilers make becomes a module, and nothing of WASI is left in it.

use bytes::Bytes;
use stator::merge::encode_component;
use stator_core::divergence::{MergeFailure, Outcome};
use wit_parser::Resolve;

use crate::support::{
    EMPTY_ANSWER, RESOLVER, TestHost, WIT, cart, component, core, divergence, other_world, typed,
};

/// Encodes, and says what was remarked.
fn encoded(input: &[u8]) -> (Bytes, String) {
    let encoded = encode_component(input, None).expect("encodes");
    (encoded.component.into(), encoded.remarks.join("; "))
}

fn binary(core: &str) -> Vec<u8> {
    wat::parse_str(core).expect("WebAssembly text")
}

/// What a module answers to one value, or how it fails.
async fn answer(component: Bytes) -> Result<Vec<u8>, MergeFailure> {
    let test = TestHost::new();
    let digest = test.host.admit(component).await.expect("taken").digest;
    let resolution = test.host.resolve(&digest, &divergence(&[Some("value")])).await?;
    match &resolution.outcome {
        Outcome::Value(value) => Ok(value.to_vec()),
        other => panic!("no value: {other:?}"),
    }
}

#[tokio::test]
async fn a_core_module_becomes_a_component_with_types_or_without() {
    let text = core("", RESOLVER, EMPTY_ANSWER);
    for core in [typed(WIT, "module", &text), binary(&text)] {
        let (component, remarks) = encoded(&core);
        assert_eq!(answer(component).await, Ok(vec![]));
        assert_eq!(remarks, "");
    }
}

#[tokio::test]
async fn functions_may_be_exported_by_their_last_word() {
    let sampler = r#"(func (export "samples") (param i64 i32) (result i32) (i32.const 64))"#;
    let text = core("", RESOLVER, EMPTY_ANSWER).replace(&format!("{RESOLVER}#resolve"), "resolve");
    let text = format!("{}{sampler})", text.strip_suffix(')').expect("a module"));
    let (component, _) = encoded(&binary(&text));
    let admitted = TestHost::new().host.admit(component).await.expect("taken");
    assert_eq!(admitted.options, ["sampler"]);
}

#[test]
fn what_is_no_module_is_not_encoded() {
    let says = |bytes: &[u8]| encode_component(bytes, None).expect_err("refused").to_string();
    assert!(says(&cart()).contains("already"));
    assert!(says(b"text").contains("cannot be encoded"));
    let error = says(&binary("(module (memory (export \"memory\") 1))"));
    assert!(error.contains("exports neither"), "{error}");
    let error = says(&other_world());
    assert!(
        error.contains("refused by every node") || error.contains("does not export"),
        "{error}"
    );
    let import = r#"(import "acme" "read" (func $read (result i32)))"#;
    let body = format!("(drop (call $read)) {EMPTY_ANSWER}");
    let error = says(&binary(&core(import, RESOLVER, &body)));
    assert!(error.contains("acme"), "{error}");
}

/// Fields of a core module with two texts, `hello, ` and `world\n`, as two pieces to be written.
const PIECES: &str = r#"
    (data (i32.const 1024) "\10\04\00\00\07\00\00\00\20\04\00\00\06\00\00\00hello, ")
    (data (i32.const 1056) "world\n")"#;

/// Answers with the eight bytes at 256.
const EIGHT_BYTES: &str = "(i32.store (i32.const 72) (i32.const 256))
    (i32.store (i32.const 76) (i32.const 8)) (i32.const 64)";

#[tokio::test]
async fn what_a_module_of_preview_1_prints_are_its_last_words() {
    let write = r#"(import "wasi_snapshot_preview1" "fd_write"
        (func $fd_write (param i32 i32 i32 i32) (result i32)))"#;
    let body = "(drop (call $fd_write (i32.const 2) (i32.const 1024) (i32.const 2) (i32.const 96)))
        (if (i32.load8_u (local.get 4)) (then unreachable)) (i32.const 64)";
    let text = core(write, RESOLVER, body).replacen("(memory", &format!("{PIECES} (memory"), 1);
    let (component, remarks) = encoded(&binary(&text));
    assert!(remarks.contains("module's log"), "{remarks}");
    let failure = answer(component).await.expect_err("it traps");
    let MergeFailure::Trapped(words) = &failure else { panic!("{failure:?}") };
    assert!(words.ends_with("its last words: hello, world"), "{words}");
}

#[tokio::test]
async fn a_module_of_preview_1_has_no_time_no_chance_and_no_file() {
    let imports = r#"
        (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))"#;
    let body = format!(
        "(i64.store (i32.const 256) (i64.const -1))
        (drop (call $time (i32.const 0) (i64.const 1) (i32.const 256)))
        (i32.store8 (i32.const 256) (call $read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
        (i32.store8 (i32.const 257) (i32.const 7))
        (i32.store8 (i32.const 258) (call $random (i32.const 257) (i32.const 1)))
        {EIGHT_BYTES}"
    );
    let (component, remarks) = encoded(&binary(&core(imports, RESOLVER, &body)));
    assert!(remarks.contains("clocks stand at 0") && remarks.contains("zeros"), "{remarks}");
    assert_eq!(answer(component).await, Ok(vec![8, 0, 0, 0, 0, 0, 0, 0]));
}

/// As much of WASI 0.2 as is needed to see each way in which a function is stood in for.
const WASI: &str = "
    package wasi:io@0.2.9 {
      interface error { resource error; }
      interface streams {
        use error.{error};
        variant stream-error { last-operation-failed(error), closed }
        resource output-stream {
          blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
        }
        resource input-stream { read: func(len: u64) -> result<list<u8>, stream-error>; }
      }
    }
    package wasi:cli@0.2.9 {
      interface stderr { use wasi:io/streams@0.2.9.{output-stream}; get-stderr: func() -> output-stream; }
      interface stdin { use wasi:io/streams@0.2.9.{input-stream}; get-stdin: func() -> input-stream; }
    }
    package wasi:clocks@0.2.9 {
      interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }
    }
    package wasi:random@0.2.9 {
      interface random { get-random-bytes: func(len: u64) -> list<u8>; }
    }";

/// A component that imports WASI 0.2, as `resolve` with this body uses it.
fn of_wasi(body: &str) -> Vec<u8> {
    let world = "package test:wasi; world wasi {
        import wasi:io/streams@0.2.9; import wasi:cli/stderr@0.2.9; import wasi:cli/stdin@0.2.9;
        import wasi:clocks/wall-clock@0.2.9; import wasi:random/random@0.2.9;
        export stator:merge/resolver@0.1.0; export extra: func(); }";
    let imports = r#"
        (import "wasi:cli/stderr@0.2.9" "get-stderr" (func $stderr (result i32)))
        (import "wasi:cli/stdin@0.2.9" "get-stdin" (func $stdin (result i32)))
        (import "wasi:io/streams@0.2.9" "[method]output-stream.blocking-write-and-flush"
            (func $write (param i32 i32 i32 i32)))
        (import "wasi:io/streams@0.2.9" "[method]input-stream.read" (func $read (param i32 i64 i32)))
        (import "wasi:clocks/wall-clock@0.2.9" "now" (func $now (param i32)))
        (import "wasi:random/random@0.2.9" "get-random-bytes" (func $random (param i64 i32)))"#;
    let text = core(imports, RESOLVER, body).replacen("(memory", &format!("{PIECES} (memory"), 1);
    let text = text.strip_suffix(')').expect("a module").to_owned() + r#"(func (export "extra")))"#;
    let mut core = binary(&text);
    let mut wit = Resolve::default();
    wit.push_str("merge.wit", WIT).expect("WIT");
    let package = wit.push_str("wasi.wit", &format!("{world} {WASI}")).expect("WIT");
    let world = wit.select_world(&[package], Some("wasi")).expect("a world");
    let utf8 = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut core, &wit, world, utf8).expect("embeds");
    let encoder = wit_component::ComponentEncoder::default();
    encoder.module(&core).expect("a module").validate(true).encode().expect("encodes")
}

#[tokio::test]
async fn a_component_that_wants_wasi_gets_a_stand_in() {
    let body = format!(
        "(i64.store (i32.const 256) (i64.const -1)) (i64.store (i32.const 264) (i64.const -1))
        (call $now (i32.const 256))
        (call $read (call $stdin) (i64.const 10) (i32.const 272))
        (call $random (i64.const 3) (i32.const 288))
        (i32.store8 (i32.const 256) (i32.load8_u (i32.const 272))) ;; an error
        (i32.store8 (i32.const 257) (i32.load8_u (i32.const 276))) ;; closed
        (i32.store8 (i32.const 258) (i32.load (i32.const 292))) ;; three bytes
        (i32.store8 (i32.const 259) (i32.load8_u (i32.load (i32.const 288))))
        {EIGHT_BYTES}"
    );
    let (component, remarks) = encoded(&of_wasi(&body));
    assert!(remarks.contains("`extra` is left out") && remarks.contains("stand at 0"), "{remarks}");
    assert_eq!(answer(component).await, Ok(vec![1, 1, 3, 0, 0, 0, 0, 0]));
}

#[tokio::test]
async fn what_a_component_prints_are_its_last_words() {
    let body = "(if (i32.load8_u (local.get 4)) (then
        (call $write (call $stderr) (i32.const 1040) (i32.const 5) (i32.const 96)) unreachable))
        (i32.const 64)";
    let failure = answer(encoded(&of_wasi(body)).0).await.expect_err("it traps");
    let MergeFailure::Trapped(words) = &failure else { panic!("{failure:?}") };
    assert!(words.ends_with("its last words: hello"), "{words}");
}

#[tokio::test]
async fn an_export_that_is_none_of_stators_is_refused_by_its_name() {
    let world = "world more { include module; export extra: func(); }";
    let text = core("", RESOLVER, EMPTY_ANSWER);
    let text = text.strip_suffix(')').expect("a module").to_owned() + r#"(func (export "extra")))"#;
    let more = component(&format!("{WIT} {world}"), "more", &text);
    let refusal = TestHost::new().host.admit(more.clone()).await.expect_err("refused").to_string();
    assert!(refusal.contains("`extra`") && refusal.contains("module encode"), "{refusal}");
    let (component, remarks) = encoded(&more);
    assert!(remarks.contains("`extra` is left out"), "{remarks}");
    assert_eq!(answer(component).await, Ok(vec![]));
}
