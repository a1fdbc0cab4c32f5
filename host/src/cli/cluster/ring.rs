//! `stator cluster join | leave | replace | weight | replicas | plan | commit | cancel`: changing
//! who owns what. Changes are staged, looked at, then committed.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use stator_proto::v1;
use v1::ring_change::Change;

use crate::address::HostPort;
use crate::cli::failure::Failure;
use crate::cli::members;
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

/// A commit tries for ten seconds before it says that there is no majority.
const COMMIT_MIN: Duration = Duration::from_secs(20);
/// What has to be typed for a commit without a majority.
const CONFIRMATION: &str = "the other nodes are lost for good";

const JOIN_EXAMPLES: &str = "\
Example, a fourth node:
  stator serve --bootstrap wait --data-dir d --client-listen 127.0.0.1:7401 \\
    --admin-listen 127.0.0.1:7402 --peer-listen 127.0.0.1:7403 &
  stator cluster join 127.0.0.1:7403
  stator cluster plan
  stator cluster commit

The node becomes a member at once, and gets its share at the commit. A join that was cut short
goes on when the command is run again.";

/// Stage that a waiting node joins
#[derive(Debug, Args)]
#[command(after_help = JOIN_EXAMPLES)]
pub(in crate::cli) struct Join {
    /// The peer address of a node started with `stator serve --bootstrap wait`
    #[arg(value_name = "PEER")]
    address: HostPort,
}

const LEAVE_EXAMPLES: &str = "\
Examples:
  stator cluster leave 6b1f0c5d6f1c7f9b          it hands over all that it has, then goes
  stator cluster leave 6b1f --lost               it will not return: removed at the commit, for ever
  stator cluster leave stator-2                  by the name of its machine, as in its addresses

`stator cluster status` shows ids and addresses.";

/// Stage that a node leaves
#[derive(Debug, Args)]
#[command(after_help = LEAVE_EXAMPLES)]
pub(in crate::cli) struct Leave {
    /// Its id, the beginning of it, its peer address, or the name of its machine
    #[arg(value_name = "NODE")]
    node: String,
    /// It will not return: its share is copied from the other owners
    #[arg(long)]
    lost: bool,
}

const REPLACE_EXAMPLES: &str = "\
Example, the machine of a node burnt down, and a new one waits at 127.0.0.1:7403:
  stator cluster replace 6b1f0c5d6f1c7f9b 127.0.0.1:7403
  stator cluster plan
  stator cluster commit

The old node is removed at the commit, for ever: only for nodes that will not return.";

/// Stage that a waiting node takes the place of one that will not return
#[derive(Debug, Args)]
#[command(after_help = REPLACE_EXAMPLES)]
pub(in crate::cli) struct Replace {
    /// The node that goes: its id, the beginning of it, its peer address, or the name of its machine
    #[arg(value_name = "NODE")]
    node: String,
    /// The peer address of the node that comes
    #[arg(value_name = "PEER")]
    address: HostPort,
}

const WEIGHT_EXAMPLES: &str = "\
Examples:
  stator cluster weight 6b1f0c5d6f1c7f9b 2                twice the share of a node of weight 1
  stator cluster weight 6b1f0c5d6f1c7f9b --zone rack-7    it stands elsewhere now";

/// Stage another weight, zone or region of a node
#[derive(Debug, Args)]
#[command(after_help = WEIGHT_EXAMPLES)]
pub(in crate::cli) struct Weight {
    /// Its id, the beginning of it, its peer address, or the name of its machine
    #[arg(value_name = "NODE")]
    node: String,
    /// Its capacity beside the others', from 1
    weight: Option<u32>,
    /// Its failure domain
    #[arg(long)]
    zone: Option<String>,
    /// Its region, for people
    #[arg(long)]
    region: Option<String>,
}

