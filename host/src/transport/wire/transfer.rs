//! What nodes say to hand a partition over, as protobuf and back.

use stator_core::id::{NodeId, PartitionId};
use stator_core::message::{Message, ReplicaError, RequestId, TransferStep};
use stator_core::ring::{MadeMoves, Move};
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

/// About how many bytes the moves take.
pub(super) fn moves_bytes(made: &MadeMoves) -> usize {
    made.moves.len() * 24
}

pub(super) fn moved_to_wire(made: MadeMoves) -> proto::Moved {
    let one = |Move { partition, from, to }: Move| {
        let (from, to) = (from.map(|node| node.0), to.map(|node| node.0));
        proto::Move { partition: partition.0.into(), from, to }
    };
    let moves = made.moves.into_iter().map(one).collect();
    proto::Moved { ring_version: made.ring_version, moves }
}

pub(super) fn moved_from_wire(moved: &proto::Moved) -> Result<Message, WireError> {
    let one = |made: &proto::Move| {
        let (from, to) = (made.from.map(NodeId), made.to.map(NodeId));
        Ok(Move { partition: partition_of(made.partition)?, from, to })
    };
    let moves = moved.moves.iter().map(one).collect::<Result<_, WireError>>()?;
    Ok(Message::Moved(MadeMoves { ring_version: moved.ring_version, moves }))
}

fn partition_of(number: u32) -> Result<PartitionId, WireError> {
    u16::try_from(number).map(PartitionId).map_err(|_| WireError::OutOfRange("a partition"))
}
