//! What is deleted or has expired leaves the stores of all nodes, and waits for a node that is away.

use std::collections::BTreeSet;
use std::path::Path;

use stator_proto::v1;

use crate::support::{Cluster, Node, eventually, get, keyspace, must, put, stator, values};

const KEYS: usize = 40;

/// Flags for nodes that look for what was deleted all the time.
pub(crate) fn collecting(folder: &Path) -> Vec<String> {
    let path = folder.join("collect.toml");
    std::fs::write(&path, "[timings]\ncollect_period_ms = 20\n").expect("a settings file");
    vec!["--config".to_owned(), path.display().to_string()]
}

async fn objects(node: &Node) -> Result<u64, String> {
    let status = node.status().await?;
    let data = status.stores.iter().find(|store| store.name == "data");
    data.map(|store| store.objects).ok_or_else(|| "it has no data store".to_owned())
}

pub(crate) async fn all_hold(cluster: &Cluster, count: u64) {
    eventually("every node holds that many objects", async || {
        for node in cluster.nodes() {
            let found = objects(node).await?;
            must(found == count, || format!("{found} of {count} objects"))?;
        }
        Ok(())
    })
    .await;
}

async fn put_and_delete(node: &Node, prefix: &str) {
    for number in 0..KEYS {
        let key = format!("{prefix}-{number}");
        node.kv().put(put("gone", &key, "a value")).await.expect("acknowledged");
        let delete = v1::DeleteRequest {
            keyspace: "gone".to_owned(),
            key: key.into(),
            observed: true,
            ..Default::default()
        };
        node.kv().delete(delete).await.expect("acknowledged");
    }
}

#[tokio::test]
async fn deleted_keys_leave_all_stores_once_every_node_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster::start_with(3, |_| collecting(folder.path())).await;
    cluster.create(keyspace("gone", 2, 2)).await;
    cluster[0].kv().put(put("gone", "stays", "its value")).await.expect("acknowledged");
    put_and_delete(&cluster[0], "first").await;
    all_hold(&cluster, 1).await;

    // Without one node nobody can tell what it would bring back.
    cluster[2].kill().await;
    eventually("collection waits", async || {
        let collect = cluster[0].status().await?.collect.unwrap_or_default();
        must(collect.held_up.contains("not reachable"), || format!("{collect:?}"))
    })
    .await;
    put_and_delete(&cluster[0], "second").await;
    let arguments = ["cluster", "status", "--admin", &cluster[0].addresses.admin];
    let table = String::from_utf8(stator(arguments).await.stdout).expect("text");
    assert!(table.contains("the rest waits"), "{table}");
    eventually("both others keep the tombstones", async || {
        for node in &cluster.nodes()[..2] {
            let found = objects(node).await?;
            must(found == 1 + KEYS as u64, || format!("{found} objects"))?;
        }
        Ok(())
    })
    .await;

    cluster[2].restart().await;
    all_hold(&cluster, 1).await;
    for node in cluster.nodes() {
        let gone = node.kv().get(get("gone", "second-7")).await.expect("answered").into_inner();
        assert_eq!(values(&gone).len(), 0, "nothing came back");
        let stays = node.kv().get(get("gone", "stays")).await.expect("answered").into_inner();
        assert_eq!(values(&stays).len(), 1);
    }
}

#[tokio::test]
async fn expired_values_count_for_no_limit_and_leave_all_stores() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::start_with(3, |_| collecting(folder.path())).await;
    cluster.create(keyspace("gone", 2, 2)).await;
    let short = |key: &str| v1::PutRequest { ttl_ms: Some(1), ..put("gone", key, "a value") };
    // More than the limit of siblings, each without a context.
    for number in 0..120 {
        let node = &cluster[number % 3];
        node.kv().put(short("pile")).await.expect("what has expired counts for no limit");
        node.kv().put(short(&format!("once-{number}"))).await.expect("acknowledged");
    }
    cluster[0].kv().put(put("gone", "mixed", "stays")).await.expect("acknowledged");
    cluster[1].kv().put(short("mixed")).await.expect("acknowledged");
    all_hold(&cluster, 1).await;
    let left = cluster[2].kv().get(get("gone", "mixed")).await.expect("answered").into_inner();
    assert_eq!(values(&left), BTreeSet::from(["stays".to_owned()]));

    // The context of a key that is absent since it has expired is one to write with.
    cluster[0].kv().put(short("again")).await.expect("acknowledged");
    eventually("it has expired", async || {
        let found = cluster[1].kv().get(get("gone", "again")).await.expect("answered").into_inner();
        must(values(&found).is_empty(), || "it is still there".to_owned())?;
        let next = v1::PutRequest {
            contexts: found.context.into_iter().collect(),
            ..put("gone", "again", "")
        };
        cluster[2].kv().put(next).await.map(drop).map_err(|status| status.to_string())
    })
    .await;
    let found = cluster[0].kv().get(get("gone", "again")).await.expect("answered").into_inner();
    assert_eq!(values(&found), BTreeSet::from([String::new()]), "an empty value is a value");
}
