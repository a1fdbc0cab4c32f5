//! Forwarded puts and their errors as protobuf and back.

use bytes::Bytes;
use stator_core::catalogue::Durability;
use stator_core::causality::Context;
use stator_core::codec::Reader;
use stator_core::id::KeyspaceId;
use stator_core::request::{Effect, PutRequest, QuorumKind, RequestError};
use stator_core::version::{Payload, RequestName};
use stator_core::write::{Draft, SiblingLimits, WriteRefused};
use stator_proto::peer::v1 as proto;

use super::{WireError, dot_from_wire, dot_to_wire, fixed, required, size};
use proto::request_error::Kind;
use proto::request_error::{
    BadQuorum, PartlyFolded, QuorumNotReached, SiblingLimit, Store, TooFewNodes,
};

fn context_to_wire(context: &Context) -> Bytes {
    let mut out = Vec::new();
    context.encode(&mut out);
    out.into()
}

fn context_from_wire(bytes: Bytes) -> Result<Context, WireError> {
    let mut reader = Reader::new(bytes, "context");
    let context = Context::decode(&mut reader)?;
    if reader.is_empty() {
        Ok(context)
    } else {
        Err(reader.invalid("it has bytes left over").into())
    }
}

pub(super) fn put_to_wire(put: PutRequest) -> proto::Put {
    proto::Put {
        keyspace: put.keyspace.0,
        key: put.key,
        context: context_to_wire(&put.context),
        value: match put.draft.payload {
            Payload::Value(value) => Some(value),
            Payload::Tombstone => None,
        },
        schema: put.draft.schema,
        ttl_ms: put.draft.ttl_ms,
        labels: put.draft.labels,
        request: put.draft.request.map(|name| proto::RequestName {
            id: name.id,
            fingerprint: Bytes::copy_from_slice(&name.fingerprint),
        }),
        w: put.w,
        is_strict: put.quorum == QuorumKind::Strict,
        durability: match put.durability {
            None => proto::Durability::Unspecified,
            Some(Durability::All) => proto::Durability::All,
            Some(Durability::One) => proto::Durability::One,
            Some(Durability::Buffered) => proto::Durability::Buffered,
        }
        .into(),
        siblings_max: put.limits.siblings_max as u64,
        siblings_bytes_max: put.limits.siblings_bytes_max as u64,
        timeout_ms: put.timeout_ms,
    }
}

fn name_from_wire(name: proto::RequestName) -> Result<RequestName, WireError> {
    Ok(RequestName { id: name.id, fingerprint: fixed(&name.fingerprint, "a fingerprint")? })
}

pub(super) fn put_from_wire(put: proto::Put) -> Result<PutRequest, WireError> {
    let durability = match proto::Durability::try_from(put.durability) {
        Ok(proto::Durability::Unspecified) => None,
        Ok(proto::Durability::All) => Some(Durability::All),
        Ok(proto::Durability::One) => Some(Durability::One),
        Ok(proto::Durability::Buffered) => Some(Durability::Buffered),
        Err(_) => return Err(WireError::OutOfRange("a put's durability")),
    };
    Ok(PutRequest {
        keyspace: KeyspaceId(put.keyspace),
        key: put.key,
        context: context_from_wire(put.context)?,
        draft: Draft {
            payload: put.value.map_or(Payload::Tombstone, Payload::Value),
            schema: put.schema,
            ttl_ms: put.ttl_ms,
            labels: put.labels,
            request: put.request.map(name_from_wire).transpose()?,
        },
        w: put.w,
        quorum: match put.is_strict {
            true => QuorumKind::Strict,
            false => QuorumKind::Sloppy,
        },
        durability,
        limits: SiblingLimits {
            siblings_max: size(put.siblings_max, "a sibling limit")?,
            siblings_bytes_max: size(put.siblings_bytes_max, "a sibling limit")?,
        },
        timeout_ms: put.timeout_ms,
    })
}

