//! Folds: the algebra of objects that replicas fold apart, on random histories of one key; and
//! when nodes fold, on a small world.

mod history;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use history::{History, NO_LIMITS, REPLICAS, bytes, draft};
use proptest::prelude::*;
use stator_core::catalogue::{KeyspaceSpec, Reconcile};
use stator_core::causality::{Context, LiveVersion, Siblings, Survivors};
use stator_core::divergence::{MergeFailure, Outcome};
use stator_core::event::{Area, Notice};
use stator_core::fold::{Foldable, fold, foldable};
use stator_core::id::{Dot, KeyspaceId, NodeId};
use stator_core::version::{Origin, Payload};
use stator_core::write::{Change, SiblingLimits, WriteRefused, write};
use world::{Link, MODULE, World, carts, put_of};

fn sync(a: &Siblings, b: &Siblings) -> Siblings {
    let mut joined = a.clone();
    joined.sync(b);
    joined
}

/// The bits of the writes that a value contains.
fn bits(payload: &Payload) -> Vec<u8> {
    payload.value().map(|value| value.to_vec()).unwrap_or_default()
}

/// What the union module makes of them: a value is a set of bytes, in ascending order.
fn united(siblings: &Siblings) -> Option<Siblings> {
    let outcome = match foldable(siblings) {
        Foldable::No => return None,
        Foldable::Equal(outcome) => outcome,
        Foldable::Divergent(versions) => {
            let values: Vec<&Bytes> =
                versions.iter().filter_map(|live| live.version.payload.value()).collect();
            let all: BTreeSet<u8> = values.iter().flat_map(|v| v.iter().copied()).collect();
            match values.is_empty() {
                true => Outcome::Delete,
                false => Outcome::Value(all.into_iter().collect::<Vec<u8>>().into()),
            }
        }
    };
    fold(siblings, &outcome, MODULE)
}

#[derive(Debug, Clone)]
enum Step {
    /// A client remembers a replica's context and contents.
    Get {
        at: usize,
    },
    /// It writes, with what it remembers or blindly. A put carries on what it has in hand.
    Put {
        at: usize,
        known: Option<usize>,
        is_delete: bool,
    },
    Sync {
        from: usize,
        to: usize,
    },
    /// A replica folds what it holds.
    Fold {
        at: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = 0..REPLICAS;
    let put = (at.clone(), prop::option::of(0usize..8), prop::bool::weighted(0.25));
    let step = prop_oneof![
        3 => at.clone().prop_map(|at| Step::Get { at }),
        5 => put.prop_map(|(at, known, is_delete)| Step::Put { at, known, is_delete }),
        4 => (at.clone(), at.clone()).prop_map(|(from, to)| Step::Sync { from, to }),
        3 => at.prop_map(|at| Step::Fold { at }),
    ];
    prop::collection::vec(step, 1..40)
}

/// The replicas, what clients have in hand, and what each dot's write contained.
struct Replicas {
    replicas: History,
    known: Vec<(Context, BTreeSet<u8>)>,
    written: BTreeMap<Dot, BTreeSet<u8>>,
    refused: usize,
}

impl Replicas {
    fn run(steps: &[Step]) -> Self {
        let mut run = Replicas {
            replicas: History::new(Survivors::All),
            known: Vec::new(),
            written: BTreeMap::new(),
            refused: 0,
        };
        steps.iter().enumerate().for_each(|(number, step)| run.step(number as u8, step));
        run
    }

    fn step(&mut self, number: u8, step: &Step) {
        match *step {
            Step::Get { at } => {
                let siblings = self.replicas.siblings(at);
                let contents = siblings.live().flat_map(|(_, v)| bits(&v.payload)).collect();
                self.known.push((Context::of(&siblings), contents));
            }
            Step::Put { at, known, is_delete } => {
                let known = known.and_then(|i| self.known.get(i % self.known.len().max(1)));
                let (context, mut contents) = known.cloned().unwrap_or_default();
                let mut draft = draft(None);
                match is_delete {
                    true => contents.clear(),
                    false => {
                        contents.insert(number);
                        let value: Vec<u8> = contents.iter().copied().collect();
                        draft.payload = Payload::Value(value.into());
                    }
                }
                let change = Change::Mint {
                    passed_ms: 0,
                    ancestors: Default::default(),
                    until_ms: u64::MAX,
                    is_lent: false,
                    allowance: None,
                    context,
                    draft,
                    now_ms: u64::from(number / 3),
                    limits: NO_LIMITS,
                };
                match self.write(at, &change) {
                    Some(dot) => drop(self.written.insert(dot, contents)),
                    None => self.refused += 1,
                }
            }
            Step::Sync { from, to } => {
                let siblings = Arc::new(self.replicas.siblings(from));
                self.write(to, &Change::Sync(siblings));
            }
            Step::Fold { at } => {
                if let Some(folded) = united(&self.replicas.siblings(at)) {
                    self.write(at, &Change::Sync(Arc::new(folded)));
                }
            }
        }
    }

