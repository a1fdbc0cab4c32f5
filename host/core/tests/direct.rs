//! Reads of what one owner holds, for clients that coordinate gets themselves: when they count.

mod world;

use bytes::Bytes;
use stator_core::event::{Backlog, Event};
use stator_core::holder::Holder;
use stator_core::id::Incarnation;
use stator_core::request::{ReplicaRefused, RequestError};
use world::{KEY, Link, World, put_of, values};

#[test]
fn an_owner_tells_what_it_holds_and_asks_nobody() {
    let mut world = World::new(4);
    let owners = world.list().primaries().to_vec();
    let unwritten = world.replica(owners[1], 1).expect("an owner");
    assert!(unwritten.siblings.is_empty());
    assert_eq!(unwritten.ring_version, 1);
    world.host(owners[2]).link = Link::Silent;
    world.put(owners[0], put_of("milk"));
    let sent = world.sent.len();
    for (owner, expected) in owners.iter().zip([&["milk"][..], &["milk"], &[]]) {
        assert_eq!(values(&world.replica(*owner, 1).expect("an owner").siblings), expected);
    }
    assert_eq!(world.sent.len(), sent, "no message, so no repair");
}

#[test]
fn who_is_no_owner_is_no_answer() {
    let mut world = World::new(4);
    let stranger = world.list().fallbacks()[0];
    let refused = Err(ReplicaRefused::NotOwner { ring_version: 1 });
    assert_eq!(world.replica(stranger, 1), refused);
    assert_eq!(world.replica(stranger, 7), refused, "whatever the client says");
}

#[test]
fn what_is_not_whole_is_no_answer() {
    let mut world = World::new(3);
    let owners = world.list().primaries().to_vec();
    world.put(owners[0], put_of("milk"));
    world.host(owners[0]).damaged.insert(Bytes::from_static(KEY));
    assert_eq!(world.replica(owners[0], 1), Err(ReplicaRefused::NotWhole), "damaged");
    // The others are away: nothing fills it.
    owners[..2].iter().for_each(|owner| world.host(*owner).link = Link::Silent);
    world.host(owners[2]).store.clear();
    world.host(owners[2]).node.fill(Backlog::all(7));
    assert_eq!(world.replica(owners[2], 1), Err(ReplicaRefused::NotWhole), "lost");
}

#[test]
fn a_copy_of_a_node_is_no_answer() {
    let mut world = World::new(3);
    let owner = world.list().primaries()[0];
    world.host(owner).node.live_as(Incarnation(2));
    let refused = Err(ReplicaRefused::Request(RequestError::NotAccepted));
    assert_eq!(world.replica(owner, 1), refused, "nobody has accepted this start");
    world.happen(owner, Event::ToldOf(None));
    assert!(world.replica(owner, 1).is_ok());
    let other = Holder { incarnation: Incarnation(1), ..Holder::default() };
    world.happen(owner, Event::ToldOf(Some(Box::new(other))));
    let refused = world.replica(owner, 1).expect_err("another process is the node");
    assert!(matches!(refused, ReplicaRefused::Request(RequestError::SecondHolder { .. })));
}
