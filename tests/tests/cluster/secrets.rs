//! The cluster's secret is changed node by node, as `docs/security.md` tells, while clients hold
//! contexts of before.

use std::path::Path;

use stator_proto::v1;
use tonic::Code::FailedPrecondition;

use crate::support::{Cluster, eventually, get, must, put, refusal, values};

fn write(folder: &Path, number: usize, secret: &str, previous: &[&str]) {
    let text = format!("cluster_secret = {secret:?}\nprevious_secrets = {previous:?}\n");
    std::fs::write(folder.join(format!("node-{number}.toml")), text).expect("written");
}

/// Gives each node in turn these settings, and lets it replicate with the others before the next.
async fn roll(cluster: &mut Cluster, folder: &Path, secret: &str, previous: &[&str]) {
    for index in 0..cluster.nodes().len() {
        write(folder, index + 1, secret, previous);
        let node = &mut cluster.nodes_mut()[index];
        node.signal(libc::SIGTERM);
        assert!(node.ended().await);
        node.restart().await;
        cluster.all_alive().await;
        let key = format!("{secret} {previous:?} {index}");
        eventually("old and new replicate", async || {
            let request = v1::PutRequest {
                w: Some(2),
                quorum: v1::Quorum::Strict.into(),
                ..put("pairs", &key, "v")
            };
            let written = cluster[index].kv().put(request).await;
            written.map(drop).map_err(|status| status.to_string())
        })
        .await;
    }
}

#[tokio::test]
async fn a_secret_is_changed_node_by_node() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (old, new) = ("the old secret of all", "the new secret of all");
    let mut cluster = Cluster::start_with(2, |number| {
        write(folder.path(), number, old, &[]);
        let file = folder.path().join(format!("node-{number}.toml"));
        vec!["--config".to_owned(), file.display().to_string()]
    })
    .await;
    let pairs = v1::Keyspace { name: "pairs".to_owned(), n: 2, r: 2, w: 2, ..Default::default() };
    cluster.create(pairs).await;
    cluster[0].kv().put(put("pairs", "k", "first")).await.expect("written");
    let read = cluster[1].kv().get(get("pairs", "k")).await.expect("read").into_inner();
    let of_before = read.context.expect("a context");

    roll(&mut cluster, folder.path(), old, &[new]).await;
    roll(&mut cluster, folder.path(), new, &[old]).await;
    let with_old =
        |value| v1::PutRequest { contexts: vec![of_before.clone()], ..put("pairs", "k", value) };
    cluster[0].kv().put(with_old("second")).await.expect("a context of before the change");
    let read = cluster[1].kv().get(get("pairs", "k")).await.expect("read").into_inner();
    assert_eq!(values(&read), ["second".to_owned()].into(), "it replaced what it had seen");
    let of_after = read.context.expect("a context");
    assert_ne!(of_before[1..5], of_after[1..5], "contexts name the secret they are made with");

    roll(&mut cluster, folder.path(), new, &[]).await;
    let unknown = refusal(FailedPrecondition, "CONTEXT_SECRET_UNKNOWN", &["get the key again"]);
    for node in cluster.nodes() {
        unknown.check("a context of a dropped secret", node.kv().put(with_old("third")).await);
    }
    let with_new = v1::PutRequest { contexts: vec![of_after], ..put("pairs", "k", "third") };
    cluster[1].kv().put(with_new).await.expect("a context of the new secret");

    // Who has only the old secret is out.
    write(folder.path(), 2, old, &[]);
    let node = &mut cluster.nodes_mut()[1];
    node.signal(libc::SIGTERM);
    assert!(node.ended().await);
    node.restart().await;
    eventually("the node with the old secret is refused", async || {
        let log = cluster[1].log() + &cluster[0].log();
        must(log.contains("does not know the secret of this cluster"), || log)
    })
    .await;
}
