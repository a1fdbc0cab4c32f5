//! The cluster as this node sees it: itself, the members, the ring, what moves and is repaired.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use stator_core::id::NodeId;
use stator_core::region;
use stator_proto::v1;
use stator_proto::v1::admin_server::Admin;
use tonic::Request;

use super::Console;
use super::answer::{Answer, Refused, given, word};
use crate::api::AdminService;
use crate::node::Node;

/// The most transfers that are listed.
const TRANSFERS_MAX: u32 = 100;
/// The most partitions of which the owners are told: a picture shows no more.
const PARTITIONS_MAX: u32 = 1_024;

pub(super) async fn cluster(State(console): State<Console>) -> Answer {
    let node = console.node()?;
    let admin = AdminService::new(node.clone());
    let status = admin.get_status(Request::new(v1::GetStatusRequest {})).await?.into_inner();
    let transfers = match &status.cluster {
        None => Vec::new(),
        Some(_) => {
            let page = v1::ListTransfersRequest { page_size: TRANSFERS_MAX, ..Default::default() };
            admin.list_transfers(Request::new(page)).await?.into_inner().transfers
        }
    };
    Ok(Json(json!({
        "now_ms": node.clock.now().wall_ms,
        "cluster": status.cluster.as_ref().map(|cluster| json!({
            "id": cluster.id,
            "name": cluster.name,
            "partitions": cluster.partitions,
            "ring_version": cluster.ring_version,
            "changes_staged": cluster.changes_staged,
            "slots_pending": cluster.slots_pending,
            "catalogue_digest": cluster.catalogue_digest,
        })),
        "node": own(&node, &status),
        "members": status.members.iter().map(member).collect::<Vec<_>>(),
        "transfers": transfers.iter().map(transfer).collect::<Vec<_>>(),
        "transfers_shown_max": TRANSFERS_MAX,
        "repairs": repairs(&node),
        "alarms": status.alarms.iter().map(|alarm| json!({
            "reason": alarm.reason,
            "node_id": given(&alarm.node_id),
            "message": alarm.message,
        })).collect::<Vec<_>>(),
    })))
}

/// What only the node itself knows of itself.
fn own(node: &Node, status: &v1::NodeStatus) -> Value {
    let stores = status.stores.iter().map(|store| {
        json!({
            "name": store.name,
            "engine": store.engine,
            "state": word(store.state().as_str_name(), "STORE_STATE_"),
            "detail": given(&store.detail),
            "objects": store.objects,
        })
    });
    let disk = disk(&node.config.data_dir);
    json!({
        "node_id": node.id.to_string(),
        "state": word(status.state().as_str_name(), "NODE_STATE_"),
        "version": status.program_version,
        "started_at_ms": status.started_at_ms,
        "isolated": status.isolated,
        "stores": stores.collect::<Vec<_>>(),
        "disk": disk.map(|(free, total)| json!({ "free_bytes": free, "total_bytes": total })),
        "fill": status.fill.as_ref().map(|fill| json!({
            "partitions": fill.partitions,
            "partitions_left": fill.partitions_left,
            "objects_copied": fill.objects_copied,
        })),
        "collect": status.collect.as_ref().map(|collect| json!({
            "collected": collect.collected,
            "rounds": collect.rounds,
            "rounds_given_up": collect.rounds_given_up,
            "held_up": given(&collect.held_up),
        })),
        "hints": status.hints.as_ref().map(|hints| json!({
            "bytes": hints.bytes,
            "bytes_max": hints.bytes_max,
            "stored": hints.stored,
            "delivered": hints.delivered,
            "refused": hints.refused,
            "lost": hints.lost,
            "targets": hints.targets.iter().map(|target| json!({
                "node_id": target.node_id,
                "objects": target.objects,
                "bytes": target.bytes,
                "oldest_age_ms": target.oldest_age_ms,
            })).collect::<Vec<_>>(),
        })),
        "anti_entropy": status.anti_entropy.as_ref().map(|figures| json!({
            "trees_ready": figures.trees_ready,
            "exchanges": figures.exchanges,
            "keys_differed": figures.keys_differed,
            "keys_repaired": figures.keys_repaired,
        })),
    })
}

