//! Merges without code, from the command line to the merged value.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::{Cluster, Node, eventually, get, must, put, stator, values};

const RULES: [&str; 3] = ["/items/*/qty=max", "/tags=union", "=last-write"];

/// Runs `stator` against the node and checks the exit code.
async fn run(node: &Node, arguments: &[&str], code: i32) -> Output {
    let addresses = ["--endpoint", &node.addresses.client, "--admin", &node.addresses.admin];
    let output = stator(arguments.iter().copied().chain(addresses)).await;
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn with_rules<'a>(start: &[&'a str], rules: &[&'a str]) -> Vec<&'a str> {
    let rules = rules.iter().flat_map(|rule| ["--rule", rule]);
    start.iter().copied().chain(["--reconcile", "json", "--output", "json"]).chain(rules).collect()
}

async fn merges_to(node: &Node, key: &str, expected: &str) {
    eventually("the merged value", async || {
        let found = node.kv().get(get("carts", key)).await.map_err(|why| why.to_string())?;
        let found = found.into_inner();
        let is_it = values(&found).into_iter().eq([expected.to_owned()]);
        must(is_it, || format!("{found:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_keyspace_merges_by_its_rules_on_every_node() {
    let cluster = Cluster::start(3).await;
    let create = with_rules(&["keyspace", "create", "carts"], &RULES);
    let created = run(&cluster[0], &create, 0).await;
    assert!(text(&created.stderr).contains("3 of 3 nodes are ready"), "{created:?}");
    assert_eq!(json_of(&created)["reconcile"], "module");
    for node in cluster.nodes() {
        eventually("every node shows the rules", async || {
            let describe = ["keyspace", "describe", "carts", "--output", "json"];
            let described = stator(describe.into_iter().chain(["--admin", &node.addresses.admin]));
            let described = described.await;
            let found: Value = serde_json::from_slice(&described.stdout).unwrap_or_default();
            let rules = json!(["=last-write", "/tags=union", "/items/*/qty=max"]);
            must(found["rules"] == rules, || {
                text(&described.stderr).to_owned() + &found.to_string()
            })
        })
        .await;
    }

    let left = r#"{"items":{"tea":{"qty":2}},"tags":["new"]}"#;
    let right = r#"{"items":{"tea":{"qty":3},"jam":{"qty":1}},"tags":["old","new"]}"#;
    for (node, value) in [(&cluster[0], left), (&cluster[1], right)] {
        node.kv().put(put("carts", "k", value)).await.expect("acknowledged");
    }
    let merged = r#"{"items":{"jam":{"qty":1},"tea":{"qty":3}},"tags":["new","old"]}"#;
    merges_to(&cluster[2], "k", merged).await;

    // The laws of these hold, so they may fold; with a last write they may not.
    let update = ["keyspace", "update", "carts", "--fold"];
    let refused = run(&cluster[0], &with_rules(&update, &RULES), 1).await;
    assert!(text(&refused.stderr).contains("pushed and stays"), "{}", text(&refused.stderr));
    let folds = run(&cluster[0], &with_rules(&update, &RULES[..2]), 0).await;
    assert_eq!(json_of(&folds)["reconcile"], "fold");
    merges_to(&cluster[1], "k", merged).await;
}

#[tokio::test]
async fn bad_rules_are_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("rules.wasm").display().to_string();
    for (rules, says) in [
        (&["/items=onion"][..], "no rule is called `onion`: there are union, max"),
        (&["items=union"], "begins with `/`"),
        (&["/a=max", "/a=min"], "two rules for one path"),
        (&["/a=last-write", "/a/b=max"], "stands below"),
        (&["/a=three-way"], "such as three-way:last-write"),
    ] {
        let given = rules.iter().flat_map(|rule| ["--rule", rule]);
        // Nobody listens there.
        let nowhere = ["--admin", "127.0.0.1:1"];
        let create = ["keyspace", "create", "carts", "--reconcile", "json"].into_iter();
        let write = ["module", "rules", "--out", &out].into_iter();
        for refused in [
            stator(create.chain(given.clone()).chain(nowhere)).await,
            stator(write.chain(given).chain(nowhere)).await,
        ] {
            let words = text(&refused.stderr);
            assert_eq!(refused.status.code(), Some(2), "{rules:?}: {words}");
            assert!(words.contains(says), "{rules:?}: {words}");
        }
    }
    for (arguments, says) in [
        (&["--reconcile", "json"][..], "needs a --rule"),
        (&["--reconcile", "json", "--rule", "=three-way:max"], "a three-way rule needs --ancestor"),
        (&["--rule", "/a=max"], "--rule needs --reconcile json"),
        (&["--reconcile", "siblings", "--rule", "/a=max"], "--rule needs --reconcile json"),
        (&["--reconcile", "json", "--module", "cart"], "--module excludes"),
        (&["--module", "cart", "--rule", "/a=max"], "cannot be used with"),
        (&["--reconcile", "json", "--rule", "/a=max", "--dry-run"], "cannot be used with"),
    ] {
        let create = ["keyspace", "create", "carts"].iter().chain(arguments).copied();
        let refused = stator(create.chain(["--admin", "127.0.0.1:1"])).await;
        let words = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {words}");
        assert!(words.contains(says), "{arguments:?}: {words}");
    }
    assert!(!std::fs::exists(&out).expect("looked"), "nothing was written");
}

#[tokio::test]
async fn a_component_of_rules_is_a_module_like_any_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("rules.wasm").display().to_string();
    let rules = ["module", "rules", "--rule", "/n=max", "--rule", "/tags=union", "--out", &out];
    let written = stator(rules).await;
    assert_eq!(written.status.code(), Some(0), "{}", text(&written.stderr));
    let described = stator(["module", "describe", &out, "--output", "json"]).await;
    assert_eq!(json_of(&described)["rules"], json!(["/n=max", "/tags=union"]));
    let tested = stator(["module", "test", &out]).await;
    assert_eq!(tested.status.code(), Some(0), "{}", text(&tested.stderr));
    assert!(text(&tested.stdout).contains("the module may fold"), "{}", text(&tested.stdout));
}

#[tokio::test]
async fn three_ways_are_merged_against_what_both_had_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &[]).await;
    let create = with_rules(&["keyspace", "create", "pages"], &["=three-way:last-write"]);
    let created = run(&node, &[&create[..], &["--ancestor"]].concat(), 0).await;
    assert_eq!(json_of(&created)["reconcile"], "three-way");
    run(&node, &["kv", "put", "-k", "pages", "p", r#"{"title":"a","old":1,"n":1}"#], 0).await;
    let seen = folder.path().join("seen").display().to_string();
    run(&node, &["kv", "get", "-k", "pages", "p", "--context-file", &seen], 0).await;
    for edit in [r#"{"title":"b","old":1,"n":1}"#, r#"{"title":"a","n":2}"#] {
        let put = ["kv", "put", "-k", "pages", "p", edit, "--context-file", &seen];
        run(&node, &put, 0).await;
    }
    let merged = run(&node, &["kv", "get", "-k", "pages", "p"], 0).await;
    assert_eq!(text(&merged.stdout), r#"{"n":2,"title":"b"}"#, "{}", text(&merged.stderr));
}
