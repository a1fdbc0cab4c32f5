//! What a module may do beyond merging: refuse a value before it is stored, and read old schemas.

use std::collections::BTreeSet;

use stator_proto::v1;
use tonic::Code;

use crate::support::{Cluster, get, keyspace, put, refusal, values};

/// The words of `tests/guests/examples/options.rs`: lower case since schema 2.
async fn words() -> Cluster {
    let cluster = Cluster::start(1).await;
    let reconcile = Some(cluster.push("tests/options").await);
    cluster.create(v1::Keyspace { n: 1, reconcile, ..keyspace("words", 1, 1) }).await;
    cluster
}

#[tokio::test]
async fn what_a_validator_refuses_is_not_stored() {
    let cluster = words().await;
    let mut kv = cluster[0].kv();
    kv.put(put("words", "k", "tea")).await.expect("taken");
    refusal(Code::InvalidArgument, "VALUE_REFUSED", &["no spaces in words", "nothing was stored"])
        .check("a value with a space", kv.put(put("words", "k", "green tea")).await);
    let held = kv.get(get("words", "k")).await.expect("answered").into_inner();
    assert_eq!(values(&held), BTreeSet::from(["tea".to_owned()]));
}

/// A module that fails must not keep anyone from writing.
#[tokio::test]
async fn a_validator_that_traps_refuses_nothing() {
    let cluster = words().await;
    let mut kv = cluster[0].kv();
    kv.put(put("words", "k", "tea!")).await.expect("taken");
    let held = kv.get(get("words", "k")).await.expect("answered").into_inner();
    assert_eq!(values(&held), BTreeSet::from(["tea!".to_owned()]));
}

#[tokio::test]
async fn versions_of_an_old_schema_are_migrated_before_they_are_merged() {
    let cluster = words().await;
    let mut kv = cluster[0].kv();
    for (schema, value) in [(1, "TEA"), (2, "jam")] {
        let put = v1::PutRequest { schema, ..put("words", "k", value) };
        kv.put(put).await.expect("taken");
    }
    let merged = kv.get(get("words", "k")).await.expect("answered").into_inner();
    assert_eq!(values(&merged), BTreeSet::from(["jam\ntea".to_owned()]));
    let siblings = v1::GetRequest { view: v1::View::Siblings.into(), ..get("words", "k") };
    let stored = kv.get(siblings).await.expect("answered").into_inner();
    let both = BTreeSet::from(["TEA".to_owned(), "jam".to_owned()]);
    assert_eq!(values(&stored), both, "they are stored as they were written");
}
