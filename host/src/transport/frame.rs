//! Frames: how two nodes speak over one connection, TCP or TLS.
//!
//! ```text
//!   dialler   acceptor
//!   PREFACE ─▶             which protocol this is, before anything else is looked at
//!   frames  ◀─▶  frames    length (4 bytes, big-endian), kind (1 byte), what the kind says
//! ```
//!
//! A connection begins with a handshake, or as a call of a cluster's making (`setup.rs`); a
//! [`Frame`] is everything that is ever said. It is encoded as core encodes messages
//! ([`stator_core::wire`]), and its kind is the number of its variant. One frame carries one message.
//!
//! *Out.* What waits in the outbox becomes frames when the socket takes some, many of them in one
//! vectored write; large values go from where they are held. The socket is the only back-pressure:
//! while it takes nothing, the outbox fills up to its bounds and refuses.
//!
//! *In.* What arrived is read by the 64 KiB. A frame gets a buffer of its own, so that who keeps a
//! value of it keeps nothing else; that of a large one grows with what has come, never ahead of it.
//! Of who has proved nothing only short frames are read.
//!
//! *Signs of life.* Each side sends an empty frame every 2 s. A connection on which nothing has
//! arrived for 6 s is broken; only time in which this node was ready to read counts, so a peer is
//! not given up because this node was slow. What a peer sends counts however slowly it comes.
//!
//! Left out: compression, and many streams in one connection. A frame holds up those behind it, and
//! messages come in their order; modules are cut into chunks, which take turns with messages.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use stator_core::codec::{DecodeError, Pieces};
use stator_core::holder::Holder;
use stator_core::id::{ModuleDigest, RequestId};
use stator_core::message::Message;
use stator_core::wire::{Wire, decode, is_read_reply};
use stator_core::{wire_enums, wire_structs};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use super::config::{FRAME_BYTES_MAX, STRANGER_FRAME_BYTES_MAX};
use super::setup::{Reply, Wanted};
use crate::telemetry::traces::Place;

/// What a dialler sends first. A listener for gRPC, as peers had before version 3, takes it for
/// HTTP/1 and says so.
pub(super) const PREFACE: &[u8] = b"STATOR PEER\r\n\r\n";

/// Read at a time, at most.
const READ_BYTES: usize = 64 << 10;
/// The same before the other side has proved who it is: many may wait there.
const STRANGER_READ_BYTES: usize = 4 << 10;
/// The buffer of a large frame begins with so much, and doubles.
const BODY_BYTES: usize = 256 << 10;

/// What a trace takes in a frame.
const PLACE_BYTES: usize = 16 + 8;

/// Everything that is said between two nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// There is a node here.
    Heartbeat,
    /// An encoded [`Hello`](super::handshake::Hello), as bytes because proofs are over those.
    Hello(Bytes),
    /// What follows shows that the sender knows the secret.
    Proof([u8; 32]),
    /// The other side is accepted.
    Welcome,
    /// Nothing more comes.
    Refusal(Refusal),
    /// A message of the protocol.
    Message(Message),
    /// Send the module with this digest.
    ModuleFetch {
        /// To be repeated in its chunks.
        fetch: u64,
        /// Which.
        digest: ModuleDigest,
    },
    /// A part of a module, in order.
    ModuleChunk(ModuleChunk),
    /// Begins a call: an encoded [`Opening`](super::handshake::Opening).
    Call(Bytes),
    /// What a caller wants, once both have proved themselves.
    Wanted(Box<Wanted>),
    /// The answer, and the end.
    Reply(Reply),
    /// A message of the protocol that is a part of what is traced, below this span of the sender.
    Traced(Place, Message),
}

/// Why a node says no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// In words.
    pub reason: String,
    /// Who is served as the node that was refused.
    pub process: Option<Holder>,
    /// Whether it passes by itself.
    pub passes: bool,
}

/// A part of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModuleChunk {
    /// Whose.
    pub fetch: u64,
    /// Of the whole module; or why none comes.
    pub size_bytes: Result<u64, ModuleFailure>,
    /// The next bytes.
    pub data: Bytes,
}

