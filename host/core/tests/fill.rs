//! The partition fill: a node that lost its data store, and the owners that fill it.

mod world;

use bytes::Bytes;
use stator_core::catalogue::{CatalogueChange, KeyspaceSpec, Quorums};
use stator_core::causality::Context;
use stator_core::event::{Area, Backlog, Event, Notice};
use stator_core::id::{KeyspaceId, NodeId};
use stator_core::message::{Message, ReplicaError};
use stator_core::request::{GetRequest, PutRequest, QuorumKind, RequestError};
use stator_core::tree::{TreeAnswer, TreeQuery};
use stator_core::version::Payload;
use world::{Link, World, carts, put_of, values};

const X: NodeId = NodeId(1);
const Y: NodeId = NodeId(2);
const Z: NodeId = NodeId(3);
const LOSS: u64 = 7;

fn keys() -> impl Iterator<Item = Bytes> {
    (0..30).map(|number| format!("key {number}").into())
}

fn put(key: &Bytes, value: &str) -> PutRequest {
    PutRequest { key: key.clone(), ..put_of(value) }
}

/// Three nodes that hold all keys, of which X has lost its store and does not know it yet.
fn after_a_loss() -> World {
    let mut world = World::new(3);
    for key in keys() {
        world.put(Y, put(&key, "kept"));
    }
    lose(&mut world, X);
    world
}

fn lose(world: &mut World, node: NodeId) {
    world.host(node).store.clear();
    world.host(node).node.fill(Backlog::all(LOSS));
}

fn held(world: &World, node: NodeId) -> usize {
    let records = world.hosts[&node].store.iter();
    records.filter(|((area, _), record)| *area == Area::Data && !record.siblings.is_empty()).count()
}

fn is_filling(world: &World, node: NodeId) -> bool {
    world.hosts[&node].node.fill_figures().is_some()
}

/// Whether a filling node asks for objects.
fn is_batch(message: &Message) -> bool {
    let Message::TreeRead { is_fill: true, read, .. } = message else { return false };
    matches!(read.query, TreeQuery::Objects(..))
}

/// Of which partition a filling node asks for anything.
fn filled(message: &Message) -> Option<u16> {
    match message {
        Message::TreeRead { is_fill: true, read, .. } => Some(read.partition.0),
        _ => None,
    }
}

/// Reads a key through `at` from `r` owners.
fn read(world: &mut World, at: NodeId, r: u32) -> Result<Vec<String>, RequestError> {
    let key = keys().next().unwrap();
    let ticket = 1_000_000 + u64::from(r);
    let get = GetRequest {
        keyspace: KeyspaceId::of("carts", 1),
        key,
        r: Some(r),
        quorum: QuorumKind::Strict,
        timeout_ms: 2_000,
    };
    world.happen(at, Event::Get(ticket, get));
    let answer = world.gets.remove(&ticket).expect("answered at once");
    answer.map(|receipt| values(&receipt.siblings))
}

#[test]
fn a_lost_store_is_filled_in_batches_and_tells_so() {
    let mut world = after_a_loss();
    world.pass_ms(1);
    assert!(!is_filling(&world, X));
    assert_eq!(held(&world, X), keys().count());
    assert_eq!(world.host(X).backlog, Some(Backlog::nothing(LOSS)));
    let ended = world.notices.iter().find_map(|(node, notice)| match notice {
        Notice::FillEnded(figures) if *node == X => Some(*figures),
        _ => None,
    });
    let ended = ended.expect("told");
    assert_eq!((ended.partitions, ended.partitions_left), (8, 0));
    assert!(ended.objects_copied >= keys().count() as u64);
    let batches = world.sent.iter().filter(|(from, _, message)| *from == X && is_batch(message));
    assert!(batches.count() > 8, "some partitions took several batches");
}

