//! What a quota lets a put add to its keyspace.
//!
//! It is *checked* where a put is given its dot, by an owner ([`Allowance::check`]): it goes by the
//! larger of what its own store holds and of what is told ([`crate::usage`]). Nothing else is ever
//! refused for a quota: no delete, no put that makes its key smaller, nothing that replicas send one
//! another, and nothing that becomes a hint because no owner is in reach.
//!
//! So a quota is overrun by what other owners take until they have told it, two periods of gossip at
//! the most; and never, whatever they tell, beyond where every store holds the quota by itself: with
//! N members N/n times the quota. Where all members hold all keys that is the quota, but for puts
//! that are under way side by side. What dots and vectors take is counted, and not foreseen.

use crate::catalogue::Quota;
use crate::causality::{Context, LiveVersion, Siblings, Survivors};
use crate::keys::StoreKey;
use crate::record::Record;
use crate::request_notes::Known;
use crate::usage::{Usage, has_value};
use crate::version::Payload;
use crate::write::{Draft, WriteRefused};

/// What a put's keyspace may hold, and holds as far as its coordinator has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The quota.
    pub quota: Quota,
    /// What is told.
    pub told: Usage,
}

impl Allowance {
    /// Refuses a put that would add to a keyspace what its quota has no room for. `held` is what the
    /// store holds of the keyspace. Gives what the put adds at the least.
    ///
    /// # Errors
    /// [`WriteRefused::OverKeys`] or [`WriteRefused::OverBytes`].
    pub fn check(
        &self,
        (key, stored): (&StoreKey, Option<&Record>),
        (draft, context, now_ms): (&Draft, &Context, u64),
        survivors: Survivors,
        held: Usage,
    ) -> Result<Usage, WriteRefused> {
        let is_told = |name| stored.is_some_and(|record| record.known(name, now_ms) != Known::New);
        if draft.request.as_ref().is_some_and(is_told) {
            return Ok(Usage::default());
        }
        let added = added((key, stored), (draft, context), survivors);
        let found = held.max(self.told);
        let is_over = |max: u64, found: u64, added: u64| {
            max > 0 && added > 0 && found.saturating_add(added) > max
        };
        if is_over(self.quota.keys, found.keys, added.keys) {
            return Err(WriteRefused::OverKeys { found: found.keys, max: self.quota.keys });
        }
        if is_over(self.quota.bytes, found.bytes, added.bytes) {
            let (found, added, max) = (found.bytes, added.bytes, self.quota.bytes);
            return Err(WriteRefused::OverBytes { found, added, max });
        }
        Ok(added)
    }
}

fn added(
    (key, stored): (&StoreKey, Option<&Record>),
    (draft, context): (&Draft, &Context),
    survivors: Survivors,
) -> Usage {
    let Payload::Value(value) = &draft.payload else { return Usage::default() };
    let siblings = stored.map(|record| &*record.siblings);
    let goes = |live: &LiveVersion| {
        survivors == Survivors::LastWrite
            || live.dots.iter().all(|dot| context.vector.contains(dot))
    };
    let versions = siblings.map(Siblings::versions).unwrap_or_default();
    let gone = versions.iter().filter(|live| goes(live));
    let gone: usize = gone.map(|live| live.version.payload.len_bytes()).sum();
    let new = value.len() + if stored.is_none() { key.key.len() } else { 0 };
    Usage {
        keys: u64::from(!siblings.is_some_and(has_value)),
        bytes: new.saturating_sub(gone) as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::causality::VersionVector;
    use crate::id::{Actor, Dot, Incarnation, KeyspaceId, NodeId, PartitionId};
    use crate::version::Version;

    fn usage(keys: u64, bytes: u64) -> Usage {
        Usage { keys, bytes }
    }

    fn key() -> StoreKey {
        let key = Bytes::from_static(b"cart");
        StoreKey { partition: PartitionId(0), keyspace: KeyspaceId(7), key }
    }

    fn draft(payload: Payload) -> Draft {
        let labels = BTreeMap::new();
        Draft { payload, schema: 0, ttl_ms: None, labels, request: None }
    }

    fn value(len: usize) -> Payload {
        Payload::Value(vec![7; len].into())
    }

    fn record(len: usize) -> Record {
        let actor = Actor { node: NodeId(1), incarnation: Incarnation(1), epoch: 0 };
        let dot = Dot { actor, counter: 1 };
        let version = Version::plain(dot, vec![7; len], 1);
        let mut siblings = Siblings::new();
        siblings.put(&VersionVector::new(), dot, Arc::new(version));
        Record { siblings: Arc::new(siblings), ..Record::default() }
    }

    #[test]
    fn a_quota_refuses_what_grows_and_nothing_else() {
        let quota = Quota { keys: 3, bytes: 1_000, ..Quota::default() };
        let allowance = |told| Allowance { quota, told };
        let (there, key) = (record(100), key());
        let seen = Context::of(&there.siblings);
        let check = |stored: Option<&Record>, payload, context: &Context, held, told| {
            let put = (&draft(payload), context, 5);
            allowance(told).check((&key, stored), put, Survivors::All, held)
        };
        let (blind, none) = (Context::default(), Usage::default());
        assert_eq!(check(None, value(50), &blind, usage(2, 200), none), Ok(usage(1, 54)));
        let full = Err(WriteRefused::OverKeys { found: 3, max: 3 });
        assert_eq!(check(None, value(50), &blind, usage(3, 200), none), full);
        assert_eq!(check(None, value(50), &blind, none, usage(3, 200)), full, "as told");
        assert_eq!(check(Some(&there), value(50), &blind, usage(3, 200), none), Ok(usage(0, 50)));
        let full = Err(WriteRefused::OverBytes { found: 960, added: 50, max: 1_000 });
        assert_eq!(check(Some(&there), value(50), &blind, usage(3, 960), none), full);
        let over = usage(9, 9_000);
        assert_eq!(
            check(Some(&there), value(100), &seen, over, over),
            Ok(none),
            "as large as before"
        );
        assert_eq!(check(None, Payload::Tombstone, &blind, over, over), Ok(none), "a delete");
        let large = check(Some(&there), value(101), &seen, over, none);
        assert_eq!(large, Err(WriteRefused::OverBytes { found: 9_000, added: 1, max: 1_000 }));
    }
}
