//! What holds of the inventory, and the law that does not.

use inventory::{CANCELLED, EVENTS_MAX, ID_BYTES_MAX, Inventory, InventoryMerge, Reservation};
use proptest::prelude::*;
use stator_guest::{
    Divergence, Invariant, Merge, Outcome, Random, Reason, Resolution, Sample, Version,
};

fn resolution<const N: usize>(values: [&str; N]) -> Resolution {
    InventoryMerge::merge(&Divergence::of_values(values)).expect("inventories")
}

fn merge<const N: usize>(values: [&str; N]) -> String {
    match resolution(values).outcome {
        Outcome::Value(json) => String::from_utf8(json).expect("UTF-8"),
        other => panic!("{values:?} merge to {other:?}"),
    }
}

fn json(inventory: &Inventory) -> String {
    serde_json::to_string(inventory).expect("JSON")
}

fn parse(json: &str) -> Inventory {
    serde_json::from_str(json).expect("an inventory")
}

/// Any inventory, also such as a client should not write.
fn any_inventory() -> impl Strategy<Value = Inventory> {
    let reservation = (0..3u64, prop_oneof![0..4u32, Just(u32::MAX)])
        .prop_map(|(at_ms, quantity)| Reservation { at_ms, quantity });
    (
        prop::collection::btree_map("[d-f]", 0..4u32, 0..3),
        prop::collection::btree_map("[o-t]", reservation, 0..5),
        prop::collection::btree_set("[o-t]", 0..3),
    )
        .prop_map(|(deliveries, reservations, released)| Inventory {
            deliveries,
            reservations,
            released,
        })
}

proptest! {
    #[test]
    fn samples_are_merged_without_loss(seed: u64) {
        let sample = InventoryMerge::sample(&mut Random::new(seed));
        let merged = InventoryMerge::merge(&sample).expect("samples can be merged").outcome;
        prop_assert_eq!(InventoryMerge::preserves(&sample, &merged), Ok(()));
    }

    #[test]
    fn it_is_commutative_and_idempotent(
        a in any_inventory(), b in any_inventory(), c in any_inventory(),
    ) {
        let [a, b, c] = [json(&a), json(&b), json(&c)];
        let whole = merge([&a, &b, &c]);
        prop_assert_eq!(merge([&c, &a, &b]), whole.clone());
        prop_assert_eq!(merge([&a, &a, &b, &c]), whole);
        let pair = merge([&a, &b]);
        prop_assert_eq!(merge([&pair, &a]), pair);
    }

    #[test]
    fn it_never_sells_below_zero_and_loses_nothing(a in any_inventory(), b in any_inventory()) {
        let merged = resolution([&json(&a), &json(&b)]);
        let Outcome::Value(after) = &merged.outcome else { panic!("no value") };
        let after = parse(str::from_utf8(after).expect("UTF-8"));
        prop_assert!(after.reserved() <= after.delivered());
        for before in [&a, &b] {
            for (id, pieces) in &before.deliveries {
                prop_assert!(after.deliveries[id] >= *pieces);
            }
            for order in before.reservations.keys() {
                let kept = after.reservations.contains_key(order);
                prop_assert!(kept != after.released.contains(order), "{} is either", order);
            }
            prop_assert!(before.released.is_subset(&after.released));
        }
        // Each cancellation is told: what is released and was not released before.
        let was = |order: &&String| a.released.contains(*order) || b.released.contains(*order);
        let cancelled = after.released.iter().filter(|order| !was(order)).count();
        prop_assert_eq!(merged.events.len(), cancelled);
        prop_assert_eq!(merged.note.is_some(), cancelled > 0);
    }
}

#[test]
fn the_last_piece_goes_to_the_first_and_the_other_is_told() {
    let shop = |order: &str, at_ms: u64| {
        let promise = format!(r#"{{"at_ms":{at_ms},"quantity":1}}"#);
        format!(r#"{{"deliveries":{{"d":1}},"reservations":{{"{order}":{promise}}}}}"#)
    };
    let merged = resolution([&shop("late", 9), &shop("early", 5)]);
    let expected = concat!(
        r#"{"deliveries":{"d":1},"reservations":{"early":{"at_ms":5,"quantity":1}},"#,
        r#""released":["late"]}"#
    );
    let told = Resolution::value(expected)
        .with_note("reservations cancelled: 1")
        .with_event(CANCELLED, r#"{"order":"late","quantity":1}"#);
    assert_eq!(merged, told);
}

#[test]
fn a_host_takes_its_events_however_many_are_cancelled() {
    let order = |n: usize| format!("{n:0>width$}", width = ID_BYTES_MAX);
    let promise = Reservation { at_ms: u64::MAX, quantity: u32::MAX };
    let reservations = (0..100).map(|n| (order(n), promise)).collect();
    let merged = resolution([&json(&Inventory { reservations, ..Inventory::default() })]);
    assert_eq!(
        (merged.events.len(), merged.note.as_deref()),
        (EVENTS_MAX, Some("reservations cancelled: 100"))
    );
    let bytes = merged.events.iter().map(|event| event.topic.len() + event.payload.len());
    assert!(bytes.sum::<usize>() < 32 << 10, "half of what the class small allows");
}

#[test]
fn it_is_not_associative_which_is_why_it_is_a_view() {
    let a = r#"{"deliveries":{"d":1},"reservations":{"a":{"at_ms":1,"quantity":1}}}"#;
    let b = r#"{"deliveries":{"d":1},"reservations":{"b":{"at_ms":2,"quantity":1}}}"#;
    let c = r#"{"deliveries":{"d":1,"e":1}}"#;
    assert_eq!(parse(&merge([a, b, c])).reserved(), 2);
    assert_eq!(parse(&merge([&merge([a, b]), c])).reserved(), 1);
}

#[test]
fn tombstones_take_nothing_and_alone_are_a_delete() {
    let mut divergence = Divergence::of_values([r#"{"deliveries":{"d":1}}"#]);
    let alone = InventoryMerge::merge(&divergence);
    divergence.siblings.push(Version::tombstone());
    assert_eq!(InventoryMerge::merge(&divergence), alone);
    divergence.siblings.remove(0);
    assert_eq!(InventoryMerge::merge(&divergence), Ok(Resolution::delete()));
}

#[test]
fn what_is_no_inventory_is_refused_with_its_place() {
    let bad = [
        ("[]", "expected an object"),
        (r#"{"reservations":{"o":[1,2]}}"#, "expected an object"),
        (r#"{"deliveries":{"d":-1}}"#, "u32"),
        (r#"{"deliveries":{"d":1,"d":2}}"#, "`d` is there twice"),
        (r#"{"reservations":{"o":{"quantity":1}}}"#, "missing field `at_ms`"),
        (r#"{"price":3}"#, "unknown field `price`"),
    ];
    let long = format!(r#"{{"released":["{}"]}}"#, "x".repeat(ID_BYTES_MAX + 1));
    for (text, says) in bad.into_iter().chain([(long.as_str(), "200 are allowed")]) {
        let failure = InventoryMerge::merge(&Divergence::of_values(["{}", text])).expect_err(text);
        assert_eq!((failure.reason, failure.sibling), (Reason::Malformed, Some(1)), "{text}");
        assert!(failure.message.contains(says), "{text}: {}", failure.message);
    }
}

#[test]
fn a_loss_is_noticed() {
    let empty = Outcome::Value(br#"{"deliveries":{},"reservations":{},"released":[]}"#.to_vec());
    let mut samples = InventoryMerge::samples(1, 20).into_iter();
    assert!(samples.any(|sample| InventoryMerge::preserves(&sample, &empty).is_err()));
}
