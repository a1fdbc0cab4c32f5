//! A node as the demo uses it, over gRPC. Protobuf types end here.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use stator_core::id::ModuleDigest;
use stator_proto::v1::admin_client::AdminClient;
use stator_proto::v1::kv_client::KvClient;
use stator_proto::{upload, v1};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest cart taken from a node.
const ANSWER_BYTES_MAX: usize = 64 << 20;

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
    kv: KvClient<Channel>,
    admin: AdminClient<Channel>,
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
        let channel = |address: &str| -> Result<Channel> {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .with_context(|| format!("{address} is no address"))?;
            Ok(endpoint.timeout(REQUEST_TIMEOUT).connect_lazy())
        };
        Ok(NodeClient {
            kv: KvClient::new(channel(client_address)?).max_decoding_message_size(ANSWER_BYTES_MAX),
            admin: AdminClient::new(channel(admin_address)?),
        })
    }

    /// The merged cart and the context to replace it, from the first replica that answers.
    ///
    /// # Errors
    /// See [`ReadError`]; reading again may help with both.
    pub async fn read(&self, keyspace: &str, key: &str) -> Result<Read, ReadError> {
        let request = v1::GetRequest {
            keyspace: keyspace.to_owned(),
            key: Bytes::copy_from_slice(key.as_bytes()),
            r: Some(1),
            view: v1::View::Merged as i32,
            ..Default::default()
        };
        let answer = self.kv.clone().get(with_deadline(request)).await;
        let answer = answer.map_err(|status| ReadError::Unavailable(words(&status)))?.into_inner();
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
            contexts: vec![context],
            w: Some(1),
            ..Default::default()
        };
        match self.kv.clone().put(with_deadline(request)).await {
            Ok(_) => Ok(()),
            Err(status) => {
                let details = status.get_error_details();
                let effect = details.error_info().and_then(|info| info.metadata.get("effect"));
                let no_effect = effect.is_some_and(|effect| effect == "NONE");
                Err(WriteError { no_effect, message: words(&status) })
            }
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
        self.admin.clone().init_cluster(with_deadline(request)).await.map_err(refusal)?;
        Ok(())
    }

    /// Uploads a module and tells its digest.
    ///
    /// # Errors
    /// The node's refusal.
    pub async fn push_module(&self, name: &str, component: Bytes) -> Result<String> {
        let digest = ModuleDigest::of(&component).to_string();
        let messages = upload::messages(name.to_owned(), digest, component, false);
        // Compiling takes its time: no deadline but the channel's.
        let mut admin = self.admin.clone();
        let module = admin.push_module(futures::stream::iter(messages)).await.map_err(refusal)?;
        Ok(module.into_inner().digest)
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
            reconcile: Some(v1::Reconcile { policy: policy as i32, module_digest, fold: false }),
            ..Default::default()
        };
        let request = v1::CreateKeyspaceRequest { keyspace: Some(keyspace), validate_only: false };
        self.admin.clone().create_keyspace(with_deadline(request)).await.map_err(refusal)?;
        Ok(())
    }

    /// Cuts the node off from its peers, or heals the cut.
    ///
    /// # Errors
    /// The node's refusal.
    pub async fn set_isolated(&self, isolated: bool) -> Result<()> {
        let request = v1::SetFaultRequest { isolated };
        self.admin.clone().set_fault(with_deadline(request)).await.map_err(refusal)?;
        Ok(())
    }

    /// What the node tells about itself.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn view(&self) -> Result<NodeView> {
        let request = with_deadline(v1::GetStatusRequest {});
        let status = self.admin.clone().get_status(request).await.map_err(refusal)?.into_inner();
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

fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(REQUEST_TIMEOUT);
    request
}

fn words(status: &Status) -> String {
    let details = status.get_error_details();
    match details.error_info() {
        Some(info) => format!("{} [{}]", status.message(), info.reason),
        None => format!("{} ({})", status.message(), status.code().description()),
    }
}

fn refusal(status: Status) -> anyhow::Error {
    anyhow::anyhow!(words(&status))
}
