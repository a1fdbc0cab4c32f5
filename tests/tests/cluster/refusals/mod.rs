//! What clients must not send: each case is refused with a code, a reason and words, and the node
//! goes on.
//!
//! One node with narrow limits serves each file's cases.

mod admin;
mod details;
mod keys;
mod messages;
mod modules;

use tempfile::TempDir;

use crate::support::Node;

/// Limits that a test can go beyond with small messages.
const CONFIG: &str = "\
[limits]
key_bytes_max = 64
value_bytes_max = 4096
siblings_max = 3
context_bytes_max = 256
";

/// A cluster of one with the keyspace `default`, and its folder.
async fn node() -> (Node, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("stator.toml");
    std::fs::write(&config, CONFIG).expect("written");
    let config = config.display().to_string();
    let node = Node::start(folder.path(), "node", &["--config", &config]).await;
    (node, folder)
}
