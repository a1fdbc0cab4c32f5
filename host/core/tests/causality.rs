//! The laws of sibling sets, on all states that random histories reach.

mod history;

use std::collections::BTreeMap;
use std::sync::Arc;

use history::{History, REPLICAS, Step, bytes, joined, steps};
use proptest::prelude::*;
use stator_core::causality::{Context, Siblings, Survivors, VersionVector};
use stator_core::id::{Actor, Dot, Incarnation, NodeId};
use stator_core::version::{Origin, Payload, Version};

fn folds() -> impl Strategy<Value = Survivors> {
    prop_oneof![Just(Survivors::All), Just(Survivors::LastWrite)]
}

proptest! {
    #[test]
    fn sync_is_a_join(steps in steps(false), fold in folds()) {
        let all = History::run(fold, &steps).all();
        for a in &all {
            prop_assert_eq!(&joined(a, a, fold), a);
            for b in &all {
                let ab = joined(a, b, fold);
                prop_assert_eq!(bytes(&ab), bytes(&joined(b, a, fold)));
                prop_assert_eq!(&joined(&ab, b, fold), &ab);
                prop_assert!(ab.covers(&ab));
                for c in &all {
                    let left = joined(&ab, c, fold);
                    let right = joined(a, &joined(b, c, fold), fold);
                    prop_assert_eq!(bytes(&left), bytes(&right));
                }
            }
        }
    }

    #[test]
    fn the_last_write_wins_everywhere(
        steps in steps(false), order in Just((0..REPLICAS).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let fold = Survivors::LastWrite;
        let history = History::run(fold, &steps);
        let all = history.all();
        let end = order.iter().fold(Siblings::new(), |end, &at| joined(&end, &all[at], fold));
        let last = history.minted.iter().max_by_key(|(dot, v)| (v.written_at_ms, *dot));
        let held: Vec<_> = end.versions().into_iter().map(|live| live.version).collect();
        prop_assert_eq!(held, last.map(|(_, v)| v.clone()).into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn without_losses_no_live_write_is_lost(steps in steps(false)) {
        // A model that knows only sets: a write is dead once a put has covered it.
        let mut history = History::new(Survivors::All);
        let mut killed = std::collections::BTreeSet::new();
        for step in &steps {
            let before = history.minted.len();
            let context = match step {
                Step::Put { context: Some(i), .. } if !history.contexts.is_empty() => {
                    history.contexts[i % history.contexts.len()].clone()
                }
                _ => Context::default(),
            };
            history.step(step);
            if history.minted.len() > before {
                let earlier = history.minted[..before].iter().map(|(dot, _)| *dot);
                killed.extend(earlier.filter(|dot| context.vector.contains(dot)));
            }
        }
        let mut end = Siblings::new();
        history.all().iter().for_each(|siblings| end.sync(siblings));
        let live: Vec<Dot> = end.live().map(|(dot, _)| dot).collect();
        let mut expected: Vec<Dot> = history.minted.iter().map(|(dot, _)| *dot).collect();
        expected.retain(|dot| !killed.contains(dot));
        expected.sort();
        prop_assert_eq!(live, expected);
    }

    #[test]
    fn a_put_kills_exactly_what_its_context_covers(
        steps in steps(false), read in 0..REPLICAS, at in 0..REPLICAS,
    ) {
        let mut history = History::run(Survivors::All, &steps);
        let context = Context::of(&history.siblings(read)).vector;
        let before = history.siblings(at);
        history.contexts = vec![Context { vector: context.clone(), timestamp_ms: 0 }];
        history.step(&Step::Put { at, context: Some(0), value: Some(1), now_ms: 1 });
        let after = history.siblings(at);
        let (dot, _) = history.minted.last().unwrap();
        let mut expected: Vec<Dot> = before.live().map(|(live, _)| live).collect();
        expected.retain(|live| !context.contains(live));
        expected.push(*dot);
        expected.sort();
        prop_assert_eq!(after.live().map(|(live, _)| live).collect::<Vec<_>>(), expected);
        prop_assert!(after.vector().covers(&context) && after.vector().covers(before.vector()));
    }
}

fn dot(node: u64) -> Dot {
    let actor = Actor { node: NodeId(node), incarnation: Incarnation(1), epoch: 0 };
    Dot { actor, counter: 1 }
}

fn written(dot: Dot, written_at_ms: u64, value: &'static str) -> Siblings {
    let version = Version {
        past: None,
        payload: Payload::Value(value.into()),
        written_at_ms,
        expires_at_ms: None,
        schema: 0,
        origin: Origin::Client(dot),
        base: Vec::new(),
        labels: BTreeMap::new(),
        request: None,
        unknown: Vec::new(),
    };
    let mut siblings = Siblings::new();
    siblings.put(&VersionVector::new(), dot, Arc::new(version));
    siblings
}

/// Equal timestamps are decided by the dots that the writes were minted under. A write that won
/// against an older one of a larger dot has not become any larger.
#[test]
fn a_tie_is_decided_by_the_dots_of_the_writes_themselves() {
    let fold = Survivors::LastWrite;
    for (two, three) in [("x", "y"), ("y", "x")] {
        let (w2, w3) = (written(dot(2), 5, two), written(dot(3), 5, three));
        let old = written(dot(9), 1, "old");
        let left = joined(&joined(&w2, &old, fold), &w3, fold);
        let right = joined(&joined(&w2, &w3, fold), &old, fold);
        assert_eq!(bytes(&left), bytes(&right));
        let [live] = &left.versions()[..] else { panic!("one version is expected") };
        assert_eq!(live.version.origin, Origin::Client(dot(3)));
        assert_eq!(live.dots, [dot(2), dot(3), dot(9)]);
    }
}

#[test]
fn a_context_of_one_folded_dot_kills_only_that_one() {
    let fold = Survivors::LastWrite;
    let (w2, w3) = (written(dot(2), 5, "two"), written(dot(3), 6, "three"));
    let mut folded = joined(&w2, &w3, fold);
    let seen: VersionVector = [dot(2)].into_iter().collect();
    let killer = written(dot(4), 7, "four");
    let version = killer.last_write().unwrap().clone();
    folded.put(&seen, dot(4), version);
    assert_eq!(folded.live().map(|(dot, _)| dot).collect::<Vec<_>>(), [dot(3), dot(4)]);
}
