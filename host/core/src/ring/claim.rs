//! Who owns what: the owner lists for a set of nodes, with as little movement as can be.
//!
//! A claim starts from the owner lists that are there (of a new cluster: none) and ends with
//! lists in which every node owns its share ([`shares`](super::share)) of all places and of the
//! first ones. On the way it moves what must be moved:
//!
//! 1. Who has no seat any more, or stands too near the others of its list, leaves a hole; lists are
//!    cut or get holes until they have the wanted length.
//! 2. Holes are filled, each by the node that has the least of its share.
//! 3. Who owns too much hands places to those that own too little, straight where a list allows
//!    it, else along the shortest chain of nodes.
//! 4. The order within lists is changed until first places are shared too, and so that the first few
//!    owners of each are spread. That moves no data.
//!
//! Which of the partitions that would do are taken is decided by a hash of (partition, node), so
//! that a node's partitions, and their other owners, are spread over the ring.
//!
//! Who is too near is for [`super::spread`] to say: regions and zones.
//!
//! Left out: how often a node is the second owner, and which nodes stand together how often.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::share::{Shares, shares};
use super::spread::Spread;
use super::{PARTITIONS_MAX, Ring};
use crate::id::NodeId;

/// A node that takes part in the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The node.
    pub node: NodeId,
    /// The largest part of the cluster that may fail with it; nodes without a label share the empty one.
    pub region: String,
    /// The part of its region that may; nodes without a label share the empty one.
    pub zone: String,
    /// Its capacity beside the others'; at least 1.
    pub weight: u32,
}

/// A ring that cannot be made. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Q is no power of two up to [`PARTITIONS_MAX`].
    #[error("{0} partitions: a power of two from 1 to {PARTITIONS_MAX} is needed")]
    Partitions(u32),
    /// There is nobody to own anything.
    #[error("a ring needs at least one node")]
    NoNodes,
    /// A node stands twice, or has no weight.
    #[error("node {0} stands twice or has a weight of 0")]
    BadSeat(NodeId),
    /// More nodes than a place number can tell apart.
    #[error("{0} nodes: at most 65,535 are possible")]
    TooManyNodes(usize),
}

/// The ring of `version` with `partitions` partitions, each owned by `replicas_max` of `seats` (by
/// all of them if they are fewer).
pub fn claim(
    version: u64,
    partitions: u32,
    replicas_max: u16,
    seats: &[Seat],
) -> Result<Ring, ClaimError> {
    check(partitions, seats)?;
    let none = vec![Vec::new(); partitions as usize];
    Ok(Table::new(&none, seats, usize::from(replicas_max)).into_ring(version, replicas_max))
}

/// The ring of `version` for these seats that is reached from what `ring` plans with the least
/// movement. Who is a key of `replaced` gives its places to that node.
///
/// The new ring has no moves: [`Ring::towards`] tells what leads to it.
pub fn claim_from(
    ring: &Ring,
    version: u64,
    replicas_max: u16,
    seats: &[Seat],
    replaced: &BTreeMap<NodeId, NodeId>,
) -> Result<Ring, ClaimError> {
    check(ring.partitions(), seats)?;
    let mut lists = ring.planned();
    for node in lists.iter_mut().flatten() {
        *node = *replaced.get(node).unwrap_or(node);
    }
    Ok(Table::new(&lists, seats, usize::from(replicas_max)).into_ring(version, replicas_max))
}

fn check(partitions: u32, seats: &[Seat]) -> Result<(), ClaimError> {
    if !partitions.is_power_of_two() || partitions > PARTITIONS_MAX {
        return Err(ClaimError::Partitions(partitions));
    }
    if seats.is_empty() {
        return Err(ClaimError::NoNodes);
    }
    if seats.len() > usize::from(u16::MAX) {
        return Err(ClaimError::TooManyNodes(seats.len()));
    }
    let mut nodes = BTreeSet::new();
    match seats.iter().find(|seat| seat.weight == 0 || !nodes.insert(seat.node)) {
        Some(seat) => Err(ClaimError::BadSeat(seat.node)),
        None => Ok(()),
    }
}

