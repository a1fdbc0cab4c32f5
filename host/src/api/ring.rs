//! Changes of the ring: what is asked for, what is planned, what became of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use stator_core::catalogue::{Catalogue, CatalogueChange, RingChange, StageError};
use stator_core::event::{CommitError, CommitRequest, TransferFigures};
use stator_core::id::NodeId;
use stator_core::request::Effect;
use stator_core::ring::{Plan, PlanError, plan};
use stator_proto::v1;
use tonic::{Code, Status};
use v1::ring_change::Change;

use super::{errors, keyspaces};
use crate::node::{JoinError, Node};

/// What a node is taken to receive per second while partitions move, for estimates.
const RECEIVED_BYTES_PER_S: u64 = 20 << 20;

pub(super) async fn stage(
    node: &Arc<Node>,
    request: v1::StageRingChangeRequest,
) -> Result<v1::RingPlan, Status> {
    let missing = || errors::bad_field("change", "MISSING", "say what is to be changed");
    let asked = request.change.and_then(|change| change.change).ok_or_else(missing)?;
    let catalogue = match asked {
        Change::Join(join) => {
            let address = errors::address("change.peer_address", &join.peer_address)?;
            node.stage_join(&address, None).await.map_err(|error| not_joined(&error))?
        }
        Change::Replace(replace) => {
            let gone = node_id("change.replace.node_id", &replace.node_id)?;
            let address = errors::address("change.peer_address", &replace.peer_address)?;
            node.stage_join(&address, Some(gone)).await.map_err(|error| not_joined(&error))?
        }
        Change::Leave(leave) => {
            let gone = node_id("change.leave.node_id", &leave.node_id)?;
            let change = match leave.is_lost {
                true => RingChange::Remove { node: gone },
                false => RingChange::Leave { node: gone },
            };
            change_ring(node, CatalogueChange::StageRing(change)).await?
        }
        Change::Set(set) => {
            let v1::SetMember { weight, zone, region, .. } = set;
            let member = node_id("change.set.node_id", &set.node_id)?;
            if weight.is_none() && zone.is_none() && region.is_none() {
                let message = "say which of weight, zone and region is to be other";
                return Err(errors::bad_field("change.set", "MISSING", message));
            }
            let change = RingChange::Set { node: member, weight, zone, region };
            change_ring(node, CatalogueChange::StageRing(change)).await?
        }
        Change::SetReplicasMax(set) => {
            // What is too large for the type is too large for the ring.
            let replicas_max = u16::try_from(set.replicas_max).unwrap_or(u16::MAX);
            let change = RingChange::Replicas { replicas_max };
            change_ring(node, CatalogueChange::StageRing(change)).await?
        }
        Change::SetReplicas(_) => return Err(errors::unimplemented("another n of a keyspace")),
    };
    planned(node, &catalogue).await
}

pub(super) async fn get_plan(node: &Arc<Node>) -> Result<v1::RingPlan, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    planned(node, &catalogue).await
}

pub(super) async fn commit(
    node: &Arc<Node>,
    request: v1::CommitRingPlanRequest,
) -> Result<v1::CommitRingPlanResponse, Status> {
    let expected_plan = match request.plan_id.as_str() {
        "" => None,
        text => Some(plan_id(text)?),
    };
    let asked = CommitRequest {
        expected_ring_version: request.expected_ring_version,
        expected_plan,
        without_majority: request.without_majority,
    };
    if request.without_majority {
        tracing::warn!("an operator commits a ring without a majority");
    }
    let made = node.driver.commit(asked).await.map_err(errors::stopped)?;
    let catalogue = made.map_err(|error| not_committed(&error))?;
    Ok(v1::CommitRingPlanResponse {
        ring_version: catalogue.ring.version(),
        slots_moved: catalogue.ring.moves().len() as u32,
    })
}

pub(super) async fn cancel(node: &Arc<Node>) -> Result<v1::CancelRingPlanResponse, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let changes = catalogue.staged_changes().len() as u32;
    change_ring(node, CatalogueChange::CancelRing).await?;
    Ok(v1::CancelRingPlanResponse { changes })
}

