//! Sloppy quorums and hints: who stands in for whom, what is refused, what an operator sees.

use std::collections::BTreeMap;

use serde_json::Value;
use stator_proto::v1;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{
    Cluster, Node, eventually, get, keyspace, must, nothing_is_lost, put, refusal, stator, values,
};

/// Waits until `node` takes exactly these members as unreachable.
async fn sees_down(node: &Node, down: &[&str]) {
    eventually("the dead are noticed", async || {
        let status = node.status().await?;
        let seen = status
            .members
            .iter()
            .filter(|view| view.reachability() == v1::Reachability::Unreachable);
        let seen: Vec<String> =
            seen.filter_map(|view| Some(view.member.as_ref()?.node_id.clone())).collect();
        let all_seen = down.iter().all(|id| seen.iter().any(|other| other == id));
        must(all_seen && seen.len() == down.len(), || format!("{seen:?}, not {down:?}"))
    })
    .await;
}

/// What `stator cluster hints` says, asked at `node`.
async fn hints(node: &Node) -> Value {
    let arguments = ["cluster", "hints", "--output", "json", "--admin", &node.addresses.admin];
    let output = stator(arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Objects that the nodes of `told` keep for each target.
fn kept_for(told: &Value) -> BTreeMap<String, u64> {
    let mut kept = BTreeMap::new();
    let nodes = told["nodes"].as_array().expect("nodes");
    for target in nodes.iter().filter_map(|node| node["targets"].as_array()).flatten() {
        assert!(target["bytes"].as_u64() > Some(0), "{target}");
        let id = target["node_id"].as_str().expect("an id").to_owned();
        *kept.entry(id).or_default() += target["objects"].as_u64().expect("a count");
    }
    kept
}

fn strict(keyspace: &str, key: &str, w: u32) -> v1::PutRequest {
    v1::PutRequest {
        w: Some(w),
        quorum: v1::Quorum::Strict.into(),
        ..put(keyspace, key, &format!("the value of {key}"))
    }
}

#[tokio::test]
async fn fallbacks_stand_in_until_the_owners_are_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("stator.toml");
    // Any hint is too old.
    std::fs::write(&config, "[timings]\nhint_age_alarm_ms = 1\n").expect("written");
    let config = ["--config".to_owned(), config.display().to_string()];
    let mut cluster = Cluster::start_with(5, |_| config.to_vec()).await;
    cluster.create(keyspace("sloppy", 2, 2)).await;
    let ids: Vec<String> = cluster.nodes().iter().map(|n| n.addresses.node.clone()).collect();

    cluster[4].kill().await;
    for node in &cluster.nodes()[..4] {
        sees_down(node, &[&ids[4]]).await;
    }
    // Each of them has three distinct nodes that hold it: a fallback where node 5 is an owner.
    let (mut keys, mut missed) = (Vec::new(), Vec::new());
    for number in 0..60 {
        let key = format!("k{number}");
        let all =
            v1::PutRequest { w: Some(3), ..put("sloppy", &key, &format!("the value of {key}")) };
        let written = cluster[number % 4].kv().put(all).await.expect("a fallback stands in");
        let written = written.into_inner();
        assert_eq!(written.acked, 3, "{written:?}");
        if written.hinted > 0 {
            assert_eq!(written.hinted, 1, "one owner is away");
            missed.push(key.clone());
        }
        keys.push(key);
    }
    assert!(!missed.is_empty() && missed.len() < 60, "an owner of some keys: {}", missed.len());
    let told = hints(&cluster[0]).await;
    assert_eq!(kept_for(&told), BTreeMap::from([(ids[4].clone(), missed.len() as u64)]));
    let alarms = told["nodes"].as_array().expect("nodes").iter();
    let mut alarms = alarms.filter_map(|node| node["alarms"].as_array()).flatten();
    assert!(
        alarms.any(|a| a["reason"] == "HINTS_OLD" && a["node_id"] == ids[4].as_str()),
        "{told}"
    );

    // Strict counts owners only, and says before it writes what cannot be.
    let answer = cluster[0].kv().put(strict("sloppy", &missed[0], 3)).await;
    let facts = answer.as_ref().expect_err("an owner is away").get_error_details();
    let facts = &facts.error_info().expect("told").metadata;
    assert_eq!(
        ["needed", "answered", "effect"].map(|name| facts[name].as_str()),
        ["3", "0", "NONE"]
    );
    refusal(Code::Unavailable, "QUORUM_NOT_REACHED", &["of the needed 3"])
        .check("a strict put of three", answer);
    cluster[0].kv().put(strict("sloppy", &missed[0], 2)).await.expect("two owners are there");

    // Two of five are left. Three nodes cannot be had of them; two can, whoever owns the key.
    cluster[2].kill().await;
    cluster[3].kill().await;
    for node in &cluster.nodes()[..2] {
        sees_down(node, &[&ids[2], &ids[3], &ids[4]]).await;
    }
    let all = v1::PutRequest { w: Some(3), ..put("sloppy", "never", "v") };
    let answer = cluster[0].kv().put(all).await;
    let facts = answer.as_ref().expect_err("two nodes are no three").get_error_details();
    assert_eq!(facts.error_info().expect("told").metadata["effect"], "NONE");
    refusal(Code::Unavailable, "QUORUM_NOT_REACHED", &["of the needed 3"])
        .check("a put of three on two nodes", answer);
    for number in 60..100 {
        let key = format!("k{number}");
        let two = put("sloppy", &key, &format!("the value of {key}"));
        cluster[number % 2].kv().put(two).await.expect("two nodes are left");
        let read = cluster[(number + 1) % 2].kv().get(get("sloppy", &key)).await;
        let read = read.expect("two nodes are left");
        assert_eq!(values(read.get_ref()).len(), 1, "a fallback reads its hints");
        keys.push(key);
    }
    eventually("what the dead missed is kept for each of them", async || {
        let kept = kept_for(&hints(&cluster[1]).await);
        must(kept.len() == 3, || format!("{kept:?}"))
    })
    .await;

    for node in [2, 3, 4] {
        cluster[node].restart().await;
    }
    cluster.all_alive().await;
    assert!(cluster.all_delivered().await >= missed.len() as u64);
    assert_eq!(kept_for(&hints(&cluster[3]).await), BTreeMap::new());
    nothing_is_lost(&cluster[4], "sloppy", 3, &keys).await.expect("every owner has it");
    let never = cluster[4].kv().get(get("sloppy", "never")).await.expect("answered");
    assert!(values(never.get_ref()).is_empty(), "refused with effect NONE");
}

#[tokio::test]
async fn a_full_room_for_hints_refuses_before_it_acknowledges() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("stator.toml");
    std::fs::write(&config, "[limits]\nhints_bytes_max = 20000\n").expect("written");
    let config = ["--config".to_owned(), config.display().to_string()];
    let mut cluster = Cluster::start_with(3, |_| config.to_vec()).await;
    cluster.create(keyspace("full", 2, 2)).await;
    let absent = cluster[2].addresses.node.clone();
    cluster[2].kill().await;
    for node in &cluster.nodes()[..2] {
        sees_down(node, &[&absent]).await;
    }
    // With no node to spare the coordinator keeps the hint, until it has no room.
    let (mut acknowledged, mut refused) = (Vec::new(), None);
    for number in 0..200 {
        let key = format!("k{number}");
        let value = format!("the value of {key}, {}", "v".repeat(1_000));
        match cluster[0].kv().put(put("full", &key, &value)).await {
            Ok(_) => acknowledged.push((key, value)),
            Err(status) => {
                refused = Some(status);
                break;
            }
        }
    }
    let refused = refused.expect("40 of them fill the room of both");
    refusal(Code::DeadlineExceeded, "STORE_UNAVAILABLE", &["hints_bytes_max = 20000"])
        .check("a put whose hint does not fit", Err::<tonic::Response<()>, _>(refused));
    let told = hints(&cluster[0]).await;
    let nodes = told["nodes"].as_array().expect("nodes");
    assert!(nodes.iter().any(|node| node["refused"].as_u64() > Some(0)), "{told}");
    let is_alarm = |alarm: &Value| alarm["reason"] == "HINTS_NEARLY_FULL";
    let mut alarms = nodes.iter().filter_map(|node| node["alarms"].as_array()).flatten();
    assert!(alarms.any(is_alarm), "{told}");

    cluster[2].restart().await;
    cluster.all_alive().await;
    cluster.all_delivered().await;
    for (key, value) in &acknowledged {
        let all = v1::GetRequest { r: Some(3), ..get("full", key) };
        let read = cluster[2].kv().get(all).await.expect("all are there");
        assert!(values(read.get_ref()).contains(value), "{key} was acknowledged");
    }
    cluster[0].kv().put(put("full", "after", "v")).await.expect("there is room again");
}
