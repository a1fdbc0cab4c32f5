//! Making a cluster: of this node alone, or of several that wait for one.
//!
//! `init` asks every node who it is before anything changes, then hands over to the one with the
//! smallest id, which founds as [`stator_core::founding`] says: everyone promises, it adopts the
//! first catalogue (members, ring version 1, a fresh context secret), and has every other node
//! adopt it. However many are told to at once, the same one founds, one cluster at a time. If it
//! is cut short, some nodes have adopted and others wait: they find out by themselves
//! ([`super::acquaint`]), and running it again, on any of them, hands them the same catalogue.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, Weak};

use stator_core::catalogue::{
    Catalogue, CatalogueChange, Durability, KeyspaceSpec, Member, Merging, Quorums,
    READ_REPAIR_PERCENT, Reconcile, Secret, Versioned,
};
use stator_core::founding::{Fate, Founding, Promise, Settled};
use stator_core::id::{ClusterId, NodeId};
use stator_core::ring::{ClaimError, PARTITIONS_DEFAULT, claim};

use super::Node;
use crate::config::Config;
use crate::driver::CATALOGUE_FILE;
use crate::storage::{Home, HomeError};
use crate::transport::setup::{
    Done, FoundRequest, Introduced, Introduction, NotFounded, SetupDesk, SetupError,
};

