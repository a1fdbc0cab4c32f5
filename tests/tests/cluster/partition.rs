//! A node that is cut off, and comes back with news of its own.

use std::collections::BTreeSet;

use stator_proto::v1;
use tonic::Code;

use crate::support::{Cluster, eventually, get, keyspace, must, put, refusal, values};

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
    let of_two = v1::PutRequest { w: Some(2), ..put("cut", "other", "v") };
    // Not UNAVAILABLE, which clients repeat: it wrote at itself.
    refusal(Code::DeadlineExceeded, "QUORUM_NOT_REACHED", &["1 of the needed 2 nodes"])
        .check("a put of two alone", cluster[2].kv().put(of_two).await);
    let of_two = v1::GetRequest { r: Some(2), ..get("cut", "other") };
    // Known to be in vain before its own answer is there, or after.
    refusal(Code::Unavailable, "QUORUM_NOT_REACHED", &["of the needed 2 nodes answered"])
        .check("a get of two alone", cluster[2].kv().get(of_two).await);
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
