//! A few nodes that talk to one another: what a client, an operator and a peer see of them.

mod world;

use bytes::Bytes;
use stator_core::catalogue::{CatalogueChange, KeyspaceSpec, Quorums};
use stator_core::event::{Area, Event, Notice};
use stator_core::id::{KeyspaceId, NodeId};
use stator_core::message::{Message, ReplicaError};
use stator_core::request::{Effect, PutRequest, QuorumKind, RequestError};
use world::{KEY, Link, World, carts, put_of, targets, values};

fn carts_id() -> KeyspaceId {
    KeyspaceId::of("carts", 1)
}

#[test]
fn a_put_reaches_every_owner_and_a_get_finds_it() {
    let mut world = World::new(4);
    let owners = world.list().primaries().to_vec();
    let ticket = world.put(owners[0], put_of("milk"));
    assert_eq!(world.receipt(ticket).hinted, 0);
    assert_eq!(world.receipt(ticket).dot.actor.node, owners[0]);
    for owner in owners {
        assert_eq!(world.values(owner, Area::Data), ["milk"]);
    }
    for node in 1..=4 {
        let ticket = world.get(NodeId(node));
        let receipt = world.gets[&ticket].as_ref().unwrap();
        assert_eq!(values(&receipt.siblings), ["milk"]);
    }
}

#[test]
fn a_get_repairs_an_owner_that_missed_the_put() {
    let mut world = World::new(3);
    let owners = world.list().primaries().to_vec();
    world.host(owners[2]).link = Link::Silent;
    world.put(owners[0], put_of("milk"));
    world.host(owners[2]).link = Link::Up;
    assert!(world.values(owners[2], Area::Data).is_empty());
    world.get(owners[1]);
    assert_eq!(world.values(owners[2], Area::Data), ["milk"]);
    assert!(world.has_noticed(owners[1], &Notice::ReadRepaired(owners[2])));
    let held = world.gets.values().find_map(|got| got.as_ref().ok()).expect("it was answered");
    let late = Notice::WasStale(carts_id(), held.siblings.latest_ms());
    assert!(world.has_noticed(owners[1], &late));
}

#[test]
fn a_forward_that_was_not_delivered_goes_to_the_next_owner() {
    let mut world = World::new(4);
    let list = world.list();
    world.host(list.primaries()[0]).link = Link::Refused;
    let ticket = world.put(list.fallbacks()[0], put_of("milk"));
    assert_eq!(world.receipt(ticket).dot.actor.node, list.primaries()[1]);
}

#[test]
fn a_silent_owner_costs_a_put_one_time_out_and_what_it_does_late_nothing() {
    let mut world = World::new(4);
    let list = world.list();
    let (owners, stranger) = (list.primaries().to_vec(), list.fallbacks()[0]);
    // It gets what it is asked, and its answers stay on the way.
    world.hold = |message| matches!(message, Message::ForwardReply { .. });
    let ticket = world.put(stranger, put_of("milk"));
    assert!(world.answers(ticket).is_empty());
    world.pass_ms(499);
    assert!(world.answers(ticket).is_empty());
    world.hold = |_| false;
    world.pass_ms(1);
    assert_eq!(world.receipt(ticket).dot.actor.node, owners[1]);
    world.release();
    world.pass_ms(2_000);
    for owner in owners {
        assert_eq!(world.values(owner, Area::Data), ["milk"], "once, everywhere");
    }
    assert_eq!(world.answers(ticket).len(), 1);
}

#[test]
fn a_dot_that_comes_after_the_deadline_is_not_used() {
    let mut world = World::new(4);
    let list = world.list();
    world.hold = |message| matches!(message, Message::ForwardReply { .. });
    let put = PutRequest { quorum: QuorumKind::Strict, ..put_of("milk") };
    let ticket = world.put(list.fallbacks()[0], put);
    world.pass_ms(2_000);
    let (needed, effect) = (2, Effect::None);
    let short = Err(RequestError::QuorumNotReached { needed, answered: 0, effect });
    assert_eq!(world.answers(ticket), [&short]);
    world.release();
    world.pass_ms(10_000);
    for owner in list.primaries() {
        assert!(world.values(*owner, Area::Data).is_empty(), "it was said to have done nothing");
    }
}

