//! How much there is of each keyspace.
//!
//! *Counted* is what a data store holds: keys with a value, and the bytes of all objects, tombstones
//! included. The store keeps that with its hash trees ([`crate::tree`]), so it is right whenever they
//! are, and too little while they are counted anew.
//!
//! *Told*: each member tells the others what it holds ([`UsageReport`]) with gossip. A keyspace with
//! n replicas is held n times, so the sum over the members, divided by n, is about what there is of
//! it; and no store holds a key twice, so it is no less than what any one of them holds
//! ([`Usages::estimate`]). Too little is known while a lost store is refilled or a member is new;
//! too much while partitions are handed over, for two nodes hold them.
//!
//! What quotas make of it: [`crate::quota`].

use std::collections::BTreeMap;

use crate::causality::Siblings;
use crate::id::{KeyspaceId, NodeId};
use crate::keys::StoreKey;
use crate::version::Payload;

/// How much there is of a keyspace, or of a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Keys that have a value. One that has expired is one until the store lets it go.
    pub keys: u64,
    /// Bytes of all keys and their encoded objects, those that are deleted and not forgotten included.
    pub bytes: u64,
}

impl Usage {
    /// Of one key.
    pub fn of(key: &StoreKey, siblings: &Siblings) -> Self {
        let bytes = key.key.len() + siblings.canonical().len();
        Usage { keys: u64::from(has_value(siblings)), bytes: bytes as u64 }
    }

    /// Both together.
    pub fn plus(self, other: Usage) -> Usage {
        let keys = self.keys.wrapping_add(other.keys);
        Usage { keys, bytes: self.bytes.wrapping_add(other.bytes) }
    }

    /// This one without `other`, which is a part of it.
    pub fn minus(self, other: Usage) -> Usage {
        let keys = self.keys.wrapping_sub(other.keys);
        Usage { keys, bytes: self.bytes.wrapping_sub(other.bytes) }
    }

    /// The larger of each.
    pub fn max(self, other: Usage) -> Usage {
        Usage { keys: self.keys.max(other.keys), bytes: self.bytes.max(other.bytes) }
    }
}

/// Whether one of the versions is a value.
pub(crate) fn has_value(siblings: &Siblings) -> bool {
    siblings.live().any(|(_, version)| matches!(version.payload, Payload::Value(_)))
}

/// What a member tells of its data store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageReport {
    /// By keyspace.
    pub usages: BTreeMap<KeyspaceId, Usage>,
    /// Whether it holds nothing of those that are not named; else they are as told before.
    pub is_all: bool,
    /// Whether all is counted; else there is more.
    pub is_complete: bool,
    /// Whether the receiver has told the sender nothing yet, and is to tell all.
    pub wants_all: bool,
}

/// What there is of a keyspace, as far as a node has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// About as much as one copy of everything.
    pub one_copy: Usage,
    /// What all members hold together.
    pub stored_bytes: u64,
    /// Members of which it is not known, or not all.
    pub unknown: u32,
}

/// What all members have told.
#[derive(Debug, Default)]
pub struct Usages(BTreeMap<NodeId, UsageReport>);

impl Usages {
    /// Takes in what a member tells. Says whether that was news.
    pub fn take(&mut self, node: NodeId, report: UsageReport) -> bool {
        let known = self.0.entry(node).or_default();
        let before = known.clone();
        known.is_complete = report.is_complete;
        match (report.is_complete, report.is_all) {
            (true, true) => known.usages = report.usages,
            (true, false) => known.usages.extend(report.usages),
            // It was more before, or will be.
            (false, _) => report.usages.into_iter().for_each(|(keyspace, usage)| {
                let known = known.usages.entry(keyspace).or_default();
                *known = known.max(usage);
            }),
        }
        *known != before
    }

    /// Whether a member has told anything.
    pub fn has(&self, node: NodeId) -> bool {
        self.0.contains_key(&node)
    }

    /// Forgets all members and keyspaces but these.
    pub fn keep(
        &mut self,
        is_member: impl Fn(&NodeId) -> bool,
        is_keyspace: impl Fn(&KeyspaceId) -> bool,
    ) {
        self.0.retain(|node, _| is_member(node));
        let reports = self.0.values_mut();
        reports.for_each(|report| report.usages.retain(|keyspace, _| is_keyspace(keyspace)));
    }

    /// What there is of a keyspace of which `replicas` of these members hold each key.
    pub fn estimate(&self, keyspace: KeyspaceId, replicas: usize, members: &[NodeId]) -> Estimate {
        let (mut sum, mut most, mut unknown) = (Usage::default(), Usage::default(), 0);
        for member in members {
            let report = self.0.get(member);
            unknown += u32::from(!report.is_some_and(|report| report.is_complete));
            let held = report.and_then(|report| report.usages.get(&keyspace));
            let held = held.copied().unwrap_or_default();
            let keys = sum.keys.saturating_add(held.keys);
            sum = Usage { keys, bytes: sum.bytes.saturating_add(held.bytes) };
            most = most.max(held);
        }
        let replicas = replicas.clamp(1, members.len().max(1)) as u64;
        let mean = Usage { keys: sum.keys / replicas, bytes: sum.bytes / replicas };
        Estimate { one_copy: mean.max(most), stored_bytes: sum.bytes, unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARTS: KeyspaceId = KeyspaceId(7);
    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn usage(keys: u64, bytes: u64) -> Usage {
        Usage { keys, bytes }
    }

    fn report(held: Usage, is_complete: bool) -> UsageReport {
        UsageReport {
            usages: BTreeMap::from([(CARTS, held)]),
            is_all: true,
            is_complete,
            wants_all: false,
        }
    }

    #[test]
    fn what_there_is_is_the_mean_of_the_copies_and_no_less_than_any() {
        let mut usages = Usages::default();
        assert!(NODES.into_iter().all(|node| usages.take(node, report(usage(6, 600), true))));
        let found = usages.estimate(CARTS, 2, &NODES);
        assert_eq!(found, Estimate { one_copy: usage(9, 900), stored_bytes: 1_800, unknown: 0 });
        // A lost store holds nothing; those that hold all know better.
        usages.take(NODES[0], report(usage(0, 0), true));
        assert_eq!(usages.estimate(CARTS, 3, &NODES).one_copy, usage(6, 600));
        // Fewer members than n.
        assert_eq!(usages.estimate(CARTS, 3, &NODES[1..2]).one_copy, usage(6, 600));
        assert_eq!(usages.estimate(KeyspaceId(8), 3, &NODES), Estimate::default());
    }

    #[test]
    fn who_counts_anew_is_believed_no_less_than_before() {
        let mut usages = Usages::default();
        assert!(usages.take(NODES[0], report(usage(6, 600), true)));
        assert!(usages.take(NODES[0], report(usage(1, 100), false)));
        let alone = &NODES[..1];
        let found = usages.estimate(CARTS, 1, alone);
        assert_eq!((found.one_copy, found.unknown), (usage(6, 600), 1));
        let changes = UsageReport { is_all: false, ..report(usage(2, 200), true) };
        usages.take(NODES[0], changes.clone());
        assert!(!usages.take(NODES[0], changes), "no news");
        let found = usages.estimate(CARTS, 1, alone);
        assert_eq!((found.one_copy, found.unknown), (usage(2, 200), 0));
        usages.keep(|_| true, |_| false);
        assert_eq!(usages.estimate(CARTS, 1, alone).one_copy, Usage::default());
    }
}
