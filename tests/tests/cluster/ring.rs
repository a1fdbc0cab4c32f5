//! Changes of the ring on real processes: staged, planned, cancelled, committed; and nodes that
//! must not come in.

use serde_json::Value;
use stator_proto::v1;
use stator_proto::v1::ring_change::Change;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{Cluster, Node, eventually, keyspace, must, put, refusal, stator};

/// Runs `stator cluster` with a node's admin address, and gives what it prints.
async fn cluster(node: &Node, arguments: &[&str], code: i32) -> (Value, String) {
    let all = ["cluster"].into_iter().chain(arguments.iter().copied());
    let all = all.chain(["--admin", &node.addresses.admin, "--output", "json"]);
    let output = stator(all).await;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {words}");
    (serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), words)
}

/// A node beside the cluster that waits for one.
async fn waiting(folder: &tempfile::TempDir, name: &str) -> Node {
    Node::start(folder.path(), name, &["--bootstrap", "wait", "--enable-faults"]).await
}

/// Waits until all nodes go by this ring, and by the same catalogue.
async fn all_at(nodes: &[&Node], ring_version: u64) {
    eventually("all nodes go by the same ring", async || {
        let mut digests = Vec::new();
        for node in nodes {
            let known = node.status().await?.cluster.ok_or("it waits")?;
            must(known.ring_version == ring_version, || format!("{known:?}"))?;
            digests.push(known.catalogue_digest);
        }
        must(digests.windows(2).all(|pair| pair[0] == pair[1]), || format!("{digests:?}"))
    })
    .await;
}

fn stage(change: Change) -> v1::StageRingChangeRequest {
    v1::StageRingChangeRequest { change: Some(v1::RingChange { change: Some(change) }) }
}

fn join(address: &str) -> v1::StageRingChangeRequest {
    stage(Change::Join(v1::JoinMember { peer_address: address.to_owned(), node_id: String::new() }))
}

