//! `stator bench`: what a cluster does, measured as its clients see it.
//!
//! It is a client like any other, by `stator_client`. A run has three parts that know little of one
//! another: a *workload* says what is done to which key, a *loop* says when, and a *target* does it.
//!
//! | part | what it does |
//! |---|---|
//! | [`workload`], [`choice`], [`population`] | the mixes of YCSB and the cart; which key; which keys there are |
//! | [`schedule`] | closed and open loop; why latency counts from the intended start |
//! | [`driver`] | workers that carry a workload out against any target |
//! | [`target`], [`stator`] | what a target is; Stator as one, with the contexts that it needs |
//! | [`recorder`], [`latency`] | histograms, errors by reason, siblings |
//! | [`report`], [`compare`], [`svg`] | the document and its table, ratios, a drawing |
//! | [`cluster`] | nodes of its own (`--local`), whose processor time it can tell |
//!
//! Warming up is the same run, not recorded. An error is counted and ends nothing; only if nothing
//! at all succeeds the command fails.
//!
//! Left out: scans (YCSB E), several client machines (run several and add their histograms), and
//! the time a request waits within this process for a processor, which the latency includes: on a
//! machine shared with the servers compare only runs of the same machine.

mod cart;
mod choice;
mod cluster;
mod compare;
mod driver;
mod latency;
mod options;
mod population;
mod progress;
mod recorder;
mod report;
mod schedule;
mod stator;
mod svg;
mod target;
mod workload;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};

use choice::{Choice, Distribution};
use driver::{Outcome, Values, Work, drive};
use options::Options;
use population::Population;
use report::{Document, Host, Measured};
use schedule::End;
use stator::{Contexts, Stator, Terms};
use workload::{Family, Workload};

use super::failure::Failure;
use super::kv::Durability;
use super::output::{self, Output};
use super::session::Session;
use super::signals::Stop;
use crate::local::Nodes;

const EXAMPLES: &str = "\
Examples:
  stator bench                                    YCSB A on the node at --endpoint, 10 s
  stator bench --local 3 --workload load,a,b,c    on three nodes of its own
  stator bench --local 3 --workload cart --module target/components/cart.wasm --conflicts 30
  stator bench --endpoints 10.0.0.1:7101,10.0.0.2:7101 -k sessions --rate 5000 --duration 60s
  stator bench --local 3 --engine fjall --output json >fjall.json
  stator bench compare sled.json fjall.json

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
}

