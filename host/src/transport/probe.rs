//! Probes: datagrams on a socket of their own, at the port number of the peer listener.
//!
//! Failure detection must not wait behind bulk data, so it shares nothing with the streams. A probe is
//! sealed ([`super::seal`]); its payload begins with the sender's start. What does not fit is dropped
//! without a word to the sender.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stator_core::id::{ClusterId, NodeId};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::config::Roster;
use super::seal::{BadProbe, DATAGRAM_BYTES_MAX, OVERHEAD_BYTES, Opened, ProbeSeal, Spoken};
use super::{Shared, lock, read, write};

/// The largest probe that fits into a datagram.
pub const PROBE_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - OVERHEAD_BYTES;

// What the failure detector sends must fit.
const _: () = assert!(stator_core::failure::PROBE_BYTES_MAX + 8 <= PROBE_BYTES_MAX);

/// Members whose address is a name are looked up again after this long.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(10);
const RESOLVE_DEADLINE: Duration = Duration::from_secs(2);
/// The most addresses of one member that are sent probes.
const PLACES_MAX: usize = 8;
/// How long a member's address is taken for the right one after a probe came from it.
const HEARD_FOR: Duration = Duration::from_secs(5);
/// After an error of the socket, so that a lasting one does not fill the log.
const RECEIVE_PAUSE: Duration = Duration::from_millis(100);

/// The sending end, and where members are.
pub(super) struct Prober {
    socket: std::net::UdpSocket,
    /// The first one seals, each opens.
    seals: Vec<ProbeSeal>,
    /// Who opens sealed ones.
    pub spoken: Spoken,
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
        Prober {
            socket,
            seals,
            spoken: Spoken::default(),
            places: RwLock::default(),
            said: Mutex::default(),
        }
    }

    fn open(&self, cluster: ClusterId, to: NodeId, datagram: &[u8]) -> Result<Opened, BadProbe> {
        let opened = self.seals.iter().map(|seal| seal.open(cluster, to, datagram));
        let opened = opened.reduce(Result::or).unwrap_or(Err(BadProbe::WrongTag))?;
        match !opened.is_sealed && self.spoken.seals(opened.from) == Some(true) {
            true => Err(BadProbe::NotSealed(opened.from)),
            false => Ok(opened),
        }
    }

    /// A probe as `to` understands it; none if it cannot be sealed now.
    fn datagram(
        &self,
        cluster: ClusterId,
        (from, to): (NodeId, NodeId),
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let seal = self.seals.first()?;
        match self.spoken.seals(to) {
            Some(false) => Some(seal.plain(cluster, from, to, payload)),
            Some(true) | None => seal.seal(cluster, from, to, payload),
        }
    }

    /// Sends a probe, if it is known where to; it may get lost.
    pub fn send(&self, cluster: ClusterId, from: NodeId, to: NodeId, payload: &[u8]) {
        if payload.len() > PROBE_BYTES_MAX {
            let (found, limit) = (payload.len(), PROBE_BYTES_MAX);
            tracing::error!(found, limit, "a probe is too large; it was not sent");
            return;
        }
        let places = read(&self.places);
        let Some(places) = places.get(&to) else { return };
        let Some(datagram) = self.datagram(cluster, (from, to), payload) else {
            return tracing::error!("a probe was not sent: the machine gives no random bytes");
        };
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
        self.spoken.keep(roster);
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
            Ok(Opened { from, payload, .. }) if roster.members.contains_key(&from) => {
                if let Some(payload) = shared.of_holder(from, &payload) {
                    shared.prober.heard(from, source);
                    shared.sink.probed(Bytes::copy_from_slice(payload));
                }
            }
            Ok(Opened { from, .. }) => {
                tracing::debug!(peer = %from, "a probe of a stranger was dropped")
            }
            Err(error) => tracing::debug!(%error, "a probe was dropped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: NodeId = NodeId(1);
    const THEM: NodeId = NodeId(2);
    const CLUSTER: ClusterId = ClusterId(7);

    fn prober(secrets: &[[u8; 32]]) -> Prober {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        Prober::new(socket, secrets.iter())
    }

    #[test]
    fn probes_are_sealed_but_to_and_from_programs_of_before() {
        let (ours, theirs) = (prober(&[[1; 32]]), prober(&[[1; 32]]));
        let plain = theirs.seals[0].plain(CLUSTER, THEM, US, b"ping");
        for (spoken, sends_sealed, takes_plain) in
            [(None, true, true), (Some(4), false, true), (Some(5), true, false)]
        {
            if let Some(version) = spoken {
                ours.spoken.learn(THEM, version);
            }
            let sent = ours.datagram(CLUSTER, (US, THEM), b"ping").expect("random bytes");
            let opened = theirs.open(CLUSTER, THEM, &sent).expect("it is taken");
            assert_eq!(opened.is_sealed, sends_sealed, "{spoken:?}");
            assert_eq!(ours.open(CLUSTER, US, &plain).is_ok(), takes_plain, "{spoken:?}");
        }
        assert_eq!(ours.open(CLUSTER, US, &plain), Err(BadProbe::NotSealed(THEM)));
        // It went back to its program of before, and left the cluster.
        ours.spoken.learn(THEM, 4);
        assert!(ours.open(CLUSTER, US, &plain).is_ok());
        let alone = Roster { cluster: CLUSTER, members: BTreeMap::new(), removed: BTreeMap::new() };
        ours.set_roster(&alone);
        assert_eq!(ours.spoken.seals(THEM), None);
    }

    #[test]
    fn a_probe_is_worth_as_much_as_its_secret() {
        let (old, new) = ([1; 32], [2; 32]);
        let rounds = [vec![old], vec![old, new], vec![new, old], vec![new]].map(|all| prober(&all));
        let sent = |by: &Prober| by.datagram(CLUSTER, (THEM, US), b"ping").expect("random bytes");
        for pair in rounds.windows(2) {
            for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                assert!(to.open(CLUSTER, US, &sent(from)).is_ok(), "one round apart");
            }
        }
        let replayed = sent(&rounds[1]);
        assert_eq!(rounds[3].open(CLUSTER, US, &replayed), Err(BadProbe::WrongTag));
    }

    #[test]
    fn all_addresses_of_a_name_are_tried_until_one_answers() {
        let prober = prober(&[[1; 32]]);
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
}
