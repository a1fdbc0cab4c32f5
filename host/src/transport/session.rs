//! A session: what happens on a stream between handshake and end, alike on both sides.
//!
//! At most one session per peer is known at a time; a new one takes the place of an old one,
//! because a peer that comes again has given the old one up. Only of two with one process that
//! dialled each other at once, the one of the smaller id stays. [`Registration`] is the session's
//! presence in the transport: dropping it, for whatever reason the session ends, tells the sink
//! which requests were not sent and that the peer is gone.

use std::sync::Arc;

use prost::Message as _;
use stator_core::id::{Incarnation, NodeId};
use stator_core::message::Message;
use stator_proto::peer::v1 as proto;
use tokio::sync::Semaphore;
use tonic::{Code, Status, Streaming};

use super::config::MODULE_FETCHES_MAX;
use super::handshake::Hello;
use super::module::{self, Fetches};
use super::outbox::Outbox;
use super::wire::{WireError, charge, from_wire};
use super::{Shared, Undelivered, lock, read, write};
use crate::pause::Life;
use proto::frame::Content;

/// A connected peer.
pub(super) struct Session {
    pub peer: NodeId,
    /// The start of the peer.
    pub incarnation: Incarnation,
    /// Which of the two dialled.
    pub dialer: NodeId,
    pub outbox: Arc<Outbox>,
    /// The modules that this node is getting from the peer.
    pub fetches: Fetches,
    /// Bounds the modules that the peer is getting from this node.
    pub serving: Arc<Semaphore>,
}

impl Session {
    pub fn send(&self, message: Message) -> Result<(), Undelivered> {
        self.outbox.push(self.peer, message)
    }

    async fn take(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        frame: proto::Frame,
    ) -> Result<(), Breach> {
        match frame.content.ok_or(WireError::Missing("a frame's content"))? {
            Content::Batch(batch) => {
                let room = shared.sink.room(batch.encoded_len()).await;
                for mut message in batch.messages {
                    charge(&mut message, &shared.config.reads);
                    shared.sink.received(self.peer, from_wire(message)?, room.as_ref());
                }
            }
            Content::ModuleFetch(fetch) => module::serve(shared, self, fetch)?,
            Content::ModuleChunk(chunk) => self.fetches.deliver(chunk),
            Content::Refusal(refusal) => return Err(Breach::Refused(refusal.reason)),
            Content::Hello(_) | Content::Proof(_) | Content::Welcome(_) => {
                return Err(Breach::SecondHandshake);
            }
        }
        Ok(())
    }
}

/// Why this node ends a session with a peer.
#[derive(Debug, thiserror::Error)]
enum Breach {
    #[error("a frame cannot be read: {0}")]
    Wire(#[from] WireError),
    #[error("the peer refuses: {0}")]
    Refused(String),
    #[error("the peer began a second handshake")]
    SecondHandshake,
}

/// The next frame of the peer; while this node is isolated, none arrives.
pub(super) async fn next_frame(
    inbound: &mut Streaming<proto::Frame>,
    shared: &Shared,
) -> Result<Option<proto::Frame>, Status> {
    loop {
        let Some(frame) = inbound.message().await? else {
            return Ok(None);
        };
        if !shared.is_isolated() {
            return Ok(Some(frame));
        }
        shared.count_dropped(match frame.content {
            Some(Content::Batch(batch)) => batch.messages.len(),
            _ => 1,
        });
    }
}

/// Runs the session with the peer that said `hello` until it ends, with `life` at the latest, which
/// began before the handshake.
pub(super) async fn run(
    shared: &Arc<Shared>,
    (hello, dialer): (&Hello, NodeId),
    (mut inbound, outbox): (Streaming<proto::Frame>, Arc<Outbox>),
    mut life: Life,
) {
    let peer = hello.node;
    let session = Arc::new(Session {
        peer,
        incarnation: hello.process.incarnation,
        dialer,
        outbox,
        fetches: Fetches::new(),
        serving: Arc::new(Semaphore::new(MODULE_FETCHES_MAX)),
    });
    let mut roster = shared.roster.subscribe();
    shared.note_connected(peer);
    let Some(_registration) = Registration::new(shared.clone(), session.clone()) else { return };
    tracing::info!(%peer, incarnation = %hello.process.incarnation, level = hello.feature_level, "peer connected");
    loop {
        let frame = tokio::select! {
            biased;
            () = life.end() => Ok(None),
            () = session.outbox.closed() => break,
            changed = roster.changed() => {
                if changed.is_err() || !shared.is_member(hello.cluster, peer) {
                    tracing::info!(%peer, "the peer is no longer a member; closing its stream");
                    break;
                }
                if !shared.is_holder(peer, session.incarnation) {
                    tracing::warn!(%peer, "another process is the peer now; closing its stream");
                    break;
                }
                continue;
            }
            frame = next_frame(&mut inbound, shared) => frame,
        };
        if !life.goes_on() {
            tracing::info!(%peer, "this node was stopped; what waits in the stream is dropped");
            break;
        }
        match frame {
            Ok(Some(frame)) => {
                if let Err(breach) = session.take(shared, frame).await {
                    tracing::error!(%peer, %breach, "closing the stream");
                    break;
                }
            }
            Ok(None) => break,
            // What tonic says of bytes that are no frame.
            Err(status) if status.code() == Code::Internal => {
                tracing::error!(%peer, reason = status.message(), "closing the stream");
                break;
            }
            Err(status) => {
                tracing::warn!(%peer, reason = status.message(), "the stream broke");
                break;
            }
        }
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
            session.outbox.close();
            return None;
        }
        session.outbox.open(peer);
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
