//! What staged changes would do: the next ring, and figures for people.
//!
//! A plan is a pure function of the catalogue and the changes, so every node that knows the same
//! makes the same plan, and a commit makes what was shown.

use std::collections::{BTreeMap, BTreeSet};

use super::{ClaimError, Ring, claim_from};
use crate::catalogue::{
    Catalogue, Committed, Decision, Keyspace, Removed, RingChange, StageError, check_change,
    seats_after,
};
use crate::id::{NodeId, PartitionId};

/// Why there is no plan. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing is staged.
    #[error("no change of the ring is staged")]
    NothingStaged,
    /// A staged change does not fit any more.
    #[error("a staged change does not fit any more: {0}; `stator cluster cancel` drops all")]
    Stale(#[from] StageError),
    /// No ring can be made of it.
    #[error(transparent)]
    Claim(#[from] ClaimError),
}

/// What a node has before and after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeShare {
    /// Places in owner lists now.
    pub slots_before: u32,
    /// Places in owner lists then.
    pub slots_after: u32,
    /// First places now.
    pub firsts_before: u32,
    /// First places then.
    pub firsts_after: u32,
    /// Places that it takes over.
    pub slots_gained: u32,
    /// Places that it gives up.
    pub slots_lost: u32,
}

/// What a commit would make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The changes, in the order in which they were staged.
    pub changes: Vec<RingChange>,
    /// The next ring, with its moves.
    pub ring: Ring,
    /// The nodes that go at once.
    pub removed: BTreeSet<NodeId>,
    /// Every node of the ring before or after.
    pub nodes: BTreeMap<NodeId, NodeShare>,
    /// Partitions whose first owner becomes another.
    pub firsts_moved: u32,
    /// The fewest ownerships that any ring for these nodes with these shares would have to move.
    pub slots_ideal: u32,
    /// Partitions with two owners of one zone, before and after.
    pub zones_shared: (u32, u32),
    /// Partitions with all owners in one region, of a cluster of several, before and after.
    pub in_one_region: (u32, u32),
}

/// The plan for what is staged.
pub fn plan(catalogue: &Catalogue) -> Result<Plan, PlanError> {
    plan_of(catalogue, catalogue.staged_changes())
}

/// The plan for these changes.
pub fn plan_of(catalogue: &Catalogue, changes: &[RingChange]) -> Result<Plan, PlanError> {
    if changes.is_empty() {
        return Err(PlanError::NothingStaged);
    }
    for (place, change) in changes.iter().enumerate() {
        check_change(catalogue, &changes[..place], change)?;
    }
    let seats = seats_after(catalogue, changes);
    let mut replicas_max = catalogue.ring.replicas_max() as u16;
    let (mut replaced, mut removed) = (BTreeMap::new(), BTreeSet::new());
    for change in changes {
        match change {
            RingChange::Replicas { replicas_max: wanted } => replicas_max = *wanted,
            RingChange::Remove { node } => drop(removed.insert(*node)),
            RingChange::Replace { node, by } => {
                removed.insert(*node);
                replaced.insert(*node, *by);
            }
            _ => {}
        }
    }
    let version = catalogue.ring.version() + 1;
    let planned = claim_from(&catalogue.ring, version, replicas_max, &seats, &replaced)?;
    // The order says who is an owner of a keyspace with fewer of them.
    let most = planned.replicas().max(catalogue.ring.replicas());
    let is_narrow = |keyspace: &Keyspace| keyspace.counts().any(|n| n < most);
    let planned = match catalogue.live_keyspaces().any(is_narrow) {
        true => planned.in_order_of(&catalogue.ring),
        false => planned,
    };
    let ring = catalogue.ring.towards(&planned);
    let places = places(catalogue, &seats);
    let now_and_then = |count: fn(&Places, Vec<Vec<NodeId>>) -> u32| {
        (count(&places, catalogue.ring.planned()), count(&places, ring.planned()))
    };
    let (nodes, firsts_moved) = shares(&catalogue.ring, &ring);
    Ok(Plan {
        changes: changes.to_vec(),
        slots_ideal: ideal(&nodes),
        zones_shared: now_and_then(zones_shared),
        in_one_region: now_and_then(in_one_region),
        ring,
        removed,
        nodes,
        firsts_moved,
    })
}

