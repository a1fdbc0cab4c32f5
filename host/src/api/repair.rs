//! Repair on demand.

use stator_core::event::{RepairError, RepairFigures, RepairId, RepairRequest};
use stator_core::id::PartitionId;
use stator_proto::v1;
use tonic::{Code, Status};

use super::errors;
use crate::node::Node;

pub(super) async fn start(
    node: &Node,
    request: v1::StartRepairRequest,
) -> Result<v1::Repair, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let keyspace = match request.keyspace.as_str() {
        "" => None,
        name => Some(catalogue.keyspace(name).ok_or_else(|| errors::no_keyspace(name))?.id),
    };
    let partition = request.partition.map(|number| {
        u16::try_from(number).map(PartitionId).map_err(|_| {
            let partitions = catalogue.ring.partitions();
            let message = format!("the ring has {partitions} partitions, counted from 0");
            errors::bad_field("partition", "OUT_OF_RANGE", message)
        })
    });
    let wanted = RepairRequest { keyspace, partition: partition.transpose()? };
    let started = node.driver.repair(wanted).await.map_err(errors::stopped)?;
    let id = started.map_err(|error| refused(&error))?;
    get(node, &id_text(id))
}

pub(super) fn get(node: &Node, id: &str) -> Result<v1::Repair, Status> {
    let known = RepairId::from_str_radix(id, 16).ok();
    let figures = known.and_then(|known| Some((known, node.driver.shared().repair(known)?)));
    let Some((id, figures)) = figures else {
        let message = format!(
            "this node knows no repair {id:?}: ask the node that was asked for it, or start another"
        );
        let facts = [("repair_id", id.to_owned())];
        return Err(errors::status(Code::NotFound, "UNKNOWN_REPAIR", message, &facts));
    };
    Ok(message(id, figures))
}

fn id_text(id: RepairId) -> String {
    format!("{id:016x}")
}

fn message(id: RepairId, figures: RepairFigures) -> v1::Repair {
    v1::Repair {
        id: id_text(id),
        partitions: figures.partitions as u32,
        partitions_done: figures.partitions_done as u32,
        partitions_failed: figures.partitions_failed as u32,
        keys_compared: figures.found.keys_compared,
        keys_differed: figures.found.keys_differed,
        keys_repaired: figures.found.keys_repaired,
        is_done: figures.is_done(),
        failure: figures.why.unwrap_or_default(),
    }
}

fn refused(error: &RepairError) -> Status {
    match error {
        RepairError::NoCluster => errors::no_cluster(),
        RepairError::TooMany { max } => errors::exhausted(error.to_string(), *max),
        RepairError::NoPartition { .. } => {
            errors::bad_field("partition", "OUT_OF_RANGE", error.to_string())
        }
    }
}
