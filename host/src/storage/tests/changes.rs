//! What a store tells of its changes: from its log, from itself, and that it cannot.

use stator_core::collect::Marked;
use stator_core::listing::after_prefix;
use stator_core::tree::object_hash;

use super::super::{Position, ScanJob, Since, Watcher};
use super::*;

/// The changed keys after a position, and how far that is.
fn changed(watcher: &mut Watcher, position: u64) -> (Vec<StoreKey>, u64) {
    match watcher.since(position, |_| true) {
        Since::Changes(changes, last) => {
            (changes.iter().map(|changed| changed.key.clone()).collect(), last)
        }
        other => panic!("{other:?}"),
    }
}

/// What the store holds with a larger number.
fn scanned(stores: &Stores, since: u64) -> Vec<StoreKey> {
    let (done, reply) = reply();
    let from = 3u16.to_be_bytes().to_vec();
    let until = after_prefix(&from);
    let (objects_max, bytes_max) = (100, usize::MAX);
    stores.scan(ScanJob { from, until, objects_max, bytes_max, since, done });
    reply.get().unwrap().objects.into_iter().map(|(key, _)| key).collect()
}

/// Deletes a key and forgets it.
fn forget(stores: &Stores, name: &str) {
    let mut delete = mint(Context::of(&load(stores, name).unwrap().unwrap()), "");
    let Change::Mint { draft, .. } = &mut delete else { panic!("a mint is expected") };
    draft.payload = Payload::Tombstone;
    let (done, deleted) = reply();
    stores.write(WriteJob { change: delete, ..put_job(name, "", true, done) });
    let siblings = deleted.get().unwrap().siblings;
    collect(stores, name, &siblings);
}

fn collect(stores: &Stores, name: &str, siblings: &Siblings) {
    let hash = object_hash(&key(name), siblings);
    let (may_be_absent, must_be_absent, now_ms) = (true, false, u64::MAX);
    let marked = Marked { key: key(name), hash, may_be_absent, must_be_absent, now_ms };
    let (done, collected) = reply();
    stores.write(WriteJob { change: Change::Collect(marked), ..put_job(name, "", true, done) });
    collected.get().unwrap();
}

#[test]
fn a_watcher_is_told_of_what_is_committed_from_then_on() {
    let rig = Rig::new();
    let stores = rig.open();
    let first = put(&stores, "before", "x");
    let mut watcher = stores.watch();
    let start = watcher.now();
    assert!(start.sequence >= first.sequence && watcher.knows(&start));
    assert_eq!(changed(&mut watcher, start.sequence), (vec![], start.sequence));
    let held = put(&stores, "a", "x");
    put(&stores, "b", "x");
    let (keys, last) = changed(&mut watcher, start.sequence);
    assert_eq!(keys, ["a", "b"].map(key));
    // What is there already changes nothing.
    sync(&stores, Area::Data, "a", &held.siblings);
    assert_eq!(changed(&mut watcher, last).0, []);
    // Whoever comes from before the log reads the store.
    let Since::Behind(until) = watcher.since(0, |_| true) else { panic!("nothing is forgotten") };
    assert!(until >= last);
    assert_eq!(scanned(&stores, 0), ["a", "b", "before"].map(key));
    assert_eq!(scanned(&stores, start.sequence), ["a", "b"].map(key));
}

#[test]
fn a_position_outlives_a_restart_and_no_other_store() {
    let rig = Rig::new();
    let stores = rig.open();
    stores.watch();
    put(&stores, "a", "x");
    let position = stores.watch().now();
    put(&stores, "b", "x");
    drop(stores);
    let stores = rig.open();
    let mut watcher = stores.watch();
    assert!(watcher.knows(&position), "after a crash");
    assert!(matches!(watcher.since(position.sequence, |_| true), Since::Behind(_)));
    assert_eq!(scanned(&stores, position.sequence), [key("b")]);
    let now = watcher.now();
    assert!(!watcher.knows(&Position { sequence: now.sequence + 1, ..now }), "of no commit yet");
    assert!(!watcher.knows(&Position { loss: now.loss + 1, ..now }));
    assert!(!watcher.knows(&Position { sequence: now.sequence + 1, ..position }), "of a copy");
    drop(watcher);
    stores.close().unwrap();
    drop(stores);
    let stores = rig.open();
    assert!(stores.watch().knows(&position) && stores.watch().knows(&now), "after a clean stop");
    put(&stores, "c", "x");
    let later = Position { sequence: stores.watch().now().sequence, ..now };
    assert!(!stores.watch().knows(&later), "that life ended before");
    drop(stores);
    let lost = Rig { data: MemoryEngine::new(), ..rig };
    assert!(!lost.open().watch().knows(&position), "another store");
}

#[test]
fn who_may_have_missed_a_delete_is_told_so() {
    let rig = Rig::new();
    let stores = rig.open();
    put(&stores, "gone", "x");
    let before = stores.watch().now();
    forget(&stores, "gone");
    let after = stores.watch().now();
    put(&stores, "b", "x");
    stores.close().unwrap();
    drop(stores);
    let stores = rig.open();
    let mut watcher = stores.watch();
    assert_eq!(watcher.since(before.sequence, |_| true), Since::Lost);
    assert!(matches!(watcher.since(after.sequence, |_| true), Since::Behind(_)), "it was told");
}

#[test]
fn a_read_of_the_store_knows_what_was_forgotten_under_it() {
    let rig = Rig::new();
    let stores = rig.open();
    put(&stores, "a", "x");
    let mut watcher = stores.watch();
    let now = watcher.now().sequence;
    put(&stores, "gone", "x");
    let (since, until) = (now, watcher.now().sequence + 1);
    watcher.begin_scan(since, until);
    forget(&stores, "gone");
    assert!(!watcher.end_scan(), "its tombstone came within what is read");
    let now = watcher.now().sequence;
    watcher.begin_scan(0, now);
    put(&stores, "late", "x");
    forget(&stores, "late");
    assert!(watcher.end_scan(), "the log has it");
    assert!(watcher.end_scan(), "nothing is read");
}