pub(super) fn transfers(
    catalogue: &Catalogue,
    driven: &[TransferFigures],
    request: &v1::ListTransfersRequest,
) -> Result<v1::ListTransfersResponse, Status> {
    let text = |node: Option<NodeId>| node.map(|node| node.to_string()).unwrap_or_default();
    let pending = catalogue.ring.moves().iter().map(|pending| {
        let driven = driven.iter().find(|figures| figures.made == *pending);
        let transfer = v1::Transfer {
            partition: pending.partition.0.into(),
            source_node_id: text(pending.from),
            target_node_id: text(pending.to),
            keys_copied: driven.map_or(0, |figures| figures.keys_copied),
            step: driven.map_or("", |figures| figures.step).to_owned(),
            ..v1::Transfer::default()
        };
        // Moves are in this order already.
        let name = format!(
            "{:05}-{}-{}",
            pending.partition.0, transfer.source_node_id, transfer.target_node_id
        );
        (name, transfer)
    });
    let (transfers, next_page_token) =
        keyspaces::page(pending, request.page_size, &request.page_token)?;
    Ok(v1::ListTransfersResponse { transfers, next_page_token })
}

async fn change_ring(node: &Arc<Node>, change: CatalogueChange) -> Result<Arc<Catalogue>, Status> {
    let made = node.driver.change(change).await.map_err(errors::stopped)?;
    made.map_err(|failure| errors::change(&failure))
}

fn node_id(field: &str, text: &str) -> Result<NodeId, Status> {
    text.parse().map_err(|_| {
        let message = format!("{text:?} is no node id: 16 hexadecimal digits are expected");
        errors::bad_field(field, "BAD_NODE_ID", message)
    })
}

fn plan_id(text: &str) -> Result<u64, Status> {
    u64::from_str_radix(text, 16).map_err(|_| {
        let message = "give the plan_id of a plan, as it was, or none";
        errors::bad_field("plan_id", "BAD_PLAN_ID", message)
    })
}

/// The plan for what is staged; without figures if nothing is.
async fn planned(node: &Arc<Node>, catalogue: &Arc<Catalogue>) -> Result<v1::RingPlan, Status> {
    let (home, known) = (node.config.data_dir.join("data"), catalogue.clone());
    let me = node.id;
    let measured = tokio::task::spawn_blocking(move || {
        // A claim of many partitions takes a while, and so do folders of many files.
        let bytes = slot_bytes(&home, &known, me);
        (plan(&known), bytes)
    });
    let (made, bytes) =
        measured.await.map_err(|error| Status::internal(format!("no plan was made: {error}")))?;
    match made {
        Ok(made) => Ok(view(catalogue, &made, bytes)),
        Err(PlanError::NothingStaged) => Ok(v1::RingPlan {
            base_ring_version: catalogue.ring.version(),
            plan_id: format!("{:016x}", catalogue.plan_id()),
            slots_pending: catalogue.ring.moves().len() as u32,
            ..v1::RingPlan::default()
        }),
        Err(error) => Err(no_plan(&error)),
    }
}

/// About how many bytes a slot of a partition takes: those that this node's data store takes on
/// disk, for each that it serves; 0 if it serves none.
fn slot_bytes(data: &Path, catalogue: &Catalogue, me: NodeId) -> u64 {
    let ring = &catalogue.ring;
    let served = ring.partition_ids().filter(|&p| ring.is_owner(p, me)).count() as u64;
    folder_bytes(data).checked_div(served).unwrap_or(0)
}

/// What cannot be read counts nothing: this is an estimate.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => folder_bytes(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

