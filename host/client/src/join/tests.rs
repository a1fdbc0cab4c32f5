//! The client's join beside a coordinator's get, on all states that random histories reach.

#[path = "../../../core/tests/history/mod.rs"]
mod history;

use std::sync::Arc;

use history::{History, Step, steps};
use proptest::prelude::*;
use stator_core::causality::{Context, Siblings, Survivors};
use stator_core::id::{KeyspaceId, NodeId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::request::QuorumKind;
use stator_core::request::get::Get;
use stator_core::ring::{Seat, claim};

use super::*;

fn answer((at, held): (usize, &Siblings), r: usize, now_ms: u64) -> v1::GetReplicaResponse {
    let mut context = Vec::new();
    Context::of(held).encode(&mut context);
    v1::GetReplicaResponse {
        object: Some(held.canonical().to_vec().into()),
        context: Some(context.into()),
        r: r as u32,
        now_ms,
        node_id: at.to_string(),
        ..Default::default()
    }
}

/// What a node answers that coordinates a get and hears this of r owners.
fn coordinated(held: &[Siblings], survivors: Survivors) -> Siblings {
    let seat =
        |id| Seat { node: NodeId(id), region: String::new(), zone: String::new(), weight: 1 };
    let ring = claim(1, 1, 3, &(1..=3).map(seat).collect::<Vec<_>>()).expect("a ring");
    let list = ring.preference_list(PartitionId(0), 3);
    let key = StoreKey { partition: PartitionId(0), keyspace: KeyspaceId(1), key: "k".into() };
    let rules = (QuorumKind::Strict, survivors);
    let mut get = Get::new(Some(1), key, 9, held.len(), rules, &list, |_| Some(0));
    for held in held {
        let (owner, _) = get.next_to_ask(0, 9).expect("an owner");
        get.answered(owner, Some(Arc::new(held.clone())));
    }
    let answer = get.take_answer(1, 1).expect("r have answered").expect("a quorum");
    Siblings::clone(&answer.siblings)
}

fn survivors() -> impl Strategy<Value = Survivors> {
    prop_oneof![Just(Survivors::All), Just(Survivors::LastWrite)]
}

proptest! {
    #[test]
    fn the_clients_answer_is_the_coordinators(
        (steps, survivors) in (steps(true), survivors()),
        // Owners that have met are what a healthy cluster has.
        (is_settled, r, now_ms) in (any::<bool>(), 1usize..4, 0u64..9),
    ) {
        let mut history = History::run(survivors, &steps);
        let met: Vec<Step> = (1..4).map(|from| Step::Sync { from, to: 0 })
            .chain((1..4).map(|to| Step::Sync { from: 0, to })).collect();
        met.iter().filter(|_| is_settled).for_each(|step| history.step(step));
        let held: Vec<Siblings> = (0..r).map(|at| history.siblings(at)).collect();
        let mut join = Join::of(1);
        let is_answer = held.iter().enumerate().all(|at| join.add(answer(at, r, now_ms)).is_some());
        let expected = coordinated(&held, survivors);
        let is_alike = held.iter().all(|held| held.is_same_as(&expected));
        prop_assert_eq!(is_answer, is_alike && expected.versions().len() <= 1);
        if is_answer {
            prop_assert_eq!(join.lacking(), 0, "r is what the owners say");
            let entry = join.entry("k", &Bytes::from_static(b"k"));
            let shown = match view(&expected, now_ms) {
                View::Sole(live) => vec![Version::of(&live)],
                _ => Vec::new(),
            };
            prop_assert_eq!(entry.siblings(), shown);
            let mut context = Vec::new();
            Context::of(&expected).encode(&mut context);
            prop_assert_eq!(entry.context().expect("a context"), &context);
        }
    }
}

#[test]
fn what_has_expired_by_the_latest_clock_is_gone() {
    let draft = stator_core::write::Draft { ttl_ms: Some(10), ..history::draft(Some(7)) };
    let mut history = History::new(Survivors::All);
    history.put(0, Context::default(), draft, 1_000);
    let held = history.siblings(0);
    for (clocks, expected) in [([1_009, 1_000], 1), ([1_000, 1_011], 0), ([1_011, 1_000], 0)] {
        let mut join = Join::of(2);
        for (at, now_ms) in clocks.iter().enumerate() {
            join.add(answer((at, &held), 2, *now_ms)).expect("alike");
        }
        let entry = join.entry("k", &Bytes::from_static(b"k"));
        assert_eq!(entry.siblings().len(), expected, "{clocks:?}");
    }
}

#[test]
fn an_answer_that_is_none_sends_the_client_to_a_coordinator() {
    let whole = answer((0, &Siblings::new()), 1, 0);
    let wrong = [
        v1::GetReplicaResponse { object: None, ..whole.clone() },
        v1::GetReplicaResponse { context: None, ..whole.clone() },
        v1::GetReplicaResponse { object: Some("?".into()), ..whole.clone() },
    ];
    assert!(Join::of(1).add(whole).is_some());
    for answer in wrong {
        assert!(Join::of(1).add(answer).is_none());
    }
}

#[test]
fn a_quorum_is_of_distinct_nodes() {
    let of = |at| answer((at, &Siblings::new()), 2, 0);
    let mut join = Join::of(2);
    assert!(join.add(of(0)).is_some() && join.add(of(1)).is_some());
    let mut join = Join::of(2);
    assert!(join.add(of(0)).is_some() && join.add(of(0)).is_none(), "at two addresses");
}
