//! How many places each node is to own: by weight, with nobody twice in a list.
//!
//! All places of all partitions are poured over the zones by weight, then those of a zone over
//! its nodes. Nobody takes more than it can: a node one place of each partition, a zone as many
//! as may stand in one list. What it cannot take goes to the others. Shares are whole numbers
//! next to the exact ones; who is rounded up is whoever owns more already, which moves least.

use std::collections::BTreeMap;

/// Whole places per node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shares {
    /// Of all places.
    pub all: Vec<usize>,
    /// Of the first places.
    pub first: Vec<usize>,
}

/// An exact number.
#[derive(Debug, Clone, Copy)]
struct Exact {
    num: u128,
    den: u128,
}

impl Exact {
    fn whole(number: usize) -> Self {
        Exact { num: number as u128, den: 1 }
    }

    fn floor(self) -> usize {
        (self.num / self.den) as usize
    }

    /// What is above the floor, for ordering only.
    fn fraction(self) -> f64 {
        (self.num % self.den) as f64 / self.den as f64
    }
}

/// The shares of nodes with these weights and zones, of `partitions` lists of `replicas` owners
/// with at most `zone_max` of one zone, when they own these many places and first places now.
pub(super) fn shares(
    (partitions, replicas, zone_max): (usize, usize, usize),
    (weights, zones): (&[u32], &[usize]),
    (held, first): (&[usize], &[usize]),
) -> Shares {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    zones.iter().enumerate().for_each(|(node, zone)| members.entry(*zone).or_default().push(node));
    let of = |nodes: &Vec<usize>| {
        let weight: u64 = nodes.iter().map(|&node| u64::from(weights[node])).sum();
        (weight, nodes.len().min(zone_max) * partitions)
    };
    let by_zone = pour(partitions * replicas, &members.values().map(of).collect::<Vec<_>>());
    let held_by = |nodes: &Vec<usize>| nodes.iter().map(|&node| held[node]).sum();
    let by_zone = round(&by_zone, &members.values().map(held_by).collect::<Vec<_>>());
    let mut all = vec![0; weights.len()];
    let mut exact = vec![Exact::whole(0); weights.len()];
    for (nodes, total) in members.values().zip(by_zone) {
        let takes: Vec<(u64, usize)> =
            nodes.iter().map(|&node| (u64::from(weights[node]), partitions)).collect();
        let poured = pour(total, &takes);
        let held: Vec<usize> = nodes.iter().map(|&node| held[node]).collect();
        for ((&node, exactly), whole) in nodes.iter().zip(&poured).zip(round(&poured, &held)) {
            all[node] = whole;
            exact[node] = Exact { num: exactly.num, den: exactly.den * replicas.max(1) as u128 };
        }
    }
    Shares { all, first: round(&exact, first) }
}

/// Pours a total over takers of a weight and a limit.
fn pour(total: usize, takers: &[(u64, usize)]) -> Vec<Exact> {
    let mut full: Vec<bool> = vec![false; takers.len()];
    loop {
        let taken: usize = takers.iter().zip(&full).filter(|(_, f)| **f).map(|(t, _)| t.1).sum();
        let left = total.saturating_sub(taken) as u128;
        let weight: u128 =
            takers.iter().zip(&full).filter(|(_, f)| !**f).map(|(t, _)| u128::from(t.0)).sum();
        let share = |(weight_of, _): &(u64, usize)| Exact {
            num: left * u128::from(*weight_of),
            den: weight.max(1),
        };
        let is_over = |taker: &(u64, usize)| {
            let share = share(taker);
            share.num > taker.1 as u128 * share.den
        };
        let mut has_changed = false;
        for (taker, full) in takers.iter().zip(&mut full) {
            if !*full && is_over(taker) {
                (*full, has_changed) = (true, true);
            }
        }
        if !has_changed {
            let of = |(taker, full): (&(u64, usize), &bool)| match full {
                true => Exact::whole(taker.1),
                false => share(taker),
            };
            return takers.iter().zip(&full).map(of).collect();
        }
    }
}

/// Whole numbers with the same sum: who holds more than its floor is rounded up first.
fn round(exact: &[Exact], held: &[usize]) -> Vec<usize> {
    let mut whole: Vec<usize> = exact.iter().map(|share| share.floor()).collect();
    let sum: f64 = exact.iter().map(|share| share.fraction()).sum();
    let mut order: Vec<usize> =
        (0..exact.len()).filter(|&i| exact[i].num % exact[i].den > 0).collect();
    order.sort_by(|&a, &b| {
        let is_above = |i: usize| held[i] > whole[i];
        is_above(b)
            .cmp(&is_above(a))
            .then(exact[b].fraction().total_cmp(&exact[a].fraction()))
            .then(a.cmp(&b))
    });
    for &up in order.iter().take(sum.round() as usize) {
        whole[up] += 1;
    }
    whole
}
