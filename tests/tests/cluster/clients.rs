//! The clients of all languages by the same scenarios, each against three nodes of its own.
//!
//! `tests/clients/README.md` tells what the scenarios are, and how a program of them speaks with whoever
//! runs it: here it is run, and done what it asks for. A language whose tools `tests/clients/install`
//! has not brought is skipped by its name, on standard error, where no test harness holds it back.

mod scenarios;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use stator_proto::v1;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::conflicts::must_run;
use crate::support::{Cluster, eventually, get, keyspace, must, put};

/// What every client has to show, in this order.
const SCENARIOS: [&str; 17] = [
    "values",
    "siblings",
    "update_settled",
    "update_merged",
    "errors",
    "request_ids",
    "batches",
    "lists",
    "watches",
    "quotas",
    "ttl_and_labels",
    "deadline",
    "one_endpoint",
    "dead_endpoint",
    "partition",
    "kill",
    "roles",
];

/// Far beyond what any step takes, so that a hanging one is named.
const PATIENCE: Duration = Duration::from_secs(120);

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the repository")
}

/// Whether what `install` leaves behind at the end is that of now.
fn is_installed(language: &str, wanted: &str, stamp: &str) -> bool {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).ok();
    let is_there =
        read(&format!("target/clients/{stamp}")).is_some_and(|it| Some(it) == read(wanted));
    if !is_there {
        // Not by a macro, whose words the harness keeps of a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: the client in {language}, whose tools tests/clients/install has not brought"
        );
    }
    is_there
}

/// Builds the package of a language, as it is now.
async fn build(language: &str) {
    let output = Command::new(root().join("tests/clients/build")).arg(language).output().await;
    let output = output.expect("tests/clients/build starts");
    let (out, err) = (&output.stdout, &output.stderr);
    let words = [out, err].map(|bytes| String::from_utf8_lossy(bytes)).concat();
    assert!(output.status.success(), "the client in {language} is not built: {words}");
}

/// Three nodes with the keyspaces of the scenarios, all of which merge where they are to.
async fn cluster() -> Cluster {
    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("kept", 2, 2)).await;
    cluster.create(keyspace("cut", 1, 1)).await;
    let few = Some(v1::Quota { keys: 2, ..Default::default() });
    cluster.create(v1::Keyspace { quota: few, ..keyspace("small", 2, 2) }).await;
    let seldom = Some(v1::Quota { requests_per_second: 3, ..Default::default() });
    cluster.create(v1::Keyspace { quota: seldom, ..keyspace("slow", 2, 2) }).await;
    let reconcile = Some(cluster.push_cart().await);
    cluster.create(v1::Keyspace { reconcile, ..keyspace("carts", 2, 2) }).await;
    for value in [r#"{"removed":["a"]}"#, r#"{"removed":["b"]}"#] {
        let all = v1::PutRequest { w: Some(3), ..put("carts", "probe", value) };
        cluster[0].kv().put(all).await.expect("acknowledged by all");
    }
    for node in cluster.nodes() {
        eventually("every node has the module", async || {
            let found = node.kv().get(get("carts", "probe")).await;
            let found = found.map_err(|status| status.to_string())?.into_inner();
            must(found.versions.len() == 1, || format!("{found:?}"))
        })
        .await;
    }
    cluster
}

/// Does to a node what a scenario asks for; what its program is told is the token, if any.
async fn act(cluster: &mut Cluster, action: &str, number: usize) -> String {
    let node = number - 1;
    match action {
        "cut" => cluster[node].set_isolated(true).await,
        "heal" => {
            cluster[node].set_isolated(false).await;
            cluster.all_alive().await;
        }
        "pause" => cluster[node].pause(),
        "resume" => {
            cluster[node].signal(libc::SIGCONT);
            cluster.all_alive().await;
        }
        "kill" => cluster[node].kill().await,
        "close" => return close(cluster, node).await,
        other => panic!("a scenario asks for {other:?}"),
    }
    String::new()
}

/// Gives the first roles, and the token of somebody who may read.
async fn close(cluster: &Cluster, node: usize) -> String {
    let node = &cluster[node];
    let token = |made: Value| made["token"].as_str().expect("it is shown once").to_owned();
    let root = token(must_run(node, &["access", "token", "root"]).await);
    must_run(node, &["access", "grant", "root", "operator"]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("token");
    std::fs::write(&file, root).expect("written");
    let shows = ["--token-file", file.to_str().expect("text")];
    let as_root = |words: &'static [&'static str]| [&shows[..], words].concat();
    let shop = token(must_run(node, &as_root(&["access", "token", "shop"])).await);
    must_run(node, &as_root(&["access", "grant", "shop", "reader"])).await;
    shop
}

/// Runs the scenarios of a language to their end.
async fn runs(program: &mut Command) {
    let mut cluster = cluster().await;
    program.args(cluster.nodes().iter().map(|node| &node.addresses.client));
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = program.spawn().expect("the program starts");
    let mut answers = child.stdin.take().expect("piped");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut stderr = child.stderr.take().expect("piped");
    let complaints = tokio::spawn(async move {
        let mut text = Vec::new();
        let read = stderr.read_to_end(&mut text).await;
        read.map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let mut seen = Vec::new();
    loop {
        let line = timeout(PATIENCE, lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("it hangs in the last of {seen:?}"));
        let Some(line) = line.expect("text") else { break };
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["scenario", name] => seen.push(name.to_owned()),
            ["do", action, node] => {
                let word = act(&mut cluster, action, node.parse().expect("a number")).await;
                let answer = format!("done {word}");
                // If it has ended, its words and its exit code tell why.
                let _ = answers.write_all(format!("{}\n", answer.trim_end()).as_bytes()).await;
            }
            _ => panic!("a scenario says {line:?}"),
        }
    }
    let status = timeout(PATIENCE, child.wait()).await.expect("it ends").expect("waited for");
    let complaints = complaints.await.expect("no panic").expect("readable");
    assert!(status.success(), "{status} in the last of {seen:?}:\n{complaints}");
    assert_eq!(seen, SCENARIOS);
}

#[tokio::test]
async fn the_client_in_python_keeps_the_scenarios() {
    if !is_installed("Python", "tests/clients/requirements.txt", "venv/installed.txt") {
        return;
    }
    build("python").await;
    let mut python = Command::new(root().join("target/clients/venv/bin/python"));
    runs(python.arg(root().join("tests/clients/scenarios.py"))).await;
}

#[tokio::test]
async fn the_client_in_typescript_keeps_the_scenarios() {
    let stamp = "host/client/typescript/node_modules/installed.json";
    if !is_installed("TypeScript", "host/client/typescript/package-lock.json", stamp) {
        return;
    }
    build("typescript").await;
    runs(Command::new("node").arg(root().join("target/clients/scenarios/scenarios.js"))).await;
}

#[tokio::test]
async fn the_client_in_rust_keeps_the_scenarios() {
    let mut cluster = cluster().await;
    assert_eq!(scenarios::run(&mut cluster).await, SCENARIOS);
}
