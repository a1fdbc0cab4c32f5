//! All nodes as one cluster, and when it is well again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::stream::{self, StreamExt};
use stator_client::Client;
use stator_proto::v1;
use tokio::time::{Instant, sleep};

use crate::ledger::{Faults, Ledger};
use crate::load::{KEYSPACE, client};
use crate::node::{Node, Setup};

/// Far beyond what anything takes: reached only if the condition never holds.
const DEADLINE: Duration = Duration::from_secs(240);
/// How many keys are read at a time.
const READS: usize = 16;

/// The nodes.
#[derive(Debug)]
pub struct Cluster {
    /// In order of their numbers.
    pub nodes: Vec<Node>,
    /// A further machine, on which nothing runs but what a scenario starts there.
    pub spare: Node,
    /// What the scenario wrote itself, and must not be found: key and value.
    pub gone: Vec<(String, String)>,
    /// Clients whose connections are to stay open.
    pub open: Vec<Client>,
}

impl Cluster {
    /// Starts all nodes, makes them one cluster and gives it the load's keyspace.
    pub async fn start(setup: &Setup) -> Result<Cluster> {
        tokio::fs::write(setup.folder.join("secret"), "known to this run alone").await?;
        let mut nodes = Vec::new();
        for number in 1..=setup.lab.nodes {
            let mut node = Node::new(setup, number).await?;
            node.start().await?;
            nodes.push(node);
        }
        let spare = Node::new(setup, setup.lab.nodes + 1).await?;
        let cluster = Cluster { nodes, spare, gone: Vec::new(), open: Vec::new() };
        let admin = cluster.nodes[0].admin()?;
        let peer_addresses = cluster.nodes[1..].iter().map(Node::peer).collect();
        let request =
            v1::InitClusterRequest { peer_addresses, partitions: 64, ..Default::default() };
        admin.init_cluster(request).await?;
        cluster.well("the cluster is made").await?;
        let keyspace =
            v1::Keyspace { name: KEYSPACE.to_owned(), n: 3, r: 2, w: 2, ..Default::default() };
        let request = v1::CreateKeyspaceRequest { keyspace: Some(keyspace), validate_only: false };
        admin.create_keyspace(request).await?;
        for node in &cluster.nodes {
            eventually("every node knows the keyspace", async || {
                let request = v1::GetKeyspaceRequest { name: KEYSPACE.to_owned() };
                Ok(node.admin()?.get_keyspace(request).await.map(drop)?)
            })
            .await?;
        }
        Ok(cluster)
    }

    /// Where clients reach the nodes.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(Node::endpoint).collect()
    }

    /// Node `number`.
    pub fn node(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    /// Waits until every node serves with whole stores and sees all others.
    pub async fn well(&self, when: &str) -> Result<()> {
        for node in &self.nodes {
            eventually(when, async || {
                let status = node.status().await?;
                is_well(&status, self.nodes.len()).with_context(|| format!("node {}", node.number))
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until no node keeps anything for another.
    pub async fn delivered(&self) -> Result<()> {
        eventually("all hints are delivered", async || {
            for node in &self.nodes {
                let status = node.status().await?;
                let held: u64 = status.members.iter().map(|view| view.hints_held).sum();
                if held > 0 {
                    bail!("node {} holds {held}", node.number);
                }
            }
            Ok(())
        })
        .await
    }

    /// What a scenario's own writes left that must not be there.
    pub async fn audit_gone(&mut self) -> Result<Vec<String>> {
        self.open.clear();
        let client = client(&self.nodes[0].endpoint())?;
        let mut found = Vec::new();
        for (key, value) in std::mem::take(&mut self.gone) {
            let values = eventually("a key is read from all its owners", async || {
                read_all(&client, &key).await
            });
            found.extend(values.await?.contains(&value).then_some(value));
        }
        Ok(found)
    }

    /// Reads every key that begins with `prefix` from all three owners; what is wrong with it.
    pub async fn audit(&self, ledger: &Ledger, prefix: &str) -> Result<Faults> {
        let clients: Vec<Client> =
            self.endpoints().iter().map(|endpoint| client(endpoint)).collect::<Result<_>>()?;
        let keys = ledger.keys(prefix);
        let read = keys.iter().enumerate().map(|(at, key)| {
            let client = &clients[at % clients.len()];
            async move {
                let found = eventually("a key is read from all its owners", async || {
                    read_all(client, key).await
                });
                found.await.map(|found| ledger.judge(key, &found))
            }
        });
        let mut reads = stream::iter(read).buffer_unordered(READS);
        let mut all = Faults::default();
        while let Some(found) = reads.next().await {
            let Faults { lost, revived, invented } = found?;
            all.lost.extend(lost);
            all.revived.extend(revived);
            all.invented.extend(invented);
        }
        Ok(all)
    }
}

/// The values of a key, by its owners alone.
pub async fn read_all(client: &Client, key: &str) -> Result<BTreeSet<String>> {
    let request = v1::GetRequest {
        keyspace: KEYSPACE.to_owned(),
        key: key.to_owned().into(),
        view: v1::View::Siblings.into(),
        r: Some(3),
        quorum: v1::Quorum::Strict.into(),
        ..Default::default()
    };
    let answer = client.send_get(request).await?;
    let values = answer.versions.iter().filter_map(|version| version.value.as_ref());
    Ok(values.map(|value| String::from_utf8_lossy(value).into_owned()).collect())
}

fn is_well(status: &v1::NodeStatus, members: usize) -> Result<()> {
    if status.state() != v1::NodeState::Serving {
        bail!("it is {}: {:?}", status.state().as_str_name(), status.fill);
    }
    for store in &status.stores {
        if store.state() != v1::StoreState::Serving || !store.detail.is_empty() {
            bail!("its {} store is {}: {}", store.name, store.state().as_str_name(), store.detail);
        }
    }
    let is_seen = |view: &&v1::MemberView| {
        matches!(view.reachability(), v1::Reachability::Alive | v1::Reachability::Self_)
    };
    let seen = status.members.iter().filter(is_seen).count();
    if seen < members {
        bail!("it sees {seen} of {members} members");
    }
    Ok(())
}

/// Tries until it succeeds, and tells what the last attempt lacked if it never does.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(missing) if Instant::now() > deadline => {
                return Err(missing.context(format!("{what}: not after {} s", DEADLINE.as_secs())));
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}
