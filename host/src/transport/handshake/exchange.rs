//! The frames of a handshake on a stream, from both ends.

use bytes::Bytes;
use stator_core::holder::Holder;
use stator_core::id::{Incarnation, NodeId};
use stator_proto::peer::v1 as proto;
use tonic::Streaming;

use super::{Hello, Refusal, Role, prove};
use crate::transport::Shared;
use crate::transport::config::{HANDSHAKE_DEADLINE, Roster};
use crate::transport::holders::Place;
use crate::transport::outbox::Outbox;
use crate::transport::session::next_frame;
use crate::transport::wire::{WireError, fixed};
use proto::frame::Content;

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
    /// The peer sent something else than the handshake asks for.
    #[error("the peer does not keep to the handshake: {0}")]
    Malformed(#[from] WireError),
    /// The stream ended or broke.
    #[error("the stream broke during the handshake: {0}")]
    Broken(String),
    /// No connection came about.
    #[error("{0}")]
    Unreachable(String),
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

    /// What the peer is told before the stream ends.
    pub fn as_refusal(&self) -> Content {
        let reason = match self {
            HandshakeError::Refused(refusal) => refusal.to_string(),
            other => other.to_string(),
        };
        let process = match self {
            HandshakeError::Refused(Refusal::SecondHolder { holder, .. }) => Some(proto::Process {
                incarnation: holder.incarnation.0,
                peer_address: holder.peer_address.clone(),
                client_address: holder.client_address.clone(),
                admin_address: holder.admin_address.clone(),
            }),
            _ => None,
        };
        Content::Refusal(proto::Refusal { reason, process, passes: self.passes() })
    }
}

/// The dialer's side: `expected` was dialled at this place.
pub(in super::super) async fn dial(
    shared: &Shared,
    (expected, place): (NodeId, Place<'_>),
    inbound: &mut Streaming<proto::Frame>,
    outbox: &Outbox,
) -> Result<Hello, HandshakeError> {
    let roster = roster_of(shared)?;
    let ours = own_hello(shared, &roster)?;
    outbox.push_control(Content::Hello(ours.clone()));
    let theirs = expect_hello(inbound, shared).await?;
    let hello = Hello::decode(theirs.clone())?;
    hello.check(shared.me, &roster)?;
    if hello.node != expected {
        let found = hello.node;
        return Err(Refusal::OtherNode { expected, found }.into());
    }
    let proof = prove(&shared.config.secret, Role::Dialer, &ours, &theirs);
    outbox.push_control(proof_frame(proof));
    let proof = expect_proof(inbound, shared).await?;
    if !is_proven(shared, proof, Role::Acceptor, &ours, &theirs) {
        return Err(Refusal::WrongSecret(hello.node).into());
    }
    shared.answered(&hello, place)?;
    match next_content(inbound, shared).await? {
        Content::Welcome(_) => Ok(hello),
        _ => Err(WireError::Missing("a welcome").into()),
    }
}

/// The acceptor's side.
pub(in super::super) async fn accept(
    shared: &Shared,
    inbound: &mut Streaming<proto::Frame>,
    outbox: &Outbox,
) -> Result<Hello, HandshakeError> {
    let theirs = expect_hello(inbound, shared).await?;
    let hello = Hello::decode(theirs.clone())?;
    let roster = roster_of(shared)?;
    hello.check(shared.me, &roster)?;
    let ours = own_hello(shared, &roster)?;
    outbox.push_control(Content::Hello(ours.clone()));
    let proof = expect_proof(inbound, shared).await?;
    if !is_proven(shared, proof, Role::Dialer, &theirs, &ours) {
        return Err(Refusal::WrongSecret(hello.node).into());
    }
    let proof = prove(&shared.config.secret, Role::Acceptor, &theirs, &ours);
    // It may believe who answers at this address, whether it is let in or not.
    outbox.push_control(proof_frame(proof));
    shared.let_in(&hello)?;
    outbox.push_control(Content::Welcome(proto::Welcome {}));
    Ok(hello)
}

/// Whether `proof` holds under a secret that this node accepts.
fn is_proven(
    shared: &Shared,
    proof: blake3::Hash,
    role: Role,
    dialer: &[u8],
    acceptor: &[u8],
) -> bool {
    let mut secrets = shared.config.accepted_secrets();
    secrets.any(|secret| proof == prove(secret, role, dialer, acceptor))
}

fn roster_of(shared: &Shared) -> Result<std::sync::Arc<Roster>, Refusal> {
    shared.roster().ok_or(Refusal::NoCluster(shared.me))
}

fn own_hello(shared: &Shared, roster: &Roster) -> Result<Bytes, HandshakeError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|e| HandshakeError::NoRandomness(e.to_string()))?;
    Ok(Hello::new(shared.me, shared.own_process(), roster.cluster, nonce).encode())
}

fn proof_frame(proof: blake3::Hash) -> Content {
    Content::Proof(Bytes::copy_from_slice(proof.as_bytes()))
}

async fn expect_hello(
    inbound: &mut Streaming<proto::Frame>,
    shared: &Shared,
) -> Result<Bytes, HandshakeError> {
    match next_content(inbound, shared).await? {
        Content::Hello(bytes) => Ok(bytes),
        _ => Err(WireError::Missing("a hello").into()),
    }
}

async fn expect_proof(
    inbound: &mut Streaming<proto::Frame>,
    shared: &Shared,
) -> Result<blake3::Hash, HandshakeError> {
    match next_content(inbound, shared).await? {
        Content::Proof(bytes) => Ok(blake3::Hash::from_bytes(fixed(&bytes, "a proof")?)),
        _ => Err(WireError::Missing("a proof").into()),
    }
}

async fn next_content(
    inbound: &mut Streaming<proto::Frame>,
    shared: &Shared,
) -> Result<Content, HandshakeError> {
    let frame = next_frame(inbound, shared)
        .await
        .map_err(|status| HandshakeError::Broken(status.message().to_owned()))?
        .ok_or_else(|| HandshakeError::Broken("the peer ended it".to_owned()))?;
    match frame.content {
        Some(Content::Refusal(proto::Refusal { reason, process, passes })) => Err(match process {
            Some(process) => HandshakeError::HeldByAnother {
                reason,
                holder: Holder {
                    incarnation: Incarnation(process.incarnation),
                    peer_address: process.peer_address,
                    client_address: process.client_address,
                    admin_address: process.admin_address,
                },
            },
            None if passes => HandshakeError::NotNow(reason),
            None => HandshakeError::RefusedByPeer(reason),
        }),
        Some(content) => Ok(content),
        None => Err(WireError::Missing("a frame's content").into()),
    }
}
