//! An engine that fails: what its writers and readers get.

use std::sync::atomic::Ordering::SeqCst;

use super::super::{CloseError, Fault};
use super::doubles::Scripted;
use super::*;

/// What the error that takes the data store out of service says of the job that got it.
fn effect<T>(result: Result<T, StoreError>) -> Option<Effect> {
    match result {
        Err(StoreError::OutOfService { store: "data", effect, .. }) => Some(effect),
        _ => None,
    }
}

#[test]
fn a_failed_apply_is_told_to_its_whole_group_and_sticks() {
    let rig = Rig::new();
    let engine = Scripted::new();
    let stores = rig.open_on(engine.clone());
    put(&stores, "before", "x");
    engine.hold_up();
    let ahead = queue_put(&stores, "ahead", "1", true);
    engine.await_apply();
    engine.fails_apply.store(true, SeqCst);
    let group = [queue_put(&stores, "k", "2", true), queue_put(&stores, "l", "3", false)];
    engine.let_go();
    ahead.get().unwrap();
    for reply in group {
        assert_eq!(effect(reply.get()), Some(Effect::Maybe));
    }
    engine.fails_apply.store(false, SeqCst);
    let result = queue_put(&stores, "m", "4", true).get();
    let error = result.clone().unwrap_err();
    assert_eq!(effect(result), Some(Effect::None));
    assert!(error.to_string().contains("no space left on device"), "{error}");
    assert!(load(&stores, "before").unwrap().is_some(), "reads go on");
    assert_eq!(load(&stores, "k").unwrap(), None);
    assert!(stores.figures(Area::Data).out_of_service.is_some());
    hint(&stores, "k", "x", &[A]).unwrap();
    assert!(stores.figures(Area::Hints).out_of_service.is_none());
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_sticks() {
    let rig = Rig::new();
    let engine = Scripted::new();
    let stores = rig.open_on(engine.clone());
    engine.fails_sync.store(true, SeqCst);
    let (told, seen) = mpsc::channel();
    let (done, reply) = reply();
    let applied = Some(Box::new(move |done: WriteDone| told.send(done).expect("heard")) as _);
    stores.write(WriteJob { applied, ..put_job("k", "1", true, done) });
    assert_eq!(effect(reply.get()), Some(Effect::Maybe));
    assert!(seen.recv().expect("told before").dot.is_some());
    // A second sync might claim success for pages that the first one dropped.
    engine.fails_sync.store(false, SeqCst);
    assert_eq!(effect(queue_put(&stores, "l", "2", false).get()), Some(Effect::None));
    assert!(matches!(stores.close(), Err(CloseError::Store(_))));
}

#[test]
fn a_refused_read_fails_its_own_job_only() {
    let rig = Rig::new();
    let engine = Scripted::new();
    let stores = rig.open_on(engine.clone());
    put(&stores, "k", "x");
    stores.forget_kept();
    engine.fail_gets(Some(Fault::Refused));
    assert!(matches!(load(&stores, "k"), Err(StoreError::Engine { store: "data", .. })));
    let refused = queue_put(&stores, "k", "y", true).get();
    assert!(matches!(refused, Err(StoreError::Engine { store: "data", .. })), "{refused:?}");
    engine.fail_gets(None);
    put(&stores, "k", "y");
    assert_eq!(load(&stores, "k").unwrap().unwrap().live_count(), 2);
}

#[test]
fn a_key_that_the_engine_cannot_read_counts_as_damaged_and_no_other() {
    for fault in [Fault::Damage, Fault::Medium] {
        let rig = Rig::new();
        let engine = Scripted::new();
        let stores = rig.open_on(engine.clone());
        let before = put(&stores, "k", "x");
        stores.forget_kept();
        engine.fail_gets(Some(fault));
        assert!(matches!(load(&stores, "k"), Err(StoreError::Damaged { store: "data", .. })));
        // As a replica repairs it: the store is in service, and its mark is gone.
        let repaired = sync(&stores, Area::Data, "k", &before.siblings);
        engine.fail_gets(None);
        assert_eq!(load(&stores, "k").unwrap().unwrap(), repaired.siblings);
        let (old, new) = (before.dot.unwrap(), put(&stores, "k", "y").dot.unwrap());
        assert_ne!(old.actor, new.actor);
        assert_eq!(stores.figures(Area::Data).out_of_service, None);
    }
}

#[test]
fn a_store_that_failed_is_not_stopped_cleanly() {
    let rig = Rig::new();
    let engine = Scripted::new();
    let stores = rig.open_on(engine.clone());
    engine.fails_apply.store(true, SeqCst);
    assert_eq!(effect(queue_put(&stores, "k", "1", true).get()), Some(Effect::Maybe));
    assert!(stores.close().is_err());
    drop(stores);
    engine.fails_apply.store(false, SeqCst);
    assert!(rig.open_on(engine).is_after_unclean_stop());
}
