//! Staging: which changes of the ring fit the members, the ring and one another.

use std::collections::BTreeSet;

use super::{Catalogue, Member, Removed, RingChange, Staged, Versioned};
use crate::id::NodeId;
use crate::ring::Seat;

/// The longest zone or region, in bytes.
pub const ZONE_BYTES_MAX: usize = 128;
/// The largest weight of a node.
pub const WEIGHT_MAX: u32 = 10_000;
/// The most owners of a partition.
pub const REPLICAS_MAX: u16 = 64;
/// The most changes that can be staged at a time.
pub const STAGED_MAX: usize = 1_000;

/// A change of the ring that does not fit. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// There is no such member.
    #[error("node {0} is not a member of this cluster; `stator cluster status` lists the members")]
    NoMember(NodeId),
    /// It was removed.
    #[error(
        "node {node} was removed from this cluster with ring version {ring_version}, for ever: \
         give its machine an empty data directory, and it can join as a new node"
    )]
    Removed {
        /// The node.
        node: NodeId,
        /// The ring from which on it has no seat.
        ring_version: u64,
    },
    /// Another member has this address.
    #[error(
        "the address {address} belongs to member {owner} already, and node {node} is another one: \
         if it is to take that member's place, run `stator cluster replace {owner} {address}`"
    )]
    AddressTaken {
        /// The address of the peer listener.
        address: String,
        /// Who has it.
        owner: NodeId,
        /// Who came.
        node: NodeId,
    },
    /// It owns its share already.
    #[error("node {0} has its seat in the ring already")]
    HasSeat(NodeId),
    /// It owns nothing.
    #[error("node {0} has no seat in the ring: there is nothing that it could give up")]
    NoSeat(NodeId),
    /// It gave its seat up and has not handed all over yet.
    #[error("node {0} is leaving: it is removed once it has handed over all that it holds")]
    IsLeaving(NodeId),
    /// Two staged changes contradict each other.
    #[error(
        "another staged change is about node {0}: `stator cluster plan` shows it, `stator cluster \
         cancel` drops all"
    )]
    StagedAlready(NodeId),
    /// Nobody would be left.
    #[error("no node would be left in the ring")]
    NobodyLeft,
    /// A number or a text out of its range.
    #[error("{what} is {found}: it must be {range}")]
    OutOfRange {
        /// What.
        what: &'static str,
        /// What was asked for.
        found: String,
        /// What is possible.
        range: String,
    },
    /// A keyspace needs more owners.
    #[error("keyspace {name:?} has n={n}: a partition must have at least as many owners")]
    NeedsReplicas {
        /// The keyspace.
        name: String,
        /// Its n.
        n: u32,
    },
    /// There is nothing to cancel.
    #[error("no change of the ring is staged")]
    NothingStaged,
    /// It still has something to hand over.
    #[error("node {0} still owns something, or did not give its seat up")]
    StillOwns(NodeId),
}

fn out_of_range(what: &'static str, found: impl ToString, range: impl ToString) -> StageError {
    StageError::OutOfRange { what, found: found.to_string(), range: range.to_string() }
}

pub(super) fn admit(
    catalogue: &mut Catalogue,
    node: NodeId,
    member: &Member,
) -> Result<(), StageError> {
    if let Some(Removed { ring_version, .. }) = catalogue.removed.get(&node) {
        return Err(StageError::Removed { node, ring_version: *ring_version });
    }
    if catalogue.members.contains_key(&node) {
        return Ok(());
    }
    check_labels(Some(member.weight), Some(&member.zone), Some(&member.region))?;
    // The address may be that of a member whose place the node is to take.
    catalogue.members.insert(node, Versioned::new(member.clone()));
    Ok(())
}

