//! Partitions as they are read for another node, and stores that were lost.

use stator_core::listing::after_prefix;

use super::super::ScanJob;
use super::super::job::ScanPage;
use super::damage::{RECORDS, flip};
use super::*;

fn put_at(stores: &Stores, partition: u16, keyspace: u64, name: &str, value: &str) {
    let (done, reply) = reply();
    let key = StoreKey {
        partition: PartitionId(partition),
        keyspace: KeyspaceId(keyspace),
        key: name.as_bytes().to_vec().into(),
    };
    stores.write(WriteJob { key, ..put_job(name, value, true, done) });
    reply.get().unwrap();
}

fn scan(
    stores: &Stores,
    partition: u16,
    after: Option<StoreKey>,
    (objects_max, bytes_max): (usize, usize),
) -> ScanPage {
    let (done, reply) = reply();
    let first = partition.to_be_bytes();
    let from = after.map_or(first.to_vec(), |after| [&after.encode()[..], &[0]].concat());
    let until = after_prefix(&first);
    stores.scan(ScanJob { from, until, objects_max, bytes_max, since: 0, done });
    reply.get().unwrap()
}

/// All of a partition by pages of this size, and how many pages that took.
fn scan_all(stores: &Stores, partition: u16, size: (usize, usize)) -> (Vec<String>, usize) {
    let (mut names, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = scan(stores, partition, after, size);
        pages += 1;
        for (key, siblings) in page.objects {
            assert_eq!(siblings.live_count(), 1);
            names.push(format!("{}/{}", key.keyspace.0, key.key.escape_ascii()));
        }
        after = page.next;
        if after.is_none() {
            return (names, pages);
        }
    }
}

#[test]
fn a_partition_is_read_in_pages_and_nothing_else_is() {
    let rig = Rig::new();
    let stores = rig.open();
    put_at(&stores, 2, 7, "before", "x");
    put_at(&stores, 4, 7, "behind", "x");
    let mut expected = Vec::new();
    for keyspace in [7, 8] {
        for number in 10..40 {
            put_at(&stores, 3, keyspace, &number.to_string(), &"x".repeat(1_000));
            expected.push(format!("{keyspace}/{number}"));
        }
    }
    assert_eq!(scan_all(&stores, 3, (1_000, usize::MAX)), (expected.clone(), 1));
    assert_eq!(scan_all(&stores, 3, (7, usize::MAX)), (expected.clone(), 9));
    assert_eq!(scan_all(&stores, 3, (1_000, 1)), (expected.clone(), 61), "at least one object");
    let (found, pages) = scan_all(&stores, 3, (1_000, 10_000));
    assert_eq!(found, expected);
    assert!((6..=10).contains(&pages), "{pages} pages of about ten");
    assert_eq!(scan_all(&stores, 5, (9, 9)), (Vec::new(), 1));
}

#[test]
fn a_scan_passes_over_damage_and_counts_it() {
    let rig = Rig::new();
    let stores = rig.open();
    for name in ["a", "b", "c"] {
        put(&stores, name, &"x".repeat(70_000));
    }
    flip(&rig.data, RECORDS);
    let page = scan(&stores, 3, None, (9, usize::MAX));
    assert_eq!((page.objects.len(), page.damaged, page.next), (2, 1, None));
}

#[test]
fn a_lost_data_store_is_noted_for_good_and_each_loss_has_another_number() {
    let mut rig = Rig::new();
    let loss = |rig: &Rig| Home::open(rig.path()).unwrap().loss().unwrap();
    drop(rig.open());
    assert_eq!(loss(&rig), None, "a new directory has lost nothing");
    drop(rig.open());
    assert_eq!(loss(&rig), None, "nor has one that was not stopped cleanly");

    rig.data = MemoryEngine::new();
    drop(rig.open());
    let first = loss(&rig);
    assert!(first.is_some());
    drop(rig.open());
    assert_eq!(loss(&rig), first, "the store has its note again, and still lacks what it lost");

    rig.data = MemoryEngine::new();
    drop(rig.open());
    assert!(loss(&rig).is_some_and(|second| Some(second) != first));
}
