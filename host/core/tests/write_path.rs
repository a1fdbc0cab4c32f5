//! The write path: what is minted under which dot, what is refused, what settles a hint.

mod history;

use std::collections::BTreeSet;
use std::sync::Arc;

use history::{History, NO_LIMITS, Step, draft, steps};
use proptest::prelude::*;
use stator_core::causality::{Context, Siblings, Survivors};
use stator_core::id::{Dot, Incarnation, NodeId};
use stator_core::record::Record;
use stator_core::write::{
    Change, Minter, Settled, SiblingLimits, WriteRefused, Written, settle, write,
};

const ME: NodeId = NodeId(1);

fn minter() -> Minter {
    Minter::new(ME, Incarnation(1))
}

fn put(context: Context, limits: SiblingLimits) -> Change {
    Change::Mint {
        passed_ms: 0,
        context,
        draft: draft(Some(1)),
        now_ms: 1_000,
        limits,
        ancestors: Default::default(),
        until_ms: u64::MAX,
        is_lent: false,
        allowance: None,
    }
}

fn minted(stored: Option<Record>, context: Context, minter: &mut Minter) -> (Record, Dot) {
    let written = write(stored, &put(context, NO_LIMITS), &[], Survivors::All, minter).unwrap();
    (written.record, written.dot.unwrap())
}

proptest! {
    #[test]
    fn no_dot_is_minted_twice(steps in steps(true)) {
        let history = History::run(Survivors::All, &steps);
        let dots: BTreeSet<Dot> = history.minted.iter().map(|(dot, _)| *dot).collect();
        prop_assert_eq!(dots.len(), history.minted.len());
    }

    #[test]
    fn a_write_is_later_than_all_it_meets_and_replaces(steps in steps(false)) {
        let mut history = History::new(Survivors::All);
        for step in &steps {
            let before = history.minted.len();
            let (met_ms, seen_ms) = match step {
                Step::Put { at, context, .. } => {
                    let seen = context.and_then(|i| {
                        history.contexts.get(i % history.contexts.len().max(1))
                    });
                    (history.siblings(*at).latest_ms(), seen.map_or(0, |c| c.timestamp_ms))
                }
                _ => (0, 0),
            };
            history.step(step);
            if let Some((_, version)) = history.minted.get(before) {
                prop_assert!(version.written_at_ms > met_ms.max(seen_ms));
            }
        }
    }
}

#[test]
fn a_node_goes_on_with_an_actor_only_under_a_valid_mark() {
    let mut minter = minter();
    let (first, one) = minted(None, Context::default(), &mut minter);
    let (second, two) = minted(Some(first.clone()), Context::default(), &mut minter);
    assert_eq!(two, Dot { counter: 2, ..one });

    let of_second = Context::of(&second.siblings);
    let without_mark = Record { mark: None, ..second.clone() };
    let refetched = Record { siblings: second.siblings.clone(), ..Record::default() };
    // Someone knows a later dot of the actor than the mark: the mark is stale.
    let behind = Record { siblings: second.siblings.clone(), ..first.clone() };
    let table = [
        ("dropped", None, Context::default()),
        ("no mark", Some(without_mark), Context::default()),
        ("refetched", Some(refetched), Context::default()),
        ("behind its object", Some(behind), Context::default()),
        ("behind the context", Some(first.clone()), of_second),
    ];
    for (case, stored, context) in table {
        let (record, dot) = minted(stored, context, &mut minter);
        assert_ne!(dot.actor, one.actor, "{case}");
        assert_eq!(dot.counter, 1, "{case}");
        assert_eq!(record.mark.unwrap().actor, dot.actor, "{case}");
    }

    // Two copies of the record, each with the mark of before.
    for incarnation in [2, 3].map(Incarnation) {
        let mut reborn = Minter::new(ME, incarnation);
        let (_, dot) = minted(Some(second.clone()), Context::default(), &mut reborn);
        assert_eq!((dot.actor.incarnation, dot.counter), (incarnation, 1));
    }
}

/// A record with `count` siblings.
fn crowd(count: usize, minter: &mut Minter) -> Option<Record> {
    (0..count).fold(None, |stored, _| Some(minted(stored, Context::default(), minter).0))
}