#[test]
fn who_does_not_own_a_key_says_so() {
    let mut world = World::new(4);
    let list = world.list();
    let (stranger, asker) = (list.fallbacks()[0], list.primaries()[0]);
    for (is_fallback, expected) in
        [(false, Err(ReplicaError::NotOwner { ring_version: 1 })), (true, Ok(None))]
    {
        let read = Message::Read {
            request: 5,
            keyspace: KeyspaceId::of("carts", 1),
            key: Bytes::from_static(KEY),
            ring_version: 1,
            is_fallback,
        };
        world.happen(stranger, Event::Received(asker, read));
        let reply = Message::ReadReply { request: 5, result: expected };
        assert!(world.sent.contains(&(stranger, asker, reply)));
    }
}

#[test]
fn a_node_that_is_behind_pulls_the_catalogue() {
    let mut world = World::new(3);
    let owners = world.list().primaries().to_vec();
    let orders = KeyspaceSpec { name: "orders".to_owned(), ..carts() };
    // The announcement of the new keyspace is lost on one owner.
    world.host(owners[2]).link = Link::Silent;
    world.change(owners[0], CatalogueChange::CreateKeyspace(orders));
    world.host(owners[2]).link = Link::Up;
    let keyspace = KeyspaceId::of("orders", 1);
    world.put(owners[0], PutRequest { keyspace, ..put_of("order") });
    assert!(world.has_noticed(owners[2], &Notice::UnknownKeyspace(keyspace)));
    let digest = |world: &World, id| world.hosts[&id].node.catalogue().unwrap().digest();
    assert_eq!(digest(&world, owners[2]), digest(&world, owners[0]));
    // Its refusal made the coordinator keep a hint, which is delivered in its time.
    world.pass_ms(3_000);
    assert_eq!(world.values(owners[2], Area::Data), ["order"]);
}

#[test]
fn a_hint_is_kept_delivered_and_settled() {
    let mut world = World::new(4);
    let list = world.list();
    let (absent, fallback) = (list.primaries()[2], list.fallbacks()[0]);
    world.host(absent).link = Link::Silent;
    world.put(list.primaries()[0], put_of("milk"));
    assert!(world.record(fallback, Area::Hints).is_none());
    world.pass_ms(600);
    assert_eq!(targets(world.record(fallback, Area::Hints)), [absent].into());
    assert!(world.has_noticed(fallback, &Notice::HintStored(absent, carts_id())));
    world.pass_ms(10_000);
    assert!(world.record(fallback, Area::Hints).is_some(), "nobody received it");
    world.host(absent).link = Link::Up;
    world.pass_ms(10_000);
    assert!(world.has_noticed(fallback, &Notice::HintDelivered(absent, carts_id())));
    assert!(world.record(fallback, Area::Hints).is_none());
    assert_eq!(world.values(absent, Area::Data), ["milk"]);
}

#[test]
fn a_hint_that_changes_on_its_way_stays() {
    let mut world = World::new(4);
    let list = world.list();
    let (absent, fallback) = (list.primaries()[2], list.fallbacks()[0]);
    world.host(absent).link = Link::Silent;
    world.put(list.primaries()[0], put_of("milk"));
    world.pass_ms(600);
    // The hint arrives, its acknowledgement not yet; meanwhile another put adds to the hint.
    world.host(absent).link = Link::Up;
    world.hold = |message| matches!(message, Message::WriteReply { .. });
    world.pass_ms(1_500);
    assert_eq!(world.values(absent, Area::Data), ["milk"]);
    let held = std::mem::take(&mut world.held);
    world.hold = |_| false;
    world.host(absent).link = Link::Refused;
    world.put(list.primaries()[0], put_of("bread"));
    assert_eq!(world.values(fallback, Area::Hints), ["milk", "bread"]);
    world.held = held;
    world.release();
    assert_eq!(world.values(fallback, Area::Hints), ["milk", "bread"]);
    assert!(!world.has_noticed(fallback, &Notice::HintDelivered(absent, carts_id())));
    world.host(absent).link = Link::Up;
    world.pass_ms(10_000);
    assert_eq!(world.values(absent, Area::Data), ["milk", "bread"]);
    assert!(world.record(fallback, Area::Hints).is_none());
}

