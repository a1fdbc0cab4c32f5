//! `stator conflicts`: the merges of all nodes, and what could not be merged.

use clap::{Args, Subcommand};
use futures::stream::{StreamExt, select_all};
use serde_json::{Value, json};
use stator_proto::v1;

use super::failure::Failure;
use super::members::{self, short};
use super::output::{self, Output};
use super::parse;
use super::session::Session;

/// Look at merges as they happen, and at what could not be merged
#[derive(Debug, Subcommand)]
pub(super) enum Conflicts {
    /// Print the merges of all nodes
    Tail(Tail),
    /// List the keys that no module could merge
    Dead {
        /// Only those of this keyspace
        #[arg(short, long, default_value = "", hide_default_value = true, value_name = "NAME")]
        keyspace: String,
    },
    /// Print whole inputs of merges, as `module test --samples` reads them
    #[command(after_help = RECORDED_EXAMPLES)]
    Recorded {
        /// The keyspace
        #[arg(short, long, value_name = "NAME")]
        keyspace: String,
    },
}

const RECORDED_EXAMPLES: &str = "\
Example:
  stator conflicts recorded -k carts > conflicts.jsonl
  stator module test cart.wasm --samples conflicts.jsonl

Each node records a sample of its merges, values and all (limits.recordings_bytes_max; 0 for none).";

const TAIL_EXAMPLES: &str = "\
Examples:
  stator conflicts tail                              every merge from now on
  stator conflicts tail -k carts --only failures
  stator conflicts tail --since 0 --no-wait --output json
  stator conflicts tail --node 8d4fad9a73ae10d1 --since 4711

Each node numbers its own merges. To go on where a reader stopped, give the node and the last number;
a gap in the numbers says that older ones had to go (limits.conflicts_bytes_max). The id is the same
for the same siblings and module on every node: drop repeats by it. A merge that a node remembers is
not made again and not listed again.";

/// Print the merges of all nodes
#[derive(Debug, Args)]
#[command(after_help = TAIL_EXAMPLES)]
pub(super) struct Tail {
    /// Only those of this keyspace
    #[arg(short, long, default_value = "", hide_default_value = true, value_name = "NAME")]
    keyspace: String,
    /// Only those of this key
    #[arg(long, default_value = "", hide_default_value = true)]
    key: String,
    /// Only some
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Those of modules on trial too, where they differ from what counts
    #[arg(long)]
    trial: bool,
    /// Begin after this number; 0 is the oldest that is left [default: from now on]
    #[arg(long, value_name = "NUMBER")]
    since: Option<u64>,
    /// Only those of this node
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    node: String,
    /// End when there are no more
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// Merges that failed
    Failures,
}

impl Conflicts {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Conflicts::Tail(tail) => tail.run(session).await,
            Conflicts::Dead { keyspace } => dead(session, keyspace).await,
            Conflicts::Recorded { keyspace } => {
                let all = recordings(session, &keyspace).await?;
                all.iter().try_for_each(|recording| output::line(&recording.sample))
            }
        }
    }
}

impl Tail {
    fn request(&self) -> v1::TailConflictsRequest {
        v1::TailConflictsRequest {
            keyspace: self.keyspace.clone(),
            key: self.key.clone().into(),
            only_failures: self.only == Some(Only::Failures),
            after: self.since.unwrap_or_default(),
            no_wait: self.no_wait,
            from_now: self.since.is_none(),
        }
    }

    async fn run(self, session: &Session) -> Result<(), Failure> {
        let mut tails = Vec::new();
        for asked in members::all(session).await? {
            let node = &asked.member.node_id;
            match &asked.admin {
                _ if !node.starts_with(&self.node) => {}
                Some(admin) => tails.push(admin.tail_conflicts(self.request()).await?),
                None => output::say(format!("node {node} does not answer: its merges are missing")),
            }
        }
        if tails.is_empty() {
            return Err(Failure::usage(format!("no node that answers is called {}", self.node)));
        }
        let mut all = select_all(tails);
        let mut is_first = true;
        while let Some(conflict) = all.next().await {
            let conflict = conflict.map_err(stator_client::Error::from)?;
            if conflict.cause == "trial" && !self.trial {
                continue;
            }
            match session.output {
                Output::Json => output::json(&conflict_json(&conflict))?,
                Output::Table => {
                    if std::mem::take(&mut is_first) {
                        output::line(HEADER)?;
                    }
                    output::line(words(&conflict))?;
                }
            }
        }
        Ok(())
    }
}

