//! What nodes say to one another without a session: introductions, promises, first catalogues.
//!
//! A node that waits for a cluster belongs to none, and one that was removed no longer does, so
//! neither can take part in the handshake of the peer stream. These calls come before it. Both
//! sides prove that they know the cluster secret; a proof is bound to its purpose and to a nonce
//! or a receiver.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use stator_core::catalogue::{Catalogue, Member};
use stator_core::founding::Promise;
use stator_core::id::{ClusterId, Incarnation, NodeId};
use stator_proto::peer::v1 as wire;
use stator_proto::peer::v1::setup_client::SetupClient;
use stator_proto::peer::v1::setup_server::Setup;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::Transport;
use crate::tls;

/// The largest catalogue that travels.
pub(super) const CATALOGUE_BYTES_MAX: usize = 64 << 20;
/// A node must answer by then.
const DEADLINE: Duration = Duration::from_secs(5);
/// A cluster must be made by then: its founder asks every node in turn.
const FOUND_DEADLINE: Duration = Duration::from_secs(60);

/// What a node tells of itself before it belongs to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// Its id.
    pub node: NodeId,
    /// Its addresses and labels.
    pub member: Member,
    /// The cluster it belongs to already.
    pub cluster: Option<ClusterId>,
    /// The name of the only cluster it may belong to; empty if any.
    pub cluster_name: String,
    /// The cluster that it is making, and that may still come to nothing.
    pub founding: Option<ClusterId>,
}

/// Who answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduced {
    /// Who it is.
    pub who: Introduction,
    /// What it tells a node that was removed from its cluster.
    pub removal: Option<Catalogue>,
}

/// A cluster that is to be made by who has the smallest id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRequest {
    /// The members with their peer addresses, the founder included.
    pub nodes: BTreeMap<NodeId, String>,
    /// Its name.
    pub cluster_name: String,
    /// Q.
    pub partitions: u32,
    /// The most owners per partition.
    pub replicas_max: u16,
}

/// Why a founder made no cluster, in its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFounded {
    /// It, or one of the others, belongs to one already.
    Exists(String),
    /// No ring is possible.
    BadRing(String),
    /// Someone was not ready.
    NotReady(String),
}

/// Why a node could not be introduced or did not adopt. It changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Nobody answered, or no Stator node.
    #[error("{address} does not answer as a waiting node: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// What was seen.
        why: String,
    },
    /// It answered without knowing the secret.
    #[error("{address} does not know this cluster's secret")]
    WrongSecret {
        /// Where.
        address: String,
    },
    /// It belongs to a cluster already, or one of those it asked does.
    #[error("{address} refuses: {why}")]
    Exists {
        /// Where.
        address: String,
        /// Its words.
        why: String,
    },
    /// It was asked for a ring that cannot be.
    #[error("{address} refuses: {why}")]
    BadRing {
        /// Where.
        address: String,
        /// Its words.
        why: String,
    },
    /// It said no.
    #[error("{address} refuses: {why}")]
    Refused {
        /// Where.
        address: String,
        /// Its words.
        why: String,
    },
}

/// What the slow calls of a [`SetupDesk`] give.
pub type Done<'a, T, E = String> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// What a node does when it is asked.
pub trait SetupDesk: Send + Sync + 'static {
    /// Who this node is, to a `caller` that proved the secret; `None` while it is still starting.
    fn introduce(&self, caller: Option<&Introduction>) -> Option<Introduced>;

    /// Joins the catalogue to what the node knows, durably.
    fn adopt(&self, catalogue: Catalogue) -> Done<'_, ()>;

    /// Makes a cluster, if this node is to.
    fn found(&self, request: FoundRequest) -> Done<'_, Catalogue, NotFounded>;

    /// Promises, durably, to join that cluster and no other.
    fn promise(&self, promise: Promise) -> Done<'_, ()>;
}

/// The service behind which a desk sits.
pub(super) struct SetupService {
    /// Those that a caller may prove.
    pub secrets: Vec<[u8; 32]>,
    pub desk: Arc<dyn SetupDesk>,
    /// Whether the node is cut off.
    pub is_isolated: Box<dyn Fn() -> bool + Send + Sync>,
}

impl SetupService {
    fn is_meant(&self, node: u64) -> Result<(), Status> {
        match self.desk.introduce(None) {
            Some(me) if me.who.node.0 == node => Ok(()),
            _ => Err(Status::failed_precondition("another node is meant")),
        }
    }

