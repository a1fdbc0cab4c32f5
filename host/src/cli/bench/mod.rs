//! `stator bench`: what a cluster does, measured as its clients see it.
//!
//! It is a client like any other, by `stator_client`. A run has three parts that know little of one
//! another: a *workload* says what is done to which key, a *loop* says when, and a *target* does it.
//!
//! | part | what it does |
//! |---|---|
//! | [`workload`], [`choice`], [`population`] | the mixes of YCSB and the cart; which key; which keys there are |
//! | [`schedule`] | closed and open loop; why latency counts from the intended start |
//! | [`run`] | connects, loads, warms up and measures |
//! | [`driver`] | workers that carry a workload out against any target |
//! | [`target`], [`stator`] | what a target is; Stator as one, with the contexts that it needs |
//! | [`peers`], [`etcd`], [`redis`], [`resp`] | other stores as targets |
//! | [`echo`] | a server that stores nothing: the limit |
//! | [`recorder`], [`latency`], [`timeline`] | histograms, errors by reason, siblings; second by second |
//! | [`report`], [`compare`], [`beside`], [`svg`] | the document and its table, ratios, a drawing |
//! | [`cluster`] | nodes of its own (`--local`) |
//!
//! Warming up is the same run, not recorded. An error is counted and ends nothing; only if nothing
//! at all succeeds the command fails.
//!
//! Left out: scans (YCSB E), several client machines (run several and add their histograms), and
//! the time a request waits within this process for a processor, which the latency includes: on a
//! machine shared with the servers compare only runs of the same machine.

mod beside;
mod cart;
mod choice;
mod cluster;
mod compare;
mod driver;
mod echo;
mod etcd;
mod latency;
mod options;
mod peers;
mod population;
mod progress;
mod recorder;
mod redis;
mod report;
mod resp;
mod run;
mod schedule;
mod stator;
mod svg;
mod target;
mod timeline;
mod workload;

use clap::{Args, Subcommand};

use options::Options;
use peers::Store;
use report::Document;
use run::Run;

use super::failure::Failure;
use super::output::{self, Output};
use super::session::Session;
use super::signals::Stop;

const EXAMPLES: &str = "\
Examples:
  stator bench                                    YCSB A on the node at --endpoint, 10 s
  stator bench --local 3 --workload load,a,b,c    on three nodes of its own
  stator bench --local 3 --workload cart --module target/components/cart.wasm --conflicts 30
  stator bench --endpoints 10.0.0.1:7101,10.0.0.2:7101 -k sessions --rate 5000 --duration 60s
  stator bench --local 3 --engine fjall --output json >fjall.json
  stator bench compare sled.json fjall.json
  stator bench --against etcd --endpoints 127.0.0.1:2379 --output json >etcd.json

With --rate operations begin at their times whether or not earlier ones have ended, and latency counts
from when one was to begin. Without it a slow store is asked less, and looks better than it is.
Put --dir on a disk that matters: folders of temporary files are often in memory.";

/// Measure what a cluster does, and compare measurements
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct Bench {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare what several benches found
    Compare(compare::Compare),
    // Of use to `make compare` alone.
    #[command(hide = true)]
    Echo(echo::Echo),
}

impl Bench {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let options = match self.command {
            Some(Command::Compare(compare)) => return compare.run(session.output),
            Some(Command::Echo(echo)) => return echo.run().await,
            None => self.options,
        };
        options.check()?;
        let mut stop = Stop::new()?;
        // Dropping a bench that was interrupted kills its nodes.
        let document = tokio::select! {
            document = Box::pin(measure(&options, session)) => document?,
            () = stop.requested() => return Err(Failure::refused("interrupted")),
        };
        match session.output {
            Output::Json => output::json(&document)?,
            Output::Table => document.print()?,
        }
        if let Some(path) = &options.svg {
            svg::write(path, &document.lines(None).collect::<Vec<_>>())?;
        }
        match document.results.iter().find(|result| !result.is_any_done()) {
            None => Ok(()),
            Some(none) => {
                let name = &none.workload;
                Err(Failure::refused(format!("no operation of workload {name} succeeded")))
            }
        }
    }
}

/// Measures on the stores at the endpoints, or on nodes of its own.
async fn measure(options: &Options, session: &Session) -> Result<Document, Failure> {
    let Some(count) = options.local.nodes else {
        let run = Run { options, pids: options.peers.server_pid.clone() };
        return match options.peers.against {
            Store::Stator => {
                let keyspace = options.keyspace.as_deref().unwrap_or("default");
                run.stator(session, &options.endpoints, keyspace).await
            }
            Store::Etcd => run.etcd(session.timeout()).await,
            Store::Redis => run.redis(session.timeout()).await,
        };
    };
    output::say(format!("starting {count} nodes"));
    let nodes = cluster::start(count, options).await?;
    let asked = usize::from(count.saturating_sub(options.local.far));
    let addresses = nodes.addresses().take(asked);
    let mut endpoints: Vec<_> = addresses.map(|node| node.client.clone()).collect();
    let balancer = match options.local.balancer {
        true => Some(nodes.balancer(asked).await?),
        false => None,
    };
    if let Some(balancer) = &balancer {
        endpoints = vec![balancer.address.clone()];
    }
    let run = Run { options, pids: nodes.pids() };
    let measured = run.stator(session, &endpoints, cluster::KEYSPACE).await;
    let measured = measured.map_err(|failure| failure.hint(nodes.log_tails()));
    if let Some(folder) = nodes.stop().await {
        output::say(format!("the nodes' data and logs are in {}", folder.display()));
    }
    measured
}
