//! `stator cluster`: many nodes as one.

mod hints;
mod init;
mod introduce;
mod recover;
mod repair;
mod ring;
mod status;

use clap::Subcommand;

use super::failure::Failure;
use super::session::Session;

/// Make a cluster of nodes, look at it, change its ring
#[derive(Debug, Subcommand)]
pub(super) enum Cluster {
    /// Make one cluster of nodes started with `stator serve --bootstrap wait`
    Init(init::Init),
    /// Ask every member and show what it is, holds and sees
    Status,
    /// Show what each member keeps for others: how much, how long, and alarms
    #[command(after_help = hints::EXAMPLES)]
    Hints,
    Introduce(introduce::Introduce),
    // Anti-entropy.
    Repair(repair::Repair),
    // Changes of the ring.
    /// Stage that a waiting node joins
    Join(ring::Join),
    /// Stage that a node leaves
    Leave(ring::Leave),
    /// Stage that a waiting node takes the place of one that will not return
    Replace(ring::Replace),
    /// Stage another weight, zone or region of a node
    Weight(ring::Weight),
    /// Stage another number of owners per partition: the largest n of a keyspace
    Replicas(ring::Replicas),
    /// Show what is staged, and what committing it would do
    Plan,
    /// Make what is staged the next ring
    Commit(ring::Commit),
    /// Drop what is staged
    Cancel,
    Recover(recover::Recover),
}

impl Cluster {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Cluster::Init(command) => command.run(session).await,
            Cluster::Status => status::run(session).await,
            Cluster::Hints => hints::run(session).await,
            Cluster::Introduce(command) => command.run(session).await,
            Cluster::Repair(command) => command.run(session).await,
            Cluster::Join(command) => command.run(session).await,
            Cluster::Leave(command) => command.run(session).await,
            Cluster::Replace(command) => command.run(session).await,
            Cluster::Weight(command) => command.run(session).await,
            Cluster::Replicas(command) => command.run(session).await,
            Cluster::Plan => ring::plan(session).await,
            Cluster::Commit(command) => command.run(session).await,
            Cluster::Cancel => ring::cancel(session).await,
            Cluster::Recover(command) => command.run(session).await,
        }
    }
}
