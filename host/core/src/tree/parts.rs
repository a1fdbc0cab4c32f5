//! What one asks of trees, and what they answer.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{BUCKETS, ObjectHash, Sum, TreeNode};
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
    /// To [`TreeQuery::Roots`], in keyspace order.
    Roots(Vec<(KeyspaceId, Sum)>),
    /// To [`TreeQuery::Sums`], in the order of the nodes asked for.
    Sums(Vec<Sum>),
    /// To [`TreeQuery::Keys`].
    Keys(TreePage),
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
}
