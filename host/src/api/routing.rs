//! `stator.v1.Routing`: what a client needs to send a request straight to a replica.

use std::sync::Arc;

use stator_core::catalogue::{Catalogue, Keyspace};
use stator_core::id::{NodeId, PartitionId};
use stator_proto::v1;
use stator_proto::v1::routing_server::Routing;
use tonic::{Request, Response, Status};

use super::{errors, keyspaces};
use crate::node::Node;

/// The version of the position hash.
const POSITION_HASH: u32 = 1;

/// The service.
pub struct RoutingService {
    node: Arc<Node>,
}

impl RoutingService {
    /// The service of `node`.
    pub fn new(node: Arc<Node>) -> Self {
        RoutingService { node }
    }
}

#[tonic::async_trait]
impl Routing for RoutingService {
    async fn get_ring(
        &self,
        request: Request<v1::GetRingRequest>,
    ) -> Result<Response<v1::GetRingResponse>, Status> {
        let catalogue = self.node.catalogue().ok_or_else(errors::no_cluster)?;
        let ring_version = catalogue.ring.version();
        let is_known = request.into_inner().known_version == ring_version;
        let ring = if is_known { None } else { Some(ring(&catalogue)) };
        Ok(Response::new(v1::GetRingResponse { ring_version, ring }))
    }
}

fn ring(catalogue: &Catalogue) -> v1::Ring {
    let ring = &catalogue.ring;
    let owners = |partition: u32| {
        let list = ring.preference_list(PartitionId(partition as u16), ring.replicas_max());
        let place = |node: NodeId| ring.nodes().partition_point(|known| *known < node) as u32;
        v1::PartitionOwners { members: list.iter().map(|replica| place(replica.node)).collect() }
    };
    v1::Ring {
        version: ring.version(),
        cluster_id: catalogue.cluster.to_string(),
        partitions: ring.partitions(),
        members: ring.nodes().iter().map(|node| member(catalogue, *node)).collect(),
        owners: (0..ring.partitions()).map(owners).collect(),
        keyspaces: catalogue.live_keyspaces().map(route).collect(),
        position_hash: POSITION_HASH,
    }
}

fn member(catalogue: &Catalogue, node: NodeId) -> v1::RingMember {
    let known = catalogue.members.get(&node).map(|member| member.value.clone());
    let mut message = v1::RingMember { node_id: node.to_string(), ..Default::default() };
    if let Some(member) = known {
        message.client_address = member.client_address;
        message.zone = member.zone;
        message.region = member.region;
        message.weight = member.weight;
    }
    message
}

fn route(keyspace: &Keyspace) -> v1::KeyspaceRoute {
    let quorums = keyspace.quorums.value;
    v1::KeyspaceRoute {
        name: keyspace.name.clone(),
        id: keyspace.id.to_string(),
        n: quorums.n,
        r: quorums.r,
        w: quorums.w,
        durability: keyspaces::durability(keyspace.durability.value).into(),
    }
}
