//! How good a claim is, beside the one of Riak.
//!
//! `oracles/riak_claim_baseline.json` holds what riak_core's claim does when a node joins a ring
//! of so many partitions and nodes, with nval 3: how many primaries move, how many each node owns
//! then, how many windows of three partitions have not three distinct owners.
//!
//! In Riak a partition's replicas are the owners of it and the two partitions that follow, so a
//! *violation* there is a window of three with an owner twice. Our owner lists are explicit, so
//! neighbours do not matter; a violation here is what that rule is for: a partition that has not
//! `min(n, nodes)` distinct owners, or two in one zone where there are zones enough. A *move* is,
//! as there, a partition whose first owner becomes another. All places move too: the table has
//! their number beside the least that any ring with these shares could do with.
//!
//! `cargo test -p stator-core --test claim -- --nocapture` prints the tables.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde::Deserialize;
use stator_core::id::NodeId;
use stator_core::ring::{Ring, Seat, claim, claim_from};

const N: u16 = 3;

#[derive(Deserialize)]
struct Baseline {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    ring: u32,
    nodes: u64,
    violations: usize,
    min_owned: usize,
    max_owned: usize,
    join: Joined,
}

#[derive(Deserialize)]
struct Joined {
    moves: usize,
    ideal: usize,
    violations: usize,
    min_owned: usize,
    max_owned: usize,
}

fn baseline() -> Vec<Row> {
    let text = include_str!("oracles/riak_claim_baseline.json");
    serde_json::from_str::<Baseline>(text).unwrap().rows
}

fn seat(id: u64) -> Seat {
    // Ids as they are: random, so that their order says nothing.
    let id = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    Seat { node: NodeId(id), region: String::new(), zone: String::new(), weight: 1 }
}

fn seats(ids: impl IntoIterator<Item = u64>) -> Vec<Seat> {
    ids.into_iter().map(seat).collect()
}

fn next(ring: &Ring, replicas_max: u16, seats: &[Seat]) -> Ring {
    let next = claim_from(ring, ring.version() + 1, replicas_max, seats, &BTreeMap::new()).unwrap();
    assert!(next.is_sound());
    next
}

/// The least and the most that a node owns: of first places, and of all.
#[derive(Debug, PartialEq)]
struct Balance {
    first: (usize, usize),
    all: (usize, usize),
}

fn owned(ring: &Ring, seats: &[Seat], places: usize) -> BTreeMap<NodeId, usize> {
    let mut owned: BTreeMap<NodeId, usize> = seats.iter().map(|seat| (seat.node, 0)).collect();
    for partition in ring.partition_ids() {
        for node in ring.planned_owners(partition).take(places) {
            *owned.get_mut(&node).expect("owners have a seat") += 1;
        }
    }
    owned
}

fn balance(ring: &Ring, seats: &[Seat]) -> Balance {
    let ends = |places| {
        let owned = owned(ring, seats, places);
        (*owned.values().min().unwrap(), *owned.values().max().unwrap())
    };
    Balance { first: ends(1), all: ends(usize::MAX) }
}

/// Lists with too few nodes, too few regions or one that has more than its part, or too few zones in one.
fn violations(ring: &Ring, seats: &[Seat], replicas_max: u16) -> usize {
    let mut zones: BTreeMap<&str, BTreeMap<&str, BTreeSet<NodeId>>> = BTreeMap::new();
    for seat in seats {
        let here = zones.entry(&seat.region).or_default();
        here.entry(&seat.zone).or_default().insert(seat.node);
    }
    let replicas = usize::from(replicas_max).min(seats.len());
    let size = |region: &BTreeMap<&str, BTreeSet<NodeId>>| -> usize {
        region.values().map(BTreeSet::len).sum()
    };
    let reach = |most: usize| zones.values().map(|region| size(region).min(most)).sum::<usize>();
    let most = (1..=replicas).find(|most| reach(*most) >= replicas).unwrap();
    let is_broken = |list: &&Vec<NodeId>| {
        let nodes: BTreeSet<NodeId> = list.iter().copied().collect();
        let of = |zone: &BTreeSet<NodeId>| nodes.intersection(zone).count();
        let counts = |region: &BTreeMap<&str, BTreeSet<NodeId>>| -> Vec<usize> {
            region.values().map(of).filter(|count| *count > 0).collect()
        };
        let is_uneven = |region: &BTreeMap<&str, BTreeSet<NodeId>>| {
            let counts = counts(region);
            let all: usize = counts.iter().sum();
            all > most || counts.len() < all.min(region.len())
        };
        let used = zones.values().filter(|region| !counts(region).is_empty()).count();
        let first_few = |few: usize| {
            let is_used = |region: &&BTreeMap<&str, BTreeSet<NodeId>>| {
                list.iter().take(few).any(|node| region.values().any(|zone| zone.contains(node)))
            };
            zones.values().filter(is_used).count()
        };
        nodes.len() != replicas
            || (1..replicas).any(|few| first_few(few) < few.min(zones.len()))
            || used < replicas.min(zones.len())
            || zones.values().any(is_uneven)
    };
    ring.planned().iter().filter(is_broken).count()
}

