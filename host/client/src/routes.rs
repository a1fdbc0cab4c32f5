//! Whom a request for a key goes to, and how the client comes to know that.
//!
//! # The ring
//! The first request starts a task that fetches the ring from any node, and does so again every ten
//! seconds, when an answer names a newer ring, when an owner says that it is none, and when a node
//! does not answer; at most twice a second. A node that has nothing new to tell sends an etag. The
//! task ends when no request was made for as long, and with the client; it keeps neither the client
//! nor the process alive. No request waits for it: without a ring, or with a wrong one, it goes to an
//! endpoint or to a node that is no owner, which forwards it.
//!
//! # The owner
//! Of a key's owners the one is asked that costs least ([`crate::pace`]); of a write with a request
//! id the first in order, because that one gives it its dot whoever is asked. One that does not
//! answer is passed over until it has answered this task, which asks it every second.
//!
//! Left out: which partitions are on the move. A partition that was handed over since the last fetch
//! is asked for at its old owner for ten seconds at most, which is as good as any other node.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures::future::join_all;
use stator_proto::v1;
use stator_proto::v1::routing_client::RoutingClient;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use crate::error::Error;
use crate::line::Line;
use crate::nodes::{ANSWER_BYTES_MAX, Nodes, Plan};
use crate::options::Coordination;
use crate::peer::{Kind, Outcome, Peer, by_cost};
use crate::retry::Safety;
use crate::ring::{Ring, Route};

/// How old the ring may get.
const PERIOD: Duration = Duration::from_secs(10);
/// How often silent nodes are asked whether they are back.
const SILENT_PERIOD: Duration = Duration::from_secs(1);
/// How long the task rests at least, whatever it hears.
const REST: Duration = Duration::from_millis(500);
/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to HOST:PORT, when the channel is first used.
pub(crate) type Dial = Box<dyn Fn(&str) -> Result<Channel, tonic::transport::Error> + Send + Sync>;

/// The way to the nodes.
pub(crate) struct Routes {
    pub(crate) nodes: Arc<Nodes>,
    /// Without it only the endpoints can be reached.
    dial: Option<Dial>,
    known: RwLock<Option<Arc<Known>>>,
    is_used: AtomicBool,
    is_kept: AtomicBool,
}

/// A ring with the ways to its members; a member has none if its address cannot be dialled.
#[derive(Debug)]
struct Known {
    ring: Ring,
    peers: Vec<Option<Arc<Peer>>>,
}

/// The owners of a key that can be dialled, in the order of the preference list.
#[derive(Debug)]
pub(crate) struct Owners {
    pub(crate) route: Route,
    pub(crate) ring_version: u64,
    pub(crate) peers: Vec<Arc<Peer>>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.nodes.trouble.notify_one();
    }
}

