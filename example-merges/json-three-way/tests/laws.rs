//! The three ancestors, the conflicts, and the laws that hold under one ancestor.

use json_three_way::{CONFLICT, DEPTH_MAX, JsonThreeWay};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use stator_guest::{
    Ancestor, Divergence, Failure, Invariant, Merge, Outcome, Random, Reason, Resolution, Sample,
    Version,
};

fn known(base: &Value) -> Ancestor {
    Ancestor::Known(Version::of_value(base.to_string()))
}

fn resolution(ancestor: &Ancestor, documents: &[&Value]) -> Result<Resolution, Failure> {
    let values = documents.iter().map(|document| document.to_string());
    let divergence = Divergence { ancestor: ancestor.clone(), ..Divergence::of_values(values) };
    JsonThreeWay::merge(&divergence)
}

fn merge(ancestor: &Ancestor, documents: &[&Value]) -> Value {
    match resolution(ancestor, documents).expect("documents").outcome {
        Outcome::Value(json) => serde_json::from_slice(&json).expect("JSON"),
        other => panic!("{documents:?} merge to {other:?}"),
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3).prop_map(Value::from),
        "[a~/]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            object(inner).prop_map(Value::from),
        ]
    })
}

fn object(field: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let fields = prop::collection::btree_map("[a-c]", field, 0..4);
    fields.prop_map(|fields| fields.into_iter().collect())
}

fn document() -> impl Strategy<Value = Value> {
    object(any_json()).prop_map(Value::from)
}

fn ancestor() -> impl Strategy<Value = Ancestor> {
    prop_oneof![
        Just(Ancestor::Unknown),
        Just(Ancestor::Absent),
        document().prop_map(|base| known(&base)),
    ]
}

proptest! {
    #[test]
    fn samples_are_merged_without_loss(seed: u64) {
        let sample = JsonThreeWay::sample(&mut Random::new(seed));
        let merged = JsonThreeWay::merge(&sample).expect("samples can be merged").outcome;
        prop_assert_eq!(JsonThreeWay::preserves(&sample, &merged), Ok(()));
    }

    #[test]
    fn under_one_ancestor_it_is_a_join(
        o in ancestor(), a in document(), b in document(), c in document(),
    ) {
        let whole = merge(&o, &[&a, &b, &c]);
        prop_assert_eq!(&merge(&o, &[&c, &a, &b]), &whole);
        prop_assert_eq!(&merge(&o, &[&merge(&o, &[&a, &b]), &c]), &whole);
        prop_assert_eq!(&merge(&o, &[&a, &merge(&o, &[&b, &c])]), &whole);
        prop_assert_eq!(&merge(&o, &[&whole, &b]), &whole);
        prop_assert_eq!(&merge(&o, &[&a, &a, &b, &c]), &whole);
    }

    #[test]
    fn one_editor_alone_gets_what_it_wrote(base in document(), edit in document()) {
        let merged = resolution(&known(&base), &[&base, &edit]).expect("documents");
        prop_assert_eq!(&merged, &Resolution::value(edit.to_string()), "no conflict either");
    }

    #[test]
    fn without_an_ancestor_no_field_is_lost(a in document(), b in document()) {
        let merged = merge(&Ancestor::Unknown, &[&a, &b]);
        for document in [&a, &b] {
            for name in document.as_object().expect("an object").keys() {
                prop_assert!(merged.get(name).is_some(), "{} is lost", name);
            }
        }
    }
}

#[test]
fn edits_at_different_places_are_both_kept() {
    let base = json!({"title": "Tea", "price": {"eur": 3, "gbp": 2}, "old": true});
    let a = json!({"title": "Tea", "price": {"eur": 4, "gbp": 2}, "old": true, "new": 1});
    let b = json!({"title": "Green tea", "price": {"eur": 3}});
    let merged = json!({"title": "Green tea", "price": {"eur": 4}, "new": 1});
    assert_eq!(resolution(&known(&base), &[&a, &b]), Ok(Resolution::value(merged.to_string())));
    let union = json!({
        "title": "Tea", "price": {"eur": 4, "gbp": 2}, "old": true, "new": 1,
    });
    assert_eq!(merge(&Ancestor::Unknown, &[&a, &b]), union, "nothing counts as removed");
}

