//! Hash trees: what two replicas of a partition compare instead of their keys.
//!
//! Section 4.7 of the Dynamo paper: each node keeps a Merkle tree per key range, and two nodes
//! walk their trees from the root down to the keys that differ. Here the range is one keyspace in
//! one partition, and the tree is a sum instead of a hash of hashes:
//!
//! ```text
//!   level 0   root                       16 children each; an inner node is the
//!   level 1   16 nodes                   sum of its range of leaves, so a write
//!   level 2   256 nodes                  changes one leaf and the root, and all
//!   level 3   4096 leaves, "buckets"     else is added up when it is asked for
//! ```
//!
//! A key's bucket follows from its position on the ring, so both sides put it into the same one.
//! A bucket is the sum modulo 2^128 of what its keys add, and their count. What a key adds is a
//! BLAKE3 hash of its [`ObjectHash`], keyed by the cluster: sums of hashes that anyone can compute
//! could be made to cancel each other by who may choose many keys (Wagner, "A Generalized Birthday
//! Problem", 2002), and XOR with far less work.
//!
//! The [`ObjectHash`] covers the key and the object as replicas exchange it (vector, dots, whole
//! envelopes), nothing that only one node knows: no mark, no commit number. It is kept in the
//! record, so that a write hashes what it stores and not what it replaces.
//!
//! Beside its sums, which replicas compare, a tree has the [`Usage`] of its keyspace in the partition:
//! it is kept, distrusted and counted anew with them.
//!
//! [`Trees`] holds those of a node, and knows which of them can be trusted.
//!
//! Left out: an index of a bucket's keys. They are found by reading the keyspace's part of the
//! partition, so a difference costs that on both sides, and equal replicas cost two sums.

mod parts;
mod trees;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

pub use parts::{Buckets, Held, KeyHash, Part, Roots, TreeAnswer, TreePage, TreeQuery, TreeRead};
pub use trees::{Rebuild, Trees};

use crate::causality::Siblings;
use crate::id::ClusterId;
use crate::keys::StoreKey;
use crate::position::position;
use crate::usage::Usage;

/// Children of an inner node.
pub const FANOUT: u16 = 16;
/// The level of the leaves; the root's is 0.
pub const LEAF_LEVEL: u8 = 3;
/// Leaves of a tree.
pub const BUCKETS: u16 = 4096;

/// What a replica holds under a key, in 128 bits of BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectHash(pub u128);

impl fmt::Debug for ObjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectHash({:032x})", self.0)
    }
}

/// The hash of the object `siblings` under `key`: equal wherever the object is.
pub fn object_hash(key: &StoreKey, siblings: &Siblings) -> ObjectHash {
    static KEY: LazyLock<ContextKey> =
        LazyLock::new(|| hash_derive_key_context("stator object hash v1"));
    let mut hasher = blake3::Hasher::new_from_context_key(&KEY);
    hasher.update(&key.keyspace.0.to_be_bytes());
    hasher.update(&(key.key.len() as u64).to_be_bytes());
    hasher.update(&key.key);
    for piece in siblings.canonical().iter() {
        hasher.update(piece);
    }
    ObjectHash(first_128(&hasher.finalize()))
}

/// What an object adds to the trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addend {
    /// To its bucket.
    pub hash: ObjectHash,
    /// To what there is of its keyspace.
    pub usage: Usage,
}

impl Addend {
    /// Of the object `siblings` under `key`.
    pub fn of(key: &StoreKey, siblings: &Siblings) -> Self {
        Addend { hash: object_hash(key, siblings), usage: Usage::of(key, siblings) }
    }
}

/// The bucket of a key: the bits of its position behind those that any partition takes.
pub fn bucket_of(key: &StoreKey) -> u16 {
    let position = position(key.keyspace, &key.key);
    (position >> (128 - 16 - 12)) as u16 & (BUCKETS - 1)
}

fn first_128(hash: &blake3::Hash) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_be_bytes(first)
}

/// What makes the sums of a cluster its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TreeKey {
    cluster: ClusterId,
    key: [u8; 32],
}

impl fmt::Debug for TreeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeKey({})", self.cluster)
    }
}