fn view(catalogue: &Catalogue, plan: &Plan, slot_bytes: u64) -> v1::RingPlan {
    let nodes: Vec<v1::NodePlan> = plan
        .nodes
        .iter()
        .map(|(node, share)| v1::NodePlan {
            node_id: node.to_string(),
            slots_before: share.slots_before,
            slots_after: share.slots_after,
            firsts_before: share.firsts_before,
            firsts_after: share.firsts_after,
            slots_gained: share.slots_gained,
            slots_lost: share.slots_lost,
            bytes_gained: u64::from(share.slots_gained).saturating_mul(slot_bytes),
            is_removed: plan.removed.contains(node),
        })
        .collect();
    let slowest = nodes.iter().map(|node| node.bytes_gained).max().unwrap_or(0);
    let partitions: BTreeSet<_> = plan.ring.moves().iter().map(|m| m.partition).collect();
    v1::RingPlan {
        base_ring_version: catalogue.ring.version(),
        changes: plan.changes.iter().map(|change| change_view(catalogue, change)).collect(),
        slots_moved: plan.slots_moved(),
        bytes_moved: plan.bytes_moved(|_| slot_bytes),
        warnings: warnings(catalogue, plan),
        plan_id: format!("{:016x}", catalogue.plan_id()),
        slots_ideal: plan.slots_ideal,
        firsts_moved: plan.firsts_moved,
        partitions_moved: partitions.len() as u32,
        seconds: slowest.div_ceil(RECEIVED_BYTES_PER_S),
        nodes,
        zones_shared_before: plan.zones_shared.0,
        zones_shared_after: plan.zones_shared.1,
        in_one_region_before: plan.in_one_region.0,
        in_one_region_after: plan.in_one_region.1,
        slots_pending: catalogue.ring.moves().len() as u32,
    }
}

fn change_view(catalogue: &Catalogue, change: &RingChange) -> v1::RingChange {
    let address = |node: &NodeId| {
        let member = catalogue.members.get(node);
        member.map(|member| member.value.peer_address.clone()).unwrap_or_default()
    };
    let change = match change {
        RingChange::Join { node } => {
            Change::Join(v1::JoinMember { peer_address: address(node), node_id: node.to_string() })
        }
        RingChange::Leave { node } => {
            Change::Leave(v1::LeaveMember { node_id: node.to_string(), is_lost: false })
        }
        RingChange::Remove { node } => {
            Change::Leave(v1::LeaveMember { node_id: node.to_string(), is_lost: true })
        }
        RingChange::Replace { node, by } => Change::Replace(v1::ReplaceMember {
            node_id: node.to_string(),
            peer_address: address(by),
            new_node_id: by.to_string(),
        }),
        RingChange::Set { node, weight, zone, region } => Change::Set(v1::SetMember {
            node_id: node.to_string(),
            weight: *weight,
            zone: zone.clone(),
            region: region.clone(),
        }),
        RingChange::Replicas { replicas_max } => {
            let replicas_max = u32::from(*replicas_max);
            Change::SetReplicasMax(v1::SetReplicasMax { replicas_max })
        }
    };
    v1::RingChange { change: Some(change) }
}

/// What is unfortunate about the outcome.
fn warnings(catalogue: &Catalogue, plan: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    let owners = plan.ring.replicas() as u32;
    for keyspace in catalogue.live_keyspaces() {
        let n = keyspace.holders() as u32;
        if n > owners {
            warnings.push(format!(
                "keyspace {:?} has n={n}, and partitions will have {owners} owners",
                keyspace.name
            ));
        }
    }
    let (before, after) = plan.zones_shared;
    if after > before {
        warnings.push(format!(
            "{after} partitions will have two owners of one zone, {before} have now"
        ));
    }
    let (before, after) = plan.in_one_region;
    if after > before {
        warnings.push(format!(
            "{after} partitions will have all owners in one region, {before} have now"
        ));
    }
    if !catalogue.ring.moves().is_empty() {
        warnings.push(format!(
            "{} ownerships of an earlier commit are still to be handed over: this plan goes on \
             from the owners that serve now",
            catalogue.ring.moves().len()
        ));
    }
    for node in &plan.removed {
        warnings.push(format!(
            "node {node} is removed at once and for ever: what only it holds is lost"
        ));
    }
    warnings
}