#[test]
fn an_absent_ancestor_has_no_field() {
    let (a, b) = (json!({"x": 1}), json!({"y": 2}));
    let both = json!({"x": 1, "y": 2});
    assert_eq!(merge(&Ancestor::Absent, &[&a, &b]), both);
    let deleted = Ancestor::Known(Version::tombstone());
    assert_eq!(merge(&deleted, &[&a, &b]), both);
}

#[test]
fn conflicts_are_decided_by_the_rule_and_told() {
    let base = json!({"a/b": {"~": 1, "gone": 1, "kind": 1}});
    let left = json!({"a/b": {"~": 9, "kind": {"x": 1}}});
    let right = json!({"a/b": {"~": 10, "gone": 2, "kind": "z"}});
    let merged = json!({"a/b": {"~": 9, "gone": 2, "kind": {"x": 1}}});
    let told = Resolution::value(merged.to_string())
        .with_note("conflicts: 3")
        .with_event(CONFLICT, "/a~1b/gone")
        .with_event(CONFLICT, "/a~1b/kind")
        .with_event(CONFLICT, "/a~1b/~0");
    assert_eq!(resolution(&known(&base), &[&left, &right]), Ok(told));
}

#[test]
fn a_changed_document_stays_whole_beside_its_delete() {
    let base = json!({"a": 1, "b": 2});
    let edit = json!({"a": 5, "b": 2});
    let mut divergence = Divergence::of_values([edit.to_string()]);
    divergence.ancestor = known(&base);
    divergence.siblings.push(Version::tombstone());
    assert_eq!(JsonThreeWay::merge(&divergence), Ok(Resolution::value(edit.to_string())));
    divergence.siblings.remove(0);
    assert_eq!(JsonThreeWay::merge(&divergence), Ok(Resolution::delete()));
}

#[test]
fn what_is_no_document_is_refused_with_its_place() {
    let deep = |depth: usize| format!("{}{}", r#"{"a":"#.repeat(depth), "1") + &"}".repeat(depth);
    let too_deep = deep(DEPTH_MAX + 1);
    let bad = [
        ("", "EOF"),
        ("[1]", "expected an object"),
        (r#"{"a":{"b":1,"b":2}}"#, "`b` is there twice"),
        (r#"{"a":1e999}"#, "number out of range"),
        (&too_deep, "deeper than 32"),
    ];
    for (text, says) in bad {
        let failure = JsonThreeWay::merge(&Divergence::of_values(["{}", text])).expect_err(text);
        assert_eq!((failure.reason, failure.sibling), (Reason::Malformed, Some(1)), "{text}");
        assert!(failure.message.contains(says), "{text}: {}", failure.message);
    }
    assert!(JsonThreeWay::merge(&Divergence::of_values([deep(DEPTH_MAX)])).is_ok());
    let quoted = r#"{"a":"\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}"#;
    assert!(JsonThreeWay::merge(&Divergence::of_values([quoted])).is_ok(), "brackets in strings");
}

#[test]
fn an_unreadable_ancestor_is_said() {
    let ancestor = Ancestor::Known(Version::of_value("[]"));
    let failure = resolution(&ancestor, &[&json!({}), &json!({"a": 1})]).expect_err("no document");
    assert_eq!((failure.reason, failure.sibling), (Reason::Unresolvable, None));
    assert!(failure.message.contains("ancestor"), "{}", failure.message);
}

#[test]
fn a_loss_is_noticed() {
    let empty = Outcome::Value(br#"{}"#.to_vec());
    let mut samples = JsonThreeWay::samples(1, 20).into_iter();
    assert!(samples.any(|sample| JsonThreeWay::preserves(&sample, &empty).is_err()));
}
