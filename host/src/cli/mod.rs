//! The command line: one program, `stator`, for those who run nodes and those who try keys.
//!
//! One file per command. Results go to standard output (`--output json`: one document), words
//! about them to standard error, and the exit code says which kind of failure it was
//! (`failure::Kind`). Commands speak to nodes by the public gRPC interface only, so whatever
//! they do any client can do.

mod access;
mod backup;
mod bench;
mod cluster;
mod complete;
mod completions;
mod conflicts;
mod connection;
mod data;
mod demo;

mod failure;
mod health;
mod keyspace;
mod kv;
mod man;
mod members;
mod module;
mod output;
mod parse;
mod profile;
mod serve;
mod session;
mod signals;
mod tls_init;
mod torture;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use connection::{Connection, Global};
use failure::Failure;

use crate::merge::{COMPILE_MODULE, compile_module_main};
use crate::storage::{OPEN_STORE, open_store_main};
use crate::telemetry::lines;

const EXAMPLES: &str = "\
Examples:
  stator serve                          a node with a keyspace `default`, nothing to configure
  stator kv put greeting hello          the first put
  stator kv get greeting                and get
  stator demo                           three nodes merge real shopping carts

Exit codes:
  0  done
  1  a node refused or failed
  2  wrong usage or configuration; nothing was sent
  3  not found: the key, keyspace or module does not exist
  4  no answer in time, or too few replicas; a write may have been applied";

/// A replicated key-value store whose conflict resolution is your own WebAssembly module.
#[derive(Debug, Parser)]
#[command(name = "stator", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Serve(Box<serve::Serve>),
    /// Make a cluster of nodes, look at it, change its ring
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Create, list, describe, update and delete keyspaces
    #[command(subcommand)]
    Keyspace(keyspace::Keyspace),
    /// Begin, build, push, try and list merge modules
    #[command(subcommand)]
    Module(module::Module),
    /// Look at merges as they happen, and at what could not be merged
    #[command(subcommand)]
    Conflicts(conflicts::Conflicts),
    /// Read and write keys
    #[command(subcommand)]
    Kv(kv::Kv),
    /// Back keyspaces up with their settings and modules, and restore them
    #[command(subcommand)]
    Backup(backup::Backup),
    /// Say who may do what, make tokens and withdraw them, read the audit log
    #[command(subcommand)]
    Access(access::Access),
    /// Keep connection options under names, one for each cluster
    #[command(subcommand)]
    Profile(profile::Profile),
    /// Tell whether a node serves clients
    Health(health::Health),
    /// Make certificates for a cluster to start with
    #[command(subcommand)]
    Tls(tls_init::Tls),
    /// Show on three real nodes that no cart item is lost or comes back through a partition
    Demo(demo::Demo),
    /// Put a merge module under load among partitions and kills, on real nodes, and check the end
    Torture(torture::Torture),
    /// Measure what a cluster does, and compare measurements
    Bench(Box<bench::Bench>),
    /// Print the completions of a shell
    Completions(completions::Completions),
    /// Write the manual pages
    Man(man::Man),
}

/// Runs the command that the process was called with. A node calls its own program with one that
/// is not listed, to compile modules in a process with hard limits, or to open a store that may
/// end the process: neither the command line's parser nor a runtime's threads come before it.
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|command| command == COMPILE_MODULE) {
        return compile_module_main(std::env::args_os().skip(2));
    }
    if std::env::args_os().nth(1).is_some_and(|command| command == OPEN_STORE) {
        return open_store_main();
    }
    complete::answer();
    let matches = Cli::command().try_get_matches();
    let read = matches.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (Cli { global, command }, matches) = match read {
        Ok(read) => read,
        Err(error) => {
            let error = with_tip(error);
            // Fails only if the stream is closed, and then nobody reads it.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { failure::Kind::Usage as u8 } else { 0 });
        }
    };
    let output = global.output();
    let result = match command {
        Command::Completions(command) => command.run::<Cli>(),
        Command::Man(command) => command.run::<Cli>(),
        Command::Module(module::Module::Encode(command)) => command.run(output),
        Command::Tls(command) => command.run(output),
        Command::Profile(command) => command.run(&matches, output),
        // Theirs are no nodes of a profile.
        Command::Serve(_) | Command::Demo(_) | Command::Torture(_) => {
            run_async(global.alone(), &matches, command)
        }
        command => {
            let connection = global.resolved(output::say);
            connection.and_then(|connection| run_async(connection, &matches, command))
        }
    };
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads no further has what it wanted.
        Err(failure) if failure.is_closed_pipe => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(output);
            ExitCode::from(failure.kind as u8)
        }
    };
    lines::flush();
    code
}

/// Who writes `-o FILE` is told how files are named here.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let argument = error.get(ContextKind::InvalidArg);
    let is_of_output = matches!(argument, Some(ContextValue::String(argument)) if argument.starts_with("--output"));
    if is_of_output && error.kind() == ErrorKind::InvalidValue {
        let tip = "-o is short for --output; a file is named by --out, of `kv export` by --to";
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn run_async(
    connection: Connection,
    matches: &ArgMatches,
    command: Command,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(async {
        let output = connection.output();
        let session = session::Session::new(&connection)?;
        match command {
            Command::Serve(command) => command.run(output).await,
            Command::Cluster(command) => command.run(&session).await,
            Command::Keyspace(command) => command.run(&session).await,
            Command::Module(command) => command.run(&session).await,
            Command::Kv(command) => command.run(&session).await,
            Command::Backup(command) => command.run(&session).await,
            Command::Access(command) => command.run(&session).await,
            Command::Health(command) => command.run(&session).await,
            Command::Tls(command) => command.run(output),
            Command::Conflicts(command) => command.run(&session).await,
            Command::Demo(command) => command.run(output).await,
            Command::Bench(command) => command.run(&session).await,
            Command::Torture(command) => command.run(output).await,
            Command::Completions(command) => command.run::<Cli>(),
            Command::Man(command) => command.run::<Cli>(),
            Command::Profile(command) => command.run(matches, output),
        }
    });
    // A read from standard input may still block a thread.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_may_follow_the_command() {
        for option in ["--output", "-o"] {
            let cli = Cli::try_parse_from(["stator", "kv", "get", "k", option, "json"]);
            assert!(matches!(cli.expect("valid").global.output(), output::Output::Json));
        }
    }

    #[test]
    fn who_takes_o_for_a_file_is_told_which_option_is_one() {
        for file in ["cart.wasm", "some/cart.wasm"] {
            let error = Cli::try_parse_from(["stator", "module", "pull", "cart", "-o", file]);
            let words = with_tip(error.expect_err("no form of output")).to_string();
            assert!(words.contains("--out") && words.contains("--to"), "{words}");
        }
        let other = Cli::try_parse_from(["stator", "kv", "get", "k", "--timeout", "soon"]);
        assert!(!with_tip(other.expect_err("no duration")).to_string().contains("--to"));
    }

    #[test]
    fn every_command_explains_itself() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
        }
    }
}
