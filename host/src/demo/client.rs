//! A node as the demo uses it, over gRPC. Protobuf types end here.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use stator_client::{Admin, Client, Effect, Error, Options, plain};
use stator_core::id::ModuleDigest;
use stator_proto::v1;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What a keyspace does with siblings.
#[derive(Debug, Clone)]
pub enum Policy {
    /// The module with this digest merges them.
    Module(String),
    /// The latest wins.
    LastWriteWins,
}

/// A connection to one node. Clones share it.
#[derive(Debug, Clone)]
pub struct NodeClient {
    kv: Client,
    admin: Admin,
    /// How many replicas must answer.
    replicas: u32,
}

/// A cart as it was read.
#[derive(Debug, Clone)]
pub struct Read {
    /// The value, or none if the key is absent.
    pub value: Option<Bytes>,
    /// What to write with.
    pub context: Bytes,
    /// How many concurrent versions there were.
    pub siblings: u32,
}

/// Why there was no cart to read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Too few replicas answered, or none in time.
    #[error("{0}")]
    Unavailable(String),
    /// There are several versions and no merged one.
    #[error("{siblings} siblings were not merged: {reason}")]
    NotMerged {
        /// How many there are.
        siblings: usize,
        /// What the node says about it.
        reason: String,
    },
}

/// Why a write is not acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct WriteError {
    /// Whether the write is not applied, for sure.
    pub no_effect: bool,
    /// The node's words.
    pub message: String,
}

/// What a node tells about itself.
#[derive(Debug, Clone, Default)]
pub struct NodeView {
    /// How many members it knows, itself included.
    pub members: usize,
    /// How many of the others it sees alive.
    pub alive: usize,
    /// How many objects it keeps for others.
    pub hints_held: u64,
    /// What it did of each keyspace.
    pub keyspaces: BTreeMap<String, Counters>,
}

/// What a node did of a keyspace since its start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// Objects delivered to others from hints.
    pub hints_delivered: u64,
    /// Times that the policy made one answer of several siblings.
    pub merges: u64,
}

impl NodeClient {
    /// A node by the HOST:PORT of its client and admin listeners. It connects when first used.
    ///
    /// # Errors
    /// An address cannot be understood.
    pub fn new(client_address: &str, admin_address: &str) -> Result<Self> {
        let mut options = Options::default();
        options.timeout = REQUEST_TIMEOUT;
        // The demo counts what single requests come to.
        options.attempts_max = 1;
        let channels = |address: &str| Ok::<_, Error>(vec![plain(address)?]);
        Ok(NodeClient {
            kv: Client::over(channels(client_address)?, options.clone())?,
            admin: Admin::over(channels(admin_address)?, options)?,
            replicas: 1,
        })
    }

    /// The same connection, with so many replicas that must answer.
    pub fn with_replicas(self, replicas: u32) -> Self {
        NodeClient { replicas, ..self }
    }

    /// Whether a module is on trial in a keyspace.
    ///
    /// # Errors
    /// The node's refusal.
    pub async fn is_trying(&self, keyspace: &str) -> Result<bool> {
        let request = v1::GetKeyspaceRequest { name: keyspace.to_owned() };
        Ok(self.admin.get_keyspace(request).await?.trial.is_some())
    }

    /// The merged cart and the context to replace it, from the first replicas that answer.
    ///
    /// # Errors
    /// See [`ReadError`]; reading again may help with both.
    pub async fn read(&self, keyspace: &str, key: &str) -> Result<Read, ReadError> {
        let request = v1::GetRequest {
            keyspace: keyspace.to_owned(),
            key: Bytes::copy_from_slice(key.as_bytes()),
            r: Some(self.replicas),
            view: v1::View::Merged as i32,
            ..Default::default()
        };
        let answer = self.kv.send_get(request).await;
        let answer = answer.map_err(|error| ReadError::Unavailable(error.to_string()))?;
        let merge = answer.merge.unwrap_or_default();
        if answer.versions.len() > 1 {
            let siblings = answer.versions.len();
            return Err(ReadError::NotMerged { siblings, reason: merge.failure });
        }
        let Some(context) = answer.context else {
            return Err(ReadError::Unavailable("the answer has no context".to_owned()));
        };
        let value = answer.versions.into_iter().next().and_then(|version| version.value);
        let siblings = merge.sibling_count.max(u32::from(value.is_some()));
        Ok(Read { value, context, siblings })
    }

