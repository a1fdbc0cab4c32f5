//! The trees of one node's store, and which of them can be trusted.
//!
//! They are kept on the write path: who writes knows the hash of what it replaces (it stands in
//! the record that was loaded) and of what it stores. After an unclean start they are rebuilt from
//! the records, in key order, a page at a time, while writes go on. The rule that makes it right:
//! a write behind the rebuild's cursor changes its tree, one ahead of it is ignored, because the
//! rebuild will meet the record. A page and the writes are applied by the same writer, one after
//! the other. A partition's trees answer once the cursor has passed all of it.
//!
//! A record that rots stays in the sums until somebody meets it; then its partition is counted
//! anew without it. Which records are left out is remembered ([`Trees::damaged`]), so that each
//! costs one rebuild, and whoever compares roots is told that they are not all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Addend, BUCKETS, Roots, Sum, Tree, TreeAnswer, TreeKey, TreeNode, TreeQuery, bucket_of,
};
use crate::codec::{DecodeError, Reader, put_varint};
use crate::id::{ClusterId, KeyspaceId, PartitionId};
use crate::keys::StoreKey;
use crate::usage::Usage;
use bytes::Bytes;

/// A range of partitions that is to be read, or is being read, for their trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// The first partition.
    pub first: PartitionId,
    /// The last one.
    pub last: PartitionId,
    /// How far it is: behind this key. `None` is at the beginning.
    pub behind: Option<StoreKey>,
}

impl Rebuild {
    fn contains(&self, partition: PartitionId) -> bool {
        (self.first..=self.last).contains(&partition)
    }

    /// Whether it has met what is stored under `key`.
    fn has_met(&self, key: &StoreKey) -> bool {
        self.behind.as_ref().is_some_and(|behind| key <= behind)
    }
}

/// The trees of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trees {
    key: TreeKey,
    trees: BTreeMap<(PartitionId, KeyspaceId), Tree>,
    /// Of all trees of a keyspace.
    usages: BTreeMap<KeyspaceId, Usage>,
    /// The first one is under way.
    rebuilds: VecDeque<Rebuild>,
    /// Damaged records: they are in no sum, or will not be once what is distrusted is rebuilt.
    damaged: BTreeSet<StoreKey>,
}

const FORMAT: u8 = 2;
const WHAT: &str = "hash trees";
/// The most damaged records that are remembered. Beyond, all are met anew.
const DAMAGED_MAX: usize = 4_096;

impl Trees {
    /// The trees of an empty store.
    pub fn new(cluster: ClusterId) -> Self {
        Trees {
            key: TreeKey::of(cluster),
            trees: BTreeMap::new(),
            usages: BTreeMap::new(),
            rebuilds: VecDeque::new(),
            damaged: BTreeSet::new(),
        }
    }

    /// The trees of a store of which nothing is known: all of it is to be read.
    pub fn unknown(cluster: ClusterId) -> Self {
        let (first, last) = (PartitionId(0), PartitionId(u16::MAX));
        let rebuilds = VecDeque::from([Rebuild { first, last, behind: None }]);
        Trees { rebuilds, ..Trees::new(cluster) }
    }

    /// The cluster whose sums these are.
    pub fn cluster(&self) -> ClusterId {
        self.key.cluster()
    }

    /// A record was stored in the place of another; `None` is none.
    pub fn changed(&mut self, key: &StoreKey, old: Option<Addend>, new: Option<Addend>) {
        let is_ahead = |r: &Rebuild| r.contains(key.partition) && !r.has_met(key);
        if old != new && !self.rebuilds.iter().any(is_ahead) {
            self.change(key, old, new);
        }
    }

    /// A damaged record was replaced by `new`, or removed.
    pub fn mended(&mut self, key: &StoreKey, new: Option<Addend>) {
        match self.damaged.remove(key) {
            true => self.changed(key, None, new),
            // Nobody knows what it had added.
            false => self.distrust(key.partition),
        }
    }

    /// A record was found to be damaged. What it had added is not known.
    pub fn met_damaged(&mut self, key: &StoreKey) {
        if self.note_damaged(key) {
            self.distrust(key.partition);
        }
    }

    fn note_damaged(&mut self, key: &StoreKey) -> bool {
        if self.damaged.len() >= DAMAGED_MAX && !self.damaged.contains(key) {
            self.damaged.clear();
        }
        self.damaged.insert(key.clone())
    }

