//! What is done to the cluster, one after the other.
//!
//! A scenario begins with a cluster that is well and under load. It does harm, holds it, and heals
//! it; what it claims meanwhile it checks itself. Nodes: 1 to 5, three owners for each key.

mod copies;
mod pauses;
mod removals;

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
    /// A copy of node 3's directory is started elsewhere while node 3 runs.
    Copied,
    /// A copy of node 3's directory is started elsewhere while node 3 is dead, which then returns.
    CopiedFirst,
    /// Nodes 2 and 4 come back at other addresses.
    Moved,
    /// Node 3 is stopped for longer than a request takes; what was sent to it, and what others sent
    /// it for their clients, is tried again elsewhere, then replaced or deleted.
    Paused,
    /// Node 5 is removed as lost, and returns.
    Returned,
}

/// All of them, in the order they are run.
pub const ALL: [Scenario; 14] = [
    Scenario::Partition,
    Scenario::OneWayCut,
    Scenario::Loss,
    Scenario::Stopped,
    Scenario::Killed,
    Scenario::AllKilled,
    Scenario::FullDisk,
    Scenario::WriteErrors,
    Scenario::SyncErrors,
    Scenario::Copied,
    Scenario::CopiedFirst,
    Scenario::Moved,
    Scenario::Paused,
    Scenario::Returned,
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
            Scenario::Copied => "copied",
            Scenario::CopiedFirst => "copied-first",
            Scenario::Moved => "moved",
            Scenario::Paused => "paused",
            Scenario::Returned => "returned",
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
            Scenario::Copied => "a copy of 3 started beside it",
            Scenario::CopiedFirst => "a copy of 3 started in its place, then 3",
            Scenario::Moved => "2 and 4 at other addresses",
            Scenario::Paused => "SIGSTOP of 3, its requests retried, SIGCONT",
            Scenario::Returned => "5 removed as lost, then started",
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
            Scenario::Copied => copies::copy(cluster).await,
            Scenario::CopiedFirst => copies::copy_first(cluster).await,
            Scenario::Moved => move_all(cluster, 20).await,
            Scenario::Paused => pauses::pause(cluster).await,
            Scenario::Returned => removals::remove(cluster).await,
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
            Scenario::Copied | Scenario::CopiedFirst => copies::heal(cluster).await,
            Scenario::Moved => move_all(cluster, 0).await,
            Scenario::Paused => cluster.node(3).signal(libc::SIGCONT),
            Scenario::Returned => removals::join_anew(cluster).await,
        }
    }

    /// Checks what must be so while the harm lasts.
    pub async fn meanwhile(self, cluster: &mut Cluster, held: &Held<'_>) -> Result<()> {
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
            Scenario::Copied => {
                copies::is_refused(&mut cluster.spare).await?;
                copies::is_named(cluster).await?;
                held.acknowledges_more().await
            }
            Scenario::CopiedFirst => {
                copies::is_refused(&mut cluster.nodes[2]).await?;
                copies::is_named(cluster).await?;
                held.acknowledges_more().await
            }
            Scenario::Moved => {
                cluster.well("who moved is found").await?;
                held.acknowledges_more().await
            }
            Scenario::Paused => {
                pauses::retry_elsewhere(cluster).await?;
                held.acknowledges_more().await
            }
            Scenario::Returned => {
                removals::says_so(cluster).await?;
                held.acknowledges_more().await
            }
            _ => held.acknowledges_more().await,
        }
    }
}

/// Nodes 2 and 4 stop, and start again where they are to be found `farther` up.
async fn move_all(cluster: &mut Cluster, farther: usize) -> Result<()> {
    for number in [2, 4] {
        let node = cluster.node(number);
        node.stop().await?;
        node.move_to(number + farther).await?;
        node.start().await?;
    }
    Ok(())
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