/// The owner lists while they are being made. Nodes are their places among the sorted seats.
struct Table {
    nodes: Vec<NodeId>,
    spread: Spread,
    /// How many owners a partition is to have.
    replicas: usize,
    /// What was there.
    before: Vec<Vec<usize>>,
    /// What is there; `None` is a hole.
    lists: Vec<Vec<Option<usize>>>,
    /// Per node its partitions.
    owned: Vec<BTreeSet<usize>>,
    /// Per node how many partitions it is the first owner of.
    first: Vec<usize>,
    shares: Shares,
}

impl Table {
    fn new(before: &[Vec<NodeId>], seats: &[Seat], replicas_max: usize) -> Self {
        let mut seats: Vec<&Seat> = seats.iter().collect();
        seats.sort_by_key(|seat| seat.node);
        let nodes: Vec<NodeId> = seats.iter().map(|seat| seat.node).collect();
        let replicas = replicas_max.min(nodes.len());
        let place = |node: &NodeId| nodes.binary_search(node).ok();
        let known = |list: &Vec<NodeId>| list.iter().filter_map(place).collect();
        let mut table = Table {
            lists: before.iter().map(|list| list.iter().map(place).collect()).collect(),
            before: before.iter().map(known).collect(),
            owned: vec![BTreeSet::new(); nodes.len()],
            first: vec![0; nodes.len()],
            shares: Shares::default(),
            nodes,
            spread: Spread::new(&seats, replicas),
            replicas,
        };
        table.note();
        let weights: Vec<u32> = seats.iter().map(|seat| seat.weight).collect();
        table.shares = shares(
            (before.len(), replicas),
            (&weights, &table.spread),
            (&table.held(), &table.first),
        );
        table.cut();
        table.fill();
        table.balance();
        table.order();
        table
    }

    fn into_ring(self, version: u64, replicas_max: u16) -> Ring {
        let in_turn = |list: Vec<Option<usize>>| {
            let list = self.spread.in_turn(list.into_iter().flatten().collect());
            list.into_iter().map(|node| self.nodes[node]).collect()
        };
        let owners: Vec<Vec<NodeId>> = self.lists.into_iter().map(in_turn).collect();
        Ring::new(version, replicas_max, &owners, Vec::new()).with_seats(self.nodes.clone())
    }

    /// Makes holes of what cannot stay, and notes who owns what.
    fn note(&mut self) {
        for partition in 0..self.lists.len() {
            let holes = vec![None; self.lists[partition].len()];
            let list = std::mem::replace(&mut self.lists[partition], holes);
            for (place, node) in list.into_iter().enumerate() {
                if let Some(node) = node.filter(|&node| self.fits(partition, node, None)) {
                    self.put(partition, place, node);
                }
            }
        }
    }

    fn held(&self) -> Vec<usize> {
        self.owned.iter().map(BTreeSet::len).collect()
    }

    /// How much more than its share a node owns.
    fn surplus(&self, node: usize) -> isize {
        self.owned[node].len() as isize - self.shares.all[node] as isize
    }

    /// How much more than its share of first places a node owns.
    fn surplus_first(&self, node: usize) -> isize {
        self.first[node] as isize - self.shares.first[node] as isize
    }

    /// Whether `node` can be an owner of `partition`, in the place of `gone`.
    fn fits(&self, partition: usize, node: usize, gone: Option<usize>) -> bool {
        let list = self.lists[partition].iter().flatten().copied();
        let mut others = list.filter(|&other| Some(other) != gone);
        let holes = self.replicas.saturating_sub(others.clone().count() + 1);
        self.spread.admits(others.clone(), node, holes) && others.all(|other| other != node)
    }

    /// Puts a node into a place, whoever was there.
    fn put(&mut self, partition: usize, place: usize, node: usize) {
        if let Some(gone) = self.lists[partition][place].replace(node) {
            self.owned[gone].remove(&partition);
            self.first[gone] -= usize::from(place == 0);
        }
        self.owned[node].insert(partition);
        self.first[node] += usize::from(place == 0);
    }