/// Stage another number of owners per partition: the largest n of a keyspace
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stator cluster replicas 5")]
pub(in crate::cli) struct Replicas {
    /// How many owners a partition has, as far as there are nodes
    replicas_max: u32,
}

const COMMIT_EXAMPLES: &str = "\
Examples:
  stator cluster plan && stator cluster commit
  stator cluster commit --plan 3f2a90c1d4e5b677      only if it is still this plan

A commit needs a majority of the ring's nodes. Where they are lost for good:
  stator cluster commit --unsafe-without-majority --confirm \"the other nodes are lost for good\"
If the others live, on the other side of a partition, that can make two rings of one version.";

/// Make what is staged the next ring
#[derive(Debug, Args)]
#[command(after_help = COMMIT_EXAMPLES)]
pub(in crate::cli) struct Commit {
    /// Commit only this plan, as `stator cluster plan` names it
    #[arg(long, value_name = "PLAN")]
    plan: Option<String>,
    /// Ask no majority: only if the other nodes are lost for good
    #[arg(long, requires = "confirm")]
    unsafe_without_majority: bool,
    /// What an unsafe commit has to be confirmed with
    #[arg(long, value_name = "TEXT", requires = "unsafe_without_majority")]
    confirm: Option<String>,
}

impl Join {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let join =
            v1::JoinMember { peer_address: self.address.to_string(), node_id: String::new() };
        stage(session, Change::Join(join)).await
    }
}

impl Leave {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let node_id = members::named(session, &self.node).await?;
        let leave = v1::LeaveMember { node_id, is_lost: self.lost };
        stage(session, Change::Leave(leave)).await
    }
}

impl Replace {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let replace = v1::ReplaceMember {
            node_id: members::named(session, &self.node).await?,
            peer_address: self.address.to_string(),
            new_node_id: String::new(),
        };
        stage(session, Change::Replace(replace)).await
    }
}

impl Weight {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let Weight { node, weight, zone, region } = self;
        if weight.is_none() && zone.is_none() && region.is_none() {
            return Err(Failure::usage("say what to change: a weight, --zone or --region"));
        }
        let node_id = members::named(session, &node).await?;
        stage(session, Change::Set(v1::SetMember { node_id, weight, zone, region })).await
    }
}

impl Replicas {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let set = v1::SetReplicasMax { replicas_max: self.replicas_max };
        stage(session, Change::SetReplicasMax(set)).await
    }
}

async fn stage(session: &Session, change: Change) -> Result<(), Failure> {
    let request =
        v1::StageRingChangeRequest { change: Some(v1::RingChange { change: Some(change) }) };
    let plan = session.admin().await?.stage_ring_change(request).await?;
    match session.output {
        Output::Json => output::json(&plan_json(&plan)),
        Output::Table => {
            output::line(format!(
                "staged for ring version {}: {}",
                plan.base_ring_version + 1,
                plan.changes.last().map(words).unwrap_or_default()
            ))?;
            output::say(
                "nothing moves yet: `stator cluster plan` shows what would, `stator cluster commit` makes it",
            );
            Ok(())
        }
    }
}

pub(in crate::cli) async fn plan(session: &Session) -> Result<(), Failure> {
    let plan = session.admin().await?.get_ring_plan(v1::GetRingPlanRequest {}).await?;
    match session.output {
        Output::Json => output::json(&plan_json(&plan)),
        Output::Table => print(&plan),
    }
}

