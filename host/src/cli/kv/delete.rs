//! `stator kv delete`.

use clap::Args;
use stator_proto::v1;

use super::options::{Contexts, Durability, Replicas, Target, Written};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::cli::parse;
use crate::cli::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator kv delete greeting
  stator kv delete greeting --context BASE64

With a context it deletes exactly what that get had seen. Without one the node reads first and
deletes exactly what it saw. A value written at the same time by another client stays.";

/// Delete a key
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Delete {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    contexts: Contexts,
    /// Only if the contexts have seen all that the key holds
    #[arg(long)]
    if_current: bool,
    /// How many replicas must acknowledge [default: the keyspace's w]
    #[arg(short, value_name = "REPLICAS")]
    w: Option<u32>,
    #[command(flatten)]
    replicas: Replicas,
    /// When an acknowledgement counts [default: the keyspace's durability]
    #[arg(long, value_enum)]
    durability: Option<Durability>,
    /// A label stored with the tombstone; may be given several times
    #[arg(long = "label", value_parser = parse::label, value_name = "NAME=VALUE")]
    labels: Vec<(String, String)>,
    /// Names this delete, so that a retry with the same id is one write; 64 bytes at most
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    request_id: String,
}

impl Delete {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let contexts = self.contexts.take()?;
        let request = v1::DeleteRequest {
            keyspace: self.target.keyspace.clone(),
            key: self.target.key_bytes()?,
            observed: contexts.is_empty(),
            contexts,
            w: self.w,
            quorum: self.replicas.quorum(),
            durability: Durability::number(self.durability),
            labels: self.labels.into_iter().collect(),
            request_id: self.request_id.into_bytes().into(),
            only_if_current: self.if_current,
            ..Default::default()
        };
        let answer = session.kv().await?.send_delete(request).await?;
        let written = Written {
            dot: answer.dot,
            context: answer.context,
            siblings_remain: answer.siblings_remain,
            acked: answer.acked,
            hinted: answer.hinted,
            ring_version: answer.ring_version,
        };
        match session.output {
            Output::Json => output::json(&written.json(&self.target)),
            Output::Table => {
                output::line(written.sentence(&format!("{} deleted", self.target.key)))
            }
        }
    }
}