pub(super) fn error_to_wire(error: RequestError) -> proto::RequestError {
    let kind = match error {
        RequestError::NoCluster => Kind::NoCluster(proto::Nothing {}),
        RequestError::UnknownKeyspace(keyspace) => Kind::UnknownKeyspace(keyspace.0),
        RequestError::BadQuorum { name, found, n } => {
            Kind::BadQuorum(BadQuorum { name: quorum_name_to_wire(name), found, n })
        }
        RequestError::TooFewNodes { name, needed, owners } => {
            Kind::TooFewNodes(TooFewNodes { name: quorum_name_to_wire(name), needed, owners })
        }
        RequestError::QuorumNotReached { needed, answered, effect } => {
            Kind::QuorumNotReached(QuorumNotReached {
                needed,
                answered,
                effect: effect_to_wire(effect),
            })
        }
        RequestError::Refused(WriteRefused::TooManySiblings { found, max }) => {
            Kind::TooManySiblings(sibling_limit(found, max))
        }
        RequestError::Refused(WriteRefused::SiblingsTooLarge { found, max }) => {
            Kind::SiblingsTooLarge(sibling_limit(found, max))
        }
        RequestError::Refused(WriteRefused::TooManyWrites { found, max }) => {
            Kind::TooManyWrites(sibling_limit(found, max))
        }
        RequestError::Refused(WriteRefused::TooManyExpired { found, bytes }) => {
            Kind::TooManyExpired(sibling_limit(found, bytes))
        }
        RequestError::Refused(WriteRefused::PartlyFolded { seen, inputs }) => {
            Kind::PartlyFolded(PartlyFolded { seen: seen as u64, inputs: inputs as u64 })
        }
        RequestError::Expired => {
            let effect = effect_to_wire(Effect::None);
            Kind::Store(Store { reason: error.to_string(), effect })
        }
        // A client's write is never refused for this.
        RequestError::Refused(refused @ WriteRefused::NotAsMarked) => {
            let effect = effect_to_wire(Effect::None);
            Kind::Store(Store { reason: refused.to_string(), effect })
        }
        RequestError::Removed { ring_version } => Kind::Removed(ring_version),
        // For clients only: who has a session with a member is the holder.
        refused @ (RequestError::NotAccepted | RequestError::SecondHolder { .. }) => {
            let effect = effect_to_wire(Effect::None);
            Kind::Store(Store { reason: refused.to_string(), effect })
        }
        RequestError::NoRoom { bytes_max } => Kind::NoRoom(bytes_max),
        RequestError::RequestReused(dot)
        | RequestError::Refused(WriteRefused::RequestReused(dot)) => {
            Kind::RequestReused(dot_to_wire(dot))
        }
        RequestError::Store { reason, effect } => {
            Kind::Store(Store { reason, effect: effect_to_wire(effect) })
        }
    };
    proto::RequestError { kind: Some(kind) }
}

pub(super) fn error_from_wire(error: proto::RequestError) -> Result<RequestError, WireError> {
    Ok(match required(error.kind, "a request's error")? {
        Kind::NoCluster(_) => RequestError::NoCluster,
        Kind::UnknownKeyspace(keyspace) => RequestError::UnknownKeyspace(KeyspaceId(keyspace)),
        Kind::BadQuorum(error) => RequestError::BadQuorum {
            name: quorum_name_from_wire(error.name)?,
            found: error.found,
            n: error.n,
        },
        Kind::TooFewNodes(error) => RequestError::TooFewNodes {
            name: quorum_name_from_wire(error.name)?,
            needed: error.needed,
            owners: error.owners,
        },
        Kind::QuorumNotReached(error) => RequestError::QuorumNotReached {
            needed: error.needed,
            answered: error.answered,
            effect: effect_from_wire(error.effect)?,
        },
        Kind::TooManySiblings(SiblingLimit { found, max }) => {
            RequestError::Refused(WriteRefused::TooManySiblings {
                found: size(found, "a sibling count")?,
                max: size(max, "a sibling limit")?,
            })
        }
        Kind::SiblingsTooLarge(SiblingLimit { found, max }) => {
            RequestError::Refused(WriteRefused::SiblingsTooLarge {
                found: size(found, "a length of siblings")?,
                max: size(max, "a sibling limit")?,
            })
        }
        Kind::TooManyWrites(SiblingLimit { found, max }) => {
            RequestError::Refused(WriteRefused::TooManyWrites {
                found: size(found, "a count of writes")?,
                max: size(max, "a limit of writes")?,
            })
        }
        Kind::TooManyExpired(SiblingLimit { found, max }) => {
            RequestError::Refused(WriteRefused::TooManyExpired {
                found: size(found, "a count of versions")?,
                bytes: size(max, "a length of versions")?,
            })
        }
        Kind::PartlyFolded(PartlyFolded { seen, inputs }) => {
            RequestError::Refused(WriteRefused::PartlyFolded {
                seen: size(seen, "a count of writes")?,
                inputs: size(inputs, "a count of writes")?,
            })
        }
        Kind::Removed(ring_version) => RequestError::Removed { ring_version },
        Kind::NoRoom(bytes_max) => RequestError::NoRoom { bytes_max },
        Kind::RequestReused(dot) => RequestError::RequestReused(dot_from_wire(dot)?),
        Kind::Store(error) => {
            RequestError::Store { reason: error.reason, effect: effect_from_wire(error.effect)? }
        }
    })
}

fn sibling_limit(found: usize, max: usize) -> SiblingLimit {
    SiblingLimit { found: found as u64, max: max as u64 }
}

/// Core names quorums by `r` and `w` only.
fn quorum_name_to_wire(name: &str) -> i32 {
    match name {
        "r" => proto::QuorumName::R.into(),
        _ => proto::QuorumName::W.into(),
    }
}

fn quorum_name_from_wire(name: i32) -> Result<&'static str, WireError> {
    match proto::QuorumName::try_from(name) {
        Ok(proto::QuorumName::R) => Ok("r"),
        Ok(proto::QuorumName::W) => Ok("w"),
        _ => Err(WireError::OutOfRange("a quorum's name")),
    }
}

fn effect_to_wire(effect: Effect) -> i32 {
    match effect {
        Effect::None => proto::Effect::None.into(),
        Effect::Maybe => proto::Effect::Maybe.into(),
    }
}

fn effect_from_wire(effect: i32) -> Result<Effect, WireError> {
    match proto::Effect::try_from(effect) {
        Ok(proto::Effect::None) => Ok(Effect::None),
        Ok(proto::Effect::Maybe) => Ok(Effect::Maybe),
        _ => Err(WireError::OutOfRange("a request's effect")),
    }
}
