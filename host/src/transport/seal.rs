//! How probes are sealed: what a datagram is, and which kinds of it a peer is sent and is taken from.
//!
//! | version | datagram | seen on the way |
//! |---|---|---|
//! | 2 | `2, nonce 24, sealed (sender 8, payload), tag 16` | that there is one, its length, and whose addresses |
//! | 1 | `1, sender 8, tag 32, payload` | all of it; the tag makes it good |
//!
//! Version 2 is sealed by ChaCha20-Poly1305 under a key of its own: BLAKE3, keyed by one that is derived of
//! the cluster secret, over cluster, receiver and nonce, which is random: no key seals twice, and a probe
//! for another node opens nowhere else. The tag of version 1 is BLAKE3, keyed likewise, over version,
//! cluster, sender, receiver and payload.
//!
//! A probe has no handshake. What a peer understands is known from that of its last session
//! ([`Spoken`]): who spoke less than [`SEALED_SINCE`] is sent version 1, everybody else version 2, also
//! who was not met yet. Version 1 is taken from those who do not seal, or were not met, and from nobody
//! else, so that it ends with the last old program.
//!
//! While the cluster changes its secret the own one seals and each that is accepted opens, as in the
//! handshake. Left out: protection against replayed probes. SWIM's incarnations make old news harmless,
//! and with its secret a probe becomes worthless.

use std::collections::BTreeMap;
use std::sync::RwLock;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use stator_core::id::{ClusterId, NodeId};

use super::config::Roster;
use super::{read, write};

/// The largest datagram: it passes every usual network in one piece.
pub const DATAGRAM_BYTES_MAX: usize = 1_400;
/// From this version of the peer protocol on nodes open sealed probes.
pub const SEALED_SINCE: u32 = 5;
/// What the larger of the two kinds adds to its payload.
pub(super) const OVERHEAD_BYTES: usize = 1 + NONCE_BYTES + 8 + TAG_BYTES;

const _: () = assert!(1 + 8 + blake3::OUT_LEN <= OVERHEAD_BYTES);

const PLAIN: u8 = 1;
const SEALED: u8 = 2;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// A datagram that is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadProbe {
    #[error("its length or version is not one of a probe")]
    Malformed,
    #[error("its tag does not fit: it was made without the cluster's secret, or for another node")]
    WrongTag,
    #[error("it is not sealed, and node {0} seals what it sends")]
    NotSealed(NodeId),
}

/// A probe that was opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub from: NodeId,
    pub payload: Vec<u8>,
    pub is_sealed: bool,
}

/// Seals and opens the datagrams of one node by one secret.
#[derive(Clone)]
pub(super) struct ProbeSeal {
    plain: [u8; 32],
    sealed: [u8; 32],
}

impl ProbeSeal {
    pub fn new(secret: &[u8; 32]) -> Self {
        ProbeSeal {
            plain: blake3::derive_key("stator probe v1", secret),
            sealed: blake3::derive_key("stator probe v2", secret),
        }
    }

    /// A datagram of version 2; none if the machine gives no random bytes.
    pub fn seal(
        &self,
        cluster: ClusterId,
        from: NodeId,
        to: NodeId,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).ok()?;
        let mut text = Vec::with_capacity(8 + payload.len() + TAG_BYTES);
        text.extend_from_slice(&from.0.to_be_bytes());
        text.extend_from_slice(payload);
        let key = self.key_of(cluster, to, &nonce)?;
        key.seal_in_place_append_tag(once(), Aad::from([SEALED]), &mut text).ok()?;
        Some([&[SEALED], &nonce[..], &text].concat())
    }

    /// A datagram of version 1.
    pub fn plain(&self, cluster: ClusterId, from: NodeId, to: NodeId, payload: &[u8]) -> Vec<u8> {
        let tag = self.tag(cluster, from, to, payload);
        [&[PLAIN], &from.0.to_be_bytes()[..], tag.as_bytes(), payload].concat()
    }

    pub fn open(
        &self,
        cluster: ClusterId,
        to: NodeId,
        datagram: &[u8],
    ) -> Result<Opened, BadProbe> {
        match datagram.split_first() {
            Some(_) if datagram.len() > DATAGRAM_BYTES_MAX => Err(BadProbe::Malformed),
            Some((&SEALED, rest)) => self.open_sealed(cluster, to, rest),
            Some((&PLAIN, rest)) => self.open_plain(cluster, to, rest),
            _ => Err(BadProbe::Malformed),
        }
    }

    fn open_sealed(&self, cluster: ClusterId, to: NodeId, rest: &[u8]) -> Result<Opened, BadProbe> {
        let (nonce, sealed) = rest.split_first_chunk().ok_or(BadProbe::Malformed)?;
        let key = self.key_of(cluster, to, nonce).ok_or(BadProbe::WrongTag)?;
        let mut text = sealed.to_vec();
        let opened = key.open_in_place(once(), Aad::from([SEALED]), &mut text);
        let opened = opened.map_err(|_| BadProbe::WrongTag)?;
        let (from, payload) = opened.split_first_chunk().ok_or(BadProbe::Malformed)?;
        let from = NodeId(u64::from_be_bytes(*from));
        Ok(Opened { from, payload: payload.to_vec(), is_sealed: true })
    }

    fn open_plain(&self, cluster: ClusterId, to: NodeId, rest: &[u8]) -> Result<Opened, BadProbe> {
        let (from, rest) = rest.split_first_chunk().ok_or(BadProbe::Malformed)?;
        let (tag, payload) = rest.split_first_chunk().ok_or(BadProbe::Malformed)?;
        let from = NodeId(u64::from_be_bytes(*from));
        // blake3::Hash compares in constant time.
        if self.tag(cluster, from, to, payload) != blake3::Hash::from_bytes(*tag) {
            return Err(BadProbe::WrongTag);
        }
        Ok(Opened { from, payload: payload.to_vec(), is_sealed: false })
    }

    /// The key of one datagram.
    fn key_of(
        &self,
        cluster: ClusterId,
        to: NodeId,
        nonce: &[u8; NONCE_BYTES],
    ) -> Option<LessSafeKey> {
        let mut hasher = blake3::Hasher::new_keyed(&self.sealed);
        hasher.update(&cluster.0.to_be_bytes()).update(&to.0.to_be_bytes()).update(nonce);
        let key = UnboundKey::new(&CHACHA20_POLY1305, hasher.finalize().as_bytes());
        key.ok().map(LessSafeKey::new)
    }

    fn tag(&self, cluster: ClusterId, from: NodeId, to: NodeId, payload: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.plain);
        hasher.update(&[PLAIN]);
        hasher.update(&cluster.0.to_be_bytes());
        hasher.update(&from.0.to_be_bytes());
        hasher.update(&to.0.to_be_bytes());
        hasher.update(payload);
        hasher.finalize()
    }
}

