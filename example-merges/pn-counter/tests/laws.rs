//! The merge laws, and the counter against the count of all operations.

use std::collections::BTreeMap;

use pn_counter::{COUNT_MAX, Count, Counter, PnCounter};
use proptest::prelude::*;
use stator_guest::{
    Divergence, Invariant, Merge, Outcome, Random, Reason, Resolution, Sample, Version,
};

fn merge<const N: usize>(values: [&str; N]) -> String {
    match PnCounter::merge(&Divergence::of_values(values)).map(|merged| merged.outcome) {
        Ok(Outcome::Value(json)) => String::from_utf8(json).expect("UTF-8"),
        other => panic!("{values:?} merge to {other:?}"),
    }
}

fn json(counter: &Counter) -> String {
    serde_json::to_string(counter).expect("JSON")
}

fn total(json: &str) -> i64 {
    let counter: Counter = serde_json::from_str(json).expect("a counter");
    let sum = |counts: &BTreeMap<String, Count>| counts.values().map(|count| count.0).sum::<u64>();
    sum(&counter.added).cast_signed() - sum(&counter.taken).cast_signed()
}

fn any_counter() -> impl Strategy<Value = Counter> {
    let count = prop_oneof![0..4u64, Just(COUNT_MAX)].prop_map(Count);
    let counts = prop::collection::btree_map("[a-c]", count, 0..4);
    (counts.clone(), counts).prop_map(|(added, taken)| Counter { added, taken })
}

/// What a client does: raises its own numbers.
fn counted(base: &Counter, client: &str, steps: &[i8]) -> Counter {
    let mut counter = base.clone();
    for step in steps {
        let numbers = if *step < 0 { &mut counter.taken } else { &mut counter.added };
        numbers.entry(client.to_owned()).or_default().0 += u64::from(step.unsigned_abs());
    }
    counter
}

fn steps() -> impl Strategy<Value = Vec<i8>> {
    prop::collection::vec(any::<i8>(), 0..6)
}

proptest! {
    #[test]
    fn samples_are_merged_without_loss(seed: u64) {
        let sample = PnCounter::sample(&mut Random::new(seed));
        let merged = PnCounter::merge(&sample).expect("samples can be merged").outcome;
        prop_assert_eq!(PnCounter::preserves(&sample, &merged), Ok(()));
    }

    #[test]
    fn the_order_the_number_and_the_steps_do_not_matter(
        a in any_counter(), b in any_counter(), c in any_counter(),
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
    fn every_step_counts_once_however_it_is_merged(
        base in steps(), left in steps(), right in steps(), later in steps(),
    ) {
        let sum = |steps: &[i8]| steps.iter().map(|step| i64::from(*step)).sum::<i64>();
        let base_counter = counted(&Counter::default(), "base", &base);
        let a = counted(&base_counter, "left", &left);
        let b = json(&counted(&base_counter, "right", &right));
        let derived = json(&counted(&a, "left", &later));
        let merged = merge([&json(&a), &b]);
        prop_assert_eq!(total(&merged), sum(&base) + sum(&left) + sum(&right));
        let all = merge([&merged, &derived]);
        prop_assert_eq!(total(&all), sum(&base) + sum(&left) + sum(&right) + sum(&later));
        prop_assert_eq!(all, merge([&b, &derived]));
    }
}

#[test]
fn of_one_client_the_larger_number_counts_and_zeros_are_left_out() {
    let merged = merge([r#"{"added":{"a":2,"b":0}}"#, r#"{"added":{"a":3},"taken":{"a":1}}"#]);
    assert_eq!(merged, r#"{"added":{"a":3},"taken":{"a":1}}"#);
}

#[test]
fn tombstones_take_nothing_and_alone_are_a_delete() {
    let mut divergence = Divergence::of_values([r#"{"added":{"a":2},"taken":{}}"#]);
    let alone = PnCounter::merge(&divergence);
    divergence.siblings.push(Version::tombstone());
    assert_eq!(PnCounter::merge(&divergence), alone);
    divergence.siblings.remove(0);
    assert_eq!(PnCounter::merge(&divergence), Ok(Resolution::delete()));
}

#[test]
fn what_is_no_counter_is_refused_with_its_place() {
    let bad = [
        ("7", "expected"),
        (r#"{"added":{"a":-1}}"#, "u64"),
        (r#"{"added":{"a":1.5}}"#, "u64"),
        (r#"{"added":{"a":9007199254740992}}"#, "above 9007199254740991"),
        (r#"{"added":{"a":1,"a":2}}"#, "`a` is there twice"),
        (r#"{"sum":3}"#, "unknown field `sum`"),
    ];
    for (text, says) in bad {
        let failure = PnCounter::merge(&Divergence::of_values(["{}", text])).expect_err(text);
        assert_eq!((failure.reason, failure.sibling), (Reason::Malformed, Some(1)), "{text}");
        assert!(failure.message.contains(says), "{text}: {}", failure.message);
    }
}

#[test]
fn a_loss_is_noticed() {
    let empty = Outcome::Value(br#"{"added":{},"taken":{}}"#.to_vec());
    let mut samples = PnCounter::samples(1, 20).into_iter();
    assert!(samples.any(|sample| PnCounter::preserves(&sample, &empty).is_err()));
}