#[test]
fn a_list_of_hints_that_fails_is_asked_for_again() {
    let mut world = World::new(3);
    let owners = world.list().primaries().to_vec();
    world.host(owners[2]).link = Link::Refused;
    world.put(owners[0], put_of("milk"));
    world.host(owners[2]).link = Link::Up;
    world.host(owners[0]).is_list_broken = true;
    world.pass_ms(5_000);
    assert!(world.values(owners[2], Area::Data).is_empty());
    world.host(owners[0]).is_list_broken = false;
    world.pass_ms(5_000);
    assert_eq!(world.values(owners[2], Area::Data), ["milk"]);
}

#[test]
fn without_a_spare_node_the_coordinator_keeps_the_hint() {
    let mut world = World::new(3);
    let owners = world.list().primaries().to_vec();
    world.host(owners[2]).link = Link::Refused;
    let ticket = world.put(owners[0], put_of("milk"));
    assert_eq!(world.receipt(ticket).acked, 2);
    assert_eq!(targets(world.record(owners[0], Area::Hints)), [owners[2]].into());
    world.host(owners[2]).link = Link::Up;
    world.pass_ms(3_000);
    assert_eq!(world.values(owners[2], Area::Data), ["milk"]);
    assert!(world.record(owners[0], Area::Hints).is_none());
}

/// A node that owns nothing of the key coordinates if no owner can be reached. Its own record
/// is the hint for all of them.
#[test]
fn what_a_fallback_mints_is_delivered_to_the_owners() {
    let mut world = World::new(5);
    let list = world.list();
    let coordinator = list.fallbacks()[0];
    // Past the first lists of hints, which every node asks for after its start.
    world.pass_ms(5_000);
    list.primaries().iter().for_each(|owner| world.host(*owner).link = Link::Refused);
    let ticket = world.put(coordinator, put_of("milk"));
    assert_eq!((world.receipt(ticket).acked, world.receipt(ticket).hinted), (2, 2));
    assert_eq!(targets(world.record(coordinator, Area::Hints)).len(), 3);
    list.primaries().iter().for_each(|owner| world.host(*owner).link = Link::Up);
    world.pass_ms(10_000);
    for owner in list.primaries() {
        assert_eq!(world.values(*owner, Area::Data), ["milk"]);
        assert!(world.has_noticed(coordinator, &Notice::HintDelivered(*owner, carts_id())));
    }
    assert!(world.record(coordinator, Area::Hints).is_none());
}

#[test]
fn a_strict_put_counts_owners_only() {
    let mut world = World::new(5);
    let list = world.list();
    for owner in &list.primaries()[1..] {
        world.host(*owner).link = Link::Refused;
    }
    let strict = PutRequest { quorum: QuorumKind::Strict, ..put_of("milk") };
    let ticket = world.put(list.primaries()[0], strict);
    let expected = RequestError::QuorumNotReached { needed: 2, answered: 1, effect: Effect::Maybe };
    assert_eq!(world.answers(ticket), [&Err(expected)]);
    assert_eq!(targets(world.record(list.primaries()[0], Area::Hints)).len(), 2);
}

#[test]
fn a_put_is_answered_once_even_if_the_store_fails_after_the_deadline() {
    let mut world = World::new(3);
    let owner = world.list().primaries()[0];
    world.host(owner).is_store_stuck = true;
    let ticket = world.put(owner, put_of("milk"));
    world.pass_ms(2_000);
    world.fail_writes(owner);
    let expected = RequestError::QuorumNotReached { needed: 2, answered: 0, effect: Effect::Maybe };
    assert_eq!(world.answers(ticket), [&Err(expected)]);
    assert_eq!(world.hosts[&owner].node.requests_in_flight(), 0);
}

#[test]
fn a_store_that_refuses_at_once_leaves_nothing() {
    let mut world = World::new(3);
    let owners = world.list().primaries().to_vec();
    world.host(owners[0]).is_store_stuck = true;
    let ticket = world.put(owners[0], put_of("milk"));
    // The other owners would be asked in its place.
    owners[1..].iter().for_each(|owner| world.host(*owner).link = Link::Refused);
    world.fail_writes(owners[0]);
    let expected =
        RequestError::Store { reason: "out of service".to_owned(), effect: Effect::None };
    assert_eq!(world.answers(ticket), [&Err(expected)]);
    world.pass_ms(10_000);
    assert!(owners.iter().all(|owner| world.record(*owner, Area::Data).is_none()));
}

