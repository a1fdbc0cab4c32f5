//! `stator kv watch`.

use clap::Args;
use serde_json::{Value, json};
use stator_client::{Changed, Event, Watching};
use stator_proto::v1;

use super::options::version_json;
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::cli::parse;
use crate::cli::session::Session;
use crate::cli::signals::Stop;

const EXAMPLES: &str = "\
Examples:
  stator kv watch -k carts                              # all keys, from now on
  stator kv watch -k carts cart-7 --siblings
  stator kv watch -k carts --prefix cart- --from-start --output json
  stator kv watch -k carts --resume w1:5c1f…,82a89692cc81fef6:0.91….1b

Prints a key with its value as often as it is changed, until ctrl-c; then the token to go on with. As JSON
one line each, with the token behind it: \"event\" is begun, changed, listing, listed, away or back. A key that is
changed quickly may be told once, as it was last; after a break the last ones may be told again.
It needs a way to all nodes of the cluster, as --endpoint is reached.";

/// Print what is changed, as it happens
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Watch {
    /// Only this key
    #[arg(conflicts_with = "prefix")]
    key: Option<String>,
    /// The keyspace
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    keyspace: String,
    /// Only keys that begin with this
    #[arg(long, value_name = "KEY")]
    prefix: Option<String>,
    /// KEYs are given in base64
    #[arg(long)]
    key_base64: bool,
    /// Every sibling as it is stored, instead of what the keyspace's policy makes of them
    #[arg(long)]
    siblings: bool,
    /// Only what is changed from now on [default]
    #[arg(long, conflicts_with_all = ["from_start", "resume"])]
    from_now: bool,
    /// First all keys that are there
    #[arg(long, conflicts_with = "resume")]
    from_start: bool,
    /// Go on where another watch of the same keys was
    #[arg(long, value_name = "TOKEN")]
    resume: Option<String>,
}

impl Watch {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let mut stop = Stop::new()?;
        let mut watch = session.cluster().await?.watch(self.watching()?).await?;
        loop {
            let event = tokio::select! {
                event = watch.next() => event?,
                () = stop.requested() => break,
            };
            let Some(event) = event else { break };
            match session.output {
                Output::Json => output::json(&document(&event, &watch.token()))?,
                Output::Table => print(&event)?,
            }
        }
        if session.output == Output::Table {
            output::say(format!("to go on from here: --resume {}", watch.token()));
        }
        Ok(())
    }

    fn watching(&self) -> Result<Watching, Failure> {
        let bytes = |text: &String| parse::key(text, self.key_base64);
        let mut watching = Watching::of(&self.keyspace);
        if let Some(key) = &self.key {
            watching = watching.key(bytes(key)?);
        }
        if let Some(prefix) = &self.prefix {
            watching = watching.prefix(bytes(prefix)?);
        }
        if self.siblings {
            watching = watching.siblings();
        }
        Ok(match &self.resume {
            Some(token) => watching.resume(token),
            None if self.from_start => watching.from_start(),
            None => watching,
        })
    }
}

fn document(event: &Event, token: &str) -> Value {
    let mut json = match event {
        Event::Begun => json!({ "event": "begun" }),
        Event::Listing => json!({ "event": "listing" }),
        Event::Listed => json!({ "event": "listed" }),
        Event::Away { node, why } => json!({ "event": "away", "node_id": node, "why": why }),
        Event::Back { node } => json!({ "event": "back", "node_id": node }),
        Event::Changed(Changed { key, answer }) => {
            let mut json = parse::key_json(key);
            json.insert("event".into(), "changed".into());
            json.insert("deleted".into(), is_deleted(answer).into());
            json.insert("versions".into(), answer.versions.iter().map(version_json).collect());
            let context = answer.context.as_deref().map(parse::print_base64);
            json.insert("context".into(), context.into());
            json.into()
        }
        _ => json!({ "event": "other" }),
    };
    json["token"] = token.into();
    json
}

fn is_deleted(answer: &v1::GetResponse) -> bool {
    answer.versions.iter().all(|version| version.tombstone)
}

fn print(event: &Event) -> Result<(), Failure> {
    match event {
        Event::Changed(Changed { key, answer }) => {
            let key = parse::shown_key(key);
            if answer.versions.is_empty() {
                return output::line(format!("{key}  (deleted)"));
            }
            answer.versions.iter().try_for_each(|version| {
                let value = match &version.value {
                    Some(value) => parse::shown(value),
                    None => "(deleted)".to_owned(),
                };
                output::line(format!("{key}  {value}"))
            })
        }
        Event::Begun => told("watching; every write from now on is told"),
        Event::Listing => told("all keys are listed now; changes go on meanwhile"),
        Event::Listed => told("all keys are listed: what was not told since then is not there"),
        Event::Away { node, why } => told(&format!(
            "node {node} is not reached ({why}); the other owners of its keys tell their changes"
        )),
        Event::Back { node } => told(&format!("node {node} is reached again")),
        _ => Ok(()),
    }
}

fn told(words: &str) -> Result<(), Failure> {
    output::say(words);
    Ok(())
}