fn print(plan: &v1::RingPlan) -> Result<(), Failure> {
    let version = plan.base_ring_version;
    if plan.slots_pending > 0 {
        output::line(format!(
            "ring version {version}: {} ownerships are still to be handed over",
            plan.slots_pending
        ))?;
    }
    if plan.changes.is_empty() {
        return output::line(format!("nothing is staged for ring version {}", version + 1));
    }
    output::line(format!("plan {} for ring version {}", plan.plan_id, version + 1))?;
    for change in &plan.changes {
        output::line(format!("  {}", words(change)))?;
    }
    output::line(format!(
        "moves {} slots of {} partitions (at least {}), {} first owners, about {} in {}",
        plan.slots_moved,
        plan.partitions_moved,
        plan.slots_ideal,
        plan.firsts_moved,
        output::bytes(plan.bytes_moved),
        time(plan.seconds),
    ))?;
    if plan.zones_shared_before + plan.zones_shared_after > 0 {
        output::line(format!(
            "partitions with two owners of one zone: {} now, {} then",
            plan.zones_shared_before, plan.zones_shared_after
        ))?;
    }
    if plan.in_one_region_before + plan.in_one_region_after > 0 {
        output::line(format!(
            "partitions with all owners in one region: {} now, {} then",
            plan.in_one_region_before, plan.in_one_region_after
        ))?;
    }
    let row = |node: &v1::NodePlan| {
        let arrow = |before: u32, after: u32| format!("{before} -> {after}");
        [
            node.node_id.clone(),
            arrow(node.slots_before, node.slots_after),
            arrow(node.firsts_before, node.firsts_after),
            format!("+{} -{}", node.slots_gained, node.slots_lost),
            output::bytes(node.bytes_gained),
            if node.is_removed { "removed".to_owned() } else { String::new() },
        ]
    };
    let header = ["node", "slots", "first", "moved", "receives", ""];
    output::line(output::table(header, plan.nodes.iter().map(row).collect()))?;
    for warning in &plan.warnings {
        output::line(format!("warning: {warning}"))?;
    }
    Ok(())
}

impl Commit {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        if self.confirm.as_deref().is_some_and(|text| text != CONFIRMATION) {
            return Err(Failure::usage("an unsafe commit was not confirmed")
                .hint(format!("if it is true, say --confirm {CONFIRMATION:?}")));
        }
        let session = &session.patient(COMMIT_MIN);
        let admin = session.admin().await?;
        let plan = admin.get_ring_plan(v1::GetRingPlanRequest {}).await?;
        for change in &plan.changes {
            output::say(format!("commits: {}", words(change)));
        }
        let request = v1::CommitRingPlanRequest {
            expected_ring_version: plan.base_ring_version,
            plan_id: self.plan.unwrap_or(plan.plan_id),
            without_majority: self.unsafe_without_majority,
        };
        let made = admin.commit_ring_plan(request).await?;
        match session.output {
            Output::Json => output::json(&json!({
                "ring_version": made.ring_version,
                "slots_moved": made.slots_moved,
            })),
            Output::Table => {
                output::line(format!(
                    "ring version {}: {} ownerships are being handed over",
                    made.ring_version, made.slots_moved
                ))?;
                output::say("next: stator cluster status");
                Ok(())
            }
        }
    }
}

pub(in crate::cli) async fn cancel(session: &Session) -> Result<(), Failure> {
    let answer = session.admin().await?.cancel_ring_plan(v1::CancelRingPlanRequest {}).await?;
    match session.output {
        Output::Json => output::json(&json!({ "changes": answer.changes })),
        Output::Table => output::line(format!("{} staged changes are dropped", answer.changes)),
    }
}

/// A change in words.
fn words(change: &v1::RingChange) -> String {
    match &change.change {
        Some(Change::Join(join)) => format!("node {} at {} joins", join.node_id, join.peer_address),
        Some(Change::Leave(leave)) if leave.is_lost => {
            format!("node {} is lost and removed", leave.node_id)
        }
        Some(Change::Leave(leave)) => format!("node {} leaves", leave.node_id),
        Some(Change::Replace(replace)) => format!(
            "node {} at {} takes the place of node {}, which is removed",
            replace.new_node_id, replace.peer_address, replace.node_id
        ),
        Some(Change::Set(set)) => {
            let weight = set.weight.map(|weight| format!(" weight {weight}"));
            let zone = set.zone.as_ref().map(|zone| format!(" zone {zone:?}"));
            let region = set.region.as_ref().map(|region| format!(" region {region:?}"));
            let all: String = [weight, zone, region].into_iter().flatten().collect();
            format!("node {} gets{all}", set.node_id)
        }
        Some(Change::SetReplicasMax(set)) => format!("{} owners per partition", set.replicas_max),
        Some(Change::SetReplicas(set)) => format!("keyspace {} gets n={}", set.keyspace, set.n),
        None => "something that this program does not know".to_owned(),
    }
}

