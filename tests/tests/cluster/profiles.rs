//! Profiles of the command line, and what a shell is told of a cluster.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use crate::support::{Node, stator_with};

/// Runs `stator` with the file of profiles there, and checks the exit code.
async fn run(file: &Path, more: &[(&str, &str)], arguments: &[&str], code: i32) -> Output {
    let file = file.display().to_string();
    let variables = [&[("STATOR_CONFIG", file.as_str())], more].concat();
    let output = stator_with(&variables, arguments.iter().copied()).await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {words}");
    output
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// Port 1 is reserved and nothing listens on it.
const NOBODY: &str = "127.0.0.1:1";

#[tokio::test]
async fn a_profile_yields_to_the_environment_and_that_to_the_command_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &[]).await;
    let file = folder.path().join("config.toml");
    let (endpoint, admin) = (node.addresses.client.as_str(), node.addresses.admin.as_str());
    let get = ["kv", "get", "k"];

    run(&file, &[], &["profile", "set", "away", "--endpoint", NOBODY, "--admin", NOBODY], 0).await;
    let here = ["profile", "set", "here", "--endpoint", endpoint, "--admin", admin, "-o", "json"];
    run(&file, &[], &here, 0).await;
    run(&file, &[], &["kv", "put", "k", "v", "--profile", "here"], 0).await;
    run(&file, &[], &["profile", "use", "here"], 0).await;
    let got = run(&file, &[], &get, 0).await;
    assert!(text(&got.stdout).starts_with('{'), "its form of output: {}", text(&got.stdout));
    let listed = run(&file, &[], &["profile", "list", "-o", "json"], 0).await;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed["profiles"][0]["settings"]["endpoint"], NOBODY);
    assert_eq!(listed["profiles"][1]["default"], true);

    run(&file, &[("STATOR_PROFILE", "away")], &get, 4).await;
    run(&file, &[("STATOR_PROFILE", "away"), ("STATOR_ENDPOINT", endpoint)], &get, 0).await;
    run(&file, &[("STATOR_ENDPOINT", NOBODY)], &get, 4).await;
    let flag = [&get[..], &["--endpoint", endpoint]].concat();
    run(&file, &[("STATOR_ENDPOINT", NOBODY)], &flag, 0).await;
    let variables = [("STATOR_ENDPOINT", endpoint)];
    let alone = run(&file, &variables, &[&get[..], &["--profile", ""]].concat(), 0).await;
    assert_eq!(text(&alone.stdout), "v");
    let unknown = run(&file, &[], &[&get[..], &["--profile", "hear"]].concat(), 2).await;
    assert!(text(&unknown.stderr).contains("there are: away, here"), "{:?}", unknown);

    run(&file, &[], &["profile", "delete", "hear"], 2).await;
    let gone = run(&file, &[], &["profile", "delete", "away", "-o", "json"], 0).await;
    let gone: serde_json::Value = serde_json::from_slice(&gone.stdout).expect("JSON");
    assert_eq!(gone, serde_json::json!({ "deleted": "away", "was_default": false }));
    run(&file, &[("STATOR_PROFILE", "away")], &get, 2).await;
    let last = run(&file, &[], &["profile", "delete", "here", "-o", "table"], 0).await;
    assert!(text(&last.stderr).contains("none does now"), "{last:?}");
    run(&file, &[("STATOR_ENDPOINT", endpoint)], &get, 0).await;

    std::fs::write(&file, "[profile.here]\nport = \"1\"\n").expect("written");
    let wrong = text(&run(&file, &[], &get, 2).await.stderr).to_owned();
    assert!(wrong.contains("config.toml:2: unknown field `port`"), "{wrong}");
}

#[tokio::test]
async fn a_token_is_kept_for_its_owner_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &[]).await;
    let file = folder.path().join("config.toml");
    let admin = format!("admin = {:?}", node.addresses.admin);
    std::fs::write(&file, format!("[profile.a]\ntoken = \"stator_secret\"\n{admin}\n"))
        .expect("written");
    let others = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&file, permissions).expect("changed");
    };
    let list = ["keyspace", "list", "--profile", "a"];
    others(0o644);
    let warned = run(&file, &[], &list, 0).await;
    assert!(text(&warned.stderr).contains("others can read the token"), "{warned:?}");
    let shown = run(&file, &[], &["profile", "show", "a"], 0).await;
    assert!(!text(&shown.stdout).contains("secret"), "{shown:?}");
    run(&file, &[], &["profile", "set", "a", "--timeout", "20s"], 0).await;
    let mode = std::fs::metadata(&file).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = std::fs::read_to_string(&file).expect("read");
    assert!(kept.contains("stator_secret") && kept.contains("timeout = \"20s\""), "{kept}");
    assert!(run(&file, &[], &list, 0).await.stderr.is_empty());
}

#[tokio::test]
async fn a_shell_is_told_names_of_the_cluster() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &[]).await;
    let file = folder.path().join("config.toml");
    let admin = node.addresses.admin.as_str();
    run(&file, &[], &["profile", "set", "shop", "--admin", admin], 0).await;
    run(&file, &[], &["keyspace", "create", "carts", "--profile", "shop"], 0).await;
    // As the scripts of `stator completions` ask.
    let complete = async |shell: &str, line: &[&str]| {
        let place = (line.len() - 1).to_string();
        let variables = [("STATOR_COMPLETE", shell), ("_CLAP_COMPLETE_INDEX", place.as_str())];
        let asked = [&["--", "stator"], &line[1..]].concat();
        let output = run(&file, &variables, &asked, 0).await;
        assert!(output.stderr.is_empty(), "{output:?}");
        text(&output.stdout).to_owned()
    };
    let (host, port) = admin.split_once(':').expect("a port");
    for (line, name) in [
        (vec!["stator", "--admin", admin, "kv", "get", "-k", ""], "carts"),
        (vec!["stator", "kv", "get", "--admin", host, ":", port, "-k", "ca"], "carts"),
        (vec!["stator", "--profile", "shop", "keyspace", "describe", "c"], "carts"),
        (vec!["stator", "--profile", "shop", "cluster", "leave", ""], node.addresses.node.as_str()),
        (vec!["stator", "kv", "get", "--profile", ""], "shop"),
        (vec!["stator", "keyspace", "desc"], "describe"),
    ] {
        let told = complete("bash", &line).await;
        assert!(told.lines().any(|word| word == name), "{line:?}: {told}");
    }
    let silent = complete("bash", &["stator", "--admin", NOBODY, "kv", "get", "-k", ""]).await;
    assert_eq!(silent.trim(), "");
    for shell in ["zsh", "fish"] {
        let told = complete(shell, &["stator", "--profile", "shop", "keyspace", "describe", "c"]);
        assert!(told.await.contains("carts"), "{shell}");
    }
}
