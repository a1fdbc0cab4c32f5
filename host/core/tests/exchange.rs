//! Anti-entropy: what two owners compare, what they find, and what they do about it.
//!
//! `STATOR_EXCHANGE_KEYS` sets how many keys the search for a single one takes (20,000 by
//! default; 1,000,000 take about a minute).

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use stator_core::catalogue::{Durability, KeyspaceSpec, Quorums};
use stator_core::event::{
    Area, Event, ExchangeEnd, ExchangeOutcome, Notice, RepairError, RepairFigures, RepairRequest,
};
use stator_core::id::{KeyspaceId, NodeId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::message::{ExchangeFigures, Message};
use stator_core::node::Settings;
use stator_core::record::Record;
use stator_core::request::PutRequest;
use stator_core::tree::{Addend, KeyHash, ObjectHash, TreeAnswer, TreeQuery, TreeRead, bucket_of};
use world::{Link, World, carts, put_of};

const X: NodeId = NodeId(1);
const Y: NodeId = NodeId(2);
const Z: NodeId = NodeId(3);

fn world() -> World {
    World::with(3, KeyspaceSpec { durability: Durability::One, ..carts() })
}

fn put(world: &mut World, key: &str, value: &str) {
    world.put(X, PutRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..put_of(value) });
}

fn keyspace() -> KeyspaceId {
    KeyspaceId::of("carts", 1)
}

fn place(world: &World, key: &str) -> (Area, StoreKey) {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let ring = &world.hosts[&X].node.catalogue().unwrap().ring;
    let partition = ring.partition(keyspace(), &key);
    (Area::Data, StoreKey { partition, keyspace: keyspace(), key })
}

/// `node` forgets `key`, with its part of the hash tree.
fn forget(world: &mut World, node: NodeId, key: &str) {
    let place = place(world, key);
    assert!(world.host(node).store.remove(&place).is_some());
    world.host(node).trees = None;
}

/// Compares all of what `node` owns with all others.
fn exchange(world: &mut World, node: NodeId) -> Vec<(PartitionId, NodeId, ExchangeOutcome)> {
    let before = world.notices.len();
    world.host(node).node.recover();
    world.pass_ms(10_000);
    let found = world.notices[before..].iter();
    let mine = found.filter(|(at, _)| *at == node).filter_map(|(_, notice)| match notice {
        Notice::Exchanged(partition, peer, outcome) => Some((*partition, *peer, *outcome)),
        _ => None,
    });
    mine.collect()
}

fn total(outcomes: &[(PartitionId, NodeId, ExchangeOutcome)]) -> ExchangeFigures {
    let mut total = ExchangeFigures::default();
    for (_, _, ExchangeOutcome { figures, .. }) in outcomes {
        total.questions += figures.questions;
        total.keys_compared += figures.keys_compared;
        total.keys_differed += figures.keys_differed;
        total.keys_repaired += figures.keys_repaired;
        total.keys_damaged += figures.keys_damaged;
    }
    total
}

fn siblings(world: &World, node: NodeId, key: &str) -> Option<Vec<u8>> {
    let record = world.hosts[&node].store.get(&place(world, key))?;
    let mut bytes = Vec::new();
    record.siblings.encode(&mut bytes);
    Some(bytes)
}

#[test]
fn equal_replicas_cost_one_question_each() {
    let mut world = world();
    (0..50).for_each(|number| put(&mut world, &format!("key {number}"), "v"));
    let outcomes = exchange(&mut world, X);
    // Eight partitions, two other owners.
    assert_eq!(outcomes.len(), 16);
    assert!(outcomes.iter().all(|(_, _, outcome)| outcome.end == ExchangeEnd::Equal));
    assert_eq!(total(&outcomes), ExchangeFigures { questions: 16, ..ExchangeFigures::default() });
    assert_eq!(world.hosts[&X].node.exchanges_owed(), 0);
}

