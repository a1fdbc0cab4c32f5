//! Probes: datagrams on a socket of their own, at the port number of the peer listener.
//!
//! Failure detection must not wait behind bulk data, so it shares nothing with the streams. A
//! datagram is `version 1, sender 8, tag 32, payload`, the payload begins with the sender's start; the tag is BLAKE3, keyed by the cluster
//! secret, over version, cluster, sender, receiver and payload. What does not fit is dropped
//! without a word to the sender.
//!
//! Left out: protection against replayed probes. SWIM's incarnations make old news harmless.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stator_core::id::{ClusterId, NodeId};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::config::Roster;
use super::{Shared, lock, read, write};

/// The largest datagram: it passes every usual network in one piece.
pub const DATAGRAM_BYTES_MAX: usize = 1_400;
/// The largest probe that fits into a datagram.
pub const PROBE_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - HEADER_BYTES;

// What the failure detector sends must fit.
const _: () = assert!(stator_core::failure::PROBE_BYTES_MAX + 8 <= PROBE_BYTES_MAX);

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 8 + blake3::OUT_LEN;
/// Members whose address is a name are looked up again after this long.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(10);
const RESOLVE_DEADLINE: Duration = Duration::from_secs(2);
/// The most addresses of one member that are sent probes.
const PLACES_MAX: usize = 8;
/// How long a member's address is taken for the right one after a probe came from it.
const HEARD_FOR: Duration = Duration::from_secs(5);
/// After an error of the socket, so that a lasting one does not fill the log.
const RECEIVE_PAUSE: Duration = Duration::from_millis(100);

/// A datagram that is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadProbe {
    #[error("its length or version is not one of a probe")]
    Malformed,
    #[error("its tag does not fit: it was made without the cluster's secret, or for another node")]
    WrongTag,
}

/// Seals and opens the datagrams of one node.
#[derive(Clone)]
pub(super) struct ProbeSeal {
    key: [u8; 32],
}

impl ProbeSeal {
    pub fn new(secret: &[u8; 32]) -> Self {
        ProbeSeal { key: blake3::derive_key("stator probe v1", secret) }
    }

    pub fn seal(&self, cluster: ClusterId, from: NodeId, to: NodeId, payload: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(HEADER_BYTES + payload.len());
        datagram.push(VERSION);
        datagram.extend_from_slice(&from.0.to_be_bytes());
        datagram.extend_from_slice(self.tag(cluster, from, to, payload).as_bytes());
        datagram.extend_from_slice(payload);
        datagram
    }

    /// The sender and the payload.
    pub fn open<'a>(
        &self,
        cluster: ClusterId,
        to: NodeId,
        datagram: &'a [u8],
    ) -> Result<(NodeId, &'a [u8]), BadProbe> {
        let (version, rest) = datagram.split_first().ok_or(BadProbe::Malformed)?;
        let (from, rest) = rest.split_first_chunk().ok_or(BadProbe::Malformed)?;
        let (tag, payload) = rest.split_first_chunk().ok_or(BadProbe::Malformed)?;
        if *version != VERSION || datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(BadProbe::Malformed);
        }
        let from = NodeId(u64::from_be_bytes(*from));
        // blake3::Hash compares in constant time.
        if self.tag(cluster, from, to, payload) != blake3::Hash::from_bytes(*tag) {
            return Err(BadProbe::WrongTag);
        }
        Ok((from, payload))
    }

    fn tag(&self, cluster: ClusterId, from: NodeId, to: NodeId, payload: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[VERSION]);
        hasher.update(&cluster.0.to_be_bytes());
        hasher.update(&from.0.to_be_bytes());
        hasher.update(&to.0.to_be_bytes());
        hasher.update(payload);
        hasher.finalize()
    }
}

/// The sending end, and where members are.
pub(super) struct Prober {
    socket: std::net::UdpSocket,
    /// The first one seals, each opens.
    seals: Vec<ProbeSeal>,
    places: RwLock<BTreeMap<NodeId, Places>>,
    /// What was warned of, so that it is said once while it lasts.
    said: Mutex<BTreeMap<NodeId, String>>,
}

/// Where one member's probes go.
#[derive(Debug, Default)]
struct Places {
    /// All its addresses that this node's socket can send to: a name may have several.
    all: Vec<SocketAddr>,
    /// The one that its last probe came from, and when: while it is heard from there, the others
    /// are left alone.
    heard: Option<(SocketAddr, Instant)>,
}

