//! `stator keyspace`: named sets of keys with one policy each.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use stator_proto::v1;

use super::failure::Failure;
use super::kv::Durability;
use super::module::resolve;
use super::output::{self, Output};
use super::session::Session;

/// Create, list, describe and delete keyspaces
#[derive(Debug, Subcommand)]
pub(super) enum Keyspace {
    /// Create a keyspace
    Create(Create),
    /// List the keyspaces
    List,
    /// Show one keyspace
    Describe {
        /// The keyspace
        name: String,
    },
    /// Delete a keyspace with all its keys
    Delete(Delete),
}

const CREATE_EXAMPLES: &str = "\
Examples:
  stator keyspace create sessions --reconcile last-write-wins
  stator keyspace create carts -n 3 -r 1 -w 1 --module cart
  stator keyspace create carts -n 3 -r 1 -w 1 --module cart --fold

A keyspace with r + w > n reads what was written last; one with less stays writeable when cut off.";

/// Create a keyspace
#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(super) struct Create {
    /// 1 to 64 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit
    name: String,
    /// How many replicas hold a key [default: 3, or as many as there are nodes]
    #[arg(short, value_name = "REPLICAS")]
    n: Option<u32>,
    /// How many replicas must answer a get [default: the majority of n]
    #[arg(short, value_name = "REPLICAS")]
    r: Option<u32>,
    /// How many replicas must acknowledge a put [default: the majority of n]
    #[arg(short, value_name = "REPLICAS")]
    w: Option<u32>,
    /// When an acknowledgement counts [default: all]
    #[arg(long, value_enum)]
    durability: Option<Durability>,
    /// What becomes of concurrent versions [default: siblings]
    #[arg(long, value_enum)]
    reconcile: Option<Policy>,
    /// Merge concurrent versions with this module: its digest, the beginning of it, or its name
    #[arg(long, value_name = "MODULE")]
    module: Option<String>,
    /// Store what the module makes of concurrent versions in their place; its laws are checked
    #[arg(long, requires = "module")]
    fold: bool,
    /// Check only, create nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// Every reader gets all of them
    Siblings,
    /// The latest wins, the others are lost
    LastWriteWins,
    /// A merge module makes one of them (--module)
    Module,
}

/// Delete a keyspace with all its keys
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stator keyspace delete carts --yes")]
pub(super) struct Delete {
    /// The keyspace
    name: String,
    /// Delete it only if this is its etag, as `describe` shows it
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
    /// Really delete all its keys
    #[arg(long)]
    yes: bool,
}

impl Keyspace {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Keyspace::Create(command) => command.run(session).await,
            Keyspace::List => list(session).await,
            Keyspace::Describe { name } => {
                let request = session.request(v1::GetKeyspaceRequest { name });
                let keyspace = session.admin().await?.get_keyspace(request).await?.into_inner();
                print(session, &keyspace)
            }
            Keyspace::Delete(command) => command.run(session).await,
        }
    }
}

impl Create {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let [n, r, w] = [("-n", self.n), ("-r", self.r), ("-w", self.w)].map(at_least_one);
        let (n, r, w) = (n?, r?, w?);
        let mut admin = session.admin().await?;
        let reconcile = match (self.reconcile, self.module) {
            (None | Some(Policy::Module), Some(module)) => v1::Reconcile {
                policy: v1::ReconcilePolicy::Module as i32,
                module_digest: resolve(session, &mut admin, &module).await?,
                fold: self.fold,
            },
            (Some(Policy::Module), None) => {
                return Err(Failure::usage("--reconcile module needs --module MODULE"));
            }
            (Some(_), Some(_)) => {
                return Err(Failure::usage(
                    "--module excludes --reconcile siblings and last-write-wins",
                ));
            }
            (Some(Policy::LastWriteWins), None) => v1::Reconcile {
                policy: v1::ReconcilePolicy::LastWriteWins as i32,
                ..Default::default()
            },
            (Some(Policy::Siblings) | None, None) => {
                v1::Reconcile { policy: v1::ReconcilePolicy::Siblings as i32, ..Default::default() }
            }
        };
        let keyspace = v1::Keyspace {
            name: self.name,
            n,
            r,
            w,
            durability: Durability::number(self.durability),
            reconcile: Some(reconcile),
            ..Default::default()
        };
        let request =
            v1::CreateKeyspaceRequest { keyspace: Some(keyspace), validate_only: self.dry_run };
        let keyspace = admin.create_keyspace(session.request(request)).await?.into_inner();
        if self.dry_run {
            output::say("nothing was created; it would be:");
        }
        print(session, &keyspace)
    }
}

