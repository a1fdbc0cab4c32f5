//! `stator keyspace activate`, `rollback` and `history`: which module merges, and which one did.

use clap::Args;
use serde_json::{Value, json};
use stator_client::Admin;
use stator_proto::v1;
use stator_proto::v1::chronicle_entry::What;

use super::{policy, print};
use crate::cli::failure::Failure;
use crate::cli::members::{self, short};
use crate::cli::module::resolve;
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

const ACTIVATE_EXAMPLES: &str = "\
Examples:
  stator keyspace activate carts cart --reason 'keeps removed articles removed'
  stator keyspace activate carts 1f0c5d6f90ab

The keyspace goes on as it was, as a view, a fold or with an ancestor, with another module. It ends
what is tried there. Keys whose merge failed are tried again by every node that knows of them.";

/// Pin a keyspace to another module
#[derive(Debug, Args)]
#[command(after_help = ACTIVATE_EXAMPLES)]
pub(in crate::cli) struct Activate {
    /// The keyspace
    keyspace: String,
    /// The module: its digest, the beginning of it, or its name
    module: String,
    /// Why, for the history
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

const ROLLBACK_EXAMPLES: &str = "\
Example:
  stator keyspace rollback carts --reason 'loses lines of more than 99 pieces'

Twice it is back at the module it began with: what was pinned before is never forgotten by it. What a
fold has stored stays stored.";

/// Pin a keyspace to what it was pinned to before
#[derive(Debug, Args)]
#[command(after_help = ROLLBACK_EXAMPLES)]
pub(in crate::cli) struct Rollback {
    /// The keyspace
    keyspace: String,
    /// Why, for the history
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

async fn keyspace(admin: &Admin, name: String) -> Result<v1::Keyspace, Failure> {
    Ok(admin.get_keyspace(v1::GetKeyspaceRequest { name }).await?)
}

impl Activate {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let admin = session.admin().await?;
        let now = keyspace(&admin, self.keyspace).await?;
        let mut reconcile = now.reconcile.clone().unwrap_or_default();
        if reconcile.module_digest.is_empty() {
            let name = &now.name;
            return Err(Failure::usage(format!("keyspace {name} merges by no module now")).hint(
                format!("`stator keyspace update {name} --module MODULE` makes it one that does"),
            ));
        }
        reconcile.module_digest = resolve(&admin, &self.module).await?;
        pin(session, &admin, now, reconcile, self.reason).await
    }
}

impl Rollback {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let admin = session.admin().await?;
        let now = keyspace(&admin, self.keyspace).await?;
        let Some(before) = before(&now) else {
            let message = format!("keyspace {} was never pinned to anything else", now.name);
            return Err(Failure::refused(message).hint("nothing was changed"));
        };
        let reason = if self.reason.is_empty() { "rollback".to_owned() } else { self.reason };
        pin(session, &admin, now, before, reason).await
    }
}

/// What was pinned before what is pinned now: where a rollback leads.
fn before(now: &v1::Keyspace) -> Option<v1::Reconcile> {
    let pinned = now.chronicle.iter().rev().filter_map(|entry| match &entry.what {
        Some(What::Pinned(reconcile)) => Some(reconcile),
        _ => None,
    });
    let current = now.reconcile.clone().unwrap_or_default();
    pinned.skip_while(|one| **one != current).find(|one| **one != current).cloned()
}

/// Pins the keyspace, if it is still as it was looked at, and says whether every node knows.
async fn pin(
    session: &Session,
    admin: &Admin,
    now: v1::Keyspace,
    reconcile: v1::Reconcile,
    reason: String,
) -> Result<(), Failure> {
    let keyspace = v1::Keyspace {
        name: now.name.clone(),
        etag: now.etag,
        reconcile: Some(reconcile.clone()),
        ..Default::default()
    };
    let request = v1::UpdateKeyspaceRequest {
        keyspace: Some(keyspace),
        update_mask: Some(prost_types::FieldMask { paths: vec!["reconcile".to_owned()] }),
        validate_only: false,
        reason,
    };
    let made = admin.update_keyspace(request).await?;
    let knows = async |admin: &Admin| {
        let known = keyspace_of(admin, &now.name).await?;
        Ok(known.reconcile.as_ref() == Some(&reconcile))
    };
    members::until_all(session, "know it", knows).await?;
    print(session, &made)
}

