//! HTTP/2 by hand: a client that may break every rule of it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Far beyond every deadline of the node: reached only if it never ends a connection.
const DEADLINE: Duration = Duration::from_secs(20);

/// What became of connections and requests, counted.
#[derive(Debug, Default, Clone)]
pub struct Outcomes(pub BTreeMap<String, usize>);

impl Outcomes {
    pub fn add(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    pub fn join(&mut self, other: Outcomes) {
        for (what, count) in other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    pub fn of(&self, what: &str) -> usize {
        self.0.iter().filter(|(name, _)| name.contains(what)).map(|(_, count)| count).sum()
    }
}

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header, neither indexed nor compressed.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        let mut rest = text.len();
        if rest < 127 {
            bytes.push(rest as u8);
        } else {
            bytes.push(127);
            rest -= 127;
            while rest >= 128 {
                bytes.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// The headers of a gRPC request.
pub fn request_headers(path: &str) -> Vec<u8> {
    [
        header(":method", "POST"),
        header(":scheme", "http"),
        header(":path", path),
        header(":authority", "stator"),
        header("content-type", "application/grpc"),
        header("te", "trailers"),
    ]
    .concat()
}

/// A gRPC message: flag, length, bytes. The length may be a lie.
pub fn message(flag: u8, length: u32, bytes: &[u8]) -> Vec<u8> {
    [&[flag][..], &length.to_be_bytes(), bytes].concat()
}

/// A connection from an address of its own on loopback.
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects from 127.0.0.`from`.
    pub async fn connect(to: &str, from: u8) -> io::Result<Raw> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0)))?;
        let to = to.parse().expect("an address");
        let stream = timeout(DEADLINE, socket.connect(to)).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "no connection: the backlog is full")
        })??;
        stream.set_nodelay(true)?;
        Ok(Raw { stream })
    }

    /// The same with what begins HTTP/2.
    pub async fn open(to: &str, from: u8) -> io::Result<Raw> {
        let mut raw = Raw::connect(to, from).await?;
        raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await?;
        Ok(raw)
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match timeout(DEADLINE, self.stream.write_all(bytes)).await {
            Ok(sent) => sent,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the node takes no more")),
        }
    }

    /// Writes for a while whatever becomes of it, reading nothing.
    pub async fn send_for(&mut self, patience: Duration, bytes: &[u8]) {
        let _ = timeout(patience, self.stream.write_all(bytes)).await;
    }

    /// Reads until the node ends the connection, and tells how; with `answers` expected, until
    /// that many requests were answered or refused. Signs of life are given if `is_alive`.
    pub async fn outcome(mut self, answers: usize, is_alive: bool) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let read = timeout(DEADLINE, self.read(answers, is_alive, &mut outcomes)).await;
        if read.is_err() {
            outcomes.add("STILL OPEN");
        }
        outcomes
    }

    async fn read(&mut self, answers: usize, is_alive: bool, outcomes: &mut Outcomes) {
        let mut answered = 0;
        loop {
            let mut head = [0; 9];
            if let Err(error) = self.stream.read_exact(&mut head).await {
                let is_end = error.kind() == io::ErrorKind::UnexpectedEof;
                return outcomes.add(if is_end { "closed" } else { "reset" });
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if self.stream.read_exact(&mut payload).await.is_err() {
                return outcomes.add("reset");
            }
            match (head[3], head[4]) {
                (GOAWAY, _) if payload.len() >= 8 => {
                    let code = u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]);
                    return outcomes.add(format!("GOAWAY {}", name_of(code)));
                }
                (RST_STREAM, _) if payload.len() == 4 => {
                    let code = u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]);
                    if code != 0 {
                        outcomes.add(format!("RST_STREAM {}", name_of(code)));
                        answered += 1;
                    }
                }
                (HEADERS, flags) if flags & END_STREAM != 0 => {
                    outcomes.add("answered");
                    answered += 1;
                }
                (PING, flags) if flags & ACK == 0 && is_alive => {
                    let _ = self.stream.write_all(&frame(PING, ACK, 0, &payload)).await;
                }
                _ => {}
            }
            if answers > 0 && answered >= answers {
                return;
            }
        }
    }
}

fn name_of(code: u32) -> String {
    let names = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
    ];
    names.get(code as usize).map_or_else(|| code.to_string(), |name| (*name).to_owned())
}
