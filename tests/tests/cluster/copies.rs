//! Copies of data directories: one process is the node, and nothing is lost that the other has
//! acknowledged.
//!
//! `STATOR_COPY_KEYS` sets how many keys each of the two writes (100 by default).

use std::collections::BTreeSet;

use futures::StreamExt;
use serde_json::Value;
use stator_proto::v1;
use tonic::Code;

use crate::support::{
    Cluster, Node, eventually, get, keyspace, must, put, refusal, stator, values,
};

const KEYSPACE: &str = "copied";
/// How the alarm and the errors about a second holder are named.
const REASON: &str = "SECOND_HOLDER";
/// Requests at a time.
const AT_ONCE: usize = 16;

fn keys() -> usize {
    let asked = std::env::var("STATOR_COPY_KEYS").ok();
    asked.map_or(100, |text| text.parse().expect("a number of keys"))
}

fn value_of(writer: &str, key: usize) -> String {
    format!("{writer} wrote key {key}")
}

/// Writes all keys, without having read them. Gives the values that were acknowledged.
async fn write(node: &Node, writer: &str) -> BTreeSet<(usize, String)> {
    let written = (0..keys()).map(|key| async move {
        let value = value_of(writer, key);
        let answer = node.kv().put(put(KEYSPACE, &format!("key {key}"), &value)).await;
        answer.ok().map(|_| (key, value))
    });
    let written = futures::stream::iter(written).buffer_unordered(AT_ONCE);
    written.filter_map(std::future::ready).collect().await
}

/// Waits until a put through the node is acknowledged.
async fn serves(node: &Node, what: &str) {
    eventually(what, async || {
        let written = node.kv().put(put(KEYSPACE, "probe", what)).await;
        written.map(drop).map_err(|status| status.to_string())
    })
    .await;
}

async fn is_refused(node: &Node, what: &str) {
    eventually(what, async || {
        let status = node.status().await?;
        must(status.state() == v1::NodeState::Refused, || format!("{:?}", status.state()))
    })
    .await;
    let refused = refusal(Code::FailedPrecondition, REASON, &["copied"]);
    refused.check(what, node.kv().put(put(KEYSPACE, "probe", "refused")).await);
}

/// The ids of the nodes of which it says that a copy runs.
async fn alarms(node: &Node) -> Result<BTreeSet<String>, String> {
    let alarms = node.status().await?.alarms.into_iter();
    Ok(alarms.filter(|alarm| alarm.reason == REASON).map(|alarm| alarm.node_id).collect())
}

async fn all_are_there(node: &Node, acknowledged: &BTreeSet<(usize, String)>) {
    let lost = acknowledged.iter().map(|(key, value)| async move {
        let request = v1::GetRequest { r: Some(3), ..get(KEYSPACE, &format!("key {key}")) };
        let read = node.kv().get(request).await.expect("all owners answer");
        (!values(read.get_ref()).contains(value)).then_some(value)
    });
    let lost = futures::stream::iter(lost).buffer_unordered(AT_ONCE);
    let lost: Vec<_> = lost.filter_map(std::future::ready).collect().await;
    println!("{} of {} acknowledged values are lost", lost.len(), acknowledged.len());
    assert!(lost.is_empty(), "{lost:?}");
}

