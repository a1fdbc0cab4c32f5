//! What is done to the cluster, one after the other.
//!
//! A scenario begins with a cluster that is well and under load. It does harm, holds it, and heals
//! it; what it claims meanwhile it checks itself. Nodes: 1 to 5, three owners for each key.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use stator_proto::v1;

use crate::cluster::{Cluster, eventually, read_all};
use crate::lab::Lab;
use crate::load::{client, lock};
use crate::run::Held;

/// One kind of harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Nodes 1, 2, 3 and nodes 4, 5 do not hear each other; clients write on both sides.
    Partition,
    /// Nobody hears node 5, which hears all.
    OneWayCut,
    /// A fifth of all packets is lost, those of clients too.
    Loss,
    /// Node 3 is stopped with SIGSTOP, and goes on with SIGCONT.
    Stopped,
    /// Node 2 is killed and started again.
    Killed,
    /// Every node is killed at the same moment, and started again.
    AllKilled,
    /// The disk of node 5 is full.
    FullDisk,
    /// Each write to the disk of node 4 fails with EIO.
    WriteErrors,
    /// Each sync of the disk of node 4 fails with EIO.
    SyncErrors,
}

/// All of them, in the order they are run.
pub const ALL: [Scenario; 9] = [
    Scenario::Partition,
    Scenario::OneWayCut,
    Scenario::Loss,
    Scenario::Stopped,
    Scenario::Killed,
    Scenario::AllKilled,
    Scenario::FullDisk,
    Scenario::WriteErrors,
    Scenario::SyncErrors,
];

impl Scenario {
    /// Its name on the command line and in keys.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Partition => "partition",
            Scenario::OneWayCut => "one-way-cut",
            Scenario::Loss => "packet-loss",
            Scenario::Stopped => "stopped",
            Scenario::Killed => "killed",
            Scenario::AllKilled => "all-killed",
            Scenario::FullDisk => "full-disk",
            Scenario::WriteErrors => "write-errors",
            Scenario::SyncErrors => "sync-errors",
        }
    }

    /// What was done, for the table.
    pub fn words(self) -> &'static str {
        match self {
            Scenario::Partition => "1 2 3 cut from 4 5, writes on both sides",
            Scenario::OneWayCut => "nobody hears 5, which hears all",
            Scenario::Loss => "20 % of all packets dropped",
            Scenario::Stopped => "SIGSTOP, SIGCONT of 3",
            Scenario::Killed => "SIGKILL, restart of 2",
            Scenario::AllKilled => "SIGKILL, restart of all at once",
            Scenario::FullDisk => "disk of 5 filled, then freed",
            Scenario::WriteErrors => "EIO on each write of 4",
            Scenario::SyncErrors => "EIO on each sync of 4",
        }
    }

    /// How large the values of its load are.
    pub fn value_bytes(self) -> usize {
        match self {
            // An engine has room ahead in its files: that must be used up before it notices.
            Scenario::FullDisk => 8 << 10,
            _ => 32,
        }
    }

    /// Does the harm.
    pub async fn harm(self, lab: &Lab, cluster: &mut Cluster) -> Result<()> {
        match self {
            Scenario::Partition => lab.part(&[1, 2, 3], &[4, 5]).await,
            Scenario::OneWayCut => {
                for deaf in 1..=4 {
                    lab.cut(deaf, 5).await?;
                }
                Ok(())
            }
            Scenario::Loss => lab.lose(20).await,
            Scenario::Stopped => cluster.node(3).signal(libc::SIGSTOP),
            Scenario::Killed => cluster.node(2).kill().await,
            Scenario::AllKilled => {
                cluster.nodes.iter().try_for_each(|node| node.signal(libc::SIGKILL))?;
                for node in &mut cluster.nodes {
                    node.kill().await?;
                }
                Ok(())
            }
            Scenario::FullDisk => cluster.node(5).fill_disk().await,
            Scenario::WriteErrors => cluster.node(4).set_disk_errors("write", true).await,
            Scenario::SyncErrors => cluster.node(4).set_disk_errors("sync", true).await,
        }
    }

    /// Undoes it.
    pub async fn heal(self, lab: &Lab, cluster: &mut Cluster) -> Result<()> {
        match self {
            Scenario::Partition | Scenario::OneWayCut | Scenario::Loss => lab.heal().await,
            Scenario::Stopped => cluster.node(3).signal(libc::SIGCONT),
            Scenario::Killed => cluster.node(2).start().await,
            Scenario::AllKilled => {
                for node in &mut cluster.nodes {
                    node.start().await?;
                }
                Ok(())
            }
            Scenario::FullDisk => cluster.node(5).free_disk().await,
            Scenario::WriteErrors => cluster.node(4).set_disk_errors("write", false).await,
            Scenario::SyncErrors => cluster.node(4).set_disk_errors("sync", false).await,
        }
    }

    /// Checks what must be so while the harm lasts.
    pub async fn meanwhile(self, cluster: &Cluster, held: &Held<'_>) -> Result<()> {
        match self {
            // Who cannot reach two nodes acknowledges nothing, so there is nothing to wait for.
            Scenario::AllKilled => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(())
            }
            Scenario::Partition => {
                held.acknowledges_more().await?;
                let hinted = held.load.tally.hinted.load(std::sync::atomic::Ordering::Relaxed);
                ensure!(hinted > 0, "no write used a fallback: the quorum was not sloppy");
                Ok(())
            }
            Scenario::FullDisk => {
                held.acknowledges_more().await?;
                serves_reads_alone(cluster, 5, held).await
            }
            Scenario::WriteErrors | Scenario::SyncErrors => {
                held.acknowledges_more().await?;
                serves_reads_alone(cluster, 4, held).await
            }
            _ => held.acknowledges_more().await,
        }
    }
}

/// The node says that its data store takes no writes, and why; and it answers reads of what it
/// owns, for which every owner is needed.
async fn serves_reads_alone(cluster: &Cluster, number: usize, held: &Held<'_>) -> Result<()> {
    let node = &cluster.nodes[number - 1];
    eventually("the node says that it is read-only", async || {
        let status = node.status().await?;
        let Some(data) = status.stores.iter().find(|store| store.name == "data") else {
            bail!("it names no data store");
        };
        ensure!(data.state() == v1::StoreState::ReadOnly, "it is {:?}", data.state());
        ensure!(!data.detail.is_empty(), "it does not say why");
        Ok(())
    })
    .await?;
    let keys: Vec<String> = lock(held.ledger).keys(held.before);
    let client = client(&node.endpoint())?;
    let mut answered = BTreeSet::new();
    for key in keys.iter().take(30) {
        eventually("all owners answer, the read-only one too", async || {
            read_all(&client, key).await
        })
        .await?;
        answered.insert(key);
    }
    ensure!(!answered.is_empty(), "there was nothing to read");
    Ok(())
}