    /// The one of this node's secrets under which the caller proved what it asks.
    fn check(&self, purpose: &str, parts: &[&[u8]], proof: &[u8]) -> Result<&[u8; 32], Status> {
        if (self.is_isolated)() {
            return Err(Status::unavailable("the node is cut off"));
        }
        check(&self.secrets, purpose, parts, proof)
    }
}

#[tonic::async_trait]
impl Setup for SetupService {
    async fn introduce(
        &self,
        request: Request<wire::IntroduceRequest>,
    ) -> Result<Response<wire::IntroduceResponse>, Status> {
        let wire::IntroduceRequest { nonce, proof, caller } = request.into_inner();
        // The caller is answered under the secret that it proved: it may know no other yet.
        let secret = self.check("introduce", &[&nonce, &caller], &proof)?;
        let caller = wire::Introduction::decode(caller)
            .map_err(|_| Status::invalid_argument("that is no introduction"))?;
        let caller = from_wire(caller);
        let Introduced { who, removal } = self
            .desk
            .introduce(Some(&caller))
            .ok_or_else(|| Status::unavailable("the node is starting"))?;
        let introduction = Bytes::from(to_wire(&who).encode_to_vec());
        let removal = removal.map_or_else(Bytes::new, |removal| removal.encode().into());
        let proof = prove(secret, "introduced", &[&nonce, &introduction, &removal]);
        Ok(Response::new(wire::IntroduceResponse { introduction, proof, removal }))
    }

    async fn adopt(
        &self,
        request: Request<wire::AdoptRequest>,
    ) -> Result<Response<wire::AdoptResponse>, Status> {
        let wire::AdoptRequest { node, catalogue, proof } = request.into_inner();
        self.check("adopt", &[&node.to_be_bytes(), &catalogue], &proof)?;
        self.is_meant(node)?;
        let catalogue = Catalogue::decode(&catalogue).map_err(Status::invalid_argument)?;
        self.desk.adopt(catalogue).await.map_err(Status::failed_precondition)?;
        Ok(Response::new(wire::AdoptResponse {}))
    }

    async fn found(
        &self,
        request: Request<wire::FoundRequest>,
    ) -> Result<Response<wire::FoundResponse>, Status> {
        let mut request = request.into_inner();
        let proof = std::mem::take(&mut request.proof);
        let secret = self.check("found", &[&request.encode_to_vec()], &proof)?;
        self.is_meant(request.node)?;
        let nonce = request.nonce;
        let replicas_max = u16::try_from(request.replicas_max).unwrap_or(u16::MAX);
        let asked = FoundRequest {
            nodes: (request.nodes.into_iter())
                .map(|named| (NodeId(named.node), named.peer_address))
                .collect(),
            cluster_name: request.cluster_name,
            partitions: request.partitions,
            replicas_max,
        };
        let catalogue = self.desk.found(asked).await.map_err(|error| match error {
            NotFounded::Exists(why) => Status::already_exists(why),
            NotFounded::BadRing(why) => Status::invalid_argument(why),
            NotFounded::NotReady(why) => Status::failed_precondition(why),
        })?;
        let catalogue = Bytes::from(catalogue.encode());
        let proof = prove(secret, "founded", &[&nonce, &catalogue]);
        Ok(Response::new(wire::FoundResponse { catalogue, proof }))
    }

    async fn promise(
        &self,
        request: Request<wire::PromiseRequest>,
    ) -> Result<Response<wire::PromiseResponse>, Status> {
        let wire::PromiseRequest { node, promise, proof } = request.into_inner();
        self.check("promise", &[&node.to_be_bytes(), &promise], &proof)?;
        self.is_meant(node)?;
        let promise = Promise::decode(&promise)
            .ok_or_else(|| Status::invalid_argument("that is no promise"))?;
        self.desk.promise(promise).await.map_err(Status::failed_precondition)?;
        Ok(Response::new(wire::PromiseResponse {}))
    }
}

