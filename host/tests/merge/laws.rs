//! The merge laws on components, in the sandbox, and the options of a module.
//!
//! The examples are checked on 400 cases each, and about as many of each other kind.
//! `STATOR_LAW_CASES=20000` searches for false alarms on 100,000 in total, a quarter of an hour.

use bytes::Bytes;
use stator::merge::ModuleRefused;
use stator::merge::laws::{Law, MayNotFold, Plan, Verdict};
use stator_core::divergence::{DivergentVersion, MergeFailure, Outcome};
use stator_core::id::ModuleDigest;

use crate::support::{
    EMPTY_ANSWER, TestHost, WIT, built, component, core, divergence, module, text,
};

async fn admitted(name: &str) -> (TestHost, ModuleDigest) {
    let test = TestHost::new();
    let digest = test.host.admit(built(name)).await.expect("the module is taken").digest;
    (test, digest)
}

fn plan() -> Plan {
    let cases = std::env::var("STATOR_LAW_CASES").ok().and_then(|n| n.parse().ok());
    Plan::new(cases.unwrap_or(400), 7)
}

#[tokio::test]
async fn joins_raise_no_false_alarm_and_may_fold() {
    for name in ["cart", "or-set", "pn-counter", "max-register"] {
        let (test, module) = admitted(name).await;
        let report = test.host.check_laws(&module, None, plan()).await.expect("checks");
        for law in Law::ALL {
            let verdict = report.verdict(law).expect("an answer");
            assert!(matches!(verdict, Verdict::Holds { .. }), "{name}, {law}: {verdict:?}");
        }
        if let Err(refused) = test.host.may_fold(&module).await {
            panic!("{name}: {refused}");
        }
    }
}

#[tokio::test]
async fn a_merge_with_an_ancestor_is_not_blamed_and_stays_a_view() {
    let (test, module) = admitted("json-three-way").await;
    let report = test.host.check_laws(&module, None, plan()).await.expect("checks");
    let found: Vec<_> = report.violations().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    let refused = test.host.may_fold(&module).await.expect_err("it is not shown to be a join");
    assert!(refused.to_string().contains("ancestor"), "{refused}");
}

#[tokio::test]
async fn business_logic_that_is_no_join_stays_a_view() {
    let (test, module) = admitted("inventory").await;
    let report = test.host.laws(&module).await.expect("checks");
    for law in [Law::Deterministic, Law::Commutative, Law::Total, Law::Preserves] {
        let verdict = report.verdict(law).expect("an answer");
        assert!(matches!(verdict, Verdict::Holds { .. }), "{law}: {verdict:?}");
    }
    assert!(test.host.may_fold(&module).await.is_err());
}

#[tokio::test]
async fn the_order_of_a_hash_map_is_caught_in_the_sandbox() {
    let (test, module) = admitted("tests/hash_order").await;
    let report = test.host.laws(&module).await.expect("checks");
    assert!(
        matches!(report.verdict(Law::Deterministic), Some(Verdict::Holds { .. })),
        "fresh instances repeat the order"
    );
    let Some(Verdict::Violated(found)) = report.verdict(Law::Commutative) else {
        panic!("{:?}", report.verdict(Law::Commutative));
    };
    assert_eq!(found.inputs.len(), 2, "{found}");
    assert!(found.to_string().contains("+++ merge(a, b)"), "{found}");
    let refused = test.host.may_fold(&module).await.expect_err("it is no join");
    assert!(matches!(refused, MayNotFold::Violated { law: Law::Commutative, .. }), "{refused}");
    let again = test.host.laws(&module).await.expect("checks");
    assert_eq!(again, report, "the same on every asking");
}

#[tokio::test]
async fn a_dropped_sibling_is_caught_with_the_invariants_words() {
    let (test, module) = admitted("tests/drops_third").await;
    let report = test.host.laws(&module).await.expect("checks");
    let Some(Verdict::Violated(found)) = report.verdict(Law::Preserves) else {
        panic!("{:?}", report.verdict(Law::Preserves));
    };
    assert_eq!(found.inputs.len(), 3, "two siblings are merged well: {found}");
    assert!(found.to_string().contains("is lost"), "{found}");
}

#[tokio::test]
async fn without_a_sampler_nothing_is_known_and_nothing_folds() {
    let test = TestHost::new();
    let digest = test.host.admit(module(EMPTY_ANSWER)).await.expect("taken").digest;
    match test.host.may_fold(&digest).await {
        Err(MayNotFold::NotShown { why, .. }) => assert!(why.contains("sampler"), "{why}"),
        other => panic!("{other:?}"),
    }
    let unknown = ModuleDigest([9; 32]);
    let refused = test.host.may_fold(&unknown).await;
    assert!(matches!(refused, Err(MayNotFold::Unchecked { .. })), "{refused:?}");
}

