//! The transport: messages, probes and module bytes between the nodes of a cluster.
//!
//! # Sessions
//! Two nodes keep one long-lived connection, and speak in frames of their own on it (`frame.rs`).
//! Either dials, and dials again, after 50
//! ms to 1 s, whenever there is none; where both did, the connection of the smaller id is kept. Who
//! answers where a member is known is believed to be it, who dials must be found first
//! ([`stator_core::holder`]). It starts with a
//! handshake (`handshake/`) in which both prove the cluster secret. Then either side queues
//! messages in a bounded queue (`outbox.rs`) that refuses what it has no room for, and the socket takes
//! them out, many at once. Messages of one session arrive in order; what was on its way when a
//! connection broke may or may not have arrived, and only what certainly did not is reported.
//!
//! # Probes
//! Failure detection has a UDP socket (`probe.rs`) of its own at the same port number, so that bulk
//! data never makes a healthy node look dead.
//!
//! # Becoming a cluster
//! Nodes that belong to no cluster yet talk through [`setup`], on the same listener.
//!
//! # Encryption
//! With [`TransportConfig::tls`] every session and call is inside TLS, in which both nodes show
//! certificates of one authority. Probes are authenticated, not encrypted: they say who is alive.
//!
//! # Faults
//! With [`TransportConfig::enable_faults`], [`Transport::set_isolated`] drops every frame and
//! probe in both directions, like a cable that is cut: connections stay, sends look successful,
//! nothing arrives.
//!
//! The transport decides nothing about the protocol: it carries core's messages as the bytes that
//! core makes of them, and tells a [`PeerSink`] what happened.

mod accept;
mod config;
mod dial;
mod frame;
mod handshake;
mod holders;
mod module;
mod outbox;
mod probe;
mod seal;
mod session;
pub mod setup;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::sync::{RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use stator_core::holder::{Holder, Intruder};
use stator_core::id::{ClusterId, ModuleDigest, NodeId};
use stator_core::message::{Message, RequestId};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinHandle;

pub use config::{
    FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, MODULE_BYTES_MAX, MODULE_CHUNK_BYTES, MODULE_FETCHES_MAX,
    MODULE_STALL, PROTOCOL_MAX, PROTOCOL_MIN, PeerIdentity, QUEUE_BYTES_MAX, QUEUE_MESSAGES_MAX,
    TransportConfig, WRITE_BYTES_FULL, WRITE_MESSAGES_MAX,
};
pub use handshake::Refusal;
pub use module::FetchError;
pub use probe::PROBE_BYTES_MAX;
pub use seal::{DATAGRAM_BYTES_MAX, SEALED_SINCE};

use crate::telemetry::traces::Place;
use crate::tls::Tls;

use config::Roster;
use shared::Shared;

/// Room for messages that arrived, until it is dropped.
pub type Room = Arc<OwnedSemaphorePermit>;

/// Who hears of what the transport brings. All calls but [`PeerSink::module`] are made on the
/// transport's tasks: they must return at once and never block.
pub trait PeerSink: Send + Sync {
    /// Room for messages of so many bytes, once there is some: until then they stay where they are.
    fn room(&self, bytes: usize) -> Pin<Box<dyn Future<Output = Option<Room>> + Send + '_>> {
        let _ = bytes;
        Box::pin(std::future::ready(None))
    }
    /// A message arrived; those of one session come in order. It keeps its `room` until it is dealt
    /// with. What is traced names the sender's span.
    fn received(&self, from: NodeId, message: Message, room: Option<&Room>, trace: Option<Place>);
    /// A member's probe arrived.
    fn probed(&self, bytes: Bytes);
    /// A member is served by this process from now on.
    fn holder_found(&self, node: NodeId, holder: Holder) {
        let _ = (node, holder);
    }
    /// A member says that another process is this node.
    fn held_by(&self, holder: Holder) {
        let _ = holder;
    }
    /// Whether other members hear of the node.
    fn is_alive(&self, node: NodeId) -> bool {
        let _ = node;
        false
    }
    /// A session with the peer begins.
    fn connected(&self, peer: NodeId);
    /// The session with the peer has ended.
    fn disconnected(&self, peer: NodeId);
    /// A message that starts this request was queued and certainly not sent.
    fn undelivered(&self, to: NodeId, request: RequestId);
    /// The bytes of a module that a peer asks for; runs on a thread that may block.
    fn module(&self, digest: &ModuleDigest) -> Option<Bytes>;
    /// A peer was refused or refuses, and why; it was logged already. `peer` is known if this
    /// node dialled.
    fn refused(&self, peer: Option<NodeId>, reason: &str) {
        let _ = (peer, reason);
    }
}

