//! Quorums of a region: owners in two of them, and a sea between.

mod world;

use std::collections::BTreeSet;

use stator_core::catalogue::{KeyspaceSpec, Quorums};
use stator_core::event::{Area, Notice};
use stator_core::id::{KeyspaceId, NodeId};
use stator_core::message::Message;
use stator_core::node::Settings;
use stator_core::request::{Effect, GetRequest, PutRequest, QuorumKind, RequestError};
use stator_core::ring::claim;
use world::{KEY, Link, World, carts, catalogue, put_of, values};

/// Nodes 1 to 3 are in one region, 4 to 6 in the other; a key has four owners, two in each.
fn world() -> (World, Vec<NodeId>, Vec<NodeId>) {
    comparing_within(0)
}

/// The same with exchanges that cover all in this time.
fn comparing_within(exchange_cover_ms: u64) -> (World, Vec<NodeId>, Vec<NodeId>) {
    let mut known = catalogue(6);
    for (node, member) in &mut known.members {
        member.value.region = if node.0 <= 3 { "eu".to_owned() } else { "us".to_owned() };
        member.value.zone = format!("{}-{}", member.value.region, node.0 % 2);
    }
    known.ring = claim(1, 8, 4, &known.seats()).expect("a ring");
    let quorums = Quorums { n: 4, r: 3, w: 3 };
    let settings = Settings { exchange_cover_ms, ..Settings::default() };
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
    let abroad = world
        .sent
        .iter()
        .filter(|(_, to, message)| asked(to) && matches!(message, Message::Read { .. }));
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

/// Who was asked what they hold since this was last looked at.
fn asked(world: &mut World) -> BTreeSet<NodeId> {
    let sent = std::mem::take(&mut world.sent).into_iter();
    sent.filter(|(_, _, message)| matches!(message, Message::Read { .. }))
        .map(|sent| sent.1)
        .collect()
}

#[test]
fn a_get_asks_near_owners_first_and_far_ones_where_too_few_are_here() {
    let (mut world, near, far) = world();
    world.with_probes = true;
    world.pass_ms(5_000);
    let ticket = world.put(near[0], put_of("milk"));
    assert_eq!(world.receipt(ticket).acked, 3);
    let read = |world: &mut World, r: u32, quorum: QuorumKind| {
        world.sent.clear();
        let keyspace = KeyspaceId::of("carts", 1);
        let key = KEY.to_vec().into();
        let ticket = world
            .ask(NodeId(1), GetRequest { keyspace, key, r: Some(r), quorum, timeout_ms: 2_000 });
        world.pass_ms(3_000);
        assert_eq!(values(&world.gets[&ticket].as_ref().expect("read").siblings), ["milk"]);
        asked(world)
    };
    let mut here: BTreeSet<NodeId> = near.iter().copied().collect();
    here.remove(&NodeId(1));
    for quorum in [QuorumKind::Strict, QuorumKind::Sloppy] {
        assert_eq!(read(&mut world, 2, quorum), here, "{quorum:?}");
        let three = read(&mut world, 3, quorum);
        assert_eq!(three.intersection(&far.iter().copied().collect()).count(), 1, "{quorum:?}");
        assert!(three.is_superset(&here), "{quorum:?}");
    }
    world.host(near[1]).link = Link::Silent;
    world.pass_ms(20_000);
    let two = read(&mut world, 2, QuorumKind::Strict);
    assert_eq!(two.intersection(&far.iter().copied().collect()).count(), 1);
}

#[test]
fn a_hint_is_kept_in_its_targets_region_and_a_get_looks_there() {
    for is_far in [true, false] {
        let (mut world, near, far) = world();
        world.with_probes = true;
        world.pass_ms(5_000);
        let gone = if is_far { far[1] } else { near[1] };
        world.host(gone).link = Link::Silent;
        world.pass_ms(20_000);
        let is_there = |node: &NodeId| (node.0 > 3) == is_far;
        let spare = (1..=6).map(NodeId).filter(is_there);
        let spare: Vec<_> =
            spare.filter(|node| !near.contains(node) && !far.contains(node)).collect();
        world.sent.clear();
        let ticket = world.put(near[0], put_of("milk"));
        world.pass_ms(3_000);
        assert!(world.receipt(ticket).acked >= 3);
        let hints = world.sent.iter().filter_map(|(_, to, message)| match message {
            Message::Write(write) if !write.hint_for.is_empty() => Some((*to, &write.hint_for[..])),
            _ => None,
        });
        assert_eq!(hints.collect::<Vec<_>>(), [(spare[0], &[gone][..])], "far: {is_far}");
        // All are needed, so the one that stands in is asked: where the hint is.
        world.sent.clear();
        let get = GetRequest {
            keyspace: KeyspaceId::of("carts", 1),
            key: KEY.to_vec().into(),
            r: Some(4),
            quorum: QuorumKind::Sloppy,
            timeout_ms: 2_000,
        };
        let ticket = world.ask(near[0], get);
        world.pass_ms(3_000);
        assert!(world.gets[&ticket].is_ok());
        assert!(asked(&mut world).contains(&spare[0]), "far: {is_far}");
        world.host(gone).link = Link::Up;
        world.pass_ms(60_000);
        assert_eq!(world.values(gone, Area::Data), ["milk"]);
    }
}

#[test]
fn what_differs_crosses_the_sea_by_few_pairs_and_reaches_everyone() {
    let (mut world, near, far) = comparing_within(2_000);
    world.pass_ms(5_000);
    world.notices.clear();
    world.pass_ms(100_000);
    let exchanged = world.notices.iter().filter_map(|(at, notice)| match notice {
        Notice::Exchanged(_, peer, _) => Some((at.0 <= 3) == (peer.0 <= 3)),
        _ => None,
    });
    let (within, across): (Vec<bool>, Vec<bool>) = exchanged.partition(|is_near| *is_near);
    // Of the twelve ordered pairs of a partition four are within regions and eight across; of these
    // two are walked on the average.
    let share = across.len() as f64 / (within.len() + across.len()) as f64;
    assert!((0.25..0.42).contains(&share), "{} within, {} across", within.len(), across.len());
    // One owner alone holds something: all come to hold it.
    let ticket = world.put(near[0], put_of("milk"));
    let milk = world.record(near[0], Area::Data).cloned().expect("stored");
    assert!(world.receipt(ticket).acked >= 3);
    for lost in near[1..].iter().chain(&far) {
        let host = world.host(*lost);
        host.store.clear();
        host.trees = None;
        assert!(world.record(*lost, Area::Data).is_none());
    }
    world.pass_ms(20_000);
    for owner in near.iter().chain(&far) {
        let held = world.record(*owner, Area::Data).map(|record| &record.siblings);
        assert_eq!(held, Some(&milk.siblings), "{owner}");
    }
}
