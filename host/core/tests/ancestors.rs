//! What versions hold of their past, and what siblings have in common.

mod history;

use std::collections::BTreeSet;

use history::{History, REPLICAS, Step, draft, steps};
use proptest::prelude::*;
use stator_core::ancestor::{Ancestors, Nearest, VALUE_BYTES_MAX, nearest};
use stator_core::causality::{Context, Siblings, Survivors};
use stator_core::divergence::Ancestor;
use stator_core::id::Dot;
use stator_core::version::Payload;
use stator_core::write::Draft;

/// A node that has seen all owners hold what it holds itself, whether they do or not.
fn credulous(siblings: &Siblings) -> Ancestors {
    let sole = siblings.versions();
    let held_by_all = match &sole[..] {
        [sole] => sole.version.origin.latest_dot(),
        _ => None,
    };
    Ancestors::Kept { held_by_all }
}

/// A node that remembers nothing.
fn forgetful(_: &Siblings) -> Ancestors {
    Ancestors::Kept { held_by_all: None }
}

fn keeping(ancestors: fn(&Siblings) -> Ancestors) -> History {
    History { ancestors, ..History::new(Survivors::All) }
}

/// Puts `value`, with the context of all that the replica holds.
fn edit(history: &mut History, at: usize, value: u8) -> Context {
    let context = Context::of(&history.siblings(at));
    history.put(at, context, draft(Some(value)), 1);
    Context::of(&history.siblings(at))
}

fn everywhere(history: &mut History) {
    for (from, to) in (0..REPLICAS).flat_map(|a| (0..REPLICAS).map(move |b| (a, b))) {
        history.step(&Step::Sync { from, to });
    }
}

/// What a module is told about the siblings that all replicas hold in the end.
fn told(history: &mut History) -> Option<Option<u8>> {
    everywhere(history);
    everywhere(history);
    let all = history.all();
    assert!(all.iter().all(|other| *other == all[0]), "{all:?}");
    assert!(all[0].versions().len() > 1, "{all:?}");
    match nearest(&all[0], 0).told() {
        Ancestor::Unknown => None,
        Ancestor::Absent => Some(None),
        Ancestor::Known(past) => Some(past.value.map(|value| value[0])),
    }
}

/// The writes that the writer of `dot` had seen. A context covers the past of what it covers.
fn past_of(history: &History, dot: Dot) -> BTreeSet<Dot> {
    let place = history.minted.iter().position(|(minted, _)| *minted == dot).expect("minted");
    let seen = &history.seen[place].vector;
    history.minted.iter().map(|(dot, _)| *dot).filter(|dot| seen.contains(dot)).collect()
}