#[tokio::test]
async fn what_a_check_reached_is_counted_and_changes_no_verdict() {
    let (test, module) = admitted("cart").await;
    let plan = Plan::new(50, 7);
    let plain = test.host.check_laws(&module, None, plan).await.expect("checks");
    let counted = test.host.check_laws_and_reach(&module, &built("cart"), None, plan).await;
    let mut counted = counted.expect("checks");
    let reach = counted.reach.take().expect("a component of one core module tells");
    assert!(reach.reached() > 100 && reach.reached() < reach.blocks, "{reach}");
    assert!(reach.merges > 0 && reach.last_new <= reach.merges, "{reach}");
    assert_eq!(counted, plain);
}

fn version(value: &str, schema: u32) -> DivergentVersion {
    DivergentVersion {
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        schema,
        written_at_ms: 0,
    }
}

#[tokio::test]
async fn a_validator_refuses_in_its_own_words() {
    let (test, module) = admitted("tests/options").await;
    let key = Bytes::from_static(b"key");
    let validate =
        async |value: &str| test.host.validate(&module, "notes", &key, &version(value, 2)).await;
    assert_eq!(validate("fine").await, Ok(()));
    match validate("not fine").await {
        Err(MergeFailure::Refused { reason: "malformed", message, .. }) => {
            assert_eq!(message, "no spaces in notes");
        }
        other => panic!("{other:?}"),
    }
    // A failure of its own says nothing about the value.
    assert!(matches!(validate("!").await, Err(MergeFailure::Trapped(_))));
    let (test, cart) = admitted("cart").await;
    assert_eq!(test.host.validate(&cart, "notes", &key, &version("no cart", 0)).await, Ok(()));
}

#[tokio::test]
async fn older_siblings_are_migrated_before_the_merge() {
    let (test, module) = admitted("tests/options").await;
    let merge = async |siblings: &[(&str, u32)]| {
        let values: Vec<_> = siblings.iter().map(|(value, _)| Some(*value)).collect();
        let mut divergence = divergence(&values);
        for (sibling, (_, schema)) in divergence.siblings.iter_mut().zip(siblings) {
            sibling.schema = *schema;
        }
        test.host.resolve(&module, &divergence).await
    };
    let merged = merge(&[("ANT\nBEE", 0), ("bee\ncat", 2)]).await.expect("merges");
    assert_eq!(text(&merged), "ant\nbee\ncat");
    assert_eq!(merged.note.as_deref(), Some("2 siblings"));
    // What is equal after the migration counts once.
    let merged = merge(&[("ANT", 1), ("ant", 2), ("Ant", 0)]).await.expect("merges");
    assert_eq!(merged.note.as_deref(), Some("1 siblings"));
    assert_eq!(merged.outcome, Outcome::Value("ant".into()));
    match merge(&[("ant", 2), ("?", 1)]).await {
        Err(MergeFailure::Refused { reason: "malformed", sibling: Some(1), .. }) => {}
        other => panic!("{other:?}"),
    }
    // Newer than the module: its own to refuse.
    let newer = merge(&[("ant", 2), ("bee", 3)]).await;
    assert!(matches!(newer, Err(MergeFailure::Refused { reason: "unknown-schema", .. })));
}

#[tokio::test]
async fn options_are_known_by_name() {
    let test = TestHost::new();
    let info = test.host.admit(built("tests/options")).await.expect("taken");
    assert_eq!(info.options, ["validator", "migration"]);
    assert_eq!(info.schema, Some(2));
    let info = test.host.admit(built("cart")).await.expect("taken");
    assert_eq!((info.options, info.schema), (vec!["sampler", "invariant"], None));
}

/// The sampler of a world whose `samples` takes a text.
#[tokio::test]
async fn an_option_of_another_type_is_refused_by_name() {
    let wit = WIT.replace("samples: func(seed: u64, count: u32)", "samples: func(seed: string)");
    let wit = format!("{wit} world sampling {{ include module; include with-sampler; }}");
    let samples = r#"(func (export "stator:merge/sampler@0.1.0#samples") (param i32 i32)
        (result i32) (i32.const 64))"#;
    let fields = core("", "stator:merge/resolver@0.1.0", EMPTY_ANSWER);
    let both = fields.replacen("(memory", &format!("{samples} (memory"), 1);
    let refused = TestHost::new().host.admit(component(&wit, "sampling", &both)).await;
    match refused {
        Err(ModuleRefused::WrongOption { option: "sampler", why }) => {
            assert!(!why.is_empty());
        }
        other => panic!("{other:?}"),
    }
}
