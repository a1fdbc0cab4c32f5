//! Dropping a partition: page by page, with its chunks, durable, and nothing beside it.

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

fn drop_partition(stores: &Stores) -> Result<(), StoreError> {
    let (done, reply) = reply();
    stores.drop_partition(PartitionId(3), done);
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

    drop_partition(&stores).unwrap();
    for name in names.iter().map(String::as_str).chain(["large"]) {
        assert_eq!(load(&stores, name), Ok(None), "{name}");
    }
    assert!(held_elsewhere(&stores, "other"));
    assert_eq!(stores.figures(Area::Data).objects, 1);
    let left = rig.data.scan(&[2], &[9], 10).unwrap();
    assert!(left.is_empty(), "chunks are left: {left:?}");
    // Again there is nothing to do, and the keys can be written anew.
    drop_partition(&stores).unwrap();
    put(&stores, "key 000", "new");
    drop(stores);

    // What is gone was synced.
    let stores = rig.open();
    assert_eq!(load(&stores, "key 001"), Ok(None));
    assert!(load(&stores, "key 000").unwrap().is_some());
    assert!(held_elsewhere(&stores, "other"));
}
