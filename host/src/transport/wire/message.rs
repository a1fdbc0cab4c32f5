//! [`Message`] as protobuf and back.

use std::sync::Arc;

use stator_core::catalogue::Catalogue;
use stator_core::causality::Siblings;
use stator_core::id::{KeyspaceId, NodeId};
use stator_core::message::{Message, ReplicaError, ReplicaWrite};
use stator_proto::peer::v1 as proto;

use crate::budget::{ByteBudget, NoRoom};

use super::request::{error_from_wire, error_to_wire, put_from_wire, put_to_wire};
use super::{
    WireError, collect, dot_from_wire, dot_to_wire, fixed, required, ring, transfer, tree,
};
use proto::message::Body;
use proto::{forward_reply, read_reply, replica_error};

/// What a message without an object counts for in a queue.
pub(super) const PLAIN_BYTES: usize = 128;
/// What a catalogue counts for: measuring it would mean to encode it, and few are larger.
const CATALOGUE_BYTES: usize = 64 << 10;

/// About how many bytes the message takes, without encoding it.
pub(in super::super) fn weight_bytes(message: &Message) -> usize {
    let content = match message {
        Message::Read { key, .. } => key.len(),
        Message::ReadReply { result, .. } => match result {
            Ok(Some(siblings)) => siblings.weight_bytes(),
            _ => 0,
        },
        Message::Write(write) => write.key.len() + write.siblings.weight_bytes(),
        Message::Forward { put, .. } => {
            let labels: usize = put.draft.labels.iter().map(|(k, v)| k.len() + v.len()).sum();
            put.key.len()
                + put.draft.payload.value().map_or(0, bytes::Bytes::len)
                + put.context.vector.len() * 24
                + labels
        }
        Message::ForwardReply { result, .. } => {
            result.as_ref().map_or(0, |(_, siblings)| siblings.weight_bytes())
        }
        Message::TreeRead { read, .. } => tree::read_bytes(read),
        Message::Moved(made) => transfer::moves_bytes(made),
        Message::TreeReply { result, .. } => result.as_ref().map_or(0, tree::answer_bytes),
        Message::CompareReply { result, .. } => result.as_ref().map_or(0, tree::comparison_bytes),
        // A decision holds a ring, most of a catalogue.
        Message::Catalogue { .. } | Message::RingAsk { .. } | Message::RingAnswer { .. } => {
            CATALOGUE_BYTES
        }
        Message::Collect { ask, .. } => collect::ask_bytes(ask),
        Message::Clocks(clocks) => clocks.len() * 16,
        Message::TransferAsk { .. }
        | Message::TransferAnswer { .. }
        | Message::Compare { .. }
        | Message::CollectReply { .. }
        | Message::WriteReply { .. }
        | Message::CatalogueDigest { .. } => 0,
    };
    PLAIN_BYTES + content
}