/// A change that does not fit. Nothing was changed.
pub(super) fn stage_refused(error: &StageError) -> Status {
    let message = error.to_string();
    let failed = |reason: &str, facts: &[(&str, String)]| {
        errors::status(Code::FailedPrecondition, reason, message.clone(), facts)
    };
    let of = |node: &NodeId| [("node_id", node.to_string())];
    match error {
        StageError::NoMember(node) => {
            errors::status(Code::NotFound, "UNKNOWN_MEMBER", message, &of(node))
        }
        StageError::Removed { node, ring_version } => failed(
            "NODE_REMOVED",
            &[("node_id", node.to_string()), ("ring_version", ring_version.to_string())],
        ),
        StageError::AddressTaken { owner, node, .. } => {
            failed("ADDRESS_TAKEN", &[("node_id", node.to_string()), ("member", owner.to_string())])
        }
        StageError::HasSeat(node) => failed("HAS_SEAT", &of(node)),
        StageError::NoSeat(node) => failed("NO_SEAT", &of(node)),
        StageError::IsLeaving(node) => failed("IS_LEAVING", &of(node)),
        StageError::StagedAlready(node) => failed("STAGED_ALREADY", &of(node)),
        StageError::StillOwns(node) => failed("STILL_OWNS", &of(node)),
        StageError::NobodyLeft => failed("NOBODY_LEFT", &[]),
        StageError::NothingStaged => failed("NOTHING_STAGED", &[]),
        StageError::NeedsReplicas { name, n } => {
            failed("NEEDS_REPLICAS", &[("keyspace", name.clone()), ("n", n.to_string())])
        }
        StageError::OutOfRange { .. } => errors::bad_field("change", "OUT_OF_RANGE", message),
    }
}

fn no_plan(error: &PlanError) -> Status {
    let message = error.to_string();
    let reason = match error {
        PlanError::NothingStaged => "NOTHING_STAGED",
        PlanError::Stale(_) => "PLAN_STALE",
        PlanError::Claim(_) => "BAD_RING",
    };
    errors::status(Code::FailedPrecondition, reason, message, &[])
}

fn not_joined(error: &JoinError) -> Status {
    let message = error.to_string();
    match error {
        JoinError::NoCluster => errors::no_cluster(),
        JoinError::PeerBelongs { .. } | JoinError::OtherName { .. } => {
            errors::status(Code::FailedPrecondition, "CLUSTER_EXISTS", message, &[])
        }
        JoinError::Introduce(_) => {
            errors::status(Code::FailedPrecondition, "PEER_NOT_READY", message, &[])
        }
        JoinError::Adopt(_) => {
            let facts = [("effect", "MAYBE".to_owned())];
            errors::status(Code::Unavailable, "PEER_NOT_READY", message, &facts)
        }
        JoinError::Change(failure) => errors::change(failure),
        JoinError::Stopped(stopped) => errors::stopped(*stopped),
    }
}

fn not_committed(error: &CommitError) -> Status {
    let message = error.to_string();
    let none = ("effect", "NONE".to_owned());
    match error {
        CommitError::NoCluster => errors::no_cluster(),
        CommitError::Removed { ring_version } => errors::removed(*ring_version, message),
        CommitError::NotServed(why) => errors::request(why),
        CommitError::Plan(error) => no_plan(error),
        CommitError::OtherRing { expected, found } => {
            let facts = [("expected", expected.to_string()), ("found", found.to_string()), none];
            errors::status(Code::Aborted, "OTHER_RING", message, &facts)
        }
        CommitError::OtherPlan => errors::status(Code::Aborted, "OTHER_PLAN", message, &[none]),
        CommitError::UnderWay => {
            errors::status(Code::Aborted, "COMMIT_UNDER_WAY", message, &[none])
        }
        CommitError::Lost { ring_version } => {
            let facts = [("ring_version", ring_version.to_string()), none];
            errors::status(Code::Aborted, "OTHER_COMMIT", message, &facts)
        }
        CommitError::NoMajority { answered, needed, effect } => {
            let effect = match effect {
                Effect::None => "NONE",
                Effect::Maybe => "MAYBE",
            };
            let facts = [
                ("answered", answered.to_string()),
                ("needed", needed.to_string()),
                ("effect", effect.to_owned()),
            ];
            errors::status(Code::Unavailable, "NO_MAJORITY", message, &facts)
        }
        CommitError::NotPersisted(_) => {
            let facts = [("effect", "MAYBE".to_owned())];
            errors::status(Code::Unavailable, "NOT_PERSISTED", message, &facts)
        }
    }
}