impl Routes {
    pub(crate) fn new(nodes: Nodes, dial: Option<Dial>) -> Arc<Self> {
        let (is_used, is_kept) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Routes {
            nodes: Arc::new(nodes),
            dial,
            known: RwLock::default(),
            is_used,
            is_kept,
        })
    }

    /// Who coordinates. Without a way to dial them owners can do nothing.
    pub(crate) fn coordination(&self) -> Coordination {
        match self.dial {
            Some(_) => self.nodes.options.coordination,
            None => Coordination::Any,
        }
    }

    /// The owners of a key, if they are known.
    pub(crate) fn owners(self: &Arc<Self>, keyspace: &str, key: &[u8]) -> Option<Owners> {
        if self.coordination() == Coordination::Any {
            return None;
        }
        self.keep_ring();
        let known = self.known()?;
        let (route, owners) = known.ring.owners(keyspace, key)?;
        let peers = owners.filter_map(|place| known.peers.get(place)?.clone()).collect();
        Some(Owners { route, ring_version: known.ring.version, peers })
    }

    /// How a message about a key goes: to one of its owners, or to an endpoint. Where a region's owners are
    /// to count it must be the same region each time: that of the endpoints.
    pub(crate) fn plan(
        self: &Arc<Self>,
        (keyspace, key): (&str, &[u8]),
        quorum: v1::Quorum,
        (kind, safety, deadline): (Kind, Safety, Instant),
    ) -> Plan {
        let owners = match quorum {
            v1::Quorum::Local => None,
            _ => self.owners(keyspace, key),
        };
        let peers = owners.map(|owners| owners.peers).unwrap_or_default();
        let route = match kind == Kind::Write && safety == Safety::Repeatable {
            true => peers.into_iter().filter(|peer| !peer.is_silent()).collect(),
            false => by_cost(peers, kind),
        };
        Plan { route, kind, safety, deadline }
    }

    /// The members, if they are known: their ids, and where they are.
    pub(crate) fn members(self: &Arc<Self>) -> Vec<(String, String)> {
        self.keep_ring();
        let Some(known) = self.known() else { return Vec::new() };
        known.ring.nodes.iter().cloned().zip(known.ring.addresses.iter().cloned()).collect()
    }

    /// A connection of its own to a node, made when it is first used; `None` if none can be made.
    pub(crate) fn line(&self, address: &str) -> Option<Line> {
        let channel = self.dial.as_ref()?(address).ok()?;
        Some(Line::new(channel).bearing(self.nodes.options.bears()))
    }

    /// Whether nodes can be reached beside the endpoints.
    pub(crate) fn can_dial(&self) -> bool {
        self.dial.is_some()
    }

    /// An answer names this ring.
    pub(crate) fn heard(&self, ring_version: u64) {
        if self.known().is_some_and(|known| known.ring.version < ring_version) {
            self.note_stale();
        }
    }

    /// The ring is another one by now.
    pub(crate) fn note_stale(&self) {
        self.nodes.trouble.notify_one();
    }

    /// Fetches the ring, if it is another one; its version.
    pub(crate) async fn fetch(&self) -> Result<u64, Error> {
        let known = self.known();
        let members = known.iter().flat_map(|known| known.peers.iter().flatten().cloned());
        let mut route = by_cost(members, Kind::Other);
        route.truncate(2);
        let (kind, safety) = (Kind::Other, Safety::Repeatable);
        let deadline = Instant::now() + FETCH_TIMEOUT.min(self.nodes.timeout());
        let plan = Plan { route, kind, safety, deadline };
        let etag = known.as_ref().map(|known| known.ring.etag.clone()).unwrap_or_default();
        let request = v1::GetRingRequest { etag, packed: true, ..Default::default() };
        let send = async |channel, request| routing(channel).get_ring(request).await;
        let answer = self.nodes.call_by(plan, request, send).await?;
        if let Some(ring) = answer.ring.and_then(|ring| Ring::read(ring, answer.etag)) {
            self.learn(ring, known.as_deref());
        }
        Ok(answer.ring_version)
    }

    fn learn(&self, ring: Ring, before: Option<&Known>) {
        // A node that has not heard of it yet may be asked; a cluster may be made anew.
        let is_older = |before: &Known| {
            before.ring.cluster == ring.cluster && before.ring.version > ring.version
        };
        if before.is_some_and(is_older) {
            return;
        }
        let former = before.iter().flat_map(|known| known.peers.iter().flatten());
        let former: Vec<&Arc<Peer>> = former.chain(&self.nodes.endpoints).collect();
        let peer = |address: &String| {
            let former = former.iter().find(|peer| peer.address == *address);
            former.map(|peer| Arc::clone(peer)).or_else(|| {
                let channel = self.dial.as_ref()?(address).ok()?;
                let peer = Peer::new(address.clone(), channel);
                Some(Arc::new(peer.bearing(self.nodes.options.bears())))
            })
        };
        let peers = ring.addresses.iter().map(peer).collect();
        let known = Some(Arc::new(Known { ring, peers }));
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    fn known(&self) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the members that are silent whether they are back; whether there were any.
    async fn probe(&self) -> bool {
        let Some(known) = self.known() else { return false };
        let silent = known.peers.iter().flatten().filter(|peer| peer.is_silent());
        let probe = async |peer: &Arc<Peer>| {
            let asked = peer.ask(Kind::Other);
            let etag = known.ring.etag.clone();
            let request = v1::GetRingRequest { etag, packed: true, ..Default::default() };
            let mut client = routing(peer.channel.clone());
            let answer = timeout(SILENT_PERIOD, client.get_ring(request)).await;
            let is_back = matches!(&answer, Ok(Ok(_)));
            asked.end(if is_back { Outcome::Answered } else { Outcome::Silent });
        };
        !join_all(silent.map(probe)).await.is_empty()
    }

    /// A request is made: the ring is kept from now on.
    fn keep_ring(self: &Arc<Self>) {
        self.is_used.store(true, Ordering::Relaxed);
        if !self.is_kept.load(Ordering::Relaxed) && !self.is_kept.swap(true, Ordering::Relaxed) {
            let keeper = Keeper(Arc::downgrade(self));
            tokio::spawn(keeper.run(self.nodes.trouble.clone()));
        }
    }
}

fn routing(channel: Line) -> RoutingClient<Line> {
    RoutingClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Keeps the ring while the client is used. Its end is noted even if its runtime ends first.
struct Keeper(Weak<Routes>);

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(routes) = self.0.upgrade() {
            routes.is_kept.store(false, Ordering::Relaxed);
        }
    }
}

impl Keeper {
    async fn run(self, trouble: Arc<Notify>) {
        while let Some(routes) = self.0.upgrade() {
            if !routes.is_used.swap(false, Ordering::Relaxed) {
                return;
            }
            // If nobody has it, the next round comes; requests go to the endpoints meanwhile.
            let is_known = routes.fetch().await.is_ok() && routes.known().is_some();
            let has_silent = routes.probe().await;
            drop(routes);
            let wait = if is_known && !has_silent { PERIOD } else { SILENT_PERIOD };
            sleep(REST).await;
            // Nothing that was asked for since may be missed.
            let _ = timeout(wait - REST, trouble.notified()).await;
        }
    }
}
