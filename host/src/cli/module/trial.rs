//! `stator module shadow`, `canary`, `trial` and `untry`: a module beside the one that merges.

use clap::Args;
use futures::future::join_all;
use serde_json::{Value, json};
use stator_proto::v1;

use super::resolve;
use crate::cli::failure::Failure;
use crate::cli::members::{self, short};
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

const SHADOW_EXAMPLES: &str = "\
Examples:
  stator module shadow carts cart-v2
  stator module trial carts
  stator conflicts tail -k carts --trial

The candidate merges what the pinned module merges, behind it; what it makes is compared and thrown
away. Every difference is in the conflict feed.";

/// Run a module beside the one that merges, and compare what both make
#[derive(Debug, Args)]
#[command(after_help = SHADOW_EXAMPLES)]
pub(in crate::cli) struct Shadow {
    /// The keyspace
    keyspace: String,
    /// The candidate: its digest, the beginning of it, or its name
    module: String,
    /// Why, for the history
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

const CANARY_EXAMPLES: &str = "\
Examples:
  stator module canary carts cart-v2 --percent 5
  stator module canary carts cart-v2 --percent 20 --differing 10 --fuel 150

A key is in the share or not by a hash, whichever node merges it; a larger share holds a smaller one.
The pinned module runs beside it, for comparison. A node that finds the candidate beyond a limit ends
the canary on all nodes, and `stator keyspace history` says why. Failures count from the first merge
on, the other limits from 20 merges on a node.";

/// Let a module merge a share of the keys, and roll it back by itself if it does worse
#[derive(Debug, Args)]
#[command(after_help = CANARY_EXAMPLES)]
pub(in crate::cli) struct Canary {
    /// The keyspace
    keyspace: String,
    /// The candidate: its digest, the beginning of it, or its name
    module: String,
    /// Of a hundred keys, how many
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    percent: u32,
    /// At how many merges it may fail where the pinned module does not [default: 0]
    #[arg(long, value_name = "COUNT")]
    failures: Option<u64>,
    /// Of a hundred merges, how many may come out different [default: 100]
    #[arg(long, value_name = "PERCENT")]
    differing: Option<u64>,
    /// Its fuel, in percent of the pinned module's [default: 400]
    #[arg(long, value_name = "PERCENT")]
    fuel: Option<u64>,
    /// The bytes that it makes, in percent of those of the pinned module [default: 200]
    #[arg(long, value_name = "PERCENT")]
    bytes: Option<u64>,
    /// Why, for the history
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

/// End the trial of a module; what a canary's keys were merged to stays where it was stored
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stator module untry carts --reason 'seen enough'")]
pub(in crate::cli) struct Untry {
    /// The keyspace
    keyspace: String,
    /// Why, for the history
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

impl Shadow {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        begin(session, self.keyspace, &self.module, None, self.reason).await
    }
}

impl Canary {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let canary = v1::Canary {
            percent: self.percent,
            failures_max: self.failures,
            differing_percent_max: self.differing,
            fuel_percent_max: self.fuel,
            bytes_percent_max: self.bytes,
        };
        begin(session, self.keyspace, &self.module, Some(canary), self.reason).await
    }
}

async fn begin(
    session: &Session,
    keyspace: String,
    module: &str,
    canary: Option<v1::Canary>,
    reason: String,
) -> Result<(), Failure> {
    let admin = session.admin().await?;
    let module_digest = resolve(&admin, module).await?;
    let name = keyspace.clone();
    let request =
        v1::BeginTrialRequest { keyspace, module_digest: module_digest.clone(), canary, reason };
    let begun = admin.begin_trial(request).await?;
    let knows = async |admin: &stator_client::Admin| {
        let request = v1::GetTrialRequest { keyspace: name.clone() };
        let knows = admin.get_trial(request).await?.trial == begun.trial;
        let digest = module_digest.clone();
        let request = v1::GetModuleRequest { digest, wait_ready_ms: 1_000 };
        Ok(knows && admin.get_module(request).await?.ready)
    };
    members::until_all(session, "try it", knows).await?;
    report(session, &name).await
}

impl Untry {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        report(session, &self.keyspace).await?;
        let admin = session.admin().await?;
        let request = v1::EndTrialRequest {
            keyspace: self.keyspace.clone(),
            module_digest: Default::default(),
            reason: self.reason,
        };
        admin.end_trial(request).await?;
        output::say(format!("nothing is tried in keyspace {} any more", self.keyspace));
        Ok(())
    }
}

/// Prints what every node has seen of a trial.
pub(in crate::cli) async fn report(session: &Session, keyspace: &str) -> Result<(), Failure> {
    let members = members::all(session).await?;
    let reports = join_all(members.iter().map(async |asked| {
        let request = v1::GetTrialRequest { keyspace: keyspace.to_owned() };
        asked.admin.as_ref()?.get_trial(request).await.ok()
    }));
    let reports = reports.await;
    let Some(first) = reports.iter().flatten().next() else {
        // Whatever it is, the node that was named says it.
        let request = v1::GetTrialRequest { keyspace: keyspace.to_owned() };
        session.admin().await?.get_trial(request).await?;
        return Err(Failure::refused("no node told of the trial; try again"));
    };
    if session.output == Output::Json {
        let nodes = members.iter().zip(&reports).map(|(asked, report)| {
            json!({ "node": asked.member.node_id, "seen": report.as_ref().map(report_json) })
        });
        return output::json(&json!({
            "keyspace": keyspace,
            "module_digest": first.trial.as_ref().map(|trial| &trial.module_digest),
            "canary_percent": first.trial.as_ref().and_then(|t| Some(t.canary.as_ref()?.percent)),
            "pinned_digest": first.pinned_digest,
            "nodes": nodes.collect::<Vec<_>>(),
        }));
    }
    let Some(trial) = &first.trial else {
        return output::line(format!("nothing is tried in keyspace {keyspace}"));
    };
    output::line(format!(
        "{} {} beside {}, since {}",
        trial.canary.as_ref().map_or("shadow".to_owned(), |c| format!("canary, {} %:", c.percent)),
        short(&trial.module_digest),
        short(&first.pinned_digest),
        output::utc(trial.began_at_ms),
    ))?;
    let rows = members.iter().zip(&reports).map(|(asked, report)| {
        let node = asked.member.node_id.clone();
        match report {
            None => [&node, "no answer", "", "", "", "", ""].map(str::to_owned),
            Some(report) => [
                node,
                report.merges.to_string(),
                report.failures.to_string(),
                report.mended.to_string(),
                report.differing.to_string(),
                ratio(report.candidate_fuel, report.pinned_fuel),
                ratio(report.candidate_bytes, report.pinned_bytes),
            ],
        }
    });
    let header = ["node", "merges", "worse", "mended", "differ", "fuel", "bytes"];
    output::line(output::table(header, rows.collect()))
}

/// A ratio to the pinned module's.
fn ratio(candidate: u64, pinned: u64) -> String {
    match pinned {
        0 => "-".to_owned(),
        pinned => format!("{:.2}×", candidate as f64 / pinned as f64),
    }
}

fn report_json(report: &v1::TrialReport) -> Value {
    json!({
        "merges": report.merges,
        "candidate_failed": report.failures,
        "pinned_failed": report.mended,
        "differing": report.differing,
        "candidate_fuel": report.candidate_fuel,
        "pinned_fuel": report.pinned_fuel,
        "candidate_bytes": report.candidate_bytes,
        "pinned_bytes": report.pinned_bytes,
    })
}
