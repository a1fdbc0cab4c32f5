//! `stator cluster init`.
//!
//! The first node is asked, and the one with the smallest id makes the cluster, so the command may
//! be run anywhere, at once and again. It then asks each node until all go by the same ring.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use stator_client::Admin;
use stator_proto::v1;
use tokio::time::{Instant, sleep};

use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

/// How often a member is asked whether it has joined.
const POLL: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Example, three nodes on one machine:
  stator serve --bootstrap wait --data-dir a --client-listen 127.0.0.1:7101 \\
    --admin-listen 127.0.0.1:7102 --peer-listen 127.0.0.1:7103 &
  stator serve --bootstrap wait --data-dir b --client-listen 127.0.0.1:7201 \\
    --admin-listen 127.0.0.1:7202 --peer-listen 127.0.0.1:7203 &
  stator serve --bootstrap wait --data-dir c --client-listen 127.0.0.1:7301 \\
    --admin-listen 127.0.0.1:7302 --peer-listen 127.0.0.1:7303 &
  stator cluster init --nodes 127.0.0.1:7102,127.0.0.1:7202,127.0.0.1:7302";

/// Make one cluster of nodes started with `stator serve --bootstrap wait`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Init {
    /// The admin addresses of all nodes, in any order
    #[arg(long, value_delimiter = ',', required = true, num_args = 1.., value_name = "ADMIN")]
    nodes: Vec<String>,
    /// A name for people
    #[arg(long, default_value = "stator")]
    name: String,
    /// Number of partitions, a power of two, for good
    #[arg(long, default_value_t = 256)]
    partitions: u32,
    /// The most replicas a keyspace may have [default: 3, or the number of nodes if less]
    #[arg(long, value_name = "REPLICAS")]
    replicas_max: Option<u32>,
    /// Make no keyspace `default`
    #[arg(long)]
    no_default: bool,
}

impl Init {
    pub(in crate::cli) async fn run(self, session: &Session) -> Result<(), Failure> {
        for address in &self.nodes {
            session.check(address, "--nodes")?;
        }
        let Some(first) = self.nodes.first() else {
            return Err(Failure::usage("--nodes needs at least one address"));
        };
        let mut peer_addresses = Vec::new();
        let mut is_new = false;
        for address in &self.nodes {
            let (peer, is_waiting) = peer_of(session, address).await?;
            peer_addresses.push(peer);
            is_new |= is_waiting;
        }
        let request = v1::InitClusterRequest {
            peer_addresses,
            cluster_name: self.name,
            partitions: self.partitions,
            replicas_max: self.replicas_max.unwrap_or(0),
        };
        let admin = session.admin_of(first).await?;
        let answer = admin.init_cluster(request).await?;
        let cluster = answer
            .cluster
            .ok_or_else(|| Failure::refused("the node did not say which cluster it made"))?;
        for address in &self.nodes {
            wait_until_member(session, address, &cluster).await?;
        }
        if is_new && !self.no_default {
            make_default(&admin).await?;
        }
        match session.output {
            Output::Json => output::json(&json!({
                "cluster_id": cluster.id,
                "name": cluster.name,
                "partitions": cluster.partitions,
                "ring_version": cluster.ring_version,
                "nodes": answer.members.iter().map(|m| &m.node_id).collect::<Vec<_>>(),
            })),
            Output::Table => {
                output::line(format!(
                    "cluster {} ({}) of {} nodes, {} partitions, ring version {}",
                    cluster.name,
                    cluster.id,
                    answer.members.len(),
                    cluster.partitions,
                    cluster.ring_version
                ))?;
                if !is_new {
                    output::say("these nodes were this cluster already");
                }
                Ok(())
            }
        }
    }
}

/// What a first put needs. Somebody may have made it already, in another way.
async fn make_default(admin: &Admin) -> Result<(), Failure> {
    let keyspace = v1::Keyspace { name: "default".to_owned(), ..Default::default() };
    let request = v1::CreateKeyspaceRequest { keyspace: Some(keyspace), validate_only: false };
    match admin.create_keyspace(request).await {
        Err(error) if error.reason() != "KEYSPACE_EXISTS" => Err(error.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The peer address of the node at `address`, and whether it waits for a cluster.
async fn peer_of(session: &Session, address: &str) -> Result<(String, bool), Failure> {
    let admin = session.admin_of(address).await?;
    let status = admin.get_status(v1::GetStatusRequest {}).await;
    let status = status.map_err(|error| Failure::from(error).during(address))?;
    let node =
        status.node.ok_or_else(|| Failure::refused(format!("{address} did not say who it is")))?;
    Ok((node.peer_address, status.cluster.is_none()))
}

async fn wait_until_member(
    session: &Session,
    address: &str,
    cluster: &v1::ClusterInfo,
) -> Result<(), Failure> {
    let deadline = Instant::now() + session.timeout();
    let admin = session.admin_of(address).await?;
    loop {
        let status = admin.get_status(v1::GetStatusRequest {}).await?;
        let joined = status
            .cluster
            .is_some_and(|seen| seen.id == cluster.id && seen.ring_version >= cluster.ring_version);
        if joined {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let message =
                format!("the cluster is made, but the node at {address} has not learnt of it");
            return Err(Failure::new(Kind::Unavailable, message).hint(
                "it will as soon as it reaches the others; `stator cluster status` shows it",
            ));
        }
        sleep(POLL).await;
    }
}
