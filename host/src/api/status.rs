//! What a node tells about itself.

use stator_core::catalogue::{Catalogue, Member};
use stator_core::event::TransferFigures;
use stator_core::holder::{Intruder, Standing};
use stator_core::id::NodeId;
use stator_proto::v1;

use super::{hints, signing};
use crate::node::Node;
use crate::storage::Area;

pub(super) fn of(node: &Node) -> v1::NodeStatus {
    let catalogue = node.catalogue();
    let fill = node.driver.shared().fill_figures();
    let collect = node.driver.shared().collect_figures();
    let (hints, mut alarms) = hints::of(node, catalogue.as_deref());
    alarms.extend(node.transport.intruders().iter().map(intruder));
    alarms.extend(catalogue.iter().flat_map(|catalogue| signing::alarms(catalogue)));
    let standing = node.driver.shared().standing();
    let state = match &catalogue {
        Some(catalogue) if catalogue.removed.contains_key(&node.id) => v1::NodeState::Removed,
        Some(_) if standing == Standing::Asking => v1::NodeState::Asking,
        Some(_) if standing != Standing::Held => v1::NodeState::Refused,
        Some(_) if fill.is_some() => v1::NodeState::Refilling,
        Some(_) => v1::NodeState::Serving,
        None => v1::NodeState::Waiting,
    };
    v1::NodeStatus {
        node: Some(own(node, catalogue.as_deref())),
        state: state.into(),
        cluster: catalogue.as_ref().map(|catalogue| cluster(catalogue)),
        members: catalogue.as_ref().map_or_else(Vec::new, |catalogue| members(node, catalogue)),
        stores: vec![store(node, Area::Data), store(node, Area::Hints)],
        keyspaces: catalogue.as_ref().map_or_else(Vec::new, |c| keyspaces(node, c)),
        faults_enabled: node.config.enable_faults,
        isolated: node.transport.is_isolated(),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_ms: node.started_at_ms,
        fill: fill.map(|figures| v1::FillStatus {
            partitions: figures.partitions as u32,
            partitions_left: figures.partitions_left as u32,
            objects_copied: figures.objects_copied,
        }),
        collect: Some(v1::CollectStatus {
            collected: collect.collected,
            rounds: collect.rounds,
            rounds_given_up: collect.rounds_failed,
            held_up: collect.held_up.unwrap_or_default(),
        }),
        hints: Some(hints),
        alarms,
        anti_entropy: Some(anti_entropy(node)),
        transfers: node.driver.shared().transfers().iter().map(transfer).collect(),
    }
}

fn intruder(intruder: &Intruder) -> v1::Alarm {
    let Intruder { node, process, holder } = intruder;
    v1::Alarm {
        reason: "SECOND_HOLDER".to_owned(),
        node_id: node.to_string(),
        message: format!(
            "a second process, of incarnation {} at {}, says that it is node {node}, and is \
             refused: node {node} is the process of incarnation {} at {}. A data directory was \
             copied: stop the copy",
            process.incarnation, process.peer_address, holder.incarnation, holder.peer_address
        ),
    }
}

fn transfer(figures: &TransferFigures) -> v1::TransferStatus {
    let name = |node: Option<NodeId>| node.map_or_else(String::new, |node| node.to_string());
    v1::TransferStatus {
        partition: figures.made.partition.0.into(),
        source_node_id: name(figures.made.from),
        target_node_id: name(figures.made.to),
        keys_copied: figures.keys_copied,
        step: figures.step.to_owned(),
    }
}

fn anti_entropy(node: &Node) -> v1::AntiEntropyStatus {
    let totals = node.driver.shared().exchange_totals();
    v1::AntiEntropyStatus {
        trees_ready: node.stores.tree_figures().0,
        exchanges: totals.exchanges,
        keys_differed: totals.keys_differed,
        keys_repaired: totals.keys_repaired,
    }
}

pub(super) fn cluster(catalogue: &Catalogue) -> v1::ClusterInfo {
    v1::ClusterInfo {
        id: catalogue.cluster.to_string(),
        name: catalogue.cluster_name.clone(),
        partitions: catalogue.ring.partitions(),
        ring_version: catalogue.ring.version(),
        changes_staged: catalogue.staged_changes().len() as u32,
        slots_pending: catalogue.ring.moves().len() as u32,
        catalogue_digest: blake3::Hash::from_bytes(catalogue.digest()).to_hex().to_string(),
    }
}