/// The message as it travels.
pub(in super::super) fn to_wire(message: Message) -> proto::Message {
    let body = match message {
        Message::Read { request, keyspace, key, ring_version, is_fallback } => {
            Body::Read(proto::Read {
                request,
                keyspace: keyspace.0,
                key,
                ring_version,
                is_fallback,
            })
        }
        Message::ReadReply { request, result } => Body::ReadReply(proto::ReadReply {
            request,
            result: Some(match result {
                Ok(None) => read_reply::Result::Absent(proto::Nothing {}),
                Ok(Some(siblings)) => read_reply::Result::Siblings(encode(&siblings)),
                Err(error) => read_reply::Result::Error(replica_error_to_wire(error)),
            }),
        }),
        Message::Write(write) => Body::Write(write_to_wire(write)),
        Message::WriteReply { request, result } => Body::WriteReply(proto::WriteReply {
            request,
            error: result.err().map(replica_error_to_wire),
        }),
        Message::Forward { request, put } => {
            Body::Forward(proto::Forward { request, put: Some(put_to_wire(put)) })
        }
        Message::ForwardReply { request, result } => Body::ForwardReply(proto::ForwardReply {
            request,
            result: Some(match result {
                Ok((dot, siblings)) => forward_reply::Result::Lent(proto::Lent {
                    dot: Some(dot_to_wire(dot)),
                    object: encode(&siblings),
                }),
                Err(error) => forward_reply::Result::Error(error_to_wire(error)),
            }),
        }),
        Message::TreeRead { request, ring_version, is_fill, read } => {
            Body::TreeRead(tree::read_to_wire(request, (ring_version, is_fill), read))
        }
        Message::TreeReply { request, result } => {
            Body::TreeReply(tree::reply_to_wire(request, result))
        }
        Message::Collect { request, partition, scope, ask } => {
            Body::Collect(collect::ask_to_wire(request, partition, scope, ask))
        }
        Message::CollectReply { request, result } => {
            Body::CollectReply(collect::reply_to_wire(request, result))
        }
        Message::Compare { request, partition, peer, keyspace } => Body::Compare(proto::Compare {
            request,
            peer: peer.0,
            partition: partition.0.into(),
            keyspace: keyspace.map(|keyspace| keyspace.0),
        }),
        Message::CompareReply { request, result } => {
            Body::CompareReply(tree::compare_reply_to_wire(request, result))
        }
        Message::TransferAsk { request, ring_version, partition, step } => {
            Body::TransferAsk(transfer::ask_to_wire(request, ring_version, partition, step))
        }
        Message::TransferAnswer { request, result } => {
            Body::TransferAnswer(transfer::answer_to_wire(request, result))
        }
        Message::Moved(made) => Body::Moved(transfer::moved_to_wire(made)),
        Message::Clocks(told) => Body::Clocks(collect::clocks_to_wire(told)),
        Message::CatalogueDigest { digest } => {
            Body::CatalogueDigest(bytes::Bytes::copy_from_slice(&digest))
        }
        Message::Catalogue { catalogue, is_reply_wanted } => Body::Catalogue(proto::Catalogue {
            catalogue: catalogue.encode().into(),
            is_reply_wanted,
        }),
        Message::RingAsk { ring_version, ask } => {
            Body::RingAsk(ring::ask_to_wire(ring_version, *ask))
        }
        Message::RingAnswer { ring_version, answer } => {
            Body::RingAnswer(ring::answer_to_wire(ring_version, *answer))
        }
    };
    proto::Message { body: Some(body) }
}

/// The message that travelled.
pub(in super::super) fn from_wire(message: proto::Message) -> Result<Message, WireError> {
    Ok(match required(message.body, "a message's body")? {
        Body::Read(read) => Message::Read {
            request: read.request,
            keyspace: KeyspaceId(read.keyspace),
            key: read.key,
            ring_version: read.ring_version,
            is_fallback: read.is_fallback,
        },
        Body::ReadReply(reply) => Message::ReadReply {
            request: reply.request,
            result: match required(reply.result, "a read's result")? {
                read_reply::Result::Absent(_) => Ok(None),
                read_reply::Result::Siblings(bytes) => Ok(Some(decode(bytes)?)),
                read_reply::Result::Error(error) => Err(replica_error_from_wire(error)?),
            },
        },
        Body::Write(write) => Message::Write(write_from_wire(write)?),
        Body::WriteReply(reply) => Message::WriteReply {
            request: reply.request,
            result: match reply.error {
                None => Ok(()),
                Some(error) => Err(replica_error_from_wire(error)?),
            },
        },
        Body::Forward(forward) => Message::Forward {
            request: forward.request,
            put: put_from_wire(required(forward.put, "a forwarded put")?)?,
        },
        Body::ForwardReply(reply) => Message::ForwardReply {
            request: reply.request,
            result: match required(reply.result, "a forward's result")? {
                forward_reply::Result::Lent(lent) => {
                    let dot = dot_from_wire(required(lent.dot, "a lent dot")?)?;
                    Ok((dot, decode(lent.object)?))
                }
                forward_reply::Result::Error(error) => Err(error_from_wire(error)?),
            },
        },
        Body::TreeRead(read) => tree::read_from_wire(read)?,
        Body::TreeReply(reply) => tree::reply_from_wire(reply)?,
        Body::Collect(ask) => collect::ask_from_wire(ask)?,
        Body::CollectReply(reply) => collect::reply_from_wire(reply)?,
        Body::Clocks(told) => collect::clocks_from_wire(told),
        Body::Compare(compare) => tree::compare_from_wire(compare)?,
        Body::CompareReply(reply) => tree::compare_reply_from_wire(reply)?,
        Body::TransferAsk(ask) => transfer::ask_from_wire(ask)?,
        Body::TransferAnswer(answer) => transfer::answer_from_wire(answer)?,
        Body::Moved(moved) => transfer::moved_from_wire(&moved)?,
        Body::CatalogueDigest(digest) => {
            Message::CatalogueDigest { digest: fixed(&digest, "a catalogue's digest")? }
        }
        Body::RingAsk(ask) => ring::ask_from_wire(ask)?,
        Body::RingAnswer(answer) => ring::answer_from_wire(answer)?,
        Body::Catalogue(state) => {
            let catalogue = Catalogue::decode(&state.catalogue).map_err(WireError::Catalogue)?;
            Message::Catalogue {
                catalogue: Arc::new(catalogue),
                is_reply_wanted: state.is_reply_wanted,
            }
        }
    })
}