/// Why a module does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModuleFailure {
    /// It is not held.
    NotHeld,
    /// Other fetches of the same peer are served first.
    Busy,
}

wire_enums! {
    Frame {
        1 => Heartbeat,
        2 => Hello(hello),
        3 => Proof(proof),
        4 => Welcome,
        5 => Refusal(refusal),
        6 => Message(message),
        7 => ModuleFetch { fetch, digest },
        8 => ModuleChunk(chunk),
        9 => Call(opening),
        10 => Wanted(wanted),
        11 => Reply(reply),
        12 => Traced(place, message),
    }
    ModuleFailure { 1 => NotHeld, 2 => Busy }
}

wire_structs! {
    Refusal { reason, process, passes }
    ModuleChunk { fetch, size_bytes, data }
}

impl Frame {
    /// Reads a frame.
    pub fn decode(bytes: Bytes) -> Result<Frame, DecodeError> {
        decode(bytes, "a frame")
    }

    /// Whether the bytes are a sign of life and nothing more.
    fn is_heartbeat(bytes: &[u8]) -> bool {
        bytes == [1]
    }

    /// Whether the bytes are a message of the protocol.
    pub fn is_message(bytes: &[u8]) -> bool {
        matches!(bytes.first(), Some(6 | 12))
    }

    /// Whether they are the value that a replica answers with.
    pub fn is_read_reply(bytes: &[u8]) -> bool {
        let message = match bytes.first() {
            Some(6) => bytes.get(1..),
            Some(12) => bytes.get(1 + PLACE_BYTES..),
            _ => None,
        };
        message.is_some_and(is_read_reply)
    }

    /// The number of the request that it starts, if it is a message that starts one.
    pub fn starts_request(&self) -> Option<RequestId> {
        match self {
            Frame::Message(message) | Frame::Traced(_, message) => message.starts_request(),
            _ => None,
        }
    }

    /// Appends the frame with its length, unless it is longer than frames may be.
    ///
    /// # Errors
    /// Tells its length.
    pub fn append_to(&self, out: &mut Pieces) -> Result<(), usize> {
        out.framed(FRAME_BYTES_MAX, |out| self.to_wire(out))
    }
}

/// A connection of either kind.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection whose preface is over.
pub(super) struct Link {
    pub reader: Reader,
    pub writer: Writer,
}

impl Link {
    pub fn new(io: Box<dyn Duplex>) -> Link {
        let (reader, writer) = tokio::io::split(io);
        let reader = Reader {
            io: reader,
            buffer: BytesMut::new(),
            is_trusted: false,
            pulse: Arc::new(Pulse(AtomicU8::new(HEARD))),
        };
        Link { reader, writer: Writer(writer) }
    }

    /// The other side has proved itself: whatever frames may hold is read of it from now on.
    pub fn trust(&mut self) {
        self.reader.is_trusted = true;
    }
}

/// What was heard of the other side since somebody looked.
pub(super) struct Pulse(AtomicU8);

const SILENT: u8 = 0;
const HEARD: u8 = 1;
/// What was heard is being dealt with, and nothing is read meanwhile.
const BUSY: u8 = 2;

impl Pulse {
    /// Whether nothing was heard since this was called last, though something could have been.
    pub fn is_silent(&self) -> bool {
        let was = self.0.compare_exchange(HEARD, SILENT, Ordering::AcqRel, Ordering::Acquire);
        was == Err(SILENT)
    }

    /// Reading stands still, or goes on.
    pub fn set_busy(&self, is_busy: bool) {
        self.0.store(if is_busy { BUSY } else { HEARD }, Ordering::Release);
    }
}

/// The end from which frames come.
pub(super) struct Reader {
    io: ReadHalf<Box<dyn Duplex>>,
    /// What arrived and was not asked for yet.
    buffer: BytesMut,
    is_trusted: bool,
    pub pulse: Arc<Pulse>,
}

