//! Committing a ring, as an operator asks for it.

use crate::request::{Effect, RequestError};
use crate::ring::PlanError;

/// What an operator wants committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitRequest {
    /// The ring that the operator looked at.
    pub expected_ring_version: u64,
    /// The hash of the staged changes that the operator looked at ([`Staged`]'s
    /// [`plan_id`](crate::catalogue::Catalogue::plan_id)), if the commit shall depend on it.
    ///
    /// [`Staged`]: crate::catalogue::Staged
    pub expected_plan: Option<u64>,
    /// Whether no majority is asked. Two such commits can make two rings of one version.
    pub without_majority: bool,
}

/// A commit that was not made, or not by this request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The node belongs to no cluster.
    #[error("this node belongs to no cluster yet: run `stator cluster init` first")]
    NoCluster,
    /// The node was removed from its cluster.
    #[error(
        "this node was removed from its cluster with ring version {ring_version}, and commits \
         nothing any more: ask another node"
    )]
    Removed {
        /// The ring that it was removed with.
        ring_version: u64,
    },
    /// Another process is this node.
    #[error(transparent)]
    NotServed(RequestError),
    /// The ring is not the one that the operator looked at.
    #[error(
        "the ring is at version {found}, not at {expected}: nothing was changed; look at `stator \
         cluster plan` again"
    )]
    OtherRing {
        /// What was expected.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// What is staged is not what the operator looked at.
    #[error(
        "what is staged was changed meanwhile: nothing was committed; look at `stator cluster \
         plan` again"
    )]
    OtherPlan,
    /// What is staged makes no ring.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// This node is committing already.
    #[error("another commit is under way on this node: nothing was changed; wait for its end")]
    UnderWay,
    /// Another commit made the next ring.
    #[error(
        "another commit made ring version {ring_version} at the same time: nothing of this one \
         was done; what it staged is void and can be staged anew"
    )]
    Lost {
        /// The ring that was made.
        ring_version: u64,
    },
    /// Too few nodes of the ring answered in time.
    #[error(
        "{answered} of the {needed} nodes that are a majority of the ring answered in time; {}. \
         If the other nodes are lost for good, `stator cluster commit --unsafe-without-majority` \
         commits without them",
        match effect {
            Effect::None => "nothing was committed",
            Effect::Maybe => {
                "the commit may still be made as soon as a majority is there: look at `stator \
                 cluster status` before you commit again"
            }
        }
    )]
    NoMajority {
        /// Nodes that answered.
        answered: usize,
        /// Nodes that are a majority.
        needed: usize,
        /// Whether the ring may still be made.
        effect: Effect,
    },
    /// The ring is made and could not be persisted here.
    #[error("the ring is committed, and this node could not persist it: {0}")]
    NotPersisted(String),
}