pub(super) fn stage(catalogue: &mut Catalogue, change: &RingChange) -> Result<(), StageError> {
    let mut changes = catalogue.staged_changes().to_vec();
    if changes.contains(change) {
        return Ok(());
    }
    check(catalogue, &changes, change)?;
    if changes.len() >= STAGED_MAX {
        return Err(out_of_range("the number of staged changes", changes.len() + 1, STAGED_MAX));
    }
    if let RingChange::Replicas { .. } = change {
        changes.retain(|staged| !matches!(staged, RingChange::Replicas { .. }));
    }
    changes.push(change.clone());
    if seats_after(catalogue, &changes).is_empty() {
        return Err(StageError::NobodyLeft);
    }
    let base_ring_version = catalogue.ring.version();
    catalogue.staged.change(Staged { base_ring_version, changes });
    Ok(())
}

pub(super) fn cancel(catalogue: &mut Catalogue) -> Result<(), StageError> {
    if catalogue.staged_changes().is_empty() {
        return Err(StageError::NothingStaged);
    }
    let base_ring_version = catalogue.ring.version();
    catalogue.staged.change(Staged { base_ring_version, changes: Vec::new() });
    Ok(())
}

pub(super) fn retire(
    catalogue: &mut Catalogue,
    node: NodeId,
    at_ms: u64,
) -> Result<(), StageError> {
    let Some(member) = catalogue.members.get(&node) else {
        return Err(StageError::NoMember(node));
    };
    if !catalogue.is_leaving(node) || catalogue.ring.nodes().binary_search(&node).is_ok() {
        return Err(StageError::StillOwns(node));
    }
    let removed = Removed {
        at_ms,
        ring_version: catalogue.ring.version(),
        peer_address: member.value.peer_address.clone(),
    };
    catalogue.take_removed(&[(node, removed)].into());
    Ok(())
}

/// Whether a change fits the catalogue and what is staged before it.
pub(crate) fn check(
    catalogue: &Catalogue,
    before: &[RingChange],
    change: &RingChange,
) -> Result<(), StageError> {
    match change {
        RingChange::Join { node } => {
            no_other_seat(catalogue, *node)?;
            // It may be gone at any moment, and would then be owed what it never takes.
            if catalogue.is_leaving(*node) {
                return Err(StageError::IsLeaving(*node));
            }
            no_other_address(catalogue, before, *node)?;
            alone(before, change, *node)
        }
        RingChange::Leave { node } | RingChange::Remove { node } => {
            let is_gone_for_good = matches!(change, RingChange::Remove { .. });
            member(catalogue, *node)?;
            match catalogue.ring.has_seat(*node) || is_gone_for_good {
                true => alone(before, change, *node),
                false if catalogue.is_leaving(*node) => Err(StageError::IsLeaving(*node)),
                false => Err(StageError::NoSeat(*node)),
            }
        }
        RingChange::Replace { node, by } => {
            member(catalogue, *node)?;
            if !catalogue.ring.has_seat(*node) {
                return Err(StageError::NoSeat(*node));
            }
            no_other_seat(catalogue, *by)?;
            if catalogue.is_leaving(*by) {
                return Err(StageError::IsLeaving(*by));
            }
            alone(before, change, *node)?;
            alone(before, change, *by)
        }
        RingChange::Set { node, weight, zone, region } => {
            member(catalogue, *node)?;
            check_labels(*weight, zone.as_ref(), region.as_ref())
        }
        RingChange::Replicas { replicas_max } => check_replicas(catalogue, *replicas_max),
    }
}

fn member(catalogue: &Catalogue, node: NodeId) -> Result<&Member, StageError> {
    if let Some(Removed { ring_version, .. }) = catalogue.removed.get(&node) {
        return Err(StageError::Removed { node, ring_version: *ring_version });
    }
    let member = catalogue.members.get(&node).ok_or(StageError::NoMember(node))?;
    Ok(&member.value)
}

/// A member that may get a seat.
fn no_other_seat(catalogue: &Catalogue, node: NodeId) -> Result<(), StageError> {
    member(catalogue, node)?;
    match catalogue.ring.has_seat(node) {
        true => Err(StageError::HasSeat(node)),
        false => Ok(()),
    }
}

