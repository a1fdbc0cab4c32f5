//! Wrong merges, each of its own kind and each caught at its stage, in the sandbox, on samplers that
//! are tame: `tests/guests/examples/wrong`.

use bytes::Bytes;
use futures::{StreamExt, stream};
use stator::merge::laws::{Counterexample, Law, MayNotFold, Origin, Plan, Report, Verdict};

use crate::support::{TestHost, built};

/// The kinds in the order of the guest, and the laws by which each is caught.
#[rustfmt::skip]
const KINDS: [(&str, &[Law]); 57] = [
    ("its input's bytes unchanged where one sibling has all lines", &[Law::Commutative]),
    ("what the clocks call the newest", &[Law::Derived]),
    ("marks up to three", &[Law::Idempotent]),
    ("the last sibling", &[Law::Commutative]),
    ("the first sibling", &[Law::Commutative]),
    ("the order of arrival", &[Law::Commutative]),
    ("two siblings, the third forgotten", &[Law::Commutative, Law::Preserves]),
    ("a count of the siblings", &[Law::Associative]),
    ("repetitions kept", &[Law::Idempotent]),
    ("a delete, if it comes first", &[Law::Commutative]),
    ("a delete takes what is older", &[Law::Associative]),
    ("marks dropped after their work", &[Law::Idempotent, Law::Derived]),
    ("every second of many", &[Law::Idempotent, Law::Preserves]),
    ("a trap on large values", &[Law::Total]),
    ("a trap on empty values", &[Law::Total]),
    ("a trap inside of a letter", &[Law::Total]),
    ("the first of Tea and tea", &[Law::Commutative]),
    ("lower case, but of three only", &[Law::Associative]),
    ("the first of `tea` and `tea `", &[Law::Commutative]),
    ("line ends of the first sibling", &[Law::Commutative]),
    ("the end of the last sibling's last line", &[Law::Commutative]),
    ("the intersection", &[Law::Derived, Law::Preserves]),
    ("what an odd number has", &[Law::Idempotent]),
    ("what the majority has", &[Law::Associative]),
    ("the longest, or the first of the longest", &[Law::Commutative]),
    ("the longest", &[Law::Preserves]),
    ("what has the newest schema number", &[Law::Derived]),
    ("ten words at most", &[Law::Preserves]),
    ("always the same", &[Law::Preserves]),
    ("the sum", &[Law::Idempotent]),
    ("the average", &[Law::Associative]),
    ("floats added in order of arrival", &[Law::Commutative]),
    ("32 bits of a number", &[Law::Preserves]),
    ("a count of merges", &[Law::Idempotent]),
    ("the last of equals", &[Law::Commutative]),
    ("what the clocks call the newest of equals", &[Law::Commutative]),
    ("the first sibling for an ancestor", &[Law::Commutative]),
    ("a trap without an ancestor", &[Law::Total]),
    ("the longest, but of eight only", &[Law::Associative]),
    ("the longest, but of more than 64 KiB only", &[Law::Associative]),
    ("marks up to two hundred", &[Law::Idempotent]),
    ("nothing that is a day older than the newest", &[Law::Derived]),
    ("the first of two accents", &[Law::Commutative]),
    ("the first of `\"tea\"` and `tea`", &[Law::Commutative]),
    ("the first of one and many", &[Law::Commutative]),
    ("the first of those that begin alike", &[Law::Commutative]),
    ("the first sibling's comments", &[Law::Commutative]),
    ("numbers less than five apart are the same", &[Law::Associative]),
    ("the first that is marked as done", &[Law::Commutative]),
    ("no list or an empty one by the first", &[Law::Commutative]),
    ("unknown fields of the last", &[Law::Commutative]),
    ("two levels merged, deeper the first", &[Law::Commutative]),
    ("no field or `null` by the first", &[Law::Commutative]),
    ("numbers compared as floats", &[Law::Commutative]),
    ("a count that wraps around", &[Law::Idempotent]),
    ("a hundred numbers by arrival", &[Law::Commutative]),
    ("numbers ahead on a circle", &[Law::Commutative]),
];