#[test]
fn what_either_side_lacks_is_sent() {
    let mut world = world();
    (0..50).for_each(|number| put(&mut world, &format!("key {number}"), "v"));
    forget(&mut world, X, "key 3");
    forget(&mut world, Y, "key 4");
    forget(&mut world, Z, "key 5");
    let outcomes = exchange(&mut world, X);
    assert!(outcomes.iter().all(|(_, _, outcome)| outcome.end == ExchangeEnd::Equal));
    for key in ["key 3", "key 4", "key 5"] {
        assert!(siblings(&world, X, key).is_some());
        for other in [Y, Z] {
            assert_eq!(siblings(&world, other, key), siblings(&world, X, key), "{key}");
        }
    }
    // X gets "key 3" from one of the others, or from both at the same time.
    assert!((3..=4).contains(&total(&outcomes).keys_repaired));
    let late = world.notices.iter().filter(|(_, it)| matches!(it, Notice::WasStale(..)));
    assert_eq!(late.count(), 3, "each of them lacked a key, whoever was asked and whoever gave");
}

#[test]
fn concurrent_writes_become_siblings_on_both_sides() {
    let mut world = world();
    world.host(Y).link = Link::Silent;
    put(&mut world, "key", "one");
    world.host(Y).link = Link::Up;
    world.host(X).link = Link::Silent;
    world.put(Y, PutRequest { key: Bytes::from_static(b"key"), ..put_of("two") });
    // The coordinators forget what they owe.
    world.host(X).link = Link::Up;
    let held = exchange(&mut world, X);
    assert!(total(&held).keys_differed > 0);
    let record = &world.hosts[&X].store[&place(&world, "key")];
    assert_eq!(record.siblings.live_count(), 2);
    assert_eq!(siblings(&world, X, "key"), siblings(&world, Y, "key"));
}

#[test]
fn a_damaged_copy_is_replaced_on_either_side() {
    for damaged in [X, Y] {
        let mut world = world();
        (0..20).for_each(|number| put(&mut world, &format!("key {number}"), "v"));
        // Damage alone shows in no tree; here another key of the bucket's page differs.
        world.host(damaged).damaged.insert(Bytes::from_static(b"key 7"));
        forget(&mut world, damaged, "key 7");
        let place = place(&world, "key 7");
        world.host(damaged).store.insert(place, Record::default());
        let outcomes = exchange(&mut world, X);
        assert!(total(&outcomes).keys_repaired >= 1);
        assert!(world.hosts[&damaged].damaged.is_empty());
        assert_eq!(siblings(&world, X, "key 7"), siblings(&world, Y, "key 7"));
    }
}

/// The record of a key has rotted on these nodes, and is another one on the first of them, so
/// that an exchange meets it.
fn rot(world: &mut World, key: &str, nodes: &[NodeId]) {
    let place = place(world, key);
    for node in nodes {
        world.host(*node).damaged.insert(Bytes::copy_from_slice(key.as_bytes()));
    }
    world.host(nodes[0]).store.insert(place, Record::default());
    world.host(nodes[0]).trees = None;
}

#[test]
fn what_is_damaged_everywhere_holds_up_nothing() {
    let mut world = world();
    (0..20).for_each(|number| put(&mut world, &format!("key {number}"), "v"));
    rot(&mut world, "key 7", &[X, Y, Z]);
    let outcomes = exchange(&mut world, X);
    assert_eq!(world.hosts[&X].node.exchanges_owed(), 0);
    assert!(total(&outcomes).keys_damaged > 0, "{outcomes:?}");
    // What is damaged is in no sum any more.
    let partition = place(&world, "key 7").1.partition;
    let last = |peer| outcomes.iter().rfind(|(p, node, _)| (*p, *node) == (partition, peer));
    assert!([Y, Z].iter().all(|peer| last(*peer).unwrap().2.end == ExchangeEnd::Equal));
}

#[test]
fn what_is_damaged_on_two_owners_is_replaced_by_the_third() {
    let mut world = world();
    (0..20).for_each(|number| put(&mut world, &format!("key {number}"), "v"));
    let whole = siblings(&world, Z, "key 7");
    rot(&mut world, "key 7", &[X, Y]);
    exchange(&mut world, X);
    assert_eq!(world.hosts[&X].node.exchanges_owed(), 0);
    exchange(&mut world, X);
    assert!([X, Y].iter().all(|node| world.hosts[node].damaged.is_empty()));
    assert!([X, Y].iter().all(|node| siblings(&world, *node, "key 7") == whole));
}

