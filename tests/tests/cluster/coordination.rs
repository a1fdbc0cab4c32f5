//! Who coordinates a client's requests: whatever it is, clients get what is promised, while an owner
//! is killed, while a node joins, with a ring that is out of date.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stator_client::{Client, Coordination, Entry, Error, Options};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::metrics::Page;
use crate::support::{Cluster, Node, eventually, keyspace, must, stator};

const ALL: [Coordination; 3] = [Coordination::Any, Coordination::Owner, Coordination::Client];

fn client<'a>(nodes: impl IntoIterator<Item = &'a Node>, coordination: Coordination) -> Client {
    client_of(nodes, coordination, false)
}

fn client_of<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    coordination: Coordination,
    is_strict: bool,
) -> Client {
    let mut options = Options::default();
    options.coordination = coordination;
    options.is_strict = is_strict;
    let addresses = nodes.into_iter().map(|node| node.addresses.client.clone());
    Client::plain(addresses, options).expect("addresses")
}

/// A cluster whose nodes tell what they were asked.
async fn counting(count: usize) -> Cluster {
    Cluster::start_with(count, |_| vec!["--metrics-listen=127.0.0.1:0".to_owned()]).await
}

/// How many requests of a method a node has answered.
async fn answered(node: &Node, method: &str) -> f64 {
    let page = Page::read(node.addresses.metrics.as_ref().expect("it has a page")).await;
    page.find(&format!("stator_requests_total{{method=\"stator.v1.{method}\",code=\"Ok\"}}"))
}

async fn sum(nodes: &[Node], method: &str) -> f64 {
    let mut sum = 0.0;
    for node in nodes {
        sum += answered(node, method).await;
    }
    sum
}

async fn put(client: &Client, key: &str, value: &str) -> Result<(), Error> {
    let mut entry = Entry::blind("carts", key.to_owned());
    entry.set(value.to_owned()).request_id(format!("{key} {value}"));
    client.put(entry).await.map(drop)
}

/// What an entry holds, as text.
fn text(entry: &Entry) -> BTreeSet<String> {
    let value = |value: &bytes::Bytes| String::from_utf8_lossy(value).into_owned();
    entry.siblings().iter().filter_map(|version| version.value.as_ref().map(value)).collect()
}

/// Writes keys, reads each back, and writes it once more with what it read.
struct Load {
    is_stopped: Arc<AtomicBool>,
    lanes: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(nodes: &Cluster) -> Load {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let lane = |(number, coordination): (usize, Coordination)| {
            let is_strict = number < ALL.len();
            let client = client_of(nodes.nodes(), coordination, is_strict);
            let name = format!("{coordination:?}-{number}");
            tokio::spawn(write((client, is_strict), name, is_stopped.clone()))
        };
        let lanes = ALL.iter().copied().cycle().take(6).enumerate().map(lane).collect();
        Load { is_stopped, lanes }
    }

    /// Ends it; the keys that it wrote.
    async fn stop(self) -> Vec<String> {
        self.is_stopped.store(true, Ordering::Relaxed);
        let lanes = futures::future::join_all(self.lanes).await;
        lanes.into_iter().flat_map(|keys| keys.expect("no lane failed")).collect()
    }
}

/// Named writes and reads may be repeated, so no fault of one node is an error to their client. That
/// a get sees what was just put is promised where owners only count.
async fn write(
    (client, is_strict): (Client, bool),
    name: String,
    is_stopped: Arc<AtomicBool>,
) -> Vec<String> {
    let mut keys = Vec::new();
    while !is_stopped.load(Ordering::Relaxed) {
        let key = format!("{name}-{}", keys.len());
        put(&client, &key, "first").await.unwrap_or_else(|error| panic!("put {key}: {error}"));
        let read = client.get("carts", key.clone()).await;
        let mut read = read.unwrap_or_else(|error| panic!("get {key}: {error}"));
        assert!(
            !is_strict || text(&read) == BTreeSet::from(["first".to_owned()]),
            "{key}: {read:?}"
        );
        read.set("second").request_id(format!("{key} second"));
        client.put(read).await.unwrap_or_else(|error| panic!("second put {key}: {error}"));
        keys.push(key);
    }
    keys
}

