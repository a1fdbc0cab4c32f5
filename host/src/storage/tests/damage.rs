//! Records and notes that are not what was written.

use super::super::engine::Batch;
use super::*;

/// Flips a bit in the middle of the first value at or behind `from`.
pub(super) fn flip(engine: &MemoryEngine, from: &[u8]) {
    let (key, value) = engine.scan(from, &[9], 1).unwrap().remove(0);
    let mut value = value.to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 0x10;
    let mut batch = Batch::new();
    batch.put(key.to_vec(), value);
    engine.apply(batch).unwrap();
    engine.sync().unwrap();
}

pub(super) const RECORDS: &[u8] = &[1];
const CHUNKS: &[u8] = &[2];

#[test]
fn a_damaged_record_is_an_error_to_readers_and_missing_to_writers() {
    let rig = Rig::new();
    let stores = rig.open();
    let before = put(&stores, "k", "one");
    stores.forget_kept();
    flip(&rig.data, RECORDS);
    let error = load(&stores, "k").unwrap_err();
    assert!(matches!(error, StoreError::Damaged { store: "data", .. }), "{error}");
    let after = put(&stores, "k", "two");
    assert_ne!(after.dot.unwrap().actor, before.dot.unwrap().actor);
    assert_eq!(after.dot.unwrap().counter, 1);
    assert_eq!(values(&after.siblings), ["two"]);
    // As a replica would repair it: nothing of either write is lost, and the mark holds.
    let repaired = sync(&stores, Area::Data, "k", &before.siblings);
    assert_eq!(values(&repaired.siblings).len(), 2);
    assert_eq!(put(&stores, "k", "three").dot.unwrap().actor, after.dot.unwrap().actor);
    let figures = stores.figures(Area::Data);
    assert_eq!((figures.damaged_records, figures.objects), (2, 1));
}

#[test]
fn a_damaged_chunk_damages_its_record() {
    let rig = Rig::new();
    let stores = rig.open();
    put(&stores, "k", &"x".repeat(200_000));
    flip(&rig.data, CHUNKS);
    assert!(matches!(load(&stores, "k"), Err(StoreError::Damaged { .. })));
    put(&stores, "k", "two");
    assert_eq!(values(&load(&stores, "k").unwrap().unwrap()), ["two"]);
    assert!(rig.data.scan(CHUNKS, &[9], 9).unwrap().is_empty(), "its chunks are gone");
}

#[test]
fn one_damaged_part_makes_a_joined_read_fail() {
    let rig = Rig::new();
    let stores = rig.open();
    put(&stores, "k", "own");
    hint(&stores, "k", "held", &[A]).unwrap();
    assert_eq!(load_from(&stores, "k", true).unwrap().unwrap().live_count(), 2);
    flip(&rig.hints, RECORDS);
    assert!(matches!(load_from(&stores, "k", true), Err(StoreError::Damaged { .. })));
    assert!(load(&stores, "k").unwrap().is_some());
}

#[test]
fn a_damaged_hint_is_passed_over() {
    let rig = Rig::new();
    let stores = rig.open();
    for name in ["a", "b", "c"] {
        hint(&stores, name, "x", &[A]).unwrap();
    }
    flip(&rig.hints, RECORDS);
    let page = list(&stores, A, None, 1);
    assert_eq!(page.iter().map(|hint| &hint.key).collect::<Vec<_>>(), [&key("b")]);
    assert_eq!(stores.hint_figures().waiting[&A], 2);
    drop(stores);
    let stores = rig.open();
    assert_eq!(list(&stores, A, None, 9).len(), 2);
}

#[test]
fn a_damaged_note_is_rebuilt_and_voids_the_clean_stop() {
    let rig = Rig::new();
    let stores = rig.open();
    let last = ["a", "b", "c"].map(|name| put(&stores, name, "x").sequence)[2];
    stores.close().unwrap();
    drop(stores);
    flip(&rig.data, &[]);

    let stores = rig.open();
    assert!(stores.is_after_unclean_stop());
    assert_eq!(stores.figures(Area::Data).objects, 3);
    assert!(put(&stores, "d", "x").sequence > last);
}