impl Plan {
    /// How many ownerships are to be handed over.
    pub fn slots_moved(&self) -> u32 {
        self.ring.moves().iter().filter(|pending| pending.to.is_some()).count() as u32
    }

    /// The bytes to copy, where a partition has as many as `bytes_of` says.
    pub fn bytes_moved(&self, bytes_of: impl Fn(PartitionId) -> u64) -> u64 {
        let gained = self.ring.moves().iter().filter(|pending| pending.to.is_some());
        gained.map(|pending| bytes_of(pending.partition)).fold(0, u64::saturating_add)
    }

    /// What a commit proposes.
    pub fn decision(&self, catalogue: &Catalogue, at_ms: u64, by: NodeId, nonce: u64) -> Decision {
        let ring_version = self.ring.version();
        let removed = |node: &NodeId| {
            let member = catalogue.members.get(node);
            let peer_address = member.map(|m| m.value.peer_address.clone()).unwrap_or_default();
            (*node, Removed { at_ms, ring_version, peer_address })
        };
        Decision {
            ring: self.ring.clone(),
            committed: Committed {
                at_ms,
                by,
                nonce,
                without_majority: false,
                changes: self.changes.clone(),
                moves: self.ring.moves().len() as u64,
            },
            removed: self.removed.iter().map(removed).collect(),
        }
    }
}

/// The region of each node, and its zone there.
type Places = BTreeMap<NodeId, (String, String)>;

fn places(catalogue: &Catalogue, seats: &[super::Seat]) -> Places {
    let members = catalogue.members.keys().filter_map(|node| catalogue.seat(*node));
    let place = |seat: super::Seat| (seat.node, (seat.region, seat.zone));
    members.chain(seats.iter().cloned()).map(place).collect()
}

fn zones_shared(places: &Places, lists: Vec<Vec<NodeId>>) -> u32 {
    let is_shared = |list: &&Vec<NodeId>| {
        let distinct: BTreeSet<_> = list.iter().map(|node| places.get(node)).collect();
        distinct.len() < list.len()
    };
    lists.iter().filter(is_shared).count() as u32
}

fn in_one_region(places: &Places, lists: Vec<Vec<NodeId>>) -> u32 {
    let regions: BTreeSet<&String> = places.values().map(|(region, _)| region).collect();
    let is_in_one = |list: &&Vec<NodeId>| {
        let used = list.iter().filter_map(|node| places.get(node)).map(|(region, _)| region);
        regions.len() > 1 && used.collect::<BTreeSet<_>>().len() == 1
    };
    lists.iter().filter(is_in_one).count() as u32
}

fn shares(now: &Ring, next: &Ring) -> (BTreeMap<NodeId, NodeShare>, u32) {
    let mut nodes: BTreeMap<NodeId, NodeShare> = BTreeMap::new();
    let mut firsts_moved = 0;
    for node in now.seats().iter().chain(next.seats()) {
        nodes.entry(*node).or_default();
    }
    for partition in next.partition_ids() {
        let before: Vec<NodeId> = now.owners(partition).collect();
        let after: Vec<NodeId> = next.planned_owners(partition).collect();
        firsts_moved += u32::from(before.first() != after.first());
        for (list, is_before) in [(&before, true), (&after, false)] {
            for (place, node) in list.iter().enumerate() {
                let share = nodes.entry(*node).or_default();
                let first = u32::from(place == 0);
                match is_before {
                    true => {
                        share.slots_before += 1;
                        share.firsts_before += first;
                        share.slots_lost += u32::from(!after.contains(node));
                    }
                    false => {
                        share.slots_after += 1;
                        share.firsts_after += first;
                        share.slots_gained += u32::from(!before.contains(node));
                    }
                }
            }
        }
    }
    (nodes, firsts_moved)
}

fn ideal(nodes: &BTreeMap<NodeId, NodeShare>) -> u32 {
    nodes.values().map(|share| share.slots_after.saturating_sub(share.slots_before)).sum()
}
