//! `stator completions`: what a shell needs to complete commands, options and names.

use std::io::Write;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory};

use super::complete::{SHELLS, VARIABLE};
use super::failure::Failure;
use super::output;

const EXAMPLES: &str = "\
Examples:
  stator completions bash > /etc/bash_completion.d/stator
  source <(stator completions zsh)

The shell asks this program what goes on a line: commands, options, and the names of keyspaces, modules,
nodes and profiles. Those of the cluster are asked of the node that the line, the environment or the
profile names; one that is silent for a second has none.";

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Completions {
    /// Which shell
    #[arg(value_parser = PossibleValuesParser::new(SHELLS.names()))]
    shell: String,
}

impl Completions {
    pub(super) fn run<C: CommandFactory>(self) -> Result<(), Failure> {
        let unknown = || Failure::usage(format!("{} is no shell that is known", self.shell));
        let shell = SHELLS.completer(&self.shell).ok_or_else(unknown)?;
        let name = C::command().get_name().to_owned();
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, &name, &name, &name, &mut script)?;
        if self.shell == "zsh" {
            // As a file in the path of functions it is called where it should only be made known.
            let call =
                r#"if [ "$funcstack[1]" = _NAME ]; then _clap_dynamic_completer_NAME "$@"; fi"#;
            writeln!(script, "{}", call.replace("NAME", &name))?;
        }
        output::raw(&script)
    }
}