#[tokio::test]
async fn nothing_is_lost_that_a_copy_or_its_original_acknowledged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut nodes = Cluster::start(3).await;
    nodes.create(keyspace(KEYSPACE, 1, 1)).await;
    nodes[2].signal(libc::SIGTERM);
    assert!(nodes[2].ended().await);
    nodes[2].copy_to(folder.path(), "copy");
    let mut copy = Node::start_copy(folder.path(), "copy", &nodes[2]).await;
    // Before the original: it is the node.
    serves(&copy, "the copy is taken for the node").await;
    let mut acknowledged = write(&copy, "the copy, alone,").await;
    nodes[2].restart().await;
    is_refused(&nodes[2], "the original is the second one").await;
    // Instead of it: the original is the node again.
    copy.kill().await;
    serves(&nodes[2], "the original is the node again").await;
    acknowledged.extend(write(&nodes[2], "the original, alone,").await);
    // Beside it.
    copy.restart().await;
    is_refused(&copy, "the copy is the second one").await;
    eventually("the members name it", async || {
        let named = alarms(&nodes[0]).await?;
        must(named.contains(&nodes[2].addresses.node), || format!("{named:?}"))
    })
    .await;
    // Cut off with writes that nobody else has, and then silent: the copy is the node meanwhile.
    nodes[2].set_isolated(true).await;
    acknowledged.extend(write(&nodes[2], "the original, cut off,").await);
    nodes[2].pause();
    eventually("the node that is stopped is missed", async || {
        let status = nodes[0].status().await?;
        let is_down = |view: &v1::MemberView| view.reachability() == v1::Reachability::Unreachable;
        must(status.members.iter().any(is_down), || format!("{:?}", status.members))
    })
    .await;
    serves(&copy, "the copy is taken for the node that is silent").await;
    acknowledged.extend(write(&copy, "the copy, instead of it,").await);
    nodes[2].signal(libc::SIGCONT);
    // Its connections of before are reset.
    eventually("it answers again", async || nodes[2].status().await).await;
    nodes[2].set_isolated(false).await;
    is_refused(&nodes[2], "the original hears that the copy is the node").await;

    let (source, member) = (&nodes[2].addresses.admin, &nodes[0].addresses.admin);
    let recover = ["--admin", member, "--output", "json", "cluster", "recover", source.as_str()];
    let output = stator(recover).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    println!(
        "brought {}, known {}, doubtful {}",
        found["brought"], found["known"], found["doubtful"]
    );
    assert_eq!((&found["doubtful"], &found["waiting"]), (&0.into(), &0.into()), "{found} {told}");
    refusal(Code::FailedPrecondition, "NOT_REMOVED", &["member"])
        .check("the node itself", copy.admin().list_held(v1::ListHeldRequest::default()).await);
    assert_eq!(acknowledged.len(), 4 * keys(), "all were acknowledged");
    all_are_there(&nodes[0], &acknowledged).await;
}

#[tokio::test]
async fn copies_of_all_nodes_leave_the_cluster_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut nodes = Cluster::start(3).await;
    nodes.create(keyspace(KEYSPACE, 2, 2)).await;
    let name = |number: usize| format!("copy-{number}");
    for node in nodes.nodes_mut() {
        node.signal(libc::SIGTERM);
        assert!(node.ended().await);
    }
    for (number, node) in nodes.nodes_mut().iter_mut().enumerate() {
        node.copy_to(folder.path(), &name(number));
        node.restart().await;
    }
    nodes.all_alive().await;
    let mut copies = Vec::new();
    for (number, node) in nodes.nodes().iter().enumerate() {
        copies.push(Node::start_copy(folder.path(), &name(number), node).await);
    }
    let acknowledged = write(&nodes[0], "the cluster").await;
    assert_eq!(acknowledged.len(), keys(), "it serves throughout");
    for copy in &copies {
        is_refused(copy, "every copy is refused").await;
    }
    eventually("the cluster names all intruders", async || {
        let mut named = BTreeSet::new();
        for node in nodes.nodes() {
            named.extend(alarms(node).await?);
        }
        must(named.len() == 3, || format!("{named:?}"))
    })
    .await;
    for node in nodes.nodes() {
        serves(node, "every node serves").await;
    }
    for copy in &mut copies {
        copy.kill().await;
    }
    eventually("nobody is named any more", async || {
        for node in nodes.nodes() {
            let named = alarms(node).await?;
            must(named.is_empty(), || format!("{named:?}"))?;
        }
        Ok(())
    })
    .await;
    nodes.all_alive().await;
    all_are_there(&nodes[0], &acknowledged).await;
}
