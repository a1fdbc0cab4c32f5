//! Watching keys of real nodes: while they are killed and restarted, from a token, by the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use stator_client::{Client, Entry, Event, Watch, Watching};
use stator_proto::v1;
use stator_tests::program;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::collection::{all_hold, collecting};
use crate::support::{Cluster, Writer, get, keyspace, put, values};
use crate::transfers;

/// Far beyond what anything takes.
const DEADLINE: Duration = Duration::from_secs(60);

fn client(cluster: &Cluster) -> Client {
    let addresses = cluster.nodes().iter().map(|node| node.addresses.client.clone());
    Client::connect(addresses).expect("addresses")
}

/// What a watch has told.
#[derive(Debug, Default)]
struct Heard {
    /// The values of each key, as they were told last.
    keys: BTreeMap<String, BTreeSet<String>>,
    /// How often each was told.
    told: BTreeMap<String, usize>,
    events: Vec<&'static str>,
}

impl Heard {
    fn take(&mut self, event: Event) {
        self.events.push(match event {
            Event::Changed(changed) => {
                let key = String::from_utf8_lossy(&changed.key).into_owned();
                *self.told.entry(key.clone()).or_default() += 1;
                self.keys.insert(key, values(&changed.answer));
                "changed"
            }
            Event::Begun => "begun",
            Event::Listing => "listing",
            Event::Listed => "listed",
            Event::Away { .. } => "away",
            Event::Back { .. } => "back",
            _ => "other",
        });
    }

    /// Listens until it has heard enough.
    async fn until(&mut self, watch: &mut Watch, what: &str, is_enough: impl Fn(&Heard) -> bool) {
        let listen = async {
            while !is_enough(self) {
                let event = watch.next().await.expect("it goes on").expect("it has no end");
                self.take(event);
            }
        };
        let listened = timeout(DEADLINE, listen).await;
        assert!(listened.is_ok(), "{what}: {:?} {:?}", self.keys, self.events);
    }

    fn has(&self, event: &str) -> bool {
        self.events.contains(&event)
    }

    /// The keys with a value: that another had one may be told late, by an owner that was slower.
    fn present(&self) -> Vec<&str> {
        let there = self.keys.iter().filter(|(_, values)| !values.is_empty());
        there.map(|(key, _)| key.as_str()).collect()
    }

    fn is(&self, key: &str, expected: &[&str]) -> bool {
        self.keys.get(key).is_some_and(|found| found.iter().eq(expected))
    }
}

/// A watch that has begun.
async fn begun(client: &Client, watching: Watching) -> (Watch, Heard) {
    let mut watch = client.watch(watching).await.expect("there is a ring");
    let mut heard = Heard::default();
    heard.until(&mut watch, "it begins", |heard| heard.has("begun")).await;
    (watch, heard)
}

#[tokio::test]
async fn nothing_acknowledged_is_missed_while_a_node_dies_and_the_watch_breaks_off() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(keyspace("watched", 2, 2)).await;
    let client = client(&cluster);
    let (mut watch, mut heard) = begun(&client, Watching::of("watched")).await;

    let writer = Writer::start("w", "watched", cluster.nodes());
    writer.acknowledges(100).await;
    heard.until(&mut watch, "some are told", |heard| heard.keys.len() >= 100).await;
    cluster[2].kill().await;
    heard.until(&mut watch, "it is away", |heard| heard.has("away")).await;
    writer.acknowledges(100).await;
    let more = heard.keys.len() + 50;
    heard.until(&mut watch, "others tell", |heard| heard.keys.len() >= more).await;

    let token = watch.token();
    drop(watch);
    writer.acknowledges(100).await;
    // Its log of changes is gone, and so is that of the second one.
    cluster[2].restart().await;
    cluster[1].kill().await;
    writer.acknowledges(50).await;
    cluster[1].restart().await;
    let mut watch = client.watch(Watching::of("watched").resume(token)).await.expect("resumed");
    writer.acknowledges(100).await;
    let (acknowledged, _) = writer.stop().await;
    let is_told = |heard: &Heard, key: &String| heard.is(key, &[&format!("the value of {key}")]);
    let all = |heard: &Heard| acknowledged.iter().all(|key| is_told(heard, key));
    heard.until(&mut watch, "all that was acknowledged is told", all).await;
    assert!(!heard.has("listing"), "every store knows what came since: {:?}", heard.events);
    let again = heard.told.values().filter(|count| **count > 1).count();
    assert!(again < heard.told.len(), "most are told once");

    let refused = client.watch(Watching::of("watched").prefix("w").resume(watch.token())).await;
    assert_eq!(refused.expect_err("of other keys").reason(), "BAD_TOKEN");
}