/// A node, whoever it belongs to.
pub(super) fn stranger(id: NodeId, member: &Member) -> v1::Member {
    v1::Member {
        node_id: id.to_string(),
        incarnation: member.incarnation.to_string(),
        peer_address: member.peer_address.clone(),
        client_address: member.client_address.clone(),
        admin_address: member.admin_address.clone(),
        zone: member.zone.clone(),
        region: member.region.clone(),
        weight: member.weight,
        seat: v1::Seat::Unspecified.into(),
    }
}

pub(super) fn member(catalogue: &Catalogue, id: NodeId, member: &Member) -> v1::Member {
    v1::Member { seat: seat(catalogue, id).into(), ..stranger(id, member) }
}

fn seat(catalogue: &Catalogue, id: NodeId) -> v1::Seat {
    if catalogue.ring.has_seat(id) {
        v1::Seat::Seated
    } else if catalogue.is_leaving(id) {
        v1::Seat::Leaving
    } else {
        v1::Seat::None
    }
}

/// The node itself. The labels that the cluster knows for it stand above its configuration.
fn own(node: &Node, catalogue: Option<&Catalogue>) -> v1::Member {
    let known = catalogue.and_then(|catalogue| catalogue.members.get(&node.id));
    let (zone, region, weight) = match known {
        Some(known) => (&known.value.zone, &known.value.region, known.value.weight),
        None => (&node.config.zone, &node.config.region, node.config.weight),
    };
    v1::Member {
        node_id: node.id.to_string(),
        incarnation: node.incarnation.to_string(),
        peer_address: node.addresses.peer.clone(),
        client_address: node.addresses.client.clone(),
        admin_address: node.addresses.admin.clone(),
        zone: zone.clone(),
        region: region.clone(),
        weight,
        seat: catalogue.map_or(v1::Seat::Unspecified, |c| seat(c, node.id)).into(),
    }
}

fn members(node: &Node, catalogue: &Catalogue) -> Vec<v1::MemberView> {
    let shared = node.driver.shared();
    let unreachable = shared.unreachable();
    let connected = node.transport.connected();
    let hints = node.stores.hint_figures();
    let view = |(id, known): (&NodeId, &stator_core::catalogue::Versioned<Member>)| {
        let reachability = if *id == node.id {
            v1::Reachability::Self_
        } else if unreachable.contains(id) {
            v1::Reachability::Unreachable
        } else if connected.contains(id) {
            v1::Reachability::Alive
        } else {
            v1::Reachability::Suspect
        };
        v1::MemberView {
            member: Some(if *id == node.id {
                own(node, Some(catalogue))
            } else {
                member(catalogue, *id, &known.value)
            }),
            reachability: reachability.into(),
            hints_held: hints.waiting.get(id).copied().unwrap_or_default() as u64,
            hints_delivered: shared.peer_figures(*id).hints_delivered,
        }
    };
    catalogue.members.iter().map(view).collect()
}

fn store(node: &Node, area: Area) -> v1::StoreStatus {
    let figures = node.stores.figures(area);
    let state = match &figures.out_of_service {
        None => v1::StoreState::Serving,
        Some(_) => v1::StoreState::ReadOnly,
    };
    v1::StoreStatus {
        name: area.name().to_owned(),
        engine: node.config.engine.name().to_owned(),
        state: state.into(),
        detail: figures.out_of_service.or(figures.set_aside).unwrap_or_default(),
        objects: figures.objects,
    }
}

fn keyspaces(node: &Node, catalogue: &Catalogue) -> Vec<v1::KeyspaceStatus> {
    let status = |keyspace: &stator_core::catalogue::Keyspace| {
        let figures = node.driver.shared().keyspace_figures(keyspace.id);
        v1::KeyspaceStatus {
            name: keyspace.name.clone(),
            id: keyspace.id.to_string(),
            hints_stored: figures.hints_stored,
            hints_delivered: figures.hints_delivered,
            merges: figures.merges,
            merge_failures: figures.merge_failures,
            gets: figures.gets.to_vec(),
        }
    };
    catalogue.live_keyspaces().map(status).collect()
}
