//! Copies of a data directory: one process is the node, the other is refused and named.

use anyhow::{Context, Result, bail, ensure};
use stator_client::{Effect, Entry};

use crate::cluster::{Cluster, eventually};
use crate::load::{KEYSPACE, client};
use crate::node::Node;

/// How a second holder is refused, and the alarm of those who refuse it.
const REASON: &str = "SECOND_HOLDER";

/// Node 3 runs, and then a copy of it on the spare machine.
pub async fn copy(cluster: &mut Cluster) -> Result<()> {
    cluster.node(3).stop().await?;
    cluster.spare.copy_from(&cluster.nodes[2]).await?;
    cluster.node(3).start().await?;
    cluster.well("the node that was copied is back").await?;
    cluster.spare.launch().await.map(drop)
}

/// A copy of node 3 runs on the spare machine, and then node 3.
pub async fn copy_first(cluster: &mut Cluster) -> Result<()> {
    cluster.node(3).stop().await?;
    cluster.spare.copy_from(&cluster.nodes[2]).await?;
    cluster.spare.start().await?;
    eventually("the others take the copy for the node", async || {
        let id = id_of(&cluster.spare).await?;
        for number in [1, 2, 4, 5] {
            let status = cluster.nodes[number - 1].status().await?;
            let view = status
                .members
                .iter()
                .find(|view| view.member.as_ref().is_some_and(|member| member.node_id == id));
            let is_seen = view
                .is_some_and(|view| view.reachability() == stator_proto::v1::Reachability::Alive);
            ensure!(is_seen, "node {number} does not see it");
        }
        Ok(())
    })
    .await?;
    cluster.node(3).launch().await.map(drop)
}

/// The copy is stopped, and the original runs.
pub async fn heal(cluster: &mut Cluster) -> Result<()> {
    if cluster.spare.exit_code()?.is_none() {
        cluster.spare.kill().await?;
    }
    cluster.spare.wipe().await?;
    if cluster.node(3).exit_code()?.is_some() {
        cluster.node(3).start().await?;
    }
    Ok(())
}

/// It has ended with an error, or says that it is refused; its log says why.
pub async fn is_refused(node: &mut Node) -> Result<()> {
    eventually("the second holder is refused", async || {
        match node.exit_code()? {
            Some(0) => bail!("it ended as if all were well"),
            Some(_) => {}
            None => {
                let mut entry = Entry::blind(KEYSPACE, "copied");
                entry.set("nowhere");
                let refused = client(&node.endpoint())?.put(entry).await.err();
                let refused = refused.context("it acknowledged a put")?;
                ensure!(refused.reason() == REASON, "{refused:?}");
                ensure!(refused.effect() == Effect::None, "{refused:?}");
            }
        }
        ensure!(node.log().await?.contains("copy"), "its log names no copy");
        Ok(())
    })
    .await
}

/// Some other node's status has an alarm about node 3.
pub async fn is_named(cluster: &Cluster) -> Result<()> {
    eventually("the others name the intruder", async || {
        for number in [1, 2, 4, 5] {
            let alarms = cluster.nodes[number - 1].status().await?.alarms;
            if alarms.iter().any(|alarm| alarm.reason == REASON) {
                return Ok(());
            }
        }
        bail!("no status has an alarm about a copy")
    })
    .await
}

async fn id_of(node: &Node) -> Result<String> {
    let member = node.status().await?.node;
    Ok(member.map(|member| member.node_id).unwrap_or_default())
}
