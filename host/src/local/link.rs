//! Links that take time: on one machine a message is there at once, between machines it is not.
//!
//! A link stands before one listener of a node, which tells others the link's address in place of its
//! own. All that goes through it, in either direction, arrives *delay* later than without it, in order,
//! however much is on its way: a long line, not a narrow one. Timers of the runtime are exact to a
//! millisecond, by which a delay may be longer.
//!
//! Left out: loss, jitter, bandwidth. The faults of `tests/faults` have those.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::transport::{BindError, bind_both};

/// How much is read at once, and how many such pieces are on their way at most.
const PIECE_BYTES: usize = 64 << 10;
const PIECES_MAX: usize = 256;

/// A link that carries nothing yet.
#[derive(Debug)]
pub(super) struct Link {
    connections: TcpListener,
    probes: UdpSocket,
    address: SocketAddr,
    delay: Duration,
}

impl Link {
    /// A link of this one-way delay.
    ///
    /// # Errors
    /// There is no free port.
    pub(super) async fn new(delay: Duration) -> Result<Self, BindError> {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (connections, probes, address) = bind_both(free).await?;
        Ok(Link { connections, probes, address, delay })
    }

    /// Where it is reached.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Carries what comes to `to`, as tasks of `tasks`.
    pub(super) fn carry(self, to: SocketAddr, tasks: &mut JoinSet<()>) {
        let Link { connections, probes, delay, .. } = self;
        tasks.spawn(carry_probes(probes, to, delay));
        tasks.spawn(carry_connections(connections, vec![to], delay));
    }

    /// Carries the first connection to the first of `to`, the next one to the next, and so on, as a
    /// load balancer does.
    pub(super) fn balance(self, to: Vec<SocketAddr>, tasks: &mut JoinSet<()>) {
        tasks.spawn(carry_connections(self.connections, to, self.delay));
    }
}

async fn carry_connections(connections: TcpListener, to: Vec<SocketAddr>, delay: Duration) {
    let mut open = JoinSet::new();
    for to in to.iter().cycle() {
        let Ok((near, _)) = connections.accept().await else { return };
        open.spawn(carry_connection(near, *to, delay));
        while open.try_join_next().is_some() {}
    }
}

/// Datagrams go one way: whoever answers knows where the asker is reached.
async fn carry_probes(probes: UdpSocket, to: SocketAddr, delay: Duration) {
    let mut datagram = vec![0; PIECE_BYTES];
    let (queue, mut due) = mpsc::channel::<(Instant, Bytes)>(PIECES_MAX);
    let send = async {
        while let Some((at, datagram)) = due.recv().await {
            sleep_until(at).await;
            // A datagram may be lost.
            let _ = probes.send_to(&datagram, to).await;
        }
    };
    let receive = async {
        loop {
            if let Ok(length) = probes.recv(&mut datagram).await {
                let piece = Bytes::copy_from_slice(&datagram[..length]);
                let _ = queue.try_send((Instant::now() + delay, piece));
            }
        }
    };
    tokio::join!(send, receive);
}

async fn carry_connection(near: TcpStream, to: SocketAddr, delay: Duration) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
        return;
    }
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    // Each side may close its direction first.
    let _ = tokio::join!(carry(near_read, far_write, delay), carry(far_read, near_write, delay));
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    delay: Duration,
) -> io::Result<()> {
    let (queue, mut due) = mpsc::channel::<(Instant, BytesMut)>(PIECES_MAX);
    let read = async move {
        let mut piece = BytesMut::new();
        loop {
            piece.reserve(PIECE_BYTES);
            if from.read_buf(&mut piece).await? == 0 {
                return Ok(());
            }
            let sent = queue.send((Instant::now() + delay, piece.split())).await;
            if sent.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((at, piece)) = due.recv().await {
            sleep_until(at).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|((), ())| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(40);

    #[tokio::test]
    async fn what_goes_through_a_link_arrives_in_order_and_later() {
        let echo = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let datagrams = UdpSocket::bind(echo.local_addr().expect("known")).await;
        let link = Link::new(DELAY).await.expect("a link");
        let (near, far) = (link.address(), echo.local_addr().expect("known"));
        let mut tasks = JoinSet::new();
        link.carry(far, &mut tasks);
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        });

        let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let began = Instant::now();
        let mut stream = TcpStream::connect(near).await.expect("connected");
        stream.write_all(&sent).await.expect("sent");
        stream.shutdown().await.expect("closed");
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.expect("answered");
        assert!(back == sent, "all of it, in order");
        assert!(began.elapsed() >= 2 * DELAY, "there and back: {:?}", began.elapsed());

        if let Ok(datagrams) = datagrams {
            let began = Instant::now();
            let sender = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            sender.send_to(b"are you there?", near).await.expect("sent");
            let mut got = [0; 64];
            let length = datagrams.recv(&mut got).await.expect("received");
            assert_eq!(&got[..length], b"are you there?");
            assert!(began.elapsed() >= DELAY);
        }
    }
}
