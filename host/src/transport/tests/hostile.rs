//! Clients that are no peers.

use bytes::BufMut;
use stator_core::codec::Pieces;
use stator_core::wire::encode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::transport::frame::{self, Frame, Link, ModuleChunk, PREFACE};
use crate::transport::handshake::{self, Hello, Opening, Spoken};

/// A raw connection to a node.
struct Raw(Link);

impl Raw {
    async fn open(to: &Peer) -> Raw {
        let mut link = Link::new(Box::new(TcpStream::connect(to.address()).await.unwrap()));
        link.writer.begin().await.unwrap();
        link.trust();
        Raw(link)
    }

    async fn say(&mut self, frame: Frame) {
        // The node may have ended the connection already.
        let _ = self.0.writer.send(&frame).await;
    }

    /// Says a frame of these bytes.
    async fn say_bytes(&mut self, bytes: &[u8]) {
        let mut out = Pieces::new();
        out.framed(usize::MAX, |out| stator_core::codec::Sink::put(out, bytes)).unwrap();
        let _ = self.0.writer.write(&out).await;
    }

    async fn hear(&mut self) -> Option<Frame> {
        let bytes = tokio::time::timeout(HANG, self.0.reader.next()).await.expect("a frame");
        Some(Frame::decode(bytes.ok()??).expect("a frame"))
    }

    /// What the node says until it ends the connection.
    async fn hear_out(&mut self) -> Vec<Frame> {
        let mut heard = Vec::new();
        while let Some(frame) = self.hear().await {
            heard.push(frame);
        }
        heard
    }

    async fn hears_refusal(&mut self, words: &str) {
        let heard = self.hear_out().await;
        let is_it = |frame: &Frame| matches!(frame, Frame::Refusal(r) if r.reason.contains(words));
        assert!(heard.iter().any(is_it), "{words}: {heard:?}");
    }

    /// Shakes hands as node 1, knowing the secret.
    async fn shake_hands(&mut self) {
        self.prove().await;
        self.say(Frame::Welcome).await;
    }

