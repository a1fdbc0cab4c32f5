//! Where a key lies on the ring: a frozen 128-bit hash.
//!
//! `position(keyspace, key)` is the first 16 bytes, big-endian, of BLAKE3 in key derivation mode
//! with the context string [`CONTEXT`], over the keyspace id (8 bytes, big-endian) followed by
//! the key. The partition is the position's top log2(Q) bits. The test vectors in this file are
//! part of the format: they let any client compute positions, and they never change, because a
//! change would move every stored key.

use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

use crate::id::{KeyspaceId, PartitionId};

/// The version of the position hash, which clients are told with the ring.
pub const VERSION: u32 = 1;
/// The derivation context of this version.
pub const CONTEXT: &str = "stator key position v1";

/// The position of `key` on the ring.
pub fn position(keyspace: KeyspaceId, key: &[u8]) -> u128 {
    static KEY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(CONTEXT));
    let mut hasher = blake3::Hasher::new_from_context_key(&KEY);
    hasher.update(&keyspace.0.to_be_bytes());
    hasher.update(key);
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_be_bytes(first)
}

/// The partition that holds `position` on a ring of `partitions` equal arcs, a power of two of
/// at most 65,536.
pub fn partition_of(position: u128, partitions: u32) -> PartitionId {
    debug_assert!(partitions.is_power_of_two() && partitions <= 1 << 16);
    let bits = partitions.trailing_zeros();
    // A shift by 128 is not defined: a ring of one partition holds everything.
    let index = if bits == 0 { 0 } else { position >> (128 - bits) };
    PartitionId(index as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_test_vectors() {
        let vectors: [(u64, &[u8], u128); 4] = VECTORS;
        for (keyspace, key, expected) in vectors {
            let found = position(KeyspaceId(keyspace), key);
            assert_eq!(found, expected, "{keyspace:x} {key:?}: {found:#034x}");
        }
    }

    const VECTORS: [(u64, &[u8], u128); 4] = [
        (0, b"", 0x45d3_30a2_bb52_9958_7606_47a5_8091_56ac),
        (1, b"a", 0x0156_a407_5b43_f3b4_cf76_aa07_2e1b_1e3b),
        (0x0123_4567_89ab_cdef, b"cart:17850", 0x07e3_0034_89ea_c530_104d_fd9a_5da6_785b),
        (u64::MAX, &[0x00, 0xff, 0x80], 0x42dc_1475_0677_2f01_608c_7d67_1fd4_bca2),
    ];

    #[test]
    fn partitions_are_the_top_bits() {
        assert_eq!(partition_of(u128::MAX, 256), PartitionId(255));
        assert_eq!(partition_of(1 << 127, 256), PartitionId(128));
        assert_eq!(partition_of(u128::MAX, 1), PartitionId(0));
        assert_eq!(partition_of(u128::MAX, 1 << 16), PartitionId(u16::MAX));
    }
}
