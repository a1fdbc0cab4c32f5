//! Writes with a request id: who knows of the first attempt never makes a second write of it.

mod history;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use history::{NO_LIMITS, REPLICAS, draft};
use proptest::prelude::*;
use stator_core::catalogue::{CatalogueChange, KeyspaceUpdate, Reconcile};
use stator_core::causality::{Context, Siblings, Survivors};
use stator_core::event::Area;
use stator_core::id::{Dot, Incarnation, NodeId};
use stator_core::record::Record;
use stator_core::request::{PutRequest, RequestError};
use stator_core::request_notes::{NOTES_MAX, WINDOW_MS};
use stator_core::version::{FINGERPRINT_BYTES, RequestName};
use stator_core::write::{Change, Draft, Minter, WriteRefused, Written, write};
use world::{Link, World, put_of};

fn name(id: u8, asked: u8) -> RequestName {
    RequestName { id: Bytes::copy_from_slice(&[id]), fingerprint: [asked; FINGERPRINT_BYTES] }
}

fn mint(id: u8, asked: u8, context: Context, now_ms: u64) -> Change {
    let draft = Draft { request: Some(name(id, asked)), ..draft(Some(asked)) };
    Change::Mint {
        passed_ms: 0,
        context,
        draft,
        now_ms,
        limits: NO_LIMITS,
        ancestors: Default::default(),
        until_ms: u64::MAX,
        is_lent: false,
        allowance: None,
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A client writes, having seen the replica or nothing.
    Put {
        at: usize,
        id: u8,
        with_context: bool,
    },
    Sync {
        from: usize,
        to: usize,
    },
    /// A replica reads its record back from its bytes.
    Reload {
        at: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = 0..REPLICAS;
    let step = prop_oneof![
        4 => (at.clone(), 0u8..6, any::<bool>())
            .prop_map(|(at, id, with_context)| Step::Put { at, id, with_context }),
        3 => (at.clone(), at.clone()).prop_map(|(from, to)| Step::Sync { from, to }),
        1 => at.prop_map(|at| Step::Reload { at }),
    ];
    prop::collection::vec(step, 1..40)
}

/// The ids of the live versions, read without the code under test.
fn live(siblings: &Siblings) -> BTreeSet<u8> {
    siblings.live().filter_map(|(_, version)| Some(version.request.as_ref()?.id[0])).collect()
}

proptest! {
    #[test]
    fn who_has_held_a_named_write_answers_its_retry_with_its_dot(steps in steps(), lww: bool) {
        let fold = if lww { Survivors::LastWrite } else { Survivors::All };
        let mut records: Vec<Record> = vec![Record::default(); REPLICAS];
        let minter = |at| Minter::new(NodeId(at as u64 + 1), Incarnation(1));
        let mut minters: Vec<Minter> = (0..REPLICAS).map(minter).collect();
        let mut minted: BTreeMap<u8, BTreeSet<Dot>> = BTreeMap::new();
        let mut held: Vec<BTreeSet<u8>> = vec![BTreeSet::new(); REPLICAS];
        let mut replaced: BTreeSet<u8> = BTreeSet::new();
        let ends = (0..2 * REPLICAS * REPLICAS).map(|step| Step::Sync {
            from: step / REPLICAS % REPLICAS,
            to: step % REPLICAS,
        });
        let steps: Vec<Step> = steps.into_iter().chain(ends).collect();
        for (now_ms, step) in steps.iter().enumerate() {
            match *step {
                Step::Put { at, id, with_context } => {
                    let seen = Context::of(&records[at].siblings);
                    let context = if with_context { seen } else { Context::default() };
                    let change = mint(id, 0, context, now_ms as u64);
                    let before = records[at].clone();
                    let Written { record, dot, is_changed, .. } =
                        write(Some(before.clone()), &change, &[], fold, &mut minters[at]).unwrap();
                    let dot = dot.unwrap();
                    if held[at].contains(&id) {
                        prop_assert!(minted[&id].contains(&dot), "{id} was minted again");
                        prop_assert!(!is_changed && record == before, "a retry changes nothing");
                    } else {
                        replaced.extend(live(&before.siblings).iter().filter(|_| with_context));
                        prop_assert!(minted.entry(id).or_default().insert(dot));
                    }
                    held[at].extend(live(&record.siblings));
                    records[at] = record;
                }
                Step::Sync { from, to } => {
                    let theirs = records[from].siblings.clone();
                    held[to].extend(live(&theirs));
                    let change = Change::Sync(theirs);
                    let stored = Some(records[to].clone());
                    records[to] = write(stored, &change, &[], fold, &mut minters[to]).unwrap().record;
                }
                Step::Reload { at } => {
                    records[at] = Record::decode(records[at].encode().into()).unwrap();
                }
            }
            // Of tries that met one is left.
            let counts = records.iter().map(|r| (live(&r.siblings).len(), r.siblings.live_count()));
            prop_assert!(lww || counts.clone().all(|(ids, dots)| ids == dots), "{counts:?}");
        }
        prop_assert!(records.iter().all(|record| record.siblings == records[0].siblings));
        let left = live(&records[0].siblings);
        let lost = minted.keys().find(|id| !replaced.contains(id) && !left.contains(id));
        prop_assert!(lww || lost.is_none(), "{lost:?} was not replaced, and {left:?} are left");
    }
}

#[test]
fn another_request_under_the_same_id_is_refused_and_changes_nothing() {
    let mut minter = Minter::new(NodeId(1), Incarnation(1));
    let mut put = |stored, change: &Change| write(stored, change, &[], Survivors::All, &mut minter);
    let first = put(None, &mint(1, 1, Context::default(), 1)).unwrap();
    let refused = WriteRefused::RequestReused(first.dot.unwrap());
    let other = mint(1, 2, Context::default(), 2);
    assert_eq!(put(Some(first.record.clone()), &other), Err(refused.clone()));
    // Also once the first is replaced.
    let seen = Context::of(&first.record.siblings);
    let replaced = put(Some(first.record), &mint(2, 0, seen, 3)).unwrap();
    assert_eq!(put(Some(replaced.record), &other), Err(refused));
}

#[test]
fn replaced_writes_are_forgotten_after_the_window_and_beyond_the_count() {
    let mut minter = Minter::new(NodeId(1), Incarnation(1));
    let mut stored = None;
    let mut put = |stored, id: u8, context, now_ms| {
        write(stored, &mint(id, 0, context, now_ms), &[], Survivors::All, &mut minter).unwrap()
    };
    let count = NOTES_MAX as u8 + 2;
    for id in 0..count {
        let seen = stored.as_ref().map(|r: &Record| Context::of(&r.siblings)).unwrap_or_default();
        stored = Some(put(stored, id, seen, 1_000).record);
    }
    let record = stored.unwrap();
    assert_eq!(record.request_notes.len(), NOTES_MAX);
    let is_known = |now_ms| {
        (0..count).filter(move |id| {
            !matches!(record.known(&name(*id, 0), now_ms), stator_core::request_notes::Known::New)
        })
    };
    assert_eq!(is_known.clone()(2_000).collect::<Vec<_>>(), (1..count).collect::<Vec<_>>());
    let late_ms = 2_000 + WINDOW_MS;
    assert_eq!(is_known(late_ms).collect::<Vec<_>>(), [count - 1], "what is live is known");
}

fn named(value: &str, id: u8) -> PutRequest {
    let mut put = put_of(value);
    put.draft.request = Some(name(id, 7));
    put
}

#[test]
fn a_retry_through_any_node_is_one_write() {
    let mut world = World::new(4);
    let owners = world.list().primaries().to_vec();
    let first = world.put(NodeId(1), named("milk", 1));
    let dot = world.receipt(first).dot;
    assert_eq!(dot.actor.node, owners[0], "the first owner coordinates named writes");
    for node in 1..=4 {
        let retry = world.put(NodeId(node), named("milk", 1));
        assert_eq!(world.receipt(retry).dot, dot, "through node {node}");
        assert!(world.receipt(retry).context.is_some(), "it is still the only version");
    }
    for owner in owners {
        assert_eq!(world.values(owner, Area::Data), ["milk"]);
    }
}

#[test]
fn a_retry_at_another_owner_is_recognised_if_that_has_the_write() {
    let mut world = World::new(4);
    let owners = world.list().primaries().to_vec();
    let first = world.put(owners[0], named("milk", 1));
    let dot = world.receipt(first).dot;
    world.host(owners[0]).link = Link::Refused;
    let retry = world.put(owners[1], named("milk", 1));
    assert_eq!(world.receipt(retry).dot, dot);
    assert_eq!(world.values(owners[1], Area::Data), ["milk"]);
}

#[test]
fn a_retry_of_what_was_replaced_brings_nothing_back_and_gives_no_context() {
    let mut world = World::new(4);
    let first = world.put(NodeId(1), named("milk", 1));
    let receipt = world.receipt(first).clone();
    let mut next = put_of("tea");
    next.context = receipt.context.clone().expect("it is the only version");
    world.put(NodeId(2), next);
    let retry = world.put(NodeId(3), named("milk", 1));
    assert_eq!(world.receipt(retry).dot, receipt.dot);
    assert_eq!(world.receipt(retry).context, None, "its client has not seen the successor");
    for owner in world.list().primaries().to_vec() {
        assert_eq!(world.values(owner, Area::Data), ["tea"]);
    }
}

#[test]
fn a_retry_gets_no_context_for_what_stands_under_its_dot_since_a_fold() {
    let mut world = World::new(3);
    let owners = world.list().primaries().to_vec();
    let update = KeyspaceUpdate {
        w: Some(1),
        reconcile: Some(Reconcile::LastWriteWins),
        ..Default::default()
    };
    let name = "carts".to_owned();
    world.change(NodeId(1), CatalogueChange::UpdateKeyspace { name, etag: None, update });
    let only = |world: &mut World, up: NodeId| {
        for owner in &owners {
            world.host(*owner).link = if *owner == up { Link::Up } else { Link::Refused };
        }
    };
    only(&mut world, owners[0]);
    let first = world.put(owners[0], named("milk", 1));
    let dot = world.receipt(first).dot;
    world.pass_ms(10);
    only(&mut world, owners[1]);
    world.put(owners[1], put_of("tea"));
    owners.iter().for_each(|owner| world.host(*owner).link = Link::Up);
    world.pass_ms(5_000);
    for owner in &owners {
        assert_eq!(world.values(*owner, Area::Data), ["tea"], "the later one won");
    }
    let retry = world.put(owners[0], named("milk", 1));
    assert_eq!(world.receipt(retry).dot, dot);
    assert_eq!(world.receipt(retry).context, None, "its client has not seen the winner");
}

#[test]
fn a_retry_completes_what_the_first_attempt_left() {
    let mut world = World::new(3);
    let owners = world.list().primaries().to_vec();
    for owner in &owners[1..] {
        world.host(*owner).link = Link::Silent;
    }
    let first = world.put(owners[0], named("milk", 1));
    world.pass_ms(2_000);
    assert!(
        matches!(world.answers(first)[..], [Err(RequestError::QuorumNotReached { .. })]),
        "{:?}",
        world.answers(first)
    );
    for owner in &owners[1..] {
        world.host(*owner).link = Link::Up;
    }
    let retry = world.put(owners[1], named("milk", 1));
    assert!(world.receipt(retry).acked >= 2);
    for owner in owners {
        assert_eq!(world.values(owner, Area::Data), ["milk"]);
    }
}

#[test]
fn another_request_under_the_id_is_told_so_by_every_node() {
    let mut world = World::new(4);
    let first = world.put(NodeId(1), named("milk", 1));
    let dot = world.receipt(first).dot;
    for node in 1..=4 {
        let mut other = named("tea", 1);
        other.draft.request = Some(name(1, 8));
        let answer = world.put(NodeId(node), other);
        assert_eq!(world.answers(answer), [&Err(RequestError::RequestReused(dot))]);
    }
}
