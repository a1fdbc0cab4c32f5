//! What nodes say to agree on a ring, as protobuf and back.

use std::sync::Arc;

use stator_core::agreement::{Answer, Ask, Ballot};
use stator_core::catalogue::Decision;
use stator_core::id::NodeId;
use stator_core::message::Message;
use stator_proto::peer::v1 as proto;

use super::{WireError, required};
use proto::ring_answer::Promised;
use proto::{ring_answer, ring_ask};

pub(super) fn ask_to_wire(ring_version: u64, ask: Ask<Arc<Decision>>) -> proto::RingAsk {
    let (ballot, ask) = match ask {
        Ask::Prepare(ballot) => (ballot, ring_ask::Ask::Prepare(proto::Nothing {})),
        Ask::Accept(ballot, decision) => {
            let accept = ring_ask::Accept { decision: decision.encode().into() };
            (ballot, ring_ask::Ask::Accept(accept))
        }
    };
    proto::RingAsk { ring_version, ballot: Some(ballot_to_wire(ballot)), ask: Some(ask) }
}

pub(super) fn ask_from_wire(wire: proto::RingAsk) -> Result<Message, WireError> {
    let ballot = ballot_from_wire(wire.ballot)?;
    let ask = match required(wire.ask, "what is asked about a ring")? {
        ring_ask::Ask::Prepare(_) => Ask::Prepare(ballot),
        ring_ask::Ask::Accept(accept) => Ask::Accept(ballot, decision(&accept.decision)?),
    };
    Ok(Message::RingAsk { ring_version: wire.ring_version, ask: Box::new(ask) })
}

pub(super) fn answer_to_wire(
    ring_version: u64,
    answer: Answer<Arc<Decision>>,
) -> proto::RingAnswer {
    let (ballot, answer) = match answer {
        Answer::Promised { ballot, accepted } => {
            let promised = match accepted {
                None => Promised::default(),
                Some((under, decision)) => Promised {
                    accepted: Some(ballot_to_wire(under)),
                    decision: decision.encode().into(),
                },
            };
            (ballot, ring_answer::Answer::Promised(promised))
        }
        Answer::Accepted { ballot } => (ballot, ring_answer::Answer::Accepted(proto::Nothing {})),
        Answer::Refused { ballot, promised } => {
            (ballot, ring_answer::Answer::Refused(ballot_to_wire(promised)))
        }
    };
    proto::RingAnswer { ring_version, ballot: Some(ballot_to_wire(ballot)), answer: Some(answer) }
}

pub(super) fn answer_from_wire(wire: proto::RingAnswer) -> Result<Message, WireError> {
    let ballot = ballot_from_wire(wire.ballot)?;
    let answer = match required(wire.answer, "what is answered about a ring")? {
        ring_answer::Answer::Promised(promised) => {
            let accepted = match promised.accepted {
                None => None,
                under => Some((ballot_from_wire(under)?, decision(&promised.decision)?)),
            };
            Answer::Promised { ballot, accepted }
        }
        ring_answer::Answer::Accepted(_) => Answer::Accepted { ballot },
        ring_answer::Answer::Refused(promised) => {
            Answer::Refused { ballot, promised: ballot_from_wire(Some(promised))? }
        }
    };
    Ok(Message::RingAnswer { ring_version: wire.ring_version, answer: Box::new(answer) })
}

fn ballot_to_wire(ballot: Ballot) -> proto::Ballot {
    proto::Ballot { round: ballot.round, node: ballot.node.0, nonce: ballot.nonce }
}

fn ballot_from_wire(ballot: Option<proto::Ballot>) -> Result<Ballot, WireError> {
    let ballot = required(ballot, "a ballot")?;
    Ok(Ballot { round: ballot.round, node: NodeId(ballot.node), nonce: ballot.nonce })
}

fn decision(bytes: &[u8]) -> Result<Arc<Decision>, WireError> {
    Decision::decode(bytes).map(Arc::new).map_err(WireError::Catalogue)
}