    fn swap_first(&mut self, partition: usize, place: usize) {
        if let (Some(first), Some(other)) = (self.lists[partition][0], self.lists[partition][place])
        {
            self.first[first] -= 1;
            self.first[other] += 1;
            self.lists[partition].swap(0, place);
        }
    }

    /// Gives every list the wanted length: holes go first, then those with the largest surplus.
    fn cut(&mut self) {
        for partition in 0..self.lists.len() {
            while self.lists[partition].len() > self.replicas {
                let list = &self.lists[partition];
                let worth = |&place: &usize| match list[place] {
                    None => (1, 0, 0),
                    Some(node) => (0, self.surplus(node), place),
                };
                let Some(place) = (0..list.len()).max_by_key(worth) else { break };
                let gone = self.lists[partition].remove(place);
                if let Some(gone) = gone {
                    self.owned[gone].remove(&partition);
                }
                if place == 0 {
                    // Who was second is first now.
                    let next = self.lists[partition].first().copied().flatten();
                    gone.into_iter().for_each(|node| self.first[node] -= 1);
                    next.into_iter().for_each(|node| self.first[node] += 1);
                }
            }
            self.lists[partition].resize(self.replicas, None);
        }
    }

    /// Fills the holes, first places before others.
    fn fill(&mut self) {
        let length = self.lists.first().map_or(0, Vec::len);
        for place in 0..length {
            let mut partitions: Vec<usize> =
                (0..self.lists.len()).filter(|&p| self.lists[p][place].is_none()).collect();
            partitions.sort_by_cached_key(|&partition| tie(partition, NodeId(place as u64)));
            for partition in partitions {
                if let Some(node) = self.least(partition, place) {
                    self.put(partition, place, node);
                }
            }
        }
    }

    /// The node with the least of its share, of those that fit into a hole.
    fn least(&self, partition: usize, place: usize) -> Option<usize> {
        // x of a beside y of b without fractions.
        let part = |held: usize, share: usize, a: usize, b: usize| {
            (held as u64 * b.max(1) as u64).cmp(&(share as u64 * a.max(1) as u64))
        };
        let (all, first) = (&self.shares.all, &self.shares.first);
        let is_full = |n: usize| self.surplus(n) >= 0;
        (0..self.nodes.len()).filter(|&node| self.fits(partition, node, None)).min_by(|&a, &b| {
            let by_first = match place {
                0 => part(self.first[a], self.first[b], first[a], first[b]),
                _ => std::cmp::Ordering::Equal,
            };
            is_full(a)
                .cmp(&is_full(b))
                .then(by_first)
                .then_with(|| part(self.owned[a].len(), self.owned[b].len(), all[a], all[b]))
                .then_with(|| tie(partition, self.nodes[a]).cmp(&tie(partition, self.nodes[b])))
        })
    }