fn seat_of(status: &v1::NodeStatus, node: &str) -> Option<v1::Seat> {
    let members = status.members.iter().filter_map(|view| view.member.as_ref());
    members.filter(|member| member.node_id == node).map(v1::Member::seat).next()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_by_a_plan_that_was_looked_at() {
    let nodes = Cluster::start(3).await;
    nodes.create(keyspace("carts", 2, 2)).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fourth = waiting(&folder, "node-4").await;
    let (id, address) = (&fourth.addresses.node, &fourth.addresses.peer);

    let (empty, _) = cluster(&nodes[0], &["plan"], 0).await;
    assert_eq!((&empty["changes"], &empty["slots_moved"]), (&Value::Array(vec![]), &0.into()));
    let (staged, _) = cluster(&nodes[0], &["join", address], 0).await;
    assert_eq!(staged["changes"][0]["join"]["node_id"], **id);
    // It is a member at once, without a seat, and knows the cluster.
    all_at(&[&nodes[0], &nodes[1], &nodes[2], &fourth], 1).await;
    let status = fourth.status().await.expect("it answers");
    assert_eq!(seat_of(&status, id), Some(v1::Seat::None));

    // Any node has the plan; staging twice is staging once.
    let (plan, _) = cluster(&nodes[1], &["join", address], 0).await;
    assert_eq!(plan["changes"].as_array().map(Vec::len), Some(1), "{plan}");
    assert_eq!(plan["slots_moved"], 192, "three quarters of 256 partitions: {plan}");
    assert_eq!(plan["slots_moved"], plan["slots_ideal"], "{plan}");
    assert_eq!(plan["firsts_moved"], 64, "{plan}");
    let (_, words) = cluster(&nodes[1], &["leave", id], 1).await;
    assert!(words.contains("NO_SEAT"), "{words}");

    let (cancelled, _) = cluster(&nodes[2], &["cancel"], 0).await;
    assert_eq!(cancelled["changes"], 1);
    let (_, words) = cluster(&nodes[2], &["commit"], 1).await;
    assert!(words.contains("NOTHING_STAGED"), "{words}");

    let (again, _) = cluster(&nodes[2], &["join", address], 0).await;
    let old = plan["plan_id"].as_str().expect("an id");
    assert_eq!(again["plan_id"], plan["plan_id"], "the same changes of the same ring");
    let (_, words) = cluster(&nodes[2], &["commit", "--plan", "0000000000000001"], 1).await;
    assert!(words.contains("OTHER_PLAN"), "{words}");
    let (made, _) = cluster(&nodes[2], &["commit", "--plan", old], 0).await;
    assert_eq!((&made["ring_version"], &made["slots_moved"]), (&2.into(), &192.into()));
    eventually("all nodes have the ring", async || {
        for node in nodes.nodes().iter().chain([&fourth]) {
            let status = node.status().await?;
            let version = status.cluster.as_ref().map(|known| known.ring_version);
            must(version == Some(2), || format!("{version:?}"))?;
            let seat = seat_of(&status, id);
            must(seat == Some(v1::Seat::Seated), || format!("{seat:?}"))?;
        }
        Ok(())
    })
    .await;
    for node in nodes.nodes().iter().chain([&fourth]) {
        node.serves("carts", "a commit").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_commits_at_once_one_makes_the_ring() {
    let nodes = Cluster::start(3).await;
    let first = nodes[0].addresses.node.clone();
    for round in 0..3 {
        let ring_version = 1 + round;
        let set = v1::SetMember {
            node_id: first.clone(),
            weight: Some(2 + round as u32),
            ..Default::default()
        };
        nodes[0].admin().stage_ring_change(stage(Change::Set(set))).await.expect("staged");
        eventually("all know what is staged", async || {
            for node in nodes.nodes() {
                let staged = node.status().await?.cluster.map(|known| known.changes_staged);
                must(staged == Some(1), || format!("{staged:?}"))?;
            }
            Ok(())
        })
        .await;
        let commit = async |node: &Node| {
            let request = v1::CommitRingPlanRequest {
                expected_ring_version: ring_version,
                ..Default::default()
            };
            node.patient_admin().commit_ring_plan(request).await
        };
        let (left, right) = tokio::join!(commit(&nodes[0]), commit(&nodes[1]));
        let (made, lost) = match (left, right) {
            (Ok(made), Err(lost)) | (Err(lost), Ok(made)) => (made.into_inner(), lost),
            other => panic!("one of two commits must win: {other:?}"),
        };
        assert_eq!(made.ring_version, ring_version + 1);
        assert_eq!(lost.code(), Code::Aborted, "{lost}");
        let details = lost.get_error_details();
        let info = details.error_info().expect("a reason");
        assert!(["OTHER_COMMIT", "OTHER_RING"].contains(&info.reason.as_str()), "{info:?}");
        assert_eq!(info.metadata["effect"], "NONE");
        eventually("all nodes have the ring", async || {
            for node in nodes.nodes() {
                let version = node.status().await?.cluster.map(|known| known.ring_version);
                must(version == Some(ring_version + 1), || format!("{version:?}"))?;
            }
            Ok(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_a_majority_is_refused_unless_it_is_forced() {
    let mut nodes = Cluster::start(3).await;
    let gone: Vec<String> = nodes.nodes()[1..].iter().map(|n| n.addresses.node.clone()).collect();
    nodes[1].kill().await;
    nodes[2].kill().await;
    for id in &gone {
        cluster(&nodes[0], &["leave", id, "--lost"], 0).await;
    }
    let (_, words) = cluster(&nodes[0], &["commit"], 4).await;
    assert!(words.contains("NO_MAJORITY") && words.contains("unsafe-without-majority"), "{words}");
    let status = nodes[0].status().await.expect("it answers");
    assert_eq!(status.cluster.map(|known| known.ring_version), Some(1));

    let forced = ["commit", "--unsafe-without-majority", "--confirm"];
    let (_, words) = cluster(&nodes[0], &[&forced[..], &["yes"]].concat(), 2).await;
    assert!(words.contains("the other nodes are lost for good"), "{words}");
    let confirmed = [&forced[..], &["the other nodes are lost for good"]].concat();
    let (made, _) = cluster(&nodes[0], &confirmed, 0).await;
    assert_eq!(made["ring_version"], 2);
    let status = nodes[0].status().await.expect("it answers");
    assert_eq!(status.members.len(), 1, "{:?}", status.members);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_and_an_impostor_stay_outside() {
    let mut nodes = Cluster::start(3).await;
    nodes.create(keyspace("carts", 2, 2)).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fourth = waiting(&folder, "node-4").await;
    let gone = nodes[2].addresses.node.clone();
    nodes[2].kill().await;

    // A fresh directory at a member's address is another node.
    nodes[1].kill().await;
    let impostor = Node::start_at(folder.path(), "impostor", &nodes[1].addresses).await;
    let answer = nodes[0].admin().stage_ring_change(join(&impostor.addresses.peer)).await;
    refusal(Code::FailedPrecondition, "ADDRESS_TAKEN", &["stator cluster replace"])
        .check("an impostor", answer);
    drop(impostor);
    nodes[1].restart().await;
    // Both of the two that live are needed, and they have to meet again first.
    eventually("its address was another's, and is its own again", async || {
        let put = nodes[1].kv().put(put("carts", "again", "there")).await;
        put.map(drop).map_err(|status| status.to_string())
    })
    .await;

    let (plan, _) = cluster(&nodes[0], &["replace", &gone, &fourth.addresses.peer], 0).await;
    assert_eq!(plan["slots_moved"], 256, "{plan}");
    let (made, _) = cluster(&nodes[1], &["commit"], 0).await;
    assert_eq!(made["ring_version"], 2);
    eventually("the lost node is no member any more", async || {
        for node in [&nodes[0], &nodes[1], &fourth] {
            let status = node.status().await?;
            must(seat_of(&status, &gone).is_none(), || format!("{:?}", status.members))?;
        }
        Ok(())
    })
    .await;

    nodes[2].restart().await;
    eventually("the removed node hears that it was removed", async || {
        let log = nodes[2].log();
        must(log.contains("was removed from this cluster with ring version 2"), || log)
    })
    .await;
    let answer = nodes[0].admin().stage_ring_change(join(&nodes[2].addresses.peer)).await;
    refusal(Code::FailedPrecondition, "NODE_REMOVED", &["for ever", "empty data directory"])
        .check("a removed node", answer);
}
