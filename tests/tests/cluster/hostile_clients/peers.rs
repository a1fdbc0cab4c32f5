//! Garbage at the listener for other nodes, by a stranger who does not know the secret.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::raw::Outcomes;

/// What a peer begins with.
const PREFACE: &[u8] = b"STATOR PEER\r\n\r\n";

/// Random frames, with true and false lengths, on connections that begin as a peer's, and random
/// datagrams to the port of probes.
pub async fn garbage(to: &str, cases: usize) -> Outcomes {
    let bytes = prop::collection::vec(any::<u8>(), 1..600);
    let mut runner = TestRunner::deterministic();
    let mut outcomes = Outcomes::default();
    let mut some = || -> Vec<u8> { bytes.new_tree(&mut runner).expect("a case").current() };
    for number in 0..cases {
        let mut said = PREFACE.to_vec();
        for _ in 0..2 {
            let mut frame = some();
            // Of each kind that there is, and of some that there are not.
            frame[0] = (number % 14) as u8;
            let length = if number % 3 == 0 { number << 20 } else { frame.len() } as u32;
            said.extend(length.to_be_bytes());
            said.extend(frame);
        }
        let mut stream = TcpStream::connect(to).await.expect("connected");
        let sent = stream.write_all(&said).await;
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        outcomes.add(match (sent, read) {
            // Refused in words, in a frame, and then the end.
            (_, Ok(Ok(_))) if answer.windows(4).any(|words| words == b"hand") => "refused",
            (_, Ok(Ok(_) | Err(_))) | (Err(_), _) => "ended",
            (_, Err(_)) => "left open",
        });
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
