//! `stator torture`: a merge module among faults, on real nodes of this machine.
//!
//! Three nodes merge by the module. Clients write what its sampler gives, several of them the same key at
//! the same time through different nodes, read what comes of it, and write on. Meanwhile nodes are cut off,
//! killed and started again, and stopped for a while (`faults.rs`). In the end everything is healed, and
//! held against what was written (`ledger.rs`):
//!
//! - *nothing is lost*: of every key all owners have seen every write that was acknowledged;
//! - *all agree*: every node reads the same bytes;
//! - *every key merges*: no dead letters are left, and no reader gets siblings.
//!
//! What the values mean is the module's matter: what its merges must keep to is checked by
//! `stator module test`. This is the step after that one, for a team's own checks of each change.
//!
//! Left out: clocks that jump, full disks, loss of disks; the test suite of Stator has those.

mod faults;
mod ledger;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stator_client::{Admin, Client, Options as ClientOptions};
use stator_core::divergence::Divergence;
use stator_proto::v1;
use tokio::task::JoinSet;

use crate::demo::client::NodeClient;
use crate::demo::verify;
use crate::local::{Launch, Nodes};
pub use faults::Faults;
pub use ledger::{Found, Ledger};

/// The keyspace that is made.
const KEYSPACE: &str = "torture";
/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is to be tried.
pub struct Options {
    /// The component.
    pub component: Bytes,
    /// The class of its limits.
    pub class: v1::ModuleClass,
    /// What clients write: divergences of the module's sampler.
    pub samples: Vec<Divergence>,
    /// Whether the module folds.
    pub fold: bool,
    /// For how long.
    pub duration: Duration,
    /// How many clients.
    pub clients: usize,
    /// How many keys.
    pub keys: usize,
    /// What the choices follow from; what happens when is up to the machine.
    pub seed: u64,
    /// Whether the nodes' data and logs stay.
    pub keep: bool,
}

/// What happened.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Report {
    /// Puts that were acknowledged.
    pub acknowledged: u64,
    /// Puts that were not, or whose outcome is not known.
    pub failed: u64,
    /// Gets that were answered.
    pub read: u64,
    /// Of these, by a merge.
    pub merged: u64,
    /// Nodes cut off, killed and stopped.
    pub cut_off: u64,
    /// Nodes that were killed and started again.
    pub killed: u64,
    /// Nodes that stood still for a while.
    pub stopped: u64,
    /// What is wrong, in words.
    pub wrong: Vec<String>,
}

/// Tortures a module. `tell` is told how it goes.
///
/// # Errors
/// Nodes cannot be started, or the module is refused: nothing was tried.
pub async fn run(options: Options, tell: impl Fn(&str)) -> Result<Report> {
    ensure!(
        options.samples.iter().any(|sample| sample.siblings.len() > 1),
        "the module has no sampler, or it gives no siblings: nothing can be written"
    );
    let flags = vec!["--enable-faults".to_owned()];
    let launch = Launch { nodes: 3, flags, keep: options.keep, ..Launch::default() };
    let nodes = Nodes::start(&launch).await?;
    let keep = options.keep;
    let went = torture(options, nodes, &tell).await;
    let (report, nodes) = went?;
    if !report.wrong.is_empty() {
        tell(&nodes.log_tails());
    }
    if let Some(folder) = nodes.stop().await.filter(|_| keep) {
        tell(&format!("the nodes' data and logs are in {}", folder.display()));
    }
    Ok(report)
}

async fn torture(
    options: Options,
    mut nodes: Nodes,
    tell: &impl Fn(&str),
) -> Result<(Report, Nodes)> {
    let addresses: Vec<_> = nodes.addresses().cloned().collect();
    let clients = addresses.iter().map(|node| NodeClient::new(&node.client, &node.admin));
    let clients: Vec<NodeClient> = clients.collect::<Result<_>>()?;
    let admin = Admin::connect([&addresses[0].admin])?;
    make_cluster(&options, &admin, &addresses.iter().map(|n| n.peer.clone()).collect::<Vec<_>>())
        .await?;
    verify::settle(&clients).await.context("the nodes did not find each other")?;
    verify::until_everywhere(&clients, &[KEYSPACE]).await?;

    let is_over = Arc::new(AtomicBool::new(false));
    let ledger = Arc::new(Ledger::default());
    let options = Arc::new(options);
    let mut writers = JoinSet::new();
    for number in 0..options.clients {
        let one = Writer {
            clients: connect(addresses.iter().map(|node| node.client.clone()))?,
            options: options.clone(),
            ledger: ledger.clone(),
            is_over: is_over.clone(),
            rng: StdRng::seed_from_u64(options.seed.wrapping_add(number as u64)),
        };
        writers.spawn(one.run());
    }
    tell(&format!("{} clients write {} keys among faults", options.clients, options.keys));
    let mut faults = Faults::new(options.seed);
    let until = Instant::now() + options.duration;
    while Instant::now() < until {
        let what = faults.next(&mut nodes, &addresses).await?;
        tell(&what);
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.context("a client broke off")?;
    }
    faults.heal(&mut nodes, &addresses).await?;
    tell("all is healed; what was written is held against what is there");
    verify::settle(&clients).await.context("the nodes did not find each other again")?;
    let mut report = ledger.report(&faults);
    let found = Found { addresses: &addresses, keyspace: KEYSPACE, keys: options.keys };
    report.wrong = found.check(&ledger).await?;
    Ok((report, nodes))
}

