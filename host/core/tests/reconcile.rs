//! What a reader sees of siblings, and what names a divergence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use stator_core::causality::{LiveVersion, Siblings, VersionVector};
use stator_core::divergence::{Ancestor, DivergentVersion};
use stator_core::id::{Actor, Dot, Incarnation, NodeId};
use stator_core::reconcile::{View, divergence, versions, view};
use stator_core::version::{Origin, Payload, Version};

fn dot(node: u64) -> Dot {
    let actor = Actor { node: NodeId(node), incarnation: Incarnation(1), epoch: 0 };
    Dot { actor, counter: 1 }
}

fn value(text: &'static str) -> Payload {
    Payload::Value(Bytes::from_static(text.as_bytes()))
}

fn version(node: u64, payload: Payload) -> Version {
    Version {
        past: None,
        payload,
        written_at_ms: 100,
        expires_at_ms: None,
        schema: 0,
        origin: Origin::Client(dot(node)),
        base: Vec::new(),
        labels: BTreeMap::new(),
        request: None,
        unknown: Vec::new(),
    }
}

/// Blind puts of nodes 1, 2, ..., of these payloads, with the times at which they expire.
fn siblings(written: &[(Payload, Option<u64>)]) -> Siblings {
    let mut siblings = Siblings::new();
    for (node, (payload, expires_at_ms)) in (1..).zip(written) {
        let version = Version { expires_at_ms: *expires_at_ms, ..version(node, payload.clone()) };
        siblings.put(&VersionVector::new(), dot(node), Arc::new(version));
    }
    siblings
}

fn shape(versions: &[LiveVersion]) -> Vec<(Payload, Vec<u64>)> {
    let nodes = |live: &LiveVersion| live.dots.iter().map(|dot| dot.actor.node.0).collect();
    versions.iter().map(|live| (live.version.payload.clone(), nodes(live))).collect()
}

#[test]
fn views() {
    use Payload::Tombstone;
    type Written<'a> = &'a [(Payload, Option<u64>)];
    type Shape<'a> = &'a [(Payload, Vec<u64>)];
    // what was written; at 100 ms: how many versions count, and with which dots
    let table: [(&str, Written, Shape); 9] = [
        ("nothing", &[], &[]),
        ("one", &[(value("v"), None)], &[(value("v"), vec![1])]),
        ("a delete", &[(Tombstone, None)], &[(Tombstone, vec![1])]),
        ("two deletes", &[(Tombstone, None), (Tombstone, None)], &[(Tombstone, vec![1, 2])]),
        (
            "equal payloads are one, at the lowest dot",
            &[(value("v"), None), (value("w"), None), (value("v"), None)],
            &[(value("v"), vec![1, 3]), (value("w"), vec![2])],
        ),
        (
            "a delete beside a value",
            &[(Tombstone, None), (value("v"), None)],
            &[(Tombstone, vec![1]), (value("v"), vec![2])],
        ),
        (
            "an empty value is no delete",
            &[(Tombstone, None), (value(""), None)],
            &[(Tombstone, vec![1]), (value(""), vec![2])],
        ),
        (
            "expired at its time",
            &[(value("v"), Some(100)), (value("w"), Some(101))],
            &[(value("w"), vec![2])],
        ),
        ("all expired", &[(value("v"), Some(1))], &[]),
    ];
    for (case, written, expected) in table {
        let siblings = siblings(written);
        let found = versions(&siblings, 100);
        assert_eq!(shape(&found), expected, "{case}");
        let expected = match &found[..] {
            [] => View::Absent,
            [sole] if sole.version.payload == Tombstone => View::Absent,
            [sole] => View::Sole(sole.clone()),
            _ => View::Divergent(found),
        };
        assert_eq!(view(&siblings, 100), expected, "{case}");
    }
}

#[test]
fn the_order_of_arrival_does_not_show() {
    let parts: Vec<Siblings> = [(1, "v"), (2, "w"), (3, "v")]
        .map(|(node, text)| {
            let mut part = Siblings::new();
            part.put(&VersionVector::new(), dot(node), Arc::new(version(node, value(text))));
            part
        })
        .to_vec();
    let names: BTreeSet<[u8; 32]> = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]]
        .into_iter()
        .map(|order| {
            let mut joined = Siblings::new();
            order.into_iter().for_each(|at: usize| joined.sync(&parts[at]));
            let View::Divergent(versions) = view(&joined, 0) else { panic!("they differ") };
            divergence("carts", &"k".into(), &versions, Ancestor::Unknown).fingerprint
        })
        .collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn a_module_sees_each_version_as_it_was_written() {
    let two = siblings(&[(value("v"), None), (Payload::Tombstone, None)]);
    let given = divergence("carts", &"k".into(), &versions(&two, 0), Ancestor::Unknown);
    assert_eq!((given.keyspace.as_str(), &given.key[..]), ("carts", &b"k"[..]));
    let seen: Vec<_> =
        given.siblings.iter().map(|s| (s.value.as_deref(), s.written_at_ms)).collect();
    assert_eq!(seen, [(Some(&b"v"[..]), 100), (None, 100)]);
}

/// Whatever a module sees is in the fingerprint, else a memo would serve another input.
#[test]
fn a_fingerprint_differs_with_all_that_a_module_sees() {
    let live = |version: Version| LiveVersion { dots: vec![dot(1)], version: Arc::new(version) };
    let v = || version(1, value("v"));
    let inputs: [(&str, &'static str, Vec<Version>); 12] = [
        ("carts", "k", vec![v(), version(2, value("w"))]),
        ("cart", "sk", vec![v(), version(2, value("w"))]),
        ("carts", "l", vec![v(), version(2, value("w"))]),
        ("orders", "k", vec![v(), version(2, value("w"))]),
        ("carts", "k", vec![version(2, value("w")), v()]),
        ("carts", "k", vec![v()]),
        ("carts", "k", vec![v(), v()]),
        ("carts", "k", vec![v(), version(2, Payload::Tombstone)]),
        ("carts", "k", vec![v(), version(2, value(""))]),
        ("carts", "k", vec![v(), Version { schema: 1, ..version(2, value("w")) }]),
        ("carts", "k", vec![v(), Version { written_at_ms: 101, ..version(2, value("w")) }]),
        ("carts", "k", vec![Version { schema: 1, ..v() }, version(2, value("w"))]),
    ];
    let known = |value: &'static str, schema, written_at_ms| {
        let value = Some(Bytes::from_static(value.as_bytes()));
        Ancestor::Known(DivergentVersion { value, schema, written_at_ms })
    };
    let ancestors =
        [Ancestor::Absent, known("", 0, 0), known("v", 0, 0), known("v", 1, 0), known("v", 0, 1)];
    let count = inputs.len() + ancestors.len();
    let name = |keyspace: &str, key: &'static str, versions: Vec<Version>, ancestor| {
        let versions: Vec<LiveVersion> = versions.into_iter().map(live).collect();
        divergence(keyspace, &Bytes::from_static(key.as_bytes()), &versions, ancestor).fingerprint
    };
    let two = || vec![v(), version(2, value("w"))];
    let of_ancestors = ancestors.map(|ancestor| name("carts", "k", two(), ancestor));
    let of_inputs = inputs
        .into_iter()
        .map(|(keyspace, key, versions)| name(keyspace, key, versions, Ancestor::Unknown));
    let names: BTreeSet<[u8; 32]> = of_inputs.chain(of_ancestors).collect();
    assert_eq!(names.len(), count);
}
