//! Transports on loopback, and clients that mean no good.

mod faults;
mod hostile;
mod refusals;
mod sessions;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use stator_core::id::{ClusterId, Incarnation, ModuleDigest, NodeId};
use stator_core::message::{Message, RequestId};
use tokio::sync::Notify;

use super::{PeerIdentity, PeerSink, Room, Transport, TransportConfig, lock};

const CLUSTER: ClusterId = ClusterId(0xC1);
const SECRET: [u8; 32] = [7; 32];
/// A test that waits longer hangs. Nothing is measured by it.
const HANG: Duration = Duration::from_secs(60);

/// Everything that a sink was told.
#[derive(Default, Clone)]
struct Heard {
    received: Vec<(NodeId, Message)>,
    probes: Vec<Bytes>,
    connects: Vec<NodeId>,
    disconnects: Vec<NodeId>,
    undelivered: Vec<RequestId>,
    refused: Vec<String>,
}

/// A sink that remembers, serves modules and can be made to stand still.
#[derive(Default)]
struct Ear {
    heard: Mutex<Heard>,
    news: Notify,
    modules: Mutex<BTreeMap<ModuleDigest, Bytes>>,
    /// While locked, `received` stands still, as a node that is stopped would.
    gate: Mutex<()>,
}

impl Ear {
    fn hear(&self, note: impl FnOnce(&mut Heard)) {
        note(&mut lock(&self.heard));
        self.news.notify_waiters();
    }
}

impl PeerSink for Ear {
    fn received(
        &self,
        from: NodeId,
        message: Message,
        _: Option<&Room>,
        _: Option<crate::telemetry::traces::Place>,
    ) {
        let _gate = lock(&self.gate);
        self.hear(|heard| heard.received.push((from, message)));
    }
    fn probed(&self, bytes: Bytes) {
        self.hear(|heard| heard.probes.push(bytes));
    }
    fn connected(&self, peer: NodeId) {
        self.hear(|heard| heard.connects.push(peer));
    }
    fn disconnected(&self, peer: NodeId) {
        self.hear(|heard| heard.disconnects.push(peer));
    }
    fn undelivered(&self, _: NodeId, request: RequestId) {
        self.hear(|heard| heard.undelivered.push(request));
    }
    fn module(&self, digest: &ModuleDigest) -> Option<Bytes> {
        lock(&self.modules).get(digest).cloned()
    }
    fn refused(&self, _: Option<NodeId>, reason: &str) {
        self.hear(|heard| heard.refused.push(reason.to_owned()));
    }
}

/// A transport with its ear.
struct Peer {
    id: NodeId,
    transport: Transport,
    ear: Arc<Ear>,
}

impl Peer {
    async fn start(id: u64) -> Peer {
        Self::start_with(config(id)).await
    }

    async fn start_with(config: TransportConfig) -> Peer {
        let bound = Transport::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let id = config.me.node;
        let ear = Arc::new(Ear::default());
        let transport = bound.start(config, ear.clone()).unwrap();
        Peer { id, transport, ear }
    }

    fn address(&self) -> String {
        self.transport.local_addr().to_string()
    }

    /// Waits until what was heard is as `until` wants it.
    async fn hears(&self, what: &str, until: impl Fn(&Heard) -> bool) -> Heard {
        let waited = async {
            loop {
                let news = self.ear.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                let heard = lock(&self.ear.heard).clone();
                if until(&heard) {
                    return heard;
                }
                news.await;
            }
        };
        tokio::time::timeout(HANG, waited)
            .await
            .unwrap_or_else(|_| panic!("node {} never heard: {what}", self.id))
    }

    /// Waits until the last thing heard of `peer` is that it came.
    async fn is_connected_to(&self, peer: &Peer) {
        let of = |list: &[NodeId]| list.iter().filter(|id| **id == peer.id).count();
        self.hears("a connection", |heard| of(&heard.connects) == of(&heard.disconnects) + 1).await;
    }

    /// Waits until isolation has dropped so many messages here.
    async fn has_dropped(&self, count: u64) {
        let waited = async {
            while self.transport.shared.dropped.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(HANG, waited).await;
        waited.unwrap_or_else(|_| panic!("node {} never dropped {count}", self.id));
    }

    async fn hears_refusal(&self, words: &str) {
        let has = |heard: &Heard| heard.refused.iter().any(|reason| reason.contains(words));
        self.hears(words, has).await;
    }
}

fn config(id: u64) -> TransportConfig {
    let me = PeerIdentity { node: NodeId(id), incarnation: Incarnation(1) };
    TransportConfig { enable_faults: true, ..TransportConfig::new(me, SECRET) }
}

fn roster(peers: &[&Peer]) -> BTreeMap<NodeId, String> {
    peers.iter().map(|peer| (peer.id, peer.address())).collect()
}

/// Tells all of them of one another and waits for their sessions.
async fn join(peers: &[&Peer]) {
    for peer in peers {
        peer.transport.set_roster(CLUSTER, roster(peers));
    }
    for peer in peers {
        for other in peers.iter().filter(|other| other.id != peer.id) {
            peer.is_connected_to(other).await;
        }
    }
}

async fn pair() -> (Peer, Peer) {
    let (a, b) = (Peer::start(1).await, Peer::start(2).await);
    join(&[&a, &b]).await;
    (a, b)
}

/// A message that can be told apart.
fn numbered(request: u64) -> Message {
    Message::WriteReply { request, result: Ok(()) }
}

fn numbers_from(heard: &Heard, from: &Peer) -> Vec<u64> {
    let number = |(sender, message): &(NodeId, Message)| match message {
        Message::WriteReply { request, .. } if *sender == from.id => Some(*request),
        _ => None,
    };
    heard.received.iter().filter_map(number).collect()
}
