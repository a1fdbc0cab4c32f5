//! The first bytes of a connection: whether it speaks what the listener speaks, by a deadline.
//!
//! Who speaks something else is told so in its own language before the end, because "connection
//! reset" is all that a user sees otherwise: a GOAWAY frame with words for HTTP/2, a status for
//! HTTP/1, an alert for TLS, and for peers a frame of theirs.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::{Connection, Io, Replayed};
use super::figures::Closed;
use super::places::Place;
use crate::pause::Life;
use crate::tls::TlsAcceptor;

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
pub(super) const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a listener speaks with those that are let in.
#[derive(Debug, Clone, Copy)]
pub struct Speech {
    /// The bytes that begin it, at most as many as those of HTTP/2, which alone are given on.
    pub preface: &'static [u8],
    /// For people.
    pub name: &'static str,
    /// In it, why a connection ends.
    pub farewell: fn(&Closed) -> Vec<u8>,
}

impl Speech {
    /// gRPC.
    pub const GRPC: Speech = Speech {
        preface: &PREFACE,
        name: "gRPC, over HTTP/2 with prior knowledge, and nothing else",
        farewell: go_away,
    };
}

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 22;
/// A fatal alert: handshake failure.
const TLS_ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
/// HTTP/2 error codes (RFC 9113, 7).
const PROTOCOL_ERROR: u8 = 1;
const ENHANCE_YOUR_CALM: u8 = 11;
const INADEQUATE_SECURITY: u8 = 12;
/// The last words have this long to reach the other side.
const LINGER: Duration = Duration::from_millis(500);
/// What the other side still sends meanwhile is read, up to here: unread bytes would make the
/// system reset the connection, and the last words with it.
const LINGER_BYTES_MAX: u64 = 64 << 10;

/// Opens a connection that has a place.
pub(super) async fn open(
    stream: TcpStream,
    (speech, tls): (Speech, Option<TlsAcceptor>),
    deadline: Duration,
    (life, place): (Life, Place),
) -> Result<Connection, Closed> {
    let io = match tls {
        None => timeout(deadline, plain(stream, speech)).await,
        Some(tls) => timeout(deadline, encrypted(stream, speech, tls)).await,
    };
    let io = io.unwrap_or(Err(Closed::TooSlow(deadline)))?;
    Ok(Connection::new(io, life, place))
}

async fn plain(stream: TcpStream, speech: Speech) -> Result<Io, Closed> {
    let mut stream = Replayed::new(stream);
    match first_bytes(&mut stream, speech).await? {
        Spoken::Expected => Ok(Io::Plain(stream)),
        spoken => {
            let why = match spoken {
                Spoken::Tls => Closed::UnexpectedTls,
                _ => Closed::OtherProtocol(speech.name),
            };
            say_farewell(stream, (spoken, speech), &why).await;
            Err(why)
        }
    }
}

async fn encrypted(stream: TcpStream, speech: Speech, tls: TlsAcceptor) -> Result<Io, Closed> {
    let mut stream = Replayed::new(stream);
    match first_bytes(&mut stream, speech).await? {
        Spoken::Tls => {}
        spoken => {
            say_farewell(stream, (spoken, speech), &Closed::NoTls).await;
            return Err(Closed::NoTls);
        }
    }
    let stream = match tls.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        // The alert that says why is on its way.
        Err((error, stream)) => {
            linger(stream, &[]).await;
            return Err(Closed::TlsFailed(error.to_string()));
        }
    };
    let mut stream = Replayed::new(stream);
    match first_bytes(&mut stream, speech).await? {
        Spoken::Expected => Ok(Io::Tls(Box::new(stream))),
        _ => Err(Closed::OtherProtocol(speech.name)),
    }
}

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    /// What the listener speaks.
    Expected,
    Http2,
    Http1,
    Tls,
    Other,
}

impl Spoken {
    /// `None` as long as `bytes` may become `expected`, or HTTP/2, yet.
    fn of(bytes: &[u8], expected: &[u8]) -> Option<Spoken> {
        match bytes.first() {
            None => None,
            Some(&TLS_HANDSHAKE) => Some(Spoken::Tls),
            Some(_) if bytes.starts_with(expected) => Some(Spoken::Expected),
            Some(_) if bytes == PREFACE => Some(Spoken::Http2),
            Some(_) if expected.starts_with(bytes) || PREFACE.starts_with(bytes) => None,
            Some(first) if first.is_ascii_uppercase() => Some(Spoken::Http1),
            Some(_) => Some(Spoken::Other),
        }
    }
}