/// First places that become another node's, and all places.
fn moved(before: &Ring, after: &Ring) -> (usize, usize) {
    let (mut first, mut all) = (0, 0);
    for (was, is) in before.planned().iter().zip(&after.planned()) {
        first += usize::from(was.first() != is.first());
        all += is.iter().filter(|node| !was.contains(node)).count();
    }
    (first, all)
}

/// The fewest places that any ring with the shares of `after` moves.
fn ideal(before: &Ring, after: &Ring, seats: &[Seat], places: usize) -> usize {
    let none: Vec<Seat> = Vec::new();
    let all: Vec<Seat> = seats.iter().chain(&none).cloned().collect();
    let mut was: BTreeMap<NodeId, usize> = BTreeMap::new();
    for partition in before.partition_ids() {
        for node in before.planned_owners(partition).take(places) {
            *was.entry(node).or_default() += 1;
        }
    }
    let gains = owned(after, &all, places).into_iter().map(|(node, is)| {
        let was = was.get(&node).copied().unwrap_or_default();
        is.saturating_sub(was)
    });
    gains.sum()
}

#[test]
fn a_join_moves_no_more_than_riaks_and_balances_no_worse() {
    println!(
        "join: Q, nodes | primaries moved: riak ours ideal | owned: riak ours | violations: riak \
         ours | all places moved: ours ideal | all places owned"
    );
    for row in baseline() {
        let before = claim(1, row.ring, N, &seats(0..row.nodes)).unwrap();
        let founded = balance(&before, &seats(0..row.nodes));
        assert_eq!(violations(&before, &seats(0..row.nodes), N), 0);
        assert!(violations(&before, &seats(0..row.nodes), N) <= row.violations);
        assert!(founded.first.0 >= row.min_owned && founded.first.1 <= row.max_owned);

        let joined = seats(0..=row.nodes);
        let after = next(&before, N, &joined);
        let Balance { first, all } = balance(&after, &joined);
        let (firsts, places) = moved(&before, &after);
        let least = ideal(&before, &after, &joined, usize::MAX);
        let found = violations(&after, &joined, N);
        println!(
            "{:5} {:3} -> {:2} | {:3} {:3} {:3} | {:3}-{:3} {:3}-{:3} | {} {} | {:3} {:3} | {:3}-{:3}",
            row.ring,
            row.nodes,
            row.nodes + 1,
            row.join.moves,
            firsts,
            row.join.ideal,
            row.join.min_owned,
            row.join.max_owned,
            first.0,
            first.1,
            row.join.violations,
            found,
            places,
            least,
            all.0,
            all.1,
        );
        let name = format!("Q={} {} nodes", row.ring, row.nodes);
        assert!(firsts <= row.join.moves.min(row.join.ideal + 2), "{name}: {firsts} moves");
        assert!(
            first.0 >= row.join.min_owned && first.1 <= row.join.max_owned,
            "{name}: {first:?}"
        );
        assert!(found <= row.join.violations, "{name}: {found} violations");
        assert_eq!(places, least, "{name}: all places");
        assert!(all.1 - all.0 <= 1, "{name}: {all:?}");
    }
}

#[test]
fn a_leave_moves_the_least_and_balances() {
    println!(
        "leave: Q, nodes | primaries moved: ours ideal | owned | violations | all places moved: \
         ours ideal | all places owned"
    );
    for row in baseline() {
        // Whoever leaves.
        for gone in [0, row.nodes / 2, row.nodes - 1] {
            let all_seats = seats(0..row.nodes);
            let before = claim(1, row.ring, N, &all_seats).unwrap();
            let left: Vec<Seat> =
                all_seats.iter().filter(|s| s.node != seat(gone).node).cloned().collect();
            let after = next(&before, N, &left);
            let Balance { first, all } = balance(&after, &left);
            let (firsts, places) = moved(&before, &after);
            let least = ideal(&before, &after, &left, usize::MAX);
            let least_firsts = owned(&before, &all_seats, 1)[&seat(gone).node];
            let found = violations(&after, &left, N);
            println!(
                "{:5} {:3} -> {:2} | {:3} {:3} | {:3}-{:3} | {} | {:3} {:3} | {:3}-{:3}",
                row.ring,
                row.nodes,
                row.nodes - 1,
                firsts,
                least_firsts,
                first.0,
                first.1,
                found,
                places,
                least,
                all.0,
                all.1,
            );
            let name = format!("Q={} {} nodes without {gone}", row.ring, row.nodes);
            assert!(firsts <= least_firsts + 2, "{name}: {firsts} moves");
            assert!(first.1 - first.0 <= 1 && all.1 - all.0 <= 1, "{name}: {first:?} {all:?}");
            assert_eq!(found, 0, "{name}");
            assert_eq!(places, least, "{name}: all places");
        }
    }
}

