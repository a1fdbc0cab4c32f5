//! `stator kv get`.

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use stator_proto::v1;

use super::options::{Replicas, Target, version_json};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{self, Output};
use crate::cli::parse;
use crate::cli::session::Session;

const EXAMPLES: &str = "\
Examples:
  stator kv get greeting
  stator kv get cart-7 -k carts --view siblings
  stator kv get cart-7 -k carts --context-file ctx && \\
    stator kv put cart-7 -k carts --context-file ctx --file new.json

A single value is printed as it is. Concurrent ones are listed.
Exit code 3: the key does not exist or is deleted.";

/// Print the value of a key, or its siblings
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Get {
    #[command(flatten)]
    target: Target,
    /// How many replicas must answer [default: the keyspace's r]
    #[arg(short, value_name = "REPLICAS")]
    r: Option<u32>,
    #[command(flatten)]
    replicas: Replicas,
    /// What to print
    #[arg(long, value_enum, default_value = "merged")]
    view: View,
    /// A write that the answer must have seen, as put and get name it; may be given several times
    #[arg(long, value_name = "WRITE")]
    at_least: Vec<String>,
    /// Write the context to this file, for the put that replaces what is printed
    #[arg(long, value_name = "FILE")]
    context_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum View {
    /// What the keyspace's policy makes of the siblings
    Merged,
    /// Every concurrent version as it is stored
    Siblings,
    /// As siblings, without the values
    Metadata,
}

impl Get {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let view = match self.view {
            View::Merged => v1::View::Merged,
            View::Siblings => v1::View::Siblings,
            View::Metadata => v1::View::Metadata,
        };
        let request = v1::GetRequest {
            keyspace: self.target.keyspace.clone(),
            key: self.target.key_bytes()?,
            r: self.r,
            quorum: self.replicas.quorum(),
            view: view as i32,
            ring_version: 0,
            at_least: self.at_least.clone(),
            tell_seen: false,
        };
        let answer = session.kv().await?.send_get(request).await?;
        self.save_context(&answer)?;
        match session.output {
            Output::Json => output::json(&self.json(&answer))?,
            Output::Table => self.print(&answer)?,
        }
        match answer.versions.iter().any(|version| !version.tombstone) {
            true => Ok(()),
            false => {
                let target = &self.target;
                let message =
                    format!("{:?} has no value in keyspace {}", target.key, target.keyspace);
                Err(Failure::new(Kind::NotFound, message))
            }
        }
    }

    fn save_context(&self, answer: &v1::GetResponse) -> Result<(), Failure> {
        let Some(path) = &self.context_file else {
            return Ok(());
        };
        let Some(context) = &answer.context else {
            return Err(Failure::refused(
                "the answer has no context: not every sibling was readable",
            )
            .hint("nothing can be replaced by it; try again, or with another -r"));
        };
        fs::write(path, parse::print_base64(context)).map_err(|error| {
            Failure::refused(format!("cannot write the context to {}: {error}", path.display()))
        })
    }

    fn json(&self, answer: &v1::GetResponse) -> Value {
        let merge = answer.merge.as_ref().map(|merge| {
            json!({
                "module_digest": merge.module_digest,
                "sibling_count": merge.sibling_count,
                "merged": merge.merged,
                "failure": merge.failure,
                "note": merge.note,
            })
        });
        json!({
            "keyspace": self.target.keyspace,
            "key": self.target.key,
            "versions": answer.versions.iter().map(version_json).collect::<Vec<_>>(),
            "context": answer.context.as_deref().map(parse::print_base64),
            "merge": merge,
            "answered": answer.answered,
            "ring_version": answer.ring_version,
        })
    }

    fn print(&self, answer: &v1::GetResponse) -> Result<(), Failure> {
        if let Some(merge) = &answer.merge {
            explain(merge);
        }
        match answer.versions.as_slice() {
            [] => Ok(()),
            [v1::Version { value: Some(value), .. }] if matches!(self.view, View::Merged) => {
                output::raw(value)
            }
            versions => {
                let rows = versions.iter().map(row).collect();
                output::line(output::table(["value", "bytes", "written", "by", "dots"], rows))?;
                if versions.len() > 1 {
                    output::say(
                        "concurrent versions: a put with this get's context replaces them all",
                    );
                }
                Ok(())
            }
        }
    }
}

/// Tells people how an answer came to be.
fn explain(merge: &v1::MergeInfo) {
    let by = match merge.module_digest.get(..12) {
        Some(digest) => format!("module {digest}"),
        None => "the keyspace's policy".to_owned(),
    };
    if !merge.failure.is_empty() {
        output::say(format!(
            "{by} could not merge {} siblings: {}",
            merge.sibling_count, merge.failure
        ));
    } else if merge.merged {
        output::say(format!("merged from {} siblings by {by}", merge.sibling_count));
    }
    if !merge.note.is_empty() {
        output::say(format!("note of {by}: {}", merge.note));
    }
}

fn row(version: &v1::Version) -> [String; 5] {
    let merged = version.origin.as_ref().and_then(|origin| origin.maker.as_ref());
    let by = match merged {
        Some(v1::origin::Maker::Merge(_)) => "merge",
        _ => "client",
    };
    [
        preview(version),
        version.value_bytes.to_string(),
        output::utc(version.written_at_ms),
        by.to_owned(),
        version.dots.join(" "),
    ]
}

/// The beginning of a value, safe to print.
fn preview(version: &v1::Version) -> String {
    const CHARS_MAX: usize = 60;
    match &version.value {
        None if version.tombstone => "(deleted)".to_owned(),
        None => String::new(),
        Some(value) => {
            let text = String::from_utf8_lossy(value);
            let printable = |c: char| if c.is_control() { ' ' } else { c };
            let mut line: String = text.chars().take(CHARS_MAX).map(printable).collect();
            if text.chars().nth(CHARS_MAX).is_some() {
                line.push('…');
            }
            line
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_is_short_and_has_no_control_characters() {
        let of = |value: &str| {
            preview(&v1::Version { value: Some(value.to_owned().into()), ..Default::default() })
        };
        assert_eq!(of("a\u{1b}[31m\nb"), "a [31m b");
        assert_eq!(of(&"x".repeat(61)).chars().count(), 61);
        assert_eq!(of(&"x".repeat(60)).chars().count(), 60);
    }
}