/// Waits until this many requests of all nodes were answered since.
async fn goes_on(nodes: &[Node], more: f64) {
    let goal = sum(nodes, "Kv/Put").await + more;
    eventually("the load goes on", async || {
        let found = sum(nodes, "Kv/Put").await;
        must(found >= goal, || format!("{found} of {goal}"))
    })
    .await;
}

async fn cluster(node: &Node, arguments: &[&str]) {
    let all = ["cluster"].into_iter().chain(arguments.iter().copied());
    let output = stator(all.chain(["--admin", &node.addresses.admin])).await;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {words}");
}

/// Has a node join, and waits until it serves what it is to own.
async fn join(nodes: &Cluster, joins: &Node) {
    cluster(&nodes[0], &["join", &joins.addresses.peer]).await;
    cluster(&nodes[0], &["commit"]).await;
    moved(&nodes[0]).await;
    moved(joins).await;
}

async fn moved(node: &Node) {
    eventually("all partitions are where they belong", async || {
        let known = node.status().await?.cluster.ok_or("it waits")?;
        must(known.ring_version == 2 && known.slots_pending == 0, || format!("{known:?}"))
    })
    .await;
}

async fn waiting(folder: &tempfile::TempDir) -> Node {
    let flags = ["--bootstrap", "wait", "--metrics-listen=127.0.0.1:0"];
    Node::start(folder.path(), "joins", &flags).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_notice_neither_a_killed_owner_nor_a_node_that_joins() {
    let mut nodes = counting(5).await;
    nodes.create(keyspace("carts", 2, 2)).await;
    let load = Load::start(&nodes);
    goes_on(nodes.nodes(), 200.0).await;
    nodes[4].kill().await;
    goes_on(&nodes.nodes()[..4], 300.0).await;
    nodes[4].restart().await;
    nodes.all_alive().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sixth = waiting(&folder).await;
    join(&nodes, &sixth).await;
    goes_on(&nodes.nodes()[..4], 300.0).await;
    let keys = load.stop().await;
    assert!(sum(&nodes.nodes()[..4], "Kv/GetReplica").await > 0.0, "clients coordinated");
    for coordination in ALL {
        let client = client(nodes.nodes(), coordination);
        client.fetch_ring().await.expect("a ring");
        for key in &keys {
            let read = client.get("carts", key.clone()).await.expect("answered");
            assert!(text(&read).contains("second"), "{key}: {read:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_coordinates_reads_what_it_wrote() {
    let nodes = counting(5).await;
    nodes.create(keyspace("carts", 2, 2)).await;
    let client = client(nodes.nodes(), Coordination::Client);
    client.fetch_ring().await.expect("a ring");
    let mut entry = client.get("carts", "k").await.expect("absent");
    assert_eq!(entry.siblings(), []);
    for number in 0..100 {
        entry.set(format!("value {number}"));
        client.put(entry).await.expect("acknowledged");
        entry = client.get("carts", "k").await.expect("answered");
        assert_eq!(text(&entry), BTreeSet::from([format!("value {number}")]));
    }
    client.delete(entry).await.expect("acknowledged");
    let gone = client.get("carts", "k").await.expect("answered");
    assert_eq!(gone.siblings(), []);
    assert!(gone.context().is_some(), "an absent key has a context");
    let asked = sum(nodes.nodes(), "Kv/GetReplica").await;
    assert!(asked >= 204.0, "two owners for each get: {asked}");
    let coordinated = sum(nodes.nodes(), "Kv/Get").await;
    assert!(coordinated < 40.0, "few of 102 gets met owners that differed: {coordinated}");
}

/// It still takes itself for an owner, and tells its clients of the ring in which it is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_replaced_unheard_makes_no_stale_answer() {
    let nodes = counting(4).await;
    nodes.create(keyspace("carts", 2, 2)).await;
    let (lags, replaced) = (&nodes[2], &nodes[3]);
    let writer = client_of(&nodes.nodes()[..2], Coordination::Any, true);
    let reader = client_of([replaced], Coordination::Client, true);
    assert_eq!(reader.fetch_ring().await.expect("a ring"), 1);
    let keys: Vec<String> = (0..40).map(|number| format!("key {number}")).collect();
    for key in &keys {
        put(&writer, key, "old").await.expect("acknowledged");
    }
    replaced.set_isolated(true).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fifth = waiting(&folder).await;
    cluster(&nodes[0], &["replace", &replaced.addresses.node, &fifth.addresses.peer]).await;
    cluster(&nodes[0], &["commit"]).await;
    for node in [&nodes[0], lags, &fifth] {
        moved(node).await;
    }
    // It knows the new ring, and misses what is written by it: with the one that was replaced it
    // would be a quorum that has seen nothing.
    lags.set_isolated(true).await;
    for key in &keys {
        let mut read = writer.get("carts", key.clone()).await.expect("answered");
        read.set("new").request_id("new");
        writer.put(read).await.expect("acknowledged");
    }
    let reads = keys.iter().map(|key| reader.get("carts", key.clone()));
    for (key, read) in keys.iter().zip(futures::future::join_all(reads).await) {
        let read = read.expect("another node answers");
        assert_eq!(text(&read), BTreeSet::from(["new".to_owned()]), "{key}");
    }
    assert!(answered(replaced, "Kv/GetReplica").await > 0.0, "it was asked and answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_are_a_nodes_business() {
    let nodes = Cluster::start(5).await;
    let reconcile = Some(nodes.push_cart().await);
    nodes.create(stator_proto::v1::Keyspace { reconcile, ..keyspace("carts", 2, 2) }).await;
    let client = client(nodes.nodes(), Coordination::Client);
    client.fetch_ring().await.expect("a ring");
    for item in ["a", "b"] {
        let cart = format!(r#"{{"items":{{"{item}:1":{{"sku":"{item}","quantity":1}}}}}}"#);
        put(&client, "cart", &cart).await.expect("acknowledged");
    }
    let merged = eventually("the module answers", async || {
        let read = client.get("carts", "cart").await.map_err(|error| error.to_string())?;
        let merge = read.merge().expect("a merged view").clone();
        must(merge.failure.is_none(), || format!("{merge:?}"))?;
        Ok(read)
    })
    .await;
    let merge = merged.merge().expect("a merged view");
    assert!(merge.is_merged && merge.sibling_count == 2, "{merge:?}");
    let value = String::from_utf8_lossy(merged.value().expect("one value")).into_owned();
    assert!(value.contains("a:1") && value.contains("b:1"), "{value}");
    let mut settled = merged;
    settled.set(value.clone());
    assert!(!client.put(settled).await.expect("acknowledged").siblings_remain);
    let read = client.get("carts", "cart").await.expect("answered");
    assert_eq!(text(&read), BTreeSet::from([value]));
    assert_eq!(read.merge().expect("a view").sibling_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_that_is_out_of_date_heals() {
    let nodes = counting(3).await;
    nodes.create(keyspace("carts", 2, 2)).await;
    // They know one node and learn of the others from it.
    let clients =
        [Coordination::Owner, Coordination::Client].map(|by| client(&nodes.nodes()[..1], by));
    for client in &clients {
        assert_eq!(client.fetch_ring().await.expect("a ring"), 1);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fourth = waiting(&folder).await;
    join(&nodes, &fourth).await;
    let mut number = 0;
    for (client, method) in clients.iter().zip(["Kv/Get", "Kv/GetReplica"]) {
        eventually("the client finds the new owner", async || {
            let key = format!("key {number}");
            number += 1;
            put(client, &key, "found").await.map_err(|error| error.to_string())?;
            let read = client.get("carts", key).await.map_err(|error| error.to_string())?;
            assert_eq!(text(&read), BTreeSet::from(["found".to_owned()]));
            sleep(Duration::from_millis(10)).await;
            must(answered(&fourth, method).await > 0.0, || format!("after {number} keys"))
        })
        .await;
    }
}
