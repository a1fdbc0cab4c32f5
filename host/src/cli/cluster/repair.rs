//! `stator cluster repair`.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde_json::json;
use stator_proto::v1;
use tokio::time::sleep;

use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

/// How often the node is asked how far it is.
const POLL: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Nodes compare their hash trees by themselves, each pair within ten minutes. This command does it
now: after a lost disk of hints, before a node is taken away, or to know.

Examples:
  stator cluster repair
  stator cluster repair --keyspace carts
  stator cluster repair --partition 17 --output json

It ends with exit code 4 if an owner could not be compared: ask again when it is back.";

/// Compare all owners of all partitions now, and repair what differs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Repair {
    /// Only this keyspace
    #[arg(long, value_name = "NAME")]
    keyspace: Option<String>,
    /// Only this partition, counted from 0
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
}

impl Repair {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        let admin = session.admin().await?;
        let request = v1::StartRepairRequest {
            keyspace: self.keyspace.unwrap_or_default(),
            partition: self.partition,
        };
        let mut repair = admin.start_repair(request).await?;
        let bar = bar(&repair);
        while !repair.is_done {
            sleep(POLL).await;
            repair = admin.get_repair(v1::GetRepairRequest { id: repair.id }).await?;
            bar.set_position(u64::from(repair.partitions_done + repair.partitions_failed));
            bar.set_message(format!("{} keys differed", repair.keys_differed));
        }
        bar.finish_and_clear();
        match session.output {
            Output::Json => output::json(&document(&repair))?,
            Output::Table => output::line(words(&repair))?,
        }
        match repair.partitions_failed {
            0 => Ok(()),
            failed => {
                let message = format!("{failed} partitions could not be repaired");
                let failure = Failure::new(Kind::Unavailable, message);
                Err(failure.hint(repair.failure).hint("ask again when the reason is gone"))
            }
        }
    }
}

/// On standard error, and only on a terminal.
fn bar(repair: &v1::Repair) -> ProgressBar {
    let bar = ProgressBar::new(repair.partitions.into()).with_finish(ProgressFinish::AndClear);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} partitions, {elapsed} {msg}");
    // The template is fixed; if indicatif ever refuses it, its default will do.
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn words(repair: &v1::Repair) -> String {
    let v1::Repair { partitions, partitions_done, keys_differed, keys_repaired, .. } = repair;
    let found = match keys_differed {
        0 => "nothing differed".to_owned(),
        _ => format!("{keys_repaired} of {keys_differed} differing keys repaired"),
    };
    format!("{partitions_done} of {partitions} partitions compared at all owners: {found}")
}

fn document(repair: &v1::Repair) -> serde_json::Value {
    json!({
        "id": repair.id,
        "partitions": repair.partitions,
        "partitions_done": repair.partitions_done,
        "partitions_failed": repair.partitions_failed,
        "keys_compared": repair.keys_compared,
        "keys_differed": repair.keys_differed,
        "keys_repaired": repair.keys_repaired,
        "failure": if repair.failure.is_empty() { None } else { Some(&repair.failure) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_tell_whether_anything_differed() {
        let mut repair = v1::Repair { partitions: 8, partitions_done: 8, ..Default::default() };
        assert_eq!(words(&repair), "8 of 8 partitions compared at all owners: nothing differed");
        (repair.partitions_done, repair.keys_differed, repair.keys_repaired) = (7, 3, 2);
        let expected = "7 of 8 partitions compared at all owners: 2 of 3 differing keys repaired";
        assert_eq!(words(&repair), expected);
    }
}
