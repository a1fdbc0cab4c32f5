//! `stator completions`: what a shell needs to complete commands and options.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::failure::Failure;
use super::output;

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stator completions bash > /etc/bash_completion.d/stator")]
pub(super) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run<C: CommandFactory>(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut C::command(), "stator", &mut script);
        output::raw(&script)
    }
}
