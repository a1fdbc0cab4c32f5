//! An engine that fails: what its writers and readers get.

use std::sync::atomic::Ordering::SeqCst;

use super::super::CloseError;
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
    assert_eq!(effect(queue_put(&stores, "k", "1", true).get()), Some(Effect::Maybe));
    // A second sync might claim success for pages that the first one dropped.
    engine.fails_sync.store(false, SeqCst);
    assert_eq!(effect(queue_put(&stores, "l", "2", false).get()), Some(Effect::None));
    assert!(matches!(stores.close(), Err(CloseError::Store(_))));
}

#[test]
fn a_failed_read_in_a_write_sticks_and_in_a_read_does_not() {
    let rig = Rig::new();
    let engine = Scripted::new();
    let stores = rig.open_on(engine.clone());
    put(&stores, "k", "x");
    engine.fails_get.store(true, SeqCst);
    assert!(matches!(load(&stores, "k"), Err(StoreError::Engine { store: "data", .. })));
    engine.fails_get.store(false, SeqCst);
    put(&stores, "k", "y");
    engine.fails_get.store(true, SeqCst);
    assert_eq!(effect(queue_put(&stores, "k", "z", true).get()), Some(Effect::None));
    engine.fails_get.store(false, SeqCst);
    assert_eq!(effect(queue_put(&stores, "k", "z", true).get()), Some(Effect::None));
}

#[test]
fn a_store_that_failed_is_not_stopped_cleanly() {
    let rig = Rig::new();
    let engine = Scripted::new();
    let stores = rig.open_on(engine.clone());
    let incarnation = stores.incarnation();
    engine.fails_apply.store(true, SeqCst);
    assert_eq!(effect(queue_put(&stores, "k", "1", true).get()), Some(Effect::Maybe));
    assert!(stores.close().is_err());
    drop(stores);
    engine.fails_apply.store(false, SeqCst);
    assert_ne!(rig.open_on(engine).incarnation(), incarnation);
}
