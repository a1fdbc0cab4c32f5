//! Reading a keyspace in key order: what the owners of a partition hold in a range of keys, joined.
//!
//! A keyspace lies in as many ranges as there are partitions, because keys are placed by their hash;
//! within one of them keys are in order. A page covers one range of one partition. Every owner in
//! reach is asked for what it holds there, at least r must answer, and what they hold is joined key by
//! key, as a get would. So a page shows every write that a strict quorum has acknowledged before it
//! was asked for, whatever a single owner lacks.
//!
//! Each owner's answer ends where it is full. Beyond the place where the first of them ends nothing
//! is known of that owner, so the page ends there as well, and the next one goes on from it.
//!
//! A page is no snapshot: what is written while a keyspace is read page by page is in it or not.
//! Nothing is repaired, and hints do not count. Left out: asking r owners first and hedging, as gets
//! do: a page is read once, and what it costs is the reading.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::causality::Siblings;
use crate::id::{KeyspaceId, NodeId, PartitionId, RequestId, Ticket};
use crate::keys::StoreKey;

/// The most objects that an owner puts into one answer.
pub const OBJECTS_MAX: usize = 512;
/// An owner's answer ends with the object that goes beyond this, in bytes.
pub const BYTES_MAX: usize = 1 << 20;

/// The keys of a keyspace in one partition from one on, up to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The partition.
    pub partition: PartitionId,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The first key, if there is one like that.
    pub from: Bytes,
    /// The first key that is not meant; `None` is up to the last.
    pub until: Option<Bytes>,
}

impl KeyRange {
    /// The range as physical keys: the first one, and the first that is not meant, if there is any.
    pub fn physical(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let (partition, keyspace) = (self.partition, self.keyspace);
        let physical = |key: &Bytes| StoreKey { partition, keyspace, key: key.clone() }.encode();
        let until = match &self.until {
            Some(until) => Some(physical(until)),
            None => after_prefix(&physical(&Bytes::new())),
        };
        (physical(&self.from), until)
    }
}

/// The smallest bytes above all that begin with `prefix`; `None` if there are none.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

/// The smallest key above this one.
fn above(key: &Bytes) -> Bytes {
    [key, &[0][..]].concat().into()
}

/// What one owner holds of a range, in key order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice {
    /// The objects.
    pub objects: Vec<(Bytes, Arc<Siblings>)>,
    /// Whether there may be more behind the last one.
    pub is_cut: bool,
}

/// What a client wants of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRequest {
    /// The range.
    pub range: KeyRange,
    /// How many owners must answer; `None` takes the keyspace's r.
    pub r: Option<u32>,
    /// How long the client waits, in milliseconds.
    pub timeout_ms: u64,
}

/// A page of a range, in key order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListPage {
    /// The objects, joined of what the owners hold.
    pub objects: Vec<(Bytes, Arc<Siblings>)>,
    /// Where the next page starts; `None` is the end of the range.
    pub next: Option<Bytes>,
    /// Owners that answered.
    pub answered: u32,
}

/// A page that is being read.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) ticket: Ticket,
    pub(crate) partition: PartitionId,
    pub(crate) needed: u32,
    waiting: BTreeSet<NodeId>,
    slices: Vec<Slice>,
}

impl Listing {
    pub(crate) fn new(
        (ticket, partition): (Ticket, PartitionId),
        needed: u32,
        asked: impl Iterator<Item = NodeId>,
    ) -> Self {
        Listing { ticket, partition, needed, waiting: asked.collect(), slices: Vec::new() }
    }

    /// `owner` has answered, or will not. Whether everybody has.
    pub(crate) fn ended(&mut self, owner: NodeId, slice: Option<Slice>) -> bool {
        if self.waiting.remove(&owner) {
            self.slices.extend(slice);
        }
        self.waiting.is_empty()
    }

    pub(crate) fn answered(&self) -> u32 {
        self.slices.len() as u32
    }

