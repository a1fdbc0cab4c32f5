//! What each rule makes of siblings, what it refuses, and the laws that it keeps.

use json_rules::{merge, parse, preserves, sample};
use merge_rules::Rules;
use proptest::prelude::*;
use serde_json::{Value, json};
use stator_guest::{Ancestor, Divergence, Failure, Outcome, Random, Reason, Resolution, Version};

fn rules(list: &[&str]) -> Rules {
    Rules::read(list).unwrap_or_else(|why| panic!("{list:?}: {why}"))
}

/// Siblings that were written one after the other.
fn merged(list: &[&str], documents: &[&str]) -> Result<String, Failure> {
    with(list, &Ancestor::Unknown, documents)
}

fn with(list: &[&str], ancestor: &Ancestor, documents: &[&str]) -> Result<String, Failure> {
    let mut divergence = Divergence::of_values(documents.iter().copied());
    divergence.ancestor = ancestor.clone();
    for (sibling, at_ms) in divergence.siblings.iter_mut().zip(1..) {
        sibling.written_at_ms = at_ms;
    }
    merge(&rules(list), &divergence).map(|resolution| match resolution.outcome {
        Outcome::Value(json) => String::from_utf8(json).expect("UTF-8"),
        other => panic!("{documents:?} merge to {other:?}"),
    })
}

