//! A session: what happens on a connection between handshake and end, alike on both sides. It is one
//! task, which reads, writes, gives signs of life and looks for the peer's.
//!
//! At most one session per peer is known at a time; a new one takes the place of an old one,
//! because a peer that comes again has given the old one up. Only of two with one process that
//! dialled each other at once, the one of the smaller id stays. [`Registration`] is the session's
//! presence in the transport: dropping it, for whatever reason the session ends, tells the sink
//! which requests were not sent and that the peer is gone.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use stator_core::codec::DecodeError;
use stator_core::id::{Incarnation, NodeId};
use stator_core::message::{Message, ReplicaError};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

use super::config::{HEARTBEAT_INTERVAL, HEARTBEATS_MISSED, MODULE_FETCHES_MAX, TRACED_SINCE};
use super::frame::{Frame, Link, Pulse, Reader};
use super::handshake::Hello;
use super::module::{self, Fetches};
use super::outbox::Outbox;
use super::{Shared, Undelivered, lock, read, write};
use crate::budget::{ByteBudget, NoRoom};
use crate::pause::{self, Life};
use crate::telemetry::traces::Place;

/// A connected peer.
pub(super) struct Session {
    pub peer: NodeId,
    /// The start of the peer.
    pub incarnation: Incarnation,
    /// Which of the two dialled.
    pub dialer: NodeId,
    /// The newest version of the protocol that the peer speaks.
    pub protocol: u32,
    /// What the peer's catalogues can hold.
    pub feature_level: u32,
    pub outbox: Outbox,
    /// The modules that this node is getting from the peer.
    pub fetches: Fetches,
    /// Bounds the modules that the peer is getting from this node.
    pub serving: Arc<Semaphore>,
}

impl Session {
    pub fn send(&self, message: Message, trace: Option<Place>) -> Result<(), Undelivered> {
        if message.since() > self.protocol {
            return Err(Undelivered::TooOld { to: self.peer, protocol: self.protocol });
        }
        // To who knows no traces it goes without.
        self.outbox.push(message, trace.filter(|_| self.protocol >= TRACED_SINCE))
    }

    /// Takes in what the peer sends until it ends.
    async fn hear(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        reader: &mut Reader,
        pauses: u64,
    ) -> Result<(), Breach> {
        let pulse = reader.pulse.clone();
        while let Some(bytes) = reader.next().await.map_err(Breach::of)? {
            if pause::count() != pauses {
                return Err(Breach::Paused);
            }
            if shared.is_isolated() {
                shared.count_dropped();
                continue;
            }
            pulse.set_busy(true);
            self.take(shared, bytes).await?;
            pulse.set_busy(false);
        }
        Ok(())
    }

    async fn take(self: &Arc<Self>, shared: &Arc<Shared>, bytes: Bytes) -> Result<(), Breach> {
        let room = match Frame::is_message(&bytes) {
            true => shared.sink.room(bytes.len()).await,
            false => None,
        };
        match read_frame(bytes, &shared.config.reads)? {
            Frame::Message(message) => {
                shared.sink.received(self.peer, message, room.as_ref(), None);
            }
            Frame::Traced(place, message) => {
                shared.sink.received(self.peer, message, room.as_ref(), Some(place));
            }
            Frame::ModuleFetch { fetch, digest } => module::serve(shared, self, fetch, digest),
            Frame::ModuleChunk(chunk) => self.fetches.deliver(chunk),
            Frame::Refusal(refusal) => return Err(Breach::Refused(refusal.reason)),
            Frame::Heartbeat => {}
            Frame::Hello(_)
            | Frame::Proof(_)
            | Frame::Welcome
            | Frame::Call(_)
            | Frame::Wanted(_)
            | Frame::Reply(_) => return Err(Breach::SecondHandshake),
        }
        Ok(())
    }

    /// Gives signs of life, until the peer has given none for too long.
    async fn stay_alive(&self, pulse: &Pulse) {
        let mut beat = tokio::time::interval(HEARTBEAT_INTERVAL);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missed = 0;
        while missed < HEARTBEATS_MISSED {
            beat.tick().await;
            self.outbox.beat();
            missed = if pulse.is_silent() { missed + 1 } else { 0 };
        }
    }

