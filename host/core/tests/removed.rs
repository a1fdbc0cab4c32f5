//! What becomes of a node that was removed, and of what it alone holds.

mod world;

use std::sync::Arc;

use bytes::Bytes;
use stator_core::catalogue::{KeyspaceSpec, Quorums, Removed};
use stator_core::event::{Area, Event, NotBroughtHome};
use stator_core::homecoming::Homecoming;
use stator_core::id::{KeyspaceId, NodeId};
use stator_core::message::Message;
use stator_core::request::{Effect, RequestError};
use world::{KEY, Link, World, carts, put_of};

const GONE: NodeId = NodeId(9);

/// Lets `at` hear that `node` was removed.
fn removed(world: &mut World, at: NodeId, node: NodeId) {
    let known = world.host(at).node.catalogue().unwrap().clone();
    let mut told = known.removal();
    let removed = Removed { at_ms: 1, ring_version: 2, peer_address: "n:1".to_owned() };
    told.removed.insert(node, removed);
    world.happen(at, Event::Adopted(Arc::new(told)));
}

#[test]
fn a_node_that_hears_of_its_removal_acknowledges_nothing_more() {
    let mut world = World::new(3);
    let me = world.list().iter().next().unwrap().node;
    let others: Vec<NodeId> = world.hosts.keys().copied().filter(|node| *node != me).collect();
    others.iter().for_each(|node| world.host(*node).link = Link::Silent);
    let (put, get) = (world.put(me, put_of("begun")), world.get(me));
    assert!(world.answers(put).is_empty() && !world.gets.contains_key(&get));

    removed(&mut world, me, me);
    let maybe = RequestError::QuorumNotReached { needed: 2, answered: 0, effect: Effect::Maybe };
    assert_eq!(world.answers(put), [&Err(maybe)], "a member may hold it");
    let refused = RequestError::Removed { ring_version: 2 };
    assert_eq!(world.gets[&get], Err(refused.clone()));
    let (put, get) = (world.put(me, put_of("later")), world.get(me));
    assert_eq!(world.answers(put), [&Err(refused.clone())]);
    assert_eq!(world.gets[&get], Err(refused));

    // Nor does it serve another node that knows no better.
    let sent = world.sent.len();
    let read = Message::Read {
        request: 1,
        keyspace: KeyspaceId::of("carts", 1),
        key: Bytes::from_static(KEY),
        ring_version: 1,
        is_fallback: false,
    };
    world.happen(me, Event::Received(others[0], read));
    assert_eq!(world.sent.len(), sent);
    world.pass_ms(5_000);
    assert_eq!(world.answers(put).len(), 1, "once");
}

#[test]
fn what_a_former_member_held_comes_to_all_owners_and_waits_for_who_is_away() {
    let mut world = World::new(3);
    let nodes: Vec<NodeId> = world.hosts.keys().copied().collect();
    for node in &nodes {
        removed(&mut world, *node, GONE);
    }
    // As minted by someone who never reached anyone.
    let quorums = Quorums { n: 3, r: 1, w: 1 };
    let mut elsewhere = World::with(1, KeyspaceSpec { quorums, ..carts() });
    elsewhere.put(NodeId(1), put_of("alone"));
    let siblings = elsewhere.record(NodeId(1), Area::Data).unwrap().siblings.clone();
    let keyspace = KeyspaceId::of("carts", 1);
    let home = |keyspace| {
        let (key, siblings) = (Bytes::from_static(KEY), siblings.clone());
        Box::new(Homecoming { from: GONE, keyspace, key, siblings })
    };
    world.host(nodes[2]).link = Link::Refused;
    world.happen(nodes[0], Event::BringHome(1, home(keyspace)));
    assert_eq!(world.brought_home[&1], Ok(()), "it is durable here");
    world.pass_ms(3_000);
    assert_eq!(world.values(nodes[1], Area::Data), ["alone"]);
    assert!(world.record(nodes[0], Area::Hints).is_some(), "one owner is away");
    world.host(nodes[2]).link = Link::Up;
    world.pass_ms(3_000);
    for node in &nodes {
        assert_eq!(world.values(*node, Area::Data), ["alone"]);
    }
    assert!(world.record(nodes[0], Area::Hints).is_none(), "all have it");

    world.happen(nodes[0], Event::BringHome(2, home(KeyspaceId::of("no such", 1))));
    assert!(matches!(world.brought_home[&2], Err(NotBroughtHome::Request(_))));
}
