//! Who owns what: the owner lists for a set of nodes.
//!
//! For every place of the owner lists in turn (first all first owners, then all second owners)
//! and every partition, the node is taken that owns the least for its weight, among the nodes
//! that are not in the list yet, those of a zone that is not in it first. Every node so gets its
//! share of every place, and load moves evenly to second owners when a first one fails. Ties go
//! to a hash of (partition, node), so that equal nodes do not follow one another around the ring.
//!
//! Zones order the choice, they never exclude: with one zone left, it takes all.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::{PARTITIONS_MAX, Ring};
use crate::id::NodeId;

/// A node that takes part in the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The node.
    pub node: NodeId,
    /// Its failure domain; nodes without a label share the empty one.
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

/// What a node has claimed so far.
struct Claimed<'a> {
    seat: &'a Seat,
    at_this_place: u64,
    in_all: u64,
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
    let mut seats: Vec<&Seat> = seats.iter().collect();
    seats.sort_by_key(|seat| seat.node);
    let mut claimed: Vec<Claimed<'_>> =
        seats.iter().map(|seat| Claimed { seat, at_this_place: 0, in_all: 0 }).collect();
    let mut owners: Vec<Vec<usize>> = vec![Vec::new(); partitions as usize];
    for _place in 0..usize::from(replicas_max).min(seats.len()) {
        claimed.iter_mut().for_each(|c| c.at_this_place = 0);
        for (partition, list) in owners.iter_mut().enumerate() {
            let chosen = choose(partition, list, &claimed);
            claimed[chosen].at_this_place += 1;
            claimed[chosen].in_all += 1;
            list.push(chosen);
        }
    }
    let owners: Vec<Vec<NodeId>> =
        owners.iter().map(|list| list.iter().map(|&i| seats[i].node).collect()).collect();
    Ok(Ring::new(version, replicas_max, &owners, Vec::new()))
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

fn choose(partition: usize, list: &[usize], claimed: &[Claimed<'_>]) -> usize {
    let zone_taken =
        |i: &usize| list.iter().any(|&j| claimed[j].seat.zone == claimed[*i].seat.zone);
    (0..claimed.len())
        .filter(|i| !list.contains(i))
        .min_by(|i, j| {
            let (a, b) = (&claimed[*i], &claimed[*j]);
            zone_taken(i)
                .cmp(&zone_taken(j))
                .then_with(|| by_load(a, b, |c| c.in_all))
                .then_with(|| by_load(a, b, |c| c.at_this_place))
                .then_with(|| tie(partition, a.seat.node).cmp(&tie(partition, b.seat.node)))
        })
        .unwrap_or(0)
}

/// Compares load by weight without fractions: x/wx < y/wy where x*wy < y*wx.
fn by_load(a: &Claimed<'_>, b: &Claimed<'_>, load: impl Fn(&Claimed<'_>) -> u64) -> Ordering {
    let (of_a, of_b) = (u128::from(load(a)), u128::from(load(b)));
    (of_a * u128::from(b.seat.weight)).cmp(&(of_b * u128::from(a.seat.weight)))
}

fn tie(partition: usize, node: NodeId) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("stator claim tie v1");
    hasher.update(&(partition as u64).to_be_bytes()).update(&node.0.to_be_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}