impl Transport {
    /// Asks the node at `address` (`host:port` of its peer listener) who it is, and tells it who
    /// asks.
    ///
    /// # Errors
    /// It does not answer, or not as a node that knows the secret. Nothing was changed.
    pub async fn introduce(
        &self,
        address: &str,
        caller: &Introduction,
    ) -> Result<Introduced, SetupError> {
        let secret = &self.shared.config.secret;
        let nonce = nonce(address)?;
        let caller = Bytes::from(to_wire(caller).encode_to_vec());
        let proof = prove(secret, "introduce", &[&nonce, &caller]);
        let request = wire::IntroduceRequest { nonce: nonce.clone(), proof, caller };
        let answer = self.setup_client(address, DEADLINE).await?.introduce(request).await;
        let wire::IntroduceResponse { introduction, proof, removal } =
            answer.map_err(|status| refused(address, &status))?.into_inner();
        check(&[*secret], "introduced", &[&nonce, &introduction, &removal], &proof)
            .map_err(|_| SetupError::WrongSecret { address: address.to_owned() })?;
        let who = wire::Introduction::decode(introduction)
            .map_err(|error| unreachable(address, &error.to_string()))?;
        let removal = match removal.is_empty() {
            true => None,
            false => Some(Catalogue::decode(&removal).map_err(|why| unreachable(address, &why))?),
        };
        Ok(Introduced { who: from_wire(who), removal })
    }

    /// Makes the node at `address` take `catalogue` in.
    ///
    /// # Errors
    /// It does not answer, or refuses; whether it took the catalogue is known only in the latter
    /// case. To do it again does no harm.
    pub async fn adopt(
        &self,
        (address, node): (&str, NodeId),
        catalogue: &Catalogue,
    ) -> Result<(), SetupError> {
        let catalogue = Bytes::from(catalogue.encode());
        let parts = [&node.0.to_be_bytes()[..], &catalogue];
        let proof = prove(&self.shared.config.secret, "adopt", &parts);
        let request = wire::AdoptRequest { node: node.0, catalogue, proof };
        let answer = self.setup_client(address, DEADLINE).await?.adopt(request).await;
        answer.map(drop).map_err(|status| refused(address, &status))
    }

    /// Has the node at `address` make a cluster.
    ///
    /// # Errors
    /// It made none, or none that this node has heard of: to ask again tells.
    pub async fn found(
        &self,
        (address, node): (&str, NodeId),
        request: FoundRequest,
    ) -> Result<Catalogue, SetupError> {
        let secret = &self.shared.config.secret;
        let nonce = nonce(address)?;
        let named =
            |(node, peer_address): (NodeId, String)| wire::Named { node: node.0, peer_address };
        let mut request = wire::FoundRequest {
            node: node.0,
            nodes: request.nodes.into_iter().map(named).collect(),
            cluster_name: request.cluster_name,
            partitions: request.partitions,
            replicas_max: request.replicas_max.into(),
            nonce: nonce.clone(),
            proof: Bytes::new(),
        };
        request.proof = prove(secret, "found", &[&request.encode_to_vec()]);
        let answer = self.setup_client(address, FOUND_DEADLINE).await?.found(request).await;
        let wire::FoundResponse { catalogue, proof } =
            answer.map_err(|status| refused(address, &status))?.into_inner();
        check(&[*secret], "founded", &[&nonce, &catalogue], &proof)
            .map_err(|_| SetupError::WrongSecret { address: address.to_owned() })?;
        Catalogue::decode(&catalogue).map_err(|why| unreachable(address, &why))
    }

    /// Has the node at `address` promise to join a cluster and no other.
    ///
    /// # Errors
    /// It does not answer, or refuses; whether it promised is known only in the latter case.
    pub async fn promise(
        &self,
        (address, node): (&str, NodeId),
        promise: &Promise,
    ) -> Result<(), SetupError> {
        let promise = Bytes::from(promise.encode());
        let parts = [&node.0.to_be_bytes()[..], &promise];
        let proof = prove(&self.shared.config.secret, "promise", &parts);
        let request = wire::PromiseRequest { node: node.0, promise, proof };
        let answer = self.setup_client(address, DEADLINE).await?.promise(request).await;
        answer.map(drop).map_err(|status| refused(address, &status))
    }

    async fn setup_client(
        &self,
        address: &str,
        deadline: Duration,
    ) -> Result<SetupClient<Channel>, SetupError> {
        if self.is_isolated() {
            return Err(unreachable(address, "this node is cut off"));
        }
        let config = &self.shared.config;
        let endpoint = Endpoint::from_shared(config.url(address))
            .map_err(|error| unreachable(address, &error.to_string()))?
            .tcp_nodelay(true)
            .connect_timeout(DEADLINE)
            .timeout(deadline);
        let channel =
            tls::connect(&endpoint, config.dialler().as_ref()).await.map_err(|error| {
                let mut cause: &dyn Error = &error;
                while let Some(source) = cause.source() {
                    cause = source;
                }
                unreachable(address, &cause.to_string())
            })?;
        Ok(SetupClient::new(channel)
            .max_encoding_message_size(CATALOGUE_BYTES_MAX)
            .max_decoding_message_size(CATALOGUE_BYTES_MAX))
    }
}

