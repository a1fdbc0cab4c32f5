//! Who is reachable: SWIM, by the `foca` crate.
//!
//! The detector only says who is reachable. It never changes who is a member: that is an
//! operator's decision, in the catalogue. A member counts as reachable until it is declared
//! down, so that a cluster that just started is not slower than one that runs.
//!
//! Source: Das, Gupta, Motivala: "SWIM: Scalable Weakly-consistent Infection-style Process Group
//! Membership Protocol", DSN 2002. The settings find a dead node in about 2 s for 5 to 100
//! nodes. A lost join packet would leave a node out for good: the roster of the catalogue is
//! therefore announced to again every [`ROSTER_PERIOD_MS`] where it is not seen as active.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::time::Duration;

use bytes::Bytes;
use foca::{Config, Foca, Identity, Notification, PeriodicParams, PostcardCodec, Runtime, Timer};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// How often members that are not seen as active are announced to, in milliseconds.
pub const ROSTER_PERIOD_MS: u64 = 2_000;
/// The largest probe, in bytes: fits a datagram on any network of today.
pub const PROBE_BYTES_MAX: usize = 1_300;

/// A node as SWIM knows it. Renewing lets it come back after it was declared down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Probed {
    node: u64,
    /// Of two identities of a node the one of higher rank stands. It begins as the time of the
    /// start in milliseconds since 1970 (UTC), so that a later life wins over an earlier one.
    rank: u64,
    renewals: u32,
}

/// The longest step of a renewal, as a power of two in milliseconds: some 35 years.
const STEP_BITS_MAX: u32 = 40;

impl Identity for Probed {
    type Addr = u64;

    /// Steps double: a life that started with a clock behind that of an earlier life is told
    /// that it is down, again and again, until its rank has caught up. It does in as many
    /// rounds as the difference has binary digits.
    fn renew(&self) -> Option<Self> {
        let step = 1 << self.renewals.min(STEP_BITS_MAX);
        let rank = self.rank.saturating_add(step);
        Some(Probed { rank, renewals: self.renewals.saturating_add(1), ..*self })
    }

    fn addr(&self) -> u64 {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.rank, self.renewals) > (adversary.rank, adversary.renewals)
    }
}

/// A timer of the detector: hand it back when its time has come.
#[derive(Debug, Clone)]
pub struct DetectorTimer(Timer<Probed>);

/// What the detector wants done.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Probes to send.
    pub probes: Vec<(NodeId, Bytes)>,
    /// Timers to set, with their delay in milliseconds.
    pub timers: Vec<(u64, DetectorTimer)>,
    /// Members that became reachable.
    pub up: Vec<NodeId>,
    /// Members that became unreachable.
    pub down: Vec<NodeId>,
}

impl Runtime<Probed> for Wishes {
    fn notify(&mut self, notification: Notification<'_, Probed>) {
        match notification {
            Notification::MemberUp(member) => self.up.push(NodeId(member.node)),
            Notification::MemberDown(member) => self.down.push(NodeId(member.node)),
            _ => {}
        }
    }

    fn send_to(&mut self, to: Probed, data: &[u8]) {
        self.probes.push((NodeId(to.node), Bytes::copy_from_slice(data)));
    }

    fn submit_after(&mut self, event: Timer<Probed>, after: Duration) {
        self.timers.push((after.as_millis() as u64, DetectorTimer(event)));
    }
}

/// The failure detector of one node.
pub struct Detector {
    me: NodeId,
    foca: Foca<Probed, PostcardCodec, ChaCha8Rng, foca::NoCustomBroadcast>,
    active: BTreeSet<NodeId>,
    down: BTreeSet<NodeId>,
}

impl Detector {
    /// A detector for `me`, started at `started_ms` (milliseconds since 1970, UTC).
    pub fn new(me: NodeId, started_ms: u64, rng: ChaCha8Rng) -> Self {
        let identity = Probed { node: me.0, rank: started_ms, renewals: 0 };
        Detector {
            me,
            foca: Foca::new(identity, config(), rng, PostcardCodec),
            active: BTreeSet::new(),
            down: BTreeSet::new(),
        }
    }

    /// Whether `node` is taken as reachable.
    pub fn is_reachable(&self, node: NodeId) -> bool {
        !self.down.contains(&node)
    }

    /// Announces to every member of the roster that is not active.
    pub fn announce(&mut self, roster: impl Iterator<Item = NodeId>) -> Wishes {
        let mut wishes = Wishes::default();
        for node in roster.filter(|node| !self.active.contains(node)).collect::<Vec<_>>() {
            // The address decides where it goes; the rest of the identity is not known yet.
            let target = Probed { node: node.0, rank: 0, renewals: 0 };
            // A probe that cannot be encoded is a lost probe: SWIM expects those.
            let _ = self.foca.announce(target, &mut wishes);
        }
        self.took(wishes)
    }

    /// A probe arrived.
    pub fn probed(&mut self, bytes: &[u8]) -> Wishes {
        let mut wishes = Wishes::default();
        // What cannot be decoded, or is of the past, changes nothing.
        let _ = self.foca.handle_data(bytes, &mut wishes);
        self.took(wishes)
    }

    /// A timer's time has come.
    pub fn fired(&mut self, timer: DetectorTimer) -> Wishes {
        let mut wishes = Wishes::default();
        let _ = self.foca.handle_timer(timer.0, &mut wishes);
        self.took(wishes)
    }

    fn took(&mut self, mut wishes: Wishes) -> Wishes {
        // An earlier life of this node is a member like any other until it is declared down.
        wishes.up.retain(|node| *node != self.me);
        wishes.down.retain(|node| *node != self.me);
        // A node that comes back under a new identity may be reported down after it is up.
        let states: BTreeMap<NodeId, ()> =
            self.foca.iter_members().map(|member| (NodeId(member.id().node), ())).collect();
        wishes.down.retain(|node| !states.contains_key(node));
        for node in &wishes.up {
            self.active.insert(*node);
            self.down.remove(node);
        }
        for node in &wishes.down {
            self.active.remove(node);
            self.down.insert(*node);
        }
        wishes
    }
}

fn config() -> Config {
    let often = |ms: u64, count: usize| {
        NonZero::new(count)
            .map(|num_members| PeriodicParams { frequency: Duration::from_millis(ms), num_members })
    };
    Config {
        probe_period: Duration::from_millis(400),
        probe_rtt: Duration::from_millis(120),
        suspect_to_down_after: Duration::from_millis(1_200),
        remove_down_after: None,
        max_packet_size: const { NonZero::new(PROBE_BYTES_MAX).unwrap() },
        notify_down_members: true,
        periodic_announce: often(30_000, 1),
        periodic_announce_to_down_members: often(5_000, 2),
        periodic_gossip: often(200, 3),
        ..Config::simple()
    }
}
