//! What follows from conflicts: dead letters are tried again when their keyspace is pinned to
//! another module, and trials beyond their limits are ended for the whole cluster.

use std::sync::{Arc, Weak};
use std::time::Duration;

use stator_core::catalogue::{Catalogue, CatalogueChange};
use stator_core::request::{GetRequest, QuorumKind};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Node, Reading};
use crate::conflicts::{Cause, Letter, TrialOver, reactivated};

/// How long one letter may take.
const RETRY_TIME: Duration = Duration::from_secs(5);
/// How long to wait before a change that could not be made is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the catalogue and ends trials, until the node stops.
pub(super) async fn run(node: Weak<Node>, mut over: mpsc::Receiver<TrialOver>) {
    let Some(mut catalogues) = node.upgrade().map(|node| node.driver.shared().watch_catalogue())
    else {
        return;
    };
    let mut known = catalogues.borrow_and_update().clone();
    loop {
        tokio::select! {
            changed = catalogues.changed() => {
                let Some(node) = node.upgrade().filter(|_| changed.is_ok()) else { return };
                let Some(now) = catalogues.borrow_and_update().clone() else { continue };
                node.conflicts.follow(&now);
                node.follow_history(&now);
                retry(&node, known.as_deref(), &now).await;
                known = Some(now);
            }
            trial = over.recv() => {
                let (Some(trial), Some(node)) = (trial, node.upgrade()) else { return };
                end(&node, trial).await;
            }
        }
    }
}

/// Ends a trial. If that cannot be made now it is tried again, as long as it is what is tried.
async fn end(node: &Arc<Node>, TrialOver { keyspace, module, why }: TrialOver) {
    tracing::warn!(keyspace, %module, why, "the canary is rolled back");
    loop {
        let at_ms = node.clock.now().wall_ms;
        let (name, reason) = (keyspace.clone(), format!("rolled back by node {}: {why}", node.id));
        let change = CatalogueChange::EndTrial { name, module, at_ms, reason };
        match node.driver.change(change).await {
            // Or another node has ended it.
            Ok(Ok(_) | Err(stator_core::event::ChangeFailure::Refused(_))) | Err(_) => return,
            Ok(Err(failure)) => {
                tracing::warn!(%failure, "the canary's end is not persisted yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Tries the dead letters of keyspaces that are pinned to another module than before.
async fn retry(node: &Arc<Node>, before: Option<&Catalogue>, now: &Catalogue) {
    for id in reactivated(before, now) {
        let Some(keyspace) = now.keyspace_by_id(id) else { continue };
        let letters = node.conflicts.letters(&keyspace.name);
        if letters.is_empty() {
            continue;
        }
        let (name, node) = (keyspace.name.clone(), node.clone());
        tracing::info!(keyspace = name, letters = letters.len(), "dead letters are tried again");
        tokio::spawn(async move {
            for letter in letters {
                node.retry_letter(&letter).await;
            }
            let left = node.conflicts.letters(&name).len();
            tracing::info!(keyspace = name, left, "dead letters were tried again");
        });
    }
}

impl Node {
    /// Has the store keep what the keyspaces ask for of what is superseded.
    pub(super) fn follow_history(&self, catalogue: &Catalogue) {
        if let Some(history) = self.stores.history() {
            history.follow(catalogue);
        }
    }

    /// Reads the key of a letter as a client would. What comes of a merge is recorded and decides
    /// what becomes of the letter; so does that there is nothing to merge any more.
    pub async fn retry_letter(&self, letter: &Letter) {
        let Some(catalogue) = self.catalogue() else { return };
        let (name, key) = (&letter.last.keyspace, &letter.last.key);
        let Some(keyspace) = catalogue.keyspace(name) else {
            return self.conflicts.settle(name, key);
        };
        let request = GetRequest {
            keyspace: keyspace.id,
            key: key.clone().into(),
            r: None,
            quorum: QuorumKind::Sloppy,
            timeout_ms: 0,
        };
        let deadline = Instant::now() + RETRY_TIME;
        let got = self.driver.get(request.clone(), deadline.into(), Arc::new(())).await;
        let Ok(Ok(receipt)) = got else { return };
        let until = (Cause::Retry, deadline);
        match self.read(keyspace, &request.key, &receipt.siblings, until).await {
            Reading::Unmerged { .. } => {}
            _ => self.conflicts.settle(name, key),
        }
    }
}
