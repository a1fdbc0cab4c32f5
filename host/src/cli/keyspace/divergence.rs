//! `stator keyspace divergence`: how many versions gets meet, the table of Dynamo's section 6.3.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};
use stator_proto::v1;

use crate::cli::failure::{Failure, Kind};
use crate::cli::members;
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

/// How many versions a get met; the last are those that met more.
const VERSIONS: [&str; 6] = ["0", "1", "2", "3", "4", "5+"];
type Gets = [u64; VERSIONS.len()];

const EXAMPLES: &str = "\
Examples:
  stator keyspace divergence
  stator keyspace divergence carts -o json

All gets of single keys count that the nodes which answer have coordinated since they started, by how many
versions that differ they met before any merge; 0 is an absent key. What a client coordinates itself
(the clients' option, coordination) meets one version or none, and is not in it.";

/// Show how many versions gets have met: what divergence there really is
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Divergence {
    /// The keyspace [default: all]
    keyspace: Option<String>,
}

impl Divergence {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let statuses = members::gather(session, "gets", async |admin| {
            Ok(vec![admin.get_status(v1::GetStatusRequest {}).await?])
        });
        let mut met: BTreeMap<String, Gets> = BTreeMap::new();
        let figures = statuses.await?.into_iter().flat_map(|(_, status)| status.keyspaces);
        for figures in figures {
            let sums = met.entry(figures.name).or_default();
            sums.iter_mut().zip(figures.gets).for_each(|(sum, gets)| *sum += gets);
        }
        if let Some(keyspace) = &self.keyspace {
            met.retain(|name, _| name == keyspace);
            if met.is_empty() {
                let message = format!("there is no keyspace {keyspace}");
                return Err(Failure::new(Kind::NotFound, message)
                    .hint("`stator keyspace list` shows those there are"));
            }
        }
        match session.output {
            Output::Json => output::json(&json!({
                "keyspaces": met.iter().map(|(name, gets)| keyspace_json(name, gets))
                    .collect::<Vec<_>>(),
            })),
            Output::Table => {
                let rows: Vec<_> = met.iter().flat_map(|(name, gets)| rows(name, gets)).collect();
                if rows.is_empty() {
                    output::say("no get was answered since the nodes started");
                    return Ok(());
                }
                output::line(output::table(["keyspace", "versions", "gets", "share"], rows))
            }
        }
    }
}

fn keyspace_json(name: &str, gets: &Gets) -> Value {
    let met = VERSIONS.into_iter().zip(gets);
    json!({
        "keyspace": name,
        "gets": gets.iter().sum::<u64>(),
        "versions": met.collect::<BTreeMap<_, _>>(),
    })
}

/// A row for each number of versions that was met.
fn rows(name: &str, gets: &Gets) -> Vec<[String; 4]> {
    let share = shares(gets);
    let met = VERSIONS.into_iter().zip(gets).filter(|(_, gets)| **gets > 0);
    met.map(|(versions, gets)| {
        [name.to_owned(), versions.to_owned(), gets.to_string(), share(*gets)]
    })
    .collect()
}

/// Percentages, as fine as the smallest of them needs.
fn shares(gets: &Gets) -> impl Fn(u64) -> String {
    let all = gets.iter().sum::<u64>() as f64;
    let percent = move |gets: u64| gets as f64 * 100.0 / all;
    let least = gets.iter().filter(|gets| **gets > 0).min().map_or(100.0, |gets| percent(*gets));
    let digits = (1.0 - least.log10().floor()).clamp(2.0, 9.0) as usize;
    move |gets| format!("{:.digits$} %", percent(gets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rare_divergence_is_not_rounded_away() {
        let rows = rows("carts", &[0, 9_999_943, 57, 0, 0, 0]);
        let shares: Vec<_> = rows.iter().map(|row| (row[1].as_str(), row[3].as_str())).collect();
        assert_eq!(shares, [("1", "99.99943 %"), ("2", "0.00057 %")]);
        assert_eq!(super::rows("a", &[1, 1, 0, 0, 0, 0])[0][3], "50.00 %");
        assert!(super::rows("a", &[0; 6]).is_empty());
    }
}