#[test]
fn a_tree_that_says_what_the_store_does_not_hold_is_rebuilt() {
    let mut world = world();
    (0..20).for_each(|number| put(&mut world, &format!("key {number}"), "v"));
    exchange(&mut world, X);
    let (_, key) = place(&world, "key 3");
    let wrong = Addend { hash: ObjectHash(1), usage: Default::default() };
    world.host(X).trees.as_mut().unwrap().changed(&key, None, Some(wrong));
    let outcomes = exchange(&mut world, X);
    // Both of its exchanges may have met it.
    let rebuilt: BTreeSet<_> = world.hosts[&X].rebuilt.iter().copied().collect();
    assert_eq!(rebuilt, BTreeSet::from([key.partition]));
    assert!(world.hosts[&Y].rebuilt.is_empty());
    // It is owed until the two have been compared.
    let (_, _, last) =
        outcomes.iter().rfind(|(partition, ..)| *partition == key.partition).unwrap();
    assert_eq!(last.end, ExchangeEnd::Equal);
    assert_eq!(total(&outcomes).keys_differed, 0);
}

#[test]
fn who_does_not_answer_is_asked_again() {
    let mut world = world();
    put(&mut world, "key", "v");
    forget(&mut world, X, "key");
    world.host(Y).link = Link::Silent;
    world.host(Z).link = Link::Refused;
    let outcomes = exchange(&mut world, X);
    assert!(outcomes.iter().all(|(_, _, outcome)| outcome.end == ExchangeEnd::Failed));
    assert_eq!(world.hosts[&X].node.exchanges_owed(), 16);
    world.host(Y).link = Link::Up;
    world.host(Z).link = Link::Up;
    world.pass_ms(10_000);
    assert_eq!(world.hosts[&X].node.exchanges_owed(), 0);
    assert!(siblings(&world, X, "key").is_some());
}

#[test]
fn owners_beyond_n_are_not_sent_what_they_need_not_hold() {
    let quorums = Quorums { n: 2, r: 1, w: 1 };
    let mut world =
        World::with(3, KeyspaceSpec { durability: Durability::One, quorums, ..carts() });
    (0..20).for_each(|number| put(&mut world, &format!("key {number}"), "v"));
    let held = |world: &World| [X, Y, Z].map(|node| world.hosts[&node].store.len());
    let before = held(&world);
    let outcomes = exchange(&mut world, X);
    assert_eq!(total(&outcomes).keys_differed, 0);
    assert_eq!(held(&world), before);
}

#[test]
fn nothing_is_owed_where_a_stop_can_lose_nothing() {
    let mut world = World::new(3);
    assert!(exchange(&mut world, X).is_empty());
}

#[test]
fn what_a_peer_names_beside_the_partition_is_not_stored() {
    let mut world = world();
    (0..20).for_each(|number| put(&mut world, &format!("key {number}"), "v"));
    forget(&mut world, X, "key 3");
    let partition = place(&world, "key 3").1.partition;
    let stray = (0..).map(|number| format!("stray {number}"));
    let stray = stray.into_iter().find(|key| place(&world, key).1.partition != partition);
    let stray = Bytes::from(stray.unwrap());
    world.hold =
        |message| matches!(message, Message::TreeReply { result: Ok(TreeAnswer::Keys(_)), .. });
    world.host(X).node.recover();
    world.pass_ms(1_000);
    for (_, _, message) in &mut world.held {
        if let Message::TreeReply { result: Ok(TreeAnswer::Keys(page)), .. } = message {
            page.keys.push(KeyHash { key: stray.clone(), hash: Some(ObjectHash(1)) });
        }
    }
    assert!(!world.held.is_empty());
    world.sent.clear();
    world.release();
    world.pass_ms(10_000);
    assert!(siblings(&world, X, "key 3").is_some());
    let is_of_stray = |message: &Message| match message {
        Message::TreeRead { read: TreeRead { query: TreeQuery::Objects(_, keys), .. }, .. } => {
            keys.contains(&stray)
        }
        _ => false,
    };
    assert!(!world.sent.iter().any(|(_, _, message)| is_of_stray(message)));
}

