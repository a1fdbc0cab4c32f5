//! Stops, clean and unclean, and what a node may go on with after them.

use super::super::EngineKind;
use super::*;

#[test]
fn after_a_clean_stop_everything_goes_on_under_another_name() {
    let rig = Rig::new();
    let stores = rig.open();
    let before = put(&stores, "k", "one");
    queue_put(&stores, "buffered", "x", false).get().unwrap();
    stores.close().unwrap();
    drop(stores);
    rig.data.forget_unsynced();

    let stores = rig.open();
    assert!(!stores.is_after_unclean_stop());
    assert!(load(&stores, "buffered").unwrap().is_some());
    let after = put(&stores, "k", "two");
    let (old, new) = (before.dot.unwrap(), after.dot.unwrap());
    assert_ne!(new.actor.incarnation, old.actor.incarnation, "a copy may have started as well");
    assert_eq!(new.counter, 1);
    assert_eq!(after.sequence, 3);
    assert_eq!(stores.figures(Area::Data).objects, 2);
}

#[test]
fn without_a_clean_stop_something_may_be_lost() {
    let rig = Rig::new();
    let stores = rig.open();
    let before = put(&stores, "k", "one");
    drop(stores);

    let stores = rig.open();
    assert!(stores.is_after_unclean_stop());
    let after = put(&stores, "k", "two");
    let (old, new) = (before.dot.unwrap(), after.dot.unwrap());
    assert_ne!(new.actor, old.actor, "the mark is void");
    assert_eq!(new.counter, 1);
    assert_eq!(values(&after.siblings).len(), 2);
    assert!(after.sequence > before.sequence);
}

#[test]
fn a_clean_stop_counts_once() {
    let rig = Rig::new();
    let stores = rig.open();
    put(&stores, "k", "one");
    stores.close().unwrap();
    drop(stores);
    drop(rig.open());
    assert!(rig.open().is_after_unclean_stop());
}

#[test]
fn a_clean_stop_of_other_data_does_not_count() {
    let mut rig = Rig::new();
    let stores = rig.open();
    put(&stores, "k", "one");
    stores.close().unwrap();
    drop(stores);
    rig.data = MemoryEngine::new();
    assert!(rig.open().is_after_unclean_stop(), "the data was lost in between");
}

#[test]
fn what_was_acknowledged_as_synced_survives_a_power_cut() {
    let rig = Rig::new();
    let stores = rig.open();
    let mut replies = Vec::new();
    for n in 0..200 {
        let engine = rig.data.clone();
        let (done, reply) = reply();
        // The power goes in the very moment of the acknowledgement.
        let done = Box::new(move |result| {
            engine.forget_unsynced();
            done(result);
        });
        stores.write(put_job(&format!("k{n}"), "x", true, done));
        replies.push(reply);
    }
    replies.into_iter().for_each(|reply| drop(reply.get().unwrap()));
    hint(&stores, "hint", "x", &[A]).unwrap();
    rig.hints.forget_unsynced();
    drop(stores);
    rig.data.forget_unsynced();

    let stores = rig.open();
    for n in 0..200 {
        assert!(load(&stores, &format!("k{n}")).unwrap().is_some(), "k{n} was acknowledged");
    }
    assert_eq!(list(&stores, A, None, 9).len(), 1);
}

#[test]
fn no_sequence_and_no_dot_is_used_twice_after_a_power_cut() {
    let rig = Rig::new();
    let mut dots = std::collections::BTreeSet::new();
    let mut last = 0;
    for life in 0..4 {
        let stores = rig.open();
        for sync in [life == 2, false, false] {
            let done = queue_put(&stores, "k", "x", sync).get().unwrap();
            assert!(done.sequence > last);
            last = done.sequence;
            assert!(dots.insert(done.dot.unwrap()));
        }
        rig.data.forget_unsynced();
        drop(stores);
        rig.data.forget_unsynced();
    }
}

/// `sled` opens a log with a damaged byte without a word and drops what stood behind it.
#[test]
fn what_sled_loses_in_silence_is_no_clean_stop() {
    let options = StoreOptions { cache_bytes: 8 << 20, ..StoreOptions::default() };
    let mut lost_in_all = 0;
    for at in [30, 2_000, 20_000] {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let home = Arc::new(Home::open(directory.path()).unwrap());
            Stores::open(home, &options)
        };
        let stores = open().unwrap();
        for n in 0..50 {
            put(&stores, &format!("k{n}"), &"x".repeat(4096));
        }
        stores.close().unwrap();
        drop(stores);
        let log = directory.path().join("data/db");
        let mut bytes = std::fs::read(&log).unwrap();
        bytes[at] ^= 0x10;
        std::fs::write(&log, bytes).unwrap();

        let stores = match open() {
            Ok(stores) => stores,
            Err(error) => {
                let names_it =
                    error.to_string().contains(&log.parent().unwrap().display().to_string());
                assert!(names_it, "{error}");
                continue;
            }
        };
        let lost = (0..50).filter(|n| load(&stores, &format!("k{n}")) == Ok(None)).count();
        let is_noticed = stores.is_after_unclean_stop();
        assert!(lost == 0 || is_noticed, "byte {at}: {lost} keys lost unnoticed");
        lost_in_all += lost;
    }
    assert!(lost_in_all > 0, "nothing was lost in silence: this tested nothing");
}

#[test]
fn a_memory_store_never_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions { engine: EngineKind::Memory, ..StoreOptions::default() };
    let open = || {
        let home = Arc::new(Home::open(directory.path()).unwrap());
        Stores::open(home, &options).unwrap()
    };
    open().close().unwrap();
    assert!(open().is_after_unclean_stop());
}

#[test]
fn sled_stores_go_on_after_a_clean_stop() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions { cache_bytes: 8 << 20, ..StoreOptions::default() };
    let open = || {
        let home = Arc::new(Home::open(directory.path()).unwrap());
        Stores::open(home, &options).unwrap()
    };
    let stores = open();
    let large = "x".repeat(1 << 20);
    let before = put(&stores, "k", &large);
    hint(&stores, "hint", "x", &[A, B]).unwrap();
    stores.close().unwrap();
    let error = queue_put(&stores, "k", "late", true).get().unwrap_err();
    assert_eq!(error, StoreError::Closed { store: "data" });
    assert_eq!(load(&stores, "k").unwrap_err(), StoreError::Closed { store: "data" });
    drop(stores);

    let stores = open();
    assert!(!stores.is_after_unclean_stop());
    assert_eq!(load(&stores, "k").unwrap().unwrap(), before.siblings);
    assert_eq!(stores.hint_figures().waiting, BTreeMap::from([(A, 1), (B, 1)]));
}
