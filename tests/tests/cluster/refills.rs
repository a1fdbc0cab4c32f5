//! Disks that lose or alter what they hold: the node answers from the others, and gets it back.

use std::path::{Path, PathBuf};

use stator::storage::{Batch, Engine, SledEngine};
use stator_proto::v1;

use crate::support::{
    Cluster, Node, Writer, eventually, get, keyspace, must, nothing_is_lost, put, stator, values,
};

/// Stops a node cleanly.
async fn stop(node: &mut Node) {
    node.signal(libc::SIGTERM);
    assert!(node.ended().await, "a clean stop is a success");
}

/// Waits until the node counts for all reads.
async fn is_filled(node: &Node) {
    eventually("the node is filled", async || {
        let status = node.status().await?;
        must(status.state() == v1::NodeState::Serving, || format!("{:?}", status.fill))
    })
    .await;
}

/// Checks that the first node has all of `keys`, with nobody left to ask.
async fn answers_alone(cluster: &mut Cluster, keyspace: &str, keys: &[String]) {
    cluster[1].kill().await;
    cluster[2].kill().await;
    let read = nothing_is_lost(&cluster[0], keyspace, 1, keys).await;
    read.expect("it holds everything itself");
}

#[tokio::test]
async fn a_node_whose_data_is_gone_is_filled_and_then_answers_alone() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(keyspace("gone", 2, 2)).await;
    let writer = Writer::start("w", "gone", cluster.nodes());
    writer.acknowledges(300).await;
    let (keys, _) = writer.stop().await;

    stop(&mut cluster[0]).await;
    std::fs::remove_dir_all(cluster[0].data_dir.join("data")).expect("its data is there");
    // With n=3 and w=2 both others are needed, so while one hangs the fill does not end.
    cluster[2].pause();
    cluster[0].restart().await;
    let fill = eventually("all that the other one holds is copied", async || {
        let status = cluster[0].status().await?;
        let fill = status.fill.ok_or("not being filled")?;
        let copied = fill.objects_copied;
        must(copied >= keys.len() as u64, || format!("{copied} of {}", keys.len()))?;
        Ok(fill)
    })
    .await;
    assert_eq!((fill.partitions, fill.partitions_left), (256, 256));
    assert_eq!(cluster[0].status().await.expect("it runs").state(), v1::NodeState::Refilling);
    let arguments = ["cluster", "status", "--admin", &cluster[0].addresses.admin];
    let table = String::from_utf8(stator(arguments).await.stdout).expect("a table");
    assert!(table.contains("refilling: 256 of 256 partitions left"), "{table}");

    let one = v1::GetRequest { r: Some(1), ..get("gone", &keys[0]) };
    let answer = cluster[0].kv().get(one).await.expect("the second node answers").into_inner();
    assert_eq!(values(&answer).len(), 1, "an empty store is not taken for an absent key");
    let two = v1::GetRequest { r: Some(2), ..get("gone", &keys[0]) };
    let short = cluster[0].kv().get(two).await.expect_err("only one of three counts");
    assert!(short.message().contains("of the needed 2"), "{short}");
    cluster[0].kv().put(put("gone", "meanwhile", "taken")).await.expect("its copy is real");

    cluster[2].signal(libc::SIGCONT);
    is_filled(&cluster[0]).await;
    cluster[0].logs("the data store was lost").await;
    cluster[0].logs("the lost data store is filled").await;
    answers_alone(&mut cluster, "gone", &keys).await;

    // What is filled stays so.
    cluster[0].kill().await;
    cluster[0].restart().await;
    let state = cluster[0].status().await.expect("it runs").state();
    assert_eq!(state, v1::NodeState::Asking, "nobody is left to accept it, and it lacks nothing");
}

#[tokio::test]
async fn a_fill_goes_on_after_a_crash() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(keyspace("crashed", 2, 2)).await;
    let writer = Writer::start("w", "crashed", cluster.nodes());
    writer.acknowledges(100).await;
    let (keys, _) = writer.stop().await;

    stop(&mut cluster[0]).await;
    std::fs::remove_dir_all(cluster[0].data_dir.join("data")).expect("its data is there");
    cluster[2].pause();
    cluster[0].restart().await;
    cluster[0].kill().await;
    cluster[0].restart().await;
    eventually("an empty store with a note is still a lost one", async || {
        // Until a member has accepted it, it asks.
        let state = cluster[0].status().await?.state();
        must(state == v1::NodeState::Refilling, || format!("{state:?}"))
    })
    .await;
    cluster[2].signal(libc::SIGCONT);
    is_filled(&cluster[0]).await;
    answers_alone(&mut cluster, "crashed", &keys).await;
}

