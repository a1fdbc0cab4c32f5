//! Documents merged three ways: what one side of a cut has removed stays removed, though the other
//! side still had it.

use bytes::Bytes;
use stator_proto::v1;
use tonic::Code;

use crate::support::{Cluster, Node, eventually, get, keyspace, must, put, refusal};

const BEFORE: &str = r#"{"price":10,"stock":5,"title":"tea"}"#;
/// One side removes the stock and names a price, in two steps.
const LEFT: [&str; 2] = [r#"{"price":10,"title":"tea"}"#, r#"{"price":12,"title":"tea"}"#];
/// The other gives it another title and a colour.
const RIGHT: [&str; 2] = [
    r#"{"price":10,"stock":5,"title":"green tea"}"#,
    r#"{"colour":"green","price":10,"stock":5,"title":"green tea"}"#,
];
const MERGED: &str = r#"{"colour":"green","price":12,"title":"green tea"}"#;

/// Writes one document after the other, each with the context of the one before.
async fn edits(node: &Node, keyspace: &str, mut context: Bytes, documents: [&str; 2]) {
    for document in documents {
        let request = v1::PutRequest { contexts: vec![context], ..put(keyspace, "k", document) };
        let written = node.kv().put(request).await.expect("acknowledged").into_inner();
        context = written.context.expect("nobody else writes on this side");
    }
}

async fn merged(node: &Node, keyspace: &str) -> String {
    eventually("both sides are merged", async || {
        let answer = node.kv().get(v1::GetRequest { r: Some(3), ..get(keyspace, "k") }).await;
        let answer = answer.map_err(|status| status.to_string())?.into_inner();
        let [version] = &answer.versions[..] else { return Err(format!("{answer:?}")) };
        let is_merge = answer.merge.as_ref().is_some_and(|merge| merge.sibling_count == 2);
        must(is_merge, || format!("{answer:?}"))?;
        Ok(String::from_utf8_lossy(version.value.as_deref().unwrap_or_default()).into_owned())
    })
    .await
}

#[tokio::test]
async fn what_a_side_of_a_cut_removes_stays_removed() {
    let cluster = Cluster::start(3).await;
    let module = cluster.push("json-three-way").await;
    for (name, ancestor) in [("documents", true), ("two-way", false)] {
        let reconcile = Some(v1::Reconcile { ancestor, ..module.clone() });
        cluster.create(v1::Keyspace { reconcile, ..keyspace(name, 1, 1) }).await;
    }
    let mut contexts = Vec::new();
    for name in ["documents", "two-way"] {
        let all = v1::PutRequest { w: Some(3), ..put(name, "k", BEFORE) };
        let written = cluster[0].kv().put(all).await.expect("acknowledged by all").into_inner();
        // Who coordinates next must have seen that all owners hold it.
        for node in cluster.nodes() {
            let all = v1::GetRequest { r: Some(3), ..get(name, "k") };
            node.kv().get(all).await.expect("answered by all");
        }
        contexts.push((name, written.context.expect("it is the only version")));
    }

    cluster[2].set_isolated(true).await;
    for (name, context) in &contexts {
        edits(&cluster[0], name, context.clone(), LEFT).await;
        edits(&cluster[2], name, context.clone(), RIGHT).await;
    }
    cluster[2].set_isolated(false).await;
    cluster.all_alive().await;

    for node in cluster.nodes() {
        assert_eq!(merged(node, "documents").await, MERGED, "on every node");
        let two_way = merged(node, "two-way").await;
        assert!(two_way.contains(r#""stock":5"#), "without an ancestor it is back: {two_way}");
    }
}

#[tokio::test]
async fn an_ancestor_is_for_modules_that_do_not_fold() {
    let cluster = Cluster::start(1).await;
    let module = cluster.push("json-three-way").await;
    let both = Some(v1::Reconcile { ancestor: true, fold: true, ..module });
    let none = Some(v1::Reconcile { ancestor: true, ..Default::default() });
    for (reason, reconcile) in [("ANCESTOR_WITH_FOLD", both), ("ANCESTOR_WITHOUT_MODULE", none)] {
        let keyspace = Some(v1::Keyspace { reconcile, ..keyspace("documents", 1, 1) });
        let request = v1::CreateKeyspaceRequest { keyspace, validate_only: true };
        refusal(Code::InvalidArgument, reason, &["keyspace.reconcile.ancestor"])
            .check(reason, cluster[0].admin().create_keyspace(request).await);
    }
}
