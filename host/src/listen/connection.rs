//! A connection that passed the door.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::opening::PREFACE;
use super::places::Place;
use crate::pause::Life;

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

    /// Gives the first `length` of `bytes` to whoever reads next.
    pub fn replay(&mut self, bytes: [u8; PREFACE.len()], length: usize) {
        (self.first, self.given, self.length) = (bytes, 0, length);
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

/// A connection that the gRPC library may have. It keeps its place until it is dropped, and ends
/// with the first pause of the process.
pub struct Connection {
    io: Io,
    local: SocketAddr,
    from: SocketAddr,
    life: Life,
    _place: Place,
}

impl Connection {
    pub(super) fn new(
        io: Io,
        (local, from): (SocketAddr, SocketAddr),
        life: Life,
        place: Place,
    ) -> Self {
        Connection { io, local, from, life, _place: place }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: Some(self.local), remote_addr: Some(self.from) }
    }
}

/// Calls a method of whichever stream it is.
macro_rules! on_stream {
    ($connection:expr, $method:ident $(, $argument:expr)*) => {
        match &mut $connection.io {
            Io::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Io::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.life.poll_end(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let read = on_stream!(this, poll_read, cx, buf);
        // The pause may have been between: then nobody knows when these bytes arrived.
        match read.is_ready() && !this.life.goes_on() {
            true => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            false => read,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self.get_mut(), poll_write, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), poll_shutdown, cx)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self.get_mut(), poll_write_vectored, cx, bufs)
    }
}
