//! Making a cluster: of this node alone, or of several that wait for one.
//!
//! `init` asks every node who it is before anything changes, then makes the catalogue (members,
//! ring version 1, a fresh context secret), adopts it and has every other node adopt it. If it is
//! cut short, some nodes have adopted and others wait: running it again on the same node, with
//! the same others, hands the same catalogue to the rest.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use stator_core::catalogue::{
    Catalogue, CatalogueChange, Durability, KeyspaceSpec, Member, Quorums, Reconcile, Secret,
    Versioned,
};
use stator_core::id::{ClusterId, NodeId};
use stator_core::ring::{ClaimError, PARTITIONS_DEFAULT, claim};

use super::Node;
use crate::config::Config;
use crate::driver::CATALOGUE_FILE;
use crate::transport::setup::{Adopted, Introduction, SetupDesk, SetupError};

/// How many owners a partition has unless an operator says otherwise.
const REPLICAS_DEFAULT: u16 = 3;
/// The name of a cluster that was given none.
const NAME_DEFAULT: &str = "stator";
/// The keyspace that a cluster of one starts with.
const KEYSPACE_DEFAULT: &str = "default";

/// What an operator wants made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InitRequest {
    /// The peer listeners of the other nodes, `host:port`.
    pub peer_addresses: Vec<String>,
    /// The cluster's name; empty takes the default.
    pub cluster_name: String,
    /// Q; 0 takes the default.
    pub partitions: u32,
    /// The most owners per partition; 0 takes the default.
    pub replicas_max: u16,
}

/// Why no cluster was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// This node belongs to one already.
    #[error("this node belongs to the cluster {0:?} already; nothing was changed")]
    Belongs(String),
    /// One of the other nodes belongs to one already.
    #[error("the node at {address} belongs to a cluster already; nothing was changed")]
    PeerBelongs {
        /// Where.
        address: String,
    },
    /// A node's configuration names another cluster.
    #[error(
        "the node at {address} is configured for the cluster {expected:?}, and this one is to be \
         called {found:?}; nothing was changed"
    )]
    OtherName {
        /// Where.
        address: String,
        /// By its configuration.
        expected: String,
        /// What was asked for.
        found: String,
    },
    /// A node could not be asked; nothing was changed.
    #[error("{0}; nothing was changed")]
    Introduce(SetupError),
    /// A node did not adopt; others may have.
    #[error("{0}; other nodes have joined: run the same `cluster init` on this node again")]
    Adopt(SetupError),
    /// The ring cannot be made.
    #[error("{0}; nothing was changed")]
    Ring(#[from] ClaimError),
    /// This node cannot persist the catalogue.
    #[error("this node could not persist the catalogue: {0}; nothing was changed")]
    Persist(String),
    /// The machine gives no random numbers.
    #[error("the machine gives no random numbers: {0}; nothing was changed")]
    Randomness(String),
}

/// The catalogue of a cluster of one, with a keyspace to start with.
pub(super) fn single(
    config: &Config,
    node: NodeId,
    member: &Member,
) -> Result<Catalogue, getrandom::Error> {
    let name = config.cluster.as_deref().unwrap_or(NAME_DEFAULT);
    let mut catalogue = fresh(name)?;
    catalogue.members.insert(node, Versioned::new(member.clone()));
    // One node with a weight that was checked: neither can be refused.
    if let Ok(ring) = claim(1, PARTITIONS_DEFAULT, REPLICAS_DEFAULT, &catalogue.seats()) {
        catalogue.ring = ring;
    }
    let spec = KeyspaceSpec {
        name: KEYSPACE_DEFAULT.to_owned(),
        quorums: Quorums { n: 1, r: 1, w: 1 },
        durability: Durability::All,
        reconcile: Reconcile::Siblings,
    };
    let _ = CatalogueChange::CreateKeyspace(spec).apply(&mut catalogue);
    Ok(catalogue)
}

fn fresh(name: &str) -> Result<Catalogue, getrandom::Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    Ok(Catalogue::new(ClusterId(u128::from_be_bytes(id)), name, Secret(secret)))
}

impl Node {
    /// Makes a cluster of this node and others.
    pub async fn init(&self, request: InitRequest) -> Result<Arc<Catalogue>, InitError> {
        let _one_at_a_time = self.initialising.lock().await;
        let name = match request.cluster_name.as_str() {
            "" => self.config.cluster.as_deref().unwrap_or(NAME_DEFAULT),
            name => name,
        };
        let others = self.introductions(&request.peer_addresses).await?;
        self.check_names(name, &others)?;
        let catalogue = match self.catalogue() {
            Some(catalogue) => resumed(&catalogue, &others)?,
            None => self.planned(name, &request, &others)?,
        };
        self.adopt(catalogue.clone()).await.map_err(InitError::Persist)?;
        for (address, introduction) in &others {
            self.transport
                .adopt((address, introduction.node), &catalogue)
                .await
                .map_err(InitError::Adopt)?;
        }
        Ok(Arc::new(catalogue))
    }

