//! Merges by rules: the component that comes with the program, with rules written into it.

use bytes::Bytes;
use stator::merge::laws::{Law, Plan, Report, Verdict};
use stator::merge::{Rules, component_of};
use stator_core::divergence::{Ancestor, DivergentVersion, MergeFailure};
use stator_core::id::ModuleDigest;

use crate::support::{TestHost, divergence, text};

async fn admitted(rules: &[&str]) -> (TestHost, ModuleDigest) {
    let rules = Rules::read(rules).unwrap_or_else(|why| panic!("{rules:?}: {why}"));
    let test = TestHost::new();
    let digest = test.host.admit(component_of(&rules).into()).await.expect("taken").digest;
    (test, digest)
}

async fn checked(rules: &[&str]) -> (Report, Option<String>) {
    let (test, module) = admitted(rules).await;
    let report = test.host.check_laws(&module, None, Plan::new(400, 7)).await.expect("checks");
    let refused = test.host.may_fold(&module).await.err().map(|refused| refused.to_string());
    (report, refused)
}

#[tokio::test]
async fn rules_that_are_joins_raise_no_false_alarm_and_may_fold() {
    for rules in [
        &["/tags=union"][..],
        &["=union"],
        &["/n=max"],
        &["/*/n=min"],
        &["/visits=sum"],
        &["=max", "/tags=union"],
        &["/items=union", "/items/*/qty=max", "/items/*/tags=union", "/first=min", "/seen/*=sum"],
    ] {
        let (report, refused) = checked(rules).await;
        for law in Law::ALL {
            let verdict = report.verdict(law).expect("an answer");
            assert!(matches!(verdict, Verdict::Holds { .. }), "{rules:?}, {law}: {verdict:?}");
        }
        assert_eq!(refused, None, "{rules:?}");
    }
}

#[tokio::test]
async fn the_last_write_is_known_to_be_no_join() {
    for rules in [&["/title=last-write"][..], &["=last-write", "/tags=union", "/n=max"]] {
        let (report, refused) = checked(rules).await;
        let found: Vec<_> = report.violations().map(|found| found.law).collect();
        let known = [Law::Associative, Law::Derived];
        assert!(found.iter().all(|law| known.contains(law)), "{rules:?}: {found:?}");
        let refused = refused.expect("it may not fold");
        assert!(refused.contains("is violated"), "{refused}");
    }
}

#[tokio::test]
async fn three_ways_use_the_ancestor_and_stay_a_view() {
    for rules in [
        &["=three-way:last-write"][..],
        &["/title=three-way:max", "/tags=union"],
        &["=three-way:union", "/items/*/qty=max"],
    ] {
        let (report, refused) = checked(rules).await;
        let found: Vec<_> = report.violations().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{rules:?}: {}", found.join("\n"));
        let refused = refused.expect("it may not fold");
        assert!(refused.contains("ancestor"), "{refused}");
    }
}

#[tokio::test]
async fn the_rules_that_were_written_are_those_it_merges_by() {
    let (test, module) = admitted(&["/items=union", "/qty=max", "/note=three-way:min"]).await;
    let siblings = [
        Some(r#"{"qty":9,"items":["b"],"note":"x"}"#),
        Some(r#"{"qty":10,"items":["a"],"note":"y"}"#),
        None,
    ];
    let merged = test.host.resolve(&module, &divergence(&siblings)).await.expect("merges");
    assert_eq!(text(&merged), r#"{"items":["a","b"],"note":"x","qty":10}"#);
    let mut known = divergence(&siblings);
    known.fingerprint = [1; 32];
    known.ancestor = Ancestor::Known(DivergentVersion {
        value: Some(Bytes::from_static(br#"{"note":"x"}"#)),
        schema: 0,
        written_at_ms: 0,
    });
    let merged = test.host.resolve(&module, &known).await.expect("merges");
    assert_eq!(text(&merged), r#"{"items":["a","b"],"note":"y","qty":10}"#);
    let odd = divergence(&[Some(r#"{"qty":9}"#), Some(r#"{"qty":[]}"#)]);
    match test.host.resolve(&module, &odd).await {
        Err(MergeFailure::Refused { reason: "unresolvable", message, .. }) => {
            assert!(message.starts_with("`/qty`: max is of numbers"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_deepest_documents_fit_the_modules_stack() {
    let objects = |leaf: &str| r#"{"a":"#.repeat(31) + leaf + &"}".repeat(31);
    let arrays = |leaf: &str| format!(r#"{{"b":{}{leaf}{}}}"#, "[".repeat(31), "]".repeat(31));
    for rule in ["=last-write", "=three-way:last-write", "=union"] {
        let (test, module) = admitted(&[rule]).await;
        let siblings = [objects("[1]"), objects("[2]"), arrays("1"), arrays("2")];
        let siblings: Vec<_> = siblings.iter().map(|text| Some(text.as_str())).collect();
        let merged = test.host.resolve(&module, &divergence(&siblings)).await;
        let merged = merged.unwrap_or_else(|why| panic!("{rule}: {why}"));
        assert!(text(&merged).contains("[[[[["), "{rule}");
    }
}
