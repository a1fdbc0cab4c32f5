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
//! | [`peers`], [`etcd`], [`redis`], [`resp`] | other stores as targets |
//! | [`echo`] | a server that stores nothing: the limit |
//! | [`recorder`], [`latency`] | histograms, errors by reason, siblings |
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
use futures::future::try_join_all;

use choice::{Choice, Distribution};
use driver::{Outcome, Values, Work, drive};
use etcd::Etcd;
use options::Options;
use peers::Store;
use population::Population;
use redis::Redis;
use report::{Document, Host, Measured};
use schedule::End;
use target::Target;
use workload::{Family, Workload};

use super::failure::Failure;
use super::output::{self, Output};
use super::session::Session;
use super::signals::Stop;
use crate::address::{BadAddress, HostPort};
use crate::local;

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
        let endpoints = &options.endpoints;
        return match options.peers.against {
            Store::Stator => {
                let keyspace = options.keyspace.as_deref().unwrap_or("default");
                run.stator(session, endpoints, keyspace).await
            }
            Store::Etcd => run.etcd(session.timeout(), &addresses(endpoints)?).await,
            Store::Redis => run.redis(session.timeout(), &addresses(endpoints)?).await,
        };
    };
    output::say(format!("starting {count} nodes"));
    let nodes = cluster::start(count, options).await?;
    let endpoints: Vec<_> = nodes.addresses().map(|node| node.client.clone()).collect();
    let run = Run { options, pids: nodes.pids() };
    let measured = run.stator(session, &endpoints, cluster::KEYSPACE).await;
    let measured = measured.map_err(|failure| failure.hint(nodes.log_tails()));
    if let Some(folder) = nodes.stop().await {
        output::say(format!("the nodes' data and logs are in {}", folder.display()));
    }
    measured
}

/// Endpoints of a store that is not Stator, one for each connection in turn.
fn addresses(endpoints: &[String]) -> Result<Vec<HostPort>, Failure> {
    let wrong = |bad: BadAddress| Failure::usage(format!("--endpoints: {bad}"));
    endpoints.iter().map(|endpoint| endpoint.parse().map_err(wrong)).collect()
}

/// A bench on servers that are there.
struct Run<'a> {
    options: &'a Options,
    /// The servers' processes, as far as they are known.
    pids: Vec<u32>,
}

/// What workloads of a family share: connections, keys and values.
struct Ground<T> {
    targets: Arc<[T]>,
    population: Arc<Population>,
    values: Values,
    is_loaded: bool,
}

impl Run<'_> {
    async fn stator(
        &self,
        session: &Session,
        endpoints: &[String],
        keyspace: &str,
    ) -> Result<Document, Failure> {
        let connect = async |family| {
            stator::connect(session, self.options, endpoints, keyspace, family).await
        };
        self.measure(connect).await
    }

    async fn etcd(&self, timeout: Duration, addresses: &[HostPort]) -> Result<Document, Failure> {
        let serializable = self.options.peers.serializable;
        let connect = async |family: Family| {
            let one = |address| Etcd::connect(address, family.prefix(), serializable, timeout);
            try_join_all(self.in_turn(addresses).map(one)).await
        };
        self.measure(connect).await
    }

    async fn redis(&self, timeout: Duration, addresses: &[HostPort]) -> Result<Document, Failure> {
        let wait = self.options.peers.wait_replicas;
        let connect = async |family: Family| {
            let one = |address| Redis::connect(address, family.prefix(), wait, timeout);
            try_join_all(self.in_turn(addresses).map(one)).await
        };
        self.measure(connect).await
    }

    /// The address of each connection.
    fn in_turn<'b>(&self, addresses: &'b [HostPort]) -> impl Iterator<Item = &'b HostPort> {
        addresses.iter().cycle().take(self.options.connections.into())
    }

    /// Measures all workloads over what `connect` gives for a family.
    async fn measure<T: Target>(
        &self,
        connect: impl AsyncFn(Family) -> Result<Vec<T>, Failure>,
    ) -> Result<Document, Failure> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut grounds = BTreeMap::new();
        let mut results = Vec::new();
        for workload in &self.options.workload {
            let family = workload.family();
            let ground = match grounds.entry(family) {
                Entry::Occupied(ground) => ground.into_mut(),
                Entry::Vacant(place) => place.insert(self.ground(family, connect(family).await?)),
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

    fn ground<T>(&self, family: Family, targets: Vec<T>) -> Ground<T> {
        let options = self.options;
        Ground {
            targets: targets.into(),
            population: Arc::new(Population::of(if options.no_load { options.keys } else { 0 })),
            values: Values::new(family, options.value_bytes as usize, options.seed),
            is_loaded: options.no_load,
        }
    }

    /// Writes the keys that are missing of those that there are to be at the start.
    async fn load<T: Target>(&self, ground: &mut Ground<T>) -> Result<(), Failure> {
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

    async fn workload<T: Target>(
        &self,
        workload: Workload,
        ground: &Ground<T>,
    ) -> Result<Measured, Failure> {
        let (name, warm_up) = (workload.name(), self.options.warm_up);
        let own = [std::process::id()];
        if warm_up > Duration::ZERO {
            let work = self.work(workload, ground);
            let phase = format!("workload {name}: warming up");
            self.drive(&phase, work, End::After(warm_up), ground).await?;
        }
        let before = [&self.pids[..], &own].map(processor_seconds);
        // Other operations than those of the warm-up.
        let seed = self.options.seed.wrapping_add(1);
        let work = Work { seed, ..self.work(workload, ground) };
        let phase = format!("workload {name}");
        let outcome = self.drive(&phase, work, self.options.end(), ground).await?;
        let recorder = outcome.recorder;
        let (seconds, operations) = (outcome.time.as_secs_f64(), recorder.operations);
        let each = |before: Option<f64>, pids: &[u32]| {
            Some((processor_seconds(pids)? - before?) * 1e6 / operations.max(1) as f64)
        };
        let [servers, client] = before;
        let (server_us, client_us) = (each(servers, &self.pids), each(client, &own));
        Ok(Measured {
            workload: name.to_owned(),
            seconds,
            operations,
            per_second: operations as f64 / seconds,
            latency: recorder.latency,
            errors: recorder.errors,
            siblings: recorder.siblings,
            never_begun: outcome.never_begun,
            server_us,
            client_us,
        })
    }

    fn work<T>(&self, workload: Workload, ground: &Ground<T>) -> Work {
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

    async fn drive<T: Target>(
        &self,
        phase: &str,
        work: Work,
        end: End,
        ground: &Ground<T>,
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

/// Processor time of processes so far. None if there are none, or the system does not tell.
fn processor_seconds(pids: &[u32]) -> Option<f64> {
    let of_all = pids.iter().map(|pid| local::processor_seconds(*pid));
    of_all.sum::<Option<f64>>().filter(|_| !pids.is_empty())
}
