//! Nodes that are stopped for a while and go on: a pause is no licence.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use stator_proto::v1;
use tonic::{Request, Status};

use crate::support::{Cluster, Node, eventually, get, keyspace, must, put, values};

/// Keys that are written while a node is stopped.
const KEYS: usize = 12;

fn waiting<T>(ms: u64, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_millis(ms));
    request
}

/// What all three owners of a key hold together.
async fn held(node: &Node, key: &str) -> v1::GetResponse {
    eventually("all owners answer", async || {
        let all = v1::GetRequest {
            r: Some(3),
            quorum: v1::Quorum::Strict.into(),
            view: v1::View::Siblings.into(),
            ..get("pauses", key)
        };
        let answer = node.kv().get(all).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.to_string())
    })
    .await
}

/// Puts through `stopped`, whose clients give up after `ms`; then its keys are replaced, deleted
/// and put again through `other`, and it goes on. Nothing of the first puts may be there.
async fn gives_up(cluster: &Cluster, (stopped, other): (&Node, &Node), case: &str, ms: u64) {
    let keys: Vec<String> = (0..KEYS).map(|number| format!("{case} {number}")).collect();
    for key in &keys {
        // Over the connection that will be stopped, too.
        stopped.kv().put(put("pauses", key, "first")).await.expect("taken");
    }
    let mut contexts = Vec::new();
    for key in &keys {
        contexts.push(held(other, key).await.context.expect("it is whole"));
    }
    stopped.pause();
    let late = keys.iter().enumerate().map(async |(number, key)| {
        let seen = if number % 2 == 0 { vec![contexts[number].clone()] } else { Vec::new() };
        let late = v1::PutRequest { contexts: seen, ..put("pauses", key, "late") };
        stopped.kv().put(waiting(ms, late)).await
    });
    let given_up: Vec<Result<_, Status>> = join_all(late).await;
    assert!(given_up.iter().all(Result::is_err), "{case}: a stopped node answers");
    for (number, key) in keys.iter().enumerate() {
        let contexts = vec![contexts[number].clone()];
        let done = match number % 3 {
            0 => {
                let (keyspace, key) = ("pauses".to_owned(), key.to_owned().into());
                let delete = v1::DeleteRequest { keyspace, key, contexts, ..Default::default() };
                other.kv().delete(delete).await.map(drop)
            }
            _ => {
                let next = v1::PutRequest { contexts, ..put("pauses", key, "next") };
                other.kv().put(next).await.map(drop)
            }
        };
        done.unwrap_or_else(|status| panic!("{case}: {key}: {status}"));
    }
    stopped.signal(libc::SIGCONT);
    // The same connection serves, or another one in its place: what waited in it has been met.
    eventually("the node serves again", async || {
        let served = stopped.kv().put(put("pauses", "served", case)).await;
        served.map(drop).map_err(|status| status.to_string())
    })
    .await;
    cluster.all_alive().await;
    cluster.all_delivered().await;
    for (number, key) in keys.iter().enumerate() {
        let expected = if number % 3 == 0 { BTreeSet::new() } else { ["next".to_owned()].into() };
        for node in [stopped, other] {
            assert_eq!(values(&held(node, key).await), expected, "{case}: {key}");
        }
    }
}

#[tokio::test]
async fn what_clients_gave_up_during_a_pause_does_not_come_back() {
    let cluster = Cluster::start(3).await;
    cluster.create(keyspace("pauses", 2, 2)).await;
    let nodes = (&cluster[0], &cluster[1]);
    gives_up(&cluster, nodes, "shorter than a pause, longer than the client waits", 300).await;
    gives_up(&cluster, nodes, "a pause", 1_500).await;
    assert!(cluster[0].log().contains("this node was stopped"), "{}", cluster[0].log());
}

#[tokio::test]
async fn a_put_through_a_node_that_owns_nothing_of_it_does_without_a_silent_owner() {
    let cluster = Cluster::start(5).await;
    cluster.create(keyspace("pauses", 2, 2)).await;
    let (through, silent) = (&cluster[0], &cluster[1]);
    through.serves("pauses", "the start").await;
    silent.pause();
    // Nobody has noticed yet: of these keys several have the silent node as first owner.
    let puts = (0..60).map(async |number| {
        let key = format!("k{number}");
        through.kv().put(waiting(4_000, put("pauses", &key, "taken"))).await
    });
    for written in join_all(puts).await {
        let written = written.expect("another owner lends a dot").into_inner();
        assert!(!written.dot.starts_with(&silent.addresses.node), "{written:?}");
    }
    silent.signal(libc::SIGCONT);
    cluster.all_alive().await;
    for number in 0..60 {
        eventually("every owner holds each write once", async || {
            let answer = held(through, &format!("k{number}")).await;
            let count = answer.versions.len();
            must(count == 1 && values(&answer).contains("taken"), || format!("{answer:?}"))
        })
        .await;
    }
}
