//! Writes and reads, and what a group of them shares.

use std::collections::BTreeSet;
use std::time::Instant;

use stator_core::write::WriteRefused;

use super::doubles::Scripted;
use super::*;

#[test]
fn what_is_written_is_read_and_a_context_replaces_what_it_saw() {
    let rig = Rig::new();
    let stores = rig.open();
    assert_eq!(load(&stores, "k").unwrap(), None);
    let first = put(&stores, "k", "one");
    let (done, reply) = reply();
    let change = mint(Context::of(&first.siblings), "two");
    stores.write(WriteJob { change, ..put_job("k", "", true, done) });
    let second = reply.get().unwrap();
    assert_eq!(values(&second.siblings), ["two"]);
    assert_eq!(load(&stores, "k").unwrap().unwrap(), second.siblings);
    assert_eq!((first.sequence, second.sequence), (1, 2));
    let figures = stores.figures(Area::Data);
    assert_eq!((figures.objects, figures.sequence), (1, 2));
}

#[test]
fn two_blind_puts_of_a_key_in_one_group_see_each_other() {
    let rig = Rig::new();
    let engine = Scripted::new();
    let stores = rig.open_on(engine.clone());
    engine.hold_up();
    let ahead = queue_put(&stores, "other", "x", true);
    engine.await_apply();
    let (one, two) = (queue_put(&stores, "k", "one", true), queue_put(&stores, "k", "two", false));
    engine.let_go();
    ahead.get().unwrap();
    let (one, two) = (one.get().unwrap(), two.get().unwrap());
    assert_eq!(stores.figures(Area::Data).commits, 2, "both went in one group");
    assert_eq!(values(&one.siblings), ["one"]);
    assert_eq!(values(&two.siblings), ["one", "two"]);
    let (one_dot, two_dot) = (one.dot.unwrap(), two.dot.unwrap());
    assert_eq!(one_dot.actor, two_dot.actor);
    assert_eq!((one_dot.counter, two_dot.counter), (1, 2));
    assert_eq!(one.sequence + 1, two.sequence);
    assert_eq!(load(&stores, "k").unwrap().unwrap(), two.siblings);
}

#[test]
fn a_group_shares_a_sync_and_buffered_writes_do_without() {
    let rig = Rig::new();
    let engine = Scripted::new();
    let stores = rig.open_on(engine.clone());
    queue_put(&stores, "buffered", "x", false).get().unwrap();
    assert_eq!(stores.figures(Area::Data).syncs, 0);
    engine.hold_up();
    let ahead = queue_put(&stores, "ahead", "x", false);
    engine.await_apply();
    let names: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
    let replies: Vec<_> = names.iter().map(|k| queue_put(&stores, k, "x", true)).collect();
    engine.let_go();
    ahead.get().unwrap();
    let dots: BTreeSet<_> =
        replies.into_iter().map(|reply| reply.get().unwrap().dot.unwrap()).collect();
    assert_eq!(dots.len(), 50);
    assert_eq!(stores.figures(Area::Data).syncs, 1);
    assert_eq!(stores.figures(Area::Data).objects, 52);
}

#[test]
fn buffered_writes_are_synced_soon() {
    let mut rig = Rig::new();
    rig.options.sync_within = Duration::from_millis(1);
    let stores = rig.open();
    queue_put(&stores, "k", "x", false).get().unwrap();
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while stores.figures(Area::Data).syncs == 0 {
        assert!(Instant::now() < give_up_at, "it was never synced");
        std::thread::yield_now();
    }
    rig.data.forget_unsynced();
    assert!(load(&stores, "k").unwrap().is_some());
}

#[test]
fn an_object_that_is_known_already_is_not_written_again() {
    let rig = Rig::new();
    let stores = rig.open();
    let first = put(&stores, "k", "x");
    let commits = stores.figures(Area::Data).commits;
    let again = sync(&stores, Area::Data, "k", &first.siblings);
    assert_eq!((again.sequence, again.dot), (first.sequence, None));
    assert_eq!(stores.figures(Area::Data).commits, commits);
}

