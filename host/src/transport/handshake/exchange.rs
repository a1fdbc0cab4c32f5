//! The frames of a handshake, from both ends.

use std::io;

use bytes::Bytes;
use stator_core::codec::DecodeError;
use stator_core::holder::{Holder, Where};
use stator_core::id::NodeId;
use stator_core::wire::{decode, encode};

use super::{Hello, Opening, Refusal, Role, Spoken, nonce, prove};
use crate::transport::Shared;
use crate::transport::config::{HANDSHAKE_DEADLINE, Roster};
use crate::transport::frame::{self, Frame, Link};

/// A handshake that did not end in a session. Nothing was exchanged.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum HandshakeError {
    /// This node refuses.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The peer refuses, in its words.
    #[error("the peer refuses: {0}")]
    RefusedByPeer(String),
    /// The peer refuses because another process is this node.
    #[error("the peer refuses: {reason}")]
    HeldByAnother {
        /// Its words.
        reason: String,
        /// The other process.
        holder: Holder,
    },
    /// The peer refuses for now.
    #[error("the peer refuses for now: {0}")]
    NotNow(String),
    /// The peer sent something that is no frame.
    #[error("the peer does not keep to the handshake: {0}")]
    Malformed(#[from] DecodeError),
    /// The peer sent something else than the handshake asks for.
    #[error("the peer does not keep to the handshake: {0} is missing")]
    Missing(&'static str),
    /// The connection ended or broke.
    #[error("the connection broke during the handshake: {0}")]
    Broken(#[from] io::Error),
    /// No connection came about.
    #[error("{0}")]
    Unreachable(io::Error),
    /// The peer did not answer in time.
    #[error("the peer did not answer within {} ms", HANDSHAKE_DEADLINE.as_millis())]
    TooSlow,
    /// This node has no randomness.
    #[error("the system gave no random bytes: {0}")]
    NoRandomness(String),
}

impl HandshakeError {
    /// Whether one of the two nodes will not talk to the other.
    pub fn is_refusal(&self) -> bool {
        use HandshakeError::{HeldByAnother, Refused, RefusedByPeer};
        matches!(self, Refused(_) | RefusedByPeer(_) | HeldByAnother { .. }) && !self.passes()
    }

    /// Whether there is nothing to be said of it, because it passes by itself.
    pub fn passes(&self) -> bool {
        use HandshakeError::{NotNow, Refused};
        matches!(self, NotNow(_) | Refused(Refusal::Connected(_) | Refusal::NotKnownYet(_)))
    }

    /// What the peer is told before the end.
    pub fn as_refusal(&self) -> Frame {
        let reason = match self {
            HandshakeError::Refused(refusal) => refusal.to_string(),
            other => other.to_string(),
        };
        let process = match self {
            HandshakeError::Refused(Refusal::SecondHolder { holder, .. }) => Some(holder.clone()),
            _ => None,
        };
        Frame::Refusal(frame::Refusal { reason, process, passes: self.passes() })
    }
}

impl From<frame::Refusal> for HandshakeError {
    fn from(refusal: frame::Refusal) -> Self {
        let frame::Refusal { reason, process, passes } = refusal;
        match process {
            Some(holder) => HandshakeError::HeldByAnother { reason, holder },
            None if passes => HandshakeError::NotNow(reason),
            None => HandshakeError::RefusedByPeer(reason),
        }
    }
}

/// The dialer's side: `expected` was dialled at this place.
pub(in super::super) async fn dial(
    shared: &Shared,
    (expected, place): (NodeId, Where<'_>),
    link: &mut Link,
) -> Result<Hello, HandshakeError> {
    let roster = roster_of(shared)?;
    let ours = own_hello(shared, &roster)?;
    say(shared, link, Frame::Hello(ours.clone())).await?;
    let Frame::Hello(theirs) = next(shared, link).await? else {
        return Err(HandshakeError::Missing("a hello"));
    };
    let hello: Hello = decode(theirs.clone(), "a hello")?;
    hello.check(shared.me, &roster)?;
    if hello.node != expected {
        let found = hello.node;
        return Err(Refusal::OtherNode { expected, found }.into());
    }
    prove_to(shared, link, &shared.config.secret, Role::Dialer, (&ours, &theirs)).await?;
    if proven(shared, link, Role::Acceptor, (&ours, &theirs)).await?.is_none() {
        return Err(Refusal::WrongSecret(hello.node).into());
    }
    link.trust();
    shared.answered(&hello, place)?;
    welcomed(shared, link).await?;
    say(shared, link, Frame::Welcome).await?;
    Ok(hello)
}

/// The acceptor's side, after the dialer's hello.
pub(in super::super) async fn accept(
    shared: &Shared,
    theirs: Bytes,
    link: &mut Link,
) -> Result<Hello, HandshakeError> {
    let hello: Hello = decode(theirs.clone(), "a hello")?;
    let roster = roster_of(shared)?;
    hello.check(shared.me, &roster)?;
    let ours = own_hello(shared, &roster)?;
    say(shared, link, Frame::Hello(ours.clone())).await?;
    if proven(shared, link, Role::Dialer, (&theirs, &ours)).await?.is_none() {
        return Err(Refusal::WrongSecret(hello.node).into());
    }
    link.trust();
    // It may believe who answers at this address, whether it is let in or not.
    prove_to(shared, link, &shared.config.secret, Role::Acceptor, (&theirs, &ours)).await?;
    shared.let_in(&hello)?;
    say(shared, link, Frame::Welcome).await?;
    // The dialler may have found another process than it looked for: then this one is not accepted.
    welcomed(shared, link).await?;
    Ok(hello)
}

async fn welcomed(shared: &Shared, link: &mut Link) -> Result<(), HandshakeError> {
    match next(shared, link).await? {
        Frame::Welcome => Ok(()),
        _ => Err(HandshakeError::Missing("a welcome")),
    }
}

/// The caller's side of a call.
pub(in super::super) async fn call(shared: &Shared, link: &mut Link) -> Result<(), HandshakeError> {
    let ours = encode(&Opening { spoken: Spoken::OURS, nonce: nonce()? });
    say(shared, link, Frame::Call(ours.clone())).await?;
    let Frame::Call(theirs) = next(shared, link).await? else {
        return Err(HandshakeError::Missing("an opening"));
    };
    understood(&theirs)?;
    let secret = &shared.config.secret;
    prove_to(shared, link, secret, Role::Caller, (&ours, &theirs)).await?;
    match proven(shared, link, Role::Called, (&ours, &theirs)).await {
        Ok(Some(found)) if found == secret => {
            link.trust();
            Ok(())
        }
        // There is no other reason to refuse a proof.
        Ok(_) | Err(HandshakeError::RefusedByPeer(_)) => Err(Refusal::OtherSecret.into()),
        Err(error) => Err(error),
    }
}

/// The other side of a call, after the caller's opening.
pub(in super::super) async fn answer(
    shared: &Shared,
    theirs: Bytes,
    link: &mut Link,
) -> Result<(), HandshakeError> {
    understood(&theirs)?;
    let ours = encode(&Opening { spoken: Spoken::OURS, nonce: nonce()? });
    say(shared, link, Frame::Call(ours.clone())).await?;
    let Some(secret) = proven(shared, link, Role::Caller, (&theirs, &ours)).await? else {
        return Err(Refusal::OtherSecret.into());
    };
    link.trust();
    prove_to(shared, link, secret, Role::Called, (&theirs, &ours)).await
}

fn understood(opening: &Bytes) -> Result<(), HandshakeError> {
    let Opening { spoken, .. } = decode(opening.clone(), "an opening")?;
    match spoken.is_understood() {
        true => Ok(()),
        false => Err(Refusal::NoCommonCall { min: spoken.min, max: spoken.max }.into()),
    }
}

fn roster_of(shared: &Shared) -> Result<std::sync::Arc<Roster>, Refusal> {
    shared.roster().ok_or(Refusal::NoCluster(shared.me))
}

fn own_hello(shared: &Shared, roster: &Roster) -> Result<Bytes, HandshakeError> {
    Ok(encode(&Hello::new(shared.me, shared.own_process(), roster.cluster, nonce()?)))
}

/// Says a frame; while this node is isolated, it is lost.
async fn say(shared: &Shared, link: &mut Link, frame: Frame) -> Result<(), HandshakeError> {
    if shared.is_isolated() {
        shared.count_dropped();
        return Ok(());
    }
    Ok(link.writer.send(&frame).await?)
}

async fn prove_to(
    shared: &Shared,
    link: &mut Link,
    secret: &[u8; 32],
    role: Role,
    (first, second): (&[u8], &[u8]),
) -> Result<(), HandshakeError> {
    let proof = prove(secret, role, first, second);
    say(shared, link, Frame::Proof(*proof.as_bytes())).await
}

/// The secret, of those that this node accepts, that the other side proves to know.
async fn proven<'a>(
    shared: &'a Shared,
    link: &mut Link,
    role: Role,
    (first, second): (&[u8], &[u8]),
) -> Result<Option<&'a [u8; 32]>, HandshakeError> {
    let Frame::Proof(proof) = next(shared, link).await? else {
        return Err(HandshakeError::Missing("a proof"));
    };
    let proof = blake3::Hash::from_bytes(proof);
    let mut secrets = shared.config.accepted_secrets();
    Ok(secrets.find(|secret| proof == prove(secret, role, first, second)))
}

/// The next frame of the other side; while this node is isolated, none arrives.
pub(in super::super) async fn next(
    shared: &Shared,
    link: &mut Link,
) -> Result<Frame, HandshakeError> {
    loop {
        let Some(bytes) = link.reader.next().await? else {
            return Err(HandshakeError::Broken(io::Error::other("the peer ended it")));
        };
        if shared.is_isolated() {
            shared.count_dropped();
            continue;
        }
        match Frame::decode(bytes)? {
            Frame::Refusal(refusal) => return Err(refusal.into()),
            frame => return Ok(frame),
        }
    }
}