    /// How many records of a partition are known to be damaged.
    pub fn damaged(&self, partition: PartitionId) -> u64 {
        self.damaged.iter().filter(|key| key.partition == partition).count() as u64
    }

    fn change(&mut self, key: &StoreKey, old: Option<Addend>, new: Option<Addend>) {
        let sum = |added: Option<Addend>| added.map_or(Sum::default(), |a| self.key.sum(a.hash));
        let usage = |added: Option<Addend>| added.map(|added| added.usage).unwrap_or_default();
        let (old_sum, new_sum) = (sum(old), sum(new));
        let place = (key.partition, key.keyspace);
        let tree = self.trees.entry(place).or_default();
        tree.change(bucket_of(key), old_sum, new_sum);
        tree.usage = tree.usage.minus(usage(old)).plus(usage(new));
        if tree.is_empty() {
            self.trees.remove(&place);
        }
        self.recount(key.keyspace, usage(old), usage(new));
    }

    fn recount(&mut self, keyspace: KeyspaceId, old: Usage, new: Usage) {
        let held = self.usages.entry(keyspace).or_default();
        *held = held.minus(old).plus(new);
        if *held == Usage::default() {
            self.usages.remove(&keyspace);
        }
    }

    /// The trees of `partition` are wrong, or may be: they are rebuilt.
    pub fn distrust(&mut self, partition: PartitionId) {
        let is_begun = |r: &Rebuild| r.behind.as_ref().is_some_and(|b| b.partition >= partition);
        if self.rebuilds.iter().any(|r| r.contains(partition) && !is_begun(r)) {
            return;
        }
        // The one under way may have met a part of it already.
        self.forget(partition, partition);
        let (first, last) = (partition, partition);
        self.rebuilds.push_back(Rebuild { first, last, behind: None });
    }

    fn forget(&mut self, first: PartitionId, last: PartitionId) {
        let all = (first, KeyspaceId(0))..=(last, KeyspaceId(u64::MAX));
        let gone: Vec<_> =
            self.trees.range(all).map(|(place, tree)| (*place, tree.usage)).collect();
        for (place, usage) in gone {
            self.trees.remove(&place);
            self.recount(place.1, usage, Usage::default());
        }
    }

    /// What is to be read next: from behind where it is, in key order.
    pub fn rebuild(&self) -> Option<&Rebuild> {
        self.rebuilds.front()
    }

    /// The next records of [`Self::rebuild`], in key order; a damaged one has no hash. `next` is
    /// the last key that was looked at, `None` if the range has no more.
    pub fn met(
        &mut self,
        records: impl IntoIterator<Item = (StoreKey, Option<Addend>)>,
        next: Option<StoreKey>,
    ) {
        let Some(current) = self.rebuilds.pop_front() else { return };
        for (key, added) in records {
            let Some(added) = added else {
                self.note_damaged(&key);
                continue;
            };
            self.damaged.remove(&key);
            // A later rebuild will meet it once more.
            let is_again = self.rebuilds.iter().any(|later| later.contains(key.partition));
            if current.contains(key.partition) && !current.has_met(&key) && !is_again {
                self.change(&key, None, Some(added));
            }
        }
        // What does not get on would never end.
        let is_on = |next: &StoreKey| current.contains(next.partition) && !current.has_met(next);
        if let Some(next) = next.filter(is_on) {
            self.rebuilds.push_front(Rebuild { behind: Some(next), ..current });
        }
    }

    /// Whether the trees of `partition` say what the store holds.
    pub fn is_ready(&self, partition: PartitionId) -> bool {
        let is_behind =
            |r: &Rebuild| r.behind.as_ref().is_some_and(|behind| partition < behind.partition);
        self.rebuilds.iter().all(|r| !r.contains(partition) || is_behind(r))
    }

    /// Whether nothing is left to be rebuilt.
    pub fn is_complete(&self) -> bool {
        self.rebuilds.is_empty()
    }

    /// How many buckets take memory.
    pub fn buckets(&self) -> usize {
        self.trees.values().map(|tree| tree.buckets.len()).sum()
    }

    /// What there is of each keyspace that there is anything of. Less than that, unless they are
    /// complete.
    pub fn usages(&self) -> &BTreeMap<KeyspaceId, Usage> {
        &self.usages
    }