#[test]
fn a_sibling_limit_refuses_only_what_kills_nothing() {
    let mut minter = minter();
    let stored = crowd(3, &mut minter).unwrap();
    let bytes = stored.siblings.weight_bytes();
    let few = SiblingLimits { siblings_max: 3, ..NO_LIMITS };
    let small = SiblingLimits { siblings_bytes_max: bytes, ..NO_LIMITS };
    let all = Context::of(&stored.siblings);
    let absent = Context::default();
    let table = [
        (few, &absent, Err(WriteRefused::TooManySiblings { found: 3, max: 3 })),
        (small, &absent, Err(WriteRefused::SiblingsTooLarge { found: bytes, max: bytes })),
        (SiblingLimits { siblings_max: 4, ..NO_LIMITS }, &absent, Ok(4)),
        (SiblingLimits { siblings_bytes_max: bytes + 1, ..NO_LIMITS }, &absent, Ok(4)),
        (few, &all, Ok(1)),
        (small, &all, Ok(1)),
    ];
    for (limits, context, expected) in table {
        let before = minter.clone();
        let change = put(context.clone(), limits);
        let result = write(Some(stored.clone()), &change, &[], Survivors::All, &mut minter);
        if result.is_err() {
            assert_eq!(minter, before, "a refused put draws no epoch");
        }
        assert_eq!(result.map(|written| written.record.siblings.live_count()), expected);
    }
    let theirs = Change::Sync(Arc::new(Siblings::clone(&crowd(9, &mut minter).unwrap().siblings)));
    let written = write(Some(stored), &theirs, &[], Survivors::All, &mut minter).unwrap();
    assert_eq!(written.record.siblings.live_count(), 12, "replication is never refused");
}

#[test]
fn blind_puts_to_a_folding_keyspace_neither_pile_up_nor_are_refused() {
    let mut minter = minter();
    let limits = SiblingLimits { siblings_max: 2, siblings_bytes_max: 100 };
    let mut stored = None;
    for _ in 0..10 {
        let change = put(Context::default(), limits);
        let fold = Survivors::LastWrite;
        let written = write(stored, &change, &[], fold, &mut minter).unwrap();
        assert_eq!(written.record.siblings.live_count(), 1);
        stored = Some(written.record);
    }
}

#[test]
fn a_record_changes_only_by_news() {
    let mut minter = minter();
    let (record, _) = minted(None, Context::default(), &mut minter);
    let mut sync = |stored: Option<&Record>, siblings: &Arc<Siblings>, targets: &[NodeId]| {
        let change = Change::Sync(siblings.clone());
        write(stored.cloned(), &change, targets, Survivors::All, &mut minter).unwrap()
    };
    let Written { record: same, is_changed, dot, .. } = sync(Some(&record), &record.siblings, &[]);
    assert_eq!((same, is_changed, dot), (record.clone(), false, None));
    assert!(sync(Some(&record), &record.siblings, &[NodeId(3)]).is_changed);
    let copy = sync(None, &record.siblings, &[]);
    assert!(copy.is_changed);
    assert_eq!(copy.record.mark, None, "a mark is never replicated");
}

#[test]
fn a_clock_at_its_end_is_no_panic() {
    let mut minter = minter();
    let late = Context { timestamp_ms: u64::MAX, ..Context::default() };
    let (record, _) = minted(None, late, &mut minter);
    assert_eq!(record.siblings.latest_ms(), u64::MAX);
    let (record, _) = minted(Some(record), Context::default(), &mut minter);
    assert_eq!(record.siblings.latest_ms(), u64::MAX);
}

#[test]
fn a_hint_settles_once_it_is_delivered_as_it_stands() {
    let (two, three, four) = (NodeId(2), NodeId(3), NodeId(4));
    let hint = |targets: &[NodeId]| Record {
        targets: targets.iter().copied().collect(),
        sequence: 5,
        ..Record::default()
    };
    let table = [
        (hint(&[two]), two, 5, Settled::Done),
        (hint(&[two, three]), two, 5, Settled::Remains(hint(&[three]))),
        (hint(&[two, three]), four, 5, Settled::Stays),
        (hint(&[two]), two, 4, Settled::Stays),
        (hint(&[two]), two, 6, Settled::Stays),
        (hint(&[]), two, 5, Settled::Stays),
    ];
    for (stored, target, sequence, expected) in table {
        assert_eq!(settle(&stored, target, sequence), expected, "{target} at {sequence}");
    }
}
