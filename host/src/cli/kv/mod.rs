//! `stator kv`: reading and writing keys.

mod delete;
mod explain;
mod get;
pub(super) mod history;
mod options;
mod put;
mod watch;

use clap::Subcommand;

pub(super) use options::{Durability, Replicas, version_json};

use super::data;
use super::failure::Failure;
use super::session::Session;

/// Read and write keys
#[derive(Debug, Subcommand)]
pub(super) enum Kv {
    /// Print the value of a key, or its siblings
    Get(get::Get),
    /// Write the value of a key
    Put(put::Put),
    /// Delete a key
    Delete(delete::Delete),
    /// Print what is changed, as it happens
    Watch(watch::Watch),
    /// List the keys of a keyspace
    List(data::List),
    /// Count the keys of a keyspace, and their bytes
    Count(data::Count),
    /// Write the keys of a keyspace to a file
    Export(data::Export),
    /// Read keys from a file that `kv export` wrote, or from JSON lines
    Import(data::Import),
    /// Delete the keys of a range, or of a list
    DeleteMany(data::Erase),
    /// Tell how the value of a key came to be: who wrote what, and what merged it
    Explain(explain::Explain),
    /// List the versions that made way for others
    History(history::History),
    /// Put versions back that made way for others
    Restore(history::Restore),
}

impl Kv {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Kv::Get(command) => command.run(session).await,
            Kv::Put(command) => command.run(session).await,
            Kv::Delete(command) => command.run(session).await,
            Kv::Watch(command) => command.run(session).await,
            Kv::List(command) => command.run(session).await,
            Kv::Count(command) => command.run(session).await,
            Kv::Export(command) => command.run(session).await,
            Kv::Import(command) => command.run(session).await,
            Kv::DeleteMany(command) => command.run(session).await,
            Kv::Explain(command) => command.run(session).await,
            Kv::History(command) => command.run(session).await,
            Kv::Restore(command) => command.run(session).await,
        }
    }
}