    /// The tree of a keyspace in a partition, if it holds anything.
    pub fn tree(&self, partition: PartitionId, keyspace: KeyspaceId) -> Option<&Tree> {
        self.trees.get(&(partition, keyspace))
    }

    /// All roots of a partition, in keyspace order.
    pub fn roots(&self, partition: PartitionId) -> Vec<(KeyspaceId, Sum)> {
        let all = (partition, KeyspaceId(0))..=(partition, KeyspaceId(u64::MAX));
        self.trees.range(all).map(|((_, keyspace), tree)| (*keyspace, tree.root())).collect()
    }

    /// Answers a query; `None` is one for keys or objects, which trees do not know.
    pub fn answer(&self, partition: PartitionId, query: &TreeQuery) -> Option<TreeAnswer> {
        if !self.is_ready(partition) {
            return Some(TreeAnswer::NotReady);
        }
        match query {
            TreeQuery::Roots => {
                let (sums, damaged) = (self.roots(partition), self.damaged(partition));
                Some(TreeAnswer::Roots(Roots { sums, damaged }))
            }
            TreeQuery::Sums(keyspace, nodes) => {
                let tree = self.tree(partition, *keyspace);
                let sum = |node: &TreeNode| tree.map_or(Sum::default(), |tree| tree.sum(*node));
                let nodes = nodes.iter().take(TreeQuery::SUMS_MAX);
                Some(TreeAnswer::Sums(nodes.map(sum).collect()))
            }
            TreeQuery::Keys(_) | TreeQuery::Objects(..) => None,
        }
    }

    /// The bytes of complete trees, for a store that holds exactly what they say at commit
    /// `sequence`. `None` if they are not complete.
    pub fn encode(&self, sequence: u64) -> Option<Vec<u8>> {
        if !self.is_complete() {
            return None;
        }
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.key.cluster().0.to_be_bytes());
        put_varint(&mut out, sequence);
        put_varint(&mut out, self.trees.len() as u64);
        for ((partition, keyspace), tree) in &self.trees {
            put_varint(&mut out, u64::from(partition.0));
            out.extend_from_slice(&keyspace.0.to_be_bytes());
            put_varint(&mut out, tree.usage.keys);
            put_varint(&mut out, tree.usage.bytes);
            put_varint(&mut out, tree.buckets.len() as u64);
            for (bucket, sum) in tree.buckets() {
                put_varint(&mut out, u64::from(bucket));
                out.extend_from_slice(&sum.hash.to_be_bytes());
                put_varint(&mut out, sum.count);
            }
        }
        Some(out)
    }

    /// Reads what [`Self::encode`] wrote, with the commit.
    ///
    /// # Errors
    /// The bytes are something else: the trees are to be rebuilt.
    pub fn decode(bytes: Bytes) -> Result<(Self, u64), DecodeError> {
        let mut reader = Reader::new(bytes, WHAT);
        match reader.byte()? {
            FORMAT => {}
            found => return Err(DecodeError::UnknownFormat { what: WHAT, found }),
        }
        let mut trees = Trees::new(ClusterId(read_128(&mut reader)?));
        let sequence = reader.varint()?;
        for _ in 0..reader.count()? {
            let partition = u16::try_from(reader.varint()?)
                .map_err(|_| reader.invalid("there is no such partition"))?;
            let place = (PartitionId(partition), KeyspaceId(reader.fixed64()?));
            let usage = Usage { keys: reader.varint()?, bytes: reader.varint()? };
            trees.recount(place.1, Usage::default(), usage);
            let tree = trees.trees.entry(place).or_default();
            tree.usage = usage;
            for _ in 0..reader.count()? {
                let bucket = u16::try_from(reader.varint()?).ok().filter(|b| *b < BUCKETS);
                let bucket = bucket.ok_or_else(|| reader.invalid("there is no such bucket"))?;
                let sum = Sum { hash: read_128(&mut reader)?, count: reader.varint()? };
                tree.change(bucket, Sum::default(), sum);
            }
        }
        Ok((trees, sequence))
    }
}

fn read_128(reader: &mut Reader) -> Result<u128, DecodeError> {
    let (high, low) = (reader.fixed64()?, reader.fixed64()?);
    Ok(u128::from(high) << 64 | u128::from(low))
}
