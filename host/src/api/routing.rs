//! `stator.v1.Routing`: what a client needs to send a request straight to a replica.
//!
//! Every client asks every few seconds, and nearly always for what it has. So a ring is put into a
//! message once per catalogue, when it is first asked for, and named by a hash of that message.

use std::sync::{Arc, Mutex, PoisonError};

use prost::Message as _;
use stator_core::catalogue::{Catalogue, Keyspace};
use stator_core::id::NodeId;
use stator_core::position;
use stator_core::ring::Ring;
use stator_proto::v1;
use stator_proto::v1::routing_server::Routing;
use tonic::{Request, Response, Status};

use super::{errors, keyspaces};
use crate::node::Node;

/// The service.
pub struct RoutingService {
    node: Arc<Node>,
    /// Of the latest catalogue that somebody asked for, packed and not.
    told: Mutex<[Option<Told>; 2]>,
}

/// The ring of a catalogue as it is told.
#[derive(Clone)]
struct Told {
    of: Arc<Catalogue>,
    ring: Arc<v1::Ring>,
    etag: String,
}

impl Told {
    fn of(catalogue: Arc<Catalogue>, is_packed: bool) -> Self {
        let ring = message(&catalogue, is_packed);
        let etag = blake3::hash(&ring.encode_to_vec()).to_hex()[..32].to_owned();
        Told { of: catalogue, ring: Arc::new(ring), etag }
    }
}

impl RoutingService {
    /// The service of `node`.
    pub fn new(node: Arc<Node>) -> Self {
        RoutingService { node, told: Mutex::default() }
    }

    fn told(&self, catalogue: Arc<Catalogue>, is_packed: bool) -> Told {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut told[usize::from(is_packed)];
        match place {
            Some(told) if Arc::ptr_eq(&told.of, &catalogue) => told.clone(),
            _ => place.insert(Told::of(catalogue, is_packed)).clone(),
        }
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
        let v1::GetRingRequest { known_version, etag, packed } = request.into_inner();
        let told = self.told(catalogue, packed);
        let is_known = match etag.is_empty() {
            true => known_version == ring_version,
            false => etag == told.etag,
        };
        let ring = (!is_known).then(|| v1::Ring::clone(&told.ring));
        Ok(Response::new(v1::GetRingResponse { ring_version, ring, etag: told.etag }))
    }
}

fn message(catalogue: &Catalogue, is_packed: bool) -> v1::Ring {
    let ring = &catalogue.ring;
    let owners = |partition| {
        let list = ring.preference_list(partition, ring.replicas_max());
        let members = list.iter().map(|replica| u32::from(place(ring, replica.node))).collect();
        v1::PartitionOwners { members }
    };
    let mut message = v1::Ring {
        version: ring.version(),
        cluster_id: catalogue.cluster.to_string(),
        partitions: ring.partitions(),
        members: ring.nodes().iter().map(|node| member(catalogue, *node)).collect(),
        keyspaces: catalogue.live_keyspaces().map(route).collect(),
        position_hash: position::VERSION,
        ..Default::default()
    };
    match is_packed {
        true => message.packed_owners = packed(ring).into(),
        false => message.owners = ring.partition_ids().map(owners).collect(),
    }
    message
}

/// The owners of every partition in as few bytes as can be read without looking for an end.
fn packed(ring: &Ring) -> Vec<u8> {
    let mut packed = Vec::with_capacity(ring.partitions() as usize * (1 + 2 * ring.replicas()));
    for partition in ring.partition_ids() {
        let owners: Vec<NodeId> =
            ring.owners(partition).take(ring.replicas_max().min(255)).collect();
        packed.push(owners.len() as u8);
        owners.iter().for_each(|node| packed.extend(place(ring, *node).to_be_bytes()));
    }
    packed
}

fn place(ring: &Ring, node: NodeId) -> u16 {
    ring.nodes().partition_point(|known| *known < node) as u16
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
    let (reading, (writing, _)) = (keyspace.reading(), keyspace.writing());
    v1::KeyspaceRoute {
        name: keyspace.name.clone(),
        id: keyspace.id.to_string(),
        n: reading.n,
        r: reading.r,
        w: writing.w,
        durability: keyspaces::durability(keyspace.durability.value).into(),
    }
}
