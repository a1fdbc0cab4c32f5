//! `stator cluster`: many nodes as one.

mod init;
mod status;

use clap::Subcommand;

use super::failure::Failure;
use super::session::Session;

/// Make a cluster of nodes, look at it
#[derive(Debug, Subcommand)]
pub(super) enum Cluster {
    /// Make one cluster of nodes started with `stator serve --bootstrap wait`
    Init(init::Init),
    /// Ask every member and show what it is, holds and sees
    Status,
}

impl Cluster {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Cluster::Init(command) => command.run(session).await,
            Cluster::Status => status::run(session).await,
        }
    }
}
