//! `stator access`: who may do what.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use stator_proto::v1;
use stator_proto::v1::change_access_request::Change;

use super::failure::Failure;
use super::members;
use super::output::{self, Output};
use super::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator access token root --to root.token
  stator access grant root operator
  stator access grant shop writer -k carts --token-file root.token
  stator access list --token-file root.token

As long as nobody has a role, everybody may do everything. From the first role on, which is that of an
operator of all keyspaces, nobody may do what no role of theirs allows. Who it is, is told by a token
(--token-file, or STATOR_TOKEN), or by a client certificate with the name among its DNS names.
All nodes know a change within seconds.";

/// Say who may do what, make tokens and withdraw them, read the audit log
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Access {
    /// Give somebody a role
    Grant(Grant),
    /// Take a role from somebody, or everything
    Withdraw(Withdraw),
    /// Make a token for somebody; it is shown once
    Token(Token),
    /// Make a token worthless
    DropToken(DropToken),
    /// List who may do what
    List,
    /// List the calls that changed something, or were to, on all nodes
    Log,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    /// Read and list keys, see conflicts and history
    Reader,
    /// What a reader may, and put and delete
    Writer,
    /// What a reader may, and push modules and pin keyspaces to them
    Publisher,
    /// Everything
    Operator,
}

/// A role somewhere.
#[derive(Debug, Args)]
pub(super) struct Grant {
    /// Who: 1 to 64 letters, digits, '-', '_', '.', '@' and '*'
    #[arg(value_name = "NAME")]
    principal: String,
    /// The role
    #[arg(value_enum)]
    role: Role,
    /// In this keyspace only [default: all]
    #[arg(short, long, value_name = "NAME")]
    keyspace: Option<String>,
}

/// Take a role from somebody, or everything
#[derive(Debug, Args)]
pub(super) struct Withdraw {
    /// Who
    #[arg(value_name = "NAME")]
    principal: String,
    /// The role [default: all roles and tokens]
    #[arg(value_enum)]
    role: Option<Role>,
    /// In this keyspace, as it was given [default: all]
    #[arg(short, long, value_name = "NAME", requires = "role")]
    keyspace: Option<String>,
}

/// Make a token for somebody; it is shown once
#[derive(Debug, Args)]
pub(super) struct Token {
    /// Who
    #[arg(value_name = "NAME")]
    principal: String,
    /// Write it to this new file, which only you can read, instead of standard output
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// Make a token worthless
#[derive(Debug, Args)]
pub(super) struct DropToken {
    /// Whose
    #[arg(value_name = "NAME")]
    principal: String,
    /// Its id, as `access list` shows it
    #[arg(required_unless_present = "all")]
    id: Option<String>,
    /// All of theirs
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

fn grant(role: Role, keyspace: Option<String>) -> v1::Grant {
    let role = match role {
        Role::Reader => v1::Role::Reader,
        Role::Writer => v1::Role::Writer,
        Role::Publisher => v1::Role::Publisher,
        Role::Operator => v1::Role::Operator,
    };
    v1::Grant { role: role.into(), keyspace }
}

impl Access {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Access::Grant(Grant { principal, role, keyspace }) => {
                let change = Change::Grant(grant(role, keyspace));
                changed(session, principal, change).await.map(drop)
            }
            Access::Withdraw(Withdraw { principal, role, keyspace }) => {
                let change = match role {
                    Some(role) => Change::Withdraw(grant(role, keyspace)),
                    None => Change::WithdrawAll(true),
                };
                changed(session, principal, change).await.map(drop)
            }
            Access::DropToken(DropToken { principal, id, .. }) => {
                let change = id.map_or(Change::DropAllTokens(true), Change::DropToken);
                changed(session, principal, change).await.map(drop)
            }
            Access::Token(token) => token.run(session).await,
            Access::List => list(session).await,
            Access::Log => log(session).await,
        }
    }
}

/// Makes a change and tells what holds now.
async fn changed(
    session: &Session,
    principal: String,
    change: Change,
) -> Result<v1::ChangeAccessResponse, Failure> {
    let request = v1::ChangeAccessRequest { principal, change: Some(change) };
    let answer = session.admin().await?.change_access(request).await?;
    let principal = answer.principal.clone().unwrap_or_default();
    match session.output {
        Output::Json => {
            let mut document = document(&principal);
            document["open"] = answer.is_open.into();
            if !answer.token.is_empty() {
                document["token"] = answer.token.clone().into();
            }
            output::json(&document)?;
        }
        Output::Table => {
            output::say(format!("{}: {}", principal.name, roles(&principal)));
            if answer.is_open {
                output::say("nobody has a role: everybody may do everything");
            }
        }
    }
    Ok(answer)
}

