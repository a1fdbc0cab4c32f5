//! Names for a shell that completes: of keyspaces, modules and nodes, asked of the cluster that the line
//! so far means, and of profiles, from their file.
//!
//! The shell runs this program with the words of the line (`stator completions` prints what has it do
//! so). A person waits at the prompt: who does not answer within a second has no names, and nothing that
//! goes wrong is told.

use std::ffi::{OsStr, OsString};
use std::io::{Error, Write};
use std::path::Path;
use std::time::Duration;

use clap::{Command, CommandFactory, FromArgMatches};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate, complete};
use clap_complete::env::{self, CompleteEnv, EnvCompleter, Shells};
use stator_proto::v1;

use super::connection::Global;
use super::failure::Failure;
use super::session::Session;
use super::{Cli, profile};

/// What the shell sets to its name.
pub(super) const VARIABLE: &str = "STATOR_COMPLETE";
/// The shells that are known.
pub(super) const SHELLS: Shells<'static> =
    Shells(&[&Bash, &env::Elvish, &env::Fish, &env::Powershell, &env::Zsh]);
const PATIENCE: Duration = Duration::from_secs(1);

/// Completes a line, if a shell has asked for that: then nothing else is done.
pub(super) fn answer() {
    CompleteEnv::with_factory(|| {
        with_names(Cli::command().mut_arg("profile", |it| it.add(profiles())))
    })
    .var(VARIABLE)
    .shells(SHELLS)
    .complete();
}

/// The command with what its arguments are names of, and so those below it.
fn with_names(command: Command) -> Command {
    let group = command.get_name().to_owned();
    command.mut_subcommands(|command| {
        let name = command.get_name().to_owned();
        let named = command.mut_args(|argument| {
            let is_file = argument.get_value_names().is_some_and(|names| names == ["FILE"]);
            match candidates(&group, &name, argument.get_id().as_str()).filter(|_| !is_file) {
                Some(candidates) => argument.add(candidates),
                None => argument,
            }
        });
        with_names(named)
    })
}

/// The names that an argument of a command of a group of commands may have.
fn candidates(group: &str, command: &str, argument: &str) -> Option<ArgValueCandidates> {
    match (group, command, argument) {
        (_, "create", "name") => None,
        (_, _, "keyspace") | ("keyspace", _, "name") => Some(keyspaces()),
        (_, "sign", "module") => None,
        (_, _, "module" | "candidate" | "against") => Some(modules()),
        (_, _, "node") => Some(nodes()),
        ("profile", _, "name") => Some(profiles()),
        _ => None,
    }
}

fn profiles() -> ArgValueCandidates {
    ArgValueCandidates::new(|| profile::names().into_iter().map(CompletionCandidate::new).collect())
}

fn keyspaces() -> ArgValueCandidates {
    named(async |session| {
        let keyspaces = session.admin().await?.keyspaces().await?;
        Ok(keyspaces.into_iter().map(|keyspace| CompletionCandidate::new(keyspace.name)).collect())
    })
}

fn modules() -> ArgValueCandidates {
    named(async |session| {
        let modules = session.admin().await?.modules().await?;
        let named = |module: v1::Module| {
            CompletionCandidate::new(module.name).help(Some(module.digest.into()))
        };
        Ok(modules.into_iter().map(named).collect())
    })
}

fn nodes() -> ArgValueCandidates {
    named(async |session| {
        let status = session.admin().await?.get_status(v1::GetStatusRequest {}).await?;
        let members = status.members.into_iter().filter_map(|view| view.member);
        let named = |member: v1::Member| {
            CompletionCandidate::new(member.node_id).help(Some(member.peer_address.into()))
        };
        Ok(members.map(named).collect())
    })
}

fn named<F>(ask: F) -> ArgValueCandidates
where
    F: AsyncFn(&Session) -> Result<Vec<CompletionCandidate>, Failure> + Send + Sync + 'static,
{
    ArgValueCandidates::new(move || asked(&ask).unwrap_or_default())
}

fn asked(
    ask: impl AsyncFn(&Session) -> Result<Vec<CompletionCandidate>, Failure>,
) -> Option<Vec<CompletionCandidate>> {
    let session = session()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let names = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(&session)).await });
    // A look-up of a name may still block a thread.
    runtime.shutdown_background();
    names.ok()?.ok()
}

/// What the line so far says of the cluster.
fn session() -> Option<Session> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let (words, _) = rejoined(words.collect(), 0);
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(words).ok()?;
    let connection = Global::from_arg_matches(&matches).ok()?.resolved(|_| {}).ok()?;
    Session::new(&connection.within(PATIENCE)).ok()
}

/// As clap has it, for a shell that takes addresses apart.
struct Bash;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        env::Bash.name()
    }

    fn is(&self, name: &str) -> bool {
        env::Bash.is(name)
    }

    fn write_registration(
        &self,
        var: &str,
        name: &str,
        bin: &str,
        completer: &str,
        buf: &mut dyn Write,
    ) -> Result<(), Error> {
        env::Bash.write_registration(var, name, bin, completer, buf)
    }

    fn write_complete(
        &self,
        cmd: &mut Command,
        args: Vec<OsString>,
        current_dir: Option<&Path>,
        buf: &mut dyn Write,
    ) -> Result<(), Error> {
        let place = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|at| at.parse().ok());
        let (words, place) = rejoined(args, place.unwrap_or_default());
        let found = complete(cmd, words, place, current_dir)?;
        let found: Vec<_> = found.iter().map(|one| one.get_value().to_string_lossy()).collect();
        let between = std::env::var("_CLAP_IFS").unwrap_or_else(|_| "\n".to_owned());
        write!(buf, "{}", found.join(&between))
    }
}

/// Words that Bash has cut at the colons within them, whole again, and the place of the one at `place`.
fn rejoined(words: Vec<OsString>, place: usize) -> (Vec<OsString>, usize) {
    let colon = OsStr::new(":");
    let (mut whole, mut moved): (Vec<OsString>, usize) = (Vec::new(), place);
    let mut is_open = false;
    for (at, word) in words.into_iter().enumerate() {
        let goes_on = is_open && !word.is_empty() || word == colon;
        is_open = word == colon;
        match whole.last_mut().filter(|_| goes_on) {
            Some(last) => last.push(word),
            None => whole.push(word),
        }
        if at == place {
            moved = whole.len() - 1;
        }
    }
    (whole, moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_put_together_again() {
        let split = ["stator", "--admin", "http", ":", "//a", ":", "1", "kv", "get", "-k", ""];
        let (words, place) = rejoined(split.map(OsString::from).to_vec(), 10);
        let whole = ["stator", "--admin", "http://a:1", "kv", "get", "-k", ""];
        assert_eq!(words, whole.map(OsString::from));
        assert_eq!(place, 6);
    }
}
