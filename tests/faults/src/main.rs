//! Real processes of the built program, each in a network namespace of its own, under load and
//! under real faults. `tests/faults/run` makes the namespaces, starts this in the clients' one,
//! and removes everything at the end, however that comes.
//!
//! After each scenario everything is healed; then, without haste, every write that was
//! acknowledged must be there, and nothing that was deleted. What it cannot do: power cuts (see
//! `host/src/storage/tests/power_cut.rs`), clocks that jump (see the simulator).

mod cluster;
mod lab;
mod ledger;
mod load;
mod node;
mod report;
mod run;
mod scenarios;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;
use crate::lab::Lab;
use crate::ledger::Ledger;
use crate::node::Setup;
use crate::report::Line;
use crate::scenarios::{ALL, Scenario};

const USAGE: &str = "\
tests/faults/run [--only NAME]... [--hold SECONDS]

Runs real nodes in network namespaces under real faults, as root.
  --only NAME     run this scenario (again for more); all of them unless given
  --hold SECONDS  how long each harm lasts at least [default: 8]";

/// How long each harm lasts at least unless told otherwise.
const HOLD: Duration = Duration::from_secs(8);

struct Arguments {
    setup: Setup,
    hold: Duration,
    only: Vec<Scenario>,
}

fn arguments() -> Result<Arguments> {
    let (mut prefix, mut folder, mut program) = (None, None, None);
    let (mut nodes, mut hold, mut only) = (5, HOLD, Vec::new());
    let mut given: VecDeque<String> = std::env::args().skip(1).collect();
    while let Some(name) = given.pop_front() {
        if name == "--help" {
            bail!("{USAGE}");
        }
        let value = given.pop_front().with_context(|| format!("{name} needs a value\n{USAGE}"))?;
        match name.as_str() {
            "--prefix" => prefix = Some(value),
            "--folder" => folder = Some(PathBuf::from(value)),
            "--program" => program = Some(PathBuf::from(value)),
            "--nodes" => nodes = value.parse()?,
            "--hold" => hold = Duration::from_secs(value.parse()?),
            "--only" => {
                let names = || ALL.map(Scenario::name).join(" ");
                let found = ALL.into_iter().find(|scenario| scenario.name() == value);
                only.push(found.with_context(|| format!("{value} is none of: {}", names()))?);
            }
            _ => bail!("{name} is unknown\n{USAGE}"),
        }
    }
    let by_script = "is missing: start this by tests/faults/run";
    let lab = Lab { prefix: prefix.context("--prefix").context(by_script)?, nodes };
    let folder = folder.context("--folder").context(by_script)?;
    let program = program.context("--program").context(by_script)?;
    Ok(Arguments { setup: Setup { lab, folder, program }, hold, only })
}

async fn all() -> Result<bool> {
    let Arguments { setup, hold, only } = arguments()?;
    let chosen = if only.is_empty() { ALL.to_vec() } else { only };
    let mut cluster = Cluster::start(&setup).await?;
    eprintln!("{} nodes are one cluster; scenarios: {}", cluster.nodes.len(), chosen.len());
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut lines: Vec<Line> = Vec::new();
    for scenario in chosen {
        eprintln!("{}: {}", scenario.name(), scenario.words());
        match run::run(scenario, hold, &setup.lab, &mut cluster, &ledger).await {
            Ok(line) => lines.push(line),
            // The table of those before is worth having.
            Err(error) => {
                report::print(&lines);
                return Err(error.context(scenario.name()));
            }
        }
    }
    // Later harm must not have undone what earlier harm left.
    let written = load::lock(&ledger).clone();
    let faults = cluster.audit(&written, "").await?;
    report::print(&lines);
    let is_good = lines.iter().all(Line::is_good) && faults == ledger::Faults::default();
    println!(
        "all keys once more at the end: {} lost, {} revived",
        faults.lost.len(),
        faults.revived.len()
    );
    Ok(is_good)
}

#[tokio::main]
async fn main() -> ExitCode {
    match all().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
