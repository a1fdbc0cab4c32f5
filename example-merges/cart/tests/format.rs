//! The corners of the format that the README promises.

use cart::CartMerge;
use stator_guest::{Divergence, Merge, Outcome, Reason, Resolution, Version};

fn merged(carts: &[&str]) -> String {
    match CartMerge::merge(&Divergence::of_values(carts.iter().copied())) {
        Ok(Resolution { outcome: Outcome::Value(json), .. }) => String::from_utf8(json).unwrap(),
        other => panic!("no cart: {other:?}"),
    }
}

#[test]
fn the_text_is_canonical() {
    let text = merged(&[
        r#"{ "removed": ["z", "y", "z"], "items": {"b": {"sku": "B", "quantity": 2}} }"#,
        r#"{"items":{"a":{"quantity":1,"sku":"A"},"y":{"sku":"Y","quantity":1}}}"#,
    ]);
    let expected = concat!(
        r#"{"items":{"a":{"quantity":1,"sku":"A"},"b":{"quantity":2,"sku":"B"}},"#,
        r#""removed":["y","z"]}"#
    );
    assert_eq!(text, expected);
    assert_eq!(merged(&["{}"]), r#"{"items":{},"removed":[]}"#);
}

#[test]
fn of_one_tag_the_larger_item_counts() {
    let small = r#"{"items":{"t":{"sku":"Z","quantity":2}}}"#;
    let large = r#"{"items":{"t":{"sku":"A","quantity":10}}}"#;
    let larger = r#"{"items":{"t":{"sku":"B","quantity":10}}}"#;
    let expected = r#"{"items":{"t":{"quantity":10,"sku":"B"}},"removed":[]}"#;
    assert_eq!(merged(&[small, large, larger]), expected);
    let within_one_text =
        r#"{"items":{"t":{"sku":"B","quantity":10},"t":{"sku":"Z","quantity":2}}}"#;
    assert_eq!(merged(&[within_one_text]), expected);
}

#[test]
fn a_tombstone_adds_and_removes_nothing() {
    let mut divergence = Divergence::of_values([r#"{"items":{"a":{"sku":"A","quantity":1}}}"#]);
    let alone = CartMerge::merge(&divergence);
    divergence.siblings.insert(0, Version::tombstone());
    assert_eq!(CartMerge::merge(&divergence), alone);
}

#[test]
fn tombstones_alone_are_a_delete() {
    let mut divergence = Divergence::of_values([""; 0]);
    divergence.siblings.push(Version::tombstone());
    assert_eq!(CartMerge::merge(&divergence), Ok(Resolution::delete()));
}

#[test]
fn what_is_no_cart_is_refused_with_its_place() {
    let bad = [
        ("", "empty"),
        ("{", "EOF"),
        ("[]", "expected an object"),
        (r#"{"items":{"t":[1,"A"]}}"#, "expected an object"),
        ("{}x", "trailing"),
        ("\u{feff}{}", "expected value"),
        (r#"{"items":{},"coupon":"X"}"#, "unknown field `coupon`"),
        (r#"{"items":{"t":{"sku":"A","quantity":1,"note":""}}}"#, "unknown field `note`"),
        (r#"{"items":{"t":{"sku":"A"}}}"#, "missing field `quantity`"),
        (r#"{"items":{"t":{"sku":"A","quantity":0}}}"#, "nonzero"),
        (r#"{"items":{"t":{"sku":"A","quantity":-1}}}"#, "nonzero"),
        (r#"{"items":{"t":{"sku":"A","quantity":1.5}}}"#, "nonzero"),
        (r#"{"items":{"t":{"sku":"A","quantity":4294967296}}}"#, "nonzero"),
        (r#"{"removed":[1]}"#, "expected a string"),
        (r#"{"items":{},"items":{}}"#, "duplicate field"),
    ];
    for (text, says) in bad {
        let mut divergence = Divergence::of_values(["{}", text]);
        divergence.siblings.insert(0, Version::tombstone());
        let failure = CartMerge::merge(&divergence).expect_err(text);
        assert_eq!((failure.reason, failure.sibling), (Reason::Malformed, Some(2)), "{text}");
        assert!(failure.message.contains(says), "{text}: {}", failure.message);
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let failure = CartMerge::merge(&Divergence::of_values([b"{\"removed\":[\"\xff\"]}".to_vec()]))
        .expect_err("not UTF-8");
    assert_eq!((failure.reason, failure.sibling), (Reason::Malformed, Some(0)));
}

#[test]
fn a_later_schema_is_refused() {
    let mut divergence = Divergence::of_values(["{}", "{}"]);
    divergence.siblings[0].schema = 1;
    assert!(CartMerge::merge(&divergence).is_ok());
    divergence.siblings[1].schema = 2;
    let failure = CartMerge::merge(&divergence).expect_err("schema 2");
    assert_eq!((failure.reason, failure.sibling), (Reason::UnknownSchema, Some(1)));
}