#[test]
fn thirty_nodes_of_4096_partitions_are_balanced_as_the_paper_wants() {
    let thirty = seats(0..30);
    let ring = claim(1, 4096, N, &thirty).unwrap();
    for places in [1, usize::MAX] {
        let owned = owned(&ring, &thirty, places);
        let mean = owned.values().sum::<usize>() as f64 / 30.0;
        let efficiency = mean / *owned.values().max().unwrap() as f64;
        println!("30 nodes, Q=4096, n=3: mean/max = {efficiency:.4}");
        assert!(efficiency >= 0.99, "{efficiency}");
    }
    // And after ten joins and five leaves.
    let mut ring = claim(1, 4096, N, &seats(0..25)).unwrap();
    for nodes in 26..=35 {
        ring = next(&ring, N, &seats(0..nodes));
    }
    for gone in 0..5 {
        ring = next(&ring, N, &seats(gone + 1..35));
    }
    let Balance { first, all } = balance(&ring, &seats(5..35));
    println!("30 nodes after ten joins and five leaves: {first:?} {all:?}");
    assert!(first.1 - first.0 <= 1 && all.1 - all.0 <= 1);
}

/// A region and a zone of it.
type Place = (u8, u8);

fn any_place() -> impl Strategy<Value = Place> {
    (prop_oneof![3 => Just(0u8), 2 => 1u8..4], 0u8..4)
}

/// A cluster that changes: who is there with which weight and zone.
#[derive(Debug, Clone)]
enum Change {
    Join { weight: u32, place: Place },
    Leave(prop::sample::Index),
    Weigh(prop::sample::Index, u32),
    Move(prop::sample::Index, Place),
    Replicas(u16),
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (1u32..5, any_place()).prop_map(|(weight, place)| Change::Join { weight, place }),
        2 => any::<prop::sample::Index>().prop_map(Change::Leave),
        1 => (any::<prop::sample::Index>(), 1u32..5).prop_map(|(who, w)| Change::Weigh(who, w)),
        1 => (any::<prop::sample::Index>(), any_place()).prop_map(|(who, p)| Change::Move(who, p)),
        1 => (1u16..6).prop_map(Change::Replicas),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever changes: every list is as long as it can be, on distinct nodes, regions and zones.
    #[test]
    fn no_change_leaves_a_violation(changes in prop::collection::vec(any_change(), 1..12)) {
        let (mut here, mut replicas_max) = (seats(0..3), N);
        let mut ring = claim(1, 64, replicas_max, &here).unwrap();
        for (step, change) in changes.into_iter().enumerate() {
            let at = |(region, zone): Place, seat: Seat| Seat {
                region: format!("r{region}"),
                zone: format!("z{zone}"),
                ..seat
            };
            match change {
                Change::Join { weight, place } => {
                    here.push(Seat { weight, ..at(place, seat(step as u64 + 10)) });
                }
                Change::Leave(who) if here.len() > 1 => drop(here.remove(who.index(here.len()))),
                Change::Leave(_) => {}
                Change::Weigh(who, weight) => {
                    let place = who.index(here.len());
                    here[place].weight = weight;
                }
                Change::Move(who, to) => {
                    let place = who.index(here.len());
                    here[place] = at(to, here[place].clone());
                }
                Change::Replicas(wanted) => replicas_max = wanted,
            }
            ring = next(&ring, replicas_max, &here);
            prop_assert_eq!(violations(&ring, &here, replicas_max), 0);
        }
    }

    /// In one zone every node owns its share by weight within 5 %, but for what it cannot take.
    #[test]
    fn load_follows_weight_after_changes(
        first in prop::collection::vec(1u32..5, 5..9),
        then in prop::collection::vec(1u32..5, 5..9),
    ) {
        let of = |weights: &[u32]| -> Vec<Seat> {
            let weighed = |(i, &weight)| Seat { weight, ..seat(i as u64) };
            weights.iter().enumerate().map(weighed).collect()
        };
        let before = claim(1, 1024, N, &of(&first)).unwrap();
        let after = next(&before, N, &of(&then));
        for (ring, weights) in [(&before, &first), (&after, &then)] {
            let total: u32 = weights.iter().sum();
            let owned = owned(ring, &of(weights), usize::MAX);
            for (seat, weight) in of(weights).iter().zip(weights) {
                let fair = 3.0 * 1024.0 * f64::from(*weight) / f64::from(total);
                // A node that cannot own its share leaves more to the others.
                let is_free = weights.iter().all(|weight| 3 * weight <= total);
                let found = owned[&seat.node] as f64;
                prop_assert!(!is_free || (found - fair).abs() <= 0.05 * fair, "{found} of {fair}");
            }
        }
    }
}

#[test]
fn who_replaces_a_node_takes_exactly_its_places() {
    let before = claim(1, 256, N, &seats(0..6)).unwrap();
    let (gone, comes) = (seat(2).node, seat(9).node);
    let here: Vec<Seat> =
        seats(0..6).into_iter().map(|s| if s.node == gone { seat(9) } else { s }).collect();
    let after = claim_from(&before, 2, N, &here, &[(gone, comes)].into()).unwrap();
    for (was, is) in before.planned().iter().zip(after.planned()) {
        let expected: Vec<NodeId> =
            was.iter().map(|node| if *node == gone { comes } else { *node }).collect();
        assert_eq!(is, expected);
    }
}
