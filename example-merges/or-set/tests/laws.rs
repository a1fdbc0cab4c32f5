//! The merge laws, and the set against a model that is nothing but pairs.

use std::collections::{BTreeMap, BTreeSet};

use or_set::{OrSet, Set};
use proptest::prelude::*;
use stator_guest::{
    Divergence, Invariant, Merge, Outcome, Random, Reason, Resolution, Sample, Version,
};

fn merge<const N: usize>(values: [&str; N]) -> String {
    match OrSet::merge(&Divergence::of_values(values)).map(|merged| merged.outcome) {
        Ok(Outcome::Value(json)) => String::from_utf8(json).expect("UTF-8"),
        other => panic!("{values:?} merge to {other:?}"),
    }
}

fn json(set: &Set) -> String {
    serde_json::to_string(set).expect("JSON")
}

/// Any set, also such as a client should not write: one tag under two elements, elements under
/// removed tags.
fn any_set() -> impl Strategy<Value = Set> {
    let tags = || prop::collection::btree_set("[0-5é]", 0..4);
    (prop::collection::btree_map("[a-c\"]", tags(), 0..4), tags())
        .prop_map(|(elements, removed)| Set { elements, removed })
}

/// What a client does: adds the element, or removes what it sees of it.
fn edited(base: &Set, client: &str, edits: &[(bool, String)]) -> Set {
    let mut set = base.clone();
    for (n, (adds, element)) in edits.iter().enumerate() {
        if *adds {
            set.elements.entry(element.clone()).or_default().insert(format!("{client}:{n}"));
        } else {
            set.removed.extend(set.elements.remove(element).unwrap_or_default());
        }
    }
    set
}

fn edits() -> impl Strategy<Value = Vec<(bool, String)>> {
    prop::collection::vec((any::<bool>(), "[a-c]"), 0..6)
}

proptest! {
    #[test]
    fn samples_are_merged_without_loss(seed: u64) {
        let sample = OrSet::sample(&mut Random::new(seed));
        let merged = OrSet::merge(&sample).expect("samples can be merged").outcome;
        prop_assert_eq!(OrSet::preserves(&sample, &merged), Ok(()));
    }

    #[test]
    fn the_order_the_number_and_the_steps_do_not_matter(
        a in any_set(), b in any_set(), c in any_set(),
    ) {
        let [a, b, c] = [json(&a), json(&b), json(&c)];
        let whole = merge([&a, &b, &c]);
        prop_assert_eq!(merge([&c, &a, &b]), whole.clone());
        prop_assert_eq!(merge([&merge([&a, &b]), &c]), whole.clone());
        prop_assert_eq!(merge([&a, &merge([&b, &c])]), whole.clone());
        prop_assert_eq!(merge([&whole, &b]), whole.clone());
        prop_assert_eq!(merge([&a, &a, &b, &c]), whole);
    }

    #[test]
    fn merging_with_the_own_past_changes_nothing(
        base in edits(), left in edits(), right in edits(), later in edits(),
    ) {
        let base = edited(&Set::default(), "base", &base);
        let a = edited(&base, "left", &left);
        let b = json(&edited(&base, "right", &right));
        let derived = json(&edited(&a, "later", &later));
        prop_assert_eq!(merge([&merge([&json(&a), &b]), &derived]), merge([&b, &derived]));
    }

    #[test]
    fn exactly_the_removed_tags_are_gone(a in any_set(), b in any_set()) {
        let removed: BTreeSet<_> = a.removed.union(&b.removed).cloned().collect();
        let mut elements: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (element, tags) in a.elements.iter().chain(&b.elements) {
            for tag in tags.difference(&removed) {
                elements.entry(element.clone()).or_default().insert(tag.clone());
            }
        }
        prop_assert_eq!(merge([&json(&a), &json(&b)]), json(&Set { elements, removed }));
    }
}

#[test]
fn an_add_survives_a_removal_that_did_not_see_it() {
    let phone = r#"{"elements":{"tea":["laptop:1","phone:1"]}}"#;
    let laptop = r#"{"removed":["laptop:1"]}"#;
    assert_eq!(
        merge([phone, laptop]),
        r#"{"elements":{"tea":["phone:1"]},"removed":["laptop:1"]}"#
    );
}

#[test]
fn tombstones_remove_nothing_and_alone_are_a_delete() {
    let mut divergence = Divergence::of_values([r#"{"elements":{"tea":["1"]},"removed":[]}"#]);
    let alone = OrSet::merge(&divergence);
    divergence.siblings.push(Version::tombstone());
    assert_eq!(OrSet::merge(&divergence), alone);
    divergence.siblings.remove(0);
    assert_eq!(OrSet::merge(&divergence), Ok(Resolution::delete()));
}

#[test]
fn what_is_no_set_is_refused_with_its_place() {
    let bad = [
        ("", "EOF"),
        ("tea", "expected"),
        (r#"{"elements":{"tea":["1"],"tea":["2"]}}"#, "`tea` is there twice"),
        (r#"{"elements":{"tea":"1"}}"#, "expected a sequence"),
        (r#"{"color":"red"}"#, "unknown field `color`"),
    ];
    for (text, says) in bad {
        let failure = OrSet::merge(&Divergence::of_values(["{}", text])).expect_err(text);
        assert_eq!((failure.reason, failure.sibling), (Reason::Malformed, Some(1)), "{text}");
        assert!(failure.message.contains(says), "{text}: {}", failure.message);
    }
    let mut later = Divergence::of_values(["{}"]);
    later.siblings[0].schema = 2;
    assert_eq!(OrSet::merge(&later).expect_err("schema 2").reason, Reason::UnknownSchema);
}

#[test]
fn a_loss_is_noticed() {
    let empty = Outcome::Value(br#"{"elements":{},"removed":[]}"#.to_vec());
    let mut samples = OrSet::samples(1, 20).into_iter();
    assert!(samples.any(|sample| OrSet::preserves(&sample, &empty).is_err()));
}
