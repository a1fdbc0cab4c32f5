//! The index of what collection is to look at: written with the records, and found again.

use stator_core::collect::{IndexPage, IndexQuery, Marked};
use stator_core::tree::object_hash;

use super::super::IndexJob;
use super::damage::{RECORDS, flip};
use super::*;

fn read(stores: &Stores, query: IndexQuery) -> IndexPage {
    let (done, reply) = reply();
    stores.read_index(IndexJob { query, entries_max: 2, done });
    reply.get().unwrap()
}

fn forgettable(stores: &Stores) -> Vec<StoreKey> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let from = PartitionId(0);
        let query = IndexQuery::Forgettable { from, after: after.clone() };
        let IndexPage::Forgettable(page) = read(stores, query) else { panic!("another page") };
        let Some((last, ..)) = page.last() else { return all };
        after = Some(last.clone());
        all.extend(page.into_iter().map(|(key, ..)| key));
    }
}

fn due(stores: &Stores, until_ms: u64) -> Vec<(u64, StoreKey)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let query = IndexQuery::Due { until_ms, after: after.clone() };
        let IndexPage::Due(page) = read(stores, query) else { panic!("another page") };
        after = page.last().cloned();
        match after {
            Some(_) => all.extend(page),
            None => return all,
        }
    }
}

fn change(stores: &Stores, name: &str, change: Change) -> WriteDone {
    let (done, reply) = reply();
    stores.write(WriteJob { change, ..put_job(name, "", true, done) });
    reply.get().unwrap()
}

/// A blind put, or a delete, that expires after so long.
fn minted(payload: Payload, ttl_ms: Option<u64>) -> Change {
    let mut minted = mint(Context::default(), "");
    let Change::Mint { draft, .. } = &mut minted else { panic!("a mint is expected") };
    *draft = Draft { payload, ttl_ms, ..draft.clone() };
    minted
}

fn ending(ttl_ms: u64) -> Change {
    minted(Payload::Value("x".into()), Some(ttl_ms))
}

fn collect(stores: &Stores, name: &str, siblings: &Siblings) {
    let hash = object_hash(&key(name), siblings);
    let (may_be_absent, must_be_absent, now_ms) = (true, false, u64::MAX);
    let marked = Marked { key: key(name), hash, may_be_absent, must_be_absent, now_ms };
    change(stores, name, Change::Collect(marked));
}

#[test]
fn it_lists_what_is_deleted_until_that_is_forgotten() {
    let rig = Rig::new();
    let stores = rig.open();
    put(&stores, "stays", "x");
    let names = ["a", "b", "c", "d", "e"];
    let held = names.map(|name| change(&stores, name, minted(Payload::Tombstone, None)).siblings);
    assert_eq!(forgettable(&stores), names.map(key));
    collect(&stores, "b", &held[1]);
    put(&stores, "d", "lives again");
    assert_eq!(forgettable(&stores), ["a", "c", "e"].map(key));
    stores.close().unwrap();
    drop(stores);
    let stores = rig.open();
    assert_eq!(forgettable(&stores), ["a", "c", "e"].map(key));
}

#[test]
fn it_lists_what_expires_in_the_order_of_time() {
    let rig = Rig::new();
    let stores = rig.open();
    for (name, ttl_ms) in [("late", 5_000), ("soon", 10), ("middle", 70)] {
        change(&stores, name, ending(ttl_ms));
    }
    assert_eq!(due(&stores, 1_009), []);
    assert_eq!(due(&stores, 1_070), [(1_010, key("soon")), (1_070, key("middle"))]);
    assert_eq!(due(&stores, u64::MAX).len(), 3);
    let expire = |name, due_ms| change(&stores, name, Change::Expire { passed_ms: 1_070, due_ms });
    let gone = expire("soon", 1_010);
    assert_eq!(gone.siblings.live_count(), 0);
    assert_eq!(forgettable(&stores), [key("soon")]);
    assert_eq!(due(&stores, 1_070), [(1_070, key("middle"))]);
    // Whoever comes too early changes nothing, and it is still there to be found.
    expire("late", 6_000);
    assert_eq!(due(&stores, u64::MAX).len(), 2);
    collect(&stores, "soon", &gone.siblings);
    assert_eq!(forgettable(&stores), []);
}

#[test]
fn an_entry_that_leads_nowhere_goes_when_it_is_followed() {
    let rig = Rig::new();
    let stores = rig.open();
    change(&stores, "k", ending(10));
    flip(&rig.data, RECORDS);
    put(&stores, "k", "written over what cannot be read");
    assert_eq!(due(&stores, u64::MAX), [(1_010, key("k"))], "nobody knows when it was due");
    change(&stores, "k", Change::Expire { passed_ms: 9_000, due_ms: 1_010 });
    assert_eq!(due(&stores, u64::MAX), []);
    assert_eq!(values(&load(&stores, "k").unwrap().unwrap()).len(), 1);
}
