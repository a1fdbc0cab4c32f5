//! What was replaced can be put back, and a module's failures have a way round: by the command line.

use serde_json::Value;
use stator_proto::v1;

use crate::conflicts::{SCORES, diverge, is_merged, must_run, read, run};
use crate::support::{Cluster, built, eventually, get, keyspace, must, put, values};

#[tokio::test]
async fn what_a_write_replaced_is_listed_and_put_back_also_after_a_kill() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(keyspace("notes", 2, 2)).await;
    let refused = run(&cluster[0], &["kv", "history", "a", "-k", "notes"]).await;
    assert!(refused.expect_err("none is kept").contains("keeps no superseded versions"));
    must_run(&cluster[0], &["keyspace", "update", "notes", "--history", "1d"]).await;
    eventually("all nodes keep it", async || {
        for node in cluster.nodes() {
            let seen = must_run(node, &["keyspace", "describe", "notes"]).await;
            must(seen["merging"]["history_ms"] == 86_400_000, || seen.to_string())?;
        }
        Ok(())
    })
    .await;

    let mut context = None;
    let mut first = String::new();
    for text in ["one", "two"] {
        let contexts = context.take().into_iter().collect();
        let request = v1::PutRequest { contexts, w: Some(3), ..put("notes", "a", text) };
        let answer = cluster[0].kv().put(request).await.expect("acknowledged").into_inner();
        context = answer.context;
        if text == "one" {
            first = answer.dot;
        }
    }
    cluster.nodes_mut()[1].kill().await;
    cluster.nodes_mut()[1].restart().await;
    cluster.all_alive().await;
    let history = must_run(&cluster[1], &["kv", "history", "a", "-k", "notes"]).await;
    let versions = history["versions"].as_array().expect("versions").clone();
    assert_eq!(versions.len(), 1, "of three owners once: {history}");
    assert_eq!(versions[0]["writes"][0], Value::from(first.clone()), "{history}");

    let restore = ["kv", "restore", "a", &first, "-k", "notes"];
    must_run(&cluster[2], &restore).await;
    let found = cluster[0].kv().get(get("notes", "a")).await.expect("answered").into_inner();
    assert!(matches!(&found.versions[..], [one] if one.value.as_deref() == Some(b"one")));
    let history = must_run(&cluster[0], &["kv", "history", "a", "-k", "notes"]).await;
    assert_eq!(history["versions"].as_array().map(Vec::len), Some(2), "`two` made way: {history}");
    let both = history["versions"].as_array().expect("versions").iter();
    let both = both.map(|version| version["writes"][0].as_str().expect("a write"));
    let both: Vec<_> = ["kv", "restore", "-k", "notes", "a"].into_iter().chain(both).collect();
    must_run(&cluster[1], &both).await;
    let found = cluster[2].kv().get(get("notes", "a")).await.expect("answered").into_inner();
    assert_eq!(values(&found), ["one", "two"].map(str::to_owned).into(), "siblings: {found:?}");
    let unknown = ["kv", "restore", "a", "none.1.1:1", "-k", "notes"];
    assert!(run(&cluster[0], &unknown).await.expect_err("no such write").contains("stands for"));
}

#[tokio::test]
async fn what_a_module_folded_is_merged_anew_by_another_one() {
    let cluster = Cluster::start(3).await;
    let best = cluster.push("max-register").await;
    let other = cluster.push("json-three-way").await;
    let fold = v1::Reconcile { fold: true, ..best };
    let merging = v1::Merging { history_ms: 3_600_000, ..Default::default() };
    let scores =
        v1::Keyspace { reconcile: Some(fold), merging: Some(merging), ..keyspace("scores", 2, 2) };
    cluster.create(scores).await;
    for key in ["kept", "written-since"] {
        diverge(&cluster, key).await;
        eventually("it is folded", async || {
            let request = v1::GetRequest { view: v1::View::Siblings.into(), ..get("scores", key) };
            let found = cluster[0].kv().get(request).await.expect("answered").into_inner();
            must(found.versions.len() == 1, || format!("{found:?}"))
        })
        .await;
    }
    let found = read(&cluster[1], "written-since").await;
    let contexts = found.context.into_iter().collect();
    let since = v1::PutRequest { contexts, ..put("scores", "written-since", SCORES[0]) };
    cluster[1].kv().put(since).await.expect("acknowledged");

    let remerge = ["module", "remerge", "scores", "max-register"];
    let early = run(&cluster[0], &remerge).await.expect_err("it is what merges");
    assert!(early.contains("pinned to no other module"), "{early}");
    let digest = other.module_digest.as_str();
    must_run(&cluster[0], &["keyspace", "update", "scores", "--module", digest]).await;
    let dry: Vec<&str> = remerge.into_iter().chain(["--dry-run"]).collect();
    let planned = must_run(&cluster[0], &dry).await;
    assert_eq!(
        (&planned["merged"], planned["left"].as_array().map(Vec::len)),
        (&1.into(), Some(1))
    );
    let done = must_run(&cluster[0], &remerge).await;
    assert_eq!(done["merged"], 1, "{done}");
    assert_eq!(done["left"][0]["key"], "written-since", "{done}");
    let found = read(&cluster[2], "kept").await;
    let [one] = &found.versions[..] else { panic!("one version: {found:?}") };
    assert_ne!(one.value.as_deref(), Some(SCORES[1].as_bytes()), "the other module made it");
    let again = must_run(&cluster[0], &remerge).await;
    assert_eq!(again["merged"], 0, "what is done is not done twice: {again}");
}

