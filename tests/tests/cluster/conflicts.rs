//! Merges on record, modules on trial, and the way back, on real nodes by the command line.

use std::collections::BTreeSet;
use std::process::Output;

use serde_json::Value;
use stator_proto::v1;

use crate::support::{Cluster, Node, built, eventually, get, keyspace, must, put, stator};

pub(crate) const SCORES: [&str; 2] =
    [r#"{"score":7,"player":"anna"}"#, r#"{"score":9,"player":"ben"}"#];

/// Runs the program against a node.
pub(crate) async fn output(node: &Node, arguments: &[&str]) -> Output {
    let (admin, endpoint) = (&node.addresses.admin, &node.addresses.client);
    let global = ["--output", "json", "--admin", admin, "--endpoint", endpoint, "--timeout", "30s"];
    stator(global.iter().chain(arguments)).await
}

/// Runs the program against a node; what it printed, which is JSON by the line.
pub(crate) async fn run(node: &Node, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let output = output(node, arguments).await;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().map(|line| serde_json::from_str(line).expect(line)).collect())
}

pub(crate) async fn must_run(node: &Node, arguments: &[&str]) -> Value {
    let printed = run(node, arguments).await.unwrap_or_else(|why| panic!("{arguments:?}: {why}"));
    printed.into_iter().next().unwrap_or_default()
}

/// Siblings of a key, by different nodes.
pub(crate) async fn diverge(cluster: &Cluster, key: &str) {
    for (node, score) in cluster.nodes().iter().zip(SCORES) {
        let request = v1::PutRequest { w: Some(3), ..put("scores", key, score) };
        node.kv().put(request).await.expect("acknowledged");
    }
}

/// What a reader gets of a key.
pub(crate) async fn read(node: &Node, key: &str) -> v1::GetResponse {
    node.kv().get(get("scores", key)).await.expect("answered").into_inner()
}

pub(crate) fn is_merged(answer: &v1::GetResponse) -> bool {
    matches!(&answer.versions[..], [one] if one.value.as_deref() == Some(SCORES[1].as_bytes()))
}

/// The merges of all nodes so far.
async fn tail(cluster: &Cluster, more: &[&str]) -> Vec<Value> {
    let all = ["conflicts", "tail", "--since", "0", "--no-wait", "-k", "scores"];
    let arguments: Vec<&str> = all.iter().chain(more).copied().collect();
    run(&cluster[0], &arguments).await.expect("told")
}

async fn scores(cluster: &Cluster, module: v1::Reconcile) {
    cluster.create(v1::Keyspace { reconcile: Some(module), ..keyspace("scores", 2, 2) }).await;
}

#[tokio::test]
async fn failed_merges_are_dead_letters_until_another_module_is_activated() {
    let mut cluster = Cluster::start(3).await;
    let cart = cluster.push_cart().await;
    scores(&cluster, cart.clone()).await;
    let keys = ["a", "b", "c"];
    for key in keys {
        diverge(&cluster, key).await;
        let found = read(&cluster[1], key).await;
        assert_eq!(found.versions.len(), 2, "siblings: {found:?}");
        read(&cluster[1], key).await;
    }
    let failures = tail(&cluster, &["--only", "failures"]).await;
    assert_eq!(failures.len(), 3, "once each, however often they are read: {failures:?}");
    assert!(failures.iter().all(|f| f["siblings"].as_array().is_some_and(|s| s.len() == 2)));
    let explained = must_run(&cluster[0], &["kv", "explain", "a", "-k", "scores"]).await;
    // It reads by a node that had not merged it yet: a record more, of the same merge.
    let merges = explained["conflicts"].as_array().expect("merges").clone();
    assert!(merges.len() == 2 && merges[0]["id"] == merges[1]["id"], "{explained}");

    // They are still there after a kill.
    cluster.nodes_mut()[1].kill().await;
    cluster.nodes_mut()[1].restart().await;
    cluster.all_alive().await;
    let dead = must_run(&cluster[0], &["conflicts", "dead", "-k", "scores"]).await;
    let letters = dead["letters"].as_array().expect("letters");
    let dead_keys: BTreeSet<_> = letters.iter().map(|one| one["last"]["key"].as_str()).collect();
    assert_eq!(dead_keys, keys.map(Some).into(), "{dead}");

    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let file = at("max-register.wasm");
    std::fs::write(&file, built("max-register")).expect("written");
    must_run(&cluster[0], &["module", "push", &file]).await;
    must_run(&cluster[2], &["keyspace", "activate", "scores", "max-register"]).await;
    eventually("all letters are merged", async || {
        let dead = must_run(&cluster[0], &["conflicts", "dead"]).await;
        must(dead["letters"] == Value::Array(Vec::new()), || dead.to_string())
    })
    .await;
    for key in keys {
        assert!(is_merged(&read(&cluster[0], key).await));
    }

    // And back: the history says why, the module in use cannot be deleted, the other one can.
    must_run(&cluster[1], &["keyspace", "rollback", "scores", "--reason", "a test"]).await;
    let history = must_run(&cluster[0], &["keyspace", "history", "scores"]).await;
    let entries = history["history"].as_array().expect("entries").clone();
    let last = entries.last().expect("one");
    assert_eq!(
        (&last["reason"], &last["module_digest"]),
        (&Value::from("a test"), &Value::from(cart.module_digest.clone()))
    );
    let refused = run(&cluster[0], &["module", "delete", "cart"]).await.expect_err("in use");
    assert!(refused.contains("is in use in keyspace"), "{refused}");
    let pulled = at("pulled.wasm");
    must_run(&cluster[2], &["module", "pull", "max-register", "--out", &pulled]).await;
    assert_eq!(std::fs::read(&pulled).expect("read"), std::fs::read(&file).expect("read"));
    must_run(&cluster[0], &["module", "delete", "max-register"]).await;
    for node in cluster.nodes() {
        eventually("its bytes are gone on every node", async || {
            let left = std::fs::read_dir(node.data_dir.join("modules")).expect("a folder").count();
            must(left == 1, || format!("{left} modules"))
        })
        .await;
    }
}

