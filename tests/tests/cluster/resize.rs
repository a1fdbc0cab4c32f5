//! A keyspace's n on real processes: it goes up and down while clients write, waits for a node that is
//! down, and is taken back.

use serde_json::Value;
use stator_proto::v1;

use crate::support::{Cluster, Node, Writer, eventually, keyspace, must, nothing_is_lost, stator};

/// Runs `stator keyspace` with a node's admin address, and gives what it prints.
async fn keyspaces(node: &Node, arguments: &[&str], code: i32) -> (Value, String) {
    let all = ["keyspace"].into_iter().chain(arguments.iter().copied());
    let all = all.chain(["--admin", &node.addresses.admin, "--output", "json"]);
    let output = stator(all).await;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {words}");
    (serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), words)
}

/// Waits until these nodes know the keyspace with this n, and of no change of it.
async fn has_n(nodes: &[Node], n: u32) {
    eventually("n is what was asked for", async || {
        for node in nodes {
            let request = v1::GetKeyspaceRequest { name: "carts".to_owned() };
            let found = node.admin().get_keyspace(request).await;
            let found = found.map_err(|status| status.to_string())?.into_inner();
            must(found.n == n && found.resize.is_none(), || format!("{:?}", found.resize))?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_n_goes_up_and_down() {
    let mut nodes = Cluster::start(4).await;
    nodes.create(v1::Keyspace { n: 2, ..keyspace("carts", 1, 2) }).await;
    let writer = Writer::start("resized", "carts", &nodes.nodes()[..3]);
    writer.acknowledges(100).await;

    // A member is down: the change waits for it, and can be taken back.
    let last = nodes[3].addresses.node.clone();
    nodes[3].kill().await;
    let (too_weak, words) = keyspaces(&nodes[0], &["update", "carts", "-n", "3"], 1).await;
    assert!(words.contains("r + w > n"), "{words} {too_weak}");
    let wider = ["update", "carts", "-n", "3", "-r", "2", "-w", "2"];
    let (begun, _) = keyspaces(&nodes[0], &wider, 0).await;
    assert_eq!((&begun["n"], &begun["resize"]["n"]), (&2.into(), &3.into()), "{begun}");
    eventually("the change waits for the one that is down", async || {
        let (shown, _) = keyspaces(&nodes[1], &["describe", "carts"], 0).await;
        let waiting = shown["resize"]["waiting_node_ids"].clone();
        must(waiting == Value::from(vec![last.clone()]), || format!("{shown}"))
    })
    .await;
    let (_, words) = keyspaces(&nodes[1], &["update", "carts", "-n", "1"], 1).await;
    assert!(words.contains("from n=2 to n=3"), "{words}");
    keyspaces(&nodes[2], &["update", "carts", "-n", "2"], 0).await;
    has_n(&nodes.nodes()[..3], 2).await;

    // Up: it ends once all members have gone along.
    keyspaces(&nodes[0], &wider, 0).await;
    writer.acknowledges(100).await;
    nodes[3].restart().await;
    has_n(nodes.nodes(), 3).await;
    writer.acknowledges(100).await;
    let (shown, _) = keyspaces(&nodes[3], &["describe", "carts"], 0).await;
    assert_eq!([&shown["n"], &shown["r"], &shown["w"]], [3, 2, 2].map(Value::from).each_ref());

    // And down, as far as it goes: what is left behind goes with it.
    keyspaces(&nodes[1], &["update", "carts", "-n", "1", "-r", "1", "-w", "1"], 0).await;
    writer.acknowledges(100).await;
    has_n(nodes.nodes(), 1).await;
    writer.acknowledges(100).await;
    let (acknowledged, failures) = writer.stop().await;
    nodes.all_delivered().await;
    eventually("nothing is lost", async || {
        nothing_is_lost(&nodes[3], "carts", 1, &acknowledged).await
    })
    .await;
    let written = acknowledged.len() + failures.len();
    eventually("each key is there once", async || {
        let (shown, _) = keyspaces(&nodes[2], &["describe", "carts"], 0).await;
        let keys = shown["usage"]["keys"].as_u64().unwrap_or(u64::MAX);
        must(keys <= written as u64, || format!("{keys} of {written}"))
    })
    .await;
}