/// A message was not queued. It was certainly not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// There is no session with the peer.
    #[error("there is no connection to node {0}")]
    NotConnected(NodeId),
    /// The peer's program knows no such message.
    #[error(
        "node {to} speaks the peer protocol up to version {protocol}, which has no such message: \
         upgrade it"
    )]
    TooOld {
        /// The peer.
        to: NodeId,
        /// What it speaks.
        protocol: u32,
    },
    /// The peer takes messages more slowly than they come.
    #[error(
        "too much waits for node {to} already: the limits are {messages_max} messages and \
         {bytes_max} bytes"
    )]
    QueueFull {
        /// The peer.
        to: NodeId,
        /// The most messages that may wait.
        messages_max: usize,
        /// The most bytes that may wait.
        bytes_max: usize,
    },
}

/// Faults are not enabled in the transport's configuration. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("faults are disabled on this node: start it with --enable-faults")]
pub struct FaultsDisabled;

/// A peer address that cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for peers at {address} ({protocol}): {source}")]
pub struct BindError {
    address: SocketAddr,
    protocol: &'static str,
    source: std::io::Error,
}

/// Tries to find a port number that is free in TCP and UDP.
const BIND_TRIES: usize = 32;
/// How long open connections get at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

type Sockets = (TcpListener, UdpSocket, SocketAddr);

/// Sockets that are bound, and not listened at yet.
pub struct BoundTransport {
    listener: TcpListener,
    probes: UdpSocket,
    local_addr: SocketAddr,
    tls: Option<Arc<Tls>>,
}

impl BoundTransport {
    /// The same, with certificates: all sessions and calls are inside TLS then.
    pub fn with_tls(self, tls: Option<Arc<Tls>>) -> Self {
        BoundTransport { tls, ..self }
    }

    /// Where peers reach this node: TCP for sessions, UDP for probes.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Starts listening. Everything is refused until [`Transport::set_roster`] names a cluster.
    /// Must be called in a tokio runtime, which the transport goes on to use.
    pub fn start(
        self,
        mut config: TransportConfig,
        sink: Arc<dyn PeerSink>,
    ) -> std::io::Result<Transport> {
        config.tls = self.tls.or(config.tls);
        if config.advertised.peer_address.is_empty() {
            config.advertised.peer_address = self.local_addr.to_string();
        }
        let probes = self.probes.into_std()?;
        let shared = Arc::new(Shared::new(config, sink, probes.try_clone()?));
        let probes = UdpSocket::from_std(probes)?;
        shared.spawn(probe::receive(shared.clone(), probes));
        shared.spawn(probe::resolve(shared.clone()));
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(accept::serve(shared.clone(), self.listener, stopped));
        Ok(Transport {
            shared,
            server: Arc::new(Mutex::new(Some((stop, server)))),
            local_addr: self.local_addr,
        })
    }
}

type Running = (oneshot::Sender<()>, JoinHandle<()>);

/// The transport of a node. Clones are handles of the same one. It runs until
/// [`Transport::shutdown`]; dropping handles stops nothing.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
    server: Arc<Mutex<Option<Running>>>,
    local_addr: SocketAddr,
}

impl Transport {
    /// Binds TCP and UDP at the same port number; port 0 takes one that is free in both.
    pub async fn bind(address: SocketAddr) -> Result<BoundTransport, BindError> {
        let (listener, probes, local_addr) = bind_both(address).await?;
        Ok(BoundTransport { listener, probes, local_addr, tls: None })
    }

    /// Where peers reach this node.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Says which cluster this node is in, and its members with their peer addresses
    /// (`host:port`), this node among them. To be called whenever one of these changes; sessions
    /// with nodes that are no longer members end.
    pub fn set_roster(&self, cluster: ClusterId, members: BTreeMap<NodeId, String>) {
        self.set_roster_without(cluster, members, BTreeMap::new());
    }

    /// As [`Self::set_roster`]; the `removed` were members once, and hear with which ring version
    /// they were removed.
    pub fn set_roster_without(
        &self,
        cluster: ClusterId,
        members: BTreeMap<NodeId, String>,
        removed: BTreeMap<NodeId, u64>,
    ) {
        self.shared.set_roster(Roster { cluster, members, removed });
    }

    /// Says which process each member is, with the version of its entry in the catalogue. To be
    /// called before the roster that names them is set.
    pub fn set_holders(&self, holders: impl Iterator<Item = (NodeId, u64, Holder)>) {
        self.shared.learn_holders(holders);
    }