#[test]
fn the_schedule_covers_all_in_its_time_and_begins_anew() {
    let settings = Settings { exchange_cover_ms: 500, ..Settings::default() };
    let mut world = World::with_settings(3, carts(), settings);
    world.pass_ms(250);
    world.notices.clear();
    for round in 1..=4 {
        world.pass_ms(500);
        let compared = |node| {
            let compared = world.notices.iter().filter_map(|(at, notice)| match notice {
                Notice::Exchanged(partition, peer, _) if *at == node => Some((*partition, *peer)),
                _ => None,
            });
            compared.collect::<Vec<_>>()
        };
        for node in [X, Y, Z] {
            // Eight partitions, two other owners; the clock is looked at four times a second.
            let found = compared(node).len();
            assert!((16 * round - 9..=16 * round + 9).contains(&found), "{round}: {found}");
            let distinct: BTreeSet<_> = compared(node).into_iter().collect();
            assert!(round < 2 || distinct.len() == 16, "{round}: {distinct:?}");
        }
    }
}

fn repair(world: &mut World, at: NodeId, request: RepairRequest) -> RepairFigures {
    world.happen(at, Event::Repair(1, request));
    world.pass_ms(60_000);
    let figures = world.notices.iter().rev().find_map(|(node, notice)| match notice {
        Notice::Repair(_, figures) if *node == at => Some(figures.clone()),
        _ => None,
    });
    figures.expect("it tells how far it is")
}

/// Four nodes, so that each partition has one that does not own it.
fn four() -> World {
    let mut world = World::new(4);
    (0..60).for_each(|number| put(&mut world, &format!("key {number}"), "v"));
    world
}

fn owners(world: &World, key: &str) -> Vec<NodeId> {
    let (_, place) = place(world, key);
    world.hosts[&X].node.catalogue().unwrap().ring.owners(place.partition).collect()
}

#[test]
fn an_operators_repair_makes_all_owners_equal_whoever_is_asked() {
    for asked in (1..=4).map(NodeId) {
        let mut world = four();
        // Each owner lacks a key, so that one pass over the pairs is not enough.
        let key = "key 9";
        let owners = owners(&world, key);
        let of_partition = (0..60)
            .map(|number| format!("key {number}"))
            .filter(|other| place(&world, other).1.partition == place(&world, key).1.partition);
        let keys: Vec<String> = of_partition.take(3).collect();
        for (owner, key) in owners.iter().zip(&keys) {
            forget(&mut world, *owner, key);
        }
        let figures = repair(&mut world, asked, RepairRequest::default());
        assert_eq!((figures.partitions_done, figures.partitions_failed), (8, 0), "{figures:?}");
        for key in &keys {
            let held: BTreeSet<_> = owners.iter().map(|o| siblings(&world, *o, key)).collect();
            assert!(held.len() == 1 && !held.contains(&None), "{asked}: {key} is {held:?}");
        }
        // Once more there is nothing left.
        let again = repair(&mut world, asked, RepairRequest::default());
        assert_eq!(again.found.keys_differed, 0, "{again:?}");
    }
}

#[test]
fn a_repair_of_one_partition_or_keyspace_leaves_the_others() {
    let mut world = four();
    let owner = owners(&world, "key 9")[0];
    forget(&mut world, owner, "key 9");
    let (_, lost) = place(&world, "key 9");
    let elsewhere = PartitionId((lost.partition.0 + 1) % 8);
    let other = RepairRequest { partition: Some(elsewhere), keyspace: None };
    assert_eq!(repair(&mut world, X, other).partitions, 1);
    assert!(siblings(&world, owner, "key 9").is_none());
    let other = RepairRequest { partition: None, keyspace: Some(KeyspaceId(7)) };
    assert_eq!(repair(&mut world, X, other).found.keys_compared, 0);
    assert!(siblings(&world, owner, "key 9").is_none());
    let this = RepairRequest { partition: Some(lost.partition), keyspace: Some(keyspace()) };
    assert_eq!(repair(&mut world, X, this).found.keys_differed, 1);
    assert!(siblings(&world, owner, "key 9").is_some());
}

