//! The scenarios by the client in Rust. Where they ask a node of their choice it does not route by the ring.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use serde_json::{Value, json};
use stator_client::{
    Client, Coordination, Effect, Entry, Error, Event, Listing, Options, Token, Watch, Watching,
    Written,
};
use stator_proto::v1;
use stator_proto::v1::batch_outcome::Outcome;
use tokio::task::JoinHandle;

use super::act;
use crate::support::{Cluster, eventually, get, must, put, values as texts};

/// Port 1 is reserved and nothing listens on it.
const DEAD: &str = "127.0.0.1:1";

/// Runs all, and tells which.
pub(super) async fn run(cluster: &mut Cluster) -> Vec<&'static str> {
    let client = Client::connect((0..3).map(|node| address(cluster, node))).expect("addresses");
    let mut seen = Vec::new();
    macro_rules! scenarios {
        ($($name:ident($($argument:expr),*);)*) => {
            $(
                seen.push(stringify!($name));
                // Their futures are large.
                Box::pin($name($($argument),*)).await;
            )*
        };
    }
    scenarios! {
        values(&client);
        siblings(&client);
        update_settled(&client);
        update_merged(&client);
        errors(&client);
        request_ids(&client);
        batches(&client);
        lists(&client, cluster);
        watches(&client, cluster);
        quotas(&client, cluster);
        ttl_and_labels(&client);
        deadline(&client, cluster);
        one_endpoint(cluster);
        dead_endpoint(cluster);
        partition(&client, cluster);
        kill(&client, cluster);
        roles(&client, cluster);
    }
    seen
}

fn address(cluster: &Cluster, node: usize) -> String {
    cluster[node].addresses.client.clone()
}

/// A client that asks these nodes only, going about it as `set` says.
fn asking(addresses: Vec<String>, set: impl FnOnce(&mut Options)) -> Client {
    let mut options = Options::default();
    options.coordination = Coordination::Any;
    set(&mut options);
    Client::plain(addresses, options).expect("addresses")
}

/// The error of `call`, which must be of this reason.
async fn fails<T: Debug>(reason: &str, call: impl Future<Output = Result<T, Error>>) -> Error {
    let error = call.await.expect_err(reason);
    assert_eq!(error.reason(), reason, "{error}");
    error
}

async fn read(client: &Client, key: impl Into<Bytes>) -> Entry {
    client.get("kept", key).await.expect("answered")
}

fn text(entry: &Entry) -> Option<String> {
    entry.value().map(|value| String::from_utf8_lossy(value).into_owned())
}

async fn blind(client: &Client, key: &'static str, value: &'static str) -> Written {
    let mut entry = Entry::blind("kept", key);
    entry.set(value);
    client.put(entry).await.expect("acknowledged")
}

