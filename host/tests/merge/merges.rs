//! Merges: right, the same everywhere, remembered, and bounded in number.

use std::num::NonZero;
use std::sync::Mutex;

use stator_core::divergence::{Divergence, MergeFailure, Outcome};

use crate::support::{EMPTY_ANSWER, TestHost, ambush, cart, divergence, module, module_with, text};

const LEFT: &str = r#"{"items":{"a:1":{"sku":"tea","quantity":2}},"removed":["b:1"]}"#;
const RIGHT: &str =
    r#"{"items":{"b:1":{"sku":"jam","quantity":1},"b:2":{"sku":"jam","quantity":3}}}"#;
const MERGED: &str = concat!(
    r#"{"items":{"a:1":{"quantity":2,"sku":"tea"},"b:2":{"quantity":3,"sku":"jam"}},"#,
    r#""removed":["b:1"]}"#
);

#[tokio::test]
async fn carts_merge() {
    let test = TestHost::new();
    let digest = test.host.admit(cart()).await.expect("the cart is taken").digest;
    let merge =
        async |values: &[Option<&str>]| test.host.resolve(&digest, &divergence(values)).await;
    let merged = merge(&[Some(LEFT), Some(RIGHT)]).await.expect("merges");
    assert_eq!(text(&merged), MERGED);
    assert!(merged.fuel_used > 0);
    let deleted = merge(&[None]).await.expect("merges");
    assert_eq!(deleted.outcome, Outcome::Delete);
    let kept = merge(&[None, Some(LEFT)]).await.expect("merges");
    assert!(text(&kept).contains("tea"));
    match merge(&[None, Some(LEFT), Some("no cart")]).await {
        Err(MergeFailure::Refused { reason: "malformed", sibling: Some(2), message }) => {
            assert!(message.contains("expected"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

/// Hosts of their own, compiled apart, in whatever order the calls come: the same bytes and the
/// same fuel.
#[tokio::test]
async fn every_host_and_every_call_gives_the_same_bytes() {
    let (one, other) = (TestHost::new(), TestHost::new());
    let digest = one.host.admit(cart()).await.expect("the cart is taken").digest;
    other.host.admit(cart()).await.expect("the cart is taken");
    let siblings = divergence(&[Some(LEFT), Some(RIGHT)]);
    let first = one.host.resolve(&digest, &siblings).await.expect("merges");
    for n in 0..20 {
        let noise = format!(r#"{{"removed":["{n}"]}}"#);
        other.host.resolve(&digest, &divergence(&[Some(&noise)])).await.expect("merges");
        let mut unremembered = siblings.clone();
        unremembered.fingerprint[0] ^= n + 1;
        let again = other.host.resolve(&digest, &unremembered).await.expect("merges");
        assert_eq!(again, first);
    }
    assert_eq!(other.host.figures().memo_hits, 0);
}

/// A module that counts its calls in a static never gets beyond 1.
#[tokio::test]
async fn every_call_has_a_fresh_instance() {
    let counter = "(global $calls (mut i32) (i32.const 0))";
    let count = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store8 (i32.const 1000) (i32.add (i32.load8_u (i32.const 1000)) (i32.const 1)))
        (if (i32.ne (global.get $calls) (i32.const 1)) (then unreachable))
        (i32.store (i32.const 72) (i32.const 1000))
        (i32.store (i32.const 76) (i32.const 1))
        (i32.const 64)";
    let test = TestHost::with(|config| config.running_max = NonZero::<u32>::MIN);
    let counting = module_with(counter, count);
    let digest = test.host.admit(counting).await.expect("taken").digest;
    for n in 0..10 {
        let siblings = divergence(&[Some(&n.to_string())]);
        let answer = test.host.resolve(&digest, &siblings).await.expect("answers");
        assert_eq!(answer.outcome, Outcome::Value(vec![1].into()));
    }
}

#[tokio::test]
async fn an_answer_is_remembered_within_bounds() {
    let test = TestHost::with(|config| config.memo_entries_max = 2);
    let digest = test.host.admit(cart()).await.expect("the cart is taken").digest;
    let [a, b, c] = ["[\"a\"]", "[\"b\"]", "[\"c\"]"]
        .map(|removed| divergence(&[Some(&format!(r#"{{"removed":{removed}}}"#))]));
    let probes = test.host.figures().merges;
    let resolve = async |siblings| test.host.resolve(&digest, siblings).await.expect("merges");
    let first = resolve(&a).await;
    assert_eq!(resolve(&a).await, first);
    let figures = test.host.figures();
    assert_eq!((figures.merges - probes, figures.memo_hits), (1, 1));
    resolve(&b).await;
    resolve(&c).await;
    resolve(&a).await;
    let figures = test.host.figures();
    assert_eq!((figures.merges - probes, figures.memo_hits, figures.memo_entries), (4, 1, 2));
}

/// Two modules must not answer for one another.
#[tokio::test]
async fn the_memo_is_kept_by_module() {
    let test = TestHost::new();
    let cart = test.host.admit(cart()).await.expect("taken").digest;
    let empty = test.host.admit(module(EMPTY_ANSWER)).await.expect("taken").digest;
    let siblings = divergence(&[Some(LEFT)]);
    let merged = test.host.resolve(&cart, &siblings).await.expect("merges");
    let other = test.host.resolve(&empty, &siblings).await.expect("answers");
    assert_ne!(merged.outcome, other.outcome);
}

#[tokio::test]
async fn merges_above_the_bound_are_turned_away() {
    let test = TestHost::with(|config| {
        config.running_max = NonZero::<u32>::MIN;
        config.waiting_max = 1;
    });
    // The first merge burns all its fuel, so that it still runs when the others come.
    let digest = test.host.admit(ambush("(loop $again (br $again))")).await.expect("taken").digest;
    let [a, b, c] = ["a", "b", "c"].map(|value| divergence(&[Some(value)]));
    let (first, second, third) = tokio::join!(
        test.host.resolve(&digest, &a),
        test.host.resolve(&digest, &b),
        test.host.resolve(&digest, &c),
    );
    for answer in [first, second] {
        assert!(matches!(answer, Err(MergeFailure::OutOfFuel { .. })), "{answer:?}");
    }
    assert_eq!(third, Err(MergeFailure::Overloaded { limit: 1 }));
    assert_eq!(test.host.figures().overloads, 1);
    let later = test.host.resolve(&digest, &c).await;
    assert!(matches!(later, Err(MergeFailure::OutOfFuel { .. })), "not remembered: {later:?}");
}

#[tokio::test]
async fn a_module_that_loops_leaves_a_place_to_other_keyspaces() {
    let test = TestHost::with(|config| {
        config.running_max = NonZero::<u32>::MIN.saturating_add(1);
    });
    let loops = test.host.admit(ambush("(loop $again (br $again))")).await.expect("taken").digest;
    let cart = test.host.admit(cart()).await.expect("taken").digest;
    let finished = Mutex::new(Vec::new());
    let resolve = async |name: &'static str, module, keyspace: &str, value| {
        let keyspace = keyspace.to_owned();
        let siblings = Divergence { keyspace, ..divergence(&[Some(value)]) };
        let _ = test.host.resolve(module, &siblings).await;
        finished.lock().expect("no panic").push(name);
    };
    tokio::join!(
        resolve("a loop", &loops, "loops", "a"),
        resolve("a loop", &loops, "loops", "b"),
        resolve("a loop", &loops, "loops", "c"),
        resolve("the cart", &cart, "carts", LEFT),
    );
    let finished = finished.into_inner().expect("no panic");
    // Behind two loops that run and one that waits it would come third at best.
    assert!(finished[..2].contains(&"the cart"), "{finished:?}");
}

#[tokio::test]
async fn as_many_loops_as_places_leave_one_to_other_keyspaces() {
    let test = TestHost::with(|config| {
        config.running_max = NonZero::<u32>::MIN.saturating_add(1);
    });
    let loops = test.host.admit(ambush("(loop $again (br $again))")).await.expect("taken").digest;
    let cart = test.host.admit(cart()).await.expect("taken").digest;
    let finished = Mutex::new(Vec::new());
    let resolve = async |module, keyspace: &'static str, value| {
        let siblings = Divergence { keyspace: keyspace.to_owned(), ..divergence(&[Some(value)]) };
        let _ = test.host.resolve(module, &siblings).await;
        finished.lock().expect("no panic").push(keyspace);
    };
    tokio::join!(
        resolve(&loops, "loops", "a"),
        resolve(&loops, "loops too", "b"),
        resolve(&loops, "loops", "c"),
        resolve(&loops, "loops too", "d"),
        resolve(&loops, "loops as well", "e"),
        resolve(&cart, "carts", LEFT),
    );
    let finished = finished.into_inner().expect("no panic");
    // Behind the two that began before anyone knew what they are.
    assert!(finished[..3].contains(&"carts"), "{finished:?}");
}

#[tokio::test]
async fn as_many_merges_as_places_run_in_the_pool() {
    let test = TestHost::new();
    let digest = test.host.admit(cart()).await.expect("the cart is taken").digest;
    let merges = (0..200).map(|n| {
        let host = test.host.clone();
        tokio::spawn(async move {
            let cart = format!(r#"{{"removed":["{n}"]}}"#);
            host.resolve(&digest, &divergence(&[Some(&cart)])).await.map(|_| ())
        })
    });
    for merge in merges.collect::<Vec<_>>() {
        merge.await.expect("no panic").expect("merges");
    }
}

/// More than the initial memory has: the arena has to grow it, and gives nothing back.
#[tokio::test]
async fn a_large_merge_grows_the_memory() {
    let test = TestHost::new();
    let digest = test.host.admit(cart()).await.expect("the cart is taken").digest;
    let cart = |device: usize| {
        let item = |n| format!(r#""{device}:{n}":{{"quantity":1,"sku":"\u0041"}}"#);
        format!(r#"{{"items":{{{}}}}}"#, (0..4000).map(item).collect::<Vec<_>>().join(","))
    };
    let carts: Vec<_> = (0..5).map(cart).collect();
    let values: Vec<_> = carts.iter().map(|cart| Some(cart.as_str())).collect();
    let merged = test.host.resolve(&digest, &divergence(&values)).await.expect("merges");
    assert_eq!(text(&merged).matches("\"sku\":\"A\"").count(), 5 * 4000);
}

/// What the sandbox rests on, and what the SDK promises.
#[test]
fn a_module_built_with_the_sdk_imports_nothing() {
    use wasmparser::{Parser, Payload};
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(&cart()) {
        match payload.expect("a component") {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ImportSection(section) => assert_eq!(section.count(), 0, "core imports"),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    assert_eq!(import.expect("an import").name.name, "stator:merge/types@0.1.0");
                }
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_keyspace_may_allow_less_memory_than_the_class() {
    let test = TestHost::new();
    let digest = test.host.admit(cart()).await.expect("the cart is taken").digest;
    let item = |n| format!(r#""1:{n}":{{"quantity":1,"sku":"{}"}}"#, "A".repeat(400));
    let cart = format!(r#"{{"items":{{{}}}}}"#, (0..2000).map(item).collect::<Vec<_>>().join(","));
    let siblings = divergence(&[Some(&cart), None]);
    const LITTLE: u64 = 1 << 20;
    let denied = test.host.merge(&digest, &siblings, LITTLE).await.answer.map(|_| "merged");
    assert_eq!(denied, Err(MergeFailure::OutOfMemory { limit_bytes: LITTLE }));
    let made = test.host.merge(&digest, &siblings, 0).await;
    assert!(made.answer.is_ok());
    let used = made.used.expect("what was denied is not remembered for those who may have more");
    assert!(used.memory_bytes > LITTLE && used.fuel > 0, "{used:?}");
    assert_eq!(test.host.memory_needed(&digest), used.memory_bytes);
    assert_eq!(test.host.merge(&digest, &siblings, 0).await.used, None);
}
