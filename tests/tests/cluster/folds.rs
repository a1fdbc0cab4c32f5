//! A keyspace whose module folds: siblings become one stored version under all their dots.

use std::collections::BTreeSet;

use stator_proto::v1;
use tonic::Code;

use crate::support::{Cluster, Node, eventually, get, keyspace, must, put, refusal, values};

const LEFT: &str = r#"{"items":{"a:1":{"sku":"tea","quantity":2}},"removed":["b:1"]}"#;
const RIGHT: &str = r#"{"items":{"b:2":{"sku":"jam","quantity":3}}}"#;
const LATER: &str = r#"{"items":{"c:1":{"sku":"rye","quantity":1}}}"#;
const MERGED: &str = concat!(
    r#"{"items":{"a:1":{"quantity":2,"sku":"tea"},"b:2":{"quantity":3,"sku":"jam"}},"#,
    r#""removed":["b:1"]}"#
);

async fn written(node: &Node, value: &str) -> v1::PutResponse {
    let all = v1::PutRequest { w: Some(3), ..put("carts", "k", value) };
    node.kv().put(all).await.expect("acknowledged by all").into_inner()
}

fn delete(context: &v1::GetResponse) -> v1::DeleteRequest {
    v1::DeleteRequest {
        keyspace: "carts".to_owned(),
        key: "k".into(),
        contexts: context.context.iter().cloned().collect(),
        ..Default::default()
    }
}

/// The versions as they are stored, tombstones too.
async fn stored(node: &Node, r: u32) -> Result<v1::GetResponse, String> {
    let view = v1::View::Siblings.into();
    let request = v1::GetRequest { view, r: Some(r), ..get("carts", "k") };
    node.kv().get(request).await.map(tonic::Response::into_inner).map_err(|s| s.to_string())
}

/// One version is stored under so many dots.
async fn folded(node: &Node, dots: usize) -> v1::Version {
    eventually("the siblings are folded", async || {
        // Each get tries again, should a message have got lost.
        let found = stored(node, 3).await?;
        let [version] = &found.versions[..] else { return Err(format!("{found:?}")) };
        must(version.dots.len() == dots, || format!("{version:?}"))?;
        Ok(version.clone())
    })
    .await
}

#[tokio::test]
async fn siblings_are_folded_and_a_racing_delete_wins() {
    let cluster = Cluster::start(3).await;
    let module = v1::Reconcile { fold: true, ..cluster.push_cart().await };
    let reconcile = Some(module.clone());
    cluster.create(v1::Keyspace { reconcile, ..keyspace("carts", 1, 2) }).await;

    let left = written(&cluster[0], LEFT).await;
    let right = written(&cluster[2], RIGHT).await;
    assert!(right.siblings_remain, "a blind put replaces nothing");
    let fold = folded(&cluster[1], 2).await;
    assert_eq!(fold.value.as_deref(), Some(MERGED.as_bytes()));
    let dots: BTreeSet<&String> = fold.dots.iter().collect();
    assert_eq!(dots, BTreeSet::from([&left.dot, &right.dot]), "a fold mints no dot");
    let Some(v1::origin::Maker::Merge(origin)) = fold.origin.clone().and_then(|o| o.maker) else {
        panic!("a module has made it: {fold:?}");
    };
    assert_eq!(
        (origin.module_digest, origin.input_dots),
        (module.module_digest, fold.dots.clone())
    );
    every_replica_stores_it(&cluster, &fold).await;

    // Who has seen only one of the two cannot say what of the fold to delete.
    let early = v1::GetResponse { context: left.context, ..Default::default() };
    refusal(Code::Aborted, "PARTLY_FOLDED", &["1 of the 2 writes", "get the key again"])
        .check("a delete of a part", cluster[0].kv().delete(delete(&early)).await);

    written(&cluster[1], LATER).await;
    let seen = stored(&cluster[0], 3).await.expect("answered");
    race(&cluster, &seen).await;
}

/// Each is asked alone.
async fn every_replica_stores_it(cluster: &Cluster, fold: &v1::Version) {
    for node in cluster.nodes() {
        node.set_isolated(true).await;
    }
    for node in cluster.nodes() {
        let alone = eventually("a replica answers alone", async || stored(node, 1).await).await;
        assert_eq!(alone.versions, std::slice::from_ref(fold), "on every replica");
    }
    for node in cluster.nodes() {
        node.set_isolated(false).await;
    }
    cluster.all_alive().await;
}

/// A delete that has seen everything, while gets have it folded.
async fn race(cluster: &Cluster, seen: &v1::GetResponse) {
    let [mut one, mut other, mut deleter] =
        [&cluster[0], &cluster[1], &cluster[2]].map(|node| node.kv());
    let deleted = deleter.delete(delete(seen));
    let gets = (one.get(get("carts", "k")), other.get(get("carts", "k")));
    let (deleted, ..) = tokio::join!(deleted, gets.0, gets.1);
    deleted.expect("acknowledged");
    for node in cluster.nodes() {
        let left = stored(node, 3).await.expect("answered");
        assert_eq!(values(&left), BTreeSet::new(), "the delete has won: {left:?}");
        assert!(left.versions.iter().all(|version| version.tombstone), "{left:?}");
    }
}
