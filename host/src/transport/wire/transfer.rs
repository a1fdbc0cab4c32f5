//! What nodes say to hand a partition over, as protobuf and back.

use stator_core::id::{NodeId, PartitionId};
use stator_core::message::{Message, ReplicaError, RequestId, TransferStep};
use stator_core::ring::Move;
use stator_proto::peer::v1 as proto;

use super::message::{replica_error_from_wire, replica_error_to_wire};
use super::{WireError, required};
use proto::transfer_answer;

pub(super) fn ask_to_wire(
    request: RequestId,
    ring_version: u64,
    partition: PartitionId,
    step: TransferStep,
) -> proto::TransferAsk {
    let freeze = match step {
        TransferStep::Freeze => None,
        TransferStep::HandOver { freeze } => Some(freeze),
    };
    proto::TransferAsk { request, ring_version, partition: partition.0.into(), freeze }
}

pub(super) fn ask_from_wire(ask: proto::TransferAsk) -> Result<Message, WireError> {
    let proto::TransferAsk { request, ring_version, partition, freeze } = ask;
    let step = freeze.map_or(TransferStep::Freeze, |freeze| TransferStep::HandOver { freeze });
    Ok(Message::TransferAsk { request, ring_version, partition: partition_of(partition)?, step })
}

pub(super) fn answer_to_wire(
    request: RequestId,
    result: Result<u64, ReplicaError>,
) -> proto::TransferAnswer {
    let result = match result {
        Ok(freeze) => transfer_answer::Result::Freeze(freeze),
        Err(error) => transfer_answer::Result::Error(replica_error_to_wire(error)),
    };
    proto::TransferAnswer { request, result: Some(result) }
}

pub(super) fn answer_from_wire(answer: proto::TransferAnswer) -> Result<Message, WireError> {
    let result = match required(answer.result, "a transfer's result")? {
        transfer_answer::Result::Freeze(freeze) => Ok(freeze),
        transfer_answer::Result::Error(error) => Err(replica_error_from_wire(error)?),
    };
    Ok(Message::TransferAnswer { request: answer.request, result })
}

pub(super) fn moved_to_wire(ring_version: u64, made: Move) -> proto::Moved {
    let Move { partition, from, to } = made;
    let (from, to) = (from.map(|node| node.0), to.map(|node| node.0));
    proto::Moved { ring_version, partition: partition.0.into(), from, to }
}

pub(super) fn moved_from_wire(moved: &proto::Moved) -> Result<Message, WireError> {
    let (from, to) = (moved.from.map(NodeId), moved.to.map(NodeId));
    let made = Move { partition: partition_of(moved.partition)?, from, to };
    Ok(Message::Moved { ring_version: moved.ring_version, made })
}

fn partition_of(number: u32) -> Result<PartitionId, WireError> {
    u16::try_from(number).map(PartitionId).map_err(|_| WireError::OutOfRange("a partition"))
}
