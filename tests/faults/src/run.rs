//! One scenario from its load to its verdict.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use crate::cluster::{Cluster, eventually};
use crate::lab::Lab;
use crate::ledger::{Faults, Ledger};
use crate::load::{Load, lock};
use crate::report::Line;
use crate::scenarios::Scenario;

/// Writes acknowledged before the harm, under it, and after it, at the least.
const WRITES: u64 = 300;

/// A scenario whose harm is done.
pub struct Held<'a> {
    /// The load.
    pub load: &'a Load,
    /// What clients know.
    pub ledger: &'a Mutex<Ledger>,
    /// What the keys of the scenario begin with.
    pub before: &'a str,
    /// How long the harm lasts at least: longer than it takes to notice a dead node.
    pub hold: Duration,
}

impl Held<'_> {
    /// Lets the harm last, and waits until writes are acknowledged under it.
    pub async fn acknowledges_more(&self) -> Result<()> {
        let before = self.load.acknowledged();
        sleep(self.hold).await;
        eventually("writes are acknowledged all the same", async || {
            let more = self.load.acknowledged() - before;
            ensure!(more >= WRITES, "{more} of {WRITES}");
            Ok(())
        })
        .await
    }
}

/// Runs `scenario` on a cluster that is well.
pub async fn run(
    scenario: Scenario,
    hold: Duration,
    lab: &Lab,
    cluster: &mut Cluster,
    ledger: &Arc<Mutex<Ledger>>,
) -> Result<Line> {
    let prefix = format!("{}-", scenario.name());
    let load = Load::start(scenario.name(), scenario.value_bytes(), &cluster.endpoints(), ledger)?;
    let calm = Held { load: &load, ledger, before: &prefix, hold: Duration::ZERO };
    calm.acknowledges_more().await.context("before the harm")?;
    scenario.harm(lab, cluster).await.context("doing harm")?;
    let held = Held { hold, ..calm };
    scenario.meanwhile(cluster, &held).await.context("under it")?;
    let healed = Instant::now();
    scenario.heal(lab, cluster).await.context("healing")?;
    cluster.well("the cluster is well again").await?;
    let well = healed.elapsed();
    Held { hold: Duration::ZERO, ..held }.acknowledges_more().await.context("after healing")?;
    let tally = load.stop().await?;
    cluster.delivered().await?;
    let recovered = healed.elapsed();
    let ledger = lock(ledger).clone();
    let mut faults: Faults = cluster.audit(&ledger, &prefix).await?;
    faults.revived.extend(cluster.audit_gone().await?);
    let errors = lock(&tally.errors).clone();
    Ok(Line {
        scenario,
        acknowledged: tally.acknowledged.load(Ordering::Relaxed),
        hinted: tally.hinted.load(Ordering::Relaxed),
        reads: tally.reads.load(Ordering::Relaxed),
        errors,
        faults,
        well,
        recovered,
    })
}
