//! Clients that are no peers.

use stator_proto::peer::v1 as proto;
use stator_proto::peer::v1::peer_client::PeerClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::*;
use crate::transport::handshake::{self, Hello};
use proto::frame::Content;

/// A raw stream to a node.
struct Raw {
    frames: mpsc::Sender<proto::Frame>,
    inbound: tonic::Streaming<proto::Frame>,
}

impl Raw {
    async fn open(to: &Peer) -> Raw {
        let mut client = PeerClient::connect(format!("http://{}", to.address())).await.unwrap();
        let (frames, outbound) = mpsc::channel(8);
        let response = client.exchange(ReceiverStream::new(outbound)).await;
        let inbound = response.unwrap().into_inner();
        Raw { frames, inbound }
    }

    async fn say(&self, content: Option<Content>) {
        // The node may have ended the stream already.
        let _ = self.frames.send(proto::Frame { content }).await;
    }

    /// What the node says until it ends the stream.
    async fn hear_out(&mut self) -> Vec<Content> {
        let heard = async {
            let mut heard = Vec::new();
            while let Ok(Some(frame)) = self.inbound.message().await {
                heard.extend(frame.content);
            }
            heard
        };
        tokio::time::timeout(HANG, heard).await.expect("an end")
    }

    async fn hears_refusal(&mut self, words: &str) {
        let heard = self.hear_out().await;
        let is_it =
            |content: &Content| matches!(content, Content::Refusal(r) if r.reason.contains(words));
        assert!(heard.iter().any(is_it), "{words}: {heard:?}");
    }

    /// Shakes hands as node 1, knowing the secret.
    async fn shake_hands(&mut self) {
        let ours = hello().encode();
        self.say(Some(Content::Hello(ours.clone()))).await;
        let frame = self.inbound.message().await.unwrap().unwrap();
        let Some(Content::Hello(theirs)) = frame.content else {
            panic!("no hello: {frame:?}");
        };
        let proof = handshake::dialer_proof(&SECRET, &ours, &theirs);
        self.say(Some(Content::Proof(proof))).await;
    }
}

fn hello() -> Hello {
    Hello::new(NodeId(1), Default::default(), CLUSTER, [3; 32])
}

/// Node 2, whose only other member never dials.
async fn node() -> Peer {
    let node = Peer::start(2).await;
    let mut members = roster(&[&node]);
    members.insert(NodeId(1), "127.0.0.1:1".to_owned());
    members.insert(NodeId(3), "127.0.0.1:1".to_owned());
    node.transport.set_roster(CLUSTER, members);
    node
}

/// The node still takes an honest peer.
async fn assert_lives(node: &Peer) {
    let mut honest = Raw::open(node).await;
    honest.shake_hands().await;
    let request = 42;
    honest.say(Some(batch(request))).await;
    let has = |heard: &Heard| heard.received.contains(&(NodeId(1), numbered(request)));
    node.hears("an honest message", has).await;
}

