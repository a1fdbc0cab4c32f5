//! Dropping a partition or keyspaces: page by page, with their chunks, durable, and nothing beside them.

use stator_core::id::ClusterId;

use super::damage::{RECORDS, flip};
use super::*;

fn elsewhere(name: &str) -> StoreKey {
    StoreKey { partition: PartitionId(4), ..key(name) }
}

fn put_elsewhere(stores: &Stores, name: &str) {
    let (done, reply) = reply();
    stores.write(WriteJob { key: elsewhere(name), ..put_job(name, "kept", false, done) });
    reply.get().unwrap();
}

fn held_elsewhere(stores: &Stores, name: &str) -> bool {
    let (done, reply) = reply();
    stores.load(LoadJob { key: elsewhere(name), from_hints_too: false, done });
    reply.get().unwrap().is_some()
}

fn drop_partition(stores: &Stores, partition: u16) -> Result<(), StoreError> {
    let (done, reply) = reply();
    stores.drop_partition(PartitionId(partition), done);
    reply.get()
}

#[test]
fn a_partition_goes_with_chunks_and_damage_and_nothing_else() {
    let rig = Rig::new();
    let stores = rig.open();
    stores.keep_trees(ClusterId(7));
    let names: Vec<String> = (0..300).map(|number| format!("key {number:03}")).collect();
    let answers: Vec<_> = names.iter().map(|name| queue_put(&stores, name, "x", false)).collect();
    answers.into_iter().for_each(|answer| drop(answer.get().unwrap()));
    put(&stores, "large", &"y".repeat(200_000));
    put_elsewhere(&stores, "other");
    flip(&rig.data, RECORDS);
    assert_eq!(stores.figures(Area::Data).objects, 302);

    drop_partition(&stores, 3).unwrap();
    for name in names.iter().map(String::as_str).chain(["large"]) {
        assert_eq!(load(&stores, name), Ok(None), "{name}");
    }
    assert!(held_elsewhere(&stores, "other"));
    assert_eq!(stores.figures(Area::Data).objects, 1);
    let left = rig.data.scan(&[2], &[9], 10).unwrap();
    assert!(left.is_empty(), "chunks are left: {left:?}");
    // Again there is nothing to do, and the keys can be written anew.
    drop_partition(&stores, 3).unwrap();
    put(&stores, "key 000", "new");
    drop(stores);

    // What is gone was synced.
    let stores = rig.open();
    assert_eq!(load(&stores, "key 001"), Ok(None));
    assert!(load(&stores, "key 000").unwrap().is_some());
    assert!(held_elsewhere(&stores, "other"));
}

/// A key of a keyspace in a partition.
fn placed(partition: u16, keyspace: u64, name: String) -> StoreKey {
    let (partition, keyspace) = (PartitionId(partition), KeyspaceId(keyspace));
    StoreKey { partition, keyspace, key: name.into() }
}

#[test]
fn deleted_keyspaces_go_from_all_partitions_and_others_stay() {
    let rig = Rig::new();
    let stores = rig.open();
    stores.keep_trees(ClusterId(7));
    // The last id there can be, too: behind it the next partition begins.
    let (deleted, kept) = ([2, 5, u64::MAX], [1, 3, 4, u64::MAX - 1]);
    let all = (0..4).flat_map(|partition| {
        let keyspaces = deleted.iter().chain(&kept);
        keyspaces.flat_map(move |id| (0..70).map(move |n| placed(partition, *id, format!("{n}"))))
    });
    let answers: Vec<_> = all
        .map(|key| {
            let (done, reply) = reply();
            stores.write(WriteJob { key, ..put_job("", "x", false, done) });
            reply
        })
        .collect();
    answers.into_iter().for_each(|answer| drop(answer.get().unwrap()));

    stores.drop_keyspaces(deleted.into_iter().map(KeyspaceId).collect());
    let left = 4 * 70 * kept.len() as u64;
    // Between two of its pages comes what was asked for meanwhile.
    for _ in 0..1_000 {
        drop_partition(&stores, 9).unwrap();
    }
    assert_eq!(stores.figures(Area::Data).objects, left);
    for partition in 0..4 {
        for keyspace in deleted.iter().chain(&kept) {
            let (done, reply) = reply();
            let key = placed(partition, *keyspace, "69".to_owned());
            stores.load(LoadJob { key, from_hints_too: false, done });
            let is_there = reply.get().unwrap().is_some();
            assert_eq!(is_there, kept.contains(keyspace), "{keyspace} in {partition}");
        }
    }
}

#[test]
fn a_keyspace_goes_from_one_partition_and_all_else_stays() {
    let rig = Rig::new();
    let stores = rig.open();
    let places: Vec<(u16, u64)> = (0..3).flat_map(|p| (1..4).map(move |id| (p, id))).collect();
    let names = |(p, id): (u16, u64)| (0..150).map(move |n| placed(p, id, format!("{n}")));
    let queue = |key| {
        let (done, reply) = reply();
        stores.write(WriteJob { key, ..put_job("", "x", false, done) });
        reply
    };
    let answers: Vec<_> = places.iter().flat_map(|place| names(*place)).map(queue).collect();
    answers.into_iter().for_each(|answer| drop(answer.get().unwrap()));

    let (done, dropped) = reply();
    stores.drop_stretch((PartitionId(1), KeyspaceId(2)), done);
    dropped.get().unwrap();
    for (partition, id) in places {
        let (done, reply) = reply();
        let key = placed(partition, id, "149".to_owned());
        stores.load(LoadJob { key, from_hints_too: false, done });
        assert_eq!(reply.get().unwrap().is_some(), (partition, id) != (1, 2));
    }
    assert_eq!(stores.figures(Area::Data).objects, 8 * 150);
}
