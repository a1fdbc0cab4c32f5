//! Garbage at the listener for other nodes, by a stranger who does not know the secret.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::net::UdpSocket;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Bytes, tokio_stream};
use tonic::transport::Endpoint;

use super::raw::Outcomes;
use crate::support::Raw;

const PATHS: [&str; 3] = [
    "/stator.peer.v1.Setup/Introduce",
    "/stator.peer.v1.Setup/Adopt",
    "/stator.peer.v1.Peer/Exchange",
];

/// Random messages to each call, and random datagrams to the port of probes.
pub async fn garbage(to: &str, cases: usize) -> Outcomes {
    let endpoint = Endpoint::from_shared(format!("http://{to}")).expect("an address");
    let channel = endpoint.connect().await.expect("connected");
    let bytes = prop::collection::vec(any::<u8>(), 0..600);
    let mut runner = TestRunner::deterministic();
    let mut outcomes = Outcomes::default();
    let mut some = || -> Vec<u8> { bytes.new_tree(&mut runner).expect("a case").current() };
    for number in 0..cases {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.expect("connected");
        let messages = vec![Bytes::from(some()), Bytes::from(some())];
        let mut request = Request::new(tokio_stream::iter(messages));
        request.set_timeout(Duration::from_secs(5));
        let path = PathAndQuery::from_static(PATHS[number % PATHS.len()]);
        let outcome = match grpc.streaming::<_, Bytes, Bytes, _>(request, path, Raw).await {
            // Refused in words, in a frame, and then the end.
            Ok(answer) => {
                let mut frames = answer.into_inner();
                loop {
                    match frames.message().await {
                        Ok(Some(_)) => {}
                        Ok(None) => break "refused".to_owned(),
                        Err(status) => break format!("{:?}", status.code()),
                    }
                }
            }
            Err(status) => format!("{:?}", status.code()),
        };
        outcomes.add(outcome);
    }
    let socket = UdpSocket::bind("127.0.0.13:0").await.expect("a socket");
    for _ in 0..cases * 10 {
        let datagram = some();
        if socket.send_to(&datagram, to).await.is_ok() {
            outcomes.add("datagram dropped");
        }
    }
    outcomes
}
