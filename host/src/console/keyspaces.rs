//! Keyspaces and modules: what the catalogue says of them, and what this node counted and measured.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use stator_proto::v1;
use stator_proto::v1::admin_server::Admin;
use tonic::Request;

use super::Console;
use super::answer::{Answer, Refused, given, word};
use super::measured;
use crate::api::AdminService;
use crate::telemetry::names::*;

/// What the page of keyspaces shows of the recorder.
const MEASURED: [Metric; 10] = [
    REQUESTS,
    REQUEST_SECONDS,
    SIBLINGS,
    MERGES,
    CONFLICTS,
    KEYSPACE_FUEL,
    MERGES_OVER_BUDGET,
    MERGE_SECONDS,
    MERGE_FUEL,
    STORE_SYNC_SECONDS,
];

pub(super) async fn keyspaces(State(console): State<Console>) -> Answer {
    let node = console.node()?;
    let admin = AdminService::new(node.clone());
    let status = admin.get_status(Request::new(v1::GetStatusRequest {})).await?.into_inner();
    let listed = list(&admin).await?;
    let figures = |name: &str| status.keyspaces.iter().find(|figures| figures.name == name);
    let keyspaces = listed.iter().map(|keyspace| keyspace_json(keyspace, figures(&keyspace.name)));
    Ok(Json(json!({
        "now_ms": node.clock.now().wall_ms,
        "keyspaces": keyspaces.collect::<Vec<_>>(),
        "measured": measured::series(&console.recorder.render(), &MEASURED),
    })))
}

async fn list(admin: &AdminService) -> Result<Vec<v1::Keyspace>, Refused> {
    let page = Request::new(v1::ListKeyspacesRequest::default());
    Ok(admin.list_keyspaces(page).await?.into_inner().keyspaces)
}

fn keyspace_json(keyspace: &v1::Keyspace, figures: Option<&v1::KeyspaceStatus>) -> Value {
    let merging = keyspace.merging.unwrap_or_default();
    json!({
        "name": keyspace.name,
        "id": keyspace.id,
        "n": keyspace.n,
        "r": keyspace.r,
        "w": keyspace.w,
        "durability": word(keyspace.durability().as_str_name(), "DURABILITY_"),
        "read_repair_percent": keyspace.read_repair_percent,
        "reconcile": keyspace.reconcile.as_ref().map(reconcile),
        "trial": keyspace.trial.as_ref().map(trial),
        "merging": {
            "history_ms": merging.history_ms,
            "previous": merging.previous,
            "last_write": merging.last_write,
            "pause_after": merging.pause_after,
            "merges_per_second": merging.merges_per_second,
            "fuel_per_second": merging.fuel_per_second,
            "memory_bytes": merging.memory_bytes,
            "paused": merging.paused,
        },
        "usage": keyspace.usage.map(|usage| json!({
            "keys": usage.keys,
            "bytes": usage.bytes,
            "stored_bytes": usage.stored_bytes,
        })),
        "resize": keyspace.resize.as_ref().map(|resize| json!({
            "n": resize.n,
            "stage": word(resize.stage().as_str_name(), "RESIZE_STAGE_"),
            "waiting": resize.waiting_node_ids.len(),
        })),
        "quota": keyspace.quota.map(|quota| json!({
            "keys": quota.keys,
            "bytes": quota.bytes,
            "requests_per_second": quota.requests_per_second,
        })),
        "figures": figures.map(|figures| json!({
            "merges": figures.merges,
            "merge_failures": figures.merge_failures,
            "hints_stored": figures.hints_stored,
            "hints_delivered": figures.hints_delivered,
            "gets": figures.gets,
        })),
    })
}

fn reconcile(reconcile: &v1::Reconcile) -> Value {
    json!({
        "policy": word(reconcile.policy().as_str_name(), "RECONCILE_POLICY_"),
        "module_digest": given(&reconcile.module_digest),
        "fold": reconcile.fold,
        "ancestor": reconcile.ancestor,
    })
}

fn trial(trial: &v1::Trial) -> Value {
    json!({
        "module_digest": trial.module_digest,
        "began_at_ms": trial.began_at_ms,
        "canary_percent": trial.canary.as_ref().map(|canary| canary.percent),
    })
}

pub(super) async fn modules(State(console): State<Console>) -> Answer {
    let node = console.node()?;
    let admin = AdminService::new(node.clone());
    let page = Request::new(v1::ListModulesRequest::default());
    let mut modules = Vec::new();
    for module in admin.list_modules(page).await?.into_inner().modules {
        let asked = v1::GetModuleRequest { digest: module.digest.clone(), wait_ready_ms: 0 };
        // It may have been deleted since it was listed.
        let here = admin.get_module(Request::new(asked)).await.map(tonic::Response::into_inner);
        modules.push(module_json(&here.unwrap_or(module)));
    }
    let histories = list(&admin).await?;
    let histories = histories.iter().filter(|keyspace| !keyspace.chronicle.is_empty());
    let history = |keyspace: &v1::Keyspace| {
        json!({
            "keyspace": keyspace.name,
            "entries": keyspace.chronicle.iter().map(entry).collect::<Vec<_>>(),
        })
    };
    Ok(Json(json!({
        "node": node.id.to_string(),
        "modules": modules,
        "histories": histories.map(history).collect::<Vec<_>>(),
    })))
}

fn module_json(module: &v1::Module) -> Value {
    let laws = module.laws.iter().map(|law| {
        json!({
            "law": law.law,
            "answer": word(law.answer().as_str_name(), "ANSWER_"),
            "cases": law.cases,
        })
    });
    json!({
        "digest": module.digest,
        "name": module.name,
        "size_bytes": module.size_bytes,
        "pushed_at_ms": module.pushed_at_ms,
        "class": word(module.class().as_str_name(), "MODULE_CLASS_"),
        "keyspaces": module.keyspaces,
        "laws": laws.collect::<Vec<_>>(),
        "why_no_fold": given(&module.why_no_fold),
        "ready": module.ready,
        "paused_in": module.paused_in,
    })
}

fn entry(entry: &v1::ChronicleEntry) -> Value {
    use v1::chronicle_entry::What;
    let (what, detail) = match &entry.what {
        Some(What::Pinned(pinned)) => ("pinned", reconcile(pinned)),
        Some(What::Tried(tried)) => ("tried", trial(tried)),
        Some(What::TrialEnded(digest)) => ("trial-ended", json!({ "module_digest": digest })),
        None => ("unknown", Value::Null),
    };
    json!({ "at_ms": entry.at_ms, "reason": given(&entry.reason), "what": what, "detail": detail })
}
