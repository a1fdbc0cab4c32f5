//! The command line against a real node.

use std::process::Output;

use serde_json::Value;

use crate::support::{Node, built, stator};

/// Runs `stator` with the node's addresses and checks the exit code.
async fn run(node: &Node, arguments: &[&str], code: i32) -> Output {
    let addresses =
        ["--endpoint", &node.addresses.client, "--admin", &node.addresses.admin].into_iter();
    let output = stator(arguments.iter().copied().chain(addresses)).await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {words}");
    assert!(!words.contains("panicked"), "{arguments:?}: {words}");
    output
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", text(bytes)))
}

#[tokio::test]
async fn keys_are_put_got_and_deleted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &[]).await;

    let put = run(&node, &["kv", "put", "greeting", "hello"], 0).await;
    assert!(text(&put.stdout).contains("greeting stored, acknowledged by 1 node"));
    let got = run(&node, &["kv", "get", "greeting"], 0).await;
    assert_eq!(text(&got.stdout), "hello", "a pipe gets the bytes as they are");

    let got = run(&node, &["kv", "get", "greeting", "--output", "json"], 0).await;
    let got = json(&got.stdout);
    assert_eq!(got["versions"][0]["value"], "hello");
    let context = got["context"].as_str().expect("a context").to_owned();
    run(&node, &["kv", "put", "greeting", "hi", "--context", &context], 0).await;
    run(&node, &["kv", "put", "greeting", "hey"], 0).await;
    let table = run(&node, &["kv", "get", "greeting"], 0).await;
    let table = text(&table.stdout);
    assert!(table.contains("hi") && table.contains("hey") && !table.contains("hello"), "{table}");
    let is_time = |word: &str| word.starts_with("20") && word.contains('T') && word.ends_with('Z');
    assert!(table.split_whitespace().any(is_time), "a readable time: {table}");

    let file = folder.path().join("context").display().to_string();
    run(&node, &["kv", "get", "greeting", "--context-file", &file], 0).await;
    let arguments = ["kv", "delete", "greeting", "--context-file", &file, "--output", "json"];
    let deleted = run(&node, &arguments, 0).await;
    assert_eq!(json(&deleted.stdout)["siblings_remain"], false);
    run(&node, &["kv", "get", "greeting"], 3).await;
}

#[tokio::test]
async fn keyspaces_are_updated_field_by_field() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &[]).await;
    let described = run(&node, &["keyspace", "describe", "default", "--output", "json"], 0).await;
    let before = json(&described.stdout);
    let etag = before["etag"].as_str().expect("an etag");

    let update = ["keyspace", "update", "default", "--reconcile", "last-write-wins"];
    let update = [&update[..], &["--etag", etag, "--output", "json"]].concat();
    let checked = run(&node, &[&update[..], &["--dry-run"]].concat(), 0).await;
    assert_eq!(json(&checked.stdout)["reconcile"], "last-write-wins");
    assert!(text(&checked.stderr).contains("nothing was changed"));
    let changed = json(&run(&node, &update, 0).await.stdout);
    assert_eq!(changed["reconcile"], "last-write-wins", "the etag is as before the dry run");
    for same in ["id", "generation", "n", "r", "w", "durability"] {
        assert_eq!(changed[same], before[same], "{same}");
    }

    let stale = json(&run(&node, &update, 1).await.stderr)["error"].clone();
    assert_eq!(stale["reason"], "ETAG_MISMATCH");
    assert_eq!(stale["facts"]["expected"], etag);
    assert_eq!(stale["facts"]["found"], changed["etag"]);
    let weaker = run(&node, &["keyspace", "update", "default", "-n", "3"], 1).await;
    let why = text(&weaker.stderr);
    assert!(why.contains("give r and w together with n; nothing was changed"), "{why}");
    run(&node, &["keyspace", "update", "default"], 2).await;
    run(&node, &["keyspace", "delete", "default", "--dry-run"], 0).await;
    run(&node, &["keyspace", "describe", "default"], 0).await;
}

