//! `stator cluster status`: every member is asked, so the table shows what each sees of the
//! others and what nobody could tell.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stator_core::region::place;
use stator_proto::v1;

use crate::cli::failure::Failure;
use crate::cli::members;
use crate::cli::output::{self, Output};
use crate::cli::session::Session;

pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let asked = session.admin().await?.get_status(v1::GetStatusRequest {}).await?;
    // To who was removed those that were members beside it are nothing any more.
    let nodes = match asked.state() {
        v1::NodeState::Removed => Vec::new(),
        _ => members::statuses(session).await?,
    };
    let (members, answers): (Vec<_>, Vec<_>) = nodes.into_iter().unzip();
    // By node id. A member that does not answer is missing here and shown all the same.
    let mut statuses: BTreeMap<String, v1::NodeStatus> = BTreeMap::new();
    for status in answers.into_iter().flatten().chain([asked.clone()]) {
        if let Some(node) = &status.node {
            statuses.insert(node.node_id.clone(), status);
        }
    }
    match session.output {
        Output::Json => output::json(&json!({
            "cluster": asked.cluster.as_ref().map(cluster_json),
            "nodes": rows_of(&asked, &members).iter().map(|member| {
                node_json(member, statuses.get(&member.node_id), &statuses)
            }).collect::<Vec<_>>(),
        })),
        Output::Table => print(&asked, &members, &statuses),
    }
}

/// The members, or the asked node alone while there is no cluster, or none any more.
fn rows_of(asked: &v1::NodeStatus, members: &[v1::Member]) -> Vec<v1::Member> {
    match members {
        [] => asked.node.iter().cloned().collect(),
        members => members.to_vec(),
    }
}

fn print(
    asked: &v1::NodeStatus,
    members: &[v1::Member],
    statuses: &BTreeMap<String, v1::NodeStatus>,
) -> Result<(), Failure> {
    match &asked.cluster {
        Some(cluster) if asked.state() == v1::NodeState::Removed => output::line(format!(
            "this node was removed from the cluster {} ({}), for ever: ask a member; `stator \
             cluster recover` brings home what only this node holds",
            cluster.name, cluster.id
        ))?,
        Some(cluster) => output::line(format!(
            "cluster {} ({}), {} partitions, ring version {}{}{}",
            cluster.name,
            cluster.id,
            cluster.partitions,
            cluster.ring_version,
            match cluster.slots_pending {
                0 => String::new(),
                slots => format!(", {slots} ownerships to be handed over"),
            },
            match cluster.changes_staged {
                0 => String::new(),
                changes => format!(", {changes} changes staged"),
            },
        ))?,
        None => output::line("the node waits for a cluster: `stator cluster init` makes one")?,
    }
    let names: Vec<_> = asked.keyspaces.iter().map(|keyspace| keyspace.name.as_str()).collect();
    if !names.is_empty() {
        output::line(format!("keyspaces: {}", names.join(" ")))?;
    }
    if let Some(line) = collect_words(statuses) {
        output::line(line)?;
    }
    let header = [
        "node",
        "peers",
        "clients",
        "zone",
        "state",
        "seen by",
        "ring",
        "objects",
        "hints",
        "delivered",
        "merges",
        "store",
    ];
    let rows = rows_of(asked, members);
    let rows = rows.iter().map(|member| row(member, statuses.get(&member.node_id), statuses));
    output::line(output::table(header, rows.collect()))?;
    super::hints::say_alarms(statuses.values())
}

fn row(
    member: &v1::Member,
    status: Option<&v1::NodeStatus>,
    statuses: &BTreeMap<String, v1::NodeStatus>,
) -> [String; 12] {
    let of = |fact: fn(&Totals) -> u64| match status {
        Some(status) => fact(&Totals::of(status)).to_string(),
        None => "-".to_owned(),
    };
    let merges =
        status.map(Totals::of).map_or("-".to_owned(), |totals| match totals.merge_failures {
            0 => totals.merges.to_string(),
            failures => format!("{} ({failures} failed)", totals.merges),
        });
    let ring =
        status.and_then(|status| status.cluster.as_ref()).map(|cluster| cluster.ring_version);
    [
        member.node_id.clone(),
        member.peer_address.clone(),
        member.client_address.clone(),
        Some(place(&member.region, &member.zone)).filter(|p| !p.is_empty()).unwrap_or("-".into()),
        match member.seat() {
            v1::Seat::None => format!("{}, no seat", state_words(status)),
            v1::Seat::Leaving => format!("{}, leaving", state_words(status)),
            v1::Seat::Seated | v1::Seat::Unspecified => state_words(status),
        },
        seen_words(&member.node_id, statuses),
        ring.map_or("-".to_owned(), |version| version.to_string()),
        of(|totals| totals.objects),
        of(|totals| totals.hints_held),
        of(|totals| totals.hints_delivered),
        merges,
        store_words(status),
    ]
}

