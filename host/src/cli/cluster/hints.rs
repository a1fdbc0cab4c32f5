//! `stator cluster hints`: what every member keeps for others, and since when.

use serde_json::{Value, json};
use stator_proto::v1;

use crate::cli::failure::Failure;
use crate::cli::members;
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

pub(super) const EXAMPLES: &str = "\
Examples:
  stator cluster hints
  stator cluster hints --output json

A hint is a write that a node keeps for a member that did not take it. It stays until that member
has it, however long that takes. A write that waits for two members counts for both.";

pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let nodes = members::statuses(session).await?;
    match session.output {
        Output::Json => output::json(&json!({
            "nodes": nodes.iter().map(|(member, status)| node_json(member, status.as_ref()))
                .collect::<Vec<_>>(),
        })),
        Output::Table => print(&nodes),
    }
}

fn print(nodes: &[(v1::Member, Option<v1::NodeStatus>)]) -> Result<(), Failure> {
    let header = ["kept by", "for", "hints", "bytes", "oldest", "alarm"];
    let mut rows = Vec::new();
    for (member, status) in nodes {
        let Some(hints) = status.as_ref().and_then(|status| status.hints.as_ref()) else {
            continue;
        };
        let alarms = status.as_ref().map_or(&[][..], |status| &status.alarms);
        rows.extend(hints.targets.iter().map(|target| {
            let alarm = alarms.iter().find(|alarm| alarm.node_id == target.node_id);
            [
                member.node_id.clone(),
                target.node_id.clone(),
                target.objects.to_string(),
                target.bytes.to_string(),
                age(target.oldest_age_ms),
                alarm.map_or("-".to_owned(), |alarm| alarm.reason.clone()),
            ]
        }));
    }
    match rows.is_empty() {
        true => output::line("nothing waits for any member")?,
        false => output::line(output::table(header, rows))?,
    }
    let header = ["node", "room taken", "room", "stored", "delivered", "refused", "lost"];
    let rows = nodes.iter().map(|(member, status)| {
        let hints = status.as_ref().and_then(|status| status.hints.as_ref());
        let of = |fact: fn(&v1::HintsStatus) -> u64| {
            hints.map_or("no answer".to_owned(), |hints| fact(hints).to_string())
        };
        [
            member.node_id.clone(),
            of(|hints| hints.bytes),
            of(|hints| hints.bytes_max),
            of(|hints| hints.stored),
            of(|hints| hints.delivered),
            of(|hints| hints.refused),
            of(|hints| hints.lost),
        ]
    });
    output::line(format!("\n{}", output::table(header, rows.collect())))?;
    say_alarms(nodes.iter().filter_map(|(_, status)| status.as_ref()))
}

/// The alarms of all nodes, for people.
pub(super) fn say_alarms<'a>(
    statuses: impl Iterator<Item = &'a v1::NodeStatus>,
) -> Result<(), Failure> {
    for status in statuses {
        let node = status.node.as_ref().map_or("?", |node| node.node_id.as_str());
        for alarm in &status.alarms {
            output::line(format!("ALARM {} at {node}: {}", alarm.reason, alarm.message))?;
        }
    }
    Ok(())
}

/// A time in the largest two units that say something.
fn age(ms: u64) -> String {
    let s = ms / 1_000;
    match (s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, min, s) => format!("{min} min {s} s"),
        (0, h, min, _) => format!("{h} h {min} min"),
        (days, h, ..) => format!("{days} d {h} h"),
    }
}

fn node_json(member: &v1::Member, status: Option<&v1::NodeStatus>) -> Value {
    let hints = status.and_then(|status| status.hints.as_ref());
    json!({
        "node_id": member.node_id,
        "answered": status.is_some(),
        "bytes": hints.map(|hints| hints.bytes),
        "bytes_max": hints.map(|hints| hints.bytes_max),
        "stored": hints.map(|hints| hints.stored),
        "delivered": hints.map(|hints| hints.delivered),
        "refused": hints.map(|hints| hints.refused),
        "lost": hints.map(|hints| hints.lost),
        "targets": hints.map(|hints| hints.targets.iter().map(|target| json!({
            "node_id": target.node_id,
            "objects": target.objects,
            "bytes": target.bytes,
            "oldest_age_ms": target.oldest_age_ms,
        })).collect::<Vec<_>>()),
        "alarms": status.map(alarms_json),
    })
}

/// A node's alarms, for programs.
pub(super) fn alarms_json(status: &v1::NodeStatus) -> Vec<Value> {
    let alarm = |alarm: &v1::Alarm| json!({ "reason": alarm.reason, "node_id": alarm.node_id, "message": alarm.message });
    status.alarms.iter().map(alarm).collect()
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn ages_read_in_two_units() {
        let table = [
            (999, "0 s"),
            (59_000, "59 s"),
            (61_000, "1 min 1 s"),
            (3_600_000, "1 h 0 min"),
            (90_061_000, "1 d 1 h"),
        ];
        table.iter().for_each(|(ms, words)| assert_eq!(age(*ms), *words));
    }
}
