//! Messages as protobuf and back.
//!
//! Objects, contexts and catalogues travel in the encodings that core defines, inside bytes
//! fields; everything else is a protobuf message of `stator.peer.v1`. Whatever bytes arrive,
//! reading them ends in a value or in a [`WireError`], never in a panic. A message that this
//! version does not know is an error: the handshake agreed on a version, so nobody sends one.

mod collect;
mod message;
mod request;
mod ring;
mod transfer;
mod tree;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use stator_core::codec::DecodeError;
use stator_core::id::{Actor, Dot, Incarnation, ModuleDigest, NodeId};
use stator_proto::peer::v1 as proto;

pub(super) use message::{charge, from_wire, to_wire, weight_bytes};

/// Bytes of a peer are not a message. The stream that they came by is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("{0} is missing or of a kind that this version does not know")]
    Missing(&'static str),
    #[error("{what} has {found} bytes, not {expected}")]
    Length { what: &'static str, found: usize, expected: usize },
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    #[error(transparent)]
    Value(#[from] DecodeError),
    #[error("{0}")]
    Catalogue(String),
}

pub(super) fn required<T>(value: Option<T>, what: &'static str) -> Result<T, WireError> {
    value.ok_or(WireError::Missing(what))
}

pub(super) fn fixed<const N: usize>(
    bytes: &Bytes,
    what: &'static str,
) -> Result<[u8; N], WireError> {
    <[u8; N]>::try_from(bytes.as_ref()).map_err(|_| WireError::Length {
        what,
        found: bytes.len(),
        expected: N,
    })
}

pub(super) fn digest_from_wire(bytes: &Bytes) -> Result<ModuleDigest, WireError> {
    fixed(bytes, "a module digest").map(ModuleDigest)
}

fn size(value: u64, what: &'static str) -> Result<usize, WireError> {
    usize::try_from(value).map_err(|_| WireError::OutOfRange(what))
}

fn dot_to_wire(dot: Dot) -> proto::Dot {
    proto::Dot {
        node: dot.actor.node.0,
        incarnation: dot.actor.incarnation.0,
        epoch: dot.actor.epoch,
        counter: dot.counter,
    }
}

fn dot_from_wire(dot: proto::Dot) -> Result<Dot, WireError> {
    if dot.counter == 0 {
        return Err(WireError::OutOfRange("a dot's counter"));
    }
    let actor = Actor {
        node: NodeId(dot.node),
        incarnation: Incarnation(dot.incarnation),
        epoch: dot.epoch,
    };
    Ok(Dot { actor, counter: dot.counter })
}
