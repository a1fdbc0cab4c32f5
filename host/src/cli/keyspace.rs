//! `stator keyspace`: named sets of keys with one policy each.

mod divergence;
mod history;
mod merging;
mod quota;
mod reconciling;
mod resize;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use stator_proto::v1;

use reconciling::Reconciling;

use super::failure::Failure;
use super::kv::Durability;
use super::members;
use super::module::{rules, sign};
use super::output::{self, Output};
use super::session::Session;

/// Create, list, describe, update and delete keyspaces
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
    /// Change what a keyspace promises; what is not given stays
    Update(Update),
    /// Pin a keyspace to another module
    Activate(history::Activate),
    /// Pin a keyspace to what it was pinned to before
    Rollback(history::Rollback),
    /// Show what a keyspace was pinned to, and what was tried
    History {
        /// The keyspace
        name: String,
    },
    /// Show how many versions gets have met: what divergence there really is
    Divergence(divergence::Divergence),
    /// Delete a keyspace with all its keys
    Delete(Delete),
}

const CREATE_EXAMPLES: &str = "\
Examples:
  stator keyspace create sessions --reconcile last-write-wins
  stator keyspace create carts -n 3 -r 1 -w 1 --module cart
  stator keyspace create carts -n 3 -r 1 -w 1 --module cart --fold
  stator keyspace create documents --module json-three-way --ancestor
  stator keyspace create carts --module cart --history 7d --on-failure previous,last-write
  stator keyspace create carts --reconcile json --rule /items=union --rule '/items/*/qty=max'
  stator keyspace create trials --quota-keys 1000000 --quota-bytes 10GiB --quota-requests 500

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
    #[command(flatten)]
    reconciling: Reconciling,
    /// Of a hundred gets, how many ask all replicas and repair stale ones; others ask r [default: 10]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    read_repair: Option<u32>,
    #[command(flatten)]
    merging: merging::Merging,
    #[command(flatten)]
    quota: quota::Quota,
    /// Take only modules that one of these public keys has signed: keys, or files that hold one
    #[arg(long, value_name = "KEY[,KEY...]", value_delimiter = ',')]
    signed_by: Option<Vec<String>>,
    /// Check only, create nothing; rules are checked by `stator module rules`
    #[arg(long, conflicts_with = "rules")]
    dry_run: bool,
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
    /// Check only, delete nothing
    #[arg(long)]
    dry_run: bool,
}

impl Keyspace {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Keyspace::Create(command) => command.run(session).await,
            Keyspace::List => list(session).await,
            Keyspace::Describe { name } => {
                let request = v1::GetKeyspaceRequest { name };
                let keyspace = session.admin().await?.get_keyspace(request).await?;
                let rules = rules::of_keyspace(session, &keyspace).await;
                print_with(session, &keyspace, rules.as_ref().map(rules::words))
            }
            Keyspace::Update(command) => command.run(session).await,
            Keyspace::Activate(command) => command.run(session).await,
            Keyspace::Rollback(command) => command.run(session).await,
            Keyspace::History { name } => history::history(session, name).await,
            Keyspace::Divergence(command) => command.run(session).await,
            Keyspace::Delete(command) => command.run(session).await,
        }
    }
}

impl Create {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let [n, r, w] = [("-n", self.n), ("-r", self.r), ("-w", self.w)].map(at_least_one);
        let (n, r, w) = (n?, r?, w?);
        let asked = self.reconciling.asked(session).await?;
        let keyspace = v1::Keyspace {
            name: self.name,
            n,
            r,
            w,
            durability: Durability::number(self.durability),
            reconcile: asked.reconcile.clone(),
            read_repair_percent: self.read_repair,
            merging: self.merging.message(),
            quota: self.quota.message(),
            signed_by: sign::keys(&self.signed_by.unwrap_or_default())?,
            ..Default::default()
        };
        let request =
            v1::CreateKeyspaceRequest { keyspace: Some(keyspace), validate_only: self.dry_run };
        let created = session.admin().await?.create_keyspace(request).await;
        let keyspace = created.map_err(|error| asked.failed(error))?;
        if self.dry_run {
            output::say("nothing was created; it would be:");
        }
        if !self.dry_run {
            members::settled(session, async |admin| {
                let request = v1::GetKeyspaceRequest { name: keyspace.name.clone() };
                Ok(admin.get_keyspace(request).await?.id == keyspace.id)
            })
            .await?;
        }
        print(session, &keyspace)
    }
}

