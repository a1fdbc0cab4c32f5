//! `stator backup`: whole keyspaces with their settings and modules, in a directory or in S3.
//!
//! A backup is a *manifest* (`backups/ID.json`) that names what it consists of: *chunks*, files of a few
//! hundred kilobytes of objects, and modules, each under the digest of its bytes. A chunk that is there
//! already is not written again. So every backup is whole, and costs the space of what has changed
//! since the others beside it (`chunks.rs` tells how chunks are cut so that they stay the same).
//!
//! A manifest is written last, and at once. What stops before leaves chunks that the next backup
//! uses, or `backup delete` removes.
//!
//! *What is in it*: of each key what at least r owners hold together, when its turn came. So it is
//! consistent per key and no snapshot of all. Deleted keys are left out.
//!
//! *Restoring* joins the objects with what the cluster holds, dots and all: it can be repeated, and
//! nothing that replaced a value is undone. In the cluster that was backed up, a key that is gone was
//! deleted since, and stays deleted unless one says `--revive`.
//!
//! With a key all of it is encrypted before it leaves this process (`seal.rs`); a place has one key or none.
//!
//! Left out: compression, backups that a node makes by itself.

mod brake;
mod chunks;
mod create;
mod manifest;
mod restore;
mod seal;
mod store;
mod tend;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::session::Session;

/// Back keyspaces up with their settings and modules, and restore them
#[derive(Debug, Subcommand)]
pub(super) enum Backup {
    /// Make a backup
    Create(create::Create),
    /// List the backups of a place
    List(tend::List),
    /// Read a backup, and tell whether all of it is there and unharmed
    Verify(tend::Verify),
    /// Bring a backup into a cluster
    Restore(restore::Restore),
    /// Remove a backup, and what only it consists of
    Delete(tend::Delete),
}

impl Backup {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Backup::Create(command) => command.run(session).await,
            Backup::List(command) => command.run(session).await,
            Backup::Verify(command) => command.run(session).await,
            Backup::Restore(command) => command.run(session).await,
            Backup::Delete(command) => command.run(session).await,
        }
    }
}

/// Where backups are.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// A directory, or s3://BUCKET/PREFIX
    #[arg(value_name = "PLACE", env = "STATOR_BACKUP", hide_env_values = true)]
    place: String,
    /// A file with the key that all of the place is encrypted with: at least 32 bytes
    #[arg(long, value_name = "FILE", env = "STATOR_BACKUP_KEY_FILE", hide_env_values = true)]
    key_file: Option<PathBuf>,
}
