//! Modules that are wrong or mean harm: each is refused at its stage, by name, and the host goes
//! on. The compiler and the guests run with the limits of class `small`, unless a test says so.

use bytes::Bytes;
use stator::merge::{Limits, ModuleRefused, Stage};
use stator_core::divergence::MergeFailure;

use crate::support::{
    EMPTY_ANSWER, TestHost, WIT, ambush, ambush_with, cart, component, core, divergence, module,
    module_with, text,
};

const LOOP: &str = "(loop $again (br $again)) (unreachable)";

/// Refused at `stage`, with a message that has all of `says`; the host still takes a good module.
async fn refused(component: Bytes, stage: Stage, says: &[&str]) {
    let test = TestHost::new();
    refused_by(&test, component, stage, says).await;
}

async fn refused_by(test: &TestHost, component: Bytes, stage: Stage, says: &[&str]) {
    let refusal = test.host.admit(component).await.expect_err("must be refused");
    let message = refusal.to_string();
    assert_eq!(refusal.stage(), Some(stage), "{message}");
    for part in says {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert_eq!(test.host.figures().modules, 0);
    let left = std::fs::read_dir(test.cache.path()).expect("the cache is there").count();
    assert_eq!(left, 0, "nothing of it stays in the cache");
}

/// Takes the cart and merges with it: what a host that was attacked must still be able to do.
async fn goes_on(test: &TestHost) {
    let info = test.host.admit(cart()).await.expect("the cart is taken");
    let merged = test.host.resolve(&info.digest, &divergence(&[Some("{}")])).await;
    assert_eq!(text(&merged.expect("the cart merges")), r#"{"items":{},"removed":[]}"#);
}

#[tokio::test]
async fn what_is_no_component_is_refused_at_its_bounds() {
    let core_module = wat::parse_str(core("", "stator:merge/resolver@0.1.0", EMPTY_ANSWER));
    let core_module = core_module.expect("WebAssembly text");
    let cart = cart();
    refused(Bytes::new(), Stage::Bounds, &["not WebAssembly"]).await;
    refused(Bytes::from_static(b"#!/bin/sh"), Stage::Bounds, &["not WebAssembly"]).await;
    refused(core_module.into(), Stage::Bounds, &["core module", "stator module encode"]).await;
    for length in [5, 8 + 3, cart.len() / 2, cart.len() - 1] {
        refused(cart.slice(..length), Stage::Bounds, &["not a valid component"]).await;
    }
}

#[tokio::test]
async fn damaged_components_never_harm_the_host() {
    let test = TestHost::new();
    let cart = cart();
    for at in (8..cart.len()).step_by(cart.len() / 30) {
        let mut damaged = cart.to_vec();
        damaged[at] ^= 0x55;
        // Whatever it is now, admitting it must end; some bytes matter to nobody.
        if let Err(refusal) = test.host.admit(damaged.into()).await {
            assert!(refusal.stage().is_some(), "the node is not to blame: {refusal}");
        }
    }
    goes_on(&test).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_compiled() {
    let test = TestHost::new();
    let locals = format!("(local {}) {EMPTY_ANSWER}", "i64 ".repeat(2001));
    refused_by(&test, module(&locals), Stage::Bounds, &["2001 locals in function 2", "2000"]).await;

    let functions = "(func)".repeat(10_000);
    let many = module_with(&functions, EMPTY_ANSWER);
    refused_by(&test, many, Stage::Bounds, &["10002 functions", "10000", "small"]).await;

    let long = format!("{} {EMPTY_ANSWER}", "(drop (i64.const -1))".repeat(100_000));
    refused_by(&test, module(&long), Stage::Bounds, &["bytes in function 2", "262144"]).await;

    let padding = format!(r#"(data "{}")"#, "x".repeat(2 << 20));
    let fat = module_with(&padding, EMPTY_ANSWER);
    refused_by(&test, fat, Stage::Bounds, &["bytes", "2097152"]).await;
    assert_eq!(test.host.figures().compilations, 0);
    goes_on(&test).await;
}

#[tokio::test]
async fn a_component_of_another_world_is_refused_by_name() {
    let wit = "package acme:tools; interface run { go: func(); } world w { export run; }";
    let other = r#"(module (func (export "acme:tools/run#go")))"#;
    let says = ["does not export `stator:merge/resolver@0.1.0`", "`acme:tools/run`"];
    refused(component(wit, "w", other), Stage::World, &says).await;

    let empty = component("package acme:tools; world w {}", "w", "(module)");
    refused(empty, Stage::World, &["it exports nothing"]).await;

    let later = WIT.replace("merge@0.1.0", "merge@0.2.0");
    let later = component(&later, "module", &core("", "stator:merge/resolver@0.2.0", EMPTY_ANSWER));
    let says = ["`stator:merge/resolver@0.2.0`", "knows `stator:merge/resolver@0.1.0`"];
    refused(later, Stage::World, &says).await;
}

#[tokio::test]
async fn a_patch_version_is_taken() {
    let test = TestHost::new();
    let patch = WIT.replace("merge@0.1.0", "merge@0.1.7");
    let patch = component(&patch, "module", &core("", "stator:merge/resolver@0.1.7", EMPTY_ANSWER));
    test.host.admit(patch).await.expect("0.1.7 has the same resolver");
}

#[tokio::test]
async fn a_foreign_import_is_refused_by_name() {
    let wit = format!(
        "{WIT} world spy {{ include module; import secrets: interface {{ read: func() -> u32; }} }}"
    );
    let import = r#"(import "secrets" "read" (func $read (result i32)))"#;
    let body = format!("(drop (call $read)) {EMPTY_ANSWER}");
    let spy = component(&wit, "spy", &core(import, "stator:merge/resolver@0.1.0", &body));
    refused(spy, Stage::World, &["imports `secrets`"]).await;
}

#[tokio::test]
async fn more_than_the_log_has_is_refused_by_name() {
    let wit = WIT.replace("interface log {", "interface log { read: func() -> u32;");
    let import = r#"(import "stator:merge/log@0.1.0" "read" (func $read (result i32)))"#;
    let body = format!("(drop (call $read)) {EMPTY_ANSWER}");
    let spy = component(&wit, "module", &core(import, "stator:merge/resolver@0.1.0", &body));
    refused(spy, Stage::World, &["imports `stator:merge/log@0.1.0`", "more than"]).await;
}

#[tokio::test]
async fn an_option_that_the_host_cannot_honour_is_refused_by_name() {
    let wit = WIT.replace("sampler", "summary");
    let wit = format!("{wit} world sampling {{ include module; include with-summary; }}");
    let samples = r#"(func (export "stator:merge/summary@0.1.0#samples") (param i64 i32)
        (result i32) (i32.const 64))"#;
    let fields = core("", "stator:merge/resolver@0.1.0", EMPTY_ANSWER);
    let both = fields.replacen("(memory", &format!("{samples} (memory"), 1);
    let says = ["exports `stator:merge/summary@0.1.0`", "cannot honour"];
    refused(component(&wit, "sampling", &both), Stage::World, &says).await;
}

#[tokio::test]
async fn a_resolver_of_another_type_is_refused() {
    let wit = WIT.replace("schema: u32,", "scheme: u32,");
    let other = component(&wit, "module", &core("", "stator:merge/resolver@0.1.0", EMPTY_ANSWER));
    let refusal = TestHost::new().host.admit(other).await.expect_err("must be refused");
    assert!(matches!(refusal.stage(), Some(Stage::Load | Stage::Probe)), "{refusal}");
    assert!(refusal.to_string().contains("sche"), "{refusal}");
}

#[tokio::test]
async fn a_module_that_the_engine_does_not_support_is_refused_by_the_compiler() {
    let threads = r#"(memory $shared 1 1 shared)
        (func (drop (i32.atomic.load (i32.const 0))))"#;
    let wide = module_with("(memory $wide i64 1)", EMPTY_ANSWER);
    refused(wide, Stage::Compile, &["does not compile", "memor"]).await;
    let shared = module_with(threads, EMPTY_ANSWER);
    refused(shared, Stage::Compile, &["does not compile"]).await;
}

#[tokio::test]
async fn a_compilation_that_takes_too_much_ends_alone() {
    // All locals live across all loops: small to write, much to allocate registers for.
    let local = |n| format!("(local.set {n} (i64.add (local.get {n}) (local.get 11)))");
    let locals: String = (12..8000).map(local).collect();
    let bomb = format!(
        "(local {}) {} {EMPTY_ANSWER}",
        "i64 ".repeat(8000),
        format!("(loop {locals} (br_if 0 (local.get 0)))").repeat(12)
    );
    let exposed = |limits: &mut Limits| {
        limits.function_locals_max = u32::MAX;
        limits.function_bytes_max = u32::MAX;
        limits.compile_cpu_seconds = 1;
        limits.compile_memory_bytes = 256 << 20;
    };
    let test = TestHost::with_limits(exposed);
    refused_by(&test, module(&bomb), Stage::Compile, &["does not compile", "limit of class"]).await;
    goes_on(&test).await;
    let hurried = TestHost::with_limits(|limits| limits.compile_wall = Default::default());
    refused_by(&hurried, cart(), Stage::Compile, &["wall time"]).await;
    let narrow = TestHost::with_limits(|limits| limits.artefact_bytes_max = 1000);
    refused_by(&narrow, cart(), Stage::Compile, &["machine code has more than 1000 bytes"]).await;
}

#[tokio::test]
async fn a_node_without_a_compiler_does_not_blame_the_module() {
    let test = TestHost::with(|config| config.compiler = "/nonexistent/stator".into());
    let refusal = test.host.admit(cart()).await.expect_err("there is no compiler");
    assert_eq!(refusal.stage(), None);
    assert!(refusal.to_string().contains("/nonexistent/stator"), "{refusal}");
}

#[tokio::test]
async fn a_module_that_fails_its_first_call_is_refused() {
    let test = TestHost::new();
    let start = format!("(func $start {LOOP}) (start $start)");
    let hog = "(memory.grow (i32.const 2000)) (i32.eq (i32.const -1)) (if (then unreachable))
        (i32.const 64)";
    let deep = format!("(drop (call 1 {})) {EMPTY_ANSWER}", parameters());
    for (component, says) in [
        (module(LOOP), "used up its fuel of 1000000000"),
        (module_with(&start, EMPTY_ANSWER), "used up its fuel"),
        (module("(unreachable)"), "unreachable"),
        (module(hog), "limit of 33554432 bytes"),
        (module(&deep), "stack"),
        (module("(i32.const 131060)"), "not valid"),
        (module("(i32.store (i32.const 200000) (i32.const 0)) (i32.const 64)"), "out of bounds"),
    ] {
        refused_by(&test, component, Stage::Probe, &[says]).await;
    }
    let vast = module_with("(memory $vast 1000)", EMPTY_ANSWER);
    let refusal = test.host.admit(vast).await.expect_err("62 MiB at once");
    assert!(refusal.stage() > Some(Stage::World), "{refusal}");
    goes_on(&test).await;
}

/// The parameters of `resolve`, to call it from itself.
fn parameters() -> String {
    (0..12).map(|n| format!("(local.get {n}) ")).collect()
}

#[tokio::test]
async fn a_merge_that_fails_says_how_and_is_not_tried_twice() {
    let test = TestHost::new();
    let store = |at: u32, word: u32| format!("(i32.store (i32.const {at}) (i32.const {word}))");
    let refuse = [store(64, 1), store(68, 2), store(72, 1), store(76, 7)].concat();
    let oversized = [store(72, 0), store(76, (1 << 20) + 1)].concat();
    let grown = format!("(drop (memory.grow (i32.const 100))) {oversized}");
    let beyond = [store(72, 0), store(76, 1 << 20)].concat();
    let enormous = format!("(drop (memory.grow (i32.const 300))) {}", store(76, 9 << 20));
    let note = [store(80, 1), store(84, 1000), store(88, 2)].concat();
    let not_utf8 = format!("{note} (i32.store (i32.const 1000) (i32.const 0xffff))");
    let events = [store(92, 1000), store(96, 65)].concat();
    type Check = fn(&MergeFailure) -> bool;
    let bad: Check = |f| matches!(f, MergeFailure::BadAnswer(_));
    let cases: [(&str, Check, &str); 9] = [
        (LOOP, |f| matches!(f, MergeFailure::OutOfFuel { limit: 1_000_000_000 }), "fuel"),
        ("unreachable", |f| matches!(f, MergeFailure::Trapped(_)), "unreachable"),
        (
            "(if (i32.eq (memory.grow (i32.const 600)) (i32.const -1)) (then unreachable))",
            |f| matches!(f, MergeFailure::OutOfMemory { limit_bytes: 33_554_432 }),
            "memory",
        ),
        (
            &refuse,
            |f| matches!(f, MergeFailure::Refused { reason: "unresolvable", sibling: Some(7), .. }),
            "unresolvable (sibling 7)",
        ),
        (&grown, bad, "1048577 bytes of value, and 1048576 are allowed"),
        (&beyond, bad, "out of bounds"),
        (&enormous, bad, "fuel"),
        (&not_utf8, bad, "utf-8"),
        (&events, bad, "65 events, and 64 are allowed"),
    ];
    for (harm, check, says) in cases {
        let digest = test.host.admit(ambush(harm)).await.expect("harmless so far").digest;
        let siblings = divergence(&[Some("x"), None]);
        let failure = test.host.resolve(&digest, &siblings).await.expect_err(harm);
        assert!(check(&failure), "{harm}: {failure:?}");
        assert!(failure.to_string().contains(says), "{harm}: {failure}");
        let merges = test.host.figures().merges;
        assert_eq!(test.host.resolve(&digest, &siblings).await, Err(failure));
        assert_eq!(test.host.figures().merges, merges);
    }
    goes_on(&test).await;
}

#[tokio::test]
async fn logging_without_end_runs_out_of_fuel() {
    let import = r#"(import "stator:merge/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
    let flood = "(loop $again
        (call $log (i32.const 2) (i32.const 0) (i32.const 131072)) (br $again))";
    let test = TestHost::new();
    let digest = test.host.admit(ambush_with(import, flood)).await.expect("quiet so far").digest;
    let failure = test.host.resolve(&digest, &divergence(&[Some("x")])).await;
    assert!(matches!(failure, Err(MergeFailure::OutOfFuel { .. })), "{failure:?}");
    goes_on(&test).await;
}

#[tokio::test]
async fn bytes_of_another_module_are_not_loaded() {
    let test = TestHost::new();
    let wanted = stator_core::id::ModuleDigest::of(b"another");
    let refusal = test.host.load(wanted, cart()).await.expect_err("not these bytes");
    assert!(matches!(refusal, ModuleRefused::OtherModule { .. }), "{refusal}");
    assert_eq!(refusal.stage(), None);
    assert!(!test.host.is_loaded(&wanted));
}
