//! Versions that end: when one that has expired is gone for good.
//!
//! A version that was put with a time to live carries the moment at which it expires: its timestamp,
//! which is the clock of the node that minted it unless what it replaces is later, plus that time.
//! From then on three things happen, by three clocks:
//! - *Readers* do not get it any more, by the clock of the node that answers. Near that moment two
//!   nodes answer differently, by as much as their clocks differ.
//! - *Limits* do not count it, by the clock of the node that mints.
//! - *Stores* let it go once the clocks of **all members** are past it by [`MARGIN_MS`]. Until then it
//!   is causally as live as any: a clock that runs ahead loses nothing, one that lags and a member
//!   that is away delay it.
//!
//! # What all clocks have passed
//! Members tell one another with gossip what they have heard of everybody's clock, so it spreads as a
//! catalogue does. What was heard of a clock is a moment that it has been past, however old the word
//! is. [`Clocks::passed_ms`] is the least of all, the own one as it is now.
//!
//! # How a version goes
//! - Its dot goes from live to dead, as if a put had seen it ([`Siblings::expire`]). That is the later
//!   state of a dot, so any sync spreads it, owners that do it at different times agree, and nothing
//!   that lives is touched or revived. If nothing else is left the object is a deleted one, and is
//!   forgotten like any other, by a round of collection.
//! - Where the last write wins it becomes a tombstone of the same write instead: an older write that
//!   arrives late must still lose against it. [`Version::outranks`] makes the tombstone the later state.
//!
//! Owners do so at each put of the key, and when the moment comes that their store's index names
//! ([`crate::collect::Listed`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::causality::{Siblings, Survivors};
use crate::id::NodeId;
use crate::version::{Payload, Version};

/// How far all clocks must be past a version's end before a store lets it go, in milliseconds.
pub const MARGIN_MS: u64 = 1_000;

/// What a node has heard of the members' clocks: milliseconds since 1970 (UTC), by each one's own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clocks(BTreeMap<NodeId, u64>);

impl Clocks {
    /// A member told what it knows.
    pub fn heard(&mut self, told: &[(NodeId, u64)]) {
        for (node, clock_ms) in told {
            let known = self.0.entry(*node).or_default();
            *known = (*clock_ms).max(*known);
        }
    }

    /// What node `me`, whose clock says `now_ms`, has to tell of the `members`. Nothing else is
    /// remembered from then on.
    pub fn told(&mut self, members: &[NodeId], (me, now_ms): (NodeId, u64)) -> Vec<(NodeId, u64)> {
        self.0.retain(|node, _| members.contains(node));
        let others = self.0.iter().filter(|(node, _)| **node != me);
        others.map(|(node, clock_ms)| (*node, *clock_ms)).chain([(me, now_ms)]).collect()
    }

    /// The moment that the clocks of all `members` are past by [`MARGIN_MS`], for node `me`, whose
    /// clock says `now_ms`; 0 if one was not heard of.
    pub fn passed_ms(
        &self,
        members: impl Iterator<Item = NodeId>,
        (me, now_ms): (NodeId, u64),
    ) -> u64 {
        let others = members.filter(|node| *node != me);
        let clocks = others.map(|node| self.0.get(&node).copied().unwrap_or(0));
        clocks.min().unwrap_or(now_ms).min(now_ms).saturating_sub(MARGIN_MS)
    }
}

impl Version {
    /// Whether all clocks are past its end, if `passed_ms` is what they are past.
    fn is_over(&self, passed_ms: u64) -> bool {
        self.payload.value().is_some() && self.expires_at_ms.is_some_and(|at| at <= passed_ms)
    }

    /// Whether it is what is left of a version that has expired, where the last write wins.
    pub(crate) fn is_ended(&self) -> bool {
        self.payload == Payload::Tombstone && self.expires_at_ms.is_some()
    }
}

impl Siblings {
    /// Lets go of what expired before `passed_ms`, which the clocks of all members are past.
    pub fn expire(&mut self, passed_ms: u64, survivors: Survivors) {
        match survivors {
            Survivors::All => self.kill(|version| version.is_over(passed_ms)),
            Survivors::LastWrite => self.replace(|version| {
                let payload = Payload::Tombstone;
                version.is_over(passed_ms).then(|| Version { payload, ..Version::clone(version) })
            }),
        }
    }

    /// When the first of the versions that have a value expires.
    pub fn first_end_ms(&self) -> Option<u64> {
        let values = self.live().filter(|(_, version)| version.payload.value().is_some());
        values.filter_map(|(_, version)| version.expires_at_ms).min()
    }

    fn replace(&mut self, other: impl Fn(&Arc<Version>) -> Option<Version>) {
        let mut replaced: BTreeMap<*const Version, Option<Arc<Version>>> = BTreeMap::new();
        for version in self.live_mut() {
            let new = replaced.entry(Arc::as_ptr(version));
            if let Some(new) = new.or_insert_with(|| other(version).map(Arc::new)) {
                *version = new.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_clock_alone_has_passed_nothing() {
        let members = [1, 2, 3].map(NodeId);
        let mut clocks = Clocks::default();
        let passed =
            |clocks: &Clocks, now_ms| clocks.passed_ms(members.into_iter(), (NodeId(1), now_ms));
        assert_eq!(passed(&clocks, 90_000), 0);
        clocks.heard(&[(NodeId(2), 50_000)]);
        assert_eq!(passed(&clocks, 90_000), 0, "one was not heard of");
        clocks.heard(&[(NodeId(3), 70_000), (NodeId(2), 40_000)]);
        assert_eq!(passed(&clocks, 90_000), 50_000 - MARGIN_MS, "the slowest decides");
        assert_eq!(passed(&clocks, 45_000), 45_000 - MARGIN_MS, "be it the own one");
        assert_eq!(clocks.passed_ms([NodeId(1)].into_iter(), (NodeId(1), 9_000)), 8_000);
        let told = clocks.told(&members[..2], (NodeId(1), 8));
        assert_eq!(told, [(NodeId(2), 50_000), (NodeId(1), 8)], "of members only");
    }
}