    /// Hands places from those that own too much to those that own too little.
    fn balance(&mut self) {
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                let count = self.surplus(from).min(-self.surplus(to));
                if count > 0 {
                    self.hand(from, to, count as usize);
                }
            }
        }
        // Every chain takes one place off the sum.
        for _ in 0..self.lists.len() * self.nodes.len() {
            let Some(path) = self.path() else { return };
            for hop in path.windows(2).rev() {
                self.hand(hop[0], hop[1], 1);
            }
        }
    }

    /// The places that `from` could hand to `to`, cheapest first: those that it has only just
    /// got, then by a hash.
    fn offers(&self, from: usize, to: usize) -> Vec<(usize, usize)> {
        let mut offers: Vec<(usize, usize)> = self.owned[from]
            .iter()
            .filter(|&&partition| self.fits(partition, to, Some(from)))
            .filter_map(|&partition| {
                let place = self.lists[partition].iter().position(|n| *n == Some(from))?;
                Some((partition, place))
            })
            .collect();
        offers.sort_by_cached_key(|&(partition, _)| {
            let is_moved = !self.before[partition].contains(&from);
            let is_return = self.before[partition].contains(&to);
            (!is_return, !is_moved, tie(partition, self.nodes[to]))
        });
        offers
    }

    /// Hands over as many places, first ones as far as both want that.
    fn hand(&mut self, from: usize, to: usize, count: usize) {
        let offers = self.offers(from, to);
        let wanted = self.surplus_first(from).min(-self.surplus_first(to)).max(0) as usize;
        let is_first = |offer: &&(usize, usize)| offer.1 == 0;
        let firsts = offers.iter().filter(is_first).take(wanted.min(count));
        let others = offers.iter().filter(|offer| !is_first(offer));
        let rest = offers.iter().filter(is_first).skip(wanted.min(count));
        let chosen: Vec<(usize, usize)> =
            firsts.chain(others).chain(rest).take(count).copied().collect();
        chosen.into_iter().for_each(|(partition, place)| self.put(partition, place, to));
    }

    /// The shortest chain from a node that owns too much to one that owns too little.
    fn path(&self) -> Option<Vec<usize>> {
        let mut from: BTreeMap<usize, usize> = BTreeMap::new();
        let mut queue: VecDeque<usize> =
            (0..self.nodes.len()).filter(|&node| self.surplus(node) > 0).collect();
        from.extend(queue.iter().map(|&node| (node, node)));
        while let Some(node) = queue.pop_front() {
            for next in 0..self.nodes.len() {
                let is_open = |&p: &usize| self.fits(p, next, Some(node));
                if from.contains_key(&next) || !self.owned[node].iter().any(is_open) {
                    continue;
                }
                from.insert(next, node);
                if self.surplus(next) < 0 {
                    return Some(trace(&from, next));
                }
                queue.push_back(next);
            }
        }
        None
    }

    /// Shares the first places by changing the order within lists.
    fn order(&mut self) {
        for _ in 0..self.lists.len() {
            let Some(path) = self.path_of_firsts() else { return };
            for hop in path.windows(2).rev() {
                if let Some((partition, place)) = self.exchange(hop[0], hop[1]) {
                    self.swap_first(partition, place);
                }
            }
        }
    }

    /// A list in which `from` is first and `to` stands elsewhere; one whose first owner is new
    /// anyhow if there is one.
    fn exchange(&self, from: usize, to: usize) -> Option<(usize, usize)> {
        let offers = self.owned[from].intersection(&self.owned[to]);
        let offers = offers.filter(|&&partition| self.lists[partition][0] == Some(from));
        let partition = *offers.min_by_key(|&&partition| {
            let was_first = self.before[partition].first().copied();
            (was_first == Some(from), was_first != Some(to), tie(partition, self.nodes[to]))
        })?;
        let place = self.lists[partition].iter().position(|n| *n == Some(to))?;
        Some((partition, place))
    }

    /// The cheapest chain from a node that is first too often to one that is too seldom. A list
    /// whose first owner is new anyhow costs nothing, every other one a step.
    fn path_of_firsts(&self) -> Option<Vec<usize>> {
        let mut from: BTreeMap<usize, usize> = BTreeMap::new();
        let mut queue: VecDeque<(usize, usize)> = (0..self.nodes.len())
            .filter(|&node| self.surplus_first(node) > 0)
            .map(|node| (node, node))
            .collect();
        while let Some((node, before)) = queue.pop_front() {
            if from.contains_key(&node) {
                continue;
            }
            from.insert(node, before);
            if self.surplus_first(node) < 0 {
                return Some(trace(&from, node));
            }
            for next in (0..self.nodes.len()).filter(|next| !from.contains_key(next)) {
                match self.exchange(node, next) {
                    Some((partition, _))
                        if self.before[partition].first().copied() != Some(node) =>
                    {
                        queue.push_front((next, node));
                    }
                    Some(_) => queue.push_back((next, node)),
                    None => {}
                }
            }
        }
        None
    }
}

/// The chain that ends with `last`.
fn trace(from: &BTreeMap<usize, usize>, last: usize) -> Vec<usize> {
    let mut path = vec![last];
    let mut node = last;
    while let Some(&before) = from.get(&node).filter(|before| **before != node) {
        path.push(before);
        node = before;
    }
    path.reverse();
    path
}

fn tie(partition: usize, node: NodeId) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("stator claim tie v1");
    hasher.update(&(partition as u64).to_be_bytes()).update(&node.0.to_be_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}
