//! The merge laws, and what they say about two merges that are nearly right.

use max_register::{Entry, MaxRegister};
use proptest::prelude::*;
use stator_guest::{
    Divergence, Invariant, Merge, Outcome, Random, Reason, Resolution, Sample, Version,
};

fn merge<const N: usize>(values: [&str; N]) -> String {
    match MaxRegister::merge(&Divergence::of_values(values)).map(|merged| merged.outcome) {
        Ok(Outcome::Value(json)) => String::from_utf8(json).expect("UTF-8"),
        other => panic!("{values:?} merge to {other:?}"),
    }
}

/// Few scores, so that many are equal.
fn entry() -> impl Strategy<Value = String> {
    (prop_oneof![0..3u64, Just(u64::MAX)], "[a-cé\"]{0,2}")
        .prop_map(|(score, player)| serde_json::json!({"score": score, "player": player}))
        .prop_map(|entry| entry.to_string())
}

proptest! {
    #[test]
    fn samples_are_merged_without_loss(seed: u64) {
        let sample = MaxRegister::sample(&mut Random::new(seed));
        let merged = MaxRegister::merge(&sample).expect("samples can be merged").outcome;
        prop_assert_eq!(MaxRegister::preserves(&sample, &merged), Ok(()));
    }

    #[test]
    fn the_order_the_number_and_the_steps_do_not_matter(a in entry(), b in entry(), c in entry()) {
        let whole = merge([&a, &b, &c]);
        prop_assert_eq!(merge([&c, &a, &b]), whole.clone());
        prop_assert_eq!(merge([&merge([&a, &b]), &c]), whole.clone());
        prop_assert_eq!(merge([&a, &merge([&b, &c])]), whole.clone());
        prop_assert_eq!(merge([&whole, &b]), whole.clone());
        prop_assert_eq!(merge([&a, &a, &b, &c]), whole);
    }

    #[test]
    fn merging_with_the_own_past_changes_nothing(a in entry(), b in entry(), later in entry()) {
        // A client keeps to the rule: it puts a larger entry than the one it read.
        let derived = merge([&a, &later]);
        prop_assert_eq!(merge([&merge([&a, &b]), &derived]), merge([&b, &derived]));
    }
}

/// The loops of the crate's head.
fn wrong(entries: [&Entry; 2], beats: fn(&u64, &u64) -> bool) -> Entry {
    let mut best = entries[0];
    for entry in &entries[1..] {
        if beats(&entry.score, &best.score) {
            best = entry;
        }
    }
    best.clone()
}

#[test]
fn comparing_the_score_alone_depends_on_the_order() {
    let entry = |player: &str| Entry { score: 120, player: player.to_owned() };
    let (anna, ben) = (entry("anna"), entry("ben"));
    for beats in [u64::ge, u64::gt] {
        assert_ne!(wrong([&anna, &ben], beats), wrong([&ben, &anna], beats));
    }
    let [anna, ben] = [&anna, &ben].map(|entry| serde_json::to_string(entry).expect("JSON"));
    assert_eq!(merge([&anna, &ben]), ben);
    assert_eq!(merge([&ben, &anna]), ben);
}

#[test]
fn a_tombstone_is_smaller_than_everything() {
    let mut divergence = Divergence::of_values([r#"{"player":"anna", "score":0}"#]);
    divergence.siblings.push(Version::tombstone());
    let merged = MaxRegister::merge(&divergence);
    assert_eq!(merged, Ok(Resolution::value(r#"{"score":0,"player":"anna"}"#)), "and canonical");
    divergence.siblings.remove(0);
    assert_eq!(MaxRegister::merge(&divergence), Ok(Resolution::delete()));
}

#[test]
fn what_is_no_entry_is_refused_with_its_place() {
    let good = r#"{"score":1,"player":""}"#;
    let bad = [
        ("", "EOF"),
        ("{}", "missing field"),
        (r#"{"score":-1,"player":"a"}"#, "u64"),
        (r#"{"score":1,"player":"a","score":2}"#, "duplicate field"),
        (r#"{"score":1,"player":"a","team":"b"}"#, "unknown field `team`"),
    ];
    for (text, says) in bad {
        let failure = MaxRegister::merge(&Divergence::of_values([good, text])).expect_err(text);
        assert_eq!((failure.reason, failure.sibling), (Reason::Malformed, Some(1)), "{text}");
        assert!(failure.message.contains(says), "{text}: {}", failure.message);
    }
}

#[test]
fn a_loss_is_noticed() {
    let empty = Outcome::Value(br#"{"score":0,"player":""}"#.to_vec());
    let mut samples = MaxRegister::samples(1, 20).into_iter();
    assert!(samples.any(|sample| MaxRegister::preserves(&sample, &empty).is_err()));
}