    /// What all of them hold, as far as all of them told.
    pub(crate) fn join(self) -> ListPage {
        let answered = self.answered();
        let ends = self.slices.iter().filter(|slice| slice.is_cut);
        let end = ends.filter_map(|slice| slice.objects.last()).map(|(key, _)| key.clone()).min();
        let mut joined: BTreeMap<Bytes, Arc<Siblings>> = BTreeMap::new();
        for (key, theirs) in self.slices.into_iter().flat_map(|slice| slice.objects) {
            if end.as_ref().is_some_and(|end| key > *end) {
                continue;
            }
            let ours = joined.entry(key).or_insert_with(|| theirs.clone());
            if *ours != theirs {
                Arc::make_mut(ours).sync(&theirs);
            }
        }
        let next = end.as_ref().map(above);
        ListPage { objects: joined.into_iter().collect(), next, answered }
    }
}

/// Pages that are being read, by a number of their own.
pub(crate) type Listings = BTreeMap<RequestId, Listing>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::causality::VersionVector;
    use crate::id::{Actor, Dot, Incarnation};
    use crate::version::Version;

    fn object(writes: &[u64]) -> Arc<Siblings> {
        let mut object = Siblings::new();
        for counter in writes {
            let actor = Actor { node: NodeId(*counter), incarnation: Incarnation(1), epoch: 0 };
            let dot = Dot { actor, counter: 1 };
            let version = Version::plain(dot, "v", 0);
            object.put(&VersionVector::new(), dot, Arc::new(version));
        }
        Arc::new(object)
    }

    /// What an owner answers for keys from `from` on, at most so many of them.
    fn slice(held: &BTreeMap<u8, BTreeSet<u64>>, from: &Bytes, most: usize) -> Slice {
        let all = held.iter().map(|(key, writes)| (Bytes::from(vec![*key]), writes));
        let mut rest = all.filter(|(key, _)| key >= from);
        let taken = rest
            .by_ref()
            .take(most)
            .map(|(key, writes)| (key, object(&writes.iter().copied().collect::<Vec<_>>())));
        let objects = taken.collect();
        Slice { objects, is_cut: rest.next().is_some() }
    }

    proptest! {
        #[test]
        fn pages_of_any_size_show_the_join_of_all_owners_once_and_in_order(
            owners in prop::collection::vec(
                prop::collection::btree_map(
                    any::<u8>(), prop::collection::btree_set(1..4u64, 1..4), 0..20),
                1..4),
            most in 1..6usize,
        ) {
            let mut expected: BTreeMap<u8, BTreeSet<u64>> = BTreeMap::new();
            for (key, writes) in owners.iter().flatten() {
                expected.entry(*key).or_default().extend(writes);
            }
            let (mut found, mut from) = (Vec::new(), Bytes::new());
            loop {
                let nodes = (0..owners.len() as u64).map(NodeId);
                let mut listing = Listing::new((7, PartitionId(0)), 1, nodes.clone());
                let mut is_over = false;
                for (node, held) in nodes.zip(&owners) {
                    prop_assert!(!is_over);
                    is_over = listing.ended(node, Some(slice(held, &from, most)));
                }
                prop_assert!(is_over);
                let page = listing.join();
                found.extend(page.objects);
                match page.next {
                    Some(next) => from = next,
                    None => break,
                }
            }
            let expected: Vec<_> = expected.into_iter().map(|(key, writes)| {
                (Bytes::from(vec![key]), object(&writes.into_iter().collect::<Vec<_>>()))
            }).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn what_is_after_a_prefix_is_above_all_that_begin_with_it(
            prefix in prop::collection::vec(any::<u8>(), 0..4),
            rest in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let key = [prefix.clone(), rest].concat();
            if let Some(after) = after_prefix(&prefix) {
                prop_assert!(key < after);
                prop_assert!(!after.starts_with(&prefix));
            } else {
                prop_assert!(prefix.iter().all(|byte| *byte == u8::MAX));
            }
        }
    }

    #[test]
    fn an_owner_that_does_not_answer_is_not_waited_for_and_does_not_count() {
        let mut listing = Listing::new((7, PartitionId(0)), 1, [NodeId(1), NodeId(2)].into_iter());
        assert!(!listing.ended(NodeId(3), Some(Slice::default())), "it was not asked");
        assert!(!listing.ended(NodeId(1), None));
        assert!(listing.ended(NodeId(2), Some(Slice::default())));
        assert_eq!(listing.answered(), 1);
    }
}
