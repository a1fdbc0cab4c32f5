//! `stator torture`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use stator_core::catalogue::ModuleClass;
use stator_proto::v1;

use super::failure::Failure;
use super::module;
use super::output::{self, Output};
use super::parse;
use crate::torture::{self, Options, Report};

const EXAMPLES: &str = "\
Examples:
  stator torture --module target/components/cart.wasm
  stator torture --module cart.wasm --fold --duration 2m --output json

It starts three nodes, writes what the module's sampler gives, among partitions, kills and stops, and
holds the end against what was acknowledged: no write is lost, all nodes read the same bytes, every
key merges. `stator module test` checks the merge itself; this is the step after it.
Exit code 1: something is wrong, or too little happened to prove anything.";

/// Put a merge module under load among partitions and kills, on real nodes, and check the end
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Torture {
    /// The component
    #[arg(long, value_name = "FILE")]
    module: PathBuf,
    /// The class of its limits, as at the push
    #[arg(long, default_value_t)]
    class: ModuleClass,
    /// Let it fold
    #[arg(long)]
    fold: bool,
    /// For how long
    #[arg(long, default_value = "30s", value_parser = parse::duration, value_name = "DURATION")]
    duration: Duration,
    /// How many clients write
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// How many keys there are
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..))]
    keys: u16,
    /// Decides what is done to whom; when it happens is up to the machine
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the nodes' data and logs
    #[arg(long)]
    keep: bool,
}

/// Samples that clients write of.
const SAMPLES: u64 = 200;

impl Torture {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let (bench, info) = module::Bench::admit(&self.module, self.class).await?;
        let samples = bench.host.samples(&info.digest, SAMPLES, self.seed).await;
        let samples = samples.map_err(|failure| Failure::refused(failure.to_string()))?;
        let options = Options {
            component: module::read(&self.module)?,
            class: match self.class {
                ModuleClass::Small => v1::ModuleClass::Small,
                ModuleClass::Large => v1::ModuleClass::Large,
            },
            samples,
            fold: self.fold,
            duration: self.duration,
            clients: self.clients.into(),
            keys: self.keys.into(),
            seed: self.seed,
            keep: self.keep,
        };
        let report = torture::run(options, |words| output::say(words)).await?;
        match output {
            Output::Json => output::json(&json!(report))?,
            Output::Table => print(&report)?,
        }
        Ok(report.verdict()?)
    }
}

fn print(report: &Report) -> Result<(), Failure> {
    let Report { acknowledged, failed, read, merged, cut_off, killed, stopped, .. } = report;
    output::line(format!(
        "{acknowledged} puts acknowledged, {failed} not; {read} gets, {merged} of them merged"
    ))?;
    output::line(format!(
        "{cut_off} times a node was cut off, {killed} killed, {stopped} stopped"
    ))?;
    match report.wrong.is_empty() {
        true => output::line("no write is lost, all nodes read the same, every key merges"),
        false => report.wrong.iter().try_for_each(output::line),
    }
}
