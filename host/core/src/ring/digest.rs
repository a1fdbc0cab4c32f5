//! A digest of a ring that follows its moves one by one.
//!
//! What is planned is hashed once for a ring; the moves that are left are a sum of their hashes, so
//! one that is made is taken out without looking at the others. Nobody can choose moves to make
//! sums meet: they come from a ring that was agreed on.

use super::{Move, Ring};

/// Equal for equal rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingDigest {
    plan: [u8; 32],
    moves: u128,
}

impl RingDigest {
    /// The digest of `ring`, from nothing.
    pub fn of(ring: &Ring) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut number = |number: u64| {
            hasher.update(&number.to_be_bytes());
        };
        number(ring.version());
        number(ring.replicas_max() as u64);
        number(ring.seats.len() as u64);
        ring.seats.iter().for_each(|node| number(node.0));
        number(u64::from(ring.partitions()));
        for partition in ring.partition_ids() {
            number(ring.planned_owners(partition).count() as u64);
            ring.planned_owners(partition).for_each(|node| number(node.0));
        }
        let moves = ring.moves().iter().fold(0, |sum: u128, left| sum.wrapping_add(hash(left)));
        RingDigest { plan: *hasher.finalize().as_bytes(), moves }
    }

    /// These moves, which were left, are made.
    pub fn made(&mut self, moves: &[Move]) {
        for made in moves {
            self.moves = self.moves.wrapping_sub(hash(made));
        }
    }

    /// The bytes to hash further.
    pub fn bytes(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..32].copy_from_slice(&self.plan);
        bytes[32..].copy_from_slice(&self.moves.to_be_bytes());
        bytes
    }
}

fn hash(left: &Move) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&left.partition.0.to_be_bytes());
    for node in [left.from, left.to] {
        hasher.update(&[u8::from(node.is_some())]);
        hasher.update(&node.map_or(0, |node| node.0).to_be_bytes());
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_be_bytes(first)
}
