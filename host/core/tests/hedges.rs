//! Gets that ask no more nodes than they need, and what becomes of those that are slow.

mod world;

use std::collections::BTreeSet;

use stator_core::catalogue::{KeyspaceSpec, Quorums};
use stator_core::event::{Area, Notice};
use stator_core::id::NodeId;
use stator_core::message::Message;
use world::{Link, World, carts, put_of};

/// More than any node's patience at first, less than the time after which it counts as failed.
const PATIENCE_MS: u64 = 30;

/// Three owners, of whom gets ask as many as r, and never all.
fn frugal(r: u32) -> World {
    let quorums = Quorums { n: 3, r, w: 3 };
    World::with(4, KeyspaceSpec { quorums, read_repair_percent: 0, ..carts() })
}

/// Who was sent reads since the last call.
fn asked(world: &mut World) -> BTreeSet<NodeId> {
    let sent = std::mem::take(&mut world.sent);
    let reads = sent.iter().filter(|(_, _, message)| matches!(message, Message::Read { .. }));
    reads.map(|(_, to, _)| *to).collect()
}

#[test]
fn a_get_asks_as_many_as_it_needs_and_its_own_copy_first() {
    for r in 1..=3 {
        let mut world = frugal(r);
        let owners = world.list().primaries().to_vec();
        world.put(owners[0], put_of("milk"));
        asked(&mut world);
        for &owner in &owners {
            let ticket = world.get(owner);
            let receipt = world.gets[&ticket].as_ref().expect("answered");
            assert_eq!(receipt.answered, r);
            assert_eq!(asked(&mut world).len() as u32, r - 1, "beside itself");
        }
        let stranger = world.list().fallbacks()[0];
        let ticket = world.get(stranger);
        assert!(world.gets[&ticket].is_ok());
        assert_eq!(asked(&mut world).len() as u32, r, "it owns nothing");
    }
}

#[test]
fn owners_that_differ_have_all_asked_and_repaired() {
    let mut world = frugal(2);
    let owners = world.list().primaries().to_vec();
    for &stale in &owners[1..] {
        world.host(stale).link = Link::Silent;
    }
    world.put(owners[0], put_of("milk"));
    for &stale in &owners[1..] {
        world.host(stale).link = Link::Up;
        assert!(world.values(stale, Area::Data).is_empty());
    }
    let ticket = world.get(owners[0]);
    assert_eq!(world.gets[&ticket].as_ref().expect("answered").siblings.live_count(), 1);
    for &stale in &owners[1..] {
        assert_eq!(world.values(stale, Area::Data), ["milk"]);
        assert!(world.has_noticed(owners[0], &Notice::ReadRepaired(stale)));
    }
}

#[test]
fn a_get_whose_owner_is_silent_asks_another_and_later_gets_ask_that_one_first() {
    let mut world = frugal(2);
    let owners = world.list().primaries().to_vec();
    world.put(owners[0], put_of("milk"));
    asked(&mut world);
    let silent = {
        world.get(owners[0]);
        *asked(&mut world).first().expect("one was asked")
    };
    let other = *owners[1..].iter().find(|node| **node != silent).expect("three owners");
    world.host(silent).link = Link::Silent;
    let ticket = world.get(owners[0]);
    assert_eq!(asked(&mut world), [silent].into());
    assert!(!world.gets.contains_key(&ticket), "nobody else was asked yet");
    world.pass_ms(PATIENCE_MS);
    assert!(world.gets[&ticket].is_ok(), "long before the silence counts as a failure");
    assert_eq!(asked(&mut world), [other].into());

    let ticket = world.get(owners[0]);
    assert!(world.gets[&ticket].is_ok(), "at once");
    assert_eq!(asked(&mut world), [other].into(), "the silent one comes last");
}
