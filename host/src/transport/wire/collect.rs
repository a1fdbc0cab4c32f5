//! Rounds of collection as protobuf and back.

use stator_core::collect::{Candidate, CollectAnswer, CollectAsk};
use stator_core::id::{KeyspaceId, NodeId, PartitionId};
use stator_core::message::{Message, RequestId};
use stator_core::tree::ObjectHash;
use stator_proto::peer::v1 as proto;

use super::message::PLAIN_BYTES;
use super::{WireError, fixed, required};
use proto::collect::Ask;
use proto::collect_reply::Result as Answer;

/// About how many bytes a step takes.
pub(super) fn ask_bytes(ask: &CollectAsk) -> usize {
    let candidates = match ask {
        CollectAsk::Mark(candidates)
        | CollectAsk::Seal { candidates, .. }
        | CollectAsk::Drop { candidates, .. } => candidates,
        CollectAsk::Clean | CollectAsk::Fence => return 0,
    };
    candidates.iter().map(|candidate| candidate.key.len() + PLAIN_BYTES).sum()
}

pub(super) fn ask_to_wire(
    request: RequestId,
    partition: PartitionId,
    scope: [u8; 32],
    ask: CollectAsk,
) -> proto::Collect {
    let ask = match ask {
        CollectAsk::Mark(candidates) => {
            Ask::Mark(proto::collect::Mark { candidates: candidates_to_wire(candidates) })
        }
        CollectAsk::Clean => Ask::Clean(proto::Nothing {}),
        CollectAsk::Fence => Ask::Fence(proto::Nothing {}),
        CollectAsk::Seal { life, arrivals, floors, candidates } => {
            let floor =
                |(node, epoch): (NodeId, u64)| proto::collect::Floor { node: node.0, epoch };
            Ask::Seal(proto::collect::Seal {
                life,
                arrivals,
                floors: floors.into_iter().map(floor).collect(),
                candidates: candidates_to_wire(candidates),
            })
        }
        CollectAsk::Drop { life, candidates } => {
            Ask::Drop(proto::collect::Drop { life, candidates: candidates_to_wire(candidates) })
        }
    };
    let scope = bytes::Bytes::copy_from_slice(&scope);
    proto::Collect { request, partition: partition.0.into(), scope, ask: Some(ask) }
}

pub(super) fn ask_from_wire(asked: proto::Collect) -> Result<Message, WireError> {
    let ask = match required(asked.ask, "a step of collection")? {
        Ask::Mark(mark) => CollectAsk::Mark(candidates_from_wire(mark.candidates)?),
        Ask::Clean(_) => CollectAsk::Clean,
        Ask::Fence(_) => CollectAsk::Fence,
        Ask::Seal(seal) => CollectAsk::Seal {
            life: seal.life,
            arrivals: seal.arrivals,
            floors: seal.floors.into_iter().map(|f| (NodeId(f.node), f.epoch)).collect(),
            candidates: candidates_from_wire(seal.candidates)?,
        },
        Ask::Drop(drop) => {
            CollectAsk::Drop { life: drop.life, candidates: candidates_from_wire(drop.candidates)? }
        }
    };
    Ok(Message::Collect {
        request: asked.request,
        partition: u16::try_from(asked.partition)
            .map(PartitionId)
            .map_err(|_| WireError::OutOfRange("a partition"))?,
        scope: fixed(&asked.scope, "what a round depends on")?,
        ask,
    })
}

pub(super) fn reply_to_wire(
    request: RequestId,
    result: Result<CollectAnswer, String>,
) -> proto::CollectReply {
    use proto::collect_reply::{Clean, Marked, Sealed};
    let result = match result {
        Err(reason) => Answer::Refused(reason),
        Ok(CollectAnswer::Marked { life, agreed, absent }) => {
            Answer::Marked(Marked { life, agreed, absent })
        }
        Ok(CollectAnswer::Clean { life, arrivals }) => Answer::Clean(Clean { life, arrivals }),
        Ok(CollectAnswer::Fenced { epoch }) => Answer::Fenced(epoch),
        Ok(CollectAnswer::Sealed { agreed }) => Answer::Sealed(Sealed { agreed }),
        Ok(CollectAnswer::Dropped { count }) => Answer::Dropped(count),
    };
    proto::CollectReply { request, result: Some(result) }
}

pub(super) fn reply_from_wire(reply: proto::CollectReply) -> Result<Message, WireError> {
    use proto::collect_reply::Marked;
    let result = match required(reply.result, "an answer to a step of collection")? {
        Answer::Refused(reason) => Err(reason),
        Answer::Marked(Marked { life, agreed, absent }) => {
            Ok(CollectAnswer::Marked { life, agreed, absent })
        }
        Answer::Clean(clean) => {
            Ok(CollectAnswer::Clean { life: clean.life, arrivals: clean.arrivals })
        }
        Answer::Fenced(epoch) => Ok(CollectAnswer::Fenced { epoch }),
        Answer::Sealed(sealed) => Ok(CollectAnswer::Sealed { agreed: sealed.agreed }),
        Answer::Dropped(count) => Ok(CollectAnswer::Dropped { count }),
    };
    Ok(Message::CollectReply { request: reply.request, result })
}

pub(super) fn clocks_to_wire(told: Vec<(NodeId, u64)>) -> proto::Clocks {
    let clock = |(node, passed_ms): (NodeId, u64)| proto::clocks::Clock { node: node.0, passed_ms };
    proto::Clocks { clocks: told.into_iter().map(clock).collect() }
}

pub(super) fn clocks_from_wire(told: proto::Clocks) -> Message {
    let clocks = told.clocks.into_iter();
    Message::Clocks(clocks.map(|clock| (NodeId(clock.node), clock.passed_ms)).collect())
}

fn candidates_to_wire(candidates: Vec<Candidate>) -> Vec<proto::Candidate> {
    let candidate = |candidate: Candidate| proto::Candidate {
        keyspace: candidate.keyspace.0,
        key: candidate.key,
        hash: bytes::Bytes::copy_from_slice(&candidate.hash.0.to_be_bytes()),
        is_deleted: candidate.is_deleted,
        was_absent: candidate.was_absent,
    };
    candidates.into_iter().map(candidate).collect()
}

fn candidates_from_wire(candidates: Vec<proto::Candidate>) -> Result<Vec<Candidate>, WireError> {
    let candidate = |candidate: proto::Candidate| {
        Ok(Candidate {
            keyspace: KeyspaceId(candidate.keyspace),
            key: candidate.key,
            hash: ObjectHash(u128::from_be_bytes(fixed(&candidate.hash, "an object's hash")?)),
            is_deleted: candidate.is_deleted,
            was_absent: candidate.was_absent,
        })
    };
    candidates.into_iter().map(candidate).collect()
}
