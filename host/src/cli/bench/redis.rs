//! Redis as a target: GET, SET, and WAIT if replicas are to have a write before it counts.
//!
//! Many operations share a socket. One task writes what is asked in the order in which it comes,
//! together what has come together; another one reads the replies and hands each to whoever has
//! waited longest, for Redis answers in order. WAIT holds up whatever follows it on its socket, so
//! puts that wait want as many --connections as --concurrency. When a socket breaks, or its replies
//! make no sense, everything that waits on it fails, and everything later.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::resp::{self, Reply};
use super::target::{Over, Reading, Reason, Target, Written};
use super::workload::Family;
use crate::address::HostPort;
use crate::cli::failure::{Failure, Kind};
use crate::tls::connect_tcp;

/// Who waits for a reply.
type Waiting = oneshot::Sender<Reply>;

/// Commands, and who waits for the reply of each.
struct Batch {
    commands: BytesMut,
    waiting: [Option<Waiting>; 2],
}

/// A socket to the primary.
#[derive(Debug)]
pub(super) struct Redis {
    batches: mpsc::UnboundedSender<Batch>,
    family: Family,
    wait_replicas: Option<u32>,
    timeout: Duration,
}

impl Redis {
    /// A socket on which a GET was answered.
    ///
    /// # Errors
    /// Redis is not there, or refuses.
    pub(super) async fn connect(
        address: &HostPort,
        family: Family,
        wait_replicas: Option<u32>,
        within: Duration,
    ) -> Result<Self, Failure> {
        let missing = |error: &dyn std::fmt::Display| {
            Failure::new(Kind::Unavailable, format!("Redis at {address}: {error}"))
        };
        let socket = timeout(within, connect_tcp(&address.to_string())).await;
        let socket = socket.map_err(|late| missing(&late))?.map_err(|error| missing(&error))?;
        let (reader, writer) = socket.into_split();
        let (batches, asked) = mpsc::unbounded_channel();
        let (waiting, in_order) = mpsc::unbounded_channel();
        tokio::spawn(write(writer, asked, waiting));
        tokio::spawn(read(reader, in_order));
        let redis = Redis { batches, family, wait_replicas, timeout: within };
        redis.read(0).await.map_err(|Reason(reason)| missing(&reason))?;
        Ok(redis)
    }

    async fn ask(
        &self,
        commands: BytesMut,
        has_second: bool,
    ) -> Result<[Option<Reply>; 2], Reason> {
        let (first, reply) = oneshot::channel();
        let (second, second_reply) = oneshot::channel();
        let waiting = [Some(first), has_second.then_some(second)];
        // A socket that is gone drops who waits, here or there.
        let _ = self.batches.send(Batch { commands, waiting });
        let replies = async {
            let first = reply.await?;
            let second = if has_second { Some(second_reply.await?) } else { None };
            Ok([Some(first), second])
        };
        let replies = timeout(self.timeout, replies).await.map_err(|_| word("TIMEOUT"))?;
        replies.map_err(|_: oneshot::error::RecvError| word("CONNECTION_LOST"))
    }
}

/// Writes commands in the order in which they come, until nobody sends any or the socket breaks.
async fn write(
    mut socket: OwnedWriteHalf,
    mut asked: mpsc::UnboundedReceiver<Batch>,
    waiting: mpsc::UnboundedSender<Waiting>,
) {
    while let Some(mut batch) = asked.recv().await {
        let mut commands = BytesMut::new();
        loop {
            commands.unsplit(batch.commands);
            // The reader ends first where the socket breaks; then nobody is told, and all fail.
            batch.waiting.into_iter().flatten().for_each(|one| drop(waiting.send(one)));
            match asked.try_recv() {
                Ok(next) => batch = next,
                Err(_) => break,
            }
        }
        if waiting.is_closed() || socket.write_all(&commands).await.is_err() {
            return;
        }
    }
}

/// Hands replies to those who wait, in order, until the socket ends or makes no sense.
async fn read(mut socket: OwnedReadHalf, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
    let mut buffer = BytesMut::new();
    while socket.read_buf(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {
        loop {
            let one = match resp::read(&mut buffer) {
                Ok(None) => break,
                Ok(Some(reply)) => waiting.try_recv().map(|one| (one, reply)),
                Err(resp::Malformed) => return,
            };
            let Ok((one, reply)) = one else {
                return;
            };
            // Whoever gave up waiting has counted an error.
            let _ = one.send(reply);
        }
    }
}

impl Target for Redis {
    type Seen = ();

    async fn read(&self, key: u64) -> Result<Reading<()>, Reason> {
        let mut command = BytesMut::new();
        resp::write(&mut command, &[b"GET", &self.family.key(key)]);
        let values = match self.ask(command, false).await? {
            [Some(Reply::Bulk(value)), _] => vec![value],
            [Some(Reply::Nil), _] => Vec::new(),
            [other, _] => return Err(unexpected(other)),
        };
        Ok(Reading { siblings: values.len() as u32, values, seen: () })
    }

    async fn write(&self, key: u64, value: Bytes, _: Over<()>) -> Result<Written, Reason> {
        let mut commands = BytesMut::new();
        resp::write(&mut commands, &[b"SET", &self.family.key(key), &value]);
        if let Some(replicas) = self.wait_replicas {
            let (replicas, ms) = (replicas.to_string(), self.timeout.as_millis().to_string());
            resp::write(&mut commands, &[b"WAIT", replicas.as_bytes(), ms.as_bytes()]);
        }
        match (self.ask(commands, self.wait_replicas.is_some()).await?, self.wait_replicas) {
            ([Some(Reply::Status), None], None) => {}
            ([Some(Reply::Status), Some(Reply::Integer(have))], Some(asked)) => {
                if have < i64::from(asked) {
                    return Err(word("TOO_FEW_REPLICAS"));
                }
            }
            ([Some(Reply::Status), other] | [other, _], _) => return Err(unexpected(other)),
        }
        Ok(Written { has_siblings: false })
    }
}

/// An error of Redis, or a reply that the command does not have.
fn unexpected(reply: Option<Reply>) -> Reason {
    match reply {
        Some(Reply::Error(word)) => Reason(word),
        _ => word("UNEXPECTED_REPLY"),
    }
}

fn word(text: &str) -> Reason {
    Reason(text.to_owned())
}
