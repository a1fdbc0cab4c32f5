//! Quorums of a region: owners in two of them, and a sea between.

mod world;

use std::collections::BTreeSet;

use stator_core::catalogue::{KeyspaceSpec, Quorums};
use stator_core::event::Area;
use stator_core::id::{KeyspaceId, NodeId};
use stator_core::node::Settings;
use stator_core::request::{Effect, GetRequest, PutRequest, QuorumKind, RequestError};
use stator_core::ring::claim;
use world::{KEY, Link, World, carts, catalogue, put_of, values};

/// Nodes 1 to 3 are in one region, 4 to 6 in the other; a key has four owners, two in each.
fn world() -> (World, Vec<NodeId>, Vec<NodeId>) {
    let mut known = catalogue(6);
    for (node, member) in &mut known.members {
        member.value.region = if node.0 <= 3 { "eu".to_owned() } else { "us".to_owned() };
        member.value.zone = format!("{}-{}", member.value.region, node.0 % 2);
    }
    known.ring = claim(1, 8, 4, &known.seats()).expect("a ring");
    let quorums = Quorums { n: 4, r: 3, w: 3 };
    let settings = Settings { exchange_cover_ms: 0, ..Settings::default() };
    let spec = KeyspaceSpec { quorums, read_repair_percent: 0, ..carts() };
    let world = World::knowing(6, known, spec, settings);
    let node = world.hosts.values().next().expect("a node");
    let ring = &node.node.catalogue().expect("a catalogue").ring;
    let partition = ring.partition(KeyspaceId::of("carts", 1), KEY);
    let owners: BTreeSet<NodeId> = ring.owners(partition).take(4).collect();
    let (near, far) = owners.into_iter().partition(|owner| owner.0 <= 3);
    (world, near, far)
}

fn local(value: &str) -> PutRequest {
    PutRequest { quorum: QuorumKind::Local, ..put_of(value) }
}

fn get(world: &mut World, at: NodeId, quorum: QuorumKind) -> Result<Vec<String>, RequestError> {
    let get = GetRequest {
        keyspace: KeyspaceId::of("carts", 1),
        key: KEY.to_vec().into(),
        r: None,
        quorum,
        timeout_ms: 2_000,
    };
    let ticket = world.ask(at, get);
    world.pass_ms(3_000);
    let answer = world.gets.get(&ticket).expect("answered").clone();
    answer.map(|receipt| values(&receipt.siblings))
}

#[test]
fn zones_that_are_named_after_regions_spread_owners_over_these() {
    let (_, near, far) = world();
    assert_eq!((near.len(), far.len()), (2, 2));
}

#[test]
fn a_local_quorum_asks_its_region_and_every_owner_gets_the_write() {
    let (mut world, near, far) = world();
    world.pass_ms(5_000);
    let ticket = world.put(near[0], local("milk"));
    assert_eq!(world.receipt(ticket).acked, 2);
    for owner in near.iter().chain(&far) {
        assert_eq!(world.values(*owner, Area::Data), ["milk"], "{owner}");
    }
    world.sent.clear();
    assert_eq!(get(&mut world, near[1], QuorumKind::Local), Ok(vec!["milk".to_owned()]));
    assert_eq!(get(&mut world, NodeId(1), QuorumKind::Local), Ok(vec!["milk".to_owned()]));
    let asked = |to: &NodeId| to.0 > 3;
    let abroad = world.sent.iter().filter(|(_, to, message)| {
        asked(to) && matches!(message, stator_core::message::Message::Read { .. })
    });
    assert_eq!(abroad.count(), 0, "nobody abroad was asked");
}

#[test]
fn a_region_that_is_cut_off_costs_nothing_here_and_gets_all_when_it_is_back() {
    let (mut world, near, far) = world();
    world.pass_ms(5_000);
    for abroad in [4, 5, 6] {
        world.host(NodeId(abroad)).link = Link::Silent;
    }
    // At first nobody knows: the write is acknowledged here all the same.
    for (at, value) in [(near[0], "milk"), (NodeId(1), "tea"), (near[1], "cup")] {
        let ticket = world.put(at, local(value));
        world.pass_ms(20_000);
        assert_eq!(world.receipt(ticket).acked, 2, "{value}");
    }
    let whole = world.put(near[0], put_of("all"));
    world.pass_ms(3_000);
    assert!(world.receipt(whole).hinted > 0, "a sloppy quorum goes on by hints");
    let strict = PutRequest { quorum: QuorumKind::Strict, ..put_of("never") };
    let strict = world.put(near[0], strict);
    world.pass_ms(3_000);
    assert!(matches!(world.answers(strict)[..], [Err(RequestError::QuorumNotReached { .. })]));
    for abroad in [4, 5, 6] {
        world.host(NodeId(abroad)).link = Link::Up;
    }
    world.pass_ms(60_000);
    for owner in &far {
        let held: BTreeSet<String> = world.values(*owner, Area::Data).into_iter().collect();
        for value in ["milk", "tea", "cup"] {
            assert!(held.contains(value), "{owner}: {held:?}");
        }
    }
}

#[test]
fn too_few_owners_here_are_told_before_anything_is_done() {
    let (mut world, near, _) = world();
    world.pass_ms(5_000);
    let three = PutRequest { w: Some(3), ..local("milk") };
    let ticket = world.put(near[0], three);
    let expected = RequestError::TooFewNear { name: "w", needed: 3, owners: 2 };
    assert_eq!(world.answers(ticket), [&Err(expected)]);
    assert!(world.record(near[0], Area::Data).is_none(), "nothing was done");
    // One of two owners is away: their majority is both, however many there are abroad.
    world.host(near[1]).link = Link::Silent;
    let ticket = world.put(near[0], local("milk"));
    world.pass_ms(3_000);
    let expected = RequestError::QuorumNotReached { needed: 2, answered: 1, effect: Effect::Maybe };
    assert_eq!(world.answers(ticket), [&Err(expected)]);
    let one = PutRequest { w: Some(1), ..local("milk") };
    let ticket = world.put(near[0], one);
    assert_eq!(world.receipt(ticket).acked, 1);
}