/// The file with what this node has promised.
pub(super) const PROMISE_FILE: &str = "promise";

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
    /// It belongs to one of these nodes, which is not what was asked for.
    #[error(
        "there is a cluster {name:?} of these nodes already, with {partitions} partitions; \
         nothing was changed"
    )]
    Differs {
        /// Its name.
        name: String,
        /// Its partitions.
        partitions: u32,
    },
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
    /// A node is not reached where it says that it is.
    #[error(
        "the node at {address} is to be dialled at {told}, and there is {why}: mend its \
         advertise_peer; nothing was changed"
    )]
    Advertised {
        /// Where it was found.
        address: String,
        /// What it tells others.
        told: String,
        /// What is there.
        why: String,
    },
    /// This node takes part in the making of another cluster.
    #[error(
        "this node has promised node {founder} to join the cluster that it is making, and cannot \
         learn what became of it; nothing was changed. Run that `cluster init` again; if node \
         {founder} is lost for good, empty the data directories of those that wait for it"
    )]
    Promised {
        /// Who makes it.
        founder: NodeId,
    },
    /// A node could not be asked; nothing was changed.
    #[error("{0}; nothing was changed")]
    Introduce(SetupError),
    /// A node has not promised to join.
    #[error("{0}; no cluster was made: run it again when all nodes are there")]
    NotPromised(SetupError),
    /// A node did not adopt; others may have.
    #[error("{0}; the others have joined, and it will when it reaches one of them")]
    Adopt(SetupError),
    /// The ring cannot be made.
    #[error("{0}; nothing was changed")]
    Ring(#[from] ClaimError),
    /// Who was to make the cluster did not.
    #[error("node {founder} was to make the cluster: {error}")]
    Founder {
        /// The node with the smallest id.
        founder: NodeId,
        /// What it said.
        error: SetupError,
    },
    /// This node cannot persist the catalogue.
    #[error("this node could not persist the catalogue: {0}; nothing was changed")]
    Persist(String),
    /// The machine gives no random numbers.
    #[error("the machine gives no random numbers: {0}; nothing was changed")]
    Randomness(String),
    /// The node is stopping.
    #[error("the node is stopping: to run it again tells what became of it")]
    Stopping,
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
        read_repair_percent: READ_REPAIR_PERCENT,
        merging: Merging::default(),
        signed_by: Default::default(),
        quota: Default::default(),
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
    /// Makes a cluster of this node and others, or finds that it is made.
    pub async fn init(self: &Arc<Self>, request: InitRequest) -> Result<Arc<Catalogue>, InitError> {
        let nodes = self.named(&request.peer_addresses).await?;
        let request = FoundRequest {
            nodes,
            cluster_name: match request.cluster_name.as_str() {
                "" => self.config.cluster.clone().unwrap_or_else(|| NAME_DEFAULT.to_owned()),
                name => name.to_owned(),
            },
            partitions: match request.partitions {
                0 => PARTITIONS_DEFAULT,
                partitions => partitions,
            },
            replicas_max: match request.replicas_max {
                0 => REPLICAS_DEFAULT,
                replicas_max => replicas_max,
            },
        };
        let first = request.nodes.iter().next().map(|(node, address)| (*node, address.clone()));
        match first.filter(|(founder, _)| *founder != self.id) {
            None => self.clone().found(request).await.map(Arc::new),
            Some((founder, address)) => {
                let made = self.transport.found((&address, founder), request).await;
                made.map(Arc::new).map_err(|error| InitError::Founder { founder, error })
            }
        }
    }

    /// The nodes at these addresses and this one, with the addresses by which they are dialled.
    /// Each answers at its own.
    async fn named(&self, addresses: &[String]) -> Result<BTreeMap<NodeId, String>, InitError> {
        let me = self.introduction();
        let mut nodes = BTreeMap::from([(self.id, self.addresses.peer.clone())]);
        for address in addresses {
            let found = self.transport.introduce(address, &me).await;
            let who = found.map_err(InitError::Introduce)?.who;
            let told = who.member.peer_address;
            if who.node != self.id && told != *address {
                let there = match self.transport.introduce(&told, &me).await {
                    Ok(other) if other.who.node == who.node => None,
                    Ok(other) => Some(format!("node {}", other.who.node)),
                    Err(error) => Some(format!("no such node: {error}")),
                };
                if let Some(why) = there {
                    let address = address.clone();
                    return Err(InitError::Advertised { address, told, why });
                }
            }
            nodes.entry(who.node).or_insert(told);
        }
        Ok(nodes)
    }

    /// The founder's part. It runs to its end, whoever waits for it.
    async fn found(self: Arc<Self>, request: FoundRequest) -> Result<Catalogue, InitError> {
        let run = async move {
            let _one_at_a_time = self.initialising.lock().await;
            let catalogue = match self.catalogue() {
                Some(catalogue) => resumed(&catalogue, &request)?,
                None => self.made(&request).await?,
            };
            for (node, address) in request.nodes.iter().filter(|(node, _)| **node != self.id) {
                let told = self.transport.adopt((address, *node), &catalogue).await;
                told.map_err(InitError::Adopt)?;
            }
            Ok(catalogue)
        };
        tokio::spawn(run).await.unwrap_or(Err(InitError::Stopping))
    }

    async fn made(&self, request: &FoundRequest) -> Result<Catalogue, InitError> {
        if let Some(promise) = self.settled().await {
            return Err(InitError::Promised { founder: promise.founder });
        }
        let catalogue = self.planned(request).await?;
        let promise =
            Promise { cluster: catalogue.cluster, founder: self.id, nodes: request.nodes.clone() };
        let mut founding = Founding::new(promise).ok_or(InitError::Stopping)?;
        let _told = Making::begin(self, catalogue.cluster);
        while let Some((node, address)) = founding.next() {
            let asked = self.transport.promise((address, node), founding.promise()).await;
            asked.map_err(InitError::NotPromised)?;
            founding.promised();
        }
        // This decides.
        self.adopt_first(catalogue.clone()).await.map_err(InitError::Persist)?;
        Ok(catalogue)
    }

    async fn planned(&self, request: &FoundRequest) -> Result<Catalogue, InitError> {
        let name = &request.cluster_name;
        let catalogue = fresh(name).map_err(|error| InitError::Randomness(error.to_string()));
        let mut catalogue = catalogue?;
        let me = self.introduction();
        for (node, address) in &request.nodes {
            let who = match *node == self.id {
                true => me.clone(),
                false => {
                    let found = self.transport.introduce(address, &me).await;
                    found.map_err(InitError::Introduce)?.who
                }
            };
            if who.node != *node {
                let (told, why) = (address.clone(), format!("node {}", who.node));
                return Err(InitError::Advertised { address: node.to_string(), told, why });
            }
            if who.cluster.is_some() {
                return Err(InitError::PeerBelongs { address: address.clone() });
            }
            if !who.cluster_name.is_empty() && who.cluster_name != *name {
                return Err(InitError::OtherName {
                    address: address.clone(),
                    expected: who.cluster_name,
                    found: name.clone(),
                });
            }
            catalogue.members.insert(*node, Versioned::new(who.member));
        }
        let seats = catalogue.seats();
        catalogue.ring = claim(1, request.partitions, request.replicas_max, &seats)?;
        Ok(catalogue)
    }

    /// Who this node is, as others are told.
    pub(super) fn introduction(&self) -> Introduction {
        let founding = *self.making.lock().unwrap_or_else(PoisonError::into_inner);
        Introduction {
            node: self.id,
            member: self.member(),
            cluster: self.catalogue().map(|catalogue| catalogue.cluster),
            cluster_name: self.config.cluster.clone().unwrap_or_default(),
            founding,
        }
    }

    /// What this node has promised and is bound to, as far as those can tell who are in reach.
    pub(super) async fn settled(&self) -> Option<Promise> {
        let promise = self.promise()?;
        let (me, mut answers) = (self.introduction(), BTreeMap::new());
        for (node, address) in promise.nodes.iter().filter(|(node, _)| **node != self.id) {
            if let Ok(Introduced { who, .. }) = self.transport.introduce(address, &me).await
                && who.node == *node
            {
                answers.insert(*node, Fate::of(promise.cluster, who.cluster, who.founding));
            }
        }
        match promise.settle(&answers) {
            // Who said so has heard from us that we wait, and hands us the catalogue.
            Settled::Joins | Settled::Holds => Some(promise),
            Settled::Void => match self.keep_promise(None).await {
                Ok(()) => None,
                Err(error) => {
                    tracing::error!(error, "a promise is void and could not be forgotten");
                    Some(promise)
                }
            },
        }
    }

    /// What this node has promised, while it waits for a cluster.
    pub(super) fn promise(&self) -> Option<Promise> {
        let promise = self.promised.lock().unwrap_or_else(PoisonError::into_inner).clone();
        promise.filter(|_| self.catalogue().is_none())
    }

    async fn keep_promise(&self, promise: Option<Promise>) -> Result<(), String> {
        let home = self.home.clone();
        let bytes = promise.as_ref().map_or_else(Vec::new, Promise::encode);
        let saved = tokio::task::spawn_blocking(move || home.save(PROMISE_FILE, &bytes)).await;
        saved.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        *self.promised.lock().unwrap_or_else(PoisonError::into_inner) = promise;
        Ok(())
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
        let is_other = |promise: &Promise| promise.cluster != catalogue.cluster;
        if self.promise().is_some_and(|promise| is_other(&promise))
            && let Some(promise) = self.settled().await
        {
            return Err(InitError::Promised { founder: promise.founder }.to_string());
        }
        self.adopt_first(catalogue).await
    }

    async fn adopt_first(&self, catalogue: Catalogue) -> Result<(), String> {
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

/// While it lives this node says that it is making that cluster.
struct Making<'a>(&'a Node);

impl<'a> Making<'a> {
    fn begin(node: &'a Node, cluster: ClusterId) -> Self {
        *node.making.lock().unwrap_or_else(PoisonError::into_inner) = Some(cluster);
        Making(node)
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        *self.0.making.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// An `init` that was cut short, or is told again, goes on with its catalogue if it names the same
/// nodes and wants the same.
fn resumed(catalogue: &Catalogue, request: &FoundRequest) -> Result<Catalogue, InitError> {
    if !request.nodes.keys().eq(catalogue.members.keys()) {
        return Err(InitError::Belongs(catalogue.cluster_name.clone()));
    }
    let partitions = catalogue.ring.partitions();
    match catalogue.cluster_name == request.cluster_name && partitions == request.partitions {
        true => Ok(catalogue.clone()),
        false => Err(InitError::Differs { name: catalogue.cluster_name.clone(), partitions }),
    }
}

/// What this node has promised, of its data directory.
pub(super) fn kept_promise(home: &Home) -> Result<Option<Promise>, HomeError> {
    Ok(home.load(PROMISE_FILE)?.and_then(|bytes| Promise::decode(&bytes)))
}

/// Answers other nodes that have no session with this one.
pub(super) struct Desk {
    pub(super) node: OnceLock<Weak<Node>>,
}

impl Desk {
    fn node(&self) -> Result<Arc<Node>, String> {
        let node = self.node.get().and_then(Weak::upgrade);
        node.ok_or_else(|| "the node is starting".to_owned())
    }
}

impl SetupDesk for Desk {
    fn introduce(&self, caller: Option<&Introduction>) -> Option<Introduced> {
        let node = self.node().ok()?;
        let mut introduced = Introduced { who: node.introduction(), removal: None };
        if let (Some(caller), Some(catalogue)) = (caller, node.catalogue()) {
            if caller.cluster == Some(catalogue.cluster) {
                let is_removed = catalogue.removed.contains_key(&caller.node);
                introduced.removal = is_removed.then(|| catalogue.removal());
                node.met(caller, &caller.member.peer_address);
            }
            if caller.cluster.is_none() && catalogue.members.contains_key(&caller.node) {
                let (to, address) = (caller.node, caller.member.peer_address.clone());
                tokio::spawn(async move {
                    let told = node.transport.adopt((&address, to), &catalogue).await;
                    if let Err(error) = told {
                        tracing::warn!(%error, "a member has not learnt that it is one");
                    }
                });
            }
        }
        Some(introduced)
    }

    fn adopt(&self, catalogue: Catalogue) -> Done<'_, ()> {
        Box::pin(async move {
            let node = self.node()?;
            if !catalogue.members.contains_key(&node.id) {
                return Err("the catalogue does not name this node as a member".to_owned());
            }
            let _one_at_a_time = node.initialising.lock().await;
            node.adopt(catalogue).await
        })
    }

    fn found(&self, request: FoundRequest) -> Done<'_, Catalogue, NotFounded> {
        Box::pin(async move {
            let node = self.node().map_err(NotFounded::NotReady)?;
            if request.nodes.keys().next() != Some(&node.id) {
                return Err(NotFounded::NotReady("another node has a smaller id".to_owned()));
            }
            node.found(request).await.map_err(|error| match error {
                InitError::Belongs(_)
                | InitError::Differs { .. }
                | InitError::PeerBelongs { .. }
                | InitError::OtherName { .. } => NotFounded::Exists(error.to_string()),
                InitError::Ring(_) => NotFounded::BadRing(error.to_string()),
                _ => NotFounded::NotReady(error.to_string()),
            })
        })
    }

    fn promise(&self, promise: Promise) -> Done<'_, ()> {
        Box::pin(async move {
            let node = self.node()?;
            let _one_at_a_time = node.initialising.lock().await;
            if let Some(catalogue) = node.catalogue() {
                return Err(InitError::Belongs(catalogue.cluster_name.clone()).to_string());
            }
            if node.promise().is_some_and(|held| held.cluster != promise.cluster)
                && let Some(held) = node.settled().await
            {
                return Err(InitError::Promised { founder: held.founder }.to_string());
            }
            // The founder must be found where it says, or this node would wait in vain.
            let (founder, me) = (promise.founder, node.introduction());
            let told = promise.nodes.get(&founder).cloned().unwrap_or_default();
            match node.transport.introduce(&told, &me).await {
                Ok(Introduced { who, .. }) if who.node == founder => {}
                Ok(Introduced { who, .. }) => {
                    return Err(format!("node {} answers at {told}, not {founder}", who.node));
                }
                Err(error) => return Err(format!("node {founder} is not found: {error}")),
            }
            node.keep_promise(Some(promise)).await
        })
    }
}
