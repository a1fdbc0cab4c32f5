//! How nodes become a cluster: introductions, and the first catalogue.
//!
//! A node that waits for a cluster belongs to none, so it cannot take part in the handshake of
//! the peer stream. These two calls come before it. Both sides prove that they know the cluster
//! secret; a proof is bound to its purpose and to a nonce or a receiver.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use stator_core::catalogue::{Catalogue, Member};
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
    /// It said no.
    #[error("{address} refuses: {why}")]
    Refused {
        /// Where.
        address: String,
        /// Its words.
        why: String,
    },
}

/// What [`SetupDesk::adopt`] gives.
pub type Adopted<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// What a node does when it is asked.
pub trait SetupDesk: Send + Sync + 'static {
    /// Who this node is; `None` while it is still starting.
    fn introduce(&self) -> Option<Introduction>;

    /// Joins the catalogue to what the node knows, durably.
    fn adopt(&self, catalogue: Catalogue) -> Adopted<'_>;
}

/// The service behind which a desk sits.
pub(super) struct SetupService {
    /// Those that a caller may prove.
    pub secrets: Vec<[u8; 32]>,
    pub desk: Arc<dyn SetupDesk>,
}

#[tonic::async_trait]
impl Setup for SetupService {
    async fn introduce(
        &self,
        request: Request<wire::IntroduceRequest>,
    ) -> Result<Response<wire::IntroduceResponse>, Status> {
        let wire::IntroduceRequest { nonce, proof } = request.into_inner();
        // The caller is answered under the secret that it proved: it may know no other yet.
        let secret = check(&self.secrets, "introduce", &[&nonce], &proof)?;
        let introduction =
            self.desk.introduce().ok_or_else(|| Status::unavailable("the node is starting"))?;
        let introduction = Bytes::from(to_wire(&introduction).encode_to_vec());
        let proof = prove(secret, "introduced", &[&nonce, &introduction]);
        Ok(Response::new(wire::IntroduceResponse { introduction, proof }))
    }

    async fn adopt(
        &self,
        request: Request<wire::AdoptRequest>,
    ) -> Result<Response<wire::AdoptResponse>, Status> {
        let wire::AdoptRequest { node, catalogue, proof } = request.into_inner();
        check(&self.secrets, "adopt", &[&node.to_be_bytes(), &catalogue], &proof)?;
        if self.desk.introduce().is_none_or(|me| me.node.0 != node) {
            return Err(Status::failed_precondition("another node is meant"));
        }
        let catalogue = Catalogue::decode(&catalogue).map_err(Status::invalid_argument)?;
        self.desk.adopt(catalogue).await.map_err(Status::failed_precondition)?;
        Ok(Response::new(wire::AdoptResponse {}))
    }
}

impl Transport {
    /// Asks the node at `address` (`host:port` of its peer listener) who it is.
    ///
    /// # Errors
    /// It does not answer, or not as a node that knows the secret. Nothing was changed.
    pub async fn introduce(&self, address: &str) -> Result<Introduction, SetupError> {
        let secret = &self.shared.config.secret;
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| unreachable(address, &error.to_string()))?;
        let proof = prove(secret, "introduce", &[&nonce]);
        let nonce = Bytes::copy_from_slice(&nonce);
        let request = wire::IntroduceRequest { nonce: nonce.clone(), proof };
        let answer = self.setup_client(address).await?.introduce(request).await;
        let wire::IntroduceResponse { introduction, proof } =
            answer.map_err(|status| refused(address, &status))?.into_inner();
        check(&[*secret], "introduced", &[&nonce, &introduction], &proof)
            .map_err(|_| SetupError::WrongSecret { address: address.to_owned() })?;
        let introduction = wire::Introduction::decode(introduction)
            .map_err(|error| unreachable(address, &error.to_string()))?;
        Ok(from_wire(introduction))
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
        let answer = self.setup_client(address).await?.adopt(request).await;
        answer.map(drop).map_err(|status| refused(address, &status))
    }

    async fn setup_client(&self, address: &str) -> Result<SetupClient<Channel>, SetupError> {
        let config = &self.shared.config;
        let endpoint = Endpoint::from_shared(config.url(address))
            .map_err(|error| unreachable(address, &error.to_string()))?
            .tcp_nodelay(true)
            .connect_timeout(DEADLINE)
            .timeout(DEADLINE);
        let channel =
            tls::connect(&endpoint, config.dialler().as_ref()).await.map_err(|error| {
                let mut cause: &dyn Error = &error;
                while let Some(source) = cause.source() {
                    cause = source;
                }
                unreachable(address, &cause.to_string())
            })?;
        Ok(SetupClient::new(channel).max_encoding_message_size(CATALOGUE_BYTES_MAX))
    }
}

fn unreachable(address: &str, why: &str) -> SetupError {
    SetupError::Unreachable { address: address.to_owned(), why: why.to_owned() }
}

fn refused(address: &str, status: &Status) -> SetupError {
    let address = address.to_owned();
    match status.code() {
        tonic::Code::Unauthenticated => SetupError::WrongSecret { address },
        tonic::Code::FailedPrecondition => {
            SetupError::Refused { address, why: status.message().to_owned() }
        }
        _ => SetupError::Unreachable { address, why: status.message().to_owned() },
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
        cluster: introduction
            .cluster
            .map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id.0.to_be_bytes())),
        cluster_name: introduction.cluster_name.clone(),
    }
}

fn from_wire(wire: wire::Introduction) -> Introduction {
    let cluster = <[u8; 16]>::try_from(&wire.cluster[..]).ok();
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
        cluster: cluster.map(|id| ClusterId(u128::from_be_bytes(id))),
        cluster_name: wire.cluster_name,
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