/// Reads until it is clear what is spoken; the bytes are given again to who reads next.
async fn first_bytes<S: AsyncRead + Unpin>(
    stream: &mut Replayed<S>,
    speech: Speech,
) -> Result<Spoken, Closed> {
    let mut bytes = [0; PREFACE.len()];
    let mut length = 0;
    let spoken = loop {
        let read = stream.read(&mut bytes[length..]).await.map_err(|_| Closed::Broken)?;
        length += read;
        match Spoken::of(&bytes[..length], speech.preface) {
            Some(spoken) => break spoken,
            None if read == 0 => return Err(Closed::Broken),
            None => {}
        }
    };
    let is_for_here = spoken == Spoken::Expected && speech.preface != PREFACE;
    stream.replay(bytes, if is_for_here { speech.preface.len() } else { 0 }, length);
    Ok(spoken)
}

/// Tells who connected why there is no place for it, and ends the connection.
pub(super) async fn refuse(stream: TcpStream, speech: Speech, why: &Closed) {
    say_farewell(stream, (Spoken::Expected, speech), why).await;
}

async fn say_farewell<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    (spoken, speech): (Spoken, Speech),
    why: &Closed,
) {
    let words = match spoken {
        Spoken::Expected => (speech.farewell)(why),
        Spoken::Http2 => go_away(why),
        Spoken::Http1 => {
            let text = why.to_string();
            let length = text.len();
            format!(
                "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
                 content-length: {length}\r\nconnection: close\r\n\r\n{text}"
            )
            .into_bytes()
        }
        Spoken::Tls => TLS_ALERT.to_vec(),
        Spoken::Other => return,
    };
    linger(stream, &words).await;
}

/// Ends a connection with `words`, and gives what was sent time to arrive.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, words: &[u8]) {
    let farewell = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    let _ = timeout(LINGER, farewell).await;
}

/// An empty SETTINGS frame, with which each side begins, and a GOAWAY frame with words.
fn go_away(why: &Closed) -> Vec<u8> {
    let code = match why {
        Closed::Full { .. } | Closed::AddressFull { .. } => ENHANCE_YOUR_CALM,
        Closed::NoTls => INADEQUATE_SECURITY,
        _ => PROTOCOL_ERROR,
    };
    let words = why.to_string();
    let length = (8 + words.len()) as u32;
    let mut frames = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    frames.extend_from_slice(&length.to_be_bytes()[1..]);
    // Type 7, no flags, on the connection itself; no stream was taken.
    frames.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, code]);
    frames.extend_from_slice(words.as_bytes());
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoken_shows_as_early_as_it_can() {
        let grpc: [(&[u8], _); 7] = [
            (b"", None),
            (&PREFACE[..1], None),
            (&PREFACE[..23], None),
            (&PREFACE, Some(Spoken::Expected)),
            (b"GET / HTTP/1.1", Some(Spoken::Http1)),
            (b"\x16\x03", Some(Spoken::Tls)),
            (b"\0\0", Some(Spoken::Other)),
        ];
        for (bytes, expected) in grpc {
            assert_eq!(Spoken::of(bytes, &PREFACE), expected, "{bytes:?}");
        }
        let own: [(&[u8], _); 5] = [
            (b"OW", None),
            (b"OWN", Some(Spoken::Expected)),
            (b"OWN and more", Some(Spoken::Expected)),
            (&PREFACE[..23], None),
            (&PREFACE, Some(Spoken::Http2)),
        ];
        for (bytes, expected) in own {
            assert_eq!(Spoken::of(bytes, b"OWN"), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_farewell_is_two_whole_frames() {
        let frames = go_away(&Closed::Full { connections_max: 7 });
        let length = u32::from_be_bytes([0, frames[9], frames[10], frames[11]]) as usize;
        assert_eq!(frames.len(), 9 + 9 + length);
        assert_eq!(frames[12], 7);
        assert_eq!(frames[25], ENHANCE_YOUR_CALM);
        assert!(frames.ends_with(b"(listeners.connections_max = 7); try again later"));
    }
}