    /// Who was refused lately because another process is the node that it says it is.
    pub fn intruders(&self) -> Vec<Intruder> {
        self.shared.intruders()
    }

    /// Says that a member was met at `address`: it is dialled there too.
    pub fn met(&self, peer: NodeId, address: &str) {
        self.shared.met(peer, address);
    }

    /// Queues a message and returns at once.
    ///
    /// # Errors
    /// The message was certainly not sent. `Ok` says that it may be; if its connection breaks
    /// first, [`PeerSink::undelivered`] is told.
    pub fn send(&self, to: NodeId, message: Message) -> Result<(), Undelivered> {
        self.send_traced(to, message, None)
    }

    /// As [`Self::send`]; the message is a part of what is traced, if it is, and names this span.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_traced(
        &self,
        to: NodeId,
        message: Message,
        trace: Option<Place>,
    ) -> Result<(), Undelivered> {
        match read(&self.shared.sessions).get(&to) {
            Some(session) => session.send(message, trace),
            None => Err(Undelivered::NotConnected(to)),
        }
    }

    /// Sends a probe of at most [`PROBE_BYTES_MAX`] bytes to a member; it may get lost.
    pub fn send_probe(&self, to: NodeId, bytes: Bytes) {
        if let Some(roster) = self.shared.roster()
            && !self.shared.is_isolated()
        {
            let from = self.shared.me;
            self.shared.prober.send(roster.cluster, from, to, &self.shared.stamped(&bytes));
        }
    }

    /// The peers with which there is a session.
    pub fn connected(&self) -> Vec<NodeId> {
        read(&self.shared.sessions).keys().copied().collect()
    }

    /// The connected peers whose catalogues hold less than those of this level.
    pub fn below_level(&self, level: u32) -> Vec<NodeId> {
        let sessions = read(&self.shared.sessions);
        let below = sessions.iter().filter(|(_, session)| session.feature_level < level);
        below.map(|(peer, _)| *peer).collect()
    }

    /// Gets the bytes of a module from a peer; their digest is checked.
    pub async fn fetch_module(
        &self,
        from: NodeId,
        digest: ModuleDigest,
    ) -> Result<Bytes, FetchError> {
        let session = read(&self.shared.sessions).get(&from).cloned();
        let session = session.ok_or(FetchError::NotConnected(from))?;
        module::fetch(&session, digest).await
    }

    /// Cuts this node off, or heals it: while it is isolated every frame and probe, outgoing and
    /// incoming, is dropped without a word. What was on its way in the kernel may still
    /// leave.
    ///
    /// # Errors
    /// Faults must be enabled in [`TransportConfig::enable_faults`].
    pub fn set_isolated(&self, is_isolated: bool) -> Result<(), FaultsDisabled> {
        if !self.shared.config.enable_faults {
            return Err(FaultsDisabled);
        }
        self.shared.isolated.store(is_isolated, Ordering::Release);
        Ok(())
    }

    /// Whether the node is cut off by [`Self::set_isolated`].
    pub fn is_isolated(&self) -> bool {
        self.shared.is_isolated()
    }

    /// Ends all sessions and frees the port. Later sends find no connection.
    pub async fn shutdown(&self) {
        self.shared.stop().await;
        let running = lock(&self.server).take();
        if let Some((stop, mut server)) = running {
            let _ = stop.send(());
            if tokio::time::timeout(SHUTDOWN_GRACE, &mut server).await.is_err() {
                server.abort();
                let _ = server.await;
            }
        }
    }
}

/// Binds TCP and UDP at the same port number; port 0 takes one that is free in both. Tells where.
pub(crate) async fn bind_both(address: SocketAddr) -> Result<Sockets, BindError> {
    let mut tries = if address.port() == 0 { BIND_TRIES } else { 1 };
    loop {
        tries -= 1;
        match bind_once(address).await {
            Ok(bound) => return Ok(bound),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

async fn bind_once(address: SocketAddr) -> Result<Sockets, BindError> {
    let failed = |protocol| move |source| BindError { address, protocol, source };
    let listener = TcpListener::bind(address).await.map_err(failed("TCP"))?;
    let local_addr = listener.local_addr().map_err(failed("TCP"))?;
    let probes = UdpSocket::bind(local_addr).await.map_err(failed("UDP"))?;
    Ok((listener, probes, local_addr))
}

/// Locks a mutex. Nothing here leaves a value half changed, so one that a panic left locked is
/// as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