async fn make_cluster(options: &Options, admin: &Admin, peers: &[String]) -> Result<()> {
    let request = v1::InitClusterRequest {
        peer_addresses: peers.to_vec(),
        cluster_name: KEYSPACE.to_owned(),
        ..Default::default()
    };
    admin.init_cluster(request).await?;
    let component = options.component.clone();
    let pushed = admin.push_module_as(options.class, KEYSPACE, "", component, false).await?;
    let reconcile = v1::Reconcile {
        policy: v1::ReconcilePolicy::Module.into(),
        module_digest: pushed.digest,
        fold: options.fold,
        ancestor: false,
    };
    let keyspace = v1::Keyspace {
        name: KEYSPACE.to_owned(),
        reconcile: Some(reconcile),
        ..Default::default()
    };
    let create = v1::CreateKeyspaceRequest { keyspace: Some(keyspace), validate_only: false };
    admin.create_keyspace(create).await?;
    Ok(())
}

/// A client of each node.
fn connect(addresses: impl Iterator<Item = String>) -> Result<Vec<Client>> {
    let mut terms = ClientOptions::default();
    terms.timeout = PATIENCE;
    terms.attempts_max = 1;
    terms.coordination = stator_client::Coordination::Any;
    addresses.map(|address| Ok(Client::plain([address], terms.clone())?)).collect()
}

/// The name of the `number`-th key.
fn key(number: usize) -> Bytes {
    format!("key-{number}").into()
}

struct Writer {
    clients: Vec<Client>,
    options: Arc<Options>,
    ledger: Arc<Ledger>,
    is_over: Arc<AtomicBool>,
    rng: StdRng,
}

impl Writer {
    async fn run(mut self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let key = key(self.rng.random_range(0..self.options.keys));
            // A sample's values are of one history: a key has those of one sample, whoever writes.
            let sample = self.ledger.sample(&key, self.options.samples.len());
            let sample = &self.options.samples[sample];
            let values: Vec<_> =
                sample.siblings.iter().filter_map(|sibling| sibling.value.clone()).collect();
            if values.is_empty() {
                continue;
            }
            let value = values[self.rng.random_range(0..values.len())].clone();
            let node = self.rng.random_range(0..self.clients.len());
            // Half of the time as one who has not looked.
            let contexts = match self.rng.random_bool(0.5) {
                true => Vec::new(),
                false => self.read(node, &key).await,
            };
            self.write(node, (key, value), contexts).await;
        }
    }

    async fn read(&self, node: usize, key: &Bytes) -> Vec<Bytes> {
        let request = v1::GetRequest {
            keyspace: KEYSPACE.to_owned(),
            key: key.clone(),
            ..Default::default()
        };
        match self.clients[node].send_get(request).await {
            Ok(found) => {
                self.ledger.read(found.merge.is_some_and(|merge| merge.merged));
                found.context.into_iter().collect()
            }
            Err(_) => Vec::new(),
        }
    }

    async fn write(&self, node: usize, (key, value): (Bytes, Bytes), contexts: Vec<Bytes>) {
        let request = v1::PutRequest {
            keyspace: KEYSPACE.to_owned(),
            key: key.clone(),
            value,
            contexts,
            ..Default::default()
        };
        match self.clients[node].send_put(request).await {
            Ok(written) => self.ledger.acknowledged(&key, written.dot),
            Err(_) => {
                self.ledger.failed();
                // A node that is gone refuses at once.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

impl Report {
    /// Ends in an error if something is wrong, or nothing was put to proof.
    ///
    /// # Errors
    /// What is wrong.
    pub fn verdict(&self) -> Result<()> {
        if let Some(first) = self.wrong.first() {
            bail!("{} things are wrong; the first: {first}", self.wrong.len());
        }
        ensure!(
            self.merged > 0 && self.acknowledged > 0 && self.cut_off + self.killed > 0,
            "too little happened to prove anything: try it longer"
        );
        Ok(())
    }
}