/// The protocol takes 0 for "not given", so a given 0 must not get through.
fn at_least_one((option, number): (&str, Option<u32>)) -> Result<u32, Failure> {
    match number {
        Some(0) => Err(Failure::usage(format!("{option} 0: at least 1 replica is needed"))),
        Some(number) => Ok(number),
        None => Ok(0),
    }
}

impl Delete {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let Delete { name, etag, yes } = self;
        if !yes {
            return Err(Failure::usage(format!(
                "this deletes every key of keyspace {name} on all nodes"
            ))
            .hint("say --yes if that is meant"));
        }
        let request = v1::DeleteKeyspaceRequest { name: name.clone(), etag, validate_only: false };
        let mut admin = session.admin().await?;
        let answer = admin.delete_keyspace(session.request(request)).await?.into_inner();
        let keyspace = answer
            .keyspace
            .ok_or_else(|| Failure::refused("the node did not say what it deleted"))?;
        match session.output {
            Output::Json => output::json(&json(&keyspace)),
            Output::Table => output::line(format!("keyspace {name} deleted")),
        }
    }
}

async fn list(session: &Session) -> Result<(), Failure> {
    let mut admin = session.admin().await?;
    let mut keyspaces = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListKeyspacesRequest { page_size: 0, page_token };
        let page = admin.list_keyspaces(session.request(request)).await?.into_inner();
        keyspaces.extend(page.keyspaces);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    match session.output {
        Output::Json => output::json(&json!({
            "keyspaces": keyspaces.iter().map(json).collect::<Vec<_>>(),
        })),
        Output::Table if keyspaces.is_empty() => {
            output::say("there is no keyspace yet: create one with `stator keyspace create NAME`");
            Ok(())
        }
        Output::Table => {
            let rows = keyspaces.iter().map(row).collect();
            output::line(output::table(["name", "n", "r", "w", "durability", "reconcile"], rows))
        }
    }
}

fn print(session: &Session, keyspace: &v1::Keyspace) -> Result<(), Failure> {
    match session.output {
        Output::Json => output::json(&json(keyspace)),
        Output::Table => {
            let facts = [
                ("name", keyspace.name.clone()),
                ("id", format!("{} (generation {})", keyspace.id, keyspace.generation)),
                ("replicas", format!("n={} r={} w={}", keyspace.n, keyspace.r, keyspace.w)),
                ("durability", Durability::word(keyspace.durability).to_owned()),
                ("reconcile", reconcile_words(keyspace)),
                ("etag", keyspace.etag.clone()),
            ];
            let lines = facts.map(|(name, value)| format!("{name:<12}{value}"));
            output::line(lines.join("\n"))
        }
    }
}

fn policy(keyspace: &v1::Keyspace) -> (&'static str, &str) {
    let Some(reconcile) = &keyspace.reconcile else {
        return ("siblings", "");
    };
    match v1::ReconcilePolicy::try_from(reconcile.policy) {
        Ok(v1::ReconcilePolicy::Siblings | v1::ReconcilePolicy::Unspecified) => ("siblings", ""),
        Ok(v1::ReconcilePolicy::LastWriteWins) => ("last-write-wins", ""),
        Ok(v1::ReconcilePolicy::Module) if reconcile.fold => ("fold", &reconcile.module_digest),
        Ok(v1::ReconcilePolicy::Module) => ("module", &reconcile.module_digest),
        Err(_) => ("unknown", ""),
    }
}

fn reconcile_words(keyspace: &v1::Keyspace) -> String {
    match policy(keyspace) {
        (policy, "") => policy.to_owned(),
        (policy, digest) => format!("{policy} {digest}"),
    }
}

fn row(keyspace: &v1::Keyspace) -> [String; 6] {
    let reconcile = match policy(keyspace) {
        (policy, "") => policy.to_owned(),
        (policy, digest) => format!("{policy} {}", digest.get(..12).unwrap_or(digest)),
    };
    [
        keyspace.name.clone(),
        keyspace.n.to_string(),
        keyspace.r.to_string(),
        keyspace.w.to_string(),
        Durability::word(keyspace.durability).to_owned(),
        reconcile,
    ]
}

fn json(keyspace: &v1::Keyspace) -> Value {
    let (policy, digest) = policy(keyspace);
    json!({
        "name": keyspace.name,
        "generation": keyspace.generation,
        "id": keyspace.id,
        "n": keyspace.n,
        "r": keyspace.r,
        "w": keyspace.w,
        "durability": Durability::word(keyspace.durability),
        "reconcile": policy,
        "module_digest": Some(digest).filter(|digest| !digest.is_empty()),
        "etag": keyspace.etag,
    })
}