fn batch(request: u64) -> Content {
    let reply = proto::WriteReply { request, error: None };
    let body = Some(proto::message::Body::WriteReply(reply));
    Content::Batch(proto::Batch { messages: vec![proto::Message { body }] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_bytes_do_no_harm() {
    let node = node().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xFF; 4096], b"PRI * HT"] {
        let mut stream = TcpStream::connect(node.address()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(HANG, stream.read_to_end(&mut answer));
        let _ = read.await.expect("the node closes the connection");
    }
    assert_lives(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_before_a_handshake_are_refused() {
    let node = node().await;
    let frames = [
        None,
        Some(batch(1)),
        Some(Content::Proof(Bytes::from_static(&[0; 32]))),
        Some(Content::Hello(Bytes::from_static(b"\xFF\xFF\xFF"))),
        Some(Content::Hello(Bytes::new())),
    ];
    for content in frames {
        let mut raw = Raw::open(&node).await;
        raw.say(content).await;
        raw.hears_refusal("does not keep to the handshake").await;
    }
    assert!(lock(&node.ear.heard).received.is_empty());
    assert_lives(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_frame_are_refused() {
    let node = node().await;
    let endpoint = Endpoint::from_shared(format!("http://{}", node.address())).unwrap();
    let mut client = Grpc::new(endpoint.connect().await.unwrap());
    client.ready().await.unwrap();
    // A hello's first field is a number; a frame's is bytes.
    let no_frames =
        Request::new(tokio_stream::iter([proto::Hello { protocol_min: 1, ..Default::default() }]));
    let path = PathAndQuery::from_static("/stator.peer.v1.Peer/Exchange");
    let codec = ProstCodec::<proto::Hello, proto::Frame>::default();
    let response = client.streaming(no_frames, path, codec).await.unwrap();
    let (frames, _) = mpsc::channel(1);
    let inbound = response.into_inner();
    let mut raw = Raw { frames, inbound };
    raw.hears_refusal("the stream broke during the handshake").await;
    assert_lives(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_is_let_go() {
    let node = node().await;
    let mut raw = Raw::open(&node).await;
    raw.hears_refusal("did not answer within").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hellos_that_do_not_fit_are_refused_in_words() {
    let node = node().await;
    let fits = hello();
    let cases = [
        (Hello { protocol_min: 7, protocol_max: 9, ..fits.clone() }, "in versions 7 to 9"),
        (Hello { cluster: ClusterId(1), ..fits.clone() }, "belongs to cluster"),
        (Hello { node: NodeId(9), ..fits.clone() }, "not a member"),
        (Hello { node: NodeId(2), ..fits }, "its own id"),
    ];
    for (hello, words) in cases {
        let mut raw = Raw::open(&node).await;
        raw.say(Some(Content::Hello(hello.encode()))).await;
        raw.hears_refusal(words).await;
        node.hears_refusal(words).await;
    }
    assert!(lock(&node.ear.heard).connects.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_proved_the_secret_gets_nothing_made_with_it() {
    let node = node().await;
    let mut raw = Raw::open(&node).await;
    raw.say(Some(Content::Hello(hello().encode()))).await;
    raw.say(Some(Content::Proof(Bytes::from_static(&[7; 32])))).await;
    let heard = raw.hear_out().await;
    let [Content::Hello(_), Content::Refusal(refusal)] = &heard[..] else { panic!("{heard:?}") };
    assert!(refusal.reason.contains("does not know the secret"), "{refusal:?}");
    assert!(lock(&node.ear.heard).connects.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_is_read_of_a_stranger() {
    let node = node().await;
    let mut stream = TcpStream::connect(node.address()).await.unwrap();
    // HTTP/2's beginning, and then pings without end.
    let begin = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    stream.write_all(&begin).await.unwrap();
    let ping = [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &[0; 8]].concat().repeat(4_096);
    let mut sent = 0;
    // The rest fills the buffers of the system, which are less than this, and then nothing goes.
    while sent < 64 << 20 {
        match tokio::time::timeout(Duration::from_millis(500), stream.write(&ping)).await {
            Ok(Ok(bytes)) => sent += bytes,
            // Ended, or nothing is taken any more.
            _ => break,
        }
    }
    assert!(sent < 64 << 20, "{sent} bytes were read");
    assert_lives(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_a_member_that_cannot_be_read_end_its_stream_only() {
    let node = node().await;
    let garbage = proto::Message {
        body: Some(proto::message::Body::Write(proto::Write {
            siblings: Bytes::from_static(b"\x01\xFF\xFF"),
            ..Default::default()
        })),
    };
    let frames = [
        None,
        Some(Content::Hello(hello().encode())),
        Some(Content::Batch(proto::Batch { messages: vec![garbage] })),
        Some(Content::Batch(proto::Batch { messages: vec![proto::Message { body: None }] })),
        Some(Content::ModuleFetch(proto::ModuleFetch {
            fetch: 1,
            digest: Bytes::from_static(b"short"),
        })),
    ];
    for (ended, content) in frames.into_iter().enumerate() {
        let mut raw = Raw::open(&node).await;
        raw.shake_hands().await;
        raw.say(content).await;
        raw.hear_out().await;
        let all = |heard: &Heard| heard.disconnects.len() == ended + 1;
        node.hears("the end", all).await;
    }
    assert_lives(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_nobody_asked_for_are_dropped() {
    let node = node().await;
    let mut raw = Raw::open(&node).await;
    raw.shake_hands().await;
    raw.say(Some(Content::ModuleChunk(proto::ModuleChunk {
        fetch: 5,
        size_bytes: 3,
        data: Bytes::from_static(b"abc"),
        failure: 0,
    })))
    .await;
    raw.say(Some(batch(9))).await;
    let has = |heard: &Heard| heard.received.contains(&(NodeId(1), numbered(9)));
    node.hears("what came after", has).await;
}
