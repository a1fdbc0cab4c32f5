//! The merge laws, on every triple of a few values: what a merge must not depend on is the order
//! of the siblings, how often one is there, and whether some were merged before.

use new_merge::Lines;
use stator_guest::{Divergence, Invariant, Merge, Outcome, Sample};

/// Values as clients write them, and some that they should not.
const VALUES: [&str; 7] = ["", "tea\n", "milk\ntea\n", "milk", "tea\nmilk\n", "\n", "Brötchen\r\n"];

fn merge<const N: usize>(values: [&str; N]) -> String {
    match Lines::merge(&Divergence::of_values(values)).map(|merged| merged.outcome) {
        Ok(Outcome::Value(value)) => String::from_utf8(value).expect("UTF-8"),
        other => panic!("{values:?} merge to {other:?}"),
    }
}

#[test]
fn merge_is_commutative_associative_and_idempotent() {
    for a in VALUES {
        assert_eq!(merge([a, a]), merge([a]), "idempotent: {a:?}");
        for b in VALUES {
            let merged = merge([a, b]);
            assert_eq!(merged, merge([b, a]), "commutative: {a:?} {b:?}");
            assert_eq!(merged, merge([&merged, a]), "idempotent: {a:?} {b:?}");
            for c in VALUES {
                assert_eq!(merge([&merged, c]), merge([a, b, c]), "associative: {a:?} {b:?} {c:?}");
            }
        }
    }
}

#[test]
fn what_anyone_wrote_is_there() {
    assert_eq!(merge(["tea\n", "milk\ntea\n"]), "milk\ntea\n");
    for sample in Lines::samples(1, 100) {
        let merged = Lines::merge(&sample).expect("samples can be merged");
        assert_eq!(Lines::preserves(&sample, &merged.outcome), Ok(()));
        let nothing = Outcome::Value(Vec::new());
        assert!(Lines::preserves(&sample, &nothing).is_err(), "a loss is noticed");
    }
}

#[test]
fn what_is_no_text_is_refused() {
    let failure = Lines::merge(&Divergence::of_values([b"\xff"])).expect_err("no UTF-8");
    assert_eq!(failure.sibling, Some(0));
}
