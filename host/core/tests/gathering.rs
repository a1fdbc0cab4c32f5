//! A node that takes the place of one that was removed: whom it reads before it serves.

mod world;

use std::sync::Arc;

use bytes::Bytes;
use stator_core::catalogue::{Catalogue, CatalogueChange, KeyspaceSpec, Quorums, RingChange};
use stator_core::event::{Area, Event};
use stator_core::id::{KeyspaceId, NodeId, PartitionId};
use stator_core::message::Message;
use stator_core::request::PutRequest;
use stator_core::ring::{claim, plan};
use world::{Link, World, carts, put_of};

const SPARE: NodeId = NodeId(4);
/// Two of the three owners of a partition hold a key.
const NARROW: Quorums = Quorums { n: 2, r: 1, w: 2 };

/// Everyone learns of a catalogue at once.
fn tell(world: &mut World, catalogue: Catalogue) {
    let catalogue = Arc::new(catalogue);
    let nodes: Vec<NodeId> = world.hosts.keys().copied().collect();
    for node in nodes {
        let (catalogue, is_reply_wanted) = (catalogue.clone(), false);
        let message = Message::Catalogue { catalogue, is_reply_wanted };
        world.happen(node, Event::Received(NodeId(1), message));
    }
}

fn known(world: &World) -> Catalogue {
    Catalogue::clone(world.hosts[&SPARE].node.catalogue().unwrap())
}

/// Three owners of all partitions, a member without a seat, and keys in all partitions.
fn with_a_spare() -> World {
    let mut world = World::with(4, KeyspaceSpec { quorums: NARROW, ..carts() });
    let mut catalogue = known(&world);
    let seats: Vec<_> = catalogue.seats().into_iter().filter(|s| s.node != SPARE).collect();
    let planned = claim(2, 8, 3, &seats).unwrap();
    catalogue.ring = planned;
    tell(&mut world, catalogue);
    world.pass_ms(30_000);
    for number in 0..40 {
        let key = Bytes::from(format!("key {number}"));
        let ticket = world.put(NodeId(1), PutRequest { key, ..put_of("kept") });
        assert_eq!(world.receipt(ticket).acked, 2);
    }
    world.pass_ms(30_000);
    world
}

/// The spare takes the place of `gone`, and `away` does not answer.
fn replace(world: &mut World, gone: NodeId, away: NodeId) {
    for node in [gone, away] {
        world.host(node).link = Link::Silent;
    }
    let mut catalogue = known(world);
    let change = RingChange::Replace { node: gone, by: SPARE };
    CatalogueChange::StageRing(change).apply(&mut catalogue).unwrap();
    let decision = plan(&catalogue).unwrap().decision(&catalogue, 1_000, NodeId(1), 7);
    catalogue.decide(&decision);
    tell(world, catalogue);
}

#[test]
fn owners_that_do_not_hold_the_keyspace_count_for_nothing() {
    let mut world = with_a_spare();
    let owners =
        |world: &World, partition| known(world).ring.owners(partition).collect::<Vec<NodeId>>();
    let first = PartitionId(0);
    // Only `away` holds the other copies of what `gone` had held.
    let [gone, away, _] = owners(&world, first)[..] else { panic!("three owners") };
    replace(&mut world, gone, away);
    world.pass_ms(60_000);
    let keyspace = KeyspaceId::of("carts", 1);
    let ring = known(&world).ring;
    for partition in ring.partition_ids() {
        let list: Vec<NodeId> = ring.owners(partition).collect();
        let is_serving = list[..2].contains(&SPARE);
        let held = world.hosts[&SPARE].store.keys();
        let held = held.filter(|(area, key)| (*area, key.partition) == (Area::Data, partition));
        let all = (0..40).map(|number| Bytes::from(format!("key {number}")));
        let all = all.filter(|key| ring.partition(keyspace, key) == partition).count();
        assert!(!is_serving || held.count() == all, "{partition} is served by who lacks keys");
    }
    assert!(ring.moves().iter().any(|made| made.partition == first), "it waits for the one away");
    world.host(away).link = Link::Up;
    world.pass_ms(30_000);
    assert!(known(&world).ring.moves().is_empty());
}

#[test]
fn a_node_whose_moves_are_not_durable_tells_all_but_these() {
    let mut world = with_a_spare();
    world.host(SPARE).are_moves_stuck = true;
    replace(&mut world, NodeId(2), NodeId(2));
    world.pass_ms(5_000);
    let others = [NodeId(1), NodeId(3)];
    let moves = |world: &World, node: NodeId| {
        world.hosts[&node].node.catalogue().unwrap().ring.moves().len()
    };
    let all = moves(&world, others[0]);
    assert!(moves(&world, SPARE) < all, "some are made");

    let spec = KeyspaceSpec { name: "new".to_owned(), quorums: NARROW, ..carts() };
    let ticket = world.change(SPARE, CatalogueChange::CreateKeyspace(spec));
    assert!(world.changes[&ticket].is_ok());
    for node in others {
        let known = world.hosts[&node].node.catalogue().unwrap();
        assert!(known.keyspace("new").is_some(), "what is acknowledged reaches the others");
        assert_eq!(moves(&world, node), all, "and no move that could be forgotten");
    }
    // A save that fails is tried again; then they are told.
    world.save_moves(SPARE, &Err("the disk is full".to_owned()));
    world.pass_ms(1_000);
    assert_eq!(moves(&world, others[0]), all);
    world.host(SPARE).are_moves_stuck = false;
    world.save_moves(SPARE, &Ok(()));
    world.pass_ms(5_000);
    assert!(others.iter().all(|node| moves(&world, *node) == 0));
}

#[test]
fn who_is_made_an_owner_saves_that_only_with_what_it_has_to_fill() {
    let mut world = with_a_spare();
    world.host(SPARE).is_backlog_refused = true;
    let mut catalogue = known(&world);
    catalogue.ring = claim(3, 8, 3, &catalogue.seats()).unwrap();
    tell(&mut world, catalogue);
    world.pass_ms(1);
    assert_eq!(world.hosts[&NodeId(1)].saved_ring, 3);
    assert_eq!(world.hosts[&SPARE].saved_ring, 2, "after a crash it would count what it lacks");
    world.host(SPARE).is_backlog_refused = false;
    world.pass_ms(3_000);
    assert_eq!(world.hosts[&SPARE].saved_ring, 3);
    assert!(world.hosts[&SPARE].backlog.is_some());
}
