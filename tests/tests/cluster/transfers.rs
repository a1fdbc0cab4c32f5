//! Partitions on their way between real processes, while clients write: a node joins, one leaves,
//! one is killed and replaced. No acknowledged write is lost, and what clients were refused is
//! counted and explained.

use std::collections::BTreeMap;

use serde_json::Value;
use stator_proto::v1;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Cluster, Node, Writer, eventually, keyspace, must, nothing_is_lost, stator};

/// Runs `stator cluster` with a node's admin address, and gives what it prints.
pub(crate) async fn cluster(node: &Node, arguments: &[&str]) -> Value {
    let all = ["cluster"].into_iter().chain(arguments.iter().copied());
    let all = all.chain(["--admin", &node.addresses.admin, "--output", "json"]);
    let output = stator(all).await;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {words}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// Commits what is staged, and waits until every move of that ring is made, as all nodes see it.
pub(crate) async fn moved(nodes: &[&Node], ring_version: u64) {
    let made = cluster(nodes[0], &["commit"]).await;
    assert_eq!(made["ring_version"], ring_version);
    eventually("all partitions are where they belong", async || {
        for node in nodes {
            let status = node.status().await?;
            let known = status.cluster.ok_or("it waits")?;
            must(known.ring_version == ring_version && known.slots_pending == 0, || {
                format!("{}: {known:?}, {:?}", node.addresses.node, status.transfers)
            })?;
        }
        Ok(())
    })
    .await;
}

pub(crate) async fn waiting(folder: &tempfile::TempDir, name: &str) -> Node {
    Node::start(folder.path(), name, &["--bootstrap", "wait"]).await
}

/// Waits until `gone` is no member any more.
async fn removed(nodes: &[&Node], gone: &str) {
    eventually("the node is no member any more", async || {
        for node in nodes {
            let status = node.status().await?;
            let members = status.members.iter().filter_map(|view| view.member.as_ref());
            must(members.clone().all(|member| member.node_id != gone), || {
                format!("{:?}", members.collect::<Vec<_>>())
            })?;
        }
        Ok(())
    })
    .await;
}

/// What clients were answered, by code and reason.
fn counted(failures: &[Status]) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for status in failures {
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        *counts.entry((format!("{:?}", status.code()), reason)).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_nodes_join_leave_die_and_are_replaced() {
    let mut nodes = Cluster::start(5).await;
    nodes.create(keyspace("carts", 2, 2)).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sixth = waiting(&folder, "node-6").await;
    // Through the nodes that stay; a client of a dead node learns nothing new here.
    let writer = Writer::start("moved", "carts", &nodes.nodes()[..3]);
    writer.acknowledges(200).await;

    cluster(&nodes[0], &["join", &sixth.addresses.peer]).await;
    let all: Vec<&Node> = nodes.nodes().iter().chain([&sixth]).collect();
    moved(&all, 2).await;
    writer.acknowledges(100).await;

    let leaves = nodes[4].addresses.node.clone();
    cluster(&nodes[0], &["leave", &leaves]).await;
    let stay: Vec<&Node> = nodes.nodes()[..4].iter().chain([&sixth]).collect();
    moved(&stay, 3).await;
    removed(&stay, &leaves).await;
    writer.acknowledges(100).await;
    // It pushed or dropped everything before it went.
    eventually("the node that left holds nothing", async || {
        let status = nodes[4].status().await?;
        let data = status.stores.iter().find(|store| store.name == "data");
        let objects = data.map(|store| store.objects);
        must(objects == Some(0), || format!("{objects:?}"))
    })
    .await;

    let dies = nodes[3].addresses.node.clone();
    nodes[3].kill().await;
    writer.acknowledges(100).await;
    let seventh = waiting(&folder, "node-7").await;
    cluster(&nodes[0], &["replace", &dies, &seventh.addresses.peer]).await;
    let stay: Vec<&Node> = nodes.nodes()[..3].iter().chain([&sixth, &seventh]).collect();
    moved(&stay, 4).await;
    writer.acknowledges(100).await;

    let (acknowledged, failures) = writer.stop().await;
    let refused = counted(&failures);
    println!("{} acknowledged, refused: {refused:?}", acknowledged.len());
    // Only what may be tried again, and little of it.
    let is_explained = |status: &Status| {
        matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Aborted)
    };
    assert!(failures.iter().all(is_explained), "{refused:?}");
    assert!(failures.len() * 20 < acknowledged.len(), "{refused:?}");
    for node in stay {
        nothing_is_lost(node, "carts", 2, &acknowledged).await.expect("nothing is lost");
    }
}

/// A source that dies while its partitions are copied is waited for; nothing is made without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_waits_for_its_source() {
    let mut nodes = Cluster::start(3).await;
    nodes.create(keyspace("carts", 2, 2)).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fourth = waiting(&folder, "node-4").await;
    let writer = Writer::start("waits", "carts", &nodes.nodes()[..2]);
    writer.acknowledges(100).await;
    cluster(&nodes[0], &["join", &fourth.addresses.peer]).await;
    nodes[2].kill().await;
    cluster(&nodes[0], &["commit"]).await;
    writer.acknowledges(100).await;
    // What the others had to give is given; what the dead one serves waits, and is shown.
    let (dead, comes) = (nodes[2].addresses.node.clone(), fourth.addresses.node.clone());
    eventually("only the dead node's partitions wait", async || {
        let request = v1::ListTransfersRequest::default();
        let listed = nodes[0].admin().list_transfers(request).await;
        let waiting = listed.map_err(|status| status.to_string())?.into_inner().transfers;
        let is_of = |transfer: &v1::Transfer| {
            (&transfer.source_node_id, &transfer.target_node_id) == (&dead, &comes)
        };
        must(!waiting.is_empty() && waiting.iter().all(is_of), || format!("{waiting:?}"))?;
        let status = cluster(&nodes[0], &["status"]).await;
        must(status["cluster"]["slots_pending"] == waiting.len(), || status.to_string())
    })
    .await;
    nodes[2].restart().await;
    eventually("all partitions are where they belong", async || {
        for node in nodes.nodes().iter().chain([&fourth]) {
            let known = node.status().await?.cluster.ok_or("it waits")?;
            must(known.slots_pending == 0, || format!("{known:?}"))?;
        }
        Ok(())
    })
    .await;
    let listed = nodes[0].admin().list_transfers(v1::ListTransfersRequest::default()).await;
    assert!(listed.expect("an answer").into_inner().transfers.is_empty());
    let (acknowledged, _) = writer.stop().await;
    for node in nodes.nodes().iter().chain([&fourth]) {
        nothing_is_lost(node, "carts", 2, &acknowledged).await.expect("nothing is lost");
    }
}