    /// Waits until the peer is no longer the member that it was.
    async fn is_gone(&self, shared: &Shared, hello: &Hello) {
        let mut roster = shared.roster.subscribe();
        loop {
            if !shared.is_member(hello.cluster, self.peer) {
                return tracing::info!(peer = %self.peer, "the peer is no longer a member");
            }
            if !shared.is_holder(self.peer, self.incarnation) {
                return tracing::warn!(peer = %self.peer, "another process is the peer now");
            }
            if roster.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The frame that `bytes` are. Of the value that a replica answers with there may be no room: then
/// the answer says so instead.
fn read_frame(bytes: Bytes, reads: &ByteBudget) -> Result<Frame, DecodeError> {
    if !Frame::is_read_reply(&bytes) {
        return Frame::decode(bytes);
    }
    let bytes_max = match reads.charge(bytes.clone()) {
        Ok(charged) => return Frame::decode(charged),
        Err(NoRoom { bytes_max }) => bytes_max,
    };
    Ok(match Frame::decode(bytes)? {
        Frame::Message(Message::ReadReply { request, .. })
        | Frame::Traced(_, Message::ReadReply { request, .. }) => {
            let result = Err(ReplicaError::NoRoom { bytes_max });
            Frame::Message(Message::ReadReply { request, result })
        }
        other => other,
    })
}

/// Why this node ends a session with a peer.
#[derive(Debug, thiserror::Error)]
enum Breach {
    #[error("a frame cannot be read: {0}")]
    Frame(#[from] DecodeError),
    #[error("{0}")]
    NoFrame(io::Error),
    #[error("the peer refuses: {0}")]
    Refused(String),
    #[error("the peer began a second handshake")]
    SecondHandshake,
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("this node was stopped; what waits in the connection is dropped")]
    Paused,
    #[error(
        "nothing was heard of the peer for {} s",
        HEARTBEAT_INTERVAL.as_secs() * u64::from(HEARTBEATS_MISSED)
    )]
    Silent,
}

impl Breach {
    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Breach::NoFrame(error),
            _ => Breach::Broken(error),
        }
    }

    /// Whether the peer did what no peer does.
    fn is_misconduct(&self) -> bool {
        !matches!(self, Breach::Broken(_) | Breach::Paused | Breach::Silent)
    }
}

/// Runs the session with the peer that said `hello` until it ends, with `life` at the latest, which
/// began before the handshake.
pub(super) async fn run(
    shared: &Arc<Shared>,
    (hello, dialer): (&Hello, NodeId),
    link: Link,
    mut life: Life,
) {
    let peer = hello.node;
    let session = Arc::new(Session {
        peer,
        incarnation: hello.process.incarnation,
        dialer,
        protocol: hello.spoken.max,
        feature_level: hello.feature_level,
        outbox: Outbox::new(peer, &shared.config),
        fetches: Fetches::new(),
        serving: Arc::new(Semaphore::new(MODULE_FETCHES_MAX)),
    });
    shared.note_connected(peer);
    shared.prober.spoken.learn(peer, hello.spoken.max);
    let Some(_registration) = Registration::new(shared.clone(), session.clone()) else { return };
    tracing::info!(%peer, incarnation = %hello.process.incarnation, level = hello.feature_level, "peer connected");
    let Link { mut reader, mut writer } = link;
    let pulse = reader.pulse.clone();
    let pauses = pause::count();
    let ended = tokio::select! {
        biased;
        () = life.end() => Err(Breach::Paused),
        () = session.outbox.closed() => Ok(()),
        () = session.is_gone(shared, hello) => Ok(()),
        () = session.stay_alive(&pulse) => Err(Breach::Silent),
        heard = session.hear(shared, &mut reader, pauses) => heard,
        written = session.outbox.empty_into(&mut writer, shared) => written.map_err(Breach::Broken),
    };
    match ended {
        Err(breach) if breach.is_misconduct() => {
            tracing::error!(%peer, %breach, "closing the connection");
        }
        Err(breach) => tracing::warn!(%peer, %breach, "closing the connection"),
        Ok(()) => {}
    }
    tracing::info!(%peer, "peer disconnected");
}

/// A session's presence among the transport's sessions.
struct Registration {
    shared: Arc<Shared>,
    session: Arc<Session>,
}

impl Registration {
    fn new(shared: Arc<Shared>, session: Arc<Session>) -> Option<Self> {
        let peer = session.peer;
        // Held over the calls, so that the sink hears of comings and goings in their order.
        let turn = lock(&shared.announcing);
        let is_spare = read(&shared.sessions).get(&peer).is_some_and(|other| {
            other.incarnation == session.incarnation && other.dialer < session.dialer
        });
        if is_spare {
            return None;
        }
        let replaced = write(&shared.sessions).insert(peer, session.clone());
        if let Some(old) = replaced {
            end(&shared, &old);
            shared.sink.disconnected(peer);
        }
        shared.sink.connected(peer);
        drop(turn);
        Some(Registration { shared, session })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Registration { shared, session } = self;
        let _turn = lock(&shared.announcing);
        let is_current = (read(&shared.sessions).get(&session.peer))
            .is_some_and(|current| Arc::ptr_eq(current, session));
        if is_current {
            write(&shared.sessions).remove(&session.peer);
        }
        end(shared, session);
        if is_current {
            shared.sink.disconnected(session.peer);
        }
    }
}

fn end(shared: &Shared, session: &Session) {
    session.fetches.close();
    for request in session.outbox.close() {
        shared.sink.undelivered(session.peer, request);
    }
}
