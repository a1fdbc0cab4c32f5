//! How many places each node is to own: by weight, with nobody twice in a list.
//!
//! All places of all partitions are poured over the regions by weight, then those of a region over
//! its zones, then those of a zone over its nodes. Nobody takes more than it can: a node one place of each
//! partition, a region or a zone as many as may stand in one list, and at least one where every list needs
//! all of them. Shares are whole numbers next to the exact ones; who is rounded up is whoever owns more
//! already, which moves least.

use super::spread::{Region, Spread};

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

/// The shares of nodes with these weights, of `partitions` lists of `replicas` owners, when they own these
/// many places and first places now.
pub(super) fn shares(
    (partitions, replicas): (usize, usize),
    (weights, spread): (&[u32], &Spread),
    (held, first): (&[usize], &[usize]),
) -> Shares {
    let pouring = Pouring { partitions, weights, held };
    let regions: Vec<Vec<usize>> =
        spread.regions().iter().map(|region| region.nodes().collect()).collect();
    let by_region = pouring.among(&regions, spread.each_max(), partitions * replicas);
    let mut all = vec![0; weights.len()];
    let mut exact = vec![Exact::whole(0); weights.len()];
    for (Region { zones, each_max }, total) in spread.regions().iter().zip(by_region) {
        let by_zone = pouring.among(zones, *each_max, total);
        for (nodes, total) in zones.iter().zip(by_zone) {
            for (node, exactly, whole) in pouring.over(nodes, total) {
                all[node] = whole;
                let den = exactly.den * replicas.max(1) as u128;
                exact[node] = Exact { num: exactly.num, den };
            }
        }
    }
    Shares { all, first: round(&exact, first) }
}

/// What is poured, and over whom.
struct Pouring<'a> {
    partitions: usize,
    weights: &'a [u32],
    held: &'a [usize],
}

impl Pouring<'_> {
    /// So many places among groups of which a list has `each_max` at most.
    fn among(&self, groups: &[Vec<usize>], each_max: usize, total: usize) -> Vec<usize> {
        let is_in_all = groups.len() * self.partitions <= total;
        let of = |nodes: &Vec<usize>| Taker {
            weight: nodes.iter().map(|&node| u64::from(self.weights[node])).sum(),
            least: usize::from(is_in_all) * self.partitions,
            most: nodes.len().min(each_max) * self.partitions,
        };
        let held = |nodes: &Vec<usize>| nodes.iter().map(|&node| self.held[node]).sum();
        let poured = pour(total, &groups.iter().map(of).collect::<Vec<_>>());
        round(&poured, &groups.iter().map(held).collect::<Vec<_>>())
    }

    /// So many places over nodes: of each what it is to own exactly, and in whole places.
    fn over(&self, nodes: &[usize], total: usize) -> Vec<(usize, Exact, usize)> {
        let taker = |&node: &usize| {
            let weight = self.weights[node].into();
            Taker { weight, least: 0, most: self.partitions }
        };
        let poured = pour(total, &nodes.iter().map(taker).collect::<Vec<_>>());
        let held: Vec<usize> = nodes.iter().map(|&node| self.held[node]).collect();
        let whole = round(&poured, &held);
        let each = nodes.iter().copied().zip(poured).zip(whole);
        each.map(|((node, exactly), whole)| (node, exactly, whole)).collect()
    }
}

/// Who takes a part of a total, by weight.
#[derive(Debug, Clone, Copy)]
struct Taker {
    weight: u64,
    least: usize,
    most: usize,
}

/// Pours a total over takers. Who would get more than it can take, or less than it must, gets
/// just that, and the others share the rest: in each round those of the two kinds that are off by
/// more in all.
fn pour(total: usize, takers: &[Taker]) -> Vec<Exact> {
    let mut fixed: Vec<Option<usize>> = vec![None; takers.len()];
    loop {
        let taken: usize = fixed.iter().flatten().sum();
        let left = total.saturating_sub(taken) as u128;
        let free = takers.iter().zip(&fixed).filter(|(_, fixed)| fixed.is_none());
        let weight: u128 = free.map(|(taker, _)| u128::from(taker.weight)).sum();
        let den = weight.max(1);
        let share = |taker: &Taker| Exact { num: left * u128::from(taker.weight), den };
        let over = |taker: &Taker| share(taker).num.saturating_sub(taker.most as u128 * den);
        let under = |taker: &Taker| (taker.least as u128 * den).saturating_sub(share(taker).num);
        let free = || (0..takers.len()).filter(|&i| fixed[i].is_none());
        let all_over: u128 = free().map(|i| over(&takers[i])).sum();
        let all_under: u128 = free().map(|i| under(&takers[i])).sum();
        if all_over == 0 && all_under == 0 {
            let of = |(taker, fixed): (&Taker, &Option<usize>)| {
                fixed.map_or_else(|| share(taker), Exact::whole)
            };
            return takers.iter().zip(&fixed).map(of).collect();
        }
        let newly: Vec<(usize, usize)> = match all_over >= all_under {
            true => free().filter(|&i| over(&takers[i]) > 0).map(|i| (i, takers[i].most)).collect(),
            false => {
                free().filter(|&i| under(&takers[i]) > 0).map(|i| (i, takers[i].least)).collect()
            }
        };
        newly.into_iter().for_each(|(i, whole)| fixed[i] = Some(whole));
    }
}

/// Whole numbers with the same sum: who holds more than its floor is rounded up first.
fn round(exact: &[Exact], held: &[usize]) -> Vec<usize> {
    let mut whole: Vec<usize> = exact.iter().map(|share| share.floor()).collect();
    let sum: f64 = exact.iter().map(|share| share.fraction()).sum();
    let mut order: Vec<usize> =
        (0..exact.len()).filter(|&i| !exact[i].num.is_multiple_of(exact[i].den)).collect();
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
