//! A node that was removed serves nothing, however it comes back.

use anyhow::{Context, Result, ensure};
use stator_client::Entry;
use stator_proto::v1;
use stator_proto::v1::ring_change::Change;

use crate::cluster::{Cluster, eventually};
use crate::load::{KEYSPACE, client};

/// Node 5 dies, is removed as lost, and is started once the others own what it had.
pub async fn remove(cluster: &mut Cluster) -> Result<()> {
    let id = cluster.nodes[4].status().await?.node.context("it has an id")?.node_id;
    cluster.node(5).kill().await?;
    let leave = Change::Leave(v1::LeaveMember { node_id: id, is_lost: true });
    change_ring(cluster, leave).await?;
    settled(cluster, 4).await?;
    cluster.node(5).start().await
}

/// It says what it is, and takes no write.
pub async fn says_so(cluster: &Cluster) -> Result<()> {
    let node = &cluster.nodes[4];
    eventually("who was removed says so", async || {
        let status = node.status().await?;
        ensure!(status.state() == v1::NodeState::Removed, "it is {:?}", status.state());
        Ok(())
    })
    .await?;
    let client = client(&node.endpoint())?;
    let mut entry = Entry::blind(KEYSPACE, "removed");
    entry.set("nowhere");
    let refused = client.put(entry).await.err().context("it acknowledged a put")?;
    ensure!(refused.reason() == "NODE_REMOVED", "{refused:?}");
    ensure!(refused.effect() == stator_client::Effect::None, "{refused:?}");
    Ok(())
}

/// Its machine joins again, as another node with an empty directory.
pub async fn join_anew(cluster: &mut Cluster) -> Result<()> {
    let node = cluster.node(5);
    node.kill().await?;
    node.wipe().await?;
    node.start().await?;
    let peer_address = node.peer();
    let join = v1::JoinMember { peer_address, ..Default::default() };
    change_ring(cluster, Change::Join(join)).await?;
    settled(cluster, 5).await
}

async fn change_ring(cluster: &Cluster, change: Change) -> Result<()> {
    let admin = cluster.nodes[0].admin()?;
    let change = v1::RingChange { change: Some(change) };
    let plan = admin.stage_ring_change(v1::StageRingChangeRequest { change: Some(change) }).await?;
    let request = v1::CommitRingPlanRequest {
        expected_ring_version: plan.base_ring_version,
        ..Default::default()
    };
    admin.commit_ring_plan(request).await?;
    Ok(())
}

/// The first nodes, so many, are one cluster of as many members and hand nothing over any more.
async fn settled(cluster: &Cluster, members: usize) -> Result<()> {
    for node in &cluster.nodes[..members] {
        eventually("the ring is settled", async || {
            let status = node.status().await?;
            ensure!(status.members.len() == members, "{} members", status.members.len());
            ensure!(status.transfers.is_empty(), "{} transfers", status.transfers.len());
            Ok(())
        })
        .await?;
    }
    Ok(())
}
