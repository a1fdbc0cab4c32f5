//! The demo: real shopping carts on three real nodes, through a network partition.
//!
//! It starts three `stator serve` processes on loopback, makes them a cluster, and replays retail
//! lines on two keyspaces at once: `carts`, whose siblings the cart module merges, and
//! `carts_lww`, where the last write wins. Each cart is shared by two devices that read, change
//! and write through different nodes. Midway the third node is cut off from the others; both
//! sides go on writing; then it heals. At the end every cart is read from every node, and the
//! log of all operations and answers tells what must be in it ([`truth`]). Nothing of the cart
//! module is used for that: the client's cart ([`cart`]) only knows the published format.
//!
//! | part | what it does |
//! |---|---|
//! | [`data`] | reads retail lines |
//! | [`plan`] | makes carts, devices and their changes of them, the same for the same seed |
//! | [`crate::local`] | the three processes |
//! | [`client`] | talks to a node |
//! | [`mod@run`] | the devices at work, and the cut |
//! | [`oplog`] | every operation with its answer |
//! | [`verify`] | waits for quiet, then reads all carts everywhere |
//! | [`truth`] | what the log says that must be there |
//! | [`report`] | the table and the last line |
//! | [`tour`] | another walk: a wrong merge on trial, activated and taken back |

pub mod cart;
pub mod client;
pub mod data;
#[cfg(test)]
mod fake;
pub mod oplog;
pub mod plan;
mod progress;
pub mod report;
pub mod run;
pub mod tour;
pub mod truth;
pub mod verify;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;

use client::{NodeClient, Policy};
use progress::Progress;
pub use report::Report;

use report::KeyspaceReport;
use run::Run;

use crate::local::{Launch, Nodes};

/// The retail lines that come with the program.
const EMBEDDED_LINES: &str = include_str!("../../demo/online-retail-slice.csv");

/// The keyspaces of the demo, in the order of the report: merged, then last write wins.
pub const KEYSPACES: [&str; 2] = ["carts", "carts_lww"];

/// How many nodes the demo runs.
const NODES: usize = 3;

/// What a demo is told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A file of retail lines, or the ones that come with the program.
    pub data: Option<PathBuf>,
    /// The cart module as a component, or the one that `make guests` builds.
    pub module: Option<PathBuf>,
    /// Decides which devices use which nodes, what they remove and when they race.
    pub seed: u64,
    /// How many carts are worked on at the same time.
    pub workers: usize,
    /// Whether the data and logs of the nodes stay.
    pub keep: bool,
    /// Where to write the log of all operations, as JSON lines.
    pub log: Option<PathBuf>,
}

/// Runs the whole demo.
///
/// # Errors
/// The data or the module cannot be used, a node failed, or the cluster did not come to rest.
/// What was found out about the carts is in the report, good or bad.
pub async fn run(options: Options) -> Result<Report> {
    let started = Instant::now();
    let lines = read_lines(options.data.as_deref())?;
    let module = find_module(options.module.as_deref())?;
    let module =
        std::fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?.into();
    let plans = plan::plan(&lines, options.seed);
    let steps = plans.iter().map(plan::CartPlan::steps).sum();
    let progress = Progress::new(steps);
    progress.say(&format!("{} lines make {} carts", lines.len(), plans.len()));

    let flags = vec!["--enable-faults".to_owned()];
    let launch = Launch { nodes: NODES, flags, keep: options.keep, ..Launch::default() };
    let nodes = Nodes::start(&launch).await?;
    let peers: Vec<_> = nodes.addresses().map(|node| node.peer.clone()).collect();
    let clients: Result<Vec<_>> =
        nodes.addresses().map(|node| NodeClient::new(&node.client, &node.admin)).collect();
    let report = replay(&clients?, &peers, module, plans, &options, &progress).await;
    if !report.as_ref().is_ok_and(|report| report.complaints().is_empty()) {
        progress.say(&nodes.log_tails());
    }
    if let Some(folder) = nodes.stop().await {
        progress.say(&format!("the nodes' data and logs are in {}", folder.display()));
    }
    Ok(Report { seconds: started.elapsed().as_secs_f64(), ..report? })
}

/// The demo on nodes that wait for a cluster and reach each other at `peers`.
async fn replay(
    clients: &[NodeClient],
    peers: &[String],
    module: Bytes,
    plans: Vec<plan::CartPlan>,
    options: &Options,
    progress: &Progress,
) -> Result<Report> {
    prepare(clients, peers, module).await?;
    progress.say("three nodes are one cluster; the devices start");
    let keys: Vec<String> = plans.iter().map(|plan| plan.key.clone()).collect();
    let run = Run::new(clients, plans, options.seed, progress.clone());
    let logs = run.finish(options.workers).await?;
    if let Some(path) = &options.log {
        oplog::write(path, &logs)
            .with_context(|| format!("cannot write the log to {}", path.display()))?;
    }
    progress.say("all devices are done; waiting until no hint is left");
    verify::settle(clients).await?;
    progress.say("reading every cart from every node");
    let mut keyspaces = Vec::new();
    for (keyspace, log) in KEYSPACES.into_iter().zip(&logs) {
        let reading = verify::read_all(clients, keyspace, &keys).await?;
        let verdict = truth::judge(log, &reading.finals);
        keyspaces.push(KeyspaceReport::new(keyspace, log, &reading, &verdict));
    }
    verify::add_counters(clients, &mut keyspaces).await?;
    Ok(Report { keyspaces, seconds: 0.0 })
}

