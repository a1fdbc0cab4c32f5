//! The handshake: whether two nodes talk, decided before they do.
//!
//! The dialer sends its hello. The acceptor checks it and answers with its own; the dialer checks
//! that and proves itself, and then the acceptor does. Both say welcome last, the acceptor first: no
//! side takes itself for accepted by one that refuses it. So who connects from anywhere gets nothing
//! with which secrets could be tried; who is dialled does, but nodes dial only where members are
//! said to be. A proof is BLAKE3, keyed by the cluster secret, over
//! the prover's role and both hellos as they travelled: the nonces make it good for this
//! handshake only, the role keeps it from being sent back, or to a handshake of another kind. A side
//! that will not go on sends a [`Refusal`] in words, and both log it.
//!
//! Who calls without being a member (`setup.rs`) says no more than its [`Opening`], and hears no
//! more than one, until it has proved itself.
//!
//! Nothing is learnt from a hello before its proof holds. What each side must be:
//! a member of the same cluster, another node than this, in a protocol version that both speak.
//!
//! While a cluster changes its secret each side proves its own and accepts those of before as
//! well; a caller is answered under the one that it proved, because it may know no other yet. Encryption is TLS' matter, below this: the proof is given inside of it.

mod exchange;

use stator_core::catalogue::FEATURE_LEVEL;
use stator_core::holder::Holder;
use stator_core::id::{ClusterId, NodeId};
use stator_core::wire_structs;

pub(super) use exchange::{HandshakeError, accept, answer, call, dial, next};

use super::config::{PROTOCOL_MAX, PROTOCOL_MIN, Roster};

/// Why a node will not talk to another. Nothing was exchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The refusing node belongs to no cluster yet.
    #[error("node {0} belongs to no cluster yet")]
    NoCluster(NodeId),
    /// The other node belongs to another cluster.
    #[error("node {node} belongs to cluster {theirs}, this node to cluster {ours}")]
    OtherCluster {
        /// The other node.
        node: NodeId,
        /// Its cluster.
        theirs: ClusterId,
        /// This node's cluster.
        ours: ClusterId,
    },
    /// The other node's proof does not hold.
    #[error(
        "node {0} does not know the secret of this cluster: give every node the same cluster secret"
    )]
    WrongSecret(NodeId),
    /// The two programs speak no common version.
    #[error(
        "node {node} speaks the peer protocol in versions {min} to {max}, this node in \
         {PROTOCOL_MIN} to {PROTOCOL_MAX}: upgrade one release at a time"
    )]
    NoCommonProtocol {
        /// The other node.
        node: NodeId,
        /// Its oldest version.
        min: u32,
        /// Its newest version.
        max: u32,
    },
    /// The program that calls, or is called, speaks no common version.
    #[error(
        "the caller speaks the peer protocol in versions {min} to {max}, this node in \
         {PROTOCOL_MIN} to {PROTOCOL_MAX}: upgrade one release at a time"
    )]
    NoCommonCall {
        /// Its oldest version.
        min: u32,
        /// Its newest version.
        max: u32,
    },
    /// The other side of a call does not know the secret.
    #[error("the cluster secrets differ")]
    OtherSecret,
    /// The other node is no member.
    #[error("node {0} is not a member of this cluster")]
    UnknownNode(NodeId),
    /// The other node was removed from the cluster.
    #[error(
        "node {node} was removed from this cluster with ring version {ring_version}, for ever: \
         stop it, and give its machine an empty data directory to join as a new node"
    )]
    Removed {
        /// The other node.
        node: NodeId,
        /// The ring from which on it has no seat.
        ring_version: u64,
    },
    /// The other node has this node's id.
    #[error(
        "node {0} met a node with its own id: a data directory was copied; give the copy a \
         fresh, empty directory"
    )]
    OwnNodeId(NodeId),
    /// Another node answered at a member's address.
    #[error("node {expected} was dialled and node {found} answered: the address is another's")]
    OtherNode {
        /// Who was dialled.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
    },
    /// The two are connected already.
    #[error("node {0} is connected already, by the one of the two with the smaller id")]
    Connected(NodeId),
    /// The other node is another process than the one that is known, which may be gone.
    #[error("node {0} is not known in this start, and is looked for where it was last")]
    NotKnownYet(NodeId),
    /// Another process is the node.
    #[error(
        "node {node} is the process of incarnation {} at {}, which runs: a data directory was \
         copied; stop the copy, or give it an empty directory",
        holder.incarnation, holder.peer_address
    )]
    SecondHolder {
        /// The node.
        node: NodeId,
        /// Who is served as it.
        holder: Holder,
    },
}