    /// All of a handshake but for its end.
    async fn prove(&mut self) {
        let ours = encode(&hello());
        self.say(Frame::Hello(ours.clone())).await;
        let Some(Frame::Hello(theirs)) = self.hear().await else { panic!("no hello") };
        self.say(Frame::Proof(handshake::dialer_proof(&SECRET, &ours, &theirs))).await;
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
    honest.say(Frame::Message(numbered(request))).await;
    let has = |heard: &Heard| heard.received.contains(&(NodeId(1), numbered(request)));
    node.hears("an honest message", has).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_bytes_do_no_harm() {
    let node = node().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xFF; 4096], b"PRI * HT", PREFACE] {
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
async fn who_speaks_http_is_told_what_is_spoken_here() {
    let node = node().await;
    // A peer of before version 3 begins so.
    for begin in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(node.address()).await.unwrap();
        stream.write_all(begin).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(HANG, stream.read_to_end(&mut answer));
        read.await.expect("an end").expect("words");
        let words = String::from_utf8_lossy(&answer).into_owned();
        assert!(words.contains("the protocol between Stator nodes, from version 3 on"), "{words}");
    }
    // And answers so, who is dialled.
    let old = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut members = roster(&[&node]);
    members.insert(NodeId(3), old.local_addr().unwrap().to_string());
    node.transport.set_roster(CLUSTER, members);
    let (mut stream, _) = old.accept().await.unwrap();
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    let read = tokio::time::timeout(HANG, stream.read_to_end(&mut heard)).await;
    let _ = read.expect("the node ends it");
    assert!(String::from_utf8_lossy(&heard).contains("upgrade one release at a time"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_before_a_handshake_are_refused() {
    let node = node().await;
    let message = encode(&numbered(1));
    let frames: [&[u8]; 8] = [
        &[0],
        &[99, 1, 2],
        &[&[6][..], &message].concat(),
        &[&[3][..], &[0; 32]].concat(),
        &[2, 3, 0xFF, 0xFF, 0xFF],
        &[2, 0],
        &[9, 0],
        &[4, 4],
    ];
    for bytes in frames {
        let mut raw = Raw::open(&node).await;
        raw.say_bytes(bytes).await;
        raw.hears_refusal("does not keep to the handshake").await;
    }
    assert!(lock(&node.ear.heard).received.is_empty());
    assert_lives(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_frames_before_a_handshake_are_not_read() {
    let node = node().await;
    for length in [0_u32, 16 << 10 | 1, 64 << 20, u32::MAX] {
        let mut stream = TcpStream::connect(node.address()).await.unwrap();
        stream.write_all(&[PREFACE, &length.to_be_bytes(), &[2]].concat()).await.unwrap();
        let mut raw = Raw(Link::new(Box::new(stream)));
        raw.hears_refusal("the connection broke during the handshake: a frame").await;
    }
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
    let later = Spoken { min: 107, max: 109 };
    let cases = [
        (Hello { spoken: later, ..fits.clone() }, "in versions 107 to 109"),
        (Hello { spoken: Spoken { min: 1, max: 2 }, ..fits.clone() }, "in versions 1 to 2"),
        (Hello { cluster: ClusterId(1), ..fits.clone() }, "belongs to cluster"),
        (Hello { node: NodeId(9), ..fits.clone() }, "not a member"),
        (Hello { node: NodeId(2), ..fits }, "its own id"),
    ];
    for (hello, words) in cases {
        let mut raw = Raw::open(&node).await;
        raw.say(Frame::Hello(encode(&hello))).await;
        raw.hears_refusal(words).await;
        node.hears_refusal(words).await;
    }
    assert!(lock(&node.ear.heard).connects.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_by_its_dialler_was_never_connected() {
    let node = node().await;
    let mut raw = Raw::open(&node).await;
    raw.prove().await;
    let reason = "another process is node 2".to_owned();
    let refusal = frame::Refusal { reason: reason.clone(), process: None, passes: false };
    raw.say(Frame::Refusal(refusal)).await;
    node.hears_refusal(&reason).await;
    assert!(lock(&node.ear.heard).connects.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_proved_the_secret_gets_nothing_made_with_it() {
    let node = node().await;
    let mut raw = Raw::open(&node).await;
    raw.say(Frame::Hello(encode(&hello()))).await;
    raw.say(Frame::Proof([7; 32])).await;
    let heard = raw.hear_out().await;
    let [Frame::Hello(_), Frame::Refusal(refusal)] = &heard[..] else { panic!("{heard:?}") };
    assert!(refusal.reason.contains("does not know the secret"), "{refusal:?}");
    assert!(lock(&node.ear.heard).connects.is_empty());
    // Nor who calls, and not what the node is, either.
    let mut raw = Raw::open(&node).await;
    raw.say(Frame::Call(encode(&Opening { spoken: Spoken::OURS, nonce: [3; 32] }))).await;
    raw.say(Frame::Proof([7; 32])).await;
    let heard = raw.hear_out().await;
    let [Frame::Call(opening), Frame::Refusal(refusal)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(opening.len(), 2 + 32);
    assert!(refusal.reason.contains("the cluster secrets differ"), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_is_read_of_a_stranger() {
    let node = node().await;
    let mut stream = TcpStream::connect(node.address()).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    // Signs of life without end.
    let ping = [0, 0, 0, 1, 1].repeat(4_096);
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
    let mut write = Vec::new();
    write.put_slice(&[6, 3, 1]);
    // A write whose object is cut off: keyspace, key, ring version, object.
    write.put_slice(&[0; 8]);
    write.put_slice(&[1, b'k', 1, 3, 1, 0xFF, 0xFF]);
    let message = encode(&numbered(1));
    let frames: [&[u8]; 7] = [
        &[0],
        &[&[2][..], &encode(&hello())].concat(),
        &write,
        &[6, 99],
        // More than one message.
        &[&[6][..], &message, &message].concat(),
        // A digest that is too short.
        &[7, 1, 5, 5],
        &[4],
    ];
    for (ended, bytes) in frames.into_iter().enumerate() {
        let mut raw = Raw::open(&node).await;
        raw.shake_hands().await;
        raw.say_bytes(bytes).await;
        raw.hear_out().await;
        let all = |heard: &Heard| heard.disconnects.len() == ended + 1;
        node.hears("the end", all).await;
    }
    assert_lives(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_falls_silent_is_let_go() {
    let node = node().await;
    let mut raw = Raw::open(&node).await;
    raw.shake_hands().await;
    node.hears("a connection", |heard| !heard.connects.is_empty()).await;
    // It reads, and says nothing: a process that is stopped, or a cable that was pulled.
    raw.hear_out().await;
    node.hears("the end", |heard| !heard.disconnects.is_empty()).await;
    assert_lives(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_nobody_asked_for_are_dropped() {
    let node = node().await;
    let mut raw = Raw::open(&node).await;
    raw.shake_hands().await;
    let data = Bytes::from_static(b"abc");
    raw.say(Frame::ModuleChunk(ModuleChunk { fetch: 5, size_bytes: Ok(3), data })).await;
    raw.say(Frame::Message(numbered(9))).await;
    let has = |heard: &Heard| heard.received.contains(&(NodeId(1), numbered(9)));
    node.hears("what came after", has).await;
}
