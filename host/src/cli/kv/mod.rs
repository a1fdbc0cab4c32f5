//! `stator kv`: reading and writing keys.

mod delete;
mod explain;
mod get;
mod options;
mod put;

use clap::Subcommand;

pub(super) use options::{Durability, Replicas};

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
    /// Tell how the value of a key came to be: who wrote what, and what merged it
    Explain(explain::Explain),
}

impl Kv {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Kv::Get(command) => command.run(session).await,
            Kv::Put(command) => command.run(session).await,
            Kv::Delete(command) => command.run(session).await,
            Kv::Explain(command) => command.run(session).await,
        }
    }
}