fn nonce(address: &str) -> Result<Bytes, SetupError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| unreachable(address, &error.to_string()))?;
    Ok(Bytes::copy_from_slice(&nonce))
}

fn unreachable(address: &str, why: &str) -> SetupError {
    SetupError::Unreachable { address: address.to_owned(), why: why.to_owned() }
}

fn refused(address: &str, status: &Status) -> SetupError {
    let (address, why) = (address.to_owned(), status.message().to_owned());
    match status.code() {
        tonic::Code::Unauthenticated => SetupError::WrongSecret { address },
        tonic::Code::AlreadyExists => SetupError::Exists { address, why },
        tonic::Code::InvalidArgument => SetupError::BadRing { address, why },
        tonic::Code::FailedPrecondition => SetupError::Refused { address, why },
        _ => SetupError::Unreachable { address, why },
    }
}

fn prove(secret: &[u8; 32], purpose: &str, parts: &[&[u8]]) -> Bytes {
    let mut hasher = blake3::Hasher::new_keyed(&blake3::derive_key("stator setup v1", secret));
    for part in [purpose.as_bytes()].iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
    }
    Bytes::copy_from_slice(hasher.finalize().as_bytes())
}

/// The one of `secrets` that the proof was made with.
fn check<'a>(
    secrets: &'a [[u8; 32]],
    purpose: &str,
    parts: &[&[u8]],
    proof: &[u8],
) -> Result<&'a [u8; 32], Status> {
    let hash = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map(blake3::Hash::from_bytes);
    // Hashes compare in constant time.
    let found = secrets.iter().find(|secret| {
        let expected = hash(&prove(secret, purpose, parts));
        matches!((hash(proof), expected), (Ok(found), Ok(expected)) if found == expected)
    });
    found.ok_or_else(|| Status::unauthenticated("the cluster secrets differ"))
}

fn to_wire(introduction: &Introduction) -> wire::Introduction {
    let member = introduction.member.clone();
    wire::Introduction {
        node: introduction.node.0,
        peer_address: member.peer_address,
        client_address: member.client_address,
        admin_address: member.admin_address,
        zone: member.zone,
        region: member.region,
        weight: member.weight,
        incarnation: member.incarnation.0,
        cluster: id_to_wire(introduction.cluster),
        cluster_name: introduction.cluster_name.clone(),
        founding: id_to_wire(introduction.founding),
    }
}

fn id_to_wire(id: Option<ClusterId>) -> Bytes {
    id.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id.0.to_be_bytes()))
}

fn id_from_wire(bytes: &[u8]) -> Option<ClusterId> {
    <[u8; 16]>::try_from(bytes).ok().map(|id| ClusterId(u128::from_be_bytes(id)))
}

fn from_wire(wire: wire::Introduction) -> Introduction {
    let (cluster, founding) = (id_from_wire(&wire.cluster), id_from_wire(&wire.founding));
    Introduction {
        node: NodeId(wire.node),
        member: Member {
            peer_address: wire.peer_address,
            client_address: wire.client_address,
            admin_address: wire.admin_address,
            region: wire.region,
            zone: wire.zone,
            weight: wire.weight,
            incarnation: Incarnation(wire.incarnation),
        },
        cluster,
        cluster_name: wire.cluster_name,
        founding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_fits_one_purpose_secret_and_content() {
        let proof = prove(&[1; 32], "adopt", &[b"a", b"b"]);
        assert!(check(&[[1; 32]], "adopt", &[b"a", b"b"], &proof).is_ok());
        assert!(check(&[[2; 32]], "adopt", &[b"a", b"b"], &proof).is_err());
        assert!(check(&[[1; 32]], "introduce", &[b"a", b"b"], &proof).is_err());
        assert!(check(&[[1; 32]], "adopt", &[b"ab", b""], &proof).is_err());
        assert!(check(&[[1; 32]], "adopt", &[b"a", b"b"], &proof[1..]).is_err());
    }
}