    /// Writes a cart in place of what `context` covers.
    ///
    /// # Errors
    /// The write is not acknowledged; [`WriteError::no_effect`] says whether it may be applied.
    pub async fn write(
        &self,
        keyspace: &str,
        key: &str,
        value: Vec<u8>,
        context: Bytes,
    ) -> Result<(), WriteError> {
        let request = v1::PutRequest {
            keyspace: keyspace.to_owned(),
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: value.into(),
            contexts: Some(context).filter(|context| !context.is_empty()).into_iter().collect(),
            w: Some(self.replicas),
            ..Default::default()
        };
        match self.kv.send_put(request).await {
            Ok(_) => Ok(()),
            Err(error) => Err(WriteError {
                no_effect: error.effect() == Effect::None,
                message: error.to_string(),
            }),
        }
    }

    /// Makes a cluster of this node and those whose peer listeners are named.
    ///
    /// # Errors
    /// The node's refusal.
    pub async fn init_cluster(&self, peer_addresses: &[String]) -> Result<()> {
        let request = v1::InitClusterRequest {
            peer_addresses: peer_addresses.to_vec(),
            cluster_name: "demo".to_owned(),
            ..Default::default()
        };
        self.admin.init_cluster(request).await?;
        Ok(())
    }

    /// Uploads a module and tells its digest.
    ///
    /// # Errors
    /// The node's refusal.
    pub async fn push_module(&self, name: &str, component: Bytes) -> Result<String> {
        let digest = ModuleDigest::of(&component).to_string();
        Ok(self.admin.push_module(name, digest, component, false).await?.digest)
    }

    /// Creates a keyspace of three replicas, of which one suffices to read and write.
    ///
    /// # Errors
    /// The node's refusal.
    pub async fn create_keyspace(&self, name: &str, policy: Policy) -> Result<()> {
        let (policy, module_digest) = match policy {
            Policy::Module(digest) => (v1::ReconcilePolicy::Module, digest),
            Policy::LastWriteWins => (v1::ReconcilePolicy::LastWriteWins, String::new()),
        };
        let keyspace = v1::Keyspace {
            name: name.to_owned(),
            n: 3,
            r: 1,
            w: 1,
            reconcile: Some(v1::Reconcile {
                policy: policy as i32,
                module_digest,
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = v1::CreateKeyspaceRequest { keyspace: Some(keyspace), validate_only: false };
        self.admin.create_keyspace(request).await?;
        Ok(())
    }

    /// Cuts the node off from its peers, or heals the cut.
    ///
    /// # Errors
    /// The node's refusal.
    pub async fn set_isolated(&self, isolated: bool) -> Result<()> {
        let request = v1::SetFaultRequest { isolated };
        self.admin.set_fault(request).await?;
        Ok(())
    }

    /// What the node tells about itself.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn view(&self) -> Result<NodeView> {
        let status = self.admin.get_status(v1::GetStatusRequest {}).await?;
        let alive = |view: &&v1::MemberView| view.reachability() == v1::Reachability::Alive;
        let counters = status.keyspaces.iter().map(|keyspace| {
            let v1::KeyspaceStatus { hints_delivered, merges, .. } = *keyspace;
            (keyspace.name.clone(), Counters { hints_delivered, merges })
        });
        Ok(NodeView {
            members: status.members.len(),
            alive: status.members.iter().filter(alive).count(),
            hints_held: status.members.iter().map(|view| view.hints_held).sum(),
            keyspaces: counters.collect(),
        })
    }
}
