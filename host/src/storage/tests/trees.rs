//! Hash trees over a real store: kept with the writes, over a clean stop, counted anew after any
//! other, and right whatever was damaged.

use std::time::Instant;

use stator_core::id::ClusterId;
use stator_core::tree::{
    BUCKETS, KeyHash, LEAF_LEVEL, Part, Roots, Sum, TreeAnswer, TreeKey, TreeNode, TreePage,
    TreeQuery, TreeRead, object_hash,
};

use super::super::TreeJob;
use super::damage::{RECORDS, flip};
use super::*;

const CLUSTER: ClusterId = ClusterId(7);
const KEYSPACE: KeyspaceId = KeyspaceId(7);
const PARTITION: PartitionId = PartitionId(3);

fn ask(stores: &Stores, query: TreeQuery) -> TreeAnswer {
    let (done, reply) = reply();
    stores.read_tree(TreeJob { read: TreeRead { partition: PARTITION, query }, done });
    reply.get().unwrap()
}

/// The answer of a store with one keyspace and no damage.
fn roots(sum: Sum) -> TreeAnswer {
    TreeAnswer::Roots(Roots { sums: vec![(KEYSPACE, sum)], damaged: 0 })
}

/// What the trees say of the partition, once they say anything.
fn root(stores: &Stores) -> Sum {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match ask(stores, TreeQuery::Roots) {
            TreeAnswer::Roots(roots) => {
                let root = roots.sums.into_iter().find(|(keyspace, _)| *keyspace == KEYSPACE);
                return root.map_or(Sum::default(), |(_, sum)| sum);
            }
            TreeAnswer::NotReady => assert!(Instant::now() < deadline, "never rebuilt"),
            other => panic!("{other:?}"),
        }
        std::thread::yield_now();
    }
}

/// What the objects of these keys add up to.
fn counted(stores: &Stores, names: &[String]) -> Sum {
    let sums = TreeKey::of(CLUSTER);
    names.iter().fold(Sum::default(), |sum, name| {
        let siblings = load(stores, name).unwrap().unwrap();
        sum.plus(sums.sum(object_hash(&key(name), &siblings)))
    })
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key {number:03}")).collect()
}

fn put_all(stores: &Stores, names: &[String], value: &str) {
    let answers: Vec<_> = names.iter().map(|name| queue_put(stores, name, value, false)).collect();
    answers.into_iter().for_each(|answer| drop(answer.get().unwrap()));
}

fn file(rig: &Rig) -> std::path::PathBuf {
    rig.path().join("trees")
}

#[test]
fn trees_follow_the_writes_and_outlive_a_clean_stop() {
    let rig = Rig::new();
    let stores = rig.open();
    assert_eq!(ask(&stores, TreeQuery::Roots), TreeAnswer::NotReady, "of no cluster yet");
    stores.keep_trees(CLUSTER);
    assert_eq!(root(&stores), Sum::default());
    let names = names(100);
    put_all(&stores, &names, "one");
    put_all(&stores, &names[..50], "two");
    let before = root(&stores);
    assert_eq!(before, counted(&stores, &names));
    assert_eq!(before.count, 100);
    hint(&stores, "a hint", "x", &[A]).unwrap();
    assert_eq!(root(&stores), before, "hints are in no tree");
    assert!(!file(&rig).exists());
    stores.close().unwrap();
    drop(stores);

    assert!(file(&rig).exists());
    let stores = rig.open();
    assert!(!file(&rig).exists(), "gone before the first write");
    assert!(stores.tree_figures().0, "nothing is to be counted anew");
    assert!(!stores.is_after_unclean_stop());
    assert_eq!(ask(&stores, TreeQuery::Roots), roots(before));
    put_all(&stores, &names[..1], "three");
    assert_eq!(root(&stores), counted(&stores, &names));
}

#[test]
fn trees_are_counted_anew_after_an_unclean_stop_while_writes_go_on() {
    let rig = Rig::new();
    let names = names(400);
    let stores = rig.open();
    stores.keep_trees(CLUSTER);
    put_all(&stores, &names, "one");
    let before = root(&stores);
    drop(stores);

    let stores = rig.open();
    assert!(stores.is_after_unclean_stop());
    assert!(!stores.tree_figures().0);
    // Some behind the place that the count has come to, some ahead of it.
    let answers: Vec<_> = (names.iter().rev().step_by(3))
        .map(|name| queue_put(&stores, name, "two", false))
        .collect();
    stores.keep_trees(CLUSTER);
    let more: Vec<_> =
        (names.iter().step_by(7)).map(|name| queue_put(&stores, name, "three", false)).collect();
    answers.into_iter().chain(more).for_each(|answer| drop(answer.get().unwrap()));
    let after = root(&stores);
    assert_eq!(after, counted(&stores, &names));
    assert_ne!(after, before);
    assert!(stores.tree_figures().0);
}