fn member(view: &v1::MemberView) -> Value {
    let member = view.member.clone().unwrap_or_default();
    json!({
        "node_id": member.node_id,
        "place": region::place(&member.region, &member.zone),
        "weight": member.weight,
        "seat": word(member.seat().as_str_name(), "SEAT_"),
        "reachability": word(view.reachability().as_str_name(), "REACHABILITY_"),
        "peer_address": member.peer_address,
        "client_address": member.client_address,
        "admin_address": member.admin_address,
        "hints_held": view.hints_held,
        "hints_delivered": view.hints_delivered,
    })
}

fn transfer(transfer: &v1::Transfer) -> Value {
    json!({
        "partition": transfer.partition,
        "source": given(&transfer.source_node_id),
        "target": given(&transfer.target_node_id),
        "keys_copied": transfer.keys_copied,
        "step": given(&transfer.step),
    })
}

/// The repairs that this node was asked for.
fn repairs(node: &Node) -> Vec<Value> {
    let repairs = node.driver.shared().repairs();
    let told = repairs.iter().map(|(id, figures)| {
        json!({
            "id": format!("{id:016x}"),
            "partitions": figures.partitions,
            "partitions_done": figures.partitions_done,
            "partitions_failed": figures.partitions_failed,
            "keys_compared": figures.found.keys_compared,
            "keys_differed": figures.found.keys_differed,
            "keys_repaired": figures.found.keys_repaired,
            "is_done": figures.is_done(),
            "failure": figures.why,
        })
    });
    told.collect()
}

/// Who owns which partition now, and which are on their way; of a large ring every so many-th.
pub(super) async fn ring(State(console): State<Console>) -> Answer {
    let catalogue = console.node()?.catalogue().ok_or_else(no_cluster)?;
    let ring = &catalogue.ring;
    let nodes = ring.nodes();
    let place = |node: NodeId| nodes.iter().position(|known| *known == node);
    let mut owned = vec![(0_u32, 0_u32); nodes.len()];
    for partition in ring.partition_ids() {
        for (rank, owner) in ring.owners(partition).enumerate() {
            if let Some(owned) = place(owner).and_then(|place| owned.get_mut(place)) {
                owned.0 += u32::from(rank == 0);
                owned.1 += 1;
            }
        }
    }
    let step = ring.partitions().div_ceil(PARTITIONS_MAX).max(1);
    let shown = ring.partition_ids().step_by(step as usize).map(|partition| {
        json!({
            "id": partition.0,
            "owners": ring.owners(partition).filter_map(place).collect::<Vec<_>>(),
            "moves": !ring.moves_of(partition).is_empty(),
        })
    });
    let of = |(node, (firsts, all)): (&NodeId, &(u32, u32))| {
        let member = catalogue.members.get(node).map(|member| &member.value);
        json!({
            "node_id": node.to_string(),
            "place": member.map(|member| region::place(&member.region, &member.zone)),
            "first": firsts,
            "owned": all,
        })
    };
    Ok(Json(json!({
        "version": ring.version(),
        "partitions": ring.partitions(),
        "shown_every": step,
        "nodes": nodes.iter().zip(&owned).map(of).collect::<Vec<_>>(),
        "shown": shown.collect::<Vec<_>>(),
    })))
}

fn no_cluster() -> Refused {
    let message = "this node waits for a cluster: `stator cluster init` makes one";
    Refused::new(axum::http::StatusCode::CONFLICT, "NO_CLUSTER", message)
}

/// Bytes that are free for this process on the disk of `path`, and all that it has.
fn disk(path: &Path) -> Option<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut told = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends with a zero, and `told` is a place for one struct, which statvfs fills.
    let told = unsafe {
        if libc::statvfs(path.as_ptr(), told.as_mut_ptr()) != 0 {
            return None;
        }
        told.assume_init()
    };
    let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
    Some((bytes(told.f_bavail), bytes(told.f_blocks)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_less_that_is_free_than_it_has() {
        let (free, total) = disk(&std::env::temp_dir()).expect("a disk");
        assert!(0 < total && free <= total, "{free} of {total}");
        assert_eq!(disk(Path::new("/nowhere/at/all")), None);
    }
}