#[test]
fn what_is_not_filled_counts_for_no_read_and_writes_are_taken() {
    let mut world = after_a_loss();
    world.hold = |message| matches!(message, Message::TreeReply { .. });
    world.pass_ms(1);
    assert!(is_filling(&world, X));

    assert_eq!(read(&mut world, X, 2), Ok(vec!["kept".to_owned()]), "by the other two");
    let is_short = |answer| matches!(answer, Err(RequestError::QuorumNotReached { .. }));
    assert!(is_short(read(&mut world, Y, 3)), "X does not count");
    assert_eq!(held(&world, X), 1, "but is sent what was read");
    assert!(is_short(read(&mut world, X, 3)), "nor does it count itself");
    let refused = world.sent.iter().any(|(from, _, message)| {
        let filling = Err(ReplicaError::Filling);
        *from == X && matches!(message, Message::ReadReply { result, .. } if *result == filling)
    });
    assert!(refused, "it says why");

    let ticket = world.put(Y, PutRequest { w: Some(3), ..put_of("new") });
    assert_eq!(world.receipt(ticket).acked, 3, "its copy is real");
    world.release();
    world.pass_ms(3_000);
    assert!(!is_filling(&world, X));
    assert_eq!(world.values(X, Area::Data), world.values(Y, Area::Data));
    assert_eq!(read(&mut world, X, 3), Ok(vec!["kept".to_owned()]));
}

#[test]
fn an_owner_that_is_gone_is_waited_for_as_long_as_it_may_be_needed() {
    // With n=3 and w=2 either of the others may hold the only other copy.
    let mut world = after_a_loss();
    world.host(Z).link = Link::Silent;
    world.pass_ms(60_000);
    assert!(is_filling(&world, X));
    assert_eq!(held(&world, X), keys().count(), "all that Y holds");
    world.host(Z).link = Link::Up;
    world.pass_ms(5_000);
    assert!(!is_filling(&world, X));
}

/// Three nodes that hold all keys, every one of them acknowledged by all, of which X has lost its
/// store and Z is gone.
fn of_w_3_after_a_loss() -> World {
    let quorums = Quorums { n: 3, r: 1, w: 3 };
    let mut world = World::with(3, KeyspaceSpec { quorums, ..carts() });
    for key in keys() {
        world.put(Y, put(&key, "kept"));
    }
    lose(&mut world, X);
    world.host(Z).link = Link::Silent;
    world
}

#[test]
fn with_w_of_all_one_whole_owner_suffices_once_puts_of_before_have_ended() {
    let mut world = of_w_3_after_a_loss();
    world.pass_ms(9_000);
    assert!(is_filling(&world, X), "a put of before may still be acknowledged");
    world.pass_ms(2_000);
    assert!(!is_filling(&world, X));
    assert_eq!(held(&world, X), keys().count());
}

#[test]
fn an_owner_with_a_damaged_record_is_not_whole() {
    let mut world = of_w_3_after_a_loss();
    let damaged = keys().next().unwrap();
    world.host(Y).damaged.insert(damaged);
    world.pass_ms(60_000);
    let figures = world.hosts[&X].node.fill_figures().expect("it waits");
    assert_eq!(figures.partitions_left, 1, "for the partition of the damaged record only");
    // All others, whole or not: what exists was copied.
    world.host(Z).link = Link::Up;
    world.pass_ms(12_000);
    assert!(!is_filling(&world, X));
    assert_eq!(held(&world, X), keys().count(), "Z had what Y could not give");
}

#[test]
fn an_owner_that_has_become_whole_is_asked_again() {
    let mut world = of_w_3_after_a_loss();
    world.host(Y).damaged.insert(keys().next().unwrap());
    world.pass_ms(15_000);
    assert!(is_filling(&world, X));
    world.host(Y).damaged.clear();
    world.host(Y).trees = None;
    world.pass_ms(15_000);
    assert!(!is_filling(&world, X));
    assert_eq!(held(&world, X), keys().count());
}

#[test]
fn two_that_lost_their_stores_do_not_wait_for_each_other() {
    let mut world = after_a_loss();
    lose(&mut world, Y);
    world.pass_ms(5_000);
    assert!(!is_filling(&world, X) && !is_filling(&world, Y));
    assert_eq!((held(&world, X), held(&world, Y)), (keys().count(), keys().count()));
}

#[test]
fn a_page_that_cannot_be_stored_is_asked_for_again() {
    let mut world = after_a_loss();
    world.host(X).is_store_stuck = true;
    world.pass_ms(100);
    world.host(X).is_store_stuck = false;
    world.fail_writes(X);
    assert!(is_filling(&world, X));
    world.pass_ms(3_000);
    assert!(!is_filling(&world, X));
    assert_eq!(held(&world, X), keys().count());
}

