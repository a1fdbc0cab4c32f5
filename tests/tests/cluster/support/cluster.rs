//! Several nodes in one cluster.

use std::ops::{Index, IndexMut};

use stator_proto::{upload, v1};
use tempfile::TempDir;

use super::{Node, built, eventually, must};

/// Nodes of one cluster. Dropped, they are killed and their data is removed; if the test failed,
/// the ends of their logs are shown.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    // After the nodes: their processes end before their data goes.
    _folder: TempDir,
}

impl Cluster {
    /// Starts `count` nodes with faults enabled, makes them a cluster through the admin
    /// interface, and waits until each sees all.
    pub async fn start(count: usize) -> Cluster {
        Cluster::start_with(count, |_| Vec::new()).await
    }

    /// The same with further flags for each node, numbered from 1.
    pub async fn start_with(count: usize, more: impl Fn(usize) -> Vec<String>) -> Cluster {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut nodes = Vec::new();
        for number in 1..=count {
            let more = more(number);
            let mut flags = vec!["--bootstrap", "wait", "--enable-faults"];
            flags.extend(more.iter().map(String::as_str));
            nodes.push(Node::start(folder.path(), &format!("node-{number}"), &flags).await);
        }
        let cluster = Cluster { nodes, _folder: folder };
        let others = &cluster.nodes[1..];
        let request = v1::InitClusterRequest {
            peer_addresses: others.iter().map(|node| node.addresses.peer.clone()).collect(),
            ..Default::default()
        };
        let made = cluster[0].admin().init_cluster(request).await.expect("a cluster").into_inner();
        assert_eq!(made.members.len(), count);
        cluster.all_alive().await;
        cluster
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// Waits until every node sees every other one alive.
    pub async fn all_alive(&self) {
        for node in &self.nodes {
            node.sees_all(self.nodes.len()).await;
        }
    }

    /// Creates a keyspace through the first node and waits until all know it.
    pub async fn create(&self, keyspace: v1::Keyspace) {
        let name = keyspace.name.clone();
        let request = v1::CreateKeyspaceRequest { keyspace: Some(keyspace), validate_only: false };
        self[0].patient_admin().create_keyspace(request).await.expect("created");
        for node in &self.nodes {
            eventually("every node knows the keyspace", async || {
                let request = v1::GetKeyspaceRequest { name: name.clone() };
                let found = node.admin().get_keyspace(request).await;
                found.map(drop).map_err(|status| status.to_string())
            })
            .await;
        }
    }

    /// Uploads the cart module through the first node and tells how a keyspace uses it.
    pub async fn push_cart(&self) -> v1::Reconcile {
        self.push("cart").await
    }

    /// Uploads a component that `make components` has built, under its file's name.
    pub async fn push(&self, path: &str) -> v1::Reconcile {
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        let messages = upload::messages(name, String::new(), built(path), false);
        let pushed = self[0].patient_admin().push_module(futures::stream::iter(messages)).await;
        v1::Reconcile {
            policy: v1::ReconcilePolicy::Module.into(),
            module_digest: pushed.expect("taken").into_inner().digest,
            ..Default::default()
        }
    }

    /// Waits until no node keeps anything for another; tells how much was delivered in all.
    pub async fn all_delivered(&self) -> u64 {
        eventually("all hints are delivered", async || {
            let mut delivered = 0;
            for node in &self.nodes {
                let status = node.status().await?;
                let held: u64 = status.members.iter().map(|view| view.hints_held).sum();
                must(held == 0, || format!("{held} are held by {}", node.addresses.node))?;
                delivered += status.members.iter().map(|view| view.hints_delivered).sum::<u64>();
            }
            Ok(delivered)
        })
        .await
    }
}

impl Index<usize> for Cluster {
    type Output = Node;

    fn index(&self, index: usize) -> &Node {
        &self.nodes[index]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let tails: String = self.nodes.iter().map(Node::log_tail).collect();
            eprintln!("{tails}");
        }
    }
}