/// What all nodes have forgotten, and what holds it up.
fn collect_words(statuses: &BTreeMap<String, v1::NodeStatus>) -> Option<String> {
    let all: Vec<_> = statuses.values().filter_map(|status| status.collect.as_ref()).collect();
    let collected: u64 = all.iter().map(|collect| collect.collected).sum();
    let held_up = all.iter().map(|collect| &collect.held_up).find(|why| !why.is_empty());
    match (collected, held_up) {
        (0, None) => None,
        (_, None) => Some(format!("collection: {collected} copies of deleted objects forgotten")),
        (_, Some(why)) => Some(format!(
            "collection: {collected} copies of deleted objects forgotten; the rest waits: {why}"
        )),
    }
}

/// Sums over a node's stores, keyspaces and targets.
#[derive(Debug, Default)]
struct Totals {
    objects: u64,
    hints_held: u64,
    hints_delivered: u64,
    merges: u64,
    merge_failures: u64,
}

impl Totals {
    fn of(status: &v1::NodeStatus) -> Self {
        let data = status.stores.iter().filter(|store| store.name == "data");
        let mut totals = Totals {
            objects: data.map(|store| store.objects).sum(),
            hints_held: status.members.iter().map(|view| view.hints_held).sum(),
            ..Totals::default()
        };
        for keyspace in &status.keyspaces {
            totals.hints_delivered += keyspace.hints_delivered;
            totals.merges += keyspace.merges;
            totals.merge_failures += keyspace.merge_failures;
        }
        totals
    }
}

fn state_words(status: Option<&v1::NodeStatus>) -> String {
    let Some(status) = status else {
        return "no answer".to_owned();
    };
    let state = match status.state() {
        v1::NodeState::Unspecified => "unknown",
        v1::NodeState::Waiting => "waiting",
        v1::NodeState::Serving => "serving",
        v1::NodeState::Refilling => "refilling",
        v1::NodeState::Stopping => "stopping",
        v1::NodeState::Removed => "removed",
        v1::NodeState::Asking => "asks to be let in",
        v1::NodeState::Refused => "refused: a copy",
    };
    let state = match status.transfers.as_slice() {
        [] => state.to_owned(),
        all => {
            let keys: u64 = all.iter().map(|transfer| transfer.keys_copied).sum();
            format!("{state}, {} partitions on their way: {keys} keys copied", all.len())
        }
    };
    let state = match &status.fill {
        Some(fill) => format!(
            "{state}: {} of {} partitions left, {} objects copied",
            fill.partitions_left, fill.partitions, fill.objects_copied
        ),
        None => state,
    };
    if status.isolated { format!("{state}, cut off") } else { state }
}

/// How many of the other members that answered see the node alive.
fn seen_words(node_id: &str, statuses: &BTreeMap<String, v1::NodeStatus>) -> String {
    let views = views_of(node_id, statuses);
    let alive = views.iter().filter(|(_, view)| *view == v1::Reachability::Alive).count();
    match views.len() {
        0 => "-".to_owned(),
        all => format!("{alive} of {all}"),
    }
}

fn views_of<'a>(
    node_id: &str,
    statuses: &'a BTreeMap<String, v1::NodeStatus>,
) -> Vec<(&'a str, v1::Reachability)> {
    let others = statuses.iter().filter(|(other, _)| other.as_str() != node_id);
    let views = others.filter_map(|(other, status)| {
        let view = status
            .members
            .iter()
            .find(|view| view.member.as_ref().is_some_and(|member| member.node_id == node_id))?;
        Some((other.as_str(), view.reachability()))
    });
    views.collect()
}

fn store_words(status: Option<&v1::NodeStatus>) -> String {
    let Some(status) = status else {
        return "-".to_owned();
    };
    let mut words = Vec::new();
    for store in &status.stores {
        let state = store_word(store);
        let detail =
            if store.detail.is_empty() { String::new() } else { format!(": {}", store.detail) };
        if store.state() != v1::StoreState::Serving || !detail.is_empty() {
            words.push(format!("{} {state}{detail}", store.name));
        }
    }
    if words.is_empty() { "serving".to_owned() } else { words.join("; ") }
}

