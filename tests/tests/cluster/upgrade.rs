//! An upgrade node by node, and the way back, while clients write: `tests/upgrade/run`.
//!
//! `STATOR_BIN` is the program of before, `STATOR_NEXT` the one that it is upgraded to. Without the second
//! there is nothing to do.

use std::path::{Path, PathBuf};

use stator_proto::v1;
use tonic::Code;

use crate::support::{Cluster, Writer, keyspace, nothing_is_lost, put};

/// Puts that each state of the cluster acknowledges.
const PUTS: usize = 300;

/// Every node in turn is stopped in order and started as another program.
async fn turn_to(cluster: &mut Cluster, program: &Path, writer: &Writer) {
    for place in 0..3 {
        cluster[place].signal(libc::SIGTERM);
        assert!(cluster[place].ended().await, "node {place} stops in order");
        cluster[place].restart_as(program).await;
        cluster.all_alive().await;
        writer.acknowledges(PUTS).await;
        cluster[place].serves("data", "it came back as another program").await;
    }
}

#[tokio::test]
async fn a_cluster_is_upgraded_and_rolled_back_under_load_and_loses_nothing() {
    let programs =
        ["STATOR_BIN", "STATOR_NEXT"].map(|name| std::env::var_os(name).map(PathBuf::from));
    let [Some(before), Some(next)] = programs else {
        return eprintln!("skipped: tests/upgrade/run names the two programs");
    };
    let mut cluster = Cluster::start(3).await;
    cluster.create(keyspace("data", 2, 2)).await;
    let cart = cluster.push_cart().await;
    cluster.create(v1::Keyspace { reconcile: Some(cart), ..keyspace("carts", 2, 2) }).await;
    let carts = [
        r#"{"items":{"a:1":{"quantity":1,"sku":"x"}}}"#,
        r#"{"items":{"b:1":{"quantity":2,"sku":"y"}}}"#,
    ];
    for (place, value) in carts.into_iter().enumerate() {
        let request = v1::PutRequest { w: Some(3), ..put("carts", "c", value) };
        cluster[place].kv().put(request).await.expect("acknowledged");
    }
    let writer = Writer::start("w", "data", cluster.nodes());
    writer.acknowledges(PUTS).await;
    let mut merged = Vec::new();
    for program in [&next, &before, &next] {
        turn_to(&mut cluster, program, &writer).await;
        for node in cluster.nodes() {
            let request = crate::support::get("carts", "c");
            let found = node.kv().get(request).await.expect("merged").into_inner();
            assert_eq!(found.versions.len(), 1, "{found:?}");
            merged.push(found.versions[0].value.clone());
        }
    }
    merged.dedup();
    assert_eq!(merged.len(), 1, "all programs merge alike");
    let (acknowledged, failures) = writer.stop().await;
    cluster.all_delivered().await;
    for node in cluster.nodes() {
        nothing_is_lost(node, "data", 2, &acknowledged).await.expect("nothing is lost");
    }
    // What a node that stops answers, and what a connection that breaks comes to; a retry cures each.
    let passes =
        [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Unknown, Code::Internal];
    let lasting: Vec<_> =
        failures.iter().filter(|status| !passes.contains(&status.code())).collect();
    assert!(lasting.is_empty(), "{lasting:?}");
    println!("{} puts were acknowledged, {} failed in passing", acknowledged.len(), failures.len());
}