#[tokio::test]
async fn what_a_keyspace_does_with_its_module_is_said_by_flags() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &[]).await;
    let component = folder.path().join("three.wasm");
    std::fs::write(&component, built("json-three-way")).expect("written");
    let component = component.display().to_string();
    run(&node, &["module", "push", &component], 0).await;

    let create = ["keyspace", "create", "documents", "--module", "three", "--ancestor"];
    let both = run(&node, &[&create[..], &["--fold"]].concat(), 2).await;
    assert!(text(&both.stderr).contains("cannot be used with"), "{}", text(&both.stderr));
    let created = run(&node, &[&create[..], &["--output", "json"]].concat(), 0).await;
    assert_eq!(json(&created.stdout)["reconcile"], "three-way");
    let listed = run(&node, &["keyspace", "list"], 0).await;
    assert!(text(&listed.stdout).contains("three-way "), "{}", text(&listed.stdout));

    let update = ["keyspace", "update", "documents", "--module", "three", "--output", "json"];
    assert_eq!(json(&run(&node, &update, 0).await.stdout)["reconcile"], "module");
    let back = [&update[..], &["--ancestor"]].concat();
    assert_eq!(json(&run(&node, &back, 0).await.stdout)["reconcile"], "three-way");
}

#[tokio::test]
async fn a_named_put_is_one_write() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &[]).await;
    let put = ["kv", "put", "k", "v", "--request-id", "order 7", "--output", "json"];
    let first = json(&run(&node, &put, 0).await.stdout);
    let retry = json(&run(&node, &put, 0).await.stdout);
    assert_eq!(retry["dot"], first["dot"]);
    assert_eq!(retry["siblings_remain"], false);
    let other = ["kv", "put", "k", "w", "--request-id", "order 7", "--output", "json"];
    let refused = json(&run(&node, &other, 1).await.stderr)["error"].clone();
    assert_eq!(refused["reason"], "REQUEST_ID_REUSED");
    assert_eq!(refused["facts"]["dot"], first["dot"]);
    let delete = ["kv", "delete", "k", "--request-id", "cancel 7", "--output", "json"];
    let first = json(&run(&node, &delete, 0).await.stdout);
    let retry = json(&run(&node, &delete, 0).await.stdout);
    assert_eq!(retry["dot"], first["dot"], "an observed delete too");
}

#[tokio::test]
async fn exit_codes_tell_the_kind_of_failure() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &[]).await;

    let help = stator(["--help"]).await;
    assert_eq!(help.status.code(), Some(0));
    let help = text(&help.stdout).to_owned();
    for line in ["0  done", "1  a node refused", "2  wrong usage", "3  not found", "4  no answer"] {
        assert!(help.contains(line), "{line:?} is not in the help");
    }

    let refused = run(&node, &["kv", "get", "k", "-r", "9", "--output", "json"], 1).await;
    let error = &json(&refused.stderr)["error"];
    assert_eq!((&error["reason"], &error["exit_code"]), (&"BAD_QUORUM".into(), &1.into()));
    assert!(refused.stdout.is_empty());
    run(&node, &["kv", "get"], 2).await;
    run(&node, &["kv", "put", "k", "v", "--context", "not base64!"], 2).await;
    run(&node, &["kv", "frobnicate"], 2).await;
    run(&node, &["kv", "get", "never-written"], 3).await;
    let absent = run(&node, &["kv", "get", "k", "-k", "nowhere"], 3).await;
    assert!(text(&absent.stderr).contains("UNKNOWN_KEYSPACE"));
    run(&node, &["keyspace", "describe", "nowhere"], 3).await;

    // Port 1 is reserved and nothing listens on it.
    let silent = stator(["kv", "get", "k", "--endpoint", "127.0.0.1:1"]).await;
    assert_eq!(silent.status.code(), Some(4));
    assert!(text(&silent.stderr).contains("no node answers at http://127.0.0.1:1"));
    node.serves("default", "all of these").await;
}

#[tokio::test]
async fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let output = stator(["completions", shell]).await;
        assert!(output.status.success());
        let script = text(&output.stdout);
        assert!(script.contains("stator") && script.contains("STATOR_COMPLETE"), "{shell}");
    }
    assert_eq!(stator(["completions", "abacus"]).await.status.code(), Some(2));
}