fn change_json(change: &v1::RingChange) -> Value {
    match &change.change {
        Some(Change::Join(join)) => {
            json!({ "join": { "node_id": join.node_id, "peer_address": join.peer_address } })
        }
        Some(Change::Leave(leave)) => {
            json!({ "leave": { "node_id": leave.node_id, "is_lost": leave.is_lost } })
        }
        Some(Change::Replace(replace)) => json!({ "replace": {
            "node_id": replace.node_id,
            "new_node_id": replace.new_node_id,
            "peer_address": replace.peer_address,
        }}),
        Some(Change::Set(set)) => json!({ "set": {
            "node_id": set.node_id,
            "weight": set.weight,
            "zone": set.zone,
            "region": set.region,
        }}),
        Some(Change::SetReplicasMax(set)) => {
            json!({ "set_replicas_max": { "replicas_max": set.replicas_max } })
        }
        Some(Change::SetReplicas(set)) => {
            json!({ "set_replicas": { "keyspace": set.keyspace, "n": set.n } })
        }
        None => Value::Null,
    }
}

fn plan_json(plan: &v1::RingPlan) -> Value {
    let node = |node: &v1::NodePlan| {
        json!({
            "node_id": node.node_id,
            "slots_before": node.slots_before,
            "slots_after": node.slots_after,
            "firsts_before": node.firsts_before,
            "firsts_after": node.firsts_after,
            "slots_gained": node.slots_gained,
            "slots_lost": node.slots_lost,
            "bytes_gained": node.bytes_gained,
            "is_removed": node.is_removed,
        })
    };
    json!({
        "base_ring_version": plan.base_ring_version,
        "plan_id": plan.plan_id,
        "changes": plan.changes.iter().map(change_json).collect::<Vec<_>>(),
        "slots_moved": plan.slots_moved,
        "slots_ideal": plan.slots_ideal,
        "slots_pending": plan.slots_pending,
        "partitions_moved": plan.partitions_moved,
        "firsts_moved": plan.firsts_moved,
        "bytes_moved": plan.bytes_moved,
        "seconds": plan.seconds,
        "zones_shared_before": plan.zones_shared_before,
        "zones_shared_after": plan.zones_shared_after,
        "in_one_region_before": plan.in_one_region_before,
        "in_one_region_after": plan.in_one_region_after,
        "nodes": plan.nodes.iter().map(node).collect::<Vec<_>>(),
        "warnings": plan.warnings,
    })
}

/// A time for people.
fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3_600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_for_people() {
        assert_eq!(output::bytes(0), "0 B");
        assert_eq!(output::bytes(1_023), "1023 B");
        assert_eq!(output::bytes(1_536), "1.5 KiB");
        assert_eq!(output::bytes(3 << 40), "3.0 TiB");
        assert_eq!(
            (time(0), time(119), time(121), time(7_200)),
            ("0 s".to_owned(), "119 s".to_owned(), "3 min".to_owned(), "2 h".to_owned(),)
        );
    }

    #[test]
    fn every_change_has_words() {
        let set = v1::SetMember { node_id: "7".to_owned(), weight: Some(2), ..Default::default() };
        let change = v1::RingChange { change: Some(Change::Set(set)) };
        assert_eq!(words(&change), "node 7 gets weight 2");
        let unknown = v1::RingChange { change: None };
        assert_eq!(words(&unknown), "something that this program does not know");
    }
}