/// The first so many show on values that clients may write; of others nobody knows.
const OF_CLIENTS: usize = 38;

/// The component that is wrong in the way of this number.
fn wrong(kind: usize) -> Bytes {
    let mut component = built("tests/wrong").to_vec();
    let mark = b"STATOR-WRONG-KIND=";
    let found = component.windows(mark.len()).position(|bytes| bytes == mark);
    let at = found.expect("the component has a mark") + mark.len();
    component[at..at + 2].copy_from_slice(format!("{kind:02}").as_bytes());
    component.into()
}

fn violated(report: &Report, law: Law) -> Option<&Counterexample> {
    match report.verdict(law) {
        Some(Verdict::Violated(found)) => Some(found),
        _ => None,
    }
}

/// The laws that are to be violated and are not, in words.
async fn missed(test: &TestHost, kind: usize) -> Vec<String> {
    let (words, laws) = KINDS[kind];
    let module = test.host.admit(wrong(kind)).await.expect("taken").digest;
    let report = test.host.laws(&module).await.expect("checks");
    if std::env::var_os("STATOR_SHOW").is_some() {
        println!("=== {kind} {words}\n{}", report.variety);
        report.violations().for_each(|found| println!("{found}"));
    }
    let mut missed = Vec::new();
    for law in laws {
        match violated(&report, *law) {
            Some(found) if kind < OF_CLIENTS => {
                assert_ne!(found.origin, Origin::Mutated, "{words}: {found}");
            }
            Some(_) => {}
            None => missed.push(format!("{words}: {law}: {:?}", report.verdict(*law))),
        }
    }
    // A broken promise alone is no bar: a fold keeps what the merge gives.
    if laws.iter().any(|law| Law::FOR_FOLDS.contains(law)) {
        let folds = test.host.may_fold(&module).await;
        assert!(matches!(folds, Err(MayNotFold::Violated { .. })), "{words}: {folds:?}");
    }
    test.host.unload(&module);
    missed
}

#[tokio::test]
async fn every_kind_of_wrong_merge_is_caught_at_its_stage() {
    let test = TestHost::new();
    // Two at a time, for a check is mostly the guest's own time on one core.
    let of_all = stream::iter((0..KINDS.len()).map(|kind| missed(&test, kind)));
    let missed: Vec<Vec<String>> = of_all.buffer_unordered(2).collect().await;
    let missed = missed.concat();
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
}

/// Whatever the seed, though perhaps by another law.
#[tokio::test]
async fn other_seeds_catch_them_too() {
    let test = TestHost::new();
    for kind in [0, 1, 2, 43, 54] {
        let module = test.host.admit(wrong(kind)).await.expect("taken").digest;
        for seed in 2..5 {
            let plan = Plan { seed, ..Plan::OF_NODE };
            let report = test.host.check_laws(&module, None, plan).await.expect("checks");
            let is_caught = Law::FOR_FOLDS.iter().any(|law| violated(&report, *law).is_some());
            assert!(is_caught, "{}, seed {seed}: {:?}", KINDS[kind].0, report.variety);
        }
    }
}

#[tokio::test]
async fn a_counterexample_shows_the_times_that_matter_and_only_those() {
    let test = TestHost::new();
    let text = async |kind, law| {
        let module = test.host.admit(wrong(kind)).await.expect("taken").digest;
        let report = test.host.laws(&module).await.expect("checks");
        violated(&report, law).expect("it is violated").to_string()
    };
    let newest = text(1, Law::Derived).await;
    assert!(newest.contains("a'") && newest.contains("written at 0 ms"), "{newest}");
    assert!(newest.contains("--- merge(merge(a, b), a')"), "{newest}");
    let sum = text(29, Law::Idempotent).await;
    assert!(!sum.contains("written at"), "{sum}");
    assert!(sum.contains("--- merge(merge(a, b), a)"), "{sum}");
}