#[test]
fn a_restart_goes_on_with_what_is_left() {
    let mut world = after_a_loss();
    world.hold = |message| filled(message).is_some_and(|partition| partition > 3);
    world.pass_ms(1_500);
    let backlog = world.host(X).backlog.clone().expect("persisted");
    let left: Vec<u16> = backlog.left.iter().flatten().map(|partition| partition.0).collect();
    assert_eq!(left, [4, 5, 6, 7]);
    assert_eq!(Backlog::decode(&backlog.encode()), Some(backlog.clone()));

    world.hold = |_| false;
    world.held.clear();
    world.sent.clear();
    world.host(X).node.fill(backlog);
    world.pass_ms(5_000);
    assert!(!is_filling(&world, X));
    assert_eq!(held(&world, X), keys().count());
    let mut sent = world.sent.iter();
    let is_done_again = sent.any(|(_, _, message)| filled(message).is_some_and(|p| p < 4));
    assert!(!is_done_again);
}

#[test]
fn nobody_fills_the_only_owner_and_that_is_said() {
    let mut world = World::new(1);
    lose(&mut world, X);
    world.pass_ms(1);
    assert!(!is_filling(&world, X));
    assert!(world.has_noticed(X, &Notice::DataLost(8)));
}

#[test]
fn what_others_own_or_nobody_owns_any_more_is_not_copied() {
    let mut world = World::new(3);
    let narrow = KeyspaceSpec {
        name: "narrow".to_owned(),
        quorums: Quorums { n: 1, r: 1, w: 1 },
        ..carts()
    };
    for name in ["narrow", "gone"] {
        let spec = KeyspaceSpec { name: name.to_owned(), ..narrow.clone() };
        let ticket = world.change(Y, CatalogueChange::CreateKeyspace(spec));
        assert!(world.changes[&ticket].is_ok());
    }
    for key in keys() {
        for name in ["narrow", "gone"] {
            let keyspace = KeyspaceId::of(name, 1);
            world.put(Y, PutRequest { keyspace, w: Some(1), ..put(&key, "one copy") });
        }
    }
    let change = CatalogueChange::DeleteKeyspace { name: "gone".to_owned(), etag: None };
    let ticket = world.change(Y, change);
    assert!(world.changes[&ticket].is_ok());
    lose(&mut world, X);
    world.pass_ms(1);
    assert!(!is_filling(&world, X));
    assert_eq!(held(&world, X), 0, "what X owned alone is gone, what is not its own not copied");
}

#[test]
fn what_comes_after_the_fill_is_over_revives_nothing() {
    let quorums = Quorums { n: 3, r: 1, w: 3 };
    let mut world = World::with(3, KeyspaceSpec { quorums, ..carts() });
    world.put(Y, put_of("old"));
    lose(&mut world, X);
    // Y's answers arrive, those of Z do not. They suffice once the patience is over.
    world.hold =
        |message| matches!(message, Message::TreeReply { result: Ok(TreeAnswer::Objects(_)), .. });
    let mut late = Vec::new();
    for _ in 0..30 {
        world.pass_ms(500);
        for (from, to, message) in std::mem::take(&mut world.held) {
            match from {
                Y => world.happen(to, Event::Received(from, message)),
                _ => late.push((from, to, message)),
            }
        }
    }
    assert!(!is_filling(&world, X) && !late.is_empty());
    assert_eq!(world.values(X, Area::Data), ["old"]);

    let read = world.get(Y);
    let context = Context::of(&world.gets[&read].as_ref().unwrap().siblings);
    let mut delete = PutRequest { context, ..put_of("") };
    delete.draft.payload = Payload::Tombstone;
    world.put(Y, delete);
    world.hold = |_| false;
    world.pass_ms(60_000);
    let held: Vec<usize> = [X, Y, Z].map(|node| world.hosts[&node].store.len()).into();
    assert_eq!(held, [0, 0, 0], "the delete is forgotten");
    for (from, to, message) in late {
        world.happen(to, Event::Received(from, message));
    }
    world.pass_ms(60_000);
    let held: Vec<usize> = [X, Y, Z].map(|node| world.hosts[&node].store.len()).into();
    assert_eq!(held, [0, 0, 0], "and what was deleted stays so");
}

#[test]
fn who_was_read_is_not_read_again() {
    let mut world = after_a_loss();
    world.host(Z).link = Link::Silent;
    world.pass_ms(1_000);
    let before = world.hosts[&X].node.fill_figures().unwrap();
    assert!(before.objects_copied >= keys().count() as u64, "{before:?}");
    world.sent.clear();
    world.host(Z).link = Link::Up;
    world.pass_ms(5_000);
    assert!(!is_filling(&world, X));
    let again = world.sent.iter().filter(|(from, to, m)| (*from, *to) == (X, Y) && is_batch(m));
    assert_eq!(again.count(), 0, "Y was read already");
}
