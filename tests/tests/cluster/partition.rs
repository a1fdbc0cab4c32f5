//! A node that is cut off, and comes back with news of its own.

use std::collections::BTreeSet;

use stator_proto::v1;

use crate::support::{Cluster, eventually, get, keyspace, must, put, values};

fn siblings(keyspace: &str, key: &str) -> v1::GetRequest {
    v1::GetRequest { view: v1::View::Siblings.into(), ..get(keyspace, key) }
}

#[tokio::test]
async fn both_sides_of_a_cut_keep_what_they_took() {
    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("cut", 1, 1)).await;
    let all = v1::PutRequest { w: Some(3), ..put("cut", "k", "before") };
    let seen = cluster[0].kv().put(all).await.expect("acknowledged by all").into_inner();
    let context = seen.context.expect("it is the only version");

    cluster[2].set_isolated(true).await;
    let change =
        |value| v1::PutRequest { contexts: vec![context.clone()], ..put("cut", "k", value) };
    cluster[0].kv().put(change("majority")).await.expect("acknowledged by those there");
    cluster[2].kv().put(change("minority")).await.expect("acknowledged by itself");
    let alone = cluster[2].kv().get(siblings("cut", "k")).await.expect("answered");
    assert_eq!(values(alone.get_ref()), BTreeSet::from(["minority".to_owned()]));
    let strict = v1::PutRequest { w: Some(2), ..put("cut", "other", "v") };
    let refused = cluster[2].kv().put(strict).await.expect_err("nobody else is there");
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    assert!(cluster[2].status().await.expect("answered").isolated);

    cluster[2].set_isolated(false).await;
    cluster.all_alive().await;
    let both = BTreeSet::from(["majority".to_owned(), "minority".to_owned()]);
    let mut contexts = Vec::new();
    for node in cluster.nodes() {
        let answer = eventually("every node has both", async || {
            let answer = node.kv().get(siblings("cut", "k")).await.map_err(|s| s.to_string())?;
            let found = values(answer.get_ref());
            must(found == both, || format!("{found:?}"))?;
            Ok(answer.into_inner())
        })
        .await;
        assert!(answer.versions.iter().all(|version| version.dots.len() == 1), "{answer:?}");
        contexts = vec![answer.context.expect("complete")];
    }
    let settled = v1::PutRequest { contexts, w: Some(3), ..put("cut", "k", "settled") };
    let written = cluster[1].kv().put(settled).await.expect("acknowledged by all").into_inner();
    assert!(!written.siblings_remain, "its writer had seen both");
}