/// Two members at one address are one machine that lost its data directory: the old one has to
/// go.
fn no_other_address(
    catalogue: &Catalogue,
    before: &[RingChange],
    node: NodeId,
) -> Result<(), StageError> {
    let address = &member(catalogue, node)?.peer_address;
    let goes = |other: NodeId| {
        let removes =
            |change: &RingChange| matches!(change, RingChange::Remove { node } if *node == other);
        before.iter().any(removes)
    };
    let is_other = |(other, member): &(&NodeId, &Versioned<Member>)| {
        **other != node && member.value.peer_address == *address && !goes(**other)
    };
    match catalogue.members.iter().find(is_other) {
        Some((owner, _)) => {
            Err(StageError::AddressTaken { address: address.clone(), owner: *owner, node })
        }
        None => Ok(()),
    }
}

/// No staged change but labels is about the node.
fn alone(before: &[RingChange], change: &RingChange, node: NodeId) -> Result<(), StageError> {
    let names = |staged: &RingChange| {
        let by = match staged {
            RingChange::Replace { by, .. } => Some(*by),
            _ => None,
        };
        let is_seat = !matches!(staged, RingChange::Set { .. });
        is_seat && staged != change && (staged.node() == Some(node) || by == Some(node))
    };
    match before.iter().any(names) {
        true => Err(StageError::StagedAlready(node)),
        false => Ok(()),
    }
}

fn check_labels(
    weight: Option<u32>,
    zone: Option<&String>,
    region: Option<&String>,
) -> Result<(), StageError> {
    if let Some(weight) = weight.filter(|weight| !(1..=WEIGHT_MAX).contains(weight)) {
        return Err(out_of_range("the weight", weight, format!("from 1 to {WEIGHT_MAX}")));
    }
    let is_long = |label: &&String| label.len() > ZONE_BYTES_MAX;
    match zone.into_iter().chain(region).find(is_long) {
        Some(label) => Err(out_of_range(
            "the length of a zone or region",
            label.len(),
            format!("at most {ZONE_BYTES_MAX} bytes"),
        )),
        None => Ok(()),
    }
}

fn check_replicas(catalogue: &Catalogue, replicas_max: u16) -> Result<(), StageError> {
    if !(1..=REPLICAS_MAX).contains(&replicas_max) {
        let range = format!("from 1 to {REPLICAS_MAX}");
        return Err(out_of_range("the number of owners of a partition", replicas_max, range));
    }
    let needs = |keyspace: &&super::Keyspace| keyspace.holders() > usize::from(replicas_max);
    match catalogue.live_keyspaces().find(needs) {
        Some(keyspace) => Err(StageError::NeedsReplicas {
            name: keyspace.name.clone(),
            n: keyspace.holders() as u32,
        }),
        None => Ok(()),
    }
}

/// Who has a seat once these changes are made.
pub(crate) fn seats_after(catalogue: &Catalogue, changes: &[RingChange]) -> Vec<Seat> {
    let mut nodes: BTreeSet<NodeId> = catalogue.ring.seats().iter().copied().collect();
    for change in changes {
        match change {
            RingChange::Join { node } => drop(nodes.insert(*node)),
            RingChange::Leave { node } | RingChange::Remove { node } => drop(nodes.remove(node)),
            RingChange::Replace { node, by } => {
                nodes.remove(node);
                nodes.insert(*by);
            }
            RingChange::Set { .. } | RingChange::Replicas { .. } => {}
        }
    }
    let mut seats: Vec<Seat> = nodes.iter().filter_map(|node| catalogue.seat(*node)).collect();
    for change in changes {
        let RingChange::Set { node, weight, zone, region } = change else { continue };
        for seat in seats.iter_mut().filter(|seat| seat.node == *node) {
            weight.iter().for_each(|weight| seat.weight = *weight);
            zone.iter().for_each(|zone| seat.zone.clone_from(zone));
            region.iter().for_each(|region| seat.region.clone_from(region));
        }
    }
    seats
}
