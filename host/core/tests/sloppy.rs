//! Hints for several targets, and for many keys.

mod world;

use std::collections::BTreeSet;

use bytes::Bytes;
use stator_core::event::Area;
use stator_core::id::NodeId;
use stator_core::message::Message;
use stator_core::node::Settings;
use stator_core::request::{Effect, PutRequest, QuorumKind, RequestError};
use world::{Link, World, put_of, targets};

#[test]
fn one_object_waits_for_each_of_its_targets_until_that_one_has_it() {
    let mut world = World::new(3);
    let owners = world.list().primaries().to_vec();
    world.pass_ms(5_000);
    world.host(owners[1]).link = Link::Refused;
    world.host(owners[2]).link = Link::Refused;
    let one = PutRequest { w: Some(1), ..put_of("milk") };
    let ticket = world.put(owners[0], one);
    assert_eq!(world.receipt(ticket).acked, 1);
    let both = BTreeSet::from([owners[1], owners[2]]);
    assert_eq!(targets(world.record(owners[0], Area::Hints)), both, "one object for both");
    world.host(owners[2]).link = Link::Up;
    world.pass_ms(10_000);
    assert_eq!(targets(world.record(owners[0], Area::Hints)), [owners[1]].into());
    assert_eq!(world.values(owners[2], Area::Data), ["milk"]);
    world.host(owners[1]).link = Link::Up;
    world.pass_ms(10_000);
    assert!(world.record(owners[0], Area::Hints).is_none());
    assert_eq!(world.values(owners[1], Area::Data), ["milk"]);
}

/// Writes that went to `target`, by their keys.
fn keys_sent(world: &World, target: NodeId) -> Vec<Bytes> {
    let to_target = world.sent.iter().filter(|(_, to, _)| *to == target);
    to_target
        .filter_map(|(.., message)| match message {
            Message::Write(write) => Some(write.key.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn many_hints_go_a_window_at_a_time_and_go_on_after_a_break() {
    const KEYS: usize = 300;
    let window = Settings::default().handoff_window;
    assert!(window * 2 < KEYS, "more than one window");
    let mut world = World::new(3);
    let owners = world.list().primaries().to_vec();
    let (coordinator, absent) = (owners[0], owners[2]);
    world.pass_ms(5_000);
    world.host(absent).link = Link::Refused;
    for number in 0..KEYS {
        let key = Bytes::from(format!("key {number}"));
        let ticket = world.put(coordinator, PutRequest { key, ..put_of("milk") });
        assert_eq!(world.receipt(ticket).acked, 2);
    }
    let held = |world: &World| {
        let areas = world.hosts.values().flat_map(|host| host.store.keys());
        areas.filter(|(area, _)| *area == Area::Hints).count()
    };
    assert_eq!(held(&world), KEYS);

    // It is back, but its acknowledgements are not.
    world.sent.clear();
    world.host(absent).link = Link::Up;
    world.hold = |message| matches!(message, Message::WriteReply { .. });
    world.pass_ms(1_500);
    let first = keys_sent(&world, absent);
    let senders: BTreeSet<NodeId> = world.sent.iter().map(|(from, ..)| *from).collect();
    assert!(!first.is_empty() && first.len() <= window * senders.len(), "{}", first.len());
    assert_eq!(held(&world), KEYS, "nothing is settled before it is acknowledged");

    // It breaks off again: the rest stays, then goes on.
    world.held.clear();
    world.hold = |_| false;
    world.host(absent).link = Link::Silent;
    world.pass_ms(10_000);
    assert_eq!(held(&world), KEYS);
    world.host(absent).link = Link::Up;
    world.pass_ms(60_000);
    assert_eq!(held(&world), 0);
    let store = &world.hosts[&absent].store;
    assert_eq!(store.keys().filter(|(area, _)| *area == Area::Data).count(), KEYS);
}

#[test]
fn a_stranger_refuses_a_strict_put_before_it_writes() {
    let mut world = World::new(5);
    let list = world.list();
    list.primaries().iter().for_each(|owner| world.host(*owner).link = Link::Refused);
    let stranger = list.fallbacks()[0];
    let strict = PutRequest { quorum: QuorumKind::Strict, ..put_of("milk") };
    let ticket = world.put(stranger, strict);
    let expected = RequestError::QuorumNotReached { needed: 2, answered: 0, effect: Effect::None };
    assert_eq!(world.answers(ticket), [&Err(expected)]);
    assert!(world.record(stranger, Area::Hints).is_none(), "NONE is a promise");
}