impl Bench {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let options = match self.command {
            Some(Command::Compare(compare)) => return compare.run(session.output),
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

/// Measures on the nodes of `session`, or on its own.
async fn measure(options: &Options, session: &Session) -> Result<Document, Failure> {
    let Some(count) = options.local.nodes else {
        return Run { options, session, nodes: None }.measure(&options.endpoints).await;
    };
    output::say(format!("starting {count} nodes"));
    let nodes = cluster::start(count, options).await?;
    let endpoints: Vec<_> = nodes.addresses().map(|node| node.client.clone()).collect();
    let measured = Run { options, session, nodes: Some(&nodes) }.measure(&endpoints).await;
    let measured = measured.map_err(|failure| failure.hint(nodes.log_tails()));
    if let Some(folder) = nodes.stop().await {
        output::say(format!("the nodes' data and logs are in {}", folder.display()));
    }
    measured
}

/// A bench on nodes that are there.
struct Run<'a> {
    options: &'a Options,
    session: &'a Session,
    /// Its own, if they are.
    nodes: Option<&'a Nodes>,
}

/// What workloads of a family share: connections, keys and values.
struct Ground {
    targets: Arc<[Stator]>,
    population: Arc<Population>,
    values: Values,
    is_loaded: bool,
}

impl Run<'_> {
    async fn measure(&self, endpoints: &[String]) -> Result<Document, Failure> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut grounds = BTreeMap::new();
        let mut results = Vec::new();
        for workload in &self.options.workload {
            let family = workload.family();
            let ground = match grounds.entry(family) {
                Entry::Occupied(ground) => ground.into_mut(),
                Entry::Vacant(place) => place.insert(self.ground(family, endpoints).await?),
            };
            if workload.needs_keys() && !ground.is_loaded {
                self.load(ground).await?;
            }
            results.push(self.workload(*workload, ground).await?);
        }
        Ok(Document {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: output::utc(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)),
            host: Host::here(),
            settings: self.options.settings(),
            results,
        })
    }

    /// Connections that have been tried, with the terms of the run.
    async fn ground(&self, family: Family, endpoints: &[String]) -> Result<Ground, Failure> {
        let options = self.options;
        let default = if self.nodes.is_some() { cluster::KEYSPACE } else { "default" };
        let terms = Arc::new(Terms {
            keyspace: options.keyspace.clone().unwrap_or_else(|| default.to_owned()),
            prefix: if family == Family::Carts { "cart" } else { "key" },
            r: options.r,
            w: options.w,
            quorum: options.replicas.quorum(),
            durability: Durability::number(options.durability),
            is_blind: options.blind,
            contexts: Contexts::of(options.keys),
        });
        let connections = usize::from(options.connections);
        let clients = self.session.kvs(endpoints, connections, options.attempts).await?;
        let target = |client| Stator { client, terms: terms.clone() };
        let targets: Arc<[Stator]> = clients.into_iter().map(target).collect();
        // What every request would be refused for is better said once.
        for target in targets.iter() {
            target.get(0).await?;
        }
        Ok(Ground {
            targets,
            population: Arc::new(Population::of(if options.no_load { options.keys } else { 0 })),
            values: Values::new(family, options.value_bytes as usize, options.seed),
            is_loaded: options.no_load,
        })
    }

    /// Writes the keys that are missing of those that there are to be at the start.
    async fn load(&self, ground: &mut Ground) -> Result<(), Failure> {
        ground.is_loaded = true;
        let missing = self.options.keys.saturating_sub(ground.population.present());
        if missing == 0 {
            return Ok(());
        }
        let work = Work { rate: None, ..self.work(Workload::Load, ground) };
        let phase = format!("writing {missing} keys");
        let loaded = self.drive(&phase, work, End::Operations(missing), ground).await?;
        if loaded.recorder.failures() > 0 {
            let errors: Vec<_> = loaded.recorder.errors.keys().map(String::as_str).collect();
            let (count, reasons) = (loaded.recorder.failures(), errors.join(", "));
            if loaded.recorder.operations == 0 {
                return Err(Failure::refused(format!("no key could be written: {reasons}")));
            }
            output::say(format!("{count} keys could not be written: {reasons}"));
        }
        Ok(())
    }

    async fn workload(&self, workload: Workload, ground: &Ground) -> Result<Measured, Failure> {
        let (name, warm_up) = (workload.name(), self.options.warm_up);
        if warm_up > Duration::ZERO {
            let work = self.work(workload, ground);
            let phase = format!("workload {name}: warming up");
            self.drive(&phase, work, End::After(warm_up), ground).await?;
        }
        let processors = || self.nodes.and_then(Nodes::processor_seconds);
        let before = processors();
        // Other operations than those of the warm-up.
        let seed = self.options.seed.wrapping_add(1);
        let work = Work { seed, ..self.work(workload, ground) };
        let phase = format!("workload {name}");
        let outcome = self.drive(&phase, work, self.options.end(), ground).await?;
        let spent = before.zip(processors()).map(|(before, after)| after - before);
        let recorder = outcome.recorder;
        let (seconds, operations) = (outcome.time.as_secs_f64(), recorder.operations);
        Ok(Measured {
            workload: name.to_owned(),
            seconds,
            operations,
            per_second: operations as f64 / seconds,
            latency: recorder.latency,
            errors: recorder.errors,
            siblings: recorder.siblings,
            never_begun: outcome.never_begun,
            server_us: spent.map(|spent| spent * 1e6 / operations.max(1) as f64),
        })
    }

    fn work(&self, workload: Workload, ground: &Ground) -> Work {
        let options = self.options;
        let law: Distribution = options.distribution.unwrap_or(workload.distribution());
        Work {
            workload,
            choice: Choice::new(law, options.keys),
            population: ground.population.clone(),
            values: ground.values.clone(),
            conflicts: options.conflicts(workload),
            concurrency: options.concurrency as usize,
            rate: options.rate,
            seed: options.seed,
        }
    }

    async fn drive(
        &self,
        phase: &str,
        work: Work,
        end: End,
        ground: &Ground,
    ) -> Result<Outcome, Failure> {
        let live = Arc::default();
        let driving = drive(ground.targets.clone(), Arc::new(work), end, Arc::clone(&live));
        tokio::select! {
            outcome = driving => {
                outcome.map_err(|error| Failure::refused(format!("a worker failed: {error}")))
            }
            () = progress::watch(phase, end, &live) => {
                Err(Failure::refused("nobody watches the run any more"))
            }
        }
    }
}