#[tokio::test]
async fn a_node_that_joins_is_watched_too_though_nobody_else_has_its_keys() {
    let cluster = Cluster::start(2).await;
    cluster.create(v1::Keyspace { n: 1, ..keyspace("alone", 1, 1) }).await;
    let client = client(&cluster);
    let (mut watch, mut heard) = begun(&client, Watching::of("alone")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let third = transfers::waiting(&folder, "node-3").await;
    let writer = Writer::start("w", "alone", cluster.nodes());
    writer.acknowledges(50).await;
    transfers::cluster(&cluster[0], &["join", &third.addresses.peer]).await;
    transfers::moved(&[&cluster[0], &cluster[1], &third], 2).await;
    writer.acknowledges(100).await;
    let (acknowledged, _) = writer.stop().await;
    let is_told = |heard: &Heard, key: &String| heard.is(key, &[&format!("the value of {key}")]);
    let all = |heard: &Heard| acknowledged.iter().all(|key| is_told(heard, key));
    heard.until(&mut watch, "all that was acknowledged is told", all).await;
}

#[tokio::test]
async fn a_watch_tells_what_a_get_gives_and_each_state_once() {
    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("carts", 2, 2)).await;
    let client = client(&cluster);
    let (mut watch, mut heard) = begun(&client, Watching::of("carts").prefix("cart-")).await;

    let mut kv = cluster[0].kv();
    kv.put(put("carts", "other", "x")).await.expect("acknowledged");
    kv.put(put("carts", "cart-1", "tea")).await.expect("acknowledged");
    heard.until(&mut watch, "a put", |heard| heard.is("cart-1", &["tea"])).await;
    cluster[1].kv().put(put("carts", "cart-1", "milk")).await.expect("acknowledged");
    heard.until(&mut watch, "siblings", |heard| heard.is("cart-1", &["milk", "tea"])).await;
    let mut entry: Entry = client.get("carts", "cart-1").await.expect("answered");
    entry.set("both");
    client.put(entry).await.expect("acknowledged");
    heard.until(&mut watch, "they are replaced", |heard| heard.is("cart-1", &["both"])).await;
    client.delete_observed("carts", "cart-1").await.expect("acknowledged");
    heard.until(&mut watch, "it is deleted", |heard| heard.is("cart-1", &[])).await;
    let ends = v1::PutRequest { ttl_ms: Some(1_500), ..put("carts", "cart-2", "ends") };
    kv.put(ends).await.expect("acknowledged");
    heard.until(&mut watch, "its value ends", |heard| heard.is("cart-2", &[])).await;

    kv.put(put("carts", "cart-3", "last")).await.expect("acknowledged");
    heard.until(&mut watch, "the last", |heard| heard.is("cart-3", &["last"])).await;
    assert!(!heard.keys.contains_key("other"), "{:?}", heard.keys);
    // Each of the three owners tells each of the four writes of the first key.
    assert!(heard.told["cart-1"] <= 5 && heard.told["cart-2"] <= 3, "{:?}", heard.told);

    let (mut listed, mut heard) = begun(&client, Watching::of("carts").from_start()).await;
    heard.until(&mut listed, "all are listed", |heard| heard.has("listed")).await;
    assert_eq!(heard.present(), ["cart-3", "other"]);
    let (mut one, mut heard) = begun(&client, Watching::of("carts").key("other").siblings()).await;
    kv.put(put("carts", "other-2", "x")).await.expect("acknowledged");
    kv.put(put("carts", "other", "y")).await.expect("acknowledged");
    heard.until(&mut one, "one key", |heard| heard.is("other", &["x", "y"])).await;
    assert_eq!(heard.keys.len(), 1);
}