const UPDATE_EXAMPLES: &str = "\
Examples:
  stator keyspace update carts -w 3
  stator keyspace update carts --module cart --etag 1f0c5d6f --dry-run
  stator keyspace update carts --reconcile json --rule /items=union --rule =last-write
  stator keyspace update carts --signed-by release.pub,second.pub
  stator keyspace update carts --signed-by ''
  stator keyspace update carts --quota-bytes 20GiB --quota-requests 0
  stator keyspace update carts -n 5 -r 3 -w 3

Another n comes about while requests go on: `stator keyspace describe` tells how far it is. Until gets
ask the new replicas, `-n` with the n that there is takes it back.";

/// Change what a keyspace promises; what is not given stays
#[derive(Debug, Args)]
#[command(after_help = UPDATE_EXAMPLES)]
pub(super) struct Update {
    /// The keyspace
    name: String,
    /// How many replicas hold a key; copies are made in the background
    #[arg(short, value_name = "REPLICAS")]
    n: Option<u32>,
    /// How many replicas must answer a get
    #[arg(short, value_name = "REPLICAS")]
    r: Option<u32>,
    /// How many replicas must acknowledge a put
    #[arg(short, value_name = "REPLICAS")]
    w: Option<u32>,
    /// When an acknowledgement counts
    #[arg(long, value_enum)]
    durability: Option<Durability>,
    #[command(flatten)]
    reconciling: Reconciling,
    /// Of a hundred gets, how many ask all replicas and repair stale ones; others ask r
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    read_repair: Option<u32>,
    #[command(flatten)]
    merging: merging::Merging,
    #[command(flatten)]
    quota: quota::Quota,
    /// Take only modules that one of these public keys has signed: keys, or files that hold one; '' lifts it
    #[arg(long, value_name = "KEY[,KEY...]", value_delimiter = ',')]
    signed_by: Option<Vec<String>>,
    /// Change it only if this is its etag, as `describe` shows it
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
    /// Why, for the history
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Check only, change nothing; rules are checked by `stator module rules`
    #[arg(long, conflicts_with = "rules")]
    dry_run: bool,
}

impl Update {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let asked = self.reconciling.asked(session).await?;
        let given = [
            ("n", self.n.is_some()),
            ("r", self.r.is_some()),
            ("w", self.w.is_some()),
            ("durability", self.durability.is_some()),
            ("reconcile", asked.reconcile.is_some()),
            ("read_repair_percent", self.read_repair.is_some()),
            ("signed_by", self.signed_by.is_some()),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given);
        let mut paths: Vec<String> = given.map(|(name, _)| name.to_owned()).collect();
        paths.extend(self.merging.paths());
        paths.extend(self.quota.paths());
        if paths.is_empty() {
            let message = "say what to change: -n, -r, -w, --durability, --reconcile, --module, \
                           --read-repair, --signed-by, a quota, or how merges are cared for (--help)";
            return Err(Failure::usage(message));
        }
        let keyspace = v1::Keyspace {
            name: self.name,
            n: self.n.unwrap_or_default(),
            r: self.r.unwrap_or_default(),
            w: self.w.unwrap_or_default(),
            durability: Durability::number(self.durability),
            reconcile: asked.reconcile.clone(),
            etag: self.etag,
            read_repair_percent: self.read_repair,
            merging: self.merging.message(),
            quota: self.quota.message(),
            signed_by: sign::keys(&self.signed_by.unwrap_or_default())?,
            ..Default::default()
        };
        let request = v1::UpdateKeyspaceRequest {
            keyspace: Some(keyspace),
            update_mask: Some(prost_types::FieldMask { paths }),
            validate_only: self.dry_run,
            reason: self.reason,
        };
        let updated = session.admin().await?.update_keyspace(request).await;
        let keyspace = updated.map_err(|error| asked.failed(error))?;
        if self.dry_run {
            output::say("nothing was changed; it would be:");
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
        let Delete { name, etag, yes, dry_run } = self;
        if !yes && !dry_run {
            return Err(Failure::usage(format!(
                "this deletes every key of keyspace {name} on all nodes"
            ))
            .hint("say --yes if that is meant"));
        }
        let request =
            v1::DeleteKeyspaceRequest { name: name.clone(), etag, validate_only: dry_run };
        let answer = session.admin().await?.delete_keyspace(request).await?;
        let keyspace = answer
            .keyspace
            .ok_or_else(|| Failure::refused("the node did not say what it deleted"))?;
        match session.output {
            Output::Json => output::json(&json(&keyspace)),
            Output::Table if dry_run => {
                output::line(format!("keyspace {name} would be deleted; nothing was changed"))
            }
            Output::Table => output::line(format!("keyspace {name} deleted")),
        }
    }
}