/// Each key is used for one datagram, so it needs no nonce beside the one that made it.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// The newest version of the peer protocol that each member has spoken in its last handshake.
#[derive(Default)]
pub(super) struct Spoken(RwLock<BTreeMap<NodeId, u32>>);

impl Spoken {
    pub fn learn(&self, node: NodeId, version: u32) {
        write(&self.0).insert(node, version);
    }

    pub fn keep(&self, roster: &Roster) {
        write(&self.0).retain(|node, _| roster.members.contains_key(node));
    }

    /// Whether the node opens sealed probes; not known of one that was not met.
    pub fn seals(&self, node: NodeId) -> Option<bool> {
        read(&self.0).get(&node).map(|version| *version >= SEALED_SINCE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const US: NodeId = NodeId(1);
    const THEM: NodeId = NodeId(0x1122_3344_5566_7788);
    const CLUSTER: ClusterId = ClusterId(0x99aa_bbcc_ddee_ff00_1234_5678_9abc_def0);

    /// A probe of each kind.
    fn both(seal: &ProbeSeal) -> [(bool, Vec<u8>); 2] {
        let sealed = seal.seal(CLUSTER, THEM, US, b"ping").expect("random bytes");
        [(true, sealed), (false, seal.plain(CLUSTER, THEM, US, b"ping"))]
    }

    #[test]
    fn a_probe_opens_only_with_its_secret_cluster_and_receiver() {
        let seal = ProbeSeal::new(&[1; 32]);
        for (is_sealed, datagram) in both(&seal) {
            let opened = Opened { from: THEM, payload: b"ping".to_vec(), is_sealed };
            assert_eq!(seal.open(CLUSTER, US, &datagram), Ok(opened));
            let wrong = Err(BadProbe::WrongTag);
            assert_eq!(seal.open(ClusterId(8), US, &datagram), wrong);
            assert_eq!(seal.open(CLUSTER, NodeId(3), &datagram), wrong);
            assert_eq!(ProbeSeal::new(&[2; 32]).open(CLUSTER, US, &datagram), wrong);
        }
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let seal = ProbeSeal::new(&[1; 32]);
        for (_, datagram) in both(&seal) {
            for at in 0..datagram.len() {
                let mut altered = datagram.clone();
                altered[at] ^= 1;
                assert!(seal.open(CLUSTER, US, &altered).is_err(), "byte {at}");
                assert!(seal.open(CLUSTER, US, &datagram[..at]).is_err(), "{at} bytes");
            }
        }
    }

    #[test]
    fn a_sealed_probe_shows_neither_who_nor_what_and_none_is_like_another() {
        let seal = ProbeSeal::new(&[1; 32]);
        let payload = [&US.0.to_be_bytes()[..], &THEM.0.to_be_bytes(), b"who is alive"].concat();
        let one = seal.seal(CLUSTER, THEM, US, &payload).expect("random bytes");
        let other = seal.seal(CLUSTER, THEM, US, &payload).expect("random bytes");
        let shows = |datagram: &[u8], part: &[u8]| datagram.windows(part.len()).any(|w| w == part);
        let parts = [&THEM.0.to_be_bytes()[..], &CLUSTER.0.to_be_bytes(), b"who is alive"];
        for part in parts {
            assert!(!shows(&one, part), "{part:?}");
        }
        let plain = seal.plain(CLUSTER, THEM, US, &payload);
        assert!(shows(&plain, parts[0]) && shows(&plain, parts[2]), "that of before does");
        assert_eq!(one.len(), payload.len() + OVERHEAD_BYTES);
        assert!(one[1..].iter().zip(&other[1..]).filter(|(a, b)| a == b).count() < one.len() / 4);
    }

    proptest! {
        #[test]
        fn any_datagram_is_read_without_a_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..1500), version in 0..3u8,
        ) {
            let seal = ProbeSeal::new(&[1; 32]);
            prop_assert!(seal.open(CLUSTER, US, &bytes).is_err());
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            prop_assert!(seal.open(CLUSTER, US, &bytes).is_err());
        }
    }
}
