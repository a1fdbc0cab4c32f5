//! Messages, modules and what happens when a connection breaks.

use stator_core::catalogue::FEATURE_LEVEL;
use stator_core::causality::Siblings;
use stator_core::id::{Actor, Dot, KeyspaceId};
use stator_core::message::ReplicaWrite;
use stator_core::version::{Origin, Payload, Version};

use super::*;
use crate::transport::{FetchError, Undelivered};

fn write(request: u64, value: Bytes) -> Message {
    let actor = Actor { node: NodeId(1), incarnation: Incarnation(1), epoch: 0 };
    let dot = Dot { actor, counter: 1 };
    let version = Version {
        past: None,
        payload: Payload::Value(value),
        written_at_ms: 1,
        expires_at_ms: None,
        schema: 0,
        origin: Origin::Client(dot),
        base: Vec::new(),
        labels: BTreeMap::new(),
        request: None,
        unknown: Vec::new(),
    };
    let mut siblings = Siblings::new();
    siblings.put(&Default::default(), dot, Arc::new(version));
    Message::Write(ReplicaWrite {
        request,
        keyspace: KeyspaceId(1),
        key: Bytes::from_static(b"key"),
        ring_version: 1,
        siblings: Arc::new(siblings),
        hint_for: Vec::new(),
        is_sync: true,
        epoch: 0,
        is_background: false,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_catalogue_can_hold_less_is_known_of_connected_peers() {
    let (a, b) = pair().await;
    assert!(a.transport.below_level(FEATURE_LEVEL).is_empty());
    assert_eq!(a.transport.below_level(FEATURE_LEVEL + 1), [b.id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_exchange_messages_in_order() {
    let peers = [Peer::start(1).await, Peer::start(2).await, Peer::start(3).await];
    join(&peers.each_ref()).await;
    for from in &peers {
        for to in peers.iter().filter(|to| to.id != from.id) {
            (0..500).for_each(|n| from.transport.send(to.id, numbered(n)).unwrap());
        }
    }
    let expected: Vec<u64> = (0..500).collect();
    for to in &peers {
        for from in peers.iter().filter(|from| from.id != to.id) {
            let all = |heard: &Heard| numbers_from(heard, from).len() >= 500;
            let heard = to.hears("500 messages", all).await;
            assert_eq!(numbers_from(&heard, from), expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_20_mib_passes() {
    let (a, b) = pair().await;
    let message = write(1, vec![0xAB; 20 << 20].into());
    b.transport.send(a.id, message.clone()).unwrap();
    let heard = a.hears("it", |heard| !heard.received.is_empty()).await;
    assert!(heard.received == [(b.id, message)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_above_the_limit_is_reported_and_the_session_lives() {
    let config = TransportConfig { queue_bytes_max: usize::MAX, ..config(1) };
    let (a, b) = (Peer::start_with(config).await, Peer::start(2).await);
    join(&[&a, &b]).await;
    let value = vec![0; crate::transport::MESSAGE_BYTES_MAX].into();
    a.transport.send(b.id, write(77, value)).unwrap();
    a.transport.send(b.id, numbered(1)).unwrap();
    a.hears("the report", |heard| heard.undelivered == [77]).await;
    let heard = b.hears("a message", |h| !h.received.is_empty()).await;
    assert_eq!(numbers_from(&heard, &a), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_queue_refuses_without_blocking_and_tells_what_was_lost() {
    let config =
        TransportConfig { queue_messages_max: 50, queue_bytes_max: usize::MAX, ..config(1) };
    let (a, b) = (Peer::start_with(config).await, Peer::start(2).await);
    join(&[&a, &b]).await;
    let mut sent = 0;
    {
        // B stands still: the system's buffers fill up, then the queue does. A full queue is more
        // than the buffers of any system take, so that some is left of it whenever it was full.
        let gate = lock(&b.ear.gate);
        let value = Bytes::from(vec![1; 8 << 20]);
        let refused = loop {
            match a.transport.send(b.id, write(sent, value.clone())) {
                Ok(()) => sent += 1,
                Err(refused) => break refused,
            }
            std::thread::yield_now();
        };
        assert!(matches!(refused, Undelivered::QueueFull { messages_max: 50, .. }), "{refused}");
        a.transport.set_roster(CLUSTER, roster(&[&a]));
        drop(gate);
    }
    a.hears("the end", |heard| heard.disconnects == [b.id]).await;
    let heard = a.hears("losses", |heard| !heard.undelivered.is_empty()).await;
    let first = heard.undelivered[0];
    let expected: Vec<u64> = (first..sent).collect();
    assert_eq!(heard.undelivered, expected, "the last ones, in order");
    assert_eq!(a.transport.send(b.id, numbered(1)), Err(Undelivered::NotConnected(b.id)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_restarts_elsewhere_is_found_again() {
    let (a, b) = pair().await;
    b.transport.shutdown().await;
    a.hears("the end", |heard| heard.disconnects == [b.id]).await;
    let mut reborn = config(2);
    reborn.me.incarnation = Incarnation(2);
    let b = Peer::start_with(reborn).await;
    join(&[&a, &b]).await;
    a.transport.send(b.id, numbered(1)).unwrap();
    b.transport.send(a.id, numbered(2)).unwrap();
    let heard = b.hears("1", |heard| !heard.received.is_empty()).await;
    assert_eq!(numbers_from(&heard, &a), [1]);
    let heard = a.hears("2", |heard| !heard.received.is_empty()).await;
    assert_eq!(numbers_from(&heard, &b), [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_acceptor_is_found_again_after_the_dialer_restarts() {
    let (a, b) = pair().await;
    a.transport.shutdown().await;
    b.hears("the end", |heard| heard.disconnects == [a.id]).await;
    assert_eq!(b.transport.connected(), []);
    let a = Peer::start(1).await;
    join(&[&a, &b]).await;
    assert_eq!(b.transport.connected(), [a.id]);
    b.transport.send(a.id, numbered(3)).unwrap();
    let heard = a.hears("3", |heard| !heard.received.is_empty()).await;
    assert_eq!(numbers_from(&heard, &b), [3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_is_fetched_by_its_digest() {
    let (a, b) = pair().await;
    let module: Bytes = (0..1_000_003_u32).map(|n| n as u8).collect();
    let digest = ModuleDigest::of(&module);
    lock(&b.ear.modules).insert(digest, module.clone());
    let empty = ModuleDigest::of(b"");
    lock(&b.ear.modules).insert(empty, Bytes::new());

    assert_eq!(a.transport.fetch_module(b.id, digest).await, Ok(module));
    assert_eq!(a.transport.fetch_module(b.id, empty).await, Ok(Bytes::new()));
    let unknown = ModuleDigest([1; 32]);
    assert_eq!(a.transport.fetch_module(b.id, unknown).await, Err(FetchError::NotHeld(b.id)));
    assert_eq!(
        a.transport.fetch_module(NodeId(9), digest).await,
        Err(FetchError::NotConnected(NodeId(9)))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn module_bytes_with_another_digest_are_refused() {
    let (a, b) = pair().await;
    let expected = ModuleDigest::of(b"the real module");
    lock(&a.ear.modules).insert(expected, Bytes::from_static(b"another module"));
    assert_eq!(
        b.transport.fetch_module(a.id, expected).await,
        Err(FetchError::WrongBytes { from: a.id, expected })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_ends_with_its_connection() {
    let (a, b) = pair().await;
    // Isolation loses the request, so that only the end of the session can end the fetch.
    a.transport.set_isolated(true).unwrap();
    let fetch = a.transport.fetch_module(b.id, ModuleDigest([1; 32]));
    let (fetched, ()) = tokio::join!(fetch, b.transport.shutdown());
    assert_eq!(fetched, Err(FetchError::NotConnected(b.id)));
}
