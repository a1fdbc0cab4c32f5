//! Every reason for which a handshake fails, as both sides hear of it.

use super::*;
use crate::transport::Undelivered;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_cluster_refuses_everyone() {
    let (a, b) = (Peer::start(1).await, Peer::start(2).await);
    a.transport.set_roster(CLUSTER, roster(&[&a, &b]));
    a.hears_refusal("belongs to no cluster yet").await;
    b.hears_refusal("belongs to no cluster yet").await;
    assert_eq!(a.transport.send(b.id, numbered(1)), Err(Undelivered::NotConnected(b.id)));
    // Once it is adopted, the two find one another without more ado.
    b.transport.set_roster(CLUSTER, roster(&[&a, &b]));
    a.is_connected_to(&b).await;
    b.is_connected_to(&a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_is_refused() {
    let (a, b) = (Peer::start(1).await, Peer::start(2).await);
    a.transport.set_roster(CLUSTER, roster(&[&a, &b]));
    b.transport.set_roster(ClusterId(0xC2), roster(&[&a, &b]));
    for peer in [&a, &b] {
        peer.hears_refusal("node 0000000000000001 belongs to cluster").await;
        assert_eq!(peer.transport.connected(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_secret_is_refused() {
    let stranger = TransportConfig { secret: [8; 32], ..config(2) };
    let (a, b) = (Peer::start(1).await, Peer::start_with(stranger).await);
    for peer in [&a, &b] {
        peer.transport.set_roster(CLUSTER, roster(&[&a, &b]));
    }
    for peer in [&a, &b] {
        peer.hears_refusal("does not know the secret").await;
        assert_eq!(peer.transport.connected(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_no_member_is_refused() {
    let (a, b) = (Peer::start(1).await, Peer::start(2).await);
    a.transport.set_roster(CLUSTER, roster(&[&a, &b]));
    b.transport.set_roster(CLUSTER, roster(&[&b]));
    for peer in [&a, &b] {
        peer.hears_refusal("node 0000000000000001 is not a member").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_hears_that_it_was_removed() {
    // Whether it is the one that dials or the one that is dialled.
    for (stays, goes) in [(1, 2), (2, 1)] {
        let (stays, goes) = (Peer::start(stays).await, Peer::start(goes).await);
        goes.transport.set_roster(CLUSTER, roster(&[&stays, &goes]));
        let removed = [(goes.id, 7)].into();
        stays.transport.set_roster_without(CLUSTER, roster(&[&stays]), removed);
        goes.hears_refusal("was removed from this cluster with ring version 7").await;
        assert_eq!(goes.transport.connected(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_the_roster_is_cut_off() {
    let (a, b) = pair().await;
    b.transport.set_roster(CLUSTER, roster(&[&b]));
    b.hears("the end", |heard| heard.disconnects == [a.id]).await;
    a.hears_refusal("is not a member").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_our_own_id_is_refused() {
    let (a, copy) = (Peer::start(1).await, Peer::start(1).await);
    // The copy believes that node 2 is where the original is.
    let mut members = roster(&[&a]);
    members.insert(NodeId(2), a.address());
    a.transport.set_roster(CLUSTER, roster(&[&a]));
    copy.transport.set_roster(CLUSTER, members);
    for peer in [&a, &copy] {
        peer.hears_refusal("met a node with its own id").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_at_the_address_is_refused() {
    let (a, c) = (Peer::start(1).await, Peer::start(3).await);
    let mut members = roster(&[&a, &c]);
    members.insert(NodeId(2), c.address());
    a.transport.set_roster(CLUSTER, members.clone());
    c.transport.set_roster(CLUSTER, members);
    for peer in [&a, &c] {
        peer.hears_refusal("node 0000000000000002 was dialled").await;
        peer.hears("a connection", |heard| !heard.connects.is_empty()).await;
    }
}