impl Token {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        // Before the token is made: there is no second time to write it down.
        let file = match &self.to {
            None => None,
            Some(path) => {
                let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
                Some(made.map_err(|error| {
                    Failure::usage(format!("cannot make {}: {error}", path.display()))
                })?)
            }
        };
        let answer = changed(session, self.principal, Change::AddToken(true)).await;
        let answer = answer.inspect_err(|_| {
            // An empty file is in the way of the next try.
            let _ = self.to.as_ref().map(std::fs::remove_file);
        })?;
        match file {
            Some(mut file) => Ok(writeln!(file, "{}", answer.token)?),
            None if session.output == Output::Json => Ok(()),
            None => output::line(answer.token),
        }
    }
}

async fn list(session: &Session) -> Result<(), Failure> {
    let answer = session.admin().await?.list_access(v1::ListAccessRequest {}).await?;
    if session.output == Output::Json {
        let all: Vec<_> = answer.principals.iter().map(document).collect();
        return output::json(&json!({ "open": answer.is_open, "principals": all }));
    }
    if answer.is_open {
        output::say("nobody has a role: everybody may do everything");
    }
    let rows = answer.principals.iter().map(|principal| {
        let tokens = principal
            .tokens
            .iter()
            .map(|token| format!("{} of {}", token.id, output::utc(token.made_at_ms)));
        let tokens: Vec<_> = tokens.collect();
        [principal.name.clone(), roles(principal), tokens.join(", ")]
    });
    output::line(output::table(["name", "roles", "tokens"], rows.collect()))
}

fn role_word(grant: &v1::Grant) -> &'static str {
    match v1::Role::try_from(grant.role) {
        Ok(v1::Role::Reader) => "reader",
        Ok(v1::Role::Writer) => "writer",
        Ok(v1::Role::Publisher) => "publisher",
        Ok(v1::Role::Operator) => "operator",
        _ => "unknown",
    }
}

fn roles(principal: &v1::Principal) -> String {
    let words = principal.grants.iter().map(|grant| match &grant.keyspace {
        Some(keyspace) => format!("{} of {keyspace}", role_word(grant)),
        None => role_word(grant).to_owned(),
    });
    let words: Vec<_> = words.collect();
    if words.is_empty() { "no role".to_owned() } else { words.join(", ") }
}

fn document(principal: &v1::Principal) -> Value {
    let grants = principal
        .grants
        .iter()
        .map(|grant| json!({ "role": role_word(grant), "keyspace": grant.keyspace }));
    let tokens = principal
        .tokens
        .iter()
        .map(|token| json!({ "id": token.id, "made_at_ms": token.made_at_ms }));
    json!({
        "name": principal.name,
        "grants": grants.collect::<Vec<_>>(),
        "tokens": tokens.collect::<Vec<_>>(),
    })
}

async fn log(session: &Session) -> Result<(), Failure> {
    let logs = members::gather(session, "audit log", async |admin| {
        members::drain(admin.list_audit().await?).await
    });
    let mut all = logs.await?;
    all.sort_by_key(|(_, entry)| entry.at_ms);
    if session.output == Output::Json {
        let entries = all.iter().map(|(node, entry)| {
            json!({
                "node": node, "number": entry.number, "at_ms": entry.at_ms,
                "principal": Some(&entry.principal).filter(|name| !name.is_empty()),
                "address": entry.address, "method": entry.method, "code": entry.code,
                "request_id": entry.request_id,
            })
        });
        return output::json(&json!({ "entries": entries.collect::<Vec<_>>() }));
    }
    let rows = all.iter().map(|(node, entry)| {
        let who = if entry.principal.is_empty() { "-" } else { &entry.principal };
        [
            output::utc(entry.at_ms),
            who.to_owned(),
            entry.method.clone(),
            entry.code.clone(),
            entry.address.clone(),
            node.clone(),
        ]
    });
    output::line(output::table(["when", "who", "what", "result", "from", "node"], rows.collect()))
}