/// The words of all versions: a set of them, as text.
fn words(entry: &Entry) -> BTreeSet<String> {
    let values = entry.siblings().iter().filter_map(|version| version.value.as_ref());
    let texts = values.map(|value| String::from_utf8_lossy(value).into_owned());
    texts.flat_map(|text| text.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn joined(words: BTreeSet<String>) -> String {
    words.into_iter().collect::<Vec<_>>().join(" ")
}

/// Has what was read changed; siblings that others left at the end are for the next one to settle.
async fn updated(
    client: &Client,
    (keyspace, key): (&str, &str),
    change: impl FnMut(&Entry) -> Option<Bytes>,
) {
    if let Err(error) = client.update(keyspace, key.to_owned(), change).await {
        assert_eq!(error.reason(), "SIBLINGS_REMAIN", "{error}");
    }
}

async fn add(client: &Client, place: (&str, &str), word: &str) {
    let change = |entry: &Entry| {
        let mut words = words(entry);
        words.insert(word.to_owned());
        Some(Bytes::from(joined(words)))
    };
    updated(client, place, change).await;
}

async fn values(client: &Client) {
    let mut entry = read(client, "greeting").await;
    assert_eq!(entry.value(), None);
    assert_eq!(entry.siblings(), [], "an absent key");
    entry.set("hello");
    let first = client.put(entry).await.expect("acknowledged");
    assert!(first.acked >= 2 && !first.siblings_remain, "{first:?}");
    let mut entry = read(client, "greeting").await;
    assert_eq!(text(&entry).as_deref(), Some("hello"));
    assert_eq!(entry.siblings()[0].dots, [first.dot]);
    entry.set("good day");
    let second = client.put(entry).await.expect("acknowledged");
    assert_eq!(text(&read(client, "greeting").await).as_deref(), Some("good day"), "replaced");
    // What a put answers is as good as another get.
    let mut next = second.entry.expect("it is the only version");
    next.set("");
    client.put(next).await.expect("acknowledged");
    let entry = read(client, "greeting").await;
    assert_eq!(text(&entry).as_deref(), Some(""), "an empty value is a value");
    client.delete(entry).await.expect("acknowledged");
    assert_eq!(read(client, "greeting").await.value(), None, "deleted");
    let stored = client.siblings("kept", "greeting").await.expect("answered");
    assert!(stored.siblings().iter().all(|version| version.is_tombstone), "{stored:?}");
    let every: Bytes = (0..=255).collect::<Vec<u8>>().into();
    let mut entry = Entry::blind("kept", every.clone());
    entry.set(every.clone());
    client.put(entry).await.expect("acknowledged");
    assert_eq!(read(client, every.clone()).await.value(), Some(&every), "binary");
    client.delete_observed("kept", every.clone()).await.expect("acknowledged");
    assert_eq!(read(client, every).await.value(), None, "deleted as observed");
}

async fn siblings(client: &Client) {
    for item in ["tea", "milk"] {
        let written = blind(client, "cart", item).await;
        assert_eq!(written.siblings_remain, item == "milk");
        assert_eq!(written.entry.is_none(), item == "milk", "a context only of a sole version");
    }
    let both = read(client, "cart").await;
    assert_eq!(joined(words(&both)), "milk tea", "both are kept");
    assert_eq!(both.value(), None, "siblings have no one value");
    assert_eq!(both.merge().expect("a merged view").sibling_count, 2);
    let metadata = client.metadata("kept", "cart").await.expect("answered");
    assert!(metadata.siblings().iter().all(|version| version.value.is_none()));
    blind(client, "cart", "jam").await;
    let mut settled = both.clone();
    settled.set("milk and tea");
    let written = client.put(settled).await.expect("acknowledged");
    assert!(written.siblings_remain, "what was not seen stays");
    let mut all = read(client, "cart").await;
    all.replaces_also(&both).set("all");
    assert!(!client.put(all).await.expect("acknowledged").siblings_remain);
    assert_eq!(text(&read(client, "cart").await).as_deref(), Some("all"), "contexts are joined");
}

async fn update_settled(client: &Client) {
    let mut added: BTreeSet<String> = (0..12).map(|number| format!("word-{number}")).collect();
    join_all(added.iter().map(|word| add(client, ("kept", "set"), word))).await;
    add(client, ("kept", "set"), "last").await;
    added.insert("last".to_owned());
    assert_eq!(text(&read(client, "set").await), Some(joined(added)), "no word is lost");
    let left = client.update("kept", "set", |_| None).await.expect("answered");
    assert!(left.is_none(), "left as it is");
    client.delete(read(client, "set").await).await.expect("acknowledged");
    assert_eq!(read(client, "set").await.value(), None, "deleted");
}

async fn update_merged(client: &Client) {
    let add = |number: usize| {
        let change = move |entry: &Entry| {
            let parsed = entry.value().map(|value| serde_json::from_slice::<Value>(value));
            let mut cart =
                parsed.map_or_else(|| json!({ "items": {} }), |cart| cart.expect("JSON"));
            cart["items"][format!("task:{number}")] = json!({ "quantity": 1, "sku": "tea" });
            Some(Bytes::from(cart.to_string()))
        };
        updated(client, ("carts", "c"), change)
    };
    join_all((0..12).map(add)).await;
    let read = client.get("carts", "c").await.expect("answered");
    let cart: Value = serde_json::from_slice(read.value().expect("merged")).expect("JSON");
    let items: BTreeSet<&String> = cart["items"].as_object().expect("items").keys().collect();
    assert_eq!(items.len(), 12, "every item is there: {items:?}");
    assert_eq!(read.merge().expect("a merged view").failure, None);
}

async fn errors(client: &Client) {
    let error = fails("UNKNOWN_KEYSPACE", client.get("nowhere", "k")).await;
    assert_eq!((error.metadata()["keyspace"].as_str(), error.effect()), ("nowhere", Effect::None));
    let mut large = Entry::blind("kept", "k".repeat(5_000));
    large.set("v");
    let error = fails("KEY_TOO_LARGE", client.put(large)).await;
    assert_eq!((error.violations()[0].subject.as_str(), error.effect()), ("key", Effect::None));
    fails("KEY_EMPTY", client.get("kept", "")).await;
    let of_four = v1::PutRequest { w: Some(4), ..put("kept", "k", "v") };
    fails("BAD_QUORUM", client.send_put(of_four)).await;
    fails("NO_CONTEXT", client.delete(Entry::blind("kept", "k"))).await;
    let forged = v1::PutRequest { contexts: vec!["forged".into()], ..put("kept", "k", "v") };
    fails("CONTEXT_FORGED", client.send_put(forged)).await;
    let first = v1::PutRequest { only_if_current: true, ..put("kept", "one", "first") };
    let second = v1::PutRequest { value: "second".into(), ..first.clone() };
    let written = client.send_put(first).await.expect("the key holds nothing");
    fails("CHANGED", client.send_put(second)).await;
    let own = v1::GetRequest { at_least: vec![written.dot], ..get("kept", "one") };
    let answer = client.send_get(own).await.expect("answered");
    assert_eq!(texts(&answer), BTreeSet::from(["first".to_owned()]), "its own write");
}

async fn request_ids(client: &Client) {
    let mut order = Entry::blind("kept", "order");
    order.set("paid").request_id("order 7");
    let first = client.put(order.clone()).await.expect("acknowledged");
    let again = client.put(order.clone()).await.expect("acknowledged");
    assert_eq!(again.dot, first.dot, "a retry is the same write");
    let stored = client.siblings("kept", "order").await.expect("answered");
    assert_eq!(stored.siblings().len(), 1);
    order.set("refunded");
    let error = fails("REQUEST_ID_REUSED", client.put(order)).await;
    assert_eq!(error.metadata()["dot"], first.dot);
}

fn item(request: v1::batch_item::Request) -> v1::BatchItem {
    v1::BatchItem { request: Some(request) }
}

async fn batch(client: &Client, items: Vec<v1::batch_item::Request>) -> Vec<Outcome> {
    let items = items.into_iter().map(item).collect();
    let answer = client.send_batch(v1::BatchRequest { items }).await.expect("answered");
    answer.outcomes.into_iter().map(|one| one.outcome.expect("one of them")).collect()
}

async fn batches(client: &Client) {
    use v1::batch_item::Request::{Delete, Get, Put};
    let key = |n: usize| format!("batch-{n}");
    let all = |n| v1::PutRequest { w: Some(3), ..put("kept", &key(n), &format!("value {n}")) };
    let mut items: Vec<_> = (0..3).map(|n| Put(all(n))).collect();
    items.push(Put(put("nowhere", "k", "v")));
    let forged = vec!["forged".into()];
    let delete = |key: &str, contexts| v1::DeleteRequest {
        keyspace: "kept".to_owned(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        contexts,
        ..Default::default()
    };
    items.push(Delete(delete("k", forged)));
    let reason = |outcome: &Outcome| match outcome {
        Outcome::Put(put) => put.acked.to_string(),
        Outcome::Failure(failure) => failure.reason.clone(),
        other => panic!("{other:?}"),
    };
    let told: Vec<_> = batch(client, items).await.iter().map(reason).collect();
    assert_eq!(told, ["3", "3", "3", "UNKNOWN_KEYSPACE", "CONTEXT_FORGED"]);
    let gets = |count| (0..count).map(|n| Get(get("kept", &key(n)))).collect::<Vec<_>>();
    let read = async |count| {
        let outcomes = batch(client, gets(count)).await;
        let answers = outcomes.into_iter().map(|outcome| match outcome {
            Outcome::Get(answer) => answer,
            other => panic!("{other:?}"),
        });
        answers.collect::<Vec<_>>()
    };
    let found = read(4).await;
    let all: Vec<_> = found.iter().flat_map(texts).collect();
    assert_eq!(all, ["value 0", "value 1", "value 2"], "each get");
    let contexts = |n: usize| found[n].context.iter().cloned().collect::<Vec<_>>();
    let new = v1::PutRequest { contexts: contexts(0), ..put("kept", &key(0), "new") };
    batch(client, vec![Put(new), Delete(delete(&key(1), contexts(1)))]).await;
    assert_eq!(read(2).await.iter().flat_map(texts).collect::<Vec<_>>(), ["new"]);
    let many = v1::BatchRequest { items: (0..257).map(|_| item(Get(get("kept", "k")))).collect() };
    fails("BATCH_TOO_LARGE", client.send_batch(many)).await;
}

/// The keys that a listing tells, until there are so many.
async fn listed(listing: &mut Listing, most: usize) -> Vec<String> {
    let mut keys = Vec::new();
    while keys.len() < most
        && let Some(page) = listing.next().await.expect("listed")
    {
        keys.extend(page.keys.iter().map(|key| String::from_utf8_lossy(&key.key).into_owned()));
    }
    keys
}

async fn lists(client: &Client, cluster: &mut Cluster) {
    let keys: Vec<String> = (0..300).map(|n| format!("list-{n:03}")).collect();
    for some in keys.chunks(100) {
        let all = |key: &String| v1::PutRequest { w: Some(3), ..put("kept", key, "v") };
        let puts = some.iter().map(|key| v1::batch_item::Request::Put(all(key)));
        batch(client, puts.collect()).await;
    }
    client.delete_observed("kept", "list-007").await.expect("acknowledged");
    let left: BTreeSet<String> = keys.iter().filter(|key| *key != "list-007").cloned().collect();
    let asked = || v1::ListRequest {
        keyspace: "kept".to_owned(),
        prefix: "list-".into(),
        ..Default::default()
    };
    let found = listed(&mut client.list(asked()), usize::MAX).await;
    assert_eq!((found.len(), found.into_iter().collect()), (299, left.clone()), "every key once");
    let few = v1::ListRequest { limit: 5, ..asked() };
    assert_eq!(listed(&mut client.list(few), usize::MAX).await.len(), 5);
    let range = v1::ListRequest {
        prefix: Bytes::new(),
        from: "list-100".into(),
        until: "list-110".into(),
        ..asked()
    };
    assert_eq!(listed(&mut client.list(range), usize::MAX).await.len(), 10, "a range");
    let (mut first, mut before, mut token) = (client.list(asked()), BTreeSet::new(), String::new());
    while before.len() < 200
        && let Some(page) = first.next().await.expect("listed")
    {
        before.extend(page.keys.iter().map(|key| String::from_utf8_lossy(&key.key).into_owned()));
        token = page.page_token;
    }
    let rest = client.list(v1::ListRequest { page_token: token, ..asked() });
    let rest = listed(&mut { rest }, usize::MAX).await;
    assert!(!rest.is_empty() && rest.len() < left.len());
    before.extend(rest);
    assert_eq!(before, left, "from where another listing was");
    // The node that tells goes away in the middle: another one goes on.
    let two = asking(vec![address(cluster, 0), address(cluster, 1)], |_| {});
    let mut listing = two.list(asked());
    let mut seen = listed(&mut listing, 1).await;
    act(cluster, "pause", 1).await;
    seen.extend(listed(&mut listing, usize::MAX).await);
    act(cluster, "resume", 1).await;
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), left, "across a break");
}

/// Takes events until all these keys have these texts.
async fn until(watch: &mut Watch, wanted: &[(&str, Option<&str>)]) {
    let mut left: Vec<(&str, Option<&str>)> = wanted.to_vec();
    while !left.is_empty() {
        if let Some(Event::Changed(changed)) = watch.next().await.expect("it goes on") {
            let key = String::from_utf8_lossy(&changed.key).into_owned();
            let found = text(&changed.into_entry("kept"));
            left.retain(|(name, value)| *name != key || *value != found.as_deref());
        }
    }
}

async fn watches(client: &Client, cluster: &mut Cluster) {
    let watching = || Watching::of("kept").prefix("watch-");
    let mut watch = client.watch(watching()).await.expect("it begins");
    while !matches!(watch.next().await.expect("it goes on"), Some(Event::Begun)) {}
    let first = blind(client, "watch-1", "one").await;
    blind(client, "elsewhere", "v").await;
    until(&mut watch, &[("watch-1", Some("one"))]).await;
    let mut entry = first.entry.expect("the only version");
    entry.set("two");
    client.put(entry).await.expect("acknowledged");
    blind(client, "watch-2", "three").await;
    until(&mut watch, &[("watch-1", Some("two")), ("watch-2", Some("three"))]).await;
    act(cluster, "pause", 3).await;
    let near = asking(vec![address(cluster, 0), address(cluster, 1)], |_| {});
    blind(&near, "watch-3", "without it").await;
    until(&mut watch, &[("watch-3", Some("without it"))]).await;
    act(cluster, "resume", 3).await;
    let token = watch.token();
    drop(watch);
    blind(client, "watch-4", "between").await;
    client.delete_observed("kept", "watch-2").await.expect("acknowledged");
    let mut again = client.watch(watching().resume(token.clone())).await.expect("it begins");
    until(&mut again, &[("watch-4", Some("between")), ("watch-2", None)]).await;
    let other = Watching::of("kept").prefix("other-").resume(token);
    fails("BAD_TOKEN", client.watch(other)).await;
    let mut all = client.watch(watching().from_start()).await.expect("it begins");
    let (mut there, mut is_listing) = (BTreeSet::new(), false);
    loop {
        match all.next().await.expect("it goes on") {
            Some(Event::Listing) => is_listing = true,
            Some(Event::Changed(changed)) if is_listing => _ = there.insert(changed.key.clone()),
            Some(Event::Listed) => break,
            _ => {}
        }
    }
    assert_eq!(there, ["watch-1", "watch-3", "watch-4"].map(Bytes::from).into(), "all there is");
    let mut gone = client.watch(Watching::of("nowhere")).await.expect("it begins");
    let error = loop {
        match gone.next().await {
            Err(error) => break error,
            Ok(told) => assert!(told.is_some()),
        }
    };
    assert_eq!(error.reason(), "UNKNOWN_KEYSPACE");
}

async fn quotas(client: &Client, cluster: &Cluster) {
    for key in ["one", "two"] {
        let all = v1::PutRequest { w: Some(3), ..put("small", key, "v") };
        client.send_put(all).await.expect("acknowledged");
    }
    let error = fails("QUOTA_EXCEEDED", client.send_put(put("small", "three", "v"))).await;
    let facts = ["quota", "found", "max"].map(|fact| error.metadata()[fact].clone());
    assert_eq!((facts, error.effect()), (["keys", "2", "2"].map(str::to_owned), Effect::None));
    assert_eq!(error.retry_after(), None);
    let mut entry = client.get("small", "one").await.expect("answered");
    entry.set("a larger value");
    client.put(entry).await.expect("it adds no key");
    let once = asking(vec![address(cluster, 0)], |options| options.attempts_max = 1);
    eventually("requests are refused", async || match once.get("slow", "k").await {
        Ok(_) => Err("answered".to_owned()),
        Err(error) => {
            assert_eq!(error.metadata()["quota"], "requests", "{error}");
            must(error.retry_after().is_some(), || error.to_string())
        }
    })
    .await;
    // Others wait as long as they are told to.
    client.get("slow", "k").await.expect("its turn comes");
}

async fn ttl_and_labels(client: &Client) {
    let mut entry = Entry::blind("kept", "brief");
    entry.set("v").ttl(Duration::from_secs(3_600)).label("from", "a test").schema(3);
    client.put(entry).await.expect("acknowledged");
    let mut entry = read(client, "brief").await;
    let version = &entry.siblings()[0];
    assert_eq!((version.schema, version.labels["from"].as_str()), (3, "a test"));
    assert_eq!(version.expires_at_ms.map(|at| at - version.written_at_ms), Some(3_600_000));
    entry.set("v").ttl(Duration::from_millis(200));
    client.put(entry).await.expect("acknowledged");
    eventually("it expires", async || {
        let read = read(client, "brief").await;
        must(read.siblings().is_empty(), || format!("{read:?}"))
    })
    .await;
}

async fn deadline(client: &Client, cluster: &mut Cluster) {
    let short = |options: &mut Options| options.timeout = Duration::from_millis(500);
    let alone = asking(vec![address(cluster, 0)], short);
    let addresses = vec![address(cluster, 0), address(cluster, 1)];
    let both = asking(addresses, |options| options.timeout = Duration::from_secs(6));
    for some in [&alone, &both] {
        eventually("it is connected", async || {
            some.get("kept", "slow").await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }
    act(cluster, "pause", 1).await;
    fails("NO_ANSWER", alone.get("kept", "slow")).await;
    let mut maybe = Entry::blind("kept", "slow");
    maybe.set("maybe");
    assert_eq!(fails("NO_ANSWER", alone.put(maybe)).await.effect(), Effect::Maybe);
    // It gets half of the time, and the other node does it.
    let mut named = Entry::blind("kept", "named");
    named.set("v").request_id("named");
    assert!(both.put(named).await.expect("acknowledged elsewhere").acked >= 2);
    act(cluster, "resume", 1).await;
    assert_eq!(text(&read(client, "named").await).as_deref(), Some("v"), "one write");
}

async fn one_endpoint(cluster: &mut Cluster) {
    let set = |options: &mut Options| {
        options.coordination = Coordination::Owner;
        options.timeout = Duration::from_secs(6);
    };
    let some = asking(vec![address(cluster, 0)], set);
    let entry = |key: &str| {
        let mut entry = Entry::blind("kept", key.to_owned());
        entry.set("v").request_id(key.to_owned());
        entry
    };
    some.put(entry("lone")).await.expect("acknowledged");
    let mut tries = 0;
    loop {
        assert_eq!(text(&read(&some, "lone").await).as_deref(), Some("v"));
        act(cluster, "pause", 1).await;
        // It is left paused once it can go on without.
        match some.get("kept", "lone").await {
            Ok(_) => break,
            Err(error) => assert!(tries < 10, "it does not hear of the others: {error}"),
        }
        tries += 1;
        act(cluster, "resume", 1).await;
    }
    for number in 0..6 {
        some.put(entry(&format!("lone-{number}"))).await.expect("acknowledged elsewhere");
        assert_eq!(text(&read(&some, "lone").await).as_deref(), Some("v"));
    }
    act(cluster, "resume", 1).await;
}

async fn dead_endpoint(cluster: &Cluster) {
    let some = vec![DEAD.to_owned(), address(cluster, 0), address(cluster, 1)];
    let some = asking(some, |_| {});
    for number in 0..6 {
        let key = format!("dead-{number}");
        let mut entry = Entry::blind("kept", key.clone());
        entry.set("v");
        some.put(entry).await.expect("another node takes it");
        assert_eq!(text(&read(&some, key).await).as_deref(), Some("v"));
    }
    let none = asking(vec![DEAD.to_owned()], |_| {});
    let mut entry = Entry::blind("kept", "k");
    entry.set("v");
    assert_eq!(fails("NOT_CONNECTED", none.put(entry)).await.effect(), Effect::None);
    let error = Client::connect(["https://127.0.0.1:1"]).expect_err("no setting for TLS");
    assert_eq!(error.reason(), "BAD_ENDPOINT");
}

/// What a node that is cut off says of a put that needs two.
async fn not_reached(alone: &Client) -> Error {
    eventually("a put of two is refused", async || {
        let of_two = v1::PutRequest { w: Some(2), ..put("cut", "other", "v") };
        let error = alone.send_put(of_two).await.expect_err("one node is not two");
        // On a busy machine the node's answer may come too late.
        match error.reason() {
            "QUORUM_NOT_REACHED" => Ok(error),
            other => Err(other.to_owned()),
        }
    })
    .await
}

async fn partition(client: &Client, cluster: &mut Cluster) {
    let near = asking(vec![address(cluster, 0), address(cluster, 1)], |_| {});
    let far = asking(vec![address(cluster, 2)], |_| {});
    let all = v1::PutRequest { w: Some(3), ..put("cut", "k", "before") };
    near.send_put(all).await.expect("acknowledged by all");
    let before = near.get("cut", "k").await.expect("answered");
    act(cluster, "cut", 3).await;
    for (side, value) in [(&near, "majority"), (&far, "minority")] {
        let mut entry = before.clone();
        entry.set(value);
        side.put(entry).await.expect("acknowledged by one");
    }
    let short = |options: &mut Options| options.timeout = Duration::from_secs(2);
    let error = not_reached(&asking(vec![address(cluster, 2)], short)).await;
    assert_eq!(error.metadata()["needed"], "2");
    let expected = if error.effect() == Effect::None { "NONE" } else { "MAYBE" };
    assert_eq!(error.metadata()["effect"], expected);
    let keys: Vec<String> = (0..5).map(|number| format!("set-{number}")).collect();
    let sides = [("near", &near), ("far", &far)];
    let writes = sides.iter().flat_map(|(word, side)| {
        keys.iter().map(move |key| add(side, ("cut", key.as_str()), word))
    });
    join_all(writes).await;
    act(cluster, "heal", 3).await;

    for node in 0..3 {
        let one = asking(vec![address(cluster, node)], |_| {});
        let expected = keys.iter().map(|key| (key.as_str(), "far near"));
        for (key, expected) in expected.chain([("k", "majority minority")]) {
            eventually("every node has what both sides took", async || {
                let read = one.get("cut", key.to_owned()).await;
                let found = joined(words(&read.map_err(|error| error.to_string())?));
                must(found == expected, || format!("{key}: {found}"))
            })
            .await;
        }
    }
    for key in &keys {
        add(client, ("cut", key.as_str()), "after").await;
        let of_all = v1::GetRequest { r: Some(3), ..get("cut", key) };
        let answer = client.send_get(of_all).await.expect("answered by all");
        assert_eq!(texts(&answer), BTreeSet::from(["after far near".to_owned()]), "{key}");
    }
}

/// What the writers of [`kill`] share.
#[derive(Debug, Default)]
struct Seen {
    acknowledged: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Seen {
    fn count(&self) -> usize {
        self.acknowledged.lock().expect("no panic").len()
    }

    /// Waits until `goal` puts are acknowledged, all writers still at work.
    async fn reaches(&self, goal: usize, lanes: &[JoinHandle<()>]) {
        eventually("puts are acknowledged", async || {
            assert!(!lanes.iter().any(JoinHandle::is_finished), "a put has failed");
            must(self.count() >= goal, || format!("{} of {goal}", self.count()))
        })
        .await;
    }
}

async fn write(client: Client, seen: Arc<Seen>, lane: usize) {
    for number in 0.. {
        if seen.is_over.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("kill-{lane}-{number}");
        let mut entry = Entry::blind("kept", key.clone());
        entry.set(key.clone()).request_id(key.clone());
        client.put(entry).await.expect("another node takes it");
        seen.acknowledged.lock().expect("no panic").push(key);
    }
}

/// Writers go on while a node dies, and stays dead.
async fn kill(client: &Client, cluster: &mut Cluster) {
    let seen = Arc::new(Seen::default());
    let lane = |lane| tokio::spawn(write(client.clone(), seen.clone(), lane));
    let lanes: Vec<JoinHandle<()>> = (0..4).map(lane).collect();
    seen.reaches(40, &lanes).await;
    act(cluster, "kill", 1).await;
    seen.reaches(seen.count() + 100, &lanes).await;
    seen.is_over.store(true, Ordering::Relaxed);
    for lane in lanes {
        lane.await.expect("no put has failed");
    }
    let acknowledged = std::mem::take(&mut *seen.acknowledged.lock().expect("no panic"));
    for key in acknowledged {
        assert_eq!(text(&read(client, key.clone()).await), Some(key), "acknowledged");
    }
    let gone = asking(vec![address(cluster, 0)], |_| {});
    fails("NOT_CONNECTED", gone.get("kept", "k")).await;
}

/// The last one, for the cluster serves nobody else from then on.
async fn roles(client: &Client, cluster: &mut Cluster) {
    blind(client, "guarded", "v").await;
    let token = act(cluster, "close", 2).await;
    for node in [1, 2] {
        let nobody = asking(vec![address(cluster, node)], |_| {});
        eventually("it serves only who has a role", async || {
            match nobody.get("kept", "guarded").await {
                Err(error) if error.reason() == "NOT_KNOWN" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let shows = |options: &mut Options| options.token = Some(Token(token.clone()));
        let reader = asking(vec![address(cluster, node)], shows);
        let entry = eventually("the token is known", async || {
            reader.get("kept", "guarded").await.map_err(|error| error.to_string())
        })
        .await;
        assert_eq!(text(&entry).as_deref(), Some("v"), "by a reader");
        let mut entry = entry;
        entry.set("w");
        assert_eq!(fails("NOT_ALLOWED", reader.put(entry)).await.effect(), Effect::None);
    }
}