#[test]
fn a_file_of_trees_that_is_damaged_or_of_another_time_is_not_believed() {
    let rig = Rig::new();
    let names = names(30);
    let stores = rig.open();
    stores.keep_trees(CLUSTER);
    put_all(&stores, &names, "one");
    root(&stores);
    stores.close().unwrap();
    drop(stores);
    let old = std::fs::read(file(&rig)).unwrap();
    let mut bytes = old.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file(&rig), bytes).unwrap();

    let stores = rig.open();
    assert!(!stores.tree_figures().0, "it was damaged");
    stores.keep_trees(CLUSTER);
    put_all(&stores, &names, "two");
    let now = root(&stores);
    stores.close().unwrap();
    drop(stores);
    std::fs::write(file(&rig), old).unwrap();

    let stores = rig.open();
    assert!(!stores.tree_figures().0, "it is of an earlier stop");
    stores.keep_trees(CLUSTER);
    assert_eq!(root(&stores), now);
}

#[test]
fn what_replaces_a_damaged_record_leaves_the_trees_right() {
    let rig = Rig::new();
    let names = names(20);
    let stores = rig.open();
    stores.keep_trees(CLUSTER);
    put_all(&stores, &names, "one");
    root(&stores);
    flip(&rig.data, RECORDS);
    put_all(&stores, &names, "two");
    assert_eq!(root(&stores), counted(&stores, &names));
}

#[test]
fn keys_are_listed_by_bucket_page_by_page_and_damage_shows() {
    let rig = Rig::new();
    let stores = rig.open();
    stores.keep_trees(CLUSTER);
    let names = names(50);
    put_all(&stores, &names, "one");
    root(&stores);
    flip(&rig.data, RECORDS);
    let part = |buckets, after: Option<&str>, until: Option<&str>| {
        let bytes = |name: &str| Bytes::copy_from_slice(name.as_bytes());
        let (after, until) = (after.map(bytes), until.map(bytes));
        TreeQuery::Keys(Part { keyspace: KEYSPACE, buckets, after, until })
    };
    let all = || (0..BUCKETS).collect();
    let TreeAnswer::Keys(TreePage { keys, next: None }) = ask(&stores, part(all(), None, None))
    else {
        panic!("one page holds all")
    };
    assert_eq!(keys.len(), 50);
    assert_eq!(keys[0], KeyHash { key: "key 000".into(), hash: None }, "it is damaged");
    for KeyHash { key: name, hash } in &keys[1..] {
        let name = std::str::from_utf8(name).unwrap();
        let siblings = load(&stores, name).unwrap().unwrap();
        assert_eq!(*hash, Some(object_hash(&key(name), &siblings)));
    }
    // The damage that was met has the trees counted anew: nothing is answered until they are.
    root(&stores);
    let range = ask(&stores, part(all(), Some("key 010"), Some("key 013")));
    let TreeAnswer::Keys(TreePage { keys, next: None }) = range else { panic!("{range:?}") };
    assert_eq!(keys.len(), 3, "behind 010, up to 013");

    // A bucket's keys add up to what the tree says of it.
    let sums = TreeKey::of(CLUSTER);
    for bucket in (0..BUCKETS).step_by(97) {
        let node = TreeNode::new(LEAF_LEVEL, bucket).unwrap();
        let TreeAnswer::Sums(said) = ask(&stores, TreeQuery::Sums(KEYSPACE, vec![node])) else {
            panic!("sums were asked for")
        };
        let TreeAnswer::Keys(page) = ask(&stores, part([bucket].into(), None, None)) else {
            panic!("keys were asked for")
        };
        let hashes = page.keys.iter().filter_map(|known| known.hash);
        let sum = hashes.fold(Sum::default(), |sum, hash| sum.plus(sums.sum(hash)));
        let is_damaged = page.keys.iter().any(|known| known.hash.is_none());
        assert!(is_damaged || said == [sum], "bucket {bucket}");
    }
}