async fn keyspace_of(admin: &Admin, name: &str) -> Result<v1::Keyspace, Failure> {
    keyspace(admin, name.to_owned()).await
}

/// Prints what the keyspace was pinned to, and what was tried.
pub(super) async fn history(session: &Session, name: String) -> Result<(), Failure> {
    let keyspace = keyspace(&session.admin().await?, name).await?;
    match session.output {
        Output::Json => output::json(&json!({
            "keyspace": keyspace.name,
            "reconcile": policy(&keyspace).0,
            "trial": keyspace.trial.as_ref().map(trial_json),
            "history": keyspace.chronicle.iter().map(entry_json).collect::<Vec<_>>(),
        })),
        Output::Table if keyspace.chronicle.is_empty() => {
            output::say("nothing of it has changed since it was created");
            Ok(())
        }
        Output::Table => {
            let rows = keyspace.chronicle.iter().map(|entry| {
                let (what, module) = words(entry);
                let at = match entry.at_ms {
                    0 => "before".to_owned(),
                    at_ms => output::utc(at_ms),
                };
                [at, what, short(&module).to_owned(), entry.reason.clone()]
            });
            output::line(output::table(["when", "what", "module", "why"], rows.collect()))
        }
    }
}

/// What happened, and the module that it is about.
fn words(entry: &v1::ChronicleEntry) -> (String, String) {
    match &entry.what {
        Some(What::Pinned(reconcile)) => {
            let as_keyspace =
                v1::Keyspace { reconcile: Some(reconcile.clone()), ..Default::default() };
            (format!("pinned: {}", policy(&as_keyspace).0), reconcile.module_digest.clone())
        }
        Some(What::Tried(trial)) => (trial_words(trial), trial.module_digest.clone()),
        Some(What::TrialEnded(module)) => ("trial ended".to_owned(), module.clone()),
        None => ("not known to this version".to_owned(), String::new()),
    }
}

pub(super) fn trial_words(trial: &v1::Trial) -> String {
    match &trial.canary {
        None => "shadow".to_owned(),
        Some(canary) => format!("canary of {} %", canary.percent),
    }
}

fn trial_json(trial: &v1::Trial) -> Value {
    json!({
        "module_digest": trial.module_digest,
        "began_at_ms": trial.began_at_ms,
        "canary_percent": trial.canary.as_ref().map(|canary| canary.percent),
    })
}

fn entry_json(entry: &v1::ChronicleEntry) -> Value {
    let (what, module) = words(entry);
    json!({ "at_ms": entry.at_ms, "what": what, "module_digest": module, "reason": entry.reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(module: u64) -> v1::Reconcile {
        v1::Reconcile { module_digest: module.to_string(), ..Default::default() }
    }

    /// A keyspace that is pinned to `now` and was pinned to these, in this order.
    fn pinned(modules: &[u64], now: u64) -> v1::Keyspace {
        let entry = |module: &u64| v1::ChronicleEntry {
            what: Some(What::Pinned(of(*module))),
            ..Default::default()
        };
        let chronicle = modules.iter().map(entry).collect();
        v1::Keyspace { chronicle, reconcile: Some(of(now)), ..Default::default() }
    }

    #[test]
    fn a_rollback_leads_to_what_was_pinned_before() {
        assert_eq!(before(&pinned(&[], 1)), None);
        assert_eq!(before(&pinned(&[1, 2, 2], 2)), Some(of(1)));
        assert_eq!(before(&pinned(&[1, 2, 2, 1], 1)), Some(of(2)), "and forth");
        assert_eq!(before(&pinned(&[1, 2, 2, 1], 9)), None, "what was never pinned has nothing");
    }
}