/// A value that is found again among the bytes of an engine's files.
const MARKER: &str = "c5f1a0b7-93d2-4e68-8f04-6b1d7ae2c935";

fn marked(key: &str) -> String {
    // As the writer of `nothing_is_lost` would have it.
    format!("the value of {key}")
}

/// Flips a bit of one record through its engine, which then finds nothing wrong with it.
fn flip_record(data: &Path) {
    let engine = SledEngine::open(data, 8 << 20).expect("it is closed");
    let heads = engine.scan(&[1], &[2], usize::MAX).expect("readable");
    let needle = MARKER.as_bytes();
    let (key, value) = heads
        .into_iter()
        .find(|(key, _)| key.windows(needle.len()).any(|window| window == needle))
        .expect("the key is there");
    let mut value = value.to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 0x10;
    let mut batch = Batch::new();
    batch.put(key.to_vec(), value);
    engine.apply(batch).expect("applied");
    engine.sync().expect("synced");
}

/// Flips a bit of every place of the files under `folder` where the marker is. Says how many.
fn flip_files(folder: &Path) -> usize {
    let mut flipped = 0;
    let entries = std::fs::read_dir(folder).expect("a folder of the engine");
    for path in entries.map(|entry| -> PathBuf { entry.expect("an entry").path() }) {
        if path.is_dir() {
            flipped += flip_files(&path);
            continue;
        }
        let mut bytes = std::fs::read(&path).expect("a file of the engine");
        let needle = MARKER.as_bytes();
        let places: Vec<usize> = (0..bytes.len().saturating_sub(needle.len()))
            .filter(|at| bytes[*at..].starts_with(needle))
            .collect();
        places.iter().for_each(|at| bytes[at + 7] ^= 0x10);
        flipped += places.len();
        if !places.is_empty() {
            std::fs::write(&path, bytes).expect("written");
        }
    }
    flipped
}

/// Three nodes that hold the marked key and others, of which the first is stopped.
async fn with_a_marked_key(name: &str, flags: &[&str]) -> (Cluster, Vec<String>) {
    let flags = |_| flags.iter().map(|flag| (*flag).to_owned()).collect();
    let mut cluster = Cluster::start_with(3, flags).await;
    cluster.create(keyspace(name, 2, 2)).await;
    let mut keys: Vec<String> = (0..20).map(|number| format!("key {number}")).collect();
    keys.insert(10, MARKER.to_owned());
    for key in &keys {
        let all = v1::PutRequest { w: Some(3), ..put(name, key, &marked(key)) };
        cluster[1].kv().put(all).await.expect("acknowledged by all");
    }
    stop(&mut cluster[0]).await;
    (cluster, keys)
}

/// Checks that a get through the damaged node answers, and that it then holds the key again.
async fn is_repaired_by_a_get(cluster: &mut Cluster, name: &str, keys: &[String]) {
    let read = nothing_is_lost(&cluster[0], name, 2, keys).await;
    read.expect("the others answer");
    eventually("all three count for the key again", async || {
        nothing_is_lost(&cluster[0], name, 3, keys).await
    })
    .await;
    answers_alone(cluster, name, keys).await;
}

#[tokio::test]
async fn a_flipped_byte_is_repaired_from_a_peer() {
    let (mut cluster, keys) = with_a_marked_key("flipped", &[]).await;
    flip_record(&cluster[0].data_dir.join("data"));
    cluster[0].restart().await;
    cluster.all_alive().await;
    is_filled(&cluster[0]).await;

    cluster[0].set_isolated(true).await;
    let alone = v1::GetRequest { r: Some(1), ..get("flipped", MARKER) };
    let alone = cluster[0].kv().get(alone).await.expect_err("its own copy is damaged");
    assert!(alone.message().contains("0 of the needed 1"), "{alone}");
    cluster[0].set_isolated(false).await;
    cluster.all_alive().await;

    is_repaired_by_a_get(&mut cluster, "flipped", &keys).await;
}

#[tokio::test]
async fn a_flipped_byte_that_the_engine_finds_is_filled_from_the_peers() {
    for engine in ["sled", "fjall"] {
        let (mut cluster, keys) = with_a_marked_key(engine, &["--engine", engine]).await;
        assert!(flip_files(&cluster[0].data_dir.join("data")) > 0, "{engine}");
        cluster[0].restart().await;
        cluster.all_alive().await;
        is_filled(&cluster[0]).await;
        cluster[0].logs("the lost data store is filled").await;
        is_repaired_by_a_get(&mut cluster, engine, &keys).await;
    }
}