async fn list(session: &Session) -> Result<(), Failure> {
    let keyspaces = session.admin().await?.keyspaces().await?;
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
            output::line(output::table(
                ["name", "n", "r", "w", "durability", "reconcile", "keys", "bytes", "on disks"],
                rows,
            ))
        }
    }
}

fn print(session: &Session, keyspace: &v1::Keyspace) -> Result<(), Failure> {
    print_with(session, keyspace, None)
}

/// With the rules of its module, if it is one of rules.
fn print_with(
    session: &Session,
    keyspace: &v1::Keyspace,
    rules: Option<Vec<String>>,
) -> Result<(), Failure> {
    match session.output {
        Output::Json => {
            let mut document = json(keyspace);
            if let Some(rules) = rules {
                document["rules"] = json!(rules);
            }
            output::json(&document)
        }
        Output::Table => {
            let facts = [
                ("name", keyspace.name.clone()),
                ("id", format!("{} (generation {})", keyspace.id, keyspace.generation)),
                ("replicas", format!("n={} r={} w={}", keyspace.n, keyspace.r, keyspace.w)),
                ("on its way", resize::words(keyspace)),
                ("durability", Durability::word(keyspace.durability).to_owned()),
                ("reconcile", reconcile_words(keyspace)),
                ("rules", rules.unwrap_or_default().join("\n            ")),
                ("read repair", format!("{} % of gets", keyspace.read_repair_percent())),
                ("trial", trial_words(keyspace)),
                ("signed by", keyspace.signed_by.join("\n            ")),
                ("not signed", keyspace.unsigned_modules.join("\n            ")),
                ("holds", quota::usage_words(keyspace)),
                ("quota", quota::words(keyspace)),
                ("etag", keyspace.etag.clone()),
            ];
            let merging = merging::words(&keyspace.merging.unwrap_or_default());
            let facts = facts.into_iter().chain(merging);
            let facts = facts.filter(|(_, value)| !value.is_empty());
            let lines: Vec<_> = facts.map(|(name, value)| format!("{name:<12}{value}")).collect();
            output::line(lines.join("\n"))
        }
    }
}

fn trial_words(keyspace: &v1::Keyspace) -> String {
    let words = |trial| format!("{} {}", history::trial_words(trial), trial.module_digest);
    keyspace.trial.as_ref().map(words).unwrap_or_default()
}

fn policy(keyspace: &v1::Keyspace) -> (&'static str, &str) {
    let Some(reconcile) = &keyspace.reconcile else {
        return ("siblings", "");
    };
    match v1::ReconcilePolicy::try_from(reconcile.policy) {
        Ok(v1::ReconcilePolicy::Siblings | v1::ReconcilePolicy::Unspecified) => ("siblings", ""),
        Ok(v1::ReconcilePolicy::LastWriteWins) => ("last-write-wins", ""),
        Ok(v1::ReconcilePolicy::Module) if reconcile.fold => ("fold", &reconcile.module_digest),
        Ok(v1::ReconcilePolicy::Module) if reconcile.ancestor => {
            ("three-way", &reconcile.module_digest)
        }
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

fn row(keyspace: &v1::Keyspace) -> [String; 9] {
    let [keys, bytes, stored] = quota::usage_cells(keyspace);
    let reconcile = match policy(keyspace) {
        (policy, "") => policy.to_owned(),
        (policy, digest) => {
            let is_signed = !keyspace.unsigned_modules.iter().any(|module| module == digest);
            let word = if is_signed { "" } else { " (NOT SIGNED)" };
            format!("{policy} {}{word}", digest.get(..12).unwrap_or(digest))
        }
    };
    [
        keyspace.name.clone(),
        resize::cell(keyspace),
        keyspace.r.to_string(),
        keyspace.w.to_string(),
        Durability::word(keyspace.durability).to_owned(),
        reconcile,
        keys,
        bytes,
        stored,
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
        "resize": keyspace.resize.as_ref().map(resize::json),
        "durability": Durability::word(keyspace.durability),
        "reconcile": policy,
        "module_digest": Some(digest).filter(|digest| !digest.is_empty()),
        "read_repair_percent": keyspace.read_repair_percent(),
        "merging": keyspace.merging.as_ref().map(merging::json),
        "quota": quota::json(&keyspace.quota.unwrap_or_default()),
        "usage": keyspace.usage.as_ref().map(quota::usage_json),
        "signed_by": keyspace.signed_by,
        "unsigned_modules": keyspace.unsigned_modules,
        "etag": keyspace.etag,
    })
}
