//! The digest of a catalogue, in two parts that change at different times.

use super::{Catalogue, digest_of};
use crate::ring::{Move, RingDigest};

/// What a catalogue's digest is made of. A move changes it at the cost of one hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CatalogueDigest {
    /// All but the ring.
    rest: [u8; 32],
    ring: RingDigest,
}

impl CatalogueDigest {
    /// The digest of `catalogue`, from nothing.
    pub fn of(catalogue: &Catalogue) -> Self {
        // Every field, or the compiler says so.
        let Catalogue {
            cluster,
            cluster_name,
            context_secrets,
            members,
            keyspaces,
            modules,
            ring,
            staged,
            removed,
            history,
            access,
        } = catalogue;
        let first = (cluster, cluster_name, context_secrets, members, keyspaces);
        let rest = (first, modules, staged, removed, history);
        // As before there was any, so that nodes of before agree with those of now.
        let rest = match access.is_untouched() {
            true => digest_of(&rest),
            false => digest_of(&(rest, access)),
        };
        CatalogueDigest { rest, ring: RingDigest::of(ring) }
    }

    /// These moves, which were left, are made.
    pub fn made(&mut self, moves: &[Move]) {
        self.ring.made(moves);
    }

    /// Both together.
    pub fn whole(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.rest);
        hasher.update(&self.ring.bytes());
        *hasher.finalize().as_bytes()
    }
}