#[tokio::test]
async fn who_comes_back_after_deletes_were_forgotten_is_told_to_list() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster::start_with(1, |_| collecting(folder.path())).await;
    cluster.create(keyspace("gone", 1, 1)).await;
    let client = client(&cluster);
    let (mut watch, mut heard) = begun(&client, Watching::of("gone")).await;
    for key in ["goes", "stays"] {
        cluster[0].kv().put(put("gone", key, "x")).await.expect("acknowledged");
        heard.until(&mut watch, "it is told", |heard| heard.keys.contains_key(key)).await;
    }
    let token = watch.token();
    drop(watch);
    client.delete_observed("gone", "goes").await.expect("acknowledged");
    all_hold(&cluster, 1).await;

    // As long as the log has the delete, it is told.
    let mut watch = client.watch(Watching::of("gone").resume(&token)).await.expect("resumed");
    heard.until(&mut watch, "the delete", |heard| heard.is("goes", &[])).await;
    drop(watch);
    cluster[0].kill().await;
    cluster[0].restart().await;
    let mut late = Heard::default();
    let mut watch = client.watch(Watching::of("gone").resume(token)).await.expect("resumed");
    late.until(&mut watch, "it is listed", |heard| heard.has("listed")).await;
    assert!(late.has("listing") && !heard.has("listing"), "{:?} {:?}", late.events, heard.events);
    assert_eq!(late.present(), ["stays"]);
    // From there it goes on.
    cluster[0].kv().put(put("gone", "goes", "again")).await.expect("acknowledged");
    late.until(&mut watch, "it goes on", |heard| heard.is("goes", &["again"])).await;
}

/// `stator kv watch`, and its lines.
fn watching(endpoint: &str, more: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let arguments = ["--output", "json", "--endpoint", endpoint, "kv", "watch", "-k", "told"];
    let mut child = Command::new(program())
        .args([&arguments[..], more].concat())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    (child, lines)
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>, event: &str) -> Value {
    loop {
        let line = timeout(DEADLINE, lines.next_line()).await.expect("a line");
        let line: Value = serde_json::from_str(&line.expect("text").expect("more")).expect("JSON");
        if line["event"] == event {
            return line;
        }
    }
}

#[tokio::test]
async fn the_command_line_prints_changes_and_goes_on_from_a_token() {
    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("told", 2, 2)).await;
    let endpoint = &cluster[1].addresses.client;
    let (mut child, mut lines) = watching(endpoint, &["--prefix", "k"]);
    line(&mut lines, "begun").await;
    cluster[0].kv().put(put("told", "k1", "one")).await.expect("acknowledged");
    let first = line(&mut lines, "changed").await;
    assert_eq!((&first["key"], &first["versions"][0]["value"]), (&"k1".into(), &"one".into()));
    let pid = i32::try_from(child.id().expect("it runs")).expect("a process id");
    // SAFETY: the call takes numbers only.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    assert!(child.wait().await.expect("ended").success());

    cluster[0].kv().put(put("told", "k2", "two")).await.expect("acknowledged");
    cluster[2].kv().get(get("told", "k2")).await.expect("answered");
    let token = first["token"].as_str().expect("a token");
    let (_child, mut lines) = watching(endpoint, &["--prefix", "k", "--resume", token]);
    // The last may be told again: by members whose word of it came behind the token.
    while line(&mut lines, "changed").await["key"] != "k2" {}
    cluster[0]
        .kv()
        .delete(v1::DeleteRequest {
            keyspace: "told".to_owned(),
            key: "k2".into(),
            observed: true,
            ..Default::default()
        })
        .await
        .expect("acknowledged");
    while line(&mut lines, "changed").await["deleted"] != true {}
}
