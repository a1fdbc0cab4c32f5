//! Modules on trial, and the chronicle of a keyspace's merging, as messages.

use std::sync::Arc;

use stator_core::catalogue::{
    CanaryLimits, CatalogueChange, Entry, Reconcile, Trial, TrialKind, What,
};
use stator_proto::v1;
use tonic::{Code, Status};

use super::{errors, keyspaces};
use crate::node::Node;

pub(super) async fn begin(
    node: &Arc<Node>,
    request: v1::BeginTrialRequest,
) -> Result<v1::Keyspace, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let name = request.keyspace;
    let keyspace = catalogue.keyspace(&name).ok_or_else(|| errors::no_keyspace(&name))?;
    let module = errors::digest("module_digest", &request.module_digest)?;
    let kind = request.canary.map_or(TrialKind::Shadow, canary);
    // What a canary makes of a folding keyspace is stored, as what the pinned module makes.
    if matches!((keyspace.reconcile.value, &kind), (Reconcile::Fold(_), TrialKind::Canary { .. })) {
        keyspaces::may_fold(node, &catalogue, Reconcile::Fold(module)).await?;
    }
    let trial = Trial { module, kind, began_at_ms: node.clock.now().wall_ms };
    let reason = keyspaces::reason(request.reason)?;
    let change = CatalogueChange::BeginTrial { name: name.clone(), trial: trial.clone(), reason };
    let catalogue = keyspaces::make(node, &catalogue, change, false).await?;
    let made = catalogue.keyspace(&name).ok_or_else(|| errors::no_keyspace(&name))?;
    match made.trial.value == Some(trial) {
        true => Ok(keyspaces::message(&catalogue, made)),
        false => Err(errors::overruled(&name)),
    }
}

pub(super) async fn end(
    node: &Arc<Node>,
    request: v1::EndTrialRequest,
) -> Result<v1::Keyspace, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let name = request.keyspace;
    let keyspace = catalogue.keyspace(&name).ok_or_else(|| errors::no_keyspace(&name))?;
    let module = match (&request.module_digest, &keyspace.trial.value) {
        (text, Some(trial)) if text.is_empty() => trial.module,
        (text, None) if text.is_empty() => {
            let message = format!("keyspace {name:?} tries no module");
            return Err(errors::status(Code::NotFound, "NO_TRIAL", message, &[]));
        }
        (text, _) => errors::digest("module_digest", text)?,
    };
    let (at_ms, reason) = (node.clock.now().wall_ms, keyspaces::reason(request.reason)?);
    let change = CatalogueChange::EndTrial { name: name.clone(), module, at_ms, reason };
    let catalogue = keyspaces::make(node, &catalogue, change, false).await?;
    keyspaces::found(&catalogue, &name)
}

/// What this node has seen of a trial.
pub(super) fn report(node: &Node, name: &str) -> Result<v1::TrialReport, Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    let keyspace = catalogue.keyspace(name).ok_or_else(|| errors::no_keyspace(name))?;
    let figures = node.conflicts.trial_figures(keyspace);
    let pinned = keyspace.reconcile.value.module();
    Ok(v1::TrialReport {
        trial: keyspace.trial.value.as_ref().map(message),
        pinned_digest: pinned.map(|digest| digest.to_string()).unwrap_or_default(),
        merges: figures.merges,
        failures: figures.failures,
        mended: figures.mended,
        differing: figures.differing,
        candidate_fuel: figures.fuel[0],
        pinned_fuel: figures.fuel[1],
        candidate_bytes: figures.bytes[0],
        pinned_bytes: figures.bytes[1],
    })
}

fn canary(asked: v1::Canary) -> TrialKind {
    let usual = CanaryLimits::default();
    let limits = CanaryLimits {
        failures: asked.failures_max.unwrap_or(usual.failures),
        differing_percent: asked.differing_percent_max.unwrap_or(usual.differing_percent),
        fuel_percent: asked.fuel_percent_max.unwrap_or(usual.fuel_percent),
        bytes_percent: asked.bytes_percent_max.unwrap_or(usual.bytes_percent),
    };
    TrialKind::Canary { percent: asked.percent, limits }
}

pub(super) fn message(trial: &Trial) -> v1::Trial {
    let canary = match &trial.kind {
        TrialKind::Shadow => None,
        TrialKind::Canary { percent, limits } => Some(v1::Canary {
            percent: *percent,
            failures_max: Some(limits.failures),
            differing_percent_max: Some(limits.differing_percent),
            fuel_percent_max: Some(limits.fuel_percent),
            bytes_percent_max: Some(limits.bytes_percent),
        }),
    };
    v1::Trial { module_digest: trial.module.to_string(), began_at_ms: trial.began_at_ms, canary }
}

pub(super) fn entry(entry: &Entry) -> v1::ChronicleEntry {
    use v1::chronicle_entry::What as Said;
    let what = match &entry.what {
        What::Pinned(reconcile) => Said::Pinned(keyspaces::reconcile_message(*reconcile)),
        What::Tried(trial) => Said::Tried(message(trial)),
        What::TrialEnded(module) => Said::TrialEnded(module.to_string()),
    };
    v1::ChronicleEntry { at_ms: entry.at_ms, reason: entry.reason.clone(), what: Some(what) }
}