impl TreeKey {
    /// The key of this cluster.
    pub fn of(cluster: ClusterId) -> Self {
        let key = blake3::derive_key("stator hash tree key v1", &cluster.0.to_be_bytes());
        TreeKey { cluster, key }
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The sum of one object.
    pub fn sum(&self, object: ObjectHash) -> Sum {
        let hash = blake3::keyed_hash(&self.key, &object.0.to_be_bytes());
        Sum { hash: first_128(&hash), count: 1 }
    }
}

/// What a range of keys adds up to. Equal sums mean equal objects.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Modulo 2^128.
    pub hash: u128,
    /// How many objects.
    pub count: u64,
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:08x}", self.count, self.hash >> 96)
    }
}

impl Sum {
    /// Both together.
    pub fn plus(self, other: Sum) -> Sum {
        let hash = self.hash.wrapping_add(other.hash);
        Sum { hash, count: self.count.wrapping_add(other.count) }
    }

    /// This one without `other`, which is a part of it.
    pub fn minus(self, other: Sum) -> Sum {
        let hash = self.hash.wrapping_sub(other.hash);
        Sum { hash, count: self.count.wrapping_sub(other.count) }
    }
}

/// A sum of one bucket, in 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leaf {
    high: u64,
    low: u64,
    count: u64,
}

impl From<Sum> for Leaf {
    fn from(sum: Sum) -> Self {
        Leaf { high: (sum.hash >> 64) as u64, low: sum.hash as u64, count: sum.count }
    }
}

impl From<Leaf> for Sum {
    fn from(leaf: Leaf) -> Self {
        let hash = u128::from(leaf.high) << 64 | u128::from(leaf.low);
        Sum { hash, count: leaf.count }
    }
}

/// A node of a tree: which range of buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeNode {
    level: u8,
    index: u16,
}

impl TreeNode {
    /// All buckets.
    pub const ROOT: TreeNode = TreeNode { level: 0, index: 0 };

    /// The node of `level` with this number, if there is one.
    pub fn new(level: u8, index: u16) -> Option<Self> {
        let is_known = level <= LEAF_LEVEL && u32::from(index) < 1 << (4 * u32::from(level));
        is_known.then_some(TreeNode { level, index })
    }

    /// 0 for the root, [`LEAF_LEVEL`] for a bucket.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Its number among those of its level.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The nodes below it, none below a bucket.
    pub fn children(&self) -> impl Iterator<Item = TreeNode> + use<> {
        let TreeNode { level, index } = *self;
        let count = if level < LEAF_LEVEL { FANOUT } else { 0 };
        (0..count).map(move |child| TreeNode { level: level + 1, index: index * FANOUT + child })
    }

    fn buckets(&self) -> std::ops::RangeInclusive<u16> {
        let width = BUCKETS >> (4 * self.level);
        let first = self.index * width;
        first..=first + (width - 1)
    }
}

/// The sums of one keyspace in one partition. Only buckets that hold something take memory:
/// about 40 bytes each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    root: Sum,
    usage: Usage,
    buckets: BTreeMap<u16, Leaf>,
}

impl Tree {
    /// The sum of all.
    pub fn root(&self) -> Sum {
        self.root
    }

    /// What there is of the keyspace in the partition.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The sum of a node's range.
    pub fn sum(&self, node: TreeNode) -> Sum {
        if node == TreeNode::ROOT {
            return self.root;
        }
        let leaves = self.buckets.range(node.buckets());
        leaves.fold(Sum::default(), |sum, (_, leaf)| sum.plus(Sum::from(*leaf)))
    }

    /// The buckets that hold something.
    pub fn buckets(&self) -> impl Iterator<Item = (u16, Sum)> + '_ {
        self.buckets.iter().map(|(bucket, leaf)| (*bucket, Sum::from(*leaf)))
    }

    /// Takes `old` out of a bucket and puts `new` in.
    pub fn change(&mut self, bucket: u16, old: Sum, new: Sum) {
        let held = self.buckets.get(&bucket).map_or(Sum::default(), |leaf| Sum::from(*leaf));
        let sum = held.minus(old).plus(new);
        match sum == Sum::default() {
            true => drop(self.buckets.remove(&bucket)),
            false => drop(self.buckets.insert(bucket, Leaf::from(sum))),
        }
        self.root = self.root.minus(old).plus(new);
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }
}

#[cfg(test)]
mod tests;
