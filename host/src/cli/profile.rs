//! `stator profile`: connection options under a name, so that a cluster is called by it.

mod file;

use std::io::Read;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Subcommand};
use serde_json::{Map, Value, json};

use file::File;

use super::connection::Connection;
use super::failure::Failure;
use super::output::{self, Output};
use super::session;

/// The most that is read as a token.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

const EXAMPLES: &str = "\
Examples:
  stator profile set shop --endpoint shop-1:7101 --admin shop-1:7102 --tls-ca shop-ca.pem
  stator profile set shop --token-stdin <token
  stator profile use shop
  stator profile delete shop-of-old
  stator kv get greeting --profile other

They stand in ~/.config/stator/config.toml, or in what the variable STATOR_CONFIG names:
  default = \"shop\"
  [profile.shop]
  endpoint = \"shop-1:7101\"
  tls_ca = \"shop-ca.pem\"
with the names of the connection options (--help), _ for -, and token. What is on the command
line comes before what is in the environment, and that before the profile; --profile '' takes none.";

/// Keep connection options under names
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Profile {
    /// List the profiles
    List,
    /// Show a profile; without a name, the one that holds
    Show {
        /// The profile
        name: Option<String>,
    },
    /// Put the connection options of this command into a profile, which is made if there is none
    Set(Set),
    /// Let a profile hold where none is named
    Use {
        /// The profile
        name: String,
    },
    /// Delete a profile, and a token that stands in it; if it held where none is named, none does then
    Delete {
        /// The profile
        name: String,
    },
}

/// Put the connection options of this command into a profile, which is made if there is none
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stator profile set shop --endpoint shop-1:7101 --admin shop-1:7102
  stator profile set shop --tls-ca ca.pem --token-file token --timeout 30s -o json

What is not given stays. Only what stands on the command line is taken, not the environment.")]
pub(super) struct Set {
    /// The profile
    name: String,
    /// Read a token from standard input and keep it
    #[arg(long, conflicts_with = "token_file")]
    token_stdin: bool,
}

/// What the profile says that is named, or that holds where none is.
pub(super) fn chosen(named: Option<&str>, warn: impl Fn(String)) -> Result<Connection, Failure> {
    let file = match named {
        Some("") => None,
        Some(_) => Some(File::read()?),
        None => File::read_if_any()?,
    };
    let name = named.or_else(|| file.as_ref()?.default());
    let Some((file, name)) = file.as_ref().zip(name) else { return Ok(Connection::default()) };
    let profile = file.profile(name)?;
    file.readable_token(&profile).into_iter().for_each(|path| {
        let path = path.display();
        warn(format!("warning: others can read the token in {path}: chmod 600 {path}"));
    });
    Ok(profile)
}

/// The names of all profiles.
pub(super) fn names() -> Vec<String> {
    File::read().map(|file| file.names().map(str::to_owned).collect()).unwrap_or_default()
}

impl Profile {
    pub(super) fn run(self, matches: &ArgMatches, output: Output) -> Result<(), Failure> {
        match self {
            Profile::List => list(&File::read()?, output),
            Profile::Show { name } => {
                let file = File::read()?;
                let name = name.or_else(|| file.default().map(str::to_owned));
                let name = name.ok_or_else(|| Failure::usage("no profile holds: name one"))?;
                show(&file, &name, output)
            }
            Profile::Set(command) => command.run(matches, output),
            Profile::Delete { name } => delete(&name, output),
            Profile::Use { name } => {
                let mut file = File::read()?;
                file.profile(&name)?;
                file.make_default(&name);
                let file = file.again()?;
                file.write()?;
                show(&file, &name, output)
            }
        }
    }
}

