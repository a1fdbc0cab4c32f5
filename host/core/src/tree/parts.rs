//! What one asks of trees, and what they answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{BUCKETS, ObjectHash, Sum, TreeNode};
use crate::causality::Siblings;
use crate::id::{KeyspaceId, PartitionId};

/// Buckets of one tree.
pub type Buckets = BTreeSet<u16>;

/// What is asked of one partition's trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeRead {
    /// The partition.
    pub partition: PartitionId,
    /// What.
    pub query: TreeQuery,
}

/// Which part of the trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeQuery {
    /// The root of every keyspace that holds something.
    Roots,
    /// The sums of these nodes.
    Sums(KeyspaceId, Vec<TreeNode>),
    /// The keys of some buckets, in key order.
    Keys(Part),
    /// The objects of these keys, at most [`TreeQuery::OBJECTS_MAX`].
    Objects(KeyspaceId, Vec<Bytes>),
}

/// A page of the keys of some buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The buckets.
    pub buckets: Buckets,
    /// Start behind this key; `None` is from the first.
    pub after: Option<Bytes>,
    /// End with this key; `None` is the keyspace's last, or where the page is full.
    pub until: Option<Bytes>,
}

/// A key with the hash of its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHash {
    /// The key.
    pub key: Bytes,
    /// Its object's; `None` if the record is damaged.
    pub hash: Option<ObjectHash>,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeAnswer {
    /// The trees of the partition are being rebuilt.
    NotReady,
    /// To [`TreeQuery::Roots`].
    Roots(Roots),
    /// To [`TreeQuery::Sums`], in the order of the nodes asked for.
    Sums(Vec<Sum>),
    /// To [`TreeQuery::Keys`].
    Keys(TreePage),
    /// To [`TreeQuery::Objects`]: of the first keys, in the order in which they were asked for, as
    /// many as fit into [`TreeQuery::OBJECTS_BYTES_MAX`], and one beyond.
    Objects(Vec<Held>),
}

/// The roots of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roots {
    /// In keyspace order.
    pub sums: Vec<(KeyspaceId, Sum)>,
    /// How many records of the partition are known to be damaged: they are in no sum. Who is
    /// being filled cannot tell what it held, and counts one more.
    pub damaged: u64,
}

impl Roots {
    /// Whether there is nothing, neither whole nor damaged.
    pub fn is_empty(&self) -> bool {
        self.damaged == 0 && self.sums.iter().all(|(_, sum)| *sum == Sum::default())
    }
}

/// What is held under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// A record that is damaged.
    Damaged,
    /// This.
    Whole(Arc<Siblings>),
}

/// Some keys of some buckets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreePage {
    /// In key order.
    pub keys: Vec<KeyHash>,
    /// Where the next page starts: behind this key, which need not be one of the buckets'. `None`
    /// is the end of what was asked for.
    pub next: Option<Bytes>,
}

impl TreeQuery {
    /// The most nodes whose sums are asked for at once: all buckets.
    pub const SUMS_MAX: usize = BUCKETS as usize;
    /// The most keys whose objects are asked for at once.
    pub const OBJECTS_MAX: usize = 256;
    /// An answer ends with the object that goes beyond this.
    pub const OBJECTS_BYTES_MAX: usize = 256 << 10;
}