    /// Everyone else, by address; this node's own address does not count.
    async fn introductions(
        &self,
        addresses: &[String],
    ) -> Result<BTreeMap<String, Introduction>, InitError> {
        let mut others = BTreeMap::new();
        for address in addresses {
            let introduction =
                self.transport.introduce(address).await.map_err(InitError::Introduce)?;
            if introduction.node != self.id {
                others.insert(address.clone(), introduction);
            }
        }
        Ok(others)
    }

    fn check_names(
        &self,
        name: &str,
        others: &BTreeMap<String, Introduction>,
    ) -> Result<(), InitError> {
        let own = self.config.cluster.clone().unwrap_or_default();
        let own = (&self.addresses.peer, &own);
        let expected = others.iter().map(|(address, other)| (address, &other.cluster_name));
        match std::iter::once(own).chain(expected).find(|(_, e)| !e.is_empty() && *e != name) {
            Some((address, expected)) => Err(InitError::OtherName {
                address: address.clone(),
                expected: expected.clone(),
                found: name.to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn planned(
        &self,
        name: &str,
        request: &InitRequest,
        others: &BTreeMap<String, Introduction>,
    ) -> Result<Catalogue, InitError> {
        let catalogue = fresh(name).map_err(|error| InitError::Randomness(error.to_string()));
        let mut catalogue = catalogue?;
        catalogue.members.insert(self.id, Versioned::new(self.member()));
        for (address, other) in others {
            if other.cluster.is_some() {
                return Err(InitError::PeerBelongs { address: address.clone() });
            }
            catalogue.members.insert(other.node, Versioned::new(other.member.clone()));
        }
        let partitions = match request.partitions {
            0 => PARTITIONS_DEFAULT,
            partitions => partitions,
        };
        let replicas_max = match request.replicas_max {
            0 => REPLICAS_DEFAULT,
            replicas_max => replicas_max,
        };
        catalogue.ring = claim(1, partitions, replicas_max, &catalogue.seats())?;
        Ok(catalogue)
    }

    /// Takes a catalogue in: the first one, or what the same cluster knows more.
    async fn adopt(&self, catalogue: Catalogue) -> Result<(), String> {
        if let Some(own) = self.catalogue() {
            // Persisted with all other changes, in their order.
            let mut joined = Catalogue::clone(&own);
            joined.join(&catalogue).map_err(|error| error.to_string())?;
            self.driver.adopt(Arc::new(catalogue));
            return Ok(());
        }
        let first = Arc::new(catalogue);
        let (home, bytes) = (self.home.clone(), first.encode());
        let saved = tokio::task::spawn_blocking(move || home.save(CATALOGUE_FILE, &bytes)).await;
        match saved {
            Ok(Ok(())) => self.driver.adopt(first),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(error) => return Err(error.to_string()),
        }
        let mut catalogues = self.driver.shared().watch_catalogue();
        // The loop publishes what it took over.
        let _ = catalogues.wait_for(Option::is_some).await;
        Ok(())
    }
}

/// An `init` that was cut short goes on with its catalogue, if it names the same nodes.
fn resumed(
    catalogue: &Catalogue,
    others: &BTreeMap<String, Introduction>,
) -> Result<Catalogue, InitError> {
    let is_member = |other: &Introduction| {
        let is_free = other.cluster.is_none_or(|cluster| cluster == catalogue.cluster);
        catalogue.members.contains_key(&other.node) && is_free
    };
    let is_same = !others.is_empty()
        && others.len() + 1 == catalogue.members.len()
        && others.values().all(is_member);
    if is_same {
        Ok(catalogue.clone())
    } else {
        Err(InitError::Belongs(catalogue.cluster_name.clone()))
    }
}

/// Answers other nodes' `cluster init`.
pub(super) struct Desk {
    pub(super) node: OnceLock<Weak<Node>>,
}

impl SetupDesk for Desk {
    fn introduce(&self) -> Option<Introduction> {
        let node = self.node.get()?.upgrade()?;
        Some(Introduction {
            node: node.id,
            member: node.member(),
            cluster: node.catalogue().map(|catalogue| catalogue.cluster),
            cluster_name: node.config.cluster.clone().unwrap_or_default(),
        })
    }

    fn adopt(&self, catalogue: Catalogue) -> Adopted<'_> {
        Box::pin(async move {
            let node = self.node.get().and_then(Weak::upgrade).ok_or("the node is starting")?;
            if !catalogue.members.contains_key(&node.id) {
                return Err("the catalogue does not name this node as a member".to_owned());
            }
            let _one_at_a_time = node.initialising.lock().await;
            node.adopt(catalogue).await
        })
    }
}