#[tokio::test]
async fn a_module_is_tried_on_recorded_conflicts() {
    let cluster = Cluster::start(3).await;
    let best = cluster.push("max-register").await;
    let reconcile = Some(best);
    cluster.create(v1::Keyspace { reconcile, ..keyspace("scores", 2, 2) }).await;
    for key in ["a", "b"] {
        diverge(&cluster, key).await;
        assert!(is_merged(&read(&cluster[2], key).await));
        assert!(is_merged(&read(&cluster[1], key).await), "another node records the same");
    }
    let recorded =
        run(&cluster[0], &["conflicts", "recorded", "-k", "scores"]).await.expect("told");
    assert_eq!(recorded.len(), 2, "each once: {recorded:?}");
    let siblings = recorded[0]["siblings"].as_array().expect("siblings");
    assert!(siblings.iter().any(|sibling| sibling["utf8"] == SCORES[0]), "{recorded:?}");

    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("candidate.wasm").display().to_string();
    std::fs::write(&file, built("max-register")).expect("written");
    let same = must_run(&cluster[0], &["module", "replay", "scores", &file]).await;
    assert_eq!((&same["same"], &same["failed"]), (&2.into(), &0.into()), "{same}");
    std::fs::write(&file, built("cart")).expect("written");
    let worse = run(&cluster[0], &["module", "replay", "scores", &file]).await;
    assert!(worse.expect_err("it fails").contains("fails at 2"), "with exit code 1");
}

#[tokio::test]
async fn where_a_module_fails_the_one_before_or_the_last_write_stands_in_and_it_is_paused() {
    let cluster = Cluster::start(3).await;
    let best = cluster.push("max-register").await;
    cluster.push_cart().await;
    let reconcile = Some(best.clone());
    cluster.create(v1::Keyspace { reconcile, ..keyspace("scores", 2, 2) }).await;
    let update = async |more: &[&str]| {
        let update: Vec<&str> =
            ["keyspace", "update", "scores"].iter().chain(more).copied().collect();
        must_run(&cluster[0], &update).await;
    };
    update(&["--on-failure", "previous,last-write"]).await;
    must_run(&cluster[0], &["keyspace", "activate", "scores", "cart"]).await;
    diverge(&cluster, "a").await;
    let found = read(&cluster[0], "a").await;
    let merge = found.merge.clone().expect("a merge");
    assert!(is_merged(&found) && merge.module_digest == best.module_digest, "{found:?}");
    assert!(!merge.failure.is_empty(), "it says what failed: {merge:?}");

    update(&["--on-failure", "last-write"]).await;
    let found = read(&cluster[0], "a").await;
    let merge = found.merge.clone().expect("a merge");
    assert!(found.versions.len() == 1 && merge.merged && merge.module_digest.is_empty());

    update(&["--on-failure", "siblings", "--pause-after", "2"]).await;
    diverge(&cluster, "b").await;
    diverge(&cluster, "c").await;
    read(&cluster[0], "b").await;
    let paused = read(&cluster[0], "c").await;
    assert_eq!(paused.versions.len(), 2, "siblings: {paused:?}");
    let failure = paused.merge.expect("a merge").failure;
    assert!(failure.contains("paused on this node after 2 failures"), "{failure}");
    must_run(&cluster[0], &["keyspace", "rollback", "scores"]).await;
    assert!(is_merged(&read(&cluster[0], "c").await), "another module is not paused");

    must_run(&cluster[1], &["module", "pause", "scores"]).await;
    let paused = read(&cluster[0], "c").await;
    assert!(paused.versions.len() == 2, "what is remembered too: {paused:?}");
    assert!(paused.merge.expect("a merge").failure.contains("module resume"));
    must_run(&cluster[1], &["module", "resume", "scores"]).await;
    assert!(is_merged(&read(&cluster[0], "c").await));
    let described = must_run(&cluster[2], &["module", "describe", "max-register"]).await;
    assert_eq!(described["pushed"]["name"], "max-register", "{described}");
    assert!(described["pushed"]["laws"].as_array().is_some_and(|laws| laws.len() > 5));
}

#[tokio::test]
async fn merges_beyond_a_budget_are_made_behind_the_reader() {
    let cluster = Cluster::start(3).await;
    let reconcile = Some(cluster.push("max-register").await);
    let merging = v1::Merging { merges_per_second: 1, ..Default::default() };
    let scores = v1::Keyspace { reconcile, merging: Some(merging), ..keyspace("scores", 2, 2) };
    cluster.create(scores).await;
    let keys = ["a", "b", "c", "d"];
    for key in keys {
        diverge(&cluster, key).await;
    }
    let mut beyond = 0;
    for key in keys {
        let found = read(&cluster[0], key).await;
        let failure = found.merge.clone().unwrap_or_default().failure;
        assert!(is_merged(&found) || failure.contains("budget of 1 merges a second"), "{failure}");
        beyond += usize::from(!is_merged(&found));
    }
    assert!(beyond > 0, "four at once are more than one a second");
    for key in keys {
        eventually("it was made behind", async || {
            let found = read(&cluster[0], key).await;
            must(is_merged(&found), || format!("{found:?}"))
        })
        .await;
    }
}
