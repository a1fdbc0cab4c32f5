//! What all tasks of a transport share.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

use stator_core::holder::Holders;
use stator_core::id::{ClusterId, Incarnation, NodeId};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::config::{Roster, TransportConfig};
use super::handshake::HandshakeError;
use super::probe::Prober;
use super::session::Session;
use super::setup::CALLS_MAX;
use super::{PeerSink, dial, lock};

pub(super) struct Shared {
    pub me: NodeId,
    pub incarnation: Incarnation,
    pub config: TransportConfig,
    pub sink: Arc<dyn PeerSink>,
    pub roster: watch::Sender<Option<Arc<Roster>>>,
    pub sessions: RwLock<BTreeMap<NodeId, Arc<Session>>>,
    /// Held while a session comes or goes and the sink is told.
    pub announcing: Mutex<()>,
    pub isolated: AtomicBool,
    /// What isolation has dropped: frames and probes.
    pub dropped: AtomicU64,
    pub prober: Prober,
    pub holders: Mutex<Holders>,
    pub started: Instant,
    /// Turns of reading what callers want.
    pub calls: Semaphore,
    /// Counts the processes that asked to be found.
    pub asked: watch::Sender<u64>,
    /// The peers that a task keeps dialled.
    dialled: Mutex<BTreeSet<NodeId>>,
    /// Where members were met that had moved; the roster tells once they have a session.
    found: Mutex<BTreeMap<NodeId, String>>,
    /// The failure that was logged last, so that each is logged once while it lasts.
    last_failure: Mutex<BTreeMap<Option<NodeId>, String>>,
    /// `None` once the transport is stopped.
    tasks: Mutex<Option<JoinSet<()>>>,
    runtime: Handle,
}

impl Shared {
    pub fn new(
        config: TransportConfig,
        sink: Arc<dyn PeerSink>,
        probes: std::net::UdpSocket,
    ) -> Self {
        Shared {
            me: config.me.node,
            incarnation: config.me.incarnation,
            prober: Prober::new(probes, config.accepted_secrets()),
            config,
            sink,
            roster: watch::Sender::new(None),
            sessions: RwLock::default(),
            holders: Mutex::default(),
            started: Instant::now(),
            calls: Semaphore::new(CALLS_MAX),
            asked: watch::Sender::default(),
            announcing: Mutex::default(),
            isolated: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            dialled: Mutex::default(),
            found: Mutex::default(),
            last_failure: Mutex::default(),
            tasks: Mutex::new(Some(JoinSet::new())),
            runtime: Handle::current(),
        }
    }

    /// Runs a task until it ends or the transport stops.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = lock(&self.tasks).as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn_on(task, &self.runtime);
        }
    }

    /// Ends all tasks, and with them all sessions.
    pub async fn stop(&self) {
        let tasks = lock(&self.tasks).take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
    }

    pub fn roster(&self) -> Option<Arc<Roster>> {
        self.roster.borrow().clone()
    }

    pub fn is_member(&self, cluster: ClusterId, node: NodeId) -> bool {
        self.roster()
            .is_some_and(|roster| roster.cluster == cluster && roster.members.contains_key(&node))
    }

    pub fn is_isolated(&self) -> bool {
        self.isolated.load(Ordering::Acquire)
    }

    pub fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub fn set_roster(self: &Arc<Self>, roster: Roster) {
        let roster = Arc::new(roster);
        self.prober.set_roster(&roster);
        self.roster.send_replace(Some(roster.clone()));
        lock(&self.holders).retain(|node| roster.members.contains_key(&node));
        let mut dialled = lock(&self.dialled);
        for &peer in roster.members.keys().filter(|peer| **peer != self.me) {
            if dialled.insert(peer) {
                self.spawn(dial::keep_dialled(self.clone(), peer));
            }
        }
    }

    /// The peer's address, or `None` if it is no member any more: then its dialler must end.
    pub fn address_or_retire(&self, peer: NodeId) -> Option<String> {
        // Under the lock, so that a roster that brings the peer back starts another dialler.
        let mut dialled = lock(&self.dialled);
        let address = self.roster().and_then(|r| r.members.get(&peer).cloned());
        if address.is_none() {
            dialled.remove(&peer);
        }
        address
    }

    /// A member was met at another address than the roster has.
    pub fn met(&self, peer: NodeId, address: &str) {
        let Some(roster) = self.roster() else { return };
        let is_news = roster.members.get(&peer).is_some_and(|known| known != address)
            && lock(&self.found).insert(peer, address.to_owned()).is_none_or(|at| at != address);
        if is_news {
            tracing::info!(%peer, address, "a member was met where it was not before");
            // Whoever waits to dial it need not.
            self.roster.send_replace(Some(roster));
        }
    }

    /// Where else than at `address` the peer may be.
    pub fn elsewhere(&self, peer: NodeId, address: &str) -> Option<String> {
        lock(&self.found).get(&peer).filter(|found| *found != address).cloned()
    }

    /// Logs a connection that came to nothing, once while the reason lasts.
    pub fn note_failed(&self, dialled: Option<(NodeId, &str)>, error: &HandshakeError) {
        let peer = dialled.map(|(peer, _)| peer);
        let address = dialled.map_or("", |(_, address)| address);
        let reason = error.to_string();
        let before = lock(&self.last_failure).insert(peer, reason.clone());
        if let HandshakeError::HeldByAnother { holder, .. } = error {
            self.sink.held_by(holder.clone());
        }
        if before.as_ref() == Some(&reason) || error.passes() {
            tracing::debug!(?peer, address, reason, "no session with a peer");
        } else {
            tracing::warn!(?peer, address, reason, "no session with a peer");
        }
        if error.is_refusal() {
            self.sink.refused(peer, &reason);
        }
    }

    /// A session came about: the next failure is news.
    pub fn note_connected(&self, peer: NodeId) {
        let mut last = lock(&self.last_failure);
        last.remove(&Some(peer));
        last.remove(&None);
    }
}