fn store_word(store: &v1::StoreStatus) -> &'static str {
    match store.state() {
        v1::StoreState::Unspecified => "unknown",
        v1::StoreState::Serving => "serving",
        v1::StoreState::ReadOnly => "read-only",
        v1::StoreState::Failed => "failed",
    }
}

fn cluster_json(cluster: &v1::ClusterInfo) -> Value {
    json!({
        "id": cluster.id,
        "name": cluster.name,
        "partitions": cluster.partitions,
        "ring_version": cluster.ring_version,
        "slots_pending": cluster.slots_pending,
        "changes_staged": cluster.changes_staged,
        "catalogue_digest": cluster.catalogue_digest,
    })
}

fn node_json(
    member: &v1::Member,
    status: Option<&v1::NodeStatus>,
    statuses: &BTreeMap<String, v1::NodeStatus>,
) -> Value {
    let seen_by: BTreeMap<_, _> = views_of(&member.node_id, statuses)
        .into_iter()
        .map(|(other, view)| {
            (other, view.as_str_name().trim_start_matches("REACHABILITY_").to_lowercase())
        })
        .collect();
    json!({
        "node_id": member.node_id,
        "incarnation": member.incarnation,
        "peer_address": member.peer_address,
        "client_address": member.client_address,
        "admin_address": member.admin_address,
        "zone": member.zone,
        "region": member.region,
        "weight": member.weight,
        "seat": member.seat().as_str_name().trim_start_matches("SEAT_").to_lowercase(),
        "answered": status.is_some(),
        "state": status.map(|status| status.state().as_str_name().trim_start_matches("NODE_STATE_").to_lowercase()),
        "fill": status.and_then(|status| status.fill.as_ref()).map(|fill| json!({
            "partitions": fill.partitions,
            "partitions_left": fill.partitions_left,
            "objects_copied": fill.objects_copied,
        })),
        "collect": status.and_then(|status| status.collect.as_ref()).map(|collect| json!({
            "collected": collect.collected,
            "rounds": collect.rounds,
            "rounds_given_up": collect.rounds_given_up,
            "held_up": collect.held_up,
        })),
        "anti_entropy": status.and_then(|status| status.anti_entropy.as_ref()).map(|figures| json!({
            "trees_ready": figures.trees_ready,
            "exchanges": figures.exchanges,
            "keys_differed": figures.keys_differed,
            "keys_repaired": figures.keys_repaired,
        })),
        "transfers": status.map(|status| status.transfers.iter().map(transfer_json).collect::<Vec<_>>()),
        "isolated": status.map(|status| status.isolated),
        "faults_enabled": status.map(|status| status.faults_enabled),
        "program_version": status.map(|status| &status.program_version),
        "started_at_ms": status.map(|status| status.started_at_ms),
        "ring_version": status.and_then(|status| status.cluster.as_ref()).map(|cluster| cluster.ring_version),
        "catalogue_digest": status.and_then(|status| status.cluster.as_ref()).map(|cluster| &cluster.catalogue_digest),
        "seen_by": seen_by,
        "hints": status.map(hints_json),
        "alarms": status.map(super::hints::alarms_json),
        "keyspaces": status.map(|status| status.keyspaces.iter().map(keyspace_json).collect::<Vec<_>>()),
        "stores": status.map(|status| status.stores.iter().map(store_json).collect::<Vec<_>>()),
    })
}

fn transfer_json(transfer: &v1::TransferStatus) -> Value {
    json!({
        "partition": transfer.partition,
        "source": transfer.source_node_id,
        "target": transfer.target_node_id,
        "keys_copied": transfer.keys_copied,
        "step": transfer.step,
    })
}

fn hints_json(status: &v1::NodeStatus) -> Vec<Value> {
    let targets =
        status.members.iter().filter(|view| view.reachability() != v1::Reachability::Self_);
    let hints = targets.map(|view| {
        json!({
            "target": view.member.as_ref().map(|member| &member.node_id),
            "held": view.hints_held,
            "delivered": view.hints_delivered,
        })
    });
    hints.collect()
}

fn keyspace_json(keyspace: &v1::KeyspaceStatus) -> Value {
    json!({
        "name": keyspace.name,
        "id": keyspace.id,
        "hints_stored": keyspace.hints_stored,
        "hints_delivered": keyspace.hints_delivered,
        "merges": keyspace.merges,
        "merge_failures": keyspace.merge_failures,
    })
}

fn store_json(store: &v1::StoreStatus) -> Value {
    json!({
        "name": store.name,
        "engine": store.engine,
        "state": store_word(store),
        "detail": store.detail,
        "objects": store.objects,
    })
}
