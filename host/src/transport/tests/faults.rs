//! The fault switch, and probes.

use super::*;
use crate::transport::{DATAGRAM_BYTES_MAX, FaultsDisabled};

/// Sends numbered messages until one that was sent after a change arrives.
async fn send_until_heard(from: &Peer, to: &Peer, numbers: std::ops::RangeFrom<u64>) {
    let first = numbers.start;
    let sending = async {
        for number in numbers {
            from.transport.send(to.id, numbered(number)).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let hearing =
        to.hears("a message", |heard| numbers_from(heard, from).iter().any(|n| *n >= first));
    tokio::select! { () = sending => {}, _ = hearing => {} }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_node_hears_and_says_nothing_until_it_is_healed() {
    let (a, b) = pair().await;
    a.transport.set_isolated(true).unwrap();
    for number in 0..100 {
        assert_eq!(a.transport.send(b.id, numbered(number)), Ok(()));
        assert_eq!(b.transport.send(a.id, numbered(number)), Ok(()));
    }
    a.transport.send_probe(b.id, Bytes::from_static(b"lost"));
    a.has_dropped(200).await;
    a.transport.set_isolated(false).unwrap();
    send_until_heard(&a, &b, 1000..).await;
    send_until_heard(&b, &a, 1000..).await;
    for (to, from) in [(&a, &b), (&b, &a)] {
        let heard = lock(&to.ear.heard).clone();
        assert!(numbers_from(&heard, from).iter().all(|n| *n >= 1000));
        assert!(heard.probes.is_empty());
        assert_eq!(heard.connects, [from.id], "the connection stayed");
        assert!(heard.undelivered.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_node_makes_no_new_connection() {
    let (a, b) = (Peer::start(1).await, Peer::start(2).await);
    b.transport.set_isolated(true).unwrap();
    for peer in [&a, &b] {
        peer.transport.set_roster(CLUSTER, roster(&[&a, &b]));
    }
    // B's listener accepts, but nothing of the handshake comes through.
    b.has_dropped(1).await;
    assert_eq!(a.transport.connected(), []);
    b.transport.set_isolated(false).unwrap();
    a.is_connected_to(&b).await;
    b.is_connected_to(&a).await;
}

#[tokio::test]
async fn faults_must_be_enabled() {
    let config = TransportConfig { enable_faults: false, ..config(1) };
    let a = Peer::start_with(config).await;
    assert_eq!(a.transport.set_isolated(true), Err(FaultsDisabled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_pass_and_forged_ones_are_dropped() {
    let (a, b) = (Peer::start(1).await, Peer::start(2).await);
    let members = roster(&[&a, &b]);
    for peer in [&a, &b] {
        peer.transport.set_roster(CLUSTER, members.clone());
    }
    let forger = TransportConfig { secret: [9; 32], ..config(1) };
    let forger = Peer::start_with(forger).await;
    forger.transport.set_roster(CLUSTER, members.clone());
    let stranger = Peer::start(3).await;
    stranger.transport.set_roster(CLUSTER, members);
    for probe in [&forger, &stranger] {
        let forged = Bytes::from_static(b"forged");
        probe.transport.send_probe(b.id, forged);
    }
    // The sockets of one machine deliver in order, so the forged ones came first.
    let sending = async {
        loop {
            a.transport.send_probe(b.id, Bytes::from_static(b"probe"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let heard = tokio::select! {
        heard = b.hears("probes", |heard| heard.probes.len() >= 3) => heard,
        () = sending => unreachable!("it never ends"),
    };
    assert!(heard.probes.iter().all(|probe| probe == "probe"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_on_the_wire_shows_neither_who_nor_what() {
    let a = Peer::start(1).await;
    let wire = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let b = NodeId(2);
    let mut members = roster(&[&a]);
    members.insert(b, wire.local_addr().expect("an address").to_string());
    a.transport.set_roster(CLUSTER, members);
    let payload = b"who is alive";
    a.transport.send_probe(b, Bytes::from_static(payload));
    let mut datagram = [0; DATAGRAM_BYTES_MAX];
    let read = tokio::time::timeout(HANG, wire.recv_from(&mut datagram)).await;
    let (length, _) = read.expect("it comes").expect("a datagram");
    let shows = |part: &[u8]| datagram[..length].windows(part.len()).any(|w| w == part);
    let ids = [a.id.0.to_be_bytes(), b.0.to_be_bytes()];
    assert!(!shows(payload) && !ids.iter().any(|id| shows(id)), "{:?}", &datagram[..length]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_a_name_is_reached() {
    let (a, b) = (Peer::start(1).await, Peer::start(2).await);
    let mut members = roster(&[&a, &b]);
    let port = b.transport.local_addr().port();
    members.insert(b.id, format!("localhost:{port}"));
    for peer in [&a, &b] {
        peer.transport.set_roster(CLUSTER, members.clone());
    }
    a.is_connected_to(&b).await;
}