#[test]
fn quorums_that_cannot_be_are_refused_by_name() {
    let mut world = World::new(2);
    let node = world.list().primaries()[0];
    let table = [
        (Some(0), RequestError::BadQuorum { name: "w", found: 0, n: 3 }),
        (Some(4), RequestError::BadQuorum { name: "w", found: 4, n: 3 }),
        (Some(3), RequestError::TooFewNodes { name: "w", needed: 3, owners: 2 }),
    ];
    for (w, expected) in table {
        let ticket = world.put(node, PutRequest { w, ..put_of("milk") });
        assert_eq!(world.answers(ticket), [&Err(expected)]);
    }
    let keyspace = KeyspaceId(9);
    let ticket = world.put(node, PutRequest { keyspace, ..put_of("milk") });
    assert_eq!(world.answers(ticket), [&Err(RequestError::UnknownKeyspace(keyspace))]);
    assert!(world.record(node, Area::Data).is_none());
}

#[test]
fn gossip_makes_catalogues_equal() {
    let mut world = World::new(4);
    // Two operators make the same keyspace at the same time, and the announcements are lost.
    let [one, other] = [2, 3].map(|w| KeyspaceSpec {
        name: "orders".to_owned(),
        quorums: Quorums { n: 3, r: 2, w },
        ..carts()
    });
    world.hold = |message| matches!(message, Message::Catalogue { .. });
    world.change(NodeId(1), CatalogueChange::CreateKeyspace(one));
    world.change(NodeId(4), CatalogueChange::CreateKeyspace(other));
    world.held.clear();
    world.hold = |_| false;
    assert!(world.changes.values().all(Result::is_ok));
    world.pass_ms(20_000);
    let digests = world.hosts.values().map(|host| host.node.catalogue().unwrap().digest());
    assert_eq!(digests.collect::<std::collections::BTreeSet<_>>().len(), 1);
    let overruled = |node| world.has_noticed(NodeId(node), &Notice::Overruled("orders".to_owned()));
    assert!(overruled(1) ^ overruled(4), "exactly one of the two operators is told");
}

#[test]
fn a_node_that_is_known_to_be_down_is_not_waited_for() {
    let mut world = World::new(4);
    world.with_probes = true;
    let list = world.list();
    let (absent, fallback) = (list.primaries()[0], list.fallbacks()[0]);
    world.pass_ms(3_000);
    world.host(absent).link = Link::Silent;
    world.pass_ms(10_000);
    let coordinator = list.primaries()[1];
    assert!(world.has_noticed(coordinator, &Notice::MemberDown(absent)));
    let w = Some(3);
    let ticket = world.put(coordinator, PutRequest { w, ..put_of("milk") });
    assert_eq!((world.receipt(ticket).acked, world.receipt(ticket).hinted), (3, 1));
    assert_eq!(targets(world.record(fallback, Area::Hints)), [absent].into());
    // And it is told what it missed once it is back.
    world.host(absent).link = Link::Up;
    world.pass_ms(20_000);
    assert!(world.has_noticed(coordinator, &Notice::MemberUp(absent)));
    assert_eq!(world.values(absent, Area::Data), ["milk"]);
    assert!(world.record(fallback, Area::Hints).is_none());
}

#[test]
fn hints_of_a_deleted_keyspace_are_dropped() {
    let mut world = World::new(3);
    let owners = world.list().primaries().to_vec();
    world.host(owners[2]).link = Link::Refused;
    world.put(owners[0], put_of("milk"));
    assert!(world.record(owners[0], Area::Hints).is_some());
    let name = "carts".to_owned();
    world.change(owners[0], CatalogueChange::DeleteKeyspace { name, etag: None });
    world.host(owners[2]).link = Link::Up;
    world.pass_ms(10_000);
    assert!(world.record(owners[0], Area::Hints).is_none());
    assert!(!world.has_noticed(owners[0], &Notice::HintDelivered(owners[2], carts_id())));
}

#[test]
fn a_put_whose_coordinator_cannot_store_it_goes_to_another_owner() {
    let mut world = World::new(4);
    let list = world.list();
    for (asked, broken) in
        [(list.primaries()[0], list.primaries()[0]), (list.fallbacks()[0], list.primaries()[0])]
    {
        world.host(broken).is_store_stuck = true;
        let ticket = world.put(asked, put_of("milk"));
        world.fail_writes(broken);
        assert_eq!(world.receipt(ticket).dot.actor.node, list.primaries()[1], "asked {asked}");
        world.host(broken).is_store_stuck = false;
    }
}