#[tokio::test]
async fn a_shadow_changes_nothing_and_a_bad_canary_is_rolled_back() {
    let cluster = Cluster::start(3).await;
    let best = cluster.push("max-register").await;
    let cart = cluster.push_cart().await;
    scores(&cluster, best.clone()).await;

    must_run(&cluster[0], &["module", "shadow", "scores", "cart"]).await;
    diverge(&cluster, "shadowed").await;
    assert!(is_merged(&read(&cluster[2], "shadowed").await), "what counts is the pinned module's");
    eventually("the difference is on record", async || {
        let seen = tail(&cluster, &["--trial"]).await;
        let is_worse = |c: &&Value| c["comparison"] == "candidate-failed" && c["cause"] == "trial";
        must(seen.iter().filter(is_worse).count() == 1, || format!("{seen:?}"))
    })
    .await;
    let report = must_run(&cluster[0], &["module", "trial", "scores"]).await;
    assert!(report["nodes"][2]["seen"].is_object(), "{report}");
    let dead = must_run(&cluster[0], &["conflicts", "dead"]).await;
    assert_eq!(dead["letters"], Value::Array(Vec::new()), "a shadow fails nobody");

    let begun =
        must_run(&cluster[1], &["module", "canary", "scores", "cart", "--percent", "30"]).await;
    assert_eq!(begun["canary_percent"], 30, "{begun}");
    // Keys until one of the share is met; the others are merged as before.
    let mut met = 0;
    for number in 0..100 {
        let key = format!("key-{number}");
        diverge(&cluster, &key).await;
        let found = read(&cluster[2], &key).await;
        let module = found.merge.as_ref().expect("a merge").module_digest.clone();
        if module == cart.module_digest {
            met += 1;
            assert_eq!(found.versions.len(), 2, "the siblings, for it failed");
            break;
        }
        assert!(is_merged(&found), "no key outside the share is touched: {found:?}");
    }
    assert_eq!(met, 1, "of 100 keys some are in a share of 30 %");
    for node in cluster.nodes() {
        eventually("the canary is rolled back on every node", async || {
            let history = must_run(node, &["keyspace", "history", "scores"]).await;
            let last = history["history"].as_array().and_then(|all| all.last().cloned());
            let reason = last.unwrap_or_default()["reason"].to_string();
            must(history["trial"].is_null() && reason.contains("it failed at 1 of 1"), || {
                history.to_string()
            })
        })
        .await;
    }
    for number in 0..100 {
        let found = read(&cluster[0], &format!("key-{number}")).await;
        assert!(found.versions.is_empty() || is_merged(&found), "all are merged: {found:?}");
    }
}
