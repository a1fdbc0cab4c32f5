//! What a transport is told, and its limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stator_core::holder::Holder;
use stator_core::id::{ClusterId, Incarnation, NodeId};

use super::setup::SetupDesk;
use crate::budget::ByteBudget;
use crate::listen::DoorLimits;
use crate::tls::{ClientTls, Tls};

/// See [`TransportConfig::reads`].
const READS_BYTES_MAX: usize = 128 << 20;

/// The protocol versions that this program speaks, oldest and newest.
pub const PROTOCOL_MIN: u32 = 3;
/// See [`PROTOCOL_MIN`].
pub const PROTOCOL_MAX: u32 = 7;
/// The version since which frames may name a trace.
pub(super) const TRACED_SINCE: u32 = 7;

/// The largest message, encoded: an object of 64 MiB and what surrounds it.
pub const MESSAGE_BYTES_MAX: usize = 65 << 20;
/// The most messages that are written at once.
pub const WRITE_MESSAGES_MAX: usize = 64;
/// No further message is written at once with those that weigh this much.
pub const WRITE_BYTES_FULL: usize = 256 << 10;
/// The largest frame: its kind, and a message.
pub const FRAME_BYTES_MAX: usize = 1 + MESSAGE_BYTES_MAX;
/// The largest frame of who has not proved to know the secret: a hello is less.
pub const STRANGER_FRAME_BYTES_MAX: usize = 16 << 10;

/// The most messages that wait for one peer, by default.
pub const QUEUE_MESSAGES_MAX: usize = 8_192;
/// The most bytes that wait for one peer, by default: room for one object of the largest size.
pub const QUEUE_BYTES_MAX: usize = 96 << 20;

/// The largest module that is fetched.
pub const MODULE_BYTES_MAX: u64 = 64 << 20;
/// A module travels in chunks of this size, between messages.
pub const MODULE_CHUNK_BYTES: usize = 256 << 10;
/// The most module fetches that a node serves one peer at a time.
pub const MODULE_FETCHES_MAX: usize = 4;
/// A fetch whose next chunk takes longer has failed.
pub const MODULE_STALL: Duration = Duration::from_secs(10);

/// Both hellos and proofs must have arrived by then.
pub(super) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(2);
/// A peer must accept a connection by then.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
/// The shortest wait before a peer is dialled again; it doubles with each failure.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest wait before a peer is dialled again.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A sign of life is sent so often.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// A connection without one for so many intervals is broken.
pub(super) const HEARTBEATS_MISSED: u32 = 3;

/// Who this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its id.
    pub node: NodeId,
    /// Its present life.
    pub incarnation: Incarnation,
}

/// What a transport is started with.
#[derive(Clone)]
pub struct TransportConfig {
    /// Who this node is.
    pub me: PeerIdentity,
    /// Where it is reached, as it tells others; its start is that of `me`.
    pub advertised: Holder,
    /// The secret that all nodes of the cluster share: what this node proves.
    pub secret: [u8; 32],
    /// Other secrets that peers may prove, while the cluster changes from one to the next.
    pub previous_secrets: Vec<[u8; 32]>,
    /// The certificates with which nodes meet; without them they speak plain text.
    pub tls: Option<Arc<Tls>>,
    /// What the listener's door lets in.
    pub door: DoorLimits,
    /// What values that replicas answer with may take until they are handed on.
    pub reads: ByteBudget,
    /// Whether [`Transport::set_isolated`](super::Transport::set_isolated) works.
    pub enable_faults: bool,
    /// Who answers nodes that want to make a cluster; without one nobody does.
    pub setup_desk: Option<Arc<dyn SetupDesk>>,
    /// The most messages that wait for one peer.
    pub queue_messages_max: usize,
    /// The most bytes that wait for one peer, as messages weigh in memory.
    pub queue_bytes_max: usize,
}

impl TransportConfig {
    /// The defaults, faults disabled.
    pub fn new(me: PeerIdentity, secret: [u8; 32]) -> Self {
        TransportConfig {
            me,
            advertised: Holder::default(),
            secret,
            previous_secrets: Vec::new(),
            tls: None,
            door: DoorLimits::default(),
            reads: ByteBudget::new(READS_BYTES_MAX),
            enable_faults: false,
            setup_desk: None,
            queue_messages_max: QUEUE_MESSAGES_MAX,
            queue_bytes_max: QUEUE_BYTES_MAX,
        }
    }

    /// The secrets that a peer may prove, this node's own first.
    pub(super) fn accepted_secrets(&self) -> impl Iterator<Item = &[u8; 32]> {
        std::iter::once(&self.secret).chain(&self.previous_secrets)
    }

    /// The TLS with which peers are dialled now.
    pub(super) fn dialler(&self) -> Option<ClientTls> {
        self.tls.as_ref().and_then(|tls| tls.dialler())
    }
}

/// The cluster and who belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Roster {
    pub cluster: ClusterId,
    /// Members with their peer addresses, `host:port`.
    pub members: BTreeMap<NodeId, String>,
    /// The former members, with the ring version that each was removed with.
    pub removed: BTreeMap<NodeId, u64>,
}
