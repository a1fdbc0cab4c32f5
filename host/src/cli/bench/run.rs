//! A bench on servers that are there: connect, load, warm up, measure, workload by workload.
//!
//! It is the same for every [`Target`]; what differs between stores is how they are connected to.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::try_join_all;

use super::choice::{Choice, Distribution};
use super::driver::{Outcome, Values, Work, drive};
use super::etcd::Etcd;
use super::options::Options;
use super::population::Population;
use super::redis::Redis;
use super::report::{Document, Host, Measured};
use super::schedule::End;
use super::target::Target;
use super::workload::{Family, Workload};
use super::{progress, stator};
use crate::address::{BadAddress, HostPort};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::session::Session;
use crate::local;

/// A bench on servers that are there.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    /// The servers' processes, as far as they are known.
    pub(super) pids: Vec<u32>,
}

/// What workloads of a family share: connections, keys and values.
struct Ground<T> {
    targets: Arc<[T]>,
    population: Arc<Population>,
    values: Values,
    is_loaded: bool,
}

impl Run<'_> {
    pub(super) async fn stator(
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

    pub(super) async fn etcd(&self, timeout: Duration) -> Result<Document, Failure> {
        let addresses = addresses(&self.options.endpoints)?;
        let serializable = self.options.peers.serializable;
        let connect = async |family: Family| {
            let one = |address| Etcd::connect(address, family, serializable, timeout);
            try_join_all(self.in_turn(&addresses).map(one)).await
        };
        self.measure(connect).await
    }

    pub(super) async fn redis(&self, timeout: Duration) -> Result<Document, Failure> {
        let addresses = addresses(&self.options.endpoints)?;
        let wait = self.options.peers.wait_replicas;
        let connect = async |family: Family| {
            let one = |address| Redis::connect(address, family, wait, timeout);
            try_join_all(self.in_turn(&addresses).map(one)).await
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
            by_second: recorder.timeline.rows(),
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
            by_second: options.by_second,
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

/// The endpoints of a store that is not Stator.
fn addresses(endpoints: &[String]) -> Result<Vec<HostPort>, Failure> {
    let wrong = |bad: BadAddress| Failure::usage(format!("--endpoints: {bad}"));
    endpoints.iter().map(|endpoint| endpoint.parse().map_err(wrong)).collect()
}