/// Makes the cluster and its keyspaces: three replicas, of which one suffices to read and write,
/// so that a side that is cut off goes on.
async fn prepare(clients: &[NodeClient], peers: &[String], module: Bytes) -> Result<()> {
    let [first, ..] = clients else { anyhow::bail!("there are no nodes") };
    first.init_cluster(peers).await.context("cannot make a cluster")?;
    verify::settle(clients).await.context("the nodes did not find each other")?;
    let digest = first.push_module("cart", module).await.context("cannot push the cart module")?;
    let [merged, last_write] = KEYSPACES;
    let policies = [(merged, Policy::Module(digest)), (last_write, Policy::LastWriteWins)];
    for (keyspace, policy) in policies {
        let created = first.create_keyspace(keyspace, policy).await;
        created.with_context(|| format!("cannot create the keyspace {keyspace}"))?;
    }
    verify::until_everywhere(clients, &KEYSPACES).await
}

fn read_lines(path: Option<&Path>) -> Result<Vec<data::Line>> {
    match path {
        None => Ok(data::read(EMBEDDED_LINES.as_bytes())?),
        Some(path) => {
            let file = std::fs::File::open(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            data::read(file).with_context(|| format!("{} cannot be used", path.display()))
        }
    }
}

/// Where the cart module is: looked for before anything is started.
fn find_module(path: Option<&Path>) -> Result<PathBuf> {
    let places = path.map_or_else(default_modules, |path| vec![path.to_owned()]);
    if let Some(found) = places.iter().find(|place| place.is_file()) {
        return Ok(found.clone());
    }
    let looked: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    anyhow::bail!(
        "the cart module is not at {}: run `make guests`, or name it with --module",
        looked.join(" nor at ")
    )
}

/// Where `make guests` puts the cart module: seen from the project, or from this program.
fn default_modules() -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from("target/components/cart.wasm")];
    let beside = std::env::current_exe().ok();
    if let Some(folder) = beside.as_deref().and_then(Path::parent).and_then(Path::parent) {
        places.push(folder.join("components/cart.wasm"));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::fake::{Fake, Merge};
    use super::*;

    async fn replay_on(merge: Merge) -> Report {
        let lines = read_lines(None).expect("valid");
        let options = Options { seed: 1, workers: 8, ..Options::default() };
        let plans = plan::plan(&lines, options.seed);
        let (fake, clients) = Fake::start(merge).await;
        let progress = Progress::new(0);
        let report = replay(&clients, &[], Bytes::from("module"), plans, &options, &progress).await;
        assert_eq!(fake.faults(), [true, false], "one cut, healed");
        report.expect("a report")
    }

    #[tokio::test]
    async fn a_right_merge_passes_and_last_write_wins_loses() {
        let report = replay_on(Merge::Right).await;
        assert_eq!(report.complaints(), Vec::<String>::new());
        let [merged, last_write] = report.keyspaces.as_slice() else { panic!("two keyspaces") };
        assert!(merged.carts > 100 && merged.puts_acked > 2_000 && merged.puts_unknown == 0);
        assert!(last_write.lost_adds > 0, "racing devices overwrite each other");
    }

    #[tokio::test]
    async fn a_merge_that_forgets_a_version_is_found_out() {
        let report = replay_on(Merge::Forgetful).await;
        assert!(report.keyspaces[0].lost_adds > 0);
        assert!(!report.complaints().is_empty());
    }

    #[tokio::test]
    async fn a_merge_that_brings_removed_items_back_is_found_out() {
        let report = replay_on(Merge::Reviving).await;
        assert!(report.keyspaces[0].resurrected_removals > 0);
        assert!(!report.complaints().is_empty());
    }

    #[test]
    fn the_embedded_lines_are_usable_and_hold_cancellations() {
        let lines = read_lines(None).expect("valid");
        assert!(lines.len() >= 1_000);
        assert!(lines.iter().filter(|line| line.is_removal()).count() >= 10);
    }

    #[test]
    fn a_missing_module_says_how_to_build_it() {
        let error = find_module(Some(Path::new("/nonexistent.wasm"))).expect_err("missing");
        assert!(error.to_string().contains("make guests"));
    }
}