impl Reader {
    /// The bytes of the next frame but heartbeats; `None` if the other side has ended. To be awaited
    /// to its end: what was read is lost otherwise.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            while self.buffer.len() < 4 {
                if self.fill().await? == 0 {
                    return if self.buffer.is_empty() { Ok(None) } else { Err(ended()) };
                }
            }
            let length = self.length()?;
            self.buffer.advance(4);
            let frame = self.body(length).await?;
            if !Frame::is_heartbeat(&frame) {
                return Ok(Some(frame));
            }
        }
    }

    fn length(&self) -> io::Result<usize> {
        let bytes = [self.buffer[0], self.buffer[1], self.buffer[2], self.buffer[3]];
        let length = u32::from_be_bytes(bytes) as usize;
        let bytes_max = if self.is_trusted { FRAME_BYTES_MAX } else { STRANGER_FRAME_BYTES_MAX };
        match length {
            _ if bytes == *b"HTTP" => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it answers in HTTP: it is no Stator node, or one of an earlier release; upgrade \
                 one release at a time",
            )),
            0 => Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is empty")),
            _ if length > bytes_max => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame has {length} bytes; the limit is {bytes_max}"),
            )),
            _ => Ok(length),
        }
    }

    async fn body(&mut self, length: usize) -> io::Result<Bytes> {
        if length <= self.buffer.len() {
            let body = Bytes::copy_from_slice(&self.buffer[..length]);
            self.buffer.advance(length);
            return Ok(body);
        }
        let mut body = BytesMut::with_capacity(length.min(BODY_BYTES));
        body.extend_from_slice(&self.buffer);
        self.buffer.clear();
        while body.len() < length {
            let left = length - body.len();
            if body.len() == body.capacity() {
                body.reserve(left.min(body.len()));
            }
            if self.io.read_buf(&mut (&mut body).limit(left)).await? == 0 {
                return Err(ended());
            }
            self.pulse.set_busy(false);
        }
        Ok(body.freeze())
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(if self.is_trusted { READ_BYTES } else { STRANGER_READ_BYTES });
        let read = self.io.read_buf(&mut self.buffer).await?;
        self.pulse.set_busy(false);
        Ok(read)
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ended within a frame")
}

/// The end to which frames go.
pub(super) struct Writer(WriteHalf<Box<dyn Duplex>>);

impl Writer {
    /// Sends bytes of frames; once it returns the system has them.
    pub async fn write(&mut self, pieces: &Pieces) -> io::Result<()> {
        let mut slices: Vec<io::IoSlice<'_>> = pieces.iter().map(io::IoSlice::new).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let written = self.0.write_vectored(rest).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            io::IoSlice::advance_slices(&mut rest, written);
        }
        self.0.flush().await
    }

    /// Sends what begins a connection.
    pub async fn begin(&mut self) -> io::Result<()> {
        self.0.write_all(PREFACE).await
    }

    /// Sends one frame.
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        let mut out = Pieces::new();
        frame.append_to(&mut out).map_err(|found| {
            let what = format!("a frame has {found} bytes; the limit is {FRAME_BYTES_MAX}");
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })?;
        self.write(&out).await
    }

    /// Says that nothing more comes.
    pub async fn end(&mut self) {
        let _ = self.0.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use stator_core::wire::encode;

    use super::*;

    #[test]
    fn what_is_told_by_a_few_bytes_is_told_rightly() {
        let reply = Frame::Message(Message::ReadReply { request: 1, result: Ok(None) });
        let other = Frame::Message(Message::WriteReply { request: 1, result: Ok(()) });
        let place = Place { trace: [1; 16], span: [2; 8] };
        let traced = [other.clone(), reply.clone()].map(|frame| match frame {
            Frame::Message(message) => Frame::Traced(place, message),
            other => other,
        });
        let [traced, traced_reply] = traced;
        let frames = [Frame::Heartbeat, Frame::Welcome, other, traced, reply, traced_reply];
        let told = frames.map(|frame| {
            let bytes = encode(&frame);
            (Frame::is_heartbeat(&bytes), Frame::is_message(&bytes), Frame::is_read_reply(&bytes))
        });
        let no = (false, false, false);
        let (message, reply) = ((false, true, false), (false, true, true));
        assert_eq!(told, [(true, false, false), no, message, message, reply, reply]);
    }
}
