//! Hints: who waits for what, how they are settled, and what they may take.

use super::*;

#[test]
fn hints_are_synced_listed_in_pages_and_settled_by_target() {
    let rig = Rig::new();
    let stores = rig.open();
    for name in ["a", "b", "c"] {
        hint(&stores, name, "x", &[A, B]).unwrap();
    }
    rig.hints.forget_unsynced();
    let page = list(&stores, A, None, 2);
    assert_eq!(page.iter().map(|hint| &hint.key).collect::<Vec<_>>(), [&key("a"), &key("b")]);
    assert_eq!(list(&stores, A, Some("b"), 2)[0].key, key("c"));
    assert!(list(&stores, A, Some("c"), 2).is_empty());

    assert!(settle(&stores, A, "a", page[0].sequence));
    assert!(!settle(&stores, A, "a", page[0].sequence), "it waits for B only");
    assert_eq!(list(&stores, A, None, 9).len(), 2);
    assert_eq!(list(&stores, B, None, 9).len(), 3);
    assert!(settle(&stores, B, "a", page[0].sequence), "A's settling did not change it");
    assert_eq!(load_from(&stores, "a", true).unwrap(), None);
    assert_eq!(stores.hint_figures().waiting, BTreeMap::from([(A, 2), (B, 2)]));
    assert_eq!(stores.figures(Area::Hints).objects, 2);
}

#[test]
fn a_hint_that_changed_since_it_was_sent_stays() {
    let rig = Rig::new();
    let stores = rig.open();
    hint(&stores, "k", "one", &[A]).unwrap();
    let sent = list(&stores, A, None, 9).remove(0);
    hint(&stores, "k", "two", &[A]).unwrap();
    assert!(!settle(&stores, A, "k", sent.sequence));
    let now = list(&stores, A, None, 9).remove(0);
    assert_eq!(values(&now.siblings), ["one", "two"]);
    assert!(settle(&stores, A, "k", now.sequence));
    assert!(list(&stores, A, None, 9).is_empty());
    assert!(!settle(&stores, A, "k", now.sequence), "there is none");
}

#[test]
fn a_page_ends_at_its_bytes_but_is_never_empty() {
    let rig = Rig::new();
    let stores = rig.open();
    for name in ["a", "b", "c", "d"] {
        hint(&stores, name, &"x".repeat(1000), &[A]).unwrap();
    }
    let page = |bytes_max| {
        let (done, reply) = reply();
        stores.list_hints(ListHintsJob { target: A, after: None, hints_max: 9, bytes_max, done });
        reply.get().unwrap().len()
    };
    assert_eq!((page(0), page(2000), page(1 << 20)), (1, 2, 4));
}

#[test]
fn a_full_budget_refuses_before_it_writes_and_frees_with_settling() {
    let mut rig = Rig::new();
    rig.options.hints_bytes_max = 5_000;
    let stores = rig.open();
    hint(&stores, "a", &"x".repeat(3000), &[A]).unwrap();
    let held = stores.hint_figures().bytes;
    let error = hint(&stores, "b", &"x".repeat(3000), &[A]).unwrap_err();
    assert!(
        matches!(error, StoreError::HintBudget { held_bytes, bytes_max: 5_000, .. } if held_bytes == held),
        "{error}"
    );
    assert!(error.to_string().contains("hints_bytes_max = 5000"), "{error}");
    assert_eq!(stores.hint_figures().bytes, held);
    assert_eq!(list(&stores, A, None, 9).len(), 1);
    // What replaces a hint by something smaller always fits.
    let old = list(&stores, A, None, 9).remove(0);
    let (done, reply) = reply();
    stores.write(WriteJob {
        area: Area::Hints,
        change: mint(Context::of(&old.siblings), "small"),
        targets: vec![A],
        ..put_job("a", "", false, done)
    });
    let small = reply.get().unwrap();
    hint(&stores, "b", &"x".repeat(3000), &[A]).unwrap();
    assert!(settle(&stores, A, "a", small.sequence));
    let b = list(&stores, A, None, 9).remove(0);
    assert!(settle(&stores, A, "b", b.sequence));
    assert_eq!(stores.hint_figures().bytes, 0);
}

#[test]
fn a_budget_counts_what_the_same_group_added() {
    let mut rig = Rig::new();
    rig.options.hints_bytes_max = 5_000;
    let stores = rig.open();
    let replies: Vec<Reply<WriteDone>> = (0..20)
        .map(|n| {
            let (done, reply) = reply();
            let job = put_job(&format!("k{n}"), &"x".repeat(1000), false, done);
            stores.write(WriteJob { area: Area::Hints, targets: vec![A], ..job });
            reply
        })
        .collect();
    let kept = replies.into_iter().filter_map(|reply| reply.get().ok()).count();
    assert_eq!(kept, list(&stores, A, None, 99).len());
    assert!((3..=4).contains(&kept), "{kept}");
    assert!(stores.hint_figures().bytes <= 5_000);
}

#[test]
fn the_index_is_rebuilt_at_the_start() {
    let rig = Rig::new();
    let stores = rig.open();
    for n in 0..150 {
        hint(&stores, &format!("k{n:03}"), "x", if n % 3 == 0 { &[A, B] } else { &[A] }).unwrap();
    }
    let figures = stores.hint_figures();
    drop(stores);
    let stores = rig.open();
    assert_eq!(stores.hint_figures(), figures);
    assert_eq!(stores.hint_figures().waiting, BTreeMap::from([(A, 150), (B, 50)]));
}

#[test]
fn both_stores_never_mint_the_same_dot() {
    let rig = Rig::new();
    let stores = rig.open();
    let own = put(&stores, "k", "own").dot.unwrap();
    let held = hint(&stores, "k", "held", &[A]).unwrap().dot.unwrap();
    assert_ne!(own, held);
    assert_eq!(values(&load_from(&stores, "k", true).unwrap().unwrap()).len(), 2);
    assert_eq!(values(&load(&stores, "k").unwrap().unwrap()), ["own"]);
}

#[test]
fn a_hint_for_nobody_is_refused() {
    let rig = Rig::new();
    let stores = rig.open();
    assert_eq!(hint(&stores, "k", "x", &[]), Err(StoreError::HintWithoutTarget));
}