/// Which end of a handshake of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Dialer = 1,
    Acceptor = 2,
    Caller = 3,
    Called = 4,
}

/// The protocol versions that a program speaks, oldest and newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spoken {
    pub min: u32,
    pub max: u32,
}

impl Spoken {
    /// What this program speaks.
    pub const OURS: Spoken = Spoken { min: PROTOCOL_MIN, max: PROTOCOL_MAX };

    fn is_understood(&self) -> bool {
        self.max >= PROTOCOL_MIN && self.min <= PROTOCOL_MAX
    }
}

/// What both sides of a call say of themselves before they have proved anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opening {
    pub spoken: Spoken,
    pub nonce: [u8; 32],
}

/// What a node says of itself first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub spoken: Spoken,
    pub cluster: ClusterId,
    pub node: NodeId,
    /// Its start, and where it says it is reached.
    pub process: Holder,
    /// What its catalogues can hold; told from the first version on, so that a later one can
    /// hold back what this one could not read.
    pub feature_level: u32,
    pub nonce: [u8; 32],
}

impl Hello {
    pub fn new(node: NodeId, process: Holder, cluster: ClusterId, nonce: [u8; 32]) -> Self {
        Hello { spoken: Spoken::OURS, cluster, node, process, feature_level: FEATURE_LEVEL, nonce }
    }

    /// Whether the node `me` of `roster` may talk to the one that said this.
    pub fn check(&self, me: NodeId, roster: &Roster) -> Result<(), Refusal> {
        let node = self.node;
        if self.cluster != roster.cluster {
            return Err(Refusal::OtherCluster { node, theirs: self.cluster, ours: roster.cluster });
        }
        if !self.spoken.is_understood() {
            return Err(Refusal::NoCommonProtocol {
                node,
                min: self.spoken.min,
                max: self.spoken.max,
            });
        }
        if node == me {
            return Err(Refusal::OwnNodeId(me));
        }
        if let Some(&ring_version) = roster.removed.get(&node) {
            return Err(Refusal::Removed { node, ring_version });
        }
        if !roster.members.contains_key(&node) {
            return Err(Refusal::UnknownNode(node));
        }
        Ok(())
    }
}

/// The proof of the side in `role`. Comparing two of these takes the same time wherever they
/// differ.
fn prove(secret: &[u8; 32], role: Role, dialer: &[u8], acceptor: &[u8]) -> blake3::Hash {
    let key = blake3::derive_key("stator peer handshake v1", secret);
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(&[role as u8]);
    hasher.update(&(dialer.len() as u64).to_be_bytes());
    hasher.update(dialer);
    hasher.update(acceptor);
    hasher.finalize()
}

/// 32 random bytes.
fn nonce() -> Result<[u8; 32], HandshakeError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|e| HandshakeError::NoRandomness(e.to_string()))?;
    Ok(nonce)
}

wire_structs! {
    Spoken { min, max }
    Opening { spoken, nonce }
    Hello { spoken, cluster, node, process, feature_level, nonce }
}

/// What an honest dialer sends, for tests that speak for one.
#[cfg(test)]
pub(super) fn dialer_proof(secret: &[u8; 32], dialer: &[u8], acceptor: &[u8]) -> [u8; 32] {
    *prove(secret, Role::Dialer, dialer, acceptor).as_bytes()
}
