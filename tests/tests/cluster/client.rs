//! The Rust client against a cluster: contexts kept with values, other nodes asked when one is
//! gone, typed errors.

use std::time::Duration;

use stator_client::{Admin, Client, Effect, Entry, Options, plain};
use tonic::Code;

use crate::support::{Cluster, keyspace};

fn text(value: Option<&tonic::codegen::Bytes>) -> Option<String> {
    value.map(|value| String::from_utf8_lossy(value).into_owned())
}

#[tokio::test]
async fn the_client_keeps_contexts_and_finds_another_node() {
    let mut cluster = Cluster::start(3).await;
    cluster.create(keyspace("carts", 2, 2)).await;
    let addresses = cluster.nodes().iter().map(|node| node.addresses.client.clone());
    let client = Client::connect(addresses).expect("addresses");

    contexts_travel_with_values(&client).await;
    errors_are_typed(&client).await;

    cluster[0].kill().await;
    let mut absent = client.get("carts", "after the crash").await.expect("another node answers");
    assert_eq!(absent.siblings(), []);
    absent.set("served").request_id("after the crash");
    let written = client.put(absent).await.expect("two of three suffice");
    assert!(written.acked >= 2, "{written:?}");
    let operator = Admin::connect([&cluster[0].addresses.admin, &cluster[1].addresses.admin]);
    let keyspaces = operator.expect("addresses").keyspaces().await.expect("another node answers");
    assert!(keyspaces.iter().any(|keyspace| keyspace.name == "carts"));

    let mut options = Options::default();
    options.timeout = Duration::from_secs(2);
    let dead = plain(&cluster[0].addresses.client).expect("an address");
    let alone = Client::over(vec![dead], options).expect("a channel");
    let mut entry = Entry::blind("carts", "k");
    entry.set("v");
    let error = alone.put(entry).await.expect_err("nobody is there");
    assert_eq!((error.reason(), error.effect()), ("NOT_CONNECTED", Effect::None));
}

async fn contexts_travel_with_values(client: &Client) {
    for item in ["tea", "milk"] {
        let mut blind = Entry::blind("carts", "k");
        blind.set(item).label("by", "test").schema(2);
        let written = client.put(blind).await.expect("acknowledged");
        assert_eq!(written.entry.is_some(), item == "tea", "a context only for a sole version");
    }
    let mut both = client.get("carts", "k").await.expect("answered");
    assert_eq!((both.value(), both.siblings().len()), (None, 2), "a conflict has no one value");
    assert_eq!(both.siblings()[0].labels["by"], "test");
    assert_eq!(both.merge().expect("a merged view").sibling_count, 2);
    let metadata = client.metadata("carts", "k").await.expect("answered");
    assert!(metadata.siblings().iter().all(|version| version.value.is_none()));

    both.set("tea, milk");
    let written = client.put(both).await.expect("acknowledged");
    assert!(!written.siblings_remain, "what was read is replaced");
    let mut next = written.entry.expect("to write on with");
    next.set("tea, milk, jam");
    assert!(!client.put(next).await.expect("acknowledged").siblings_remain);
    let read = client.get("carts", "k").await.expect("answered");
    assert_eq!(text(read.value()).as_deref(), Some("tea, milk, jam"));
    client.delete(read).await.expect("acknowledged");
    assert_eq!(client.get("carts", "k").await.expect("answered").siblings(), []);
    let stored = client.siblings("carts", "k").await.expect("answered");
    assert!(stored.siblings().iter().all(|version| version.is_tombstone));
    client.delete_observed("carts", "k").await.expect("acknowledged");
}

async fn errors_are_typed(client: &Client) {
    let error = client.get("nowhere", "k").await.expect_err("no keyspace");
    assert_eq!((error.code(), error.reason()), (Code::NotFound, "UNKNOWN_KEYSPACE"));
    assert_eq!(error.metadata()["keyspace"], "nowhere");
    let error = client.get("carts", "").await.expect_err("no key");
    assert_eq!(error.violations()[0].subject, "key");
    assert_eq!(error.effect(), Effect::None);

    let mut order = Entry::blind("carts", "order");
    order.set("paid").request_id("order 7");
    let first = client.put(order.clone()).await.expect("acknowledged");
    let retry = client.put(order.clone()).await.expect("acknowledged");
    assert_eq!(retry.dot, first.dot);
    order.set("refunded");
    let error = client.put(order).await.expect_err("another request");
    assert_eq!((error.code(), error.reason()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    assert_eq!(error.metadata()["dot"], first.dot);
}
