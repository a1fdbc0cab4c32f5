//! `stator kv put`.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use bytes::Bytes;
use clap::Args;
use stator_proto::v1;

use super::options::{Contexts, Durability, Replicas, Target, Written};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::cli::parse;
use crate::cli::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator kv put greeting hello
  stator kv put cart-7 -k carts --file cart.json
  date | stator kv put now --file -
  stator kv put greeting hi --replace
  stator kv put greeting hi --context \"$(stator kv get greeting --output json | jq -r .context)\"

Without a context the value becomes a sibling of what is stored: nothing is replaced.";

/// Write the value of a key
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Put {
    #[command(flatten)]
    target: Target,
    /// The value
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    value: Option<String>,
    /// Take the value from a file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    contexts: Contexts,
    /// In the place of what the key holds now: it is read first, and its context taken
    #[arg(long, conflicts_with_all = ["contexts", "context_file"])]
    replace: bool,
    /// Only if the contexts have seen all that the key holds; without one, if it holds nothing
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
    /// A number for the format of the value, handed to merge modules
    #[arg(long, default_value_t = 0)]
    schema: u32,
    /// Time to live: 500ms, 10s, 2m
    #[arg(long, value_parser = parse::duration, value_name = "DURATION")]
    ttl: Option<Duration>,
    /// A label stored with the version; may be given several times
    #[arg(long = "label", value_parser = parse::label, value_name = "NAME=VALUE")]
    labels: Vec<(String, String)>,
    /// Names this put, so that a retry with the same id is one write; 64 bytes at most
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    request_id: String,
}

impl Put {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let value = self.read_value()?;
        let Put { target, .. } = &self;
        let client = session.kv().await?;
        let contexts = match self.replace {
            true => {
                let get = v1::GetRequest {
                    keyspace: target.keyspace.clone(),
                    key: target.key_bytes()?,
                    view: v1::View::Metadata.into(),
                    ..Default::default()
                };
                client.send_get(get).await?.context.into_iter().collect()
            }
            false => self.contexts.take()?,
        };
        let request = v1::PutRequest {
            keyspace: target.keyspace.clone(),
            key: target.key_bytes()?,
            value,
            contexts,
            schema: self.schema,
            ttl_ms: self.ttl.map(|ttl| ttl.as_millis() as u64),
            labels: self.labels.into_iter().collect(),
            w: self.w,
            quorum: self.replicas.quorum(),
            durability: Durability::number(self.durability),
            request_id: self.request_id.into_bytes().into(),
            ring_version: 0,
            only_if_current: self.if_current,
        };
        let answer = client.send_put(request).await?;
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
            Output::Table => output::line(written.sentence(&format!("{} stored", self.target.key))),
        }
    }

    fn read_value(&self) -> Result<Bytes, Failure> {
        let read = match (&self.value, &self.file) {
            (Some(value), _) => Ok(value.clone().into_bytes()),
            (None, Some(path)) if path.as_os_str() == "-" => {
                let mut value = Vec::new();
                io::stdin().lock().read_to_end(&mut value).map(|_| value)
            }
            (None, Some(path)) => fs::read(path),
            (None, None) => return Err(Failure::usage("give a VALUE or --file")),
        };
        let value =
            read.map_err(|error| Failure::usage(format!("cannot read the value: {error}")))?;
        Ok(value.into())
    }
}
