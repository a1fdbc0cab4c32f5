//! The reference implementation of dotted version vector sets as an oracle: what `dvvset.erl`
//! answered, [`Siblings`] must answer too.
//!
//! A clock there is `[[id, n, [values, newest first]]]`: of the dots `1..=n` of `id` the last
//! ones are live, as many as there are values. The files in `oracles/` are a part of a larger
//! set; `STATOR_ORACLES` names a folder with all of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use stator_core::causality::{Siblings, VersionVector};
use stator_core::codec::put_field;
use stator_core::id::{Actor, Dot, Incarnation, NodeId};
use stator_core::version::{Origin, Payload, Version};

fn cases(file: &str) -> Vec<Value> {
    let folder = std::env::var_os("STATOR_ORACLES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracles"),
        PathBuf::from,
    );
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let mut oracle: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(oracle["format"], "dvvset-facts/1");
    match oracle["cases"].take() {
        Value::Array(cases) if cases.len() >= 50 => cases,
        _ => panic!("{file}: at least 50 cases are expected"),
    }
}

/// Ids are single letters, and as nodes in the same order.
fn actor(id: &str) -> Actor {
    let node = NodeId(u64::from(id.as_bytes()[0]));
    Actor { node, incarnation: Incarnation(1), epoch: 0 }
}

fn id(actor: Actor) -> String {
    char::from(actor.node.0 as u8).to_string()
}

fn version(value: &str, dot: Dot) -> Arc<Version> {
    Arc::new(Version {
        past: None,
        payload: Payload::Value(Bytes::copy_from_slice(value.as_bytes())),
        written_at_ms: 1,
        expires_at_ms: None,
        schema: 0,
        origin: Origin::Client(dot),
        base: Vec::new(),
        labels: BTreeMap::new(),
        request: None,
        unknown: Vec::new(),
    })
}

fn text(value: &Version) -> String {
    String::from_utf8(value.payload.value().unwrap().to_vec()).unwrap()
}

fn vector(entries: &Value) -> VersionVector {
    let dot = |entry: &Value| Dot {
        actor: actor(entry[0].as_str().unwrap()),
        counter: entry[1].as_u64().unwrap(),
    };
    entries.as_array().unwrap().iter().map(dot).collect()
}

/// The siblings that a clock describes, by way of their stored form: some of the clocks could
/// not be reached by puts from the states at hand.
fn siblings(clock: &Value) -> Siblings {
    assert_eq!(clock["anon"], serde_json::json!([]), "stator has no anonymous values");
    let (mut bytes, mut field) = (Vec::new(), Vec::new());
    vector(&clock["entries"]).encode(&mut field);
    put_field(&mut bytes, 1, &field);
    let mut live = BTreeMap::new();
    for entry in clock["entries"].as_array().unwrap() {
        let newest = entry[1].as_u64().unwrap();
        for (age, value) in entry[2].as_array().unwrap().iter().enumerate() {
            let actor = actor(entry[0].as_str().unwrap());
            live.insert(Dot { actor, counter: newest - age as u64 }, value.as_str().unwrap());
        }
    }
    for (dot, value) in live {
        field.clear();
        VersionVector::from_iter([dot]).encode(&mut field);
        version(value, dot).encode(&mut field);
        put_field(&mut bytes, 2, &field);
    }
    Siblings::decode(bytes.into()).unwrap()
}

/// The clock that siblings are.
fn clock(siblings: &Siblings) -> Value {
    let entry = |Dot { actor, counter }: Dot| {
        let mut live: Vec<(Dot, String)> = siblings
            .live()
            .filter(|(dot, _)| dot.actor == actor)
            .map(|(dot, version)| (dot, text(version)))
            .collect();
        live.sort_by_key(|(dot, _)| std::cmp::Reverse(dot.counter));
        let values: Vec<String> = live.into_iter().map(|(_, value)| value).collect();
        serde_json::json!([id(actor), counter, values])
    };
    serde_json::json!({ "entries": siblings.vector().iter().map(entry).collect::<Vec<_>>(), "anon": [] })
}

fn values(siblings: &Siblings) -> Value {
    let mut values: Vec<String> =
        siblings.versions().iter().map(|live| text(&live.version)).collect();
    values.sort();
    values.into()
}

fn entries(siblings: &Siblings) -> Value {
    siblings
        .vector()
        .iter()
        .map(|dot| serde_json::json!([id(dot.actor), dot.counter]))
        .collect::<Vec<_>>()
        .into()
}

fn ids(siblings: &Siblings) -> Value {
    siblings.vector().iter().map(|dot| id(dot.actor)).collect::<Vec<_>>().into()
}

