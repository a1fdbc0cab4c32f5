//! Nodes that die or hang while clients write: what was acknowledged stays.
//!
//! A killed process loses what it held in memory, not what the system holds for its files: power
//! cuts are the business of the storage's own tests and of the simulator.

use stator_proto::v1;

use crate::support::{Cluster, Writer, eventually, get, keyspace, must, nothing_is_lost, values};

/// Waits until the others keep at least `count` objects for a node that does not answer.
async fn hints_are_held(cluster: &Cluster, absent: usize, count: usize) {
    let id = &cluster[absent].addresses.node;
    eventually("hints are held for the absent node", async || {
        let mut held = 0;
        for (_, node) in cluster.nodes().iter().enumerate().filter(|(at, _)| *at != absent) {
            let members = node.status().await?.members;
            let of_absent = |view: &&v1::MemberView| {
                view.member.as_ref().is_some_and(|member| member.node_id == *id)
            };
            held += members.iter().find(of_absent).map_or(0, |view| view.hints_held);
        }
        must(held >= count as u64, || format!("{held} of {count}"))
    })
    .await;
}

/// Waits until the node itself holds everything: cut off, it can only answer from its own disk.
///
/// Hints must do it: no read here reaches another node, so none repairs this one.
async fn holds_all(cluster: &Cluster, node: usize, name: &str, keys: &[String]) {
    let node = &cluster[node];
    eventually("the node itself holds all that was acknowledged", async || {
        // A write that was under way at the node's return becomes a hint only after a time-out.
        cluster.all_delivered().await;
        node.set_isolated(true).await;
        let held = nothing_is_lost(node, name, 1, keys).await;
        node.set_isolated(false).await;
        held
    })
    .await;
    assert!(cluster.all_delivered().await > 0, "it missed something");
}

#[tokio::test]
async fn a_killed_node_gets_back_what_it_missed() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(keyspace("killed", 2, 2)).await;

    let born = cluster[2].incarnation().await;
    cluster[2].signal(libc::SIGTERM);
    assert!(cluster[2].ended().await, "a clean stop is a success");
    cluster[2].restart().await;
    assert_ne!(cluster[2].incarnation().await, born, "a copy of its directory may run, too");
    cluster.all_alive().await;

    let writer = Writer::start("w", "killed", cluster.nodes());
    writer.acknowledges(100).await;
    cluster[2].kill().await;
    writer.acknowledges(100).await;
    hints_are_held(&cluster, 2, 1).await;
    cluster[2].restart().await;
    writer.acknowledges(100).await;
    let (acknowledged, _) = writer.stop().await;

    cluster.all_alive().await;
    holds_all(&cluster, 2, "killed", &acknowledged).await;
    let read = nothing_is_lost(&cluster[0], "killed", 2, &acknowledged).await;
    read.expect("a quorum has it");
}

#[tokio::test]
async fn a_hanging_node_holds_up_nobody() {
    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("hanging", 2, 2)).await;

    cluster[2].pause();
    let writer = Writer::start("w", "hanging", &cluster.nodes()[..2]);
    writer.acknowledges(200).await;
    let (acknowledged, failures) = writer.stop().await;
    assert!(failures.is_empty(), "two of three suffice: {failures:?}");
    for node in &cluster.nodes()[..2] {
        let read = nothing_is_lost(node, "hanging", 2, &acknowledged).await;
        read.expect("two of three suffice");
    }
    hints_are_held(&cluster, 2, acknowledged.len()).await;

    cluster[2].signal(libc::SIGCONT);
    cluster.all_alive().await;
    holds_all(&cluster, 2, "hanging", &acknowledged).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_death_of_all() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(keyspace("of-two", 2, 2)).await;
    // One synced copy is all that w=1 promises; where it is only a get of all can tell.
    cluster.create(keyspace("of-one", 1, 1)).await;

    let of_two = Writer::start("two", "of-two", cluster.nodes());
    let of_one = Writer::start("one", "of-one", cluster.nodes());
    of_two.acknowledges(100).await;
    of_one.acknowledges(100).await;
    for node in cluster.nodes() {
        node.signal(libc::SIGKILL);
    }
    let (of_two, _) = of_two.stop().await;
    let (of_one, _) = of_one.stop().await;
    for node in cluster.nodes_mut() {
        assert!(!node.ended().await);
    }
    for node in cluster.nodes_mut() {
        node.restart().await;
    }

    cluster.all_alive().await;
    let read = nothing_is_lost(&cluster[0], "of-two", 2, &of_two).await;
    read.expect("two of three have it");
    let read = nothing_is_lost(&cluster[1], "of-one", 3, &of_one).await;
    read.expect("one of three has it");
    let never = cluster[2].kv().get(get("of-one", "never written")).await.expect("answered");
    assert!(values(never.get_ref()).is_empty());
}
