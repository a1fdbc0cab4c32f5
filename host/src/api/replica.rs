//! `Kv.GetReplica`: what this node itself holds of a key, for clients that coordinate gets themselves.
//!
//! The core decides whether it may be counted (`stator_core::node`, "direct"). Here what is found is
//! put into a message: the object in the form in which owners exchange it, because the client joins it
//! with what other owners hold by the same code, and a context, which only nodes can seal.

use stator_core::causality::Context;
use stator_core::request::{ReplicaRequest, RequestError};
use stator_proto::v1;
use tokio::time::timeout_at;
use tonic::{Request, Status};

use super::errors;
use super::kv::KvService;

impl KvService {
    pub(super) async fn replica(
        &self,
        request: Request<v1::GetReplicaRequest>,
    ) -> Result<v1::GetReplicaResponse, Status> {
        let held = self.admission.enter(0)?;
        let deadline = self.deadline(&request);
        let v1::GetReplicaRequest { keyspace, keyspace_id, key, ring_version } =
            request.into_inner();
        let named = self.named(&keyspace, key)?;
        if named.keyspace.id.to_string() != keyspace_id {
            return Err(errors::route_stale(&keyspace));
        }
        let (keyspace, key) = (named.keyspace.id, named.key.clone());
        // Its time is known when its turn has come.
        let wanted = ReplicaRequest { keyspace, key, ring_version, timeout_ms: 0 };
        let answer = self.node.driver.replica(wanted, deadline.into(), held);
        let answer = timeout_at(deadline, answer).await;
        let answer = answer.map_err(|_| errors::request(&RequestError::Expired))?;
        let receipt = answer.map_err(errors::stopped)?.map_err(|error| errors::replica(&error))?;
        let siblings = &receipt.siblings;
        // Several versions would be read in vain: who coordinates reads them all once more.
        let is_plain = siblings.versions().len() <= 1;
        let context = is_plain.then(|| named.sealed(&Context::of(siblings))).flatten();
        Ok(v1::GetReplicaResponse {
            object: context.is_some().then(|| siblings.canonical().to_vec().into()),
            context,
            r: named.keyspace.reading().r,
            now_ms: self.node.clock.now().wall_ms,
            ring_version: receipt.ring_version,
            node_id: self.node.id.to_string(),
        })
    }
}
