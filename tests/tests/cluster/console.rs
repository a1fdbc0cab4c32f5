//! The web console: in a real browser, by certificates, and when its node stops.
//!
//! `tests/console/look.py` drives a headless Chromium over the pages of a cluster of three.
//! `tests/console/install` brings what that takes; without it the test says that it was skipped, on
//! standard error. Its pictures are in `target/console`; `STATOR_CONSOLE_PICTURES=docs` puts those of
//! `docs/console.md` in their place.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use stator_proto::v1;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::{Authority, Cluster, Node, eventually, keyspace, must};

/// As `host/src/console/mod.rs` has it.
const STREAMS_MAX: usize = 8;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace")
}

/// Not by a macro, whose words the harness keeps of a test that passes.
fn skip(what: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {what}");
}

async fn is_there(program: &str) -> bool {
    let mut tried = Command::new(program);
    tried.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    tried.status().await.is_ok_and(|status| status.success())
}

fn flags(number: usize) -> Vec<String> {
    let zone = if number < 3 { "--zone=north" } else { "--zone=south" };
    vec!["--console-listen=127.0.0.1:0".to_owned(), zone.to_owned()]
}

fn console(node: &Node) -> String {
    node.addresses.console.clone().expect("it has a console")
}

#[tokio::test]
async fn a_browser_shows_the_cluster_and_its_merges() {
    let venv = root().join("target/console/venv");
    if !venv.join("installed.txt").is_file() || !is_there("chromium").await {
        return skip("the web console in Chromium, which tests/console/install brings");
    }
    let cluster = Cluster::start_with(3, flags).await;
    let cart = cluster.push_cart().await;
    cluster.push("max-register").await;
    for name in ["carts", "scores"] {
        let reconcile = Some(cart.clone());
        cluster.create(v1::Keyspace { reconcile, ..keyspace(name, 3, 3) }).await;
    }
    let folder = match std::env::var_os("STATOR_CONSOLE_PICTURES") {
        Some(folder) => root().join(folder),
        None => root().join("target/console"),
    };
    let program = std::fs::read_link(format!("/proc/{}/exe", cluster[0].pid()));
    let program = program.expect("the program under test");
    let mut look = Command::new(venv.join("bin/python"));
    look.arg(root().join("tests/console/look.py")).arg(console(&cluster[0])).arg(program);
    look.arg(folder)
        .arg(&cluster[0].addresses.admin)
        .args(cluster.nodes().iter().map(|node| &node.addresses.client));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STATOR_") {
            look.env_remove(name);
        }
    }
    let looked = look.kill_on_drop(true).output().await.expect("python runs");
    let words = [looked.stdout, looked.stderr].concat();
    assert!(looked.status.success(), "{}", String::from_utf8_lossy(&words));
}

/// Asks for a path, and returns the connection with what is there of the answer once it has `until`.
async fn ask(address: &str, path: &str, until: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let ask = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.expect("asked");
    let mut text = String::new();
    let mut part = [0; 4096];
    while !text.contains(until) {
        let read = stream.read(&mut part).await.expect("an answer");
        assert!(read > 0, "{until:?} is not in: {text}");
        text.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    (stream, text)
}

#[tokio::test]
async fn live_feeds_are_bounded_and_end_with_their_node() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = Node::start(folder.path(), "node", &["--console-listen=127.0.0.1:0"]).await;
    let address = console(&node);
    let mut feeds = Vec::new();
    for _ in 0..STREAMS_MAX {
        let (feed, text) = ask(&address, "/api/conflicts", "merges follow").await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("text/event-stream"), "{text}");
        feeds.push(feed);
    }
    let (_, text) = ask(&address, "/api/conflicts", "places").await;
    assert!(text.starts_with("HTTP/1.1 429"), "{text}");
    let (_, text) = ask(&address, "/api/cluster", "reachability").await;
    assert!(text.starts_with("HTTP/1.1 200"), "feeds leave places for pages: {text}");
    // Who leaves gives its place back.
    feeds.pop();
    eventually("a place is free again", async || {
        let (feed, text) = ask(&address, "/api/conflicts", "\r\n\r\n").await;
        must(text.starts_with("HTTP/1.1 200"), || text)?;
        feeds.push(feed);
        Ok(())
    })
    .await;
    node.signal(libc::SIGTERM);
    assert!(node.ended().await, "it waits for no reader");
    for mut feed in feeds {
        let mut rest = Vec::new();
        // The end, or a reset: either way it is over.
        let _ = feed.read_to_end(&mut rest).await;
    }
    node.restart().await;
    node.serves("default", "feeds").await;
}

/// Fetches with certificates as a browser would; what it says, or why not.
async fn fetch(address: &str, more: &[&str]) -> Result<String, String> {
    let port = address.rsplit(':').next().expect("a port");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "30"]);
    let fetched = curl.args(more).arg(format!("https://localhost:{port}/api/cluster"));
    let fetched = fetched.output().await.expect("curl runs");
    match fetched.status.success() {
        true => Ok(String::from_utf8_lossy(&fetched.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&fetched.stderr).into_owned()),
    }
}

fn secured(folder: &TempDir, section: &str) -> String {
    let path = folder.path().join("stator.toml");
    std::fs::write(&path, format!("console_listen = \"127.0.0.1:0\"\n{section}")).expect("written");
    format!("--config={}", path.display())
}

#[tokio::test]
async fn with_certificates_only_who_shows_one_sees_the_console() {
    if !is_there("curl").await {
        return skip("certificates of the web console, which take curl");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let nodes = Authority::new(folder.path(), "nodes");
    let operators = Authority::new(folder.path(), "operators");
    let section = nodes.issue("node", "localhost").section("console", Some(&operators));
    let flag = secured(&folder, &section);
    let node = Node::start(folder.path(), "node", &[&flag]).await;
    let address = console(&node);
    let anna = operators.issue("anna", "anna");
    let ca = nodes.ca();
    let shown = ["--cacert", ca.as_str(), "--cert", anna.cert.as_str(), "--key", anna.key.as_str()];
    let told = fetch(&address, &shown).await.expect("anna is let in");
    assert!(told.contains(&node.addresses.node), "{told}");
    fetch(&address, &shown[..2]).await.expect_err("nobody is let in without a certificate");
    let mallory = nodes.issue("mallory", "mallory");
    let wrong = ["--cacert", ca.as_str(), "--cert", &mallory.cert, "--key", &mallory.key];
    fetch(&address, &wrong).await.expect_err("of another authority");
}