impl Set {
    fn run(self, matches: &ArgMatches, output: Output) -> Result<(), Failure> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || !self.name.chars().all(is_name) {
            let message = format!("{:?} is no name for a profile", self.name);
            return Err(Failure::usage(message).hint("letters, digits, '-', '_' and '.' make one"));
        }
        let mut given = given(matches)?;
        if self.token_stdin {
            given.push(("token".to_owned(), token()?));
        }
        if given.is_empty() {
            let message = "say what to put into the profile: --endpoint, --admin, --tls-ca, \
                           --token-file, or another connection option (--help)";
            return Err(Failure::usage(message));
        }
        let mut file = File::read()?;
        file.put(&self.name, &given)?;
        let file = file.again()?;
        session::check(&file.profile(&self.name)?)?;
        file.write()?;
        show(&file, &self.name, output)
    }
}

/// The connection options that stand on the command line, files by their whole paths.
fn given(matches: &ArgMatches) -> Result<Vec<(String, String)>, Failure> {
    let known = Connection::augment_args(clap::Command::new(""));
    let mut given = Vec::new();
    for option in known.get_arguments().map(|argument| argument.get_id().as_str()) {
        if matches.value_source(option) != Some(ValueSource::CommandLine) {
            continue;
        }
        let Some(text) = matches.get_raw(option).and_then(|mut all| all.next()) else { continue };
        let text = match option {
            "token_file" | "tls_ca" | "tls_cert" | "tls_key" => {
                let path = std::path::absolute(text);
                let path = path.map_err(|error| Failure::usage(format!("{option}: {error}")))?;
                path.into_os_string()
            }
            _ => text.to_owned(),
        };
        let text = text.into_string();
        let text = text.map_err(|_| Failure::usage(format!("{option} is no UTF-8")))?;
        given.push((option.to_owned(), text));
    }
    Ok(given)
}

fn token() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("cannot read a token: {error}")))?;
    match text.trim() {
        "" => Err(Failure::usage("there is no token on standard input")),
        token => Ok(token.to_owned()),
    }
}

fn delete(name: &str, output: Output) -> Result<(), Failure> {
    let mut file = File::read()?;
    let held = file.default() == Some(name);
    file.delete(name)?;
    let file = file.again()?;
    file.write()?;
    if output == Output::Json {
        return output::json(&json!({ "deleted": name, "was_default": held }));
    }
    output::say(format!("deleted the profile {name} from {}", file.path.display()));
    if held {
        output::say("it held where none is named: none does now, `stator profile use` says which");
    }
    Ok(())
}

fn list(file: &File, output: Output) -> Result<(), Failure> {
    let names: Vec<_> = file.names().collect();
    match output {
        Output::Json => {
            let profiles: Result<Vec<_>, _> = names.iter().map(|name| json(file, name)).collect();
            output::json(&json!({ "file": file.path, "profiles": profiles? }))
        }
        Output::Table if names.is_empty() => {
            output::say(format!(
                "there is no profile in {}: make one with `stator profile set NAME --endpoint …`",
                file.path.display()
            ));
            Ok(())
        }
        Output::Table => {
            let rows = names.iter().map(|name| {
                let profile = file.profile(name)?;
                let word = |is: bool| if is { "yes" } else { "-" }.to_owned();
                Ok([
                    (*name).to_owned(),
                    word(file.default() == Some(name)),
                    profile.endpoint().to_owned(),
                    profile.admin().to_owned(),
                    word(profile.has_tls()),
                    word(profile.tokens() != (None, None)),
                ])
            });
            let rows: Result<Vec<_>, Failure> = rows.collect();
            let header = ["name", "default", "endpoint", "admin", "tls", "token"];
            output::line(output::table(header, rows?))
        }
    }
}

fn show(file: &File, name: &str, output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => output::json(&json(file, name)?),
        Output::Table => {
            let holds = if file.default() == Some(name) { " (default)" } else { "" };
            output::line(format!("{name}{holds} in {}", file.path.display()))?;
            let mut texts = file.texts(name)?.into_iter();
            texts.try_for_each(|(key, text)| output::line(format!("{key:<12}{text}")))
        }
    }
}

fn json(file: &File, name: &str) -> Result<Value, Failure> {
    let texts = file.texts(name)?.into_iter().map(|(key, text)| (key, Value::from(text)));
    Ok(json!({
        "name": name,
        "default": file.default() == Some(name),
        "settings": texts.collect::<Map<_, _>>(),
    }))
}
