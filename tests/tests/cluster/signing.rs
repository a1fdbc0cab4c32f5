//! Modules that are signed, where a keyspace demands it: by the command line, on real nodes.

use serde_json::Value;
use stator_proto::v1;

use crate::conflicts::{diverge, is_merged, must_run, read, run};
use crate::support::{Cluster, Node, built, eventually, keyspace, must};

/// Files of somebody who signs.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A component on disk.
    fn component(&self, name: &str) -> String {
        let path = self.path(&format!("{name}.wasm"));
        std::fs::write(&path, built(name)).expect("written");
        path
    }

    /// A pair of keys; the public one.
    async fn keygen(&self, node: &Node, name: &str) -> String {
        let made = must_run(node, &["module", "keygen", &self.path(name)]).await;
        made["public_key"].as_str().expect("a key").to_owned()
    }
}

async fn describe(node: &Node) -> Value {
    must_run(node, &["keyspace", "describe", "scores"]).await
}

#[tokio::test]
async fn a_keyspace_takes_only_modules_that_are_signed_by_the_keys_that_it_names() {
    let cluster = Cluster::start(3).await;
    let desk = Desk { folder: tempfile::tempdir().expect("a folder") };
    let (release, second) =
        (desk.keygen(&cluster[0], "release").await, desk.keygen(&cluster[0], "second").await);
    let (best, other) = (desk.component("max-register"), desk.component("json-three-way"));
    let (release_key, second_key) = (desk.path("release.key"), desk.path("second.key"));

    let signed = ["module", "push", &best, "--sign", &release_key];
    let best_module = must_run(&cluster[0], &signed).await;
    assert_eq!(best_module["signed_by"], Value::from(vec![release.clone()]));
    let best_digest = best_module["digest"].as_str().expect("text").to_owned();
    must_run(&cluster[0], &["module", "push", &other]).await;
    let create = [
        "keyspace",
        "create",
        "scores",
        "-n",
        "3",
        "-r",
        "2",
        "-w",
        "2",
        "--module",
        "max-register",
        "--signed-by",
        &release,
    ];
    must_run(&cluster[0], &create).await;
    diverge(&cluster, "a").await;
    assert!(is_merged(&read(&cluster[2], "a").await));

    let told = "is signed by nobody";
    let refused = async |node: usize, arguments: &[&str], told: &str| {
        let why = run(&cluster[node], arguments).await.expect_err("it is refused");
        assert!(why.contains("MODULE_NOT_SIGNED") && why.contains(told), "{why}");
    };
    refused(1, &["keyspace", "activate", "scores", "json-three-way"], told).await;
    refused(2, &["module", "canary", "scores", "json-three-way", "--percent", "5"], told).await;
    refused(0, &["module", "shadow", "scores", "json-three-way"], told).await;
    let rules = ["keyspace", "update", "scores", "--reconcile", "json", "--rule", "=last-write"];
    refused(0, &rules, "push it with --sign").await;

    // A signature that was made apart, of other bytes, by whom the keyspace does not name.
    let signature = desk.path("cart.sig");
    let sign = async |module: &str, key: &str| {
        must_run(&cluster[0], &["module", "sign", module, "--key", key, "--out", &signature]).await;
        let push = ["module", "push", &other, "--signature", &signature];
        run(&cluster[0], &push).await.map(|printed| printed[0].clone())
    };
    let wrong = sign(&best, &second_key).await.expect_err("of other bytes");
    assert!(wrong.contains("does not hold"), "{wrong}");
    let taken = sign(&other, &second_key).await.expect("it holds");
    assert_eq!(taken["signed_by"], Value::from(vec![second.clone()]));
    let by_second = format!("is signed by {}", &second[..20]);
    refused(0, &["keyspace", "activate", "scores", "json-three-way"], &by_second).await;

    // The second key is named too; the first is withdrawn when nothing rests on it any more.
    let named = format!("{release},{}", desk.path("second.pub"));
    must_run(&cluster[1], &["keyspace", "update", "scores", "--signed-by", &named]).await;
    must_run(&cluster[1], &["keyspace", "activate", "scores", "json-three-way"]).await;
    must_run(&cluster[1], &["keyspace", "rollback", "scores"]).await;
    let withdraw = ["keyspace", "update", "scores", "--signed-by", &second];
    refused(1, &withdraw, &best_digest).await;
    must_run(&cluster[1], &["keyspace", "rollback", "scores"]).await;
    must_run(&cluster[1], &withdraw).await;
    refused(1, &["keyspace", "rollback", "scores"], &best_digest).await;
    let described = describe(&cluster[1]).await;
    assert_eq!(described["signed_by"], Value::from(vec![second.clone()]), "{described}");
    assert_eq!(described["unsigned_modules"], Value::from(Vec::<String>::new()), "{described}");
    must_run(&cluster[1], &["keyspace", "update", "scores", "--signed-by", ""]).await;
    must_run(&cluster[1], &["keyspace", "rollback", "scores"]).await;
    let module = must_run(&cluster[1], &["module", "describe", "max-register"]).await;
    assert_eq!(module["pushed"]["signed_by"], Value::from(vec![release]), "{module}");
}

