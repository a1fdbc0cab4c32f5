//! Nodes that join: a node that waits for a cluster becomes a member without a seat, and the
//! change that gives it one is staged.
//!
//! Three steps, each of which may be the last before a failure: the node is asked who it is, it
//! enters the catalogue together with the staged change, and it adopts the catalogue. The same
//! request again goes on where it was cut short: who is a member stays one, what is staged is not
//! staged twice, and adopting twice is joining.

use std::sync::Arc;

use stator_core::catalogue::{Catalogue, CatalogueChange, RingChange};
use stator_core::event::ChangeFailure;
use stator_core::id::NodeId;

use super::Node;
use crate::driver::DriverStopped;
use crate::transport::setup::{Introduction, SetupError};

/// Why a node did not join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// This node belongs to no cluster.
    #[error("this node belongs to no cluster yet: run `stator cluster init` first")]
    NoCluster,
    /// The node cannot be asked; nothing was changed.
    #[error("{0}; nothing was changed")]
    Introduce(SetupError),
    /// It belongs to another cluster.
    #[error(
        "the node at {address} belongs to another cluster already; nothing was changed: start it \
         with an empty data directory and `--bootstrap wait`"
    )]
    PeerBelongs {
        /// Where.
        address: String,
    },
    /// Its configuration names another cluster.
    #[error(
        "the node at {address} is configured for the cluster {expected:?}, and this one is called \
         {found:?}; nothing was changed"
    )]
    OtherName {
        /// Where.
        address: String,
        /// By its configuration.
        expected: String,
        /// What this one is called.
        found: String,
    },
    /// The change does not fit, or could not be persisted.
    #[error(transparent)]
    Change(#[from] ChangeFailure),
    /// It is a member, and has not learnt of it.
    #[error(
        "{0}; the change is staged and the node is a member, but has not learnt of it: run the \
         same command again"
    )]
    Adopt(SetupError),
    /// This node is stopping.
    #[error(transparent)]
    Stopped(#[from] DriverStopped),
}

impl Node {
    /// Makes the node at `address` a member, and stages that it gets a seat: one of its own, or
    /// that of `replaced`.
    pub async fn stage_join(
        &self,
        address: &str,
        replaced: Option<NodeId>,
    ) -> Result<Arc<Catalogue>, JoinError> {
        let catalogue = self.catalogue().ok_or(JoinError::NoCluster)?;
        let me = self.introduction();
        let introduced = self.transport.introduce(address, &me).await;
        let introduction = introduced.map_err(JoinError::Introduce)?.who;
        check(&catalogue, address, &introduction)?;
        let node = introduction.node;
        let change = match replaced {
            None => RingChange::Join { node },
            Some(gone) => RingChange::Replace { node: gone, by: node },
        };
        let admit = CatalogueChange::Admit { node, member: Box::new(introduction.member), change };
        let catalogue = self.driver.change(admit).await??;
        self.transport.adopt((address, node), &catalogue).await.map_err(JoinError::Adopt)?;
        Ok(catalogue)
    }
}

fn check(catalogue: &Catalogue, address: &str, other: &Introduction) -> Result<(), JoinError> {
    if other.cluster.is_some_and(|cluster| cluster != catalogue.cluster) {
        return Err(JoinError::PeerBelongs { address: address.to_owned() });
    }
    match other.cluster_name.is_empty() || other.cluster_name == catalogue.cluster_name {
        true => Ok(()),
        false => Err(JoinError::OtherName {
            address: address.to_owned(),
            expected: other.cluster_name.clone(),
            found: catalogue.cluster_name.clone(),
        }),
    }
}
