//! The node: everything that `stator serve` runs.

use std::net::SocketAddr;

use stator_core::id::NodeId;

use crate::config::Config;

/// A node that serves.
#[derive(Debug)]
pub struct RunningNode {
    /// Where clients connect.
    pub client_addr: SocketAddr,
    /// Where operators connect.
    pub admin_addr: SocketAddr,
    /// Where other nodes connect.
    pub peer_addr: SocketAddr,
    /// Its name, made with the data directory.
    pub node_id: NodeId,
}

impl RunningNode {
    /// Stops cleanly: open requests are answered, stores are synced.
    pub async fn shutdown(self) {}
}

/// Starts a node and returns once it answers.
///
/// # Errors
/// A listener's port is taken, or the data directory is locked, damaged or another cluster's.
pub async fn serve(_config: Config) -> anyhow::Result<RunningNode> {
    anyhow::bail!("the node is not part of this build")
}