#[tokio::test]
async fn what_two_operators_bring_about_together_is_not_called_until_it_is_signed() {
    let cluster = Cluster::start(3).await;
    let desk = Desk { folder: tempfile::tempdir().expect("a folder") };
    let release = desk.keygen(&cluster[0], "release").await;
    let (best, other) = (desk.component("max-register"), desk.component("json-three-way"));
    let key = desk.path("release.key");
    must_run(&cluster[0], &["module", "push", &best, "--sign", &key]).await;
    must_run(&cluster[0], &["module", "push", &other]).await;
    let reconcile = v1::Reconcile {
        policy: v1::ReconcilePolicy::Module.into(),
        module_digest: stator_core::id::ModuleDigest::of(&built("json-three-way")).to_string(),
        ..Default::default()
    };
    let before = Some(reconcile.clone());
    cluster.create(v1::Keyspace { reconcile: before, ..keyspace("scores", 2, 2) }).await;
    must_run(&cluster[0], &["keyspace", "activate", "scores", "max-register"]).await;

    cluster[2].set_isolated(true).await;
    must_run(&cluster[0], &["keyspace", "update", "scores", "--signed-by", &release]).await;
    let rollback = v1::UpdateKeyspaceRequest {
        keyspace: Some(v1::Keyspace { reconcile: Some(reconcile), ..keyspace("scores", 2, 2) }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["reconcile".to_owned()] }),
        ..Default::default()
    };
    cluster[2].admin().update_keyspace(rollback).await.expect("it has not heard of the keys");
    cluster[2].set_isolated(false).await;
    for node in cluster.nodes() {
        eventually("both changes are known", async || {
            let seen = describe(node).await;
            let both = seen["unsigned_modules"].as_array().is_some_and(|all| all.len() == 1)
                && seen["signed_by"][0] == release.as_str();
            must(both, || seen.to_string())
        })
        .await;
        let status = node.status().await.expect("a status");
        let alarmed = status.alarms.iter().any(|alarm| alarm.reason == "MODULE_NOT_SIGNED");
        assert!(alarmed, "{:?}", status.alarms);
    }
    cluster.all_alive().await;
    diverge(&cluster, "a").await;
    for node in cluster.nodes() {
        let found = read(node, "a").await;
        let failure = found.merge.clone().unwrap_or_default().failure;
        assert!(found.versions.len() > 1 && failure.contains("is not signed"), "{found:?}");
    }
    must_run(&cluster[1], &["module", "push", &other, "--sign", &key]).await;
    for node in cluster.nodes() {
        eventually("it is called", async || {
            let found = read(node, "a").await;
            let failure = found.merge.clone().unwrap_or_default().failure;
            must(!failure.contains("is not signed"), || format!("{found:?}"))
        })
        .await;
    }
}