/// What is told of `siblings` is what all that was ever written says.
fn check(history: &History, siblings: &Siblings) -> Result<(), TestCaseError> {
    let live: Vec<Dot> = siblings.live().map(|(dot, _)| dot).collect();
    let pasts: Vec<_> = live.iter().map(|dot| past_of(history, *dot)).collect();
    let pairs = pasts.iter().enumerate().flat_map(|(i, a)| pasts[..i].iter().map(move |b| a & b));
    let common: BTreeSet<Dot> = pairs.flatten().collect();
    match nearest(siblings, 0) {
        Nearest::Unknown => {}
        Nearest::Nothing => prop_assert!(common.is_empty(), "{common:?}"),
        Nearest::Version(past) => {
            prop_assert!(pasts.iter().all(|seen| seen.contains(&past.dot)), "not seen by all");
            let mut reach = past_of(history, past.dot);
            reach.insert(past.dot);
            prop_assert!(common.is_subset(&reach), "{common:?} is more than {reach:?}");
            let (_, written) =
                history.minted.iter().find(|(dot, _)| *dot == past.dot).expect("minted");
            prop_assert_eq!(&written.payload, &past.payload);
            prop_assert_eq!(written.written_at_ms, past.written_at_ms);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Whatever a node believes of the others: it is in the past of all, and nothing that came
    /// after it is in the past of two.
    #[test]
    fn what_is_told_is_the_nearest_common_ancestor(steps in steps(true), is_credulous: bool) {
        let mut history = keeping(if is_credulous { credulous } else { forgetful });
        for step in &steps {
            history.step(step);
            for siblings in history.all() {
                check(&history, &siblings)?;
            }
        }
    }
}

/// What was removed after the ancestor and put back by one of two would be lost.
#[test]
fn an_ancestor_that_is_not_the_nearest_is_not_told() {
    let mut history = keeping(credulous);
    edit(&mut history, 0, 1);
    everywhere(&mut history);
    let removed = edit(&mut history, 0, 2);
    history.ancestors = forgetful;
    history.put(0, removed.clone(), draft(Some(1)), 1);
    history.put(0, removed, draft(Some(3)), 1);
    assert_eq!(told(&mut history), None);
}

#[test]
fn edits_of_one_version_have_it_in_common() {
    let mut history = keeping(credulous);
    edit(&mut history, 0, 1);
    everywhere(&mut history);
    edit(&mut history, 0, 2);
    edit(&mut history, 1, 3);
    assert_eq!(told(&mut history), Some(Some(1)));
}

#[test]
fn a_second_edit_by_the_same_coordinator_has_it_in_common() {
    let mut history = keeping(credulous);
    let first = edit(&mut history, 0, 1);
    history.put(0, first.clone(), draft(Some(2)), 1);
    history.put(0, first, draft(Some(3)), 1);
    assert_eq!(told(&mut history), Some(Some(1)));
}

/// During a partition nobody sees all owners agree, so what was there before is kept along.
#[test]
fn two_sides_that_write_often_have_in_common_what_was_before() {
    let mut history = keeping(credulous);
    edit(&mut history, 0, 1);
    everywhere(&mut history);
    edit(&mut history, 0, 2);
    edit(&mut history, 1, 12);
    history.ancestors = forgetful;
    for value in 3..6 {
        edit(&mut history, 0, value);
        edit(&mut history, 1, 10 + value);
    }
    assert_eq!(told(&mut history), Some(Some(1)));
}

/// The siblings were not resolved, so who goes on with one of them must not go on alone.
#[test]
fn a_successor_of_one_sibling_keeps_what_it_has_in_common_with_the_other() {
    let mut history = keeping(credulous);
    edit(&mut history, 0, 1);
    everywhere(&mut history);
    let mine = edit(&mut history, 0, 2);
    edit(&mut history, 1, 3);
    everywhere(&mut history);
    history.put(0, mine, draft(Some(4)), 1);
    assert_eq!(told(&mut history), Some(Some(1)));
}

#[test]
fn what_resolves_siblings_is_the_ancestor_of_what_follows() {
    let mut history = keeping(credulous);
    edit(&mut history, 0, 1);
    everywhere(&mut history);
    edit(&mut history, 0, 2);
    edit(&mut history, 1, 3);
    everywhere(&mut history);
    edit(&mut history, 0, 4);
    everywhere(&mut history);
    edit(&mut history, 0, 5);
    edit(&mut history, 1, 6);
    assert_eq!(told(&mut history), Some(Some(4)));
}

#[test]
fn what_was_written_without_a_past_has_none_in_common() {
    let mut history = keeping(credulous);
    edit(&mut history, 0, 1);
    edit(&mut history, 1, 2);
    assert_eq!(told(&mut history), Some(None));

    let mut blind = keeping(credulous);
    edit(&mut blind, 0, 1);
    everywhere(&mut blind);
    edit(&mut blind, 0, 2);
    blind.put(1, Context::default(), draft(Some(3)), 1);
    assert_eq!(told(&mut blind), Some(None));

    let mut deleted = keeping(credulous);
    let context = edit(&mut deleted, 0, 1);
    deleted.put(0, context, draft(None), 1);
    everywhere(&mut deleted);
    edit(&mut deleted, 0, 2);
    edit(&mut deleted, 1, 3);
    assert_eq!(told(&mut deleted), Some(None));
}

#[test]
fn what_is_too_long_is_not_kept() {
    for (bytes, is_kept) in [(VALUE_BYTES_MAX, true), (VALUE_BYTES_MAX + 1, false)] {
        let mut history = keeping(credulous);
        let payload = Payload::Value(vec![7; bytes].into());
        let long = Draft { payload, ..draft(None) };
        history.put(0, Context::default(), long, 1);
        everywhere(&mut history);
        edit(&mut history, 0, 2);
        edit(&mut history, 1, 3);
        assert_eq!(told(&mut history), is_kept.then_some(Some(7)));
    }
}

#[test]
fn nothing_is_kept_where_nobody_wants_it() {
    let mut history = History::new(Survivors::All);
    edit(&mut history, 0, 1);
    everywhere(&mut history);
    edit(&mut history, 0, 2);
    edit(&mut history, 1, 3);
    assert_eq!(told(&mut history), None);
    let siblings = history.siblings(0);
    assert!(siblings.live().all(|(_, version)| version.past.is_none()));
}