#[test]
fn large_siblings_are_kept_in_chunks() {
    let rig = Rig::new();
    let stores = rig.open();
    let large = "x".repeat(700_000);
    put(&stores, "k", &large);
    let both = put(&stores, "k", "small");
    assert_eq!(values(&load(&stores, "k").unwrap().unwrap()), [&large[..], "small"]);
    let largest = rig.data.scan(&[], &[9], 999).unwrap().iter().map(|(_, v)| v.len()).max();
    assert!(largest < Some(65 << 10));
    let (done, reply) = reply();
    let change = mint(Context::of(&both.siblings), "sole");
    stores.write(WriteJob { change, ..put_job("k", "", true, done) });
    reply.get().unwrap();
    assert_eq!(rig.data.scan(&[1], &[9], 999).unwrap().len(), 1, "the chunks are gone");
}

#[test]
fn a_refused_put_changes_nothing() {
    let rig = Rig::new();
    let stores = rig.open();
    put(&stores, "k", "one");
    let (done, reply) = reply();
    let mut job = put_job("k", "two", true, done);
    if let Change::Mint { limits, .. } = &mut job.change {
        limits.siblings_max = 1;
    }
    stores.write(job);
    let refused = WriteRefused::TooManySiblings { found: 1, max: 1 };
    assert_eq!(reply.get(), Err(StoreError::Refused(refused)));
    assert_eq!(values(&load(&stores, "k").unwrap().unwrap()), ["one"]);
    assert_eq!(put(&stores, "k", "three").dot.unwrap().counter, 2);
}

#[test]
fn a_full_queue_is_an_answer_at_once() {
    let mut rig = Rig::new();
    rig.options.jobs_max = 2;
    let engine = Scripted::new();
    let stores = rig.open_on(engine.clone());
    engine.hold_up();
    let held = queue_put(&stores, "k", "1", true);
    engine.await_apply();
    let waiting = [queue_put(&stores, "k", "2", true), queue_put(&stores, "k", "3", true)];
    let error = queue_put(&stores, "k", "4", true).get().unwrap_err();
    assert_eq!(error, StoreError::Overloaded { store: "data", jobs_max: 2 });
    engine.let_go();
    held.get().unwrap();
    waiting.into_iter().for_each(|reply| drop(reply.get().unwrap()));
    assert_eq!(load(&stores, "k").unwrap().unwrap().live_count(), 3);
}

#[test]
fn a_receiver_that_panics_stops_nobody_else() {
    let rig = Rig::new();
    let stores = rig.open();
    stores.write(put_job("k", "1", true, Box::new(|_| panic!("a receiver that panics"))));
    let from_hints_too = false;
    for _ in 0..rig.options.readers {
        let done = Box::new(|_| panic!("a receiver that panics"));
        stores.load(LoadJob { key: key("k"), from_hints_too, done });
    }
    assert_eq!(put(&stores, "k", "2").siblings.live_count(), 2);
    assert!(load(&stores, "k").unwrap().is_some());
}

#[test]
fn writers_from_many_threads_lose_nothing() {
    let rig = Rig::new();
    let stores = rig.open();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let stores = &stores;
            scope.spawn(move || {
                for n in 0..50 {
                    queue_put(stores, "k", &format!("{writer}/{n}"), n % 2 == 0).get().unwrap();
                }
            });
        }
    });
    let siblings = load(&stores, "k").unwrap().unwrap();
    assert_eq!(siblings.live_count(), 400);
    assert_eq!(siblings.vector().len(), 1, "one actor minted all of it");
    assert_eq!(stores.figures(Area::Data).sequence, 400);
}

#[test]
fn a_write_whose_time_is_over_is_not_begun() {
    let rig = Rig::new();
    let stores = rig.open();
    let (done, reply) = reply();
    stores.write(WriteJob { until: Some(Instant::now()), ..put_job("k", "late", true, done) });
    let error = reply.get().unwrap_err();
    assert!(matches!(error, StoreError::Expired { .. }), "{error}");
    assert_eq!(load(&stores, "k").unwrap(), None);
}