impl Places {
    fn aims(&self) -> &[SocketAddr] {
        let heard = self.heard.filter(|(_, at)| at.elapsed() < HEARD_FOR);
        let at = heard.and_then(|(from, _)| self.all.iter().position(|known| *known == from));
        match at {
            Some(at) => &self.all[at..=at],
            None => &self.all,
        }
    }

    /// Takes other addresses in, and goes on with the one that works.
    fn replace(&mut self, all: Vec<SocketAddr>) {
        self.heard = self.heard.filter(|(from, _)| all.contains(from));
        self.all = all;
    }
}

impl Prober {
    /// `socket` must not block. The first of `secrets` seals probes, each opens them.
    pub fn new<'a>(
        socket: std::net::UdpSocket,
        secrets: impl Iterator<Item = &'a [u8; 32]>,
    ) -> Self {
        let seals = secrets.map(ProbeSeal::new).collect();
        Prober { socket, seals, places: RwLock::default(), said: Mutex::default() }
    }

    fn open<'a>(
        &self,
        cluster: ClusterId,
        to: NodeId,
        datagram: &'a [u8],
    ) -> Result<(NodeId, &'a [u8]), BadProbe> {
        let opened = self.seals.iter().map(|seal| seal.open(cluster, to, datagram));
        opened.reduce(Result::or).unwrap_or(Err(BadProbe::WrongTag))
    }

    /// Sends a probe, if it is known where to; it may get lost.
    pub fn send(&self, cluster: ClusterId, from: NodeId, to: NodeId, payload: &[u8]) {
        if payload.len() > PROBE_BYTES_MAX {
            let (found, limit) = (payload.len(), PROBE_BYTES_MAX);
            tracing::error!(found, limit, "a probe is too large; it was not sent");
            return;
        }
        let places = read(&self.places);
        let (Some(places), Some(seal)) = (places.get(&to), self.seals.first()) else { return };
        let datagram = seal.seal(cluster, from, to, payload);
        let mut failed = None;
        for address in places.aims() {
            match self.socket.send_to(&datagram, address) {
                Ok(_) => failed = Some(None),
                Err(error) if failed.is_none() => {
                    failed = Some(Some(format!("no probe leaves for {address}: {error}")));
                }
                Err(_) => {}
            }
        }
        // One address that takes probes is enough.
        if let Some(words) = failed {
            self.say(to, words);
        }
    }

    /// Says what is wrong with a member's addresses, once while it lasts.
    fn say(&self, node: NodeId, words: Option<String>) {
        let mut said = lock(&self.said);
        if let Some(words) = &words
            && said.get(&node) != Some(words)
        {
            tracing::warn!(peer = %node, "{words}");
        }
        match words {
            Some(words) => drop(said.insert(node, words)),
            None => drop(said.remove(&node)),
        }
    }

    /// A probe of `node` came from there.
    fn heard(&self, node: NodeId, from: SocketAddr) {
        if let Some(places) = write(&self.places).get_mut(&node) {
            places.heard = Some((from, Instant::now()));
        }
    }

    /// Those of a member's addresses that this node's socket can send to.
    fn usable(&self, node: NodeId, name: &str, found: &[SocketAddr]) -> Vec<SocketAddr> {
        let Ok(own) = self.socket.local_addr() else { return found.to_vec() };
        let usable = |address: &SocketAddr| match (own.ip(), address.ip().to_canonical()) {
            (IpAddr::V4(_), IpAddr::V4(ip)) => Some(SocketAddr::new(ip.into(), address.port())),
            (IpAddr::V6(_), IpAddr::V6(_)) => Some(*address),
            // A socket for all addresses of the machine takes both families.
            (IpAddr::V6(own), IpAddr::V4(ip)) if own.is_unspecified() => {
                Some(SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()))
            }
            _ => None,
        };
        let usable: Vec<SocketAddr> = found.iter().filter_map(usable).take(PLACES_MAX).collect();
        let words = match (usable.is_empty(), usable.len() < found.len()) {
            (true, _) => Some(format!(
                "no probe can be sent to {name} ({found:?}) from {own}: listen for peers at an \
                 address of that family too"
            )),
            (false, true) => {
                Some(format!("of {name} ({found:?}) only {usable:?} can be sent probes from {own}"))
            }
            (false, false) => None,
        };
        self.say(node, words);
        usable
    }

    /// Takes in the addresses that need no lookup and forgets who left.
    pub fn set_roster(&self, roster: &Roster) {
        let mut places = write(&self.places);
        places.retain(|node, _| roster.members.contains_key(node));
        for (node, name) in &roster.members {
            if let Ok(address) = name.parse() {
                places.entry(*node).or_default().replace(self.usable(*node, name, &[address]));
            }
        }
    }
}

