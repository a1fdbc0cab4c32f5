//! `stator module pause`, `resume` and `logs`.

use clap::Args;
use serde_json::json;
use stator_proto::v1;

use super::resolve;
use crate::cli::failure::Failure;
use crate::cli::members;
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

/// Call no module in a keyspace for now
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stator module pause carts --reason 'it eats the processor'\n\nReaders get siblings, or what the keyspace has in place of a module that fails. Nothing is lost."
)]
pub(in crate::cli) struct Pause {
    /// The keyspace
    keyspace: String,
    /// Why, for the history
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

/// Let a keyspace merge again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stator module resume carts")]
pub(in crate::cli) struct Resume {
    /// The keyspace
    keyspace: String,
    /// Why, for the history
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

/// Print the last lines that a module has logged
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stator module logs cart\n\nEach node keeps 256 KiB of the last lines of all its modules, until it is restarted."
)]
pub(in crate::cli) struct Logs {
    /// The module: its digest, the beginning of it, or its name
    module: String,
}

impl Pause {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        set_paused(session, (self.keyspace, true), self.reason).await
    }
}

impl Resume {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        set_paused(session, (self.keyspace, false), self.reason).await
    }
}

async fn set_paused(
    session: &Session,
    (name, paused): (String, bool),
    reason: String,
) -> Result<(), Failure> {
    let merging = Some(v1::Merging { paused, ..Default::default() });
    let request = v1::UpdateKeyspaceRequest {
        keyspace: Some(v1::Keyspace { name: name.clone(), merging, ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["merging.paused".to_owned()] }),
        validate_only: false,
        reason,
    };
    session.admin().await?.update_keyspace(request).await?;
    let is_so = async |admin: &stator_client::Admin| {
        let now = admin.get_keyspace(v1::GetKeyspaceRequest { name: name.clone() }).await?;
        Ok(now.merging.unwrap_or_default().paused == paused)
    };
    let there = members::until_all(session, "know it", is_so).await?;
    match session.output {
        Output::Json => {
            output::json(&json!({ "keyspace": name, "paused": paused, "nodes": there }))
        }
        Output::Table if paused => output::line(format!("no module is called in {name}")),
        Output::Table => output::line(format!("{name} merges")),
    }
}

impl Logs {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let digest = resolve(&session.admin().await?, &self.module).await?;
        let lines = members::gather(session, "lines", async |admin| {
            let request = v1::GetModuleLogRequest { digest: digest.clone() };
            Ok(admin.get_module_log(request).await?.lines)
        });
        let mut lines = lines.await?;
        lines.sort_by_key(|(_, line)| line.at_ms);
        if lines.is_empty() && session.output == Output::Table {
            output::say("it has logged nothing that a node still has");
        }
        lines.iter().try_for_each(|(node, line)| match session.output {
            Output::Json => output::json(&json!({
                "node": node,
                "at_ms": line.at_ms,
                "level": line.level,
                "line": line.line,
            })),
            // Escaped, because a module may write what it likes.
            Output::Table => output::line(format!(
                "{}  {node}  {:<5}  {}",
                output::utc(line.at_ms),
                line.level,
                line.line.escape_debug()
            )),
        })
    }
}
