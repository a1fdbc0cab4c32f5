//! From a key's siblings to what its reader gets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stator_core::ancestor::nearest;
use stator_core::catalogue::{Keyspace, Reconcile};
use stator_core::causality::{LiveVersion, Siblings};
use stator_core::divergence::{Ancestor, Divergence, MergeFailure, Outcome, Resolution};
use stator_core::id::ModuleDigest;
use stator_core::reconcile::{View, divergence, view};
use tokio::time::Instant;

use super::Node;
use crate::conflicts::Cause;
use crate::telemetry::names::{MERGES, SIBLINGS};

/// How long before its deadline a read stops waiting for a module that is just being fetched or
/// compiled, and answers.
const ANSWER_TIME: Duration = Duration::from_millis(250);

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The key holds nothing.
    Absent,
    /// One version, as a client wrote it.
    Sole(LiveVersion),
    /// Siblings, for the client to resolve.
    Siblings(Vec<LiveVersion>),
    /// Siblings that a module made one value of.
    Merged {
        /// What it made.
        resolution: Arc<Resolution>,
        /// What of.
        inputs: Vec<LiveVersion>,
        /// The module.
        module: ModuleDigest,
    },
    /// Siblings that a module could not merge.
    Unmerged {
        /// Why not.
        failure: MergeFailure,
        /// What of.
        inputs: Vec<LiveVersion>,
        /// The module.
        module: ModuleDigest,
    },
}

impl Node {
    /// What the keyspace's reconcile policy makes of `siblings`.
    /// The siblings themselves, if a module does not do it by `deadline`.
    pub async fn read(
        &self,
        keyspace: &Keyspace,
        key: &Bytes,
        siblings: &Siblings,
        (cause, deadline): (Cause, Instant),
    ) -> Reading {
        let now_ms = self.clock.now().wall_ms;
        let view = view(siblings, now_ms);
        metrics::histogram!(SIBLINGS.name, "keyspace" => keyspace.name.clone())
            .record(view.count() as f64);
        let versions = match view {
            View::Absent => return Reading::Absent,
            View::Sole(version) => return Reading::Sole(version),
            View::Divergent(versions) => versions,
        };
        let (module, ancestor) = match keyspace.reconcile_of(key) {
            // Where the last write wins only one version is ever left.
            Reconcile::Siblings | Reconcile::LastWriteWins => return Reading::Siblings(versions),
            // A fold happens behind the reader's back, if at all.
            Reconcile::Module(module) | Reconcile::Fold(module) => (module, Ancestor::Unknown),
            Reconcile::ThreeWay(module) => (module, nearest(siblings, now_ms).told()),
        };
        let divergence = divergence(&keyspace.name, key, &versions, ancestor);
        self.merge(module, keyspace, (&divergence, versions), (cause, deadline)).await
    }

    async fn merge(
        &self,
        module: ModuleDigest,
        keyspace: &Keyspace,
        (divergence, inputs): (&Divergence, Vec<LiveVersion>),
        (cause, deadline): (Cause, Instant),
    ) -> Reading {
        if !self.merges.is_loaded(&module) {
            // Past this time the reader gets the siblings, with the reason.
            let until = deadline.checked_sub(ANSWER_TIME).unwrap_or(deadline);
            let _ = tokio::time::timeout_at(until, self.modules.wait_for(&module)).await;
        }
        let dots = || inputs.iter().map(|input| input.dots.clone()).collect();
        let merge = self.conflicts.resolve(cause, &module, divergence, dots);
        let late = || Err(MergeFailure::Unavailable("the client's deadline came first".into()));
        match tokio::time::timeout_at(deadline, merge).await.unwrap_or_else(|_| late()) {
            Ok(resolution) => match resolution.outcome {
                Outcome::KeepSiblings => {
                    count_merge(keyspace, "kept");
                    Reading::Siblings(inputs)
                }
                Outcome::Value(_) | Outcome::Delete => {
                    let is_value = matches!(resolution.outcome, Outcome::Value(_));
                    count_merge(keyspace, if is_value { "value" } else { "delete" });
                    self.driver.shared().count(keyspace.id, |figures| figures.merges += 1);
                    Reading::Merged { resolution, inputs, module }
                }
            },
            Err(failure) => {
                count_merge(keyspace, "failed");
                self.driver.shared().count(keyspace.id, |figures| figures.merge_failures += 1);
                // Every reader of the key meets it: the figures tell, a log would drown.
                tracing::debug!(keyspace = keyspace.name, %module, %failure, "a merge failed");
                Reading::Unmerged { failure, inputs, module }
            }
        }
    }
}

fn count_merge(keyspace: &Keyspace, outcome: &'static str) {
    let labels = [("keyspace", keyspace.name.clone()), ("outcome", outcome.to_owned())];
    metrics::counter!(MERGES.name, &labels).increment(1);
}
