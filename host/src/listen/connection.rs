//! A connection that passed the door.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::hold::Hold;
use super::opening::PREFACE;
use super::places::Place;
use crate::pause::Life;
use crate::tls;

/// A stream whose first bytes were read already and are given again.
pub(super) struct Replayed<S> {
    stream: S,
    first: [u8; PREFACE.len()],
    given: usize,
    length: usize,
}

impl<S> Replayed<S> {
    pub fn new(stream: S) -> Self {
        Replayed { stream, first: [0; PREFACE.len()], given: 0, length: 0 }
    }

    /// The stream.
    pub fn inner(&self) -> &S {
        &self.stream
    }

    /// Gives those of `bytes` from `from` up to `length` to whoever reads next.
    pub fn replay(&mut self, bytes: [u8; PREFACE.len()], from: usize, length: usize) {
        (self.first, self.given, self.length) = (bytes, from, length);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replayed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let waiting = &self.first[self.given..self.length];
        if waiting.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = waiting.len().min(buf.remaining());
        buf.put_slice(&waiting[..count]);
        self.given += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replayed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

pub(super) enum Io {
    Plain(Replayed<TcpStream>),
    Tls(Box<Replayed<TlsStream<Replayed<TcpStream>>>>),
}

/// A connection that passed the door. It keeps its place until it is dropped, and ends
/// with the first pause of the process.
pub struct Connection {
    io: Io,
    life: Life,
    place: Place,
    names: Arc<[String]>,
}

/// Whose connection a request came on: an extension of every request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The node's hold on the connection.
    pub hold: Arc<Hold>,
    /// How many pauses there had been when it was made.
    pub began: u64,
    /// From where it comes.
    pub address: SocketAddr,
    /// The DNS names of the certificate that the other side has shown, and that was verified.
    pub names: Arc<[String]>,
}

impl Connection {
    pub(super) fn new(io: Io, life: Life, place: Place) -> Self {
        let names = match &io {
            Io::Plain(_) => Arc::default(),
            Io::Tls(stream) => tls::names(stream.inner().get_ref().1.peer_certificates()),
        };
        Connection { io, life, place, names }
    }

    /// The node's hold on it.
    pub fn hold(&self) -> Arc<Hold> {
        self.place.hold().clone()
    }

    fn check(&self) -> io::Result<()> {
        match self.place.hold().is_ended() {
            true => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "ended by this node")),
            false => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let (address, names) = (self.place.from(), self.names.clone());
        Peer { hold: self.hold(), began: self.life.began(), address, names }
    }
}

/// Calls a method of whichever stream it is.
macro_rules! on_stream {
    ($connection:expr, $method:ident $(, $argument:expr)*) => {
        match &mut $connection.as_mut().get_mut().io {
            Io::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Io::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl Connection {
    /// Reads as much as the node's hold allows.
    fn poll_held(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let hold = self.place.hold();
        // Before it is looked at: what changes afterwards wakes this task.
        hold.wait(cx.waker());
        self.check()?;
        let readable = hold.readable();
        if readable == usize::MAX {
            return on_stream!(self, poll_read, cx, buf);
        }
        if readable == 0 {
            return Poll::Pending;
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(readable.min(buf.remaining())));
        std::task::ready!(on_stream!(self, poll_read, cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        self.place.hold().was_read(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.life.poll_end(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let read = self.as_mut().poll_held(cx, buf);
        // The pause may have been between: then nobody knows when these bytes arrived.
        match read.is_ready() && !self.life.goes_on() {
            true => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            false => read,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        on_stream!(self, poll_write, cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_flush, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_shutdown, cx)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        on_stream!(self, poll_write_vectored, cx, bufs)
    }
}
