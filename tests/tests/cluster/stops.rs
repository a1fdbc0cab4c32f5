//! How a node ends, what it says of itself meanwhile, and a log that nobody reads.

use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;

use futures::StreamExt;
use stator_proto::v1;
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Node, get, put, stator, values};

const BUFFERED: i32 = v1::Durability::Buffered as i32;

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

/// A pipe into which nothing fits any more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let blocking = |is_blocking: bool| {
        let flags = if is_blocking { 0 } else { libc::O_NONBLOCK };
        // SAFETY: fcntl takes plain numbers, and the descriptor is ours.
        assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) }, 0);
    };
    blocking(false);
    while (&writer).write(&[b'.'; 4096]).is_ok() {}
    blocking(true);
    writer.flush().expect("nothing to do");
    (reader, writer)
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (reader, writer) = full_pipe();
    let mut node = Node::start_to(folder.path(), "full", writer.into()).await;
    node.serves("default", "a full pipe").await;
    node.signal(libc::SIGTERM);
    assert!(node.ended().await, "a full pipe");
    drop(reader);

    // The collector is gone, and closed its end.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut node = Node::start_to(folder.path(), "broken", writer.into()).await;
    node.serves("default", "a broken pipe").await;
    node.signal(libc::SIGTERM);
    assert!(node.ended().await, "a broken pipe");
}

#[tokio::test]
async fn however_often_it_is_told_to_stop_a_node_stops_once_and_cleanly() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = Node::start(folder.path(), "node", &[]).await;
    let keys: Vec<_> = (0..50).map(|number| format!("k{number}")).collect();
    for round in 0..3 {
        for key in &keys {
            let request = v1::PutRequest { durability: BUFFERED, ..put("default", key, "v") };
            node.kv().put(request).await.expect("acknowledged");
        }
        for signal in [libc::SIGTERM, libc::SIGTERM, libc::SIGINT, libc::SIGTERM] {
            node.signal(signal);
        }
        assert!(node.ended().await, "round {round}: {}", node.log_tail());
        node.restart().await;
        for key in &keys {
            let read = node.kv().get(get("default", key)).await.expect("read");
            assert!(values(read.get_ref()).contains("v"), "round {round}: {key} is lost");
        }
    }
}

#[tokio::test]
async fn a_stop_tells_health_watches_and_waits_for_nobody_for_ever() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = Node::start(folder.path(), "node", &["--metrics-listen=127.0.0.1:0"]).await;
    let mut watches = Vec::new();
    for (channel, service) in [
        (node.client_channel(), ""),
        (node.client_channel(), "stator.v1.Kv"),
        (node.client_channel(), "stator.v1.Routing"),
        (node.admin_channel(), "stator.v1.Admin"),
    ] {
        let mut health = HealthClient::new(channel);
        let checked = health.check(of(service)).await.expect("known").into_inner();
        assert_eq!(checked.status(), ServingStatus::Serving, "{service}");
        let watch = health.watch(of(service)).await.expect("watched").into_inner();
        watches.push(watch.map(|told| told.map(|told| told.status())));
    }
    let mut health = HealthClient::new(node.client_channel());
    let unknown = health.check(of("stator.v1.Admin")).await.expect_err("of the other listener");
    assert_eq!(unknown.code(), Code::NotFound);
    // Connections that do nothing, on every listener.
    let metrics = node.addresses.metrics.clone().expect("a page");
    let Node { addresses, .. } = &node;
    let mut idle = Vec::new();
    for address in [&addresses.client, &addresses.admin, &addresses.peer, &metrics] {
        idle.push(TcpStream::connect(address).await.expect("connected"));
    }
    node.signal(libc::SIGTERM);
    for watch in &mut watches {
        let mut told = Vec::new();
        while let Some(Ok(status)) = watch.next().await {
            told.push(status);
        }
        assert_eq!(told, [ServingStatus::Serving, ServingStatus::NotServing]);
    }
    assert!(node.ended().await, "{}", node.log_tail());
    drop(idle);
}

#[tokio::test]
async fn a_node_without_a_cluster_does_not_say_that_it_serves_clients() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(folder.path(), "node", &["--bootstrap=wait"]).await;
    for service in ["", "stator.v1.Kv", "stator.v1.Routing"] {
        let checked = HealthClient::new(node.client_channel()).check(of(service)).await;
        let status = checked.expect("known").into_inner().status();
        assert_eq!(status, ServingStatus::NotServing, "{service}");
    }
    let checked = HealthClient::new(node.admin_channel()).check(of("")).await;
    let status = checked.expect("known").into_inner().status();
    assert_eq!(status, ServingStatus::Serving, "operators make the cluster");
}

#[tokio::test]
async fn a_secret_that_can_be_guessed_is_refused_and_never_repeated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("stator.toml");
    for text in ["cluster_secret = \"712371237123\"", "previous_secrets = [\"712371237123\"]"] {
        std::fs::write(&config, text).expect("written");
        let output = stator(["serve", "--config", &config.display().to_string()]).await;
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains("16 bytes") && !words.contains("7123"), "{words}");
    }
}