pub(super) fn encode(siblings: &Siblings) -> bytes::Bytes {
    let mut out = Vec::with_capacity(siblings.weight_bytes() + PLAIN_BYTES);
    siblings.encode(&mut out);
    out.into()
}

pub(super) fn decode(bytes: bytes::Bytes) -> Result<Arc<Siblings>, WireError> {
    Ok(Arc::new(Siblings::decode(bytes)?))
}

fn write_to_wire(write: ReplicaWrite) -> proto::Write {
    proto::Write {
        request: write.request,
        keyspace: write.keyspace.0,
        key: write.key,
        ring_version: write.ring_version,
        siblings: encode(&write.siblings),
        hint_for: write.hint_for.into_iter().map(|node| node.0).collect(),
        is_sync: write.is_sync,
        epoch: write.epoch,
        is_background: write.is_background,
    }
}

fn write_from_wire(write: proto::Write) -> Result<ReplicaWrite, WireError> {
    Ok(ReplicaWrite {
        request: write.request,
        keyspace: KeyspaceId(write.keyspace),
        key: write.key,
        ring_version: write.ring_version,
        siblings: decode(write.siblings)?,
        hint_for: write.hint_for.into_iter().map(NodeId).collect(),
        is_sync: write.is_sync,
        epoch: write.epoch,
        is_background: write.is_background,
    })
}

/// Charges the value that a replica answers with, or says in its place that there is no room.
pub(in crate::transport) fn charge(message: &mut proto::Message, reads: &ByteBudget) {
    let Some(Body::ReadReply(reply)) = &mut message.body else { return };
    let Some(read_reply::Result::Siblings(value)) = &mut reply.result else { return };
    match reads.charge(std::mem::take(value)) {
        Ok(charged) => *value = charged,
        Err(NoRoom { bytes_max }) => {
            let error = replica_error_to_wire(ReplicaError::NoRoom { bytes_max });
            reply.result = Some(read_reply::Result::Error(error));
        }
    }
}

pub(super) fn replica_error_to_wire(error: ReplicaError) -> proto::ReplicaError {
    use replica_error::Kind;
    let kind = match error {
        ReplicaError::UnknownKeyspace => Kind::UnknownKeyspace(proto::Nothing {}),
        ReplicaError::NotOwner { ring_version } => Kind::NotOwner(ring_version),
        ReplicaError::Damaged => Kind::Damaged(proto::Nothing {}),
        ReplicaError::Filling => Kind::Filling(proto::Nothing {}),
        ReplicaError::Store(said) => Kind::Store(said),
        ReplicaError::NotMember => Kind::NotMember(proto::Nothing {}),
        ReplicaError::StaleEpoch { floor } => Kind::StaleEpoch(floor),
        ReplicaError::NoRoom { bytes_max } => Kind::NoRoom(bytes_max),
    };
    proto::ReplicaError { kind: Some(kind) }
}

pub(super) fn replica_error_from_wire(
    error: proto::ReplicaError,
) -> Result<ReplicaError, WireError> {
    use replica_error::Kind;
    Ok(match required(error.kind, "a replica's error")? {
        Kind::UnknownKeyspace(_) => ReplicaError::UnknownKeyspace,
        Kind::NotOwner(ring_version) => ReplicaError::NotOwner { ring_version },
        Kind::Damaged(_) => ReplicaError::Damaged,
        Kind::Filling(_) => ReplicaError::Filling,
        Kind::Store(said) => ReplicaError::Store(said),
        Kind::NotMember(_) => ReplicaError::NotMember,
        Kind::StaleEpoch(floor) => ReplicaError::StaleEpoch { floor },
        Kind::NoRoom(bytes_max) => ReplicaError::NoRoom { bytes_max },
    })
}
