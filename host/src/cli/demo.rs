//! `stator demo`.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::output::{self, Output};
use crate::demo::{self, Options, Report};

const EXAMPLES: &str = "\
Examples:
  stator demo
  stator demo --seed 7 --log operations.jsonl
  stator demo --data online-retail.csv
  stator demo --tour

It starts three nodes, replays shopping carts while one node is cut off for a while, and holds the
carts at the end against the log of all operations: in `carts`, merged by the cart module, nothing
may be lost or come back; `carts_lww` shows what last write wins loses. The last line is JSON.
Exit code 1: something was lost, came back or differs between nodes, or nothing was put to proof.";

/// Show on three real nodes that no cart item is lost or comes back through a partition
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Demo {
    /// A file of retail lines in the format of UCI Online Retail [default: a slice that is built in]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The cart module [default: target/components/cart.wasm]
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Decides which devices use which nodes, what they remove and when they race
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many carts are worked on at the same time
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,
    /// Keep the nodes' data and logs
    #[arg(long)]
    keep: bool,
    /// Show something else: a wrong merge as a shadow, as a canary, activated by mistake and taken
    /// back, in a minute
    #[arg(long, conflicts_with_all = ["seed", "workers", "log"])]
    tour: bool,
    /// Write the log of all operations to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

impl Demo {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let options = Options {
            data: self.data,
            module: self.module,
            seed: self.seed,
            workers: usize::from(self.workers),
            keep: self.keep,
            log: self.log,
        };
        let mut stop = super::signals::Stop::new()?;
        if self.tour {
            return tokio::select! {
                went = Box::pin(demo::tour::run(options)) => Ok(went?),
                () = stop.requested() => Err(Failure::refused("interrupted; its nodes are stopped")),
            };
        }
        // Dropping a demo that was interrupted kills its nodes.
        let report = tokio::select! {
            report = Box::pin(demo::run(options)) => report?,
            () = stop.requested() => return Err(Failure::refused("interrupted; its nodes are stopped")),
        };
        if output == Output::Table {
            print(&report)?;
        }
        output::json(&report.json())?;
        let complaints = report.complaints();
        if complaints.is_empty() {
            return Ok(());
        }
        let failure = Failure::refused("the demo does not show what it should");
        Err(complaints.into_iter().fold(failure, Failure::hint))
    }
}

fn print(report: &Report) -> Result<(), Failure> {
    let mut header = [String::new(), String::new(), String::new()];
    for (cell, keyspace) in header[1..].iter_mut().zip(&report.keyspaces) {
        keyspace.name.clone_into(cell);
    }
    let rows = report.rows().into_iter().filter_map(|row| <[String; 3]>::try_from(row).ok());
    output::line(output::table(header.each_ref().map(String::as_str), rows.collect()))
}