fn synced<'a>(all: impl IntoIterator<Item = &'a Siblings>) -> Siblings {
    let mut joined = Siblings::new();
    all.into_iter().for_each(|siblings| joined.sync(siblings));
    joined
}

/// The oracle's `less`: everything that `a` has seen is seen by `b`, which has seen more.
fn is_less(a: &Siblings, b: &Siblings) -> bool {
    b.vector().covers(a.vector()) && a.vector() != b.vector()
}

/// Compares what an operation left, in every form in which the oracle tells it.
fn check(found: &Siblings, op: &Value, place: &str) {
    assert_eq!(clock(found), op["clock"], "{place}: clock");
    assert_eq!(values(found), op["values"], "{place}: values");
    assert_eq!(found.live_count() as u64, op["size"].as_u64().unwrap(), "{place}: size");
    let vector = if op["op"] == "get" { &op["ctx"] } else { &op["vector"] };
    assert_eq!(&entries(found), vector, "{place}: vector");
    if op["op"] != "get" {
        assert_eq!(ids(found), op["ids"], "{place}: ids");
    }
}

#[test]
fn oracle_of_a_cluster() {
    for case in cases("dvvset_cluster.json") {
        let names = case["nodes"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        let mut nodes: BTreeMap<&str, Siblings> =
            names.map(|name| (name, Siblings::new())).collect();
        for (step, op) in case["ops"].as_array().unwrap().iter().enumerate() {
            let place = format!("case {}, step {step}, {}", case["id"], op["op"]);
            match op["op"].as_str().unwrap() {
                "put" => {
                    let name = op["node"].as_str().unwrap();
                    let node = nodes.get_mut(name).unwrap();
                    let actor = actor(name);
                    let dot = Dot { actor, counter: node.vector().get(&actor) + 1 };
                    let version = version(op["value"].as_str().unwrap(), dot);
                    node.put(&vector(&op["ctx"]), dot, version);
                    check(node, op, &place);
                }
                "get" => {
                    let asked = op["nodes"].as_array().unwrap();
                    let found = synced(asked.iter().map(|name| &nodes[name.as_str().unwrap()]));
                    check(&found, op, &place);
                }
                "replicate" => {
                    let from = nodes[op["from"].as_str().unwrap()].clone();
                    let to = nodes.get_mut(op["to"].as_str().unwrap()).unwrap();
                    to.sync(&from);
                    check(to, op, &place);
                }
                "sync_all" => {
                    let all = synced(nodes.values());
                    check(&all, op, &place);
                    nodes.values_mut().for_each(|node| node.sync(&all));
                    assert!(nodes.values().all(|node| *node == all), "{place}");
                }
                other => panic!("{place}: no such operation: {other}"),
            }
        }
    }
}

#[test]
fn oracle_of_the_algebra() {
    for case in cases("dvvset_algebra.json") {
        let inputs: Vec<Siblings> = case["in"].as_array().unwrap().iter().map(siblings).collect();
        let [a, b, c] = &inputs[..] else { panic!("case {}: three clocks", case["id"]) };
        let place = format!("case {}", case["id"]);
        let ab = synced([a, b]);
        assert_eq!(clock(&ab), case["sync_ab"], "{place}");
        assert_eq!(clock(&synced([b, a])), case["sync_ba"], "{place}");
        assert_eq!(clock(&synced([&ab, c])), case["sync_abc"], "{place}");
        assert_eq!(clock(&synced([a, &synced([b, c])])), case["sync_a_bc"], "{place}");
        assert_eq!(clock(&synced([a, a])), case["sync_aa"], "{place}");
        for order in [[a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]] {
            assert_eq!(clock(&synced(order)), case["sync_abc"], "{place}");
        }
        assert_eq!(is_less(a, b), case["less_ab"].as_bool().unwrap(), "{place}");
        assert_eq!(is_less(b, a), case["less_ba"].as_bool().unwrap(), "{place}");
        assert_eq!(is_less(a, &ab), case["less_a_sync"].as_bool().unwrap(), "{place}");
        assert_eq!(a == b, case["equal_ab"].as_bool().unwrap(), "{place}");
        assert_eq!(*a == synced([a]), case["equal_aa"].as_bool().unwrap(), "{place}");
        assert_eq!(entries(a), case["join_a"], "{place}");
        assert_eq!(values(a), case["values_a"], "{place}");
        assert_eq!(a.live_count() as u64, case["size_a"].as_u64().unwrap(), "{place}");
        assert_eq!(ids(a), case["ids_a"], "{place}");
    }
}