    fn write(&mut self, at: usize, change: &Change) -> Option<Dot> {
        let minter = &mut self.replicas.minters[at];
        let stored = self.replicas.records[at].clone();
        let written = write(stored, change, &[], Survivors::All, minter).ok()?;
        self.replicas.records[at] = Some(written.record);
        written.dot
    }

    fn all(&self) -> Vec<Siblings> {
        self.replicas.all()
    }
}

proptest! {
    #[test]
    fn sync_of_folds_is_a_join(steps in steps()) {
        let all = Replicas::run(&steps).all();
        for a in &all {
            prop_assert_eq!(&sync(a, a), a);
            for b in &all {
                let ab = sync(a, b);
                prop_assert_eq!(bytes(&ab), bytes(&sync(b, a)));
                prop_assert!(ab.covers(a) && ab.covers(b));
                for c in &all {
                    prop_assert_eq!(bytes(&sync(&ab, c)), bytes(&sync(a, &sync(b, c))));
                }
            }
        }
    }

    #[test]
    fn a_fold_is_one_version_that_no_replica_undoes(steps in steps()) {
        for siblings in Replicas::run(&steps).all() {
            let Some(folded) = united(&siblings) else { continue };
            prop_assert_eq!(folded.versions().len(), 1);
            prop_assert_eq!(folded.vector(), siblings.vector());
            let dots = |s: &Siblings| s.live().map(|(dot, _)| dot).collect::<Vec<_>>();
            prop_assert_eq!(dots(&folded), dots(&siblings));
            // A replica that has not heard of the fold does not undo it, and takes it over.
            prop_assert_eq!(bytes(&sync(&siblings, &folded)), bytes(&folded));
            prop_assert_eq!(united(&folded), None, "nothing is left to fold");
        }
    }

    #[test]
    fn no_live_write_is_missing_from_its_version(steps in steps()) {
        let run = Replicas::run(&steps);
        let mut all = run.all();
        all.push(all.iter().fold(Siblings::new(), |end, siblings| sync(&end, siblings)));
        for (dot, version) in all.iter().flat_map(Siblings::live) {
            prop_assert!(version.origin.inputs().contains(&dot));
            let contained: BTreeSet<u8> = bits(&version.payload).into_iter().collect();
            prop_assert!(run.written[&dot].is_subset(&contained), "{dot} in {version:?}");
        }
    }

    /// Folding changes no dot: with folds and without the same writes are left. Only deletes that
    /// saw a part of a fold are refused with folds, so histories with one say nothing here.
    #[test]
    fn folds_change_neither_what_lives_nor_what_is_dead(steps in steps()) {
        let with = Replicas::run(&steps);
        let plain: Vec<Step> =
            steps.iter().filter(|step| !matches!(step, Step::Fold { .. })).cloned().collect();
        prop_assume!(with.refused == 0);
        let without = Replicas::run(&plain);
        for (with, without) in with.all().iter().zip(without.all()) {
            prop_assert_eq!(with.vector(), without.vector());
            let dots = |s: &Siblings| s.live().map(|(dot, _)| dot).collect::<Vec<_>>();
            prop_assert_eq!(dots(with), dots(&without));
        }
    }

    /// The siblings of one object, folded in two parts or at once: the same bytes.
    #[test]
    fn folds_made_apart_are_equal(
        values in prop::collection::vec(0u8..4, 2..7), cut in 1usize..6, at in 0usize..6,
    ) {
        let minted = |values: &[u8], node: usize| {
            let mut replicas = History::new(Survivors::All);
            values.iter().enumerate().for_each(|(i, value)| {
                let (now_ms, context) = (u64::from(*value), None);
                let at = (node + i) % REPLICAS;
                replicas.step(&history::Step::Put { at, context, value: Some(*value), now_ms });
            });
            replicas.all()
        };
        let parts = minted(&values, at);
        let join = |parts: &[Siblings]| {
            parts.iter().fold(Siblings::new(), |end, part| sync(&end, part))
        };
        let at_once = united(&join(&parts));
        let (left, right) = parts.split_at(cut.min(parts.len() - 1));
        let folded = |part: Siblings| united(&part).unwrap_or(part);
        let apart = sync(&folded(join(left)), &folded(join(right)));
        let apart = united(&apart).unwrap_or(apart);
        let at_once = at_once.unwrap_or_else(|| join(&parts));
        prop_assert_eq!(bytes(&apart), bytes(&at_once));
    }

    #[test]
    fn a_context_of_all_inputs_kills_the_fold(steps in steps(), at in 0..REPLICAS) {
        let mut run = Replicas::run(&steps);
        let siblings = run.replicas.siblings(at);
        let Some(folded) = united(&siblings) else { return Ok(()) };
        let context = Context::of(&siblings);
        let delete = Change::Mint { passed_ms: 0, context, draft: draft(None), now_ms: 9, limits: NO_LIMITS, ancestors: Default::default(), until_ms: u64::MAX, is_lent: false, allowance: None };
        let dot = run.write(at, &delete).expect("it has seen everything");
        let deleted = run.replicas.siblings(at);
        // Whichever comes first, the delete is what is left.
        for end in [sync(&deleted, &folded), sync(&folded, &deleted)] {
            let left: Vec<_> = end.live().map(|(live, v)| (live, v.payload.clone())).collect();
            prop_assert_eq!(left, vec![(dot, Payload::Tombstone)]);
        }
    }
}

fn siblings_of(values: &[&str]) -> Siblings {
    let mut world = World::with(3, folding());
    world.merge = fails;
    let owner = world.list().primaries()[0];
    for value in values {
        world.put(owner, put_of(value));
    }
    Siblings::clone(&world.record(owner, Area::Data).unwrap().siblings)
}

fn fails(
    _: &stator_core::divergence::Divergence,
) -> Result<Arc<stator_core::divergence::Resolution>, MergeFailure> {
    Err(MergeFailure::Trapped("unreachable".to_owned()))
}

fn folding() -> KeyspaceSpec {
    KeyspaceSpec { reconcile: Reconcile::Fold(MODULE), ..carts() }
}

#[test]
fn what_cannot_be_folded_stays() {
    let siblings = siblings_of(&["a", "b"]);
    assert!(united(&siblings).is_some());
    assert_eq!(fold(&siblings, &Outcome::KeepSiblings, MODULE), None);
    let changed = |change: fn(&mut stator_core::version::Version)| {
        let mut other = Siblings::new();
        for (dot, version) in siblings.live() {
            let mut version = stator_core::version::Version::clone(version);
            change(&mut version);
            other.put(&Default::default(), dot, Arc::new(version));
        }
        other
    };
    let expiring = changed(|version| version.expires_at_ms = Some(u64::MAX));
    assert_eq!(foldable(&expiring), Foldable::No);
    let newer = changed(|version| {
        let field = stator_core::codec::UnknownField { tag: 99, bytes: Bytes::new() };
        version.unknown.push(field);
    });
    assert_eq!(foldable(&newer), Foldable::No);
    assert_eq!(foldable(&siblings_of(&["a"])), Foldable::No);
}

/// What all owners of the world hold; it must be the same.
fn held(world: &World) -> Vec<LiveVersion> {
    let owners = world.list().primaries().to_vec();
    let mut held = owners.iter().map(|owner| world.record(*owner, Area::Data).unwrap());
    let first = held.next().unwrap().siblings.clone();
    held.for_each(|record| assert_eq!(record.siblings, first));
    first.versions()
}

fn context(world: &mut World, at: NodeId) -> Context {
    let ticket = world.get(at);
    let receipt = world.gets[&ticket].clone().unwrap();
    Context::of(&receipt.siblings)
}

#[test]
fn a_blind_put_is_folded_with_what_it_meets_by_its_coordinator() {
    let mut world = World::with(4, folding());
    let owners = world.list().primaries().to_vec();
    let dots: Vec<Dot> = [(0, "a"), (1, "b"), (0, "c")]
        .map(|(owner, value)| {
            let ticket = world.put(owners[owner], put_of(value));
            world.receipt(ticket).dot
        })
        .into();
    let versions = held(&world);
    let [LiveVersion { dots: found, version }] = &versions[..] else { panic!("{versions:?}") };
    assert_eq!(found.iter().collect::<BTreeSet<_>>(), dots.iter().collect());
    assert_eq!(version.payload, Payload::Value("a b c".into()));
    let Origin::Fold { module, inputs } = &version.origin else { panic!("{version:?}") };
    assert_eq!((*module, inputs), (MODULE, found));
    let folded = Notice::Folded(KeyspaceId::of("carts", 1));
    assert!(world.has_noticed(owners[0], &folded) && world.has_noticed(owners[1], &folded));
}

#[test]
fn a_get_that_finds_all_owners_alike_folds() {
    let mut world = World::with(4, folding());
    world.merge = fails;
    let owners = world.list().primaries().to_vec();
    for (owner, value) in [(0, "a"), (1, "b")] {
        world.put(owners[owner], put_of(value));
    }
    assert_eq!(held(&world).len(), 2, "its module failed");
    let asked = world.merges;
    world.merge = world::union;
    let stranger = world.list().fallbacks()[0];
    world.get(stranger);
    assert_eq!(world.merges, asked + 1, "another node has not failed at it");
    assert_eq!(held(&world).len(), 1);
}

#[test]
fn nothing_is_folded_while_an_owner_is_away_or_holds_less() {
    let mut world = World::with(3, folding());
    let owners = world.list().primaries().to_vec();
    world.host(owners[2]).link = Link::Refused;
    for (owner, value) in [(0, "a"), (1, "b")] {
        world.put(owners[owner], put_of(value));
        world.get(owners[owner]);
    }
    assert_eq!(world.merges, 0, "one owner did not answer");
    world.host(owners[2]).link = Link::Up;
    world.get(owners[0]);
    assert_eq!(world.merges, 0, "one owner held less, and is repaired");
    world.get(owners[0]);
    assert_eq!((world.merges, held(&world).len()), (1, 1));
}

#[test]
fn siblings_that_a_module_fails_at_are_tried_once() {
    let mut world = World::with(3, folding());
    world.merge = fails;
    let owners = world.list().primaries().to_vec();
    for value in ["a", "b"] {
        world.put(owners[0], put_of(value));
    }
    assert_eq!(world.merges, 1);
    for _ in 0..3 {
        world.get(owners[0]);
    }
    assert_eq!(world.merges, 1, "the same siblings are not tried again");
    world.put(owners[0], put_of("c"));
    assert_eq!((world.merges, held(&world).len()), (2, 3), "changed siblings are");
    // What passes with the node's own trouble is no failure of the siblings.
    world.merge = |_| Err(MergeFailure::NotLoaded(MODULE));
    world.put(owners[1], put_of("d"));
    let asked = world.merges;
    world.merge = world::union;
    world.get(owners[1]);
    assert_eq!((world.merges, held(&world).len()), (asked + 1, 1));
}

#[test]
fn puts_that_come_while_a_key_is_folded_are_folded_after_it() {
    let mut world = World::with(3, folding());
    let owner = world.list().primaries()[0];
    world.hold = |message| matches!(message, stator_core::message::Message::Read { .. });
    for value in ["a", "b", "c", "d"] {
        world.put(owner, put_of(value));
    }
    assert_eq!((world.merges, held(&world).len()), (0, 4), "the read for the fold is under way");
    world.release();
    assert_eq!(held(&world).len(), 1);
    assert!(world.merges <= 2, "{} merges for four puts", world.merges);
}

#[test]
fn a_delete_of_a_part_of_a_fold_is_refused_and_a_put_is_not() {
    let mut world = World::with(3, folding());
    let owners = world.list().primaries().to_vec();
    world.put(owners[0], put_of("a"));
    let early = context(&mut world, owners[0]);
    world.put(owners[1], put_of("b"));
    assert_eq!(held(&world).len(), 1);

    let mut delete = put_of("");
    delete.draft.payload = Payload::Tombstone;
    delete.context = early.clone();
    let ticket = world.put(owners[0], delete.clone());
    let refused = format!("{:?}", world.answers(ticket));
    assert!(refused.contains("PartlyFolded { seen: 1, inputs: 2 }"), "{refused}");

    let mut derived = put_of("a x");
    derived.context = early;
    world.put(owners[0], derived);
    let values: Vec<Payload> =
        held(&world).iter().map(|live| live.version.payload.clone()).collect();
    assert_eq!(values, [Payload::Value("a b x".into())]);

    delete.context = context(&mut world, owners[2]);
    let ticket = world.put(owners[1], delete);
    world.receipt(ticket);
    let versions = held(&world);
    assert_eq!(versions.len(), 1);
    assert_eq!(versions[0].version.payload, Payload::Tombstone);
}

#[test]
fn folds_keep_blind_puts_going_until_their_dots_are_too_many() {
    let mut world = World::with(3, folding());
    let owner = world.list().primaries()[0];
    let mut put = put_of("a");
    put.limits = SiblingLimits { siblings_max: 3, siblings_bytes_max: 1 << 20 };
    for _ in 0..stator_core::write::FOLDED_WRITES_MAX {
        let ticket = world.put(owner, put.clone());
        world.receipt(ticket);
        world.sent.clear();
    }
    assert_eq!(held(&world).len(), 1);
    let ticket = world.put(owner, put.clone());
    let max = stator_core::write::FOLDED_WRITES_MAX;
    let refused = WriteRefused::TooManyWrites { found: max, max };
    let expected = stator_core::request::RequestError::Refused(refused);
    assert_eq!(world.answers(ticket), [&Err(expected)]);
    put.context = context(&mut world, owner);
    let ticket = world.put(owner, put);
    assert!(world.receipt(ticket).context.is_some(), "it replaces all of them");
}
