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
use stator_core::version::Payload;
use tokio::time::Instant;

use super::Node;
use crate::conflicts::Cause;
use crate::driver::VERSIONS;
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
        /// What made it.
        by: By,
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

impl Reading {
    /// How many versions that differ there were.
    pub fn versions(&self) -> usize {
        match self {
            Reading::Absent => 0,
            Reading::Sole(_) => 1,
            Reading::Siblings(inputs)
            | Reading::Merged { inputs, .. }
            | Reading::Unmerged { inputs, .. } => inputs.len(),
        }
    }
}

/// What made one value of siblings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// The module; none where the last write was taken.
    pub module: Option<ModuleDigest>,
    /// Why it was not the module that is to merge them.
    pub in_place: Option<MergeFailure>,
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
        let versions = match view(siblings, now_ms) {
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

    /// Counts a get that met so many versions that differ.
    pub fn count_get(&self, keyspace: &Keyspace, versions: usize) {
        metrics::histogram!(SIBLINGS.name, "keyspace" => keyspace.name.clone())
            .record(versions as f64);
        let place = versions.min(VERSIONS.len() - 1);
        self.driver.shared().count(keyspace.id, |figures| figures.gets[place] += 1);
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
        let merge = async |module| {
            let merge = self.conflicts.resolve(cause, module, divergence, dots);
            let late = || Err(MergeFailure::Unavailable("the client's deadline came first".into()));
            tokio::time::timeout_at(deadline, merge).await.unwrap_or_else(|_| late())
        };
        let (answer, by) = match merge(&module).await {
            Err(failure) => {
                self.driver.shared().count(keyspace.id, |figures| figures.merge_failures += 1);
                // Every reader of the key meets it: the figures tell, a log would drown.
                tracing::debug!(keyspace = keyspace.name, %module, %failure, "a merge failed");
                let previous = keyspace.previous_module().filter(|_| stands_in(&failure));
                let instead = match previous {
                    Some(previous) => merge(&previous).await.ok().zip(Some(Some(previous))),
                    None => None,
                };
                let latest = || last_write(keyspace, &inputs, &failure).zip(Some(None));
                match instead.or_else(latest) {
                    Some((made, module)) => (made, By { module, in_place: Some(failure) }),
                    None => {
                        count_merge(keyspace, "failed");
                        return Reading::Unmerged { failure, inputs, module };
                    }
                }
            }
            Ok(resolution) => (resolution, By { module: Some(module), in_place: None }),
        };
        self.merged(keyspace, (answer, by), inputs)
    }

    fn merged(
        &self,
        keyspace: &Keyspace,
        (resolution, by): (Arc<Resolution>, By),
        inputs: Vec<LiveVersion>,
    ) -> Reading {
        let outcome = match resolution.outcome {
            Outcome::KeepSiblings => {
                count_merge(keyspace, "kept");
                return Reading::Siblings(inputs);
            }
            _ if by.in_place.is_some() => "in-place",
            Outcome::Value(_) => "value",
            Outcome::Delete => "delete",
        };
        count_merge(keyspace, outcome);
        self.driver.shared().count(keyspace.id, |figures| figures.merges += 1);
        Reading::Merged { resolution, inputs, by }
    }
}

/// Whether something else is to answer where a module failed so. What passes by itself, such as a
/// module on its way here, is waited for by the reader.
fn stands_in(failure: &MergeFailure) -> bool {
    failure.is_lasting()
        || matches!(
            failure,
            MergeFailure::Paused { .. }
                | MergeFailure::PausedByOperator
                | MergeFailure::NotSigned(_)
        )
}

/// The last write, if the keyspace wants it where its module fails.
fn last_write(
    keyspace: &Keyspace,
    inputs: &[LiveVersion],
    failure: &MergeFailure,
) -> Option<Arc<Resolution>> {
    let is_wanted = keyspace.merging.value.last_write && stands_in(failure);
    let latest = |live: &&LiveVersion| (live.version.written_at_ms, live.dots.last().copied());
    let last = inputs.iter().filter(|_| is_wanted).max_by_key(latest)?;
    let outcome = match &last.version.payload {
        Payload::Value(value) => Outcome::Value(value.clone()),
        Payload::Tombstone => Outcome::Delete,
    };
    Some(Arc::new(Resolution { outcome, note: None, events: Vec::new(), fuel_used: 0 }))
}

fn count_merge(keyspace: &Keyspace, outcome: &'static str) {
    let labels = [("keyspace", keyspace.name.clone()), ("outcome", outcome.to_owned())];
    metrics::counter!(MERGES.name, &labels).increment(1);
}
