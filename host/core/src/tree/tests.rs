//! Sums are what they say, whatever the order of changes, and a rebuild among writes ends with
//! what a fresh count gives.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::id::{KeyspaceId, PartitionId};

fn key(number: u16) -> StoreKey {
    StoreKey {
        partition: PartitionId(number % 5),
        keyspace: KeyspaceId(u64::from(number % 2)),
        key: Bytes::from(format!("key {number}")),
    }
}

fn cluster() -> ClusterId {
    ClusterId(7)
}

type Held = BTreeMap<StoreKey, Addend>;

fn addend(value: u128) -> Addend {
    let usage = Usage { keys: (value % 2) as u64, bytes: 100 + value as u64 };
    Addend { hash: ObjectHash(value), usage }
}

fn counted(held: &Held) -> Trees {
    let mut trees = Trees::new(cluster());
    held.iter().for_each(|(key, hash)| trees.changed(key, None, Some(*hash)));
    trees
}

/// A write to the store and its trees. 0 deletes.
fn write(held: &mut Held, trees: &mut Trees, number: u16, value: u8) {
    let key = key(number);
    let new = (value > 0).then(|| addend(value.into()));
    let old = match new {
        Some(new) => held.insert(key.clone(), new),
        None => held.remove(&key),
    };
    trees.changed(&key, old, new);
}

/// Reads the next `count` records for the trees, as a store does.
fn rebuild(held: &Held, trees: &mut Trees, count: usize) {
    let Some(Rebuild { first, last, behind }) = trees.rebuild().cloned() else { return };
    let is_asked = |key: &StoreKey| {
        (first..=last).contains(&key.partition) && behind.as_ref().is_none_or(|b| key > b)
    };
    let page: Vec<_> = held.iter().filter(|(key, _)| is_asked(key)).take(count).collect();
    let next = page.last().filter(|_| page.len() == count).map(|(key, _)| (*key).clone());
    let page: Vec<_> = page.into_iter().map(|(key, hash)| (key.clone(), Some(*hash))).collect();
    trees.met(page, next);
}

#[derive(Debug, Clone)]
enum Step {
    Write(u16, u8),
    Page(usize),
    Distrust(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u16..40, 0u8..4).prop_map(|(number, value)| Step::Write(number, value)),
        2 => (1usize..4).prop_map(Step::Page),
        1 => (0u16..5).prop_map(Step::Distrust),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn incremental_equals_rebuilt(writes in prop::collection::vec((0u16..60, 0u8..4), 0..200)) {
        let (mut held, mut trees) = (Held::new(), Trees::new(cluster()));
        for (number, value) in writes {
            write(&mut held, &mut trees, number, value);
        }
        prop_assert_eq!(trees, counted(&held));
    }

    #[test]
    fn the_order_does_not_matter(
        numbers in prop::collection::btree_set(0u16..200, 1..60).prop_flat_map(|numbers| {
            let numbers: Vec<u16> = numbers.into_iter().collect();
            (Just(numbers.clone()), Just(numbers).prop_shuffle())
        }),
    ) {
        let trees = |numbers: &[u16]| {
            let mut trees = Trees::new(cluster());
            for number in numbers {
                trees.changed(&key(*number), None, Some(addend((*number).into())));
            }
            trees
        };
        prop_assert_eq!(trees(&numbers.0), trees(&numbers.1));
    }

    #[test]
    fn a_node_is_the_sum_of_its_children(values in prop::collection::vec((0u16..4096, 1u128..), 0..80)) {
        let mut tree = Tree::default();
        for (bucket, hash) in values {
            tree.change(bucket, Sum::default(), Sum { hash, count: 1 });
        }
        let mut level = vec![TreeNode::ROOT];
        while !level.is_empty() {
            for node in &level {
                let children: Vec<TreeNode> = node.children().collect();
                let sums = children.iter().map(|child| tree.sum(*child));
                let sum = sums.fold(Sum::default(), Sum::plus);
                prop_assert!(children.is_empty() || sum == tree.sum(*node));
            }
            level = level.iter().flat_map(TreeNode::children).collect();
        }
    }

    #[test]
    fn a_rebuild_among_writes_ends_right(
        before in prop::collection::vec((0u16..40, 1u8..4), 0..60), steps in steps(),
    ) {
        let mut held = Held::new();
        let mut ignored = Trees::new(cluster());
        before.into_iter().for_each(|(n, value)| write(&mut held, &mut ignored, n, value));
        let mut trees = Trees::unknown(cluster());
        for step in steps {
            match step {
                Step::Write(number, value) => write(&mut held, &mut trees, number, value),
                Step::Page(count) => rebuild(&held, &mut trees, count),
                Step::Distrust(partition) => trees.distrust(PartitionId(partition)),
            }
            let right = counted(&held);
            for partition in (0..5).map(PartitionId).filter(|p| trees.is_ready(*p)) {
                prop_assert_eq!(trees.roots(partition), right.roots(partition));
            }
        }
        while !trees.is_complete() {
            rebuild(&held, &mut trees, 3);
        }
        prop_assert_eq!(trees, counted(&held));
    }

    #[test]
    fn trees_read_back(writes in prop::collection::vec((0u16..60, 1u8..4), 0..80), at in any::<u64>()) {
        let (mut held, mut trees) = (Held::new(), Trees::new(cluster()));
        writes.into_iter().for_each(|(n, value)| write(&mut held, &mut trees, n, value));
        let bytes = trees.encode(at).unwrap();
        prop_assert_eq!(Trees::decode(bytes.into()), Ok((trees, at)));
    }

    #[test]
    fn foreign_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Trees::decode(Bytes::from([vec![2], bytes].concat()));
    }
}

#[test]
fn a_sum_depends_on_the_cluster_the_key_and_the_object() {
    let sum = |cluster| TreeKey::of(ClusterId(cluster)).sum(ObjectHash(1));
    assert_eq!(sum(1), sum(1));
    assert_ne!(sum(1), sum(2));
    let nothing = Siblings::new();
    assert_ne!(object_hash(&key(1), &nothing), object_hash(&key(3), &nothing));
    // The partition says where a key is kept, not what it is.
    let elsewhere = StoreKey { partition: PartitionId(9), ..key(1) };
    assert_eq!(object_hash(&key(1), &nothing), object_hash(&elsewhere, &nothing));
}

#[test]
fn nodes_are_numbered_within_their_level() {
    assert_eq!(TreeNode::new(0, 0), Some(TreeNode::ROOT));
    assert!(TreeNode::new(0, 1).is_none());
    assert!(TreeNode::new(3, 4095).is_some());
    assert!(TreeNode::new(3, 4096).is_none());
    assert!(TreeNode::new(4, 0).is_none());
    assert!(TreeNode::new(u8::MAX, 0).is_none());
}

#[test]
fn buckets_are_used_alike() {
    let mut used = std::collections::BTreeSet::new();
    (0..20_000u32).for_each(|number| {
        let key = Bytes::from(number.to_be_bytes().to_vec());
        used.insert(bucket_of(&StoreKey {
            partition: PartitionId(0),
            keyspace: KeyspaceId(1),
            key,
        }));
    });
    // 20,000 balls leave about 31 of 4,096 bins empty.
    assert!(used.len() > 4_000, "{}", used.len());
}