#[test]
fn a_repair_ends_though_an_owner_is_away_and_says_so() {
    for link in [Link::Silent, Link::Refused] {
        let mut world = four();
        let away = NodeId(4);
        world.host(away).link = link;
        let figures = repair(&mut world, X, RepairRequest::default());
        assert!(figures.is_done(), "{figures:?}");
        // Three of four partitions have the one that is away.
        assert_eq!(figures.partitions_failed, 6, "{figures:?}");
        let why = figures.why.expect("a reason");
        assert!(why.contains(&away.to_string()), "{why}");
    }
}

#[test]
fn repairs_are_refused_where_they_make_no_sense() {
    let mut world = four();
    world.host(Y).link = Link::Silent;
    world.host(Z).link = Link::Silent;
    world.host(NodeId(4)).link = Link::Silent;
    let nowhere = RepairRequest { partition: Some(PartitionId(8)), keyspace: None };
    world.happen(X, Event::Repair(1, nowhere));
    for ticket in 2..8 {
        world.happen(X, Event::Repair(ticket, RepairRequest::default()));
    }
    let error = |ticket| world.repairs[&ticket].err();
    assert!(matches!(error(1), Some(RepairError::NoPartition { partitions: 8, .. })));
    assert_eq!([2, 5].map(error), [None, None]);
    assert_eq!(error(6), Some(RepairError::TooMany { max: 4 }));
}

/// The search for one key that differs looks at its bucket alone, however many keys there are.
#[test]
fn one_divergent_key_among_many_is_found_and_repaired() {
    let count: u64 = match std::env::var("STATOR_EXCHANGE_KEYS") {
        Ok(text) => text.parse().expect("STATOR_EXCHANGE_KEYS is a number"),
        Err(_) => 20_000,
    };
    let mut world = world();
    put(&mut world, "template", "v");
    let object = world.hosts[&X].store[&place(&world, "template")].siblings.clone();
    let mut of_partition = std::collections::BTreeMap::<PartitionId, u64>::new();
    for number in 0..count {
        let place = place(&world, &format!("key {number}"));
        *of_partition.entry(place.1.partition).or_default() += 1;
        for node in [X, Y, Z] {
            let record = Record { siblings: Arc::clone(&object), ..Record::default() };
            world.host(node).store.insert(place.clone(), record);
        }
    }
    for node in [X, Y, Z] {
        world.host(node).trees = None;
        world.host(node).page_max = 4_096;
    }
    let lost = format!("key {}", count / 2);
    let (_, lost_place) = place(&world, &lost);
    forget(&mut world, Y, &lost);
    world.sent.clear();
    let outcomes = exchange(&mut world, X);

    assert!(siblings(&world, Y, &lost).is_some(), "it was not repaired");
    let covering: Vec<_> =
        outcomes.iter().filter(|(p, peer, _)| (*p, *peer) == (lost_place.partition, Y)).collect();
    let [(_, _, outcome)] = covering[..] else { panic!("one exchange: {covering:?}") };
    let ExchangeOutcome { end, figures, .. } = outcome;
    assert_eq!(*end, ExchangeEnd::Equal);
    assert_eq!((figures.keys_differed, figures.keys_repaired), (1, 1));
    let same_bucket = world.hosts[&X].store.keys().filter(|(_, key)| {
        key.partition == lost_place.partition && bucket_of(key) == bucket_of(&lost_place)
    });
    assert_eq!(figures.keys_compared, same_bucket.count() as u64);
    // Roots twice, three levels, the key itself, and a page for each 4,096 keys that are read.
    let pages = of_partition[&lost_place.partition] / 4_096 + 1;
    assert!(figures.questions <= 6 + pages, "{figures:?}, {pages} pages");
    let asked: BTreeSet<u16> = world
        .sent
        .iter()
        .filter_map(|(_, _, message)| match message {
            Message::TreeRead { read, .. } => match &read.query {
                TreeQuery::Keys(part) => Some(part.buckets.clone()),
                _ => None,
            },
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(asked, BTreeSet::from([bucket_of(&lost_place)]));
    println!("{count} keys: {figures:?}");
}
