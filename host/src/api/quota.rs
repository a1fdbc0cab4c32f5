//! Quotas on requests: a bucket of tokens per keyspace on each node.
//!
//! A quota is of the cluster, and nodes do not talk before they answer: each takes the quota divided by
//! the members that it takes as reachable, itself included. So clients get all of it if they spread
//! what they ask over the nodes, as those that know the ring do, and a part of it from one node alone. A
//! bucket holds what one second gives, at least one request; it starts full.
//!
//! What counts: each get, put and delete, those of a batch too; each replica that a client asks for a
//! get of its own; the beginning of a list or a watch. What does not: what operators and replicas do,
//! and a request that is refused for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use stator_core::catalogue::{Catalogue, Keyspace};
use stator_core::id::KeyspaceId;
use stator_core::write::WriteRefused;
use tonic::Status;

use super::errors;
use crate::node::Node;
use crate::telemetry::names::QUOTA_REFUSALS;

/// What may still be asked of the keyspaces that have a quota on requests.
#[derive(Default)]
pub(super) struct Rates(Mutex<BTreeMap<KeyspaceId, Bucket>>);

struct Bucket {
    left: f64,
    at: Instant,
}

impl Rates {
    /// Takes a request in, or says when to come back.
    pub(super) fn admit(
        &self,
        node: &Node,
        catalogue: &Catalogue,
        keyspace: &Keyspace,
    ) -> Result<(), Status> {
        let max = keyspace.quota.value.requests_per_second;
        if max == 0 {
            return Ok(());
        }
        let down = node.driver.shared().unreachable();
        let up = catalogue.members.keys().filter(|member| !down.contains(member)).count().max(1);
        let share = max as f64 / up as f64;
        let taken = {
            let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if !buckets.contains_key(&keyspace.id) {
                // As many as there are keyspaces.
                buckets.retain(|id, _| catalogue.keyspace_by_id(*id).is_some());
            }
            let bucket = buckets.entry(keyspace.id);
            bucket.or_insert(Bucket { left: f64::MAX, at: now }).take(share, now)
        };
        taken.map_err(|wait| {
            count(&keyspace.name, "requests");
            let message = format!(
                "keyspace {:?} has a quota of {max} requests a second, and this node, one of {up} in \
                 reach, has taken its share: come back in {} ms, spread requests over the nodes, or \
                 raise the quota with `stator keyspace update --quota-requests`; nothing was done",
                keyspace.name,
                wait.as_millis()
            );
            errors::over_quota("requests", (max, max), message, Some(wait))
        })
    }
}

impl Bucket {
    /// Takes one out, or says when there is one.
    fn take(&mut self, per_second: f64, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + passed * per_second).min(per_second.max(1.0));
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        let seconds = (1.0 - self.left) / per_second;
        Err(Duration::from_secs_f64(seconds).max(Duration::from_millis(1)))
    }
}

/// Counts what an owner refused for a quota.
pub(super) fn count_refused(keyspace: &str, why: &WriteRefused) {
    match why {
        WriteRefused::OverKeys { .. } => count(keyspace, "keys"),
        WriteRefused::OverBytes { .. } => count(keyspace, "bytes"),
        _ => {}
    }
}

fn count(keyspace: &str, quota: &'static str) {
    let labels = [("keyspace", keyspace.to_owned()), ("quota", quota.to_owned())];
    metrics::counter!(QUOTA_REFUSALS.name, labels.as_slice()).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_and_what_a_second_saves() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut bucket = Bucket { left: f64::MAX, at: begun };
        assert_eq!((0..20).filter(|_| bucket.take(10.0, begun).is_ok()).count(), 10);
        assert_eq!(bucket.take(10.0, begun), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(10.0, at(100)), Ok(()));
        assert_eq!(bucket.take(10.0, at(150)), Err(Duration::from_millis(50)));
        assert_eq!((0..99).filter(|_| bucket.take(10.0, at(60_000)).is_ok()).count(), 10);
        // Less than one a second: one, then a pause.
        assert_eq!(bucket.take(0.5, at(90_000)), Ok(()));
        assert_eq!(bucket.take(0.5, at(90_000)), Err(Duration::from_secs(2)));
    }
}
