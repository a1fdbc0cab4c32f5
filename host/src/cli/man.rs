//! `stator man`: manual pages, made of what `--help` says.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::failure::Failure;
use super::output;

/// Write the manual pages of all commands
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stator man --to /usr/local/share/man/man1")]
pub(super) struct Man {
    /// The directory, which is made if it is missing
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

impl Man {
    pub(super) fn run<C: CommandFactory>(self) -> Result<(), Failure> {
        let unwritable = |error: std::io::Error| {
            Failure::refused(format!("cannot write to {}: {error}", self.to.display()))
        };
        fs::create_dir_all(&self.to).map_err(unwritable)?;
        clap_mangen::generate_to(C::command(), &self.to).map_err(unwritable)?;
        output::say(format!("manual pages written to {}", self.to.display()));
        Ok(())
    }
}