const HEADER: &str =
    "WHEN                      KEYSPACE/KEY              CAUSE  MODULE        WHAT";

/// One merge in a line.
pub(super) fn words(conflict: &v1::Conflict) -> String {
    let subject = format!("{}/{}", conflict.keyspace, parse::shown(&conflict.key));
    let mut line = format!(
        "{:<24}  {subject:<24}  {:<5}  {:<12}  {} siblings -> {}",
        output::utc(conflict.at_ms),
        conflict.cause,
        short(&conflict.module_digest),
        conflict.siblings.len(),
        conflict.came,
    );
    if !conflict.comparison.is_empty() {
        line.push_str(&format!(" [{}]", conflict.comparison));
    }
    if !conflict.failure.is_empty() {
        line.push_str(&format!(": {}", conflict.failure));
    }
    if !conflict.note.is_empty() {
        line.push_str(&format!(" ({})", conflict.note));
    }
    for event in &conflict.events {
        line.push_str(&format!(" !{}: {}", event.topic, parse::shown(&event.payload)));
    }
    line
}

pub(super) fn conflict_json(conflict: &v1::Conflict) -> Value {
    let events = conflict.events.iter();
    json!({
        "node": conflict.node_id,
        "sequence": conflict.sequence,
        "id": conflict.id,
        "at_ms": conflict.at_ms,
        "keyspace": conflict.keyspace,
        "key": parse::shown(&conflict.key),
        "key_base64": parse::print_base64(&conflict.key),
        "cause": conflict.cause,
        "module_digest": conflict.module_digest,
        "came": conflict.came,
        "failure": Some(&conflict.failure).filter(|failure| !failure.is_empty()),
        "siblings": conflict.siblings.iter().map(|dots| &dots.dots).collect::<Vec<_>>(),
        "bytes_in": conflict.bytes_in,
        "bytes_out": conflict.bytes_out,
        "fuel": conflict.fuel,
        "micros": conflict.micros,
        "note": conflict.note,
        "events": events
            .map(|e| json!({ "topic": e.topic, "payload_base64": parse::print_base64(&e.payload) }))
            .collect::<Vec<_>>(),
        "comparison": Some(&conflict.comparison).filter(|comparison| !comparison.is_empty()),
    })
}

/// What all nodes have recorded of a keyspace, each input once, the oldest first.
pub(super) async fn recordings(
    session: &Session,
    keyspace: &str,
) -> Result<Vec<v1::Recording>, Failure> {
    // Asked once for the keyspace itself, so that a name without one is no empty answer.
    let known = v1::GetKeyspaceRequest { name: keyspace.to_owned() };
    session.admin().await?.get_keyspace(known).await?;
    let all = members::gather(session, "recordings", async |admin| {
        let request = v1::ListRecordingsRequest { keyspace: keyspace.to_owned() };
        members::drain(admin.list_recordings(request).await?).await
    });
    let mut all: Vec<_> = all.await?.into_iter().map(|(_, recording)| recording).collect();
    all.sort_by(|a, b| (&a.id, a.at_ms).cmp(&(&b.id, b.at_ms)));
    all.dedup_by(|a, b| a.id == b.id);
    all.sort_by_key(|recording| recording.at_ms);
    Ok(all)
}

async fn dead(session: &Session, keyspace: String) -> Result<(), Failure> {
    let letters = members::gather(session, "letters", async |admin| {
        let request = v1::ListDeadLettersRequest { keyspace: keyspace.clone() };
        Ok(admin.list_dead_letters(request).await?.letters)
    });
    let letters: Vec<_> = letters.await?.into_iter().map(|(_, letter)| letter).collect();
    if session.output == Output::Json {
        let letter = |letter: &v1::DeadLetter| {
            json!({
                "last": letter.last.as_ref().map(conflict_json),
                "since_ms": letter.since_ms,
                "failures": letter.failures,
            })
        };
        let letters: Vec<_> = letters.iter().map(letter).collect();
        return output::json(&json!({ "letters": letters }));
    }
    if letters.is_empty() {
        return output::line("every key that was read could be merged");
    }
    let rows = letters.iter().filter_map(|letter| {
        let last = letter.last.as_ref()?;
        Some([
            format!("{}/{}", last.keyspace, parse::shown(&last.key)),
            output::utc(letter.since_ms),
            short(&last.module_digest).to_owned(),
            last.node_id.clone(),
            last.failure.clone(),
        ])
    });
    output::line(output::table(["key", "since", "module", "node", "why"], rows.collect()))?;
    output::say("they are tried again when the keyspace is pinned to another module");
    Ok(())
}