/// Looks up members whose address is a name, for as long as the transport runs.
pub(super) async fn resolve(shared: Arc<Shared>) {
    let mut roster = shared.roster.subscribe();
    loop {
        let known = roster.borrow_and_update().clone();
        for (node, address) in known.iter().flat_map(|roster| &roster.members) {
            if address.parse::<SocketAddr>().is_ok() {
                continue;
            }
            let prober = &shared.prober;
            match timeout(RESOLVE_DEADLINE, tokio::net::lookup_host(address)).await {
                Ok(Ok(found)) => {
                    let found: Vec<SocketAddr> = found.collect();
                    let usable = prober.usable(*node, address, &found);
                    write(&prober.places).entry(*node).or_default().replace(usable);
                }
                // What was found before may still be right.
                Ok(Err(error)) => prober.say(*node, Some(format!("who is {address}? {error}"))),
                Err(_) => prober.say(*node, Some(format!("the lookup of {address} takes long"))),
            }
        }
        tokio::select! {
            _ = roster.changed() => {}
            () = tokio::time::sleep(RESOLVE_INTERVAL) => {}
        }
    }
}

/// Hands every sound probe of a member to the sink.
pub(super) async fn receive(shared: Arc<Shared>, socket: UdpSocket) {
    let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
    loop {
        let (length, source) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "probes could not be received");
                tokio::time::sleep(RECEIVE_PAUSE).await;
                continue;
            }
        };
        let Some(roster) = shared.roster() else {
            continue;
        };
        if shared.is_isolated() {
            continue;
        }
        match shared.prober.open(roster.cluster, shared.me, &buffer[..length]) {
            Ok((from, payload)) if roster.members.contains_key(&from) => {
                if let Some(payload) = shared.of_holder(from, payload) {
                    shared.prober.heard(from, source);
                    shared.sink.probed(Bytes::copy_from_slice(payload));
                }
            }
            Ok((from, _)) => tracing::debug!(peer = %from, "a probe of a stranger was dropped"),
            Err(error) => tracing::debug!(%error, "a probe was dropped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const US: NodeId = NodeId(1);
    const THEM: NodeId = NodeId(2);
    const CLUSTER: ClusterId = ClusterId(7);

    #[test]
    fn a_probe_opens_only_with_its_secret_cluster_and_receiver() {
        let seal = ProbeSeal::new(&[1; 32]);
        let datagram = seal.seal(CLUSTER, THEM, US, b"ping");
        assert_eq!(seal.open(CLUSTER, US, &datagram), Ok((THEM, &b"ping"[..])));
        let wrong = Err(BadProbe::WrongTag);
        assert_eq!(seal.open(ClusterId(8), US, &datagram), wrong);
        assert_eq!(seal.open(CLUSTER, NodeId(3), &datagram), wrong);
        assert_eq!(ProbeSeal::new(&[2; 32]).open(CLUSTER, US, &datagram), wrong);
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let seal = ProbeSeal::new(&[1; 32]);
        let datagram = seal.seal(CLUSTER, THEM, US, b"ping");
        for at in 0..datagram.len() {
            let mut altered = datagram.clone();
            altered[at] ^= 1;
            assert!(seal.open(CLUSTER, US, &altered).is_err(), "byte {at}");
        }
    }

    #[test]
    fn all_addresses_of_a_name_are_tried_until_one_answers() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let prober = Prober::new(socket, std::iter::once(&[1; 32]));
        let here: Vec<SocketAddr> =
            ["[::1]:9", "127.0.0.1:9", "127.0.0.2:9"].map(|a| a.parse().expect("ok")).into();
        let usable = prober.usable(THEM, "them:9", &here);
        assert_eq!(usable, here[1..], "no IPv6 from a socket of IPv4");
        assert!(lock(&prober.said)[&THEM].contains("[::1]:9"), "and that is said");
        let mut places = Places::default();
        places.replace(usable);
        assert_eq!(places.aims(), &here[1..]);
        places.heard = Some((here[2], Instant::now()));
        assert_eq!(places.aims(), &here[2..]);
        places.replace(here[1..2].to_vec());
        assert_eq!(places.aims(), &here[1..2], "who moved is looked for anew");
    }

    proptest! {
        #[test]
        fn any_datagram_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
            let seal = ProbeSeal::new(&[1; 32]);
            prop_assert!(seal.open(CLUSTER, US, &bytes).is_err());
        }
    }
}