#[test]
fn each_rule_does_what_it_says() {
    for (rule, left, right, result) in [
        ("union", "[2,1]", "[3,2]", "[1,2,3]"),
        ("union", r#"{"x":["b"],"y":[]}"#, r#"{"x":["a"]}"#, r#"{"x":["a","b"],"y":[]}"#),
        ("union", r#"[{"b":1.0,"a":[2,1]}]"#, r#"[{"a":[2,1],"b":1}]"#, r#"[{"a":[2,1],"b":1}]"#),
        ("max", "9", "10", "10"),
        ("max", r#""9""#, r#""10""#, r#""9""#),
        ("max", "9007199254740993", "9007199254740992.0", "9007199254740993"),
        ("max", "0.1234567890123456789", "-1e300", "0.1234567890123456789"),
        ("min", "-9", "-10", "-10"),
        ("min", r#""a""#, r#""b""#, r#""a""#),
        ("sum", r#"{"a":3}"#, r#"{"a":2,"b":4}"#, r#"{"a":3,"b":4}"#),
        ("last-write", "9", r#"{"k":1}"#, r#"{"k":1}"#),
        ("three-way:max", "9", "7", "9"),
    ] {
        let documents = [left, right].map(|value| format!(r#"{{"v":{value}}}"#));
        let documents = [documents[0].as_str(), documents[1].as_str()];
        let found = merged(&[&format!("/v={rule}")], &documents);
        assert_eq!(found, Ok(format!(r#"{{"v":{result}}}"#)), "{rule} of {documents:?}");
    }
}

#[test]
fn a_rule_holds_at_its_path_and_the_default_elsewhere() {
    let list = ["=last-write", "/items/*/qty=max", "/items/*/tags=union", "/items/tea/qty=min"];
    let left = r#"{"items":{"tea":{"qty":2},"jam":{"qty":7,"tags":["x"]}},"note":"a"}"#;
    let right = r#"{"note":"b","items":{"tea":{"qty":1},"jam":{"qty":5,"tags":["w"],"new":1}}}"#;
    let all = r#"{"items":{"jam":{"new":1,"qty":7,"tags":["w","x"]},"tea":{"qty":1}},"note":"b"}"#;
    assert_eq!(merged(&list, &[left, right]).as_deref(), Ok(all));
    assert_eq!(merged(&["=union"], &["[1]", "[2]"]).as_deref(), Ok("[1,2]"), "the whole document");
    assert_eq!(merged(&["=max"], &["1", "2"]).as_deref(), Ok("2"));
    let nothing = merged(&["/a=max"], &[r#"{"a":1,"b":[2,1]}"#, r#"{"a":2.0,"b":[2,1]}"#]);
    assert_eq!(nothing.as_deref(), Ok(r#"{"a":2,"b":[2,1]}"#), "what is the same needs no rule");
}

#[test]
fn one_sibling_is_written_anew_as_well() {
    let list = ["/tags=union"];
    let found = merged(&list, &[r#"{ "tags":["b","a","a"], "n":1.50, "a":"\u0041\/" }"#]);
    assert_eq!(found.as_deref(), Ok(r#"{"a":"A/","n":1.5,"tags":["a","b"]}"#));
}

#[test]
fn what_a_rule_is_not_made_for_is_refused_with_its_path() {
    for (rule, left, right, says) in [
        ("max", "{}", "1", "max is of numbers, or of texts, and there is a number and an object"),
        ("max", "1", r#""1""#, "a number and a text"),
        ("min", "null", "1", "a number and null"),
        ("union", "[1]", "{}", "union is of arrays, and there is an array and an object"),
        ("union", "1", "2", "there is a number"),
        ("sum", "7", "8", "for each writer a number from 0, and there is a number"),
        ("sum", r#"{"a":1}"#, r#"{"a":-1}"#, "`a` has -1"),
        ("three-way:min", "[]", "1", "a number and an array"),
    ] {
        let documents = [left, right].map(|value| format!(r#"{{"a/b":{{"v":{value}}}}}"#));
        let documents = [documents[0].as_str(), documents[1].as_str()];
        let why = merged(&[&format!("/*/v={rule}")], &documents).expect_err(rule);
        assert_eq!(why.reason, Reason::Unresolvable);
        assert!(why.message.starts_with("`/a~1b/v`: "), "{}", why.message);
        assert!(why.message.contains(says), "{rule}: {}", why.message);
    }
    let why = merged(&["/b=max"], &[r#"{"a":[1]}"#, r#"{"a":[2]}"#]).expect_err("no rule");
    assert!(why.message.starts_with("`/a`: differs, and has no rule"), "{}", why.message);
    let kinds = merged(&["/b=max"], &[r#"{"a":{}}"#, r#"{"a":2}"#]);
    assert!(kinds.is_err(), "an object beside what is none");
}

#[test]
fn three_ways_keep_what_one_has_changed() {
    let base = r#"{"a":1,"b":1,"c":{"x":1,"y":1},"gone":1,"kept":1,"tags":["t"]}"#;
    let left = r#"{"a":2,"b":7,"c":{"x":1},"kept":2,"tags":[]}"#;
    let right = r#"{"a":1,"b":8,"c":{"x":1,"y":1,"z":1},"gone":1,"tags":["t","u"]}"#;
    let known = Ancestor::Known(Version::of_value(base));
    let list = ["=three-way:min", "/tags=union"];
    let found = with(&list, &known, &[left, right]);
    let all = r#"{"a":2,"b":7,"c":{"x":1,"z":1},"kept":2,"tags":["t","u"]}"#;
    assert_eq!(found.as_deref(), Ok(all));
    let found = merged(&list, &[left, right]);
    let all = r#"{"a":1,"b":7,"c":{"x":1,"y":1,"z":1},"gone":1,"kept":2,"tags":["t","u"]}"#;
    assert_eq!(found.as_deref(), Ok(all), "nothing counts as removed, the rule behind it decides");
    let absent = with(&list, &Ancestor::Absent, &[r#"{"x":1}"#, r#"{"y":2}"#]);
    assert_eq!(absent.as_deref(), Ok(r#"{"x":1,"y":2}"#));
    let unreadable = Ancestor::Known(Version::of_value("["));
    let why = with(&list, &unreadable, &[left, right]).expect_err("no ancestor");
    assert!(why.message.contains("ancestor"), "{}", why.message);
    assert!(with(&["=last-write"], &unreadable, &[left, right]).is_ok(), "no rule asks for it");
}

#[test]
fn a_delete_takes_nothing_from_what_was_written_beside_it() {
    let document = r#"{"n":1}"#;
    let mut divergence = Divergence::of_values([document]);
    divergence.siblings.push(Version::tombstone());
    let list = rules(&["/n=max"]);
    assert_eq!(merge(&list, &divergence), Ok(Resolution::value(document)));
    divergence.siblings.remove(0);
    assert_eq!(merge(&list, &divergence), Ok(Resolution::delete()));
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    for (text, says) in [
        ("", "a value is missing, at byte 0"),
        (r#"{"a":1,"a":2}"#, "`a` is there twice"),
        (r#"{"a":01}"#, "not written as JSON"),
        (r#"{"a":1e}"#, "not written as JSON"),
        (r#"{"a":1e9999999}"#, "more than 1,000,000"),
        (r#""\ud83c""#, "half of a surrogate pair"),
        ("[1] 2", "more behind the value"),
        (&deep(33), "nested deeper than 32"),
    ] {
        let why = merged(&["=max"], &["1", text]).expect_err(text);
        assert_eq!((why.reason, why.sibling), (Reason::Malformed, Some(1)), "{text}");
        assert!(why.message.contains(says), "{text}: {}", why.message);
    }
    assert!(parse(deep(32).as_bytes()).is_ok());
    assert!(parse(b"\"\xff\"").is_err());
}

#[test]
fn numbers_keep_their_digits_and_have_one_text() {
    for (text, canonical) in [
        ("-0.0", "0"),
        ("1.0", "1"),
        ("10e-1", "1"),
        ("100", "100"),
        ("1e20", "100000000000000000000"),
        ("1E+40", "1e40"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("0.000001", "0.000001"),
        ("0.0000001", "1e-7"),
        ("-12.3450", "-12.345"),
        ("1.7976931348623159e308", "1.7976931348623159e308"),
    ] {
        assert_eq!(parse(text.as_bytes()).expect(text).text(), canonical);
        assert_eq!(parse(canonical.as_bytes()).expect(canonical).text(), canonical);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // As floating point has them exactly.
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|members| {
                Value::from(members.into_iter().collect::<serde_json::Map<_, _>>())
            }),
        ]
    })
}

/// A value that this rule is made for.
fn value_for(rule: &str) -> BoxedStrategy<Value> {
    let eighths = (-30..30).prop_map(|eighths| Value::from(f64::from(eighths) / 8.0));
    let number = prop_oneof![(-3..3).prop_map(Value::from), eighths];
    match rule {
        "union" => prop::collection::vec(any_json(), 0..3).prop_map(Value::from).boxed(),
        "max" | "min" => number.boxed(),
        "sum" => {
            prop::collection::btree_map("[a-c]", 0..5u64, 0..3).prop_map(|of| json!(of)).boxed()
        }
        _ => prop_oneof![Just(json!(1)), Just(json!("b")), Just(json!({"x": 1})), Just(json!([1]))]
            .boxed(),
    }
}

/// A document that has such a value at `/v`, `/w` or both; at times in another layout.
fn document_for(rule: &'static str) -> impl Strategy<Value = String> {
    let values = (prop::option::of(value_for(rule)), prop::option::of(value_for(rule)));
    (values, any::<bool>()).prop_map(|((v, w), spaced)| {
        let mut members = serde_json::Map::new();
        members.extend(w.map(|w| ("w".to_owned(), w)));
        members.extend(v.map(|v| ("v".to_owned(), v)));
        let document = Value::from(members);
        if spaced { format!("{document:#}") } else { document.to_string() }
    })
}

const JOINS: [&str; 4] = ["union", "max", "min", "sum"];

fn join_and_documents() -> impl Strategy<Value = (&'static str, Vec<String>)> {
    prop::sample::select(JOINS.to_vec())
        .prop_flat_map(|rule| (Just(rule), prop::collection::vec(document_for(rule), 3)))
}

fn any_rule_and_documents() -> impl Strategy<Value = (&'static str, Vec<String>)> {
    let all = [&JOINS[..], &["last-write", "three-way:last-write"]].concat();
    prop::sample::select(all)
        .prop_flat_map(|rule| (Just(rule), prop::collection::vec(document_for(rule), 3)))
}

proptest! {
    #[test]
    fn joins_are_commutative_associative_and_idempotent((rule, documents) in join_and_documents()) {
        let list = [format!("/*={rule}")];
        let list = [list[0].as_str()];
        let of = |documents: &[&str]| merged(&list, documents).expect("merges");
        let [a, b, c] = [0, 1, 2].map(|n| documents[n].as_str());
        let whole = of(&[a, b, c]);
        prop_assert_eq!(&of(&[c, a, b]), &whole);
        prop_assert_eq!(&of(&[&of(&[a, b]), c]), &whole);
        prop_assert_eq!(&of(&[a, &of(&[b, c])]), &whole);
        prop_assert_eq!(&of(&[&whole, b]), &whole);
        prop_assert_eq!(&of(&[&whole]), &whole);
    }

    #[test]
    fn under_every_rule_order_and_layout_do_not_matter(
        (rule, documents) in any_rule_and_documents(), known in any::<bool>(),
    ) {
        let list = rules(&[&format!("/*={rule}")]);
        let mut siblings = Divergence::of_values(documents.iter().map(String::as_str));
        if known {
            siblings.ancestor = Ancestor::Known(siblings.siblings.remove(0));
        }
        for (sibling, at_ms) in siblings.siblings.iter_mut().zip([7, 7, 9]) {
            sibling.written_at_ms = at_ms;
        }
        let whole = merge(&list, &siblings).expect("merges");
        let mut turned = siblings.clone();
        turned.siblings.reverse();
        for sibling in &mut turned.siblings {
            let json: Value = serde_json::from_slice(sibling.value.as_deref().expect("a value"))
                .expect("JSON");
            sibling.value = Some(format!(" {json:#}\n").into_bytes());
        }
        prop_assert_eq!(&merge(&list, &turned), &Ok(whole.clone()));
        let Outcome::Value(value) = &whole.outcome else { panic!("{whole:?}") };
        let again = Divergence { siblings: vec![Version::of_value(value.as_slice())], ..siblings };
        if !known {
            prop_assert_eq!(&merge(&list, &again), &Ok(whole.clone()), "canonical");
        }
    }

    #[test]
    fn samples_of_any_rules_merge_without_loss(seed: u64, chosen in prop::sample::subsequence(vec![
        "=union", "/a=max", "/b=min", "/c=sum", "/d/*=last-write", "/e=three-way:union",
        "/*/f=three-way:last-write", "/ant=max", "/bee/*/n=min",
    ], 1..9)) {
        let list = rules(&chosen);
        let sample = sample(&list, &mut Random::new(seed));
        let merged = merge(&list, &sample).expect("samples can be merged").outcome;
        prop_assert_eq!(preserves(&list, &sample, &merged), Ok(()));
    }

    #[test]
    fn json_is_read_as_others_read_it(json in any_json(), at: prop::sample::Index, byte: u8) {
        let text = json.to_string();
        let read = parse(text.as_bytes()).expect("JSON").text();
        let again: Value = serde_json::from_str(&read).expect("JSON");
        // Whole numbers may have been written as others.
        prop_assert_eq!(parse(again.to_string().as_bytes()).expect("JSON").text(), read);
        let mut odd = text.into_bytes();
        let at = at.index(odd.len());
        odd[at] = byte;
        if let Err(why) = parse(&odd) {
            let is_ours = why.contains("twice") || why.contains("1,000,000");
            prop_assert!(is_ours || serde_json::from_slice::<Value>(&odd).is_err(), "{}", why);
        } else {
            let theirs = serde_json::from_slice::<Value>(&odd).map_err(|why| why.to_string());
            prop_assert!(theirs.is_ok()
                || theirs.clone().is_err_and(|why| why.contains("out of range")), "{:?}", theirs);
        }
    }

    #[test]
    fn numbers_are_ordered_by_their_size(one: i64, other: i64, power in -8i32..8) {
        let number = |n: i64| parse(format!("{n}e{power}").as_bytes()).expect("a number");
        prop_assert_eq!(number(one).cmp(&number(other)), one.cmp(&other));
        let (small, large) = (one as f64 / 1e9, other as f64 / 1e7);
        let float = |n: f64| parse(n.to_string().as_bytes()).expect("a number");
        prop_assert_eq!(Some(float(small).cmp(&float(large))), small.partial_cmp(&large));
    }
}

#[test]
fn a_loss_is_noticed() {
    let empty = Outcome::Value(b"{}".to_vec());
    for rule in ["/v=union", "/v=max", "/v=min", "/v=sum", "/v=last-write"] {
        let list = rules(&[rule]);
        let mut samples = (0..20).map(|seed| sample(&list, &mut Random::new(seed)));
        assert!(samples.any(|sample| preserves(&list, &sample, &empty).is_err()), "{rule}");
    }
}
