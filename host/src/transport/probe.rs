//! Probes: datagrams on a socket of their own, at the port number of the peer listener.
//!
//! Failure detection must not wait behind bulk data, so it shares nothing with the streams. A
//! datagram is `version 1, sender 8, tag 32, payload`, the payload begins with the sender's start; the tag is BLAKE3, keyed by the cluster
//! secret, over version, cluster, sender, receiver and payload. What does not fit is dropped
//! without a word to the sender.
//!
//! Left out: protection against replayed probes. SWIM's incarnations make old news harmless.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use stator_core::id::{ClusterId, NodeId};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::config::Roster;
use super::{Shared, read, write};

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
    addresses: RwLock<BTreeMap<NodeId, SocketAddr>>,
}

impl Prober {
    /// `socket` must not block. The first of `secrets` seals probes, each opens them.
    pub fn new<'a>(
        socket: std::net::UdpSocket,
        secrets: impl Iterator<Item = &'a [u8; 32]>,
    ) -> Self {
        let seals = secrets.map(ProbeSeal::new).collect();
        Prober { socket, seals, addresses: RwLock::default() }
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
        let Some(address) = read(&self.addresses).get(&to).copied() else {
            return;
        };
        let Some(seal) = self.seals.first() else {
            return;
        };
        let datagram = seal.seal(cluster, from, to, payload);
        if let Err(error) = self.socket.send_to(&datagram, address) {
            tracing::debug!(%error, peer = %to, "a probe was not sent");
        }
    }

    /// Takes in the addresses that need no lookup and forgets who left.
    pub fn set_roster(&self, roster: &Roster) {
        let mut addresses = write(&self.addresses);
        addresses.retain(|node, _| roster.members.contains_key(node));
        for (node, address) in &roster.members {
            if let Ok(address) = address.parse() {
                addresses.insert(*node, address);
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
            match timeout(RESOLVE_DEADLINE, tokio::net::lookup_host(address)).await {
                Ok(Ok(mut found)) => {
                    if let Some(found) = found.next() {
                        write(&shared.prober.addresses).insert(*node, found);
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(peer = %node, address, %error, "a member's address is unknown");
                }
                Err(_) => tracing::warn!(peer = %node, address, "a lookup took too long"),
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
        let length = match socket.recv_from(&mut buffer).await {
            Ok((length, _)) => length,
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

    proptest! {
        #[test]
        fn any_datagram_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
            let seal = ProbeSeal::new(&[1; 32]);
            prop_assert!(seal.open(CLUSTER, US, &bytes).is_err());
        }
    }
}
