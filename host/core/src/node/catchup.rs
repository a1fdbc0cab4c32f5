//! Catching up: when a node has read enough of the other owners of a partition to hold every
//! acknowledged write, though it cannot tell what it held itself.
//!
//! A write that was acknowledged by w owners, one of which is the node in question, is held by
//! w - 1 of the other n - 1. So of any n - w + 1 others at least one holds it. The node has caught
//! up when it has exchanged the partition
//! - with all other owners: then all that exists was copied, even if some of them cannot give all
//!   that they should hold, or else two nodes that lost their disks would wait for each other for
//!   ever. An owner that was removed has nothing to give any more;
//! - or, once it has tried for [`Settings::fill_patience_ms`], for each keyspace with
//!   min(n - w + 1, n - 1) *whole* others of the keyspace's n: not being filled, and without a
//!   damaged record. An owner beyond the n holds nothing of the keyspace, and counts for nothing.
//!
//! The patience is not politeness. An acknowledgement that left before a loss may be counted
//! after it, together with others that are given after their giver was read; only who minted is
//! certain to hold such a write. All others include it, and once the patience is over such
//! puts have ended.
//!
//! While n changes and this node's copy is counted on as one that was read from all, all it must be
//! again: what is acknowledged by the one n need not be held by so many of the other
//! ([`super::resize`]).
//!
//! w is the keyspace's. A put that asked for less is certain to be found only by the first rule;
//! so is one from before w was raised. What is missed is not lost: its other copies are there, and
//! a get that meets one repairs this node.
//!
//! Who catches up: a node whose store was lost, and one that was made an owner without being
//! handed the partition ([`super::fill`]); one that takes the place of a node that was removed, or a
//! further place ([`super::transfer`]); one whose records are damaged, before it hands them over.
//! What they exchange: [`super::exchange`].
//!
//! [`Settings::fill_patience_ms`]: super::Settings::fill_patience_ms

use std::collections::BTreeMap;

use super::surroundings::Surroundings;
use crate::id::{NodeId, PartitionId};

/// Which other owners of a partition were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Catchup {
    since_ms: u64,
    /// Whether they could give all that they should hold.
    read: BTreeMap<NodeId, bool>,
}

impl Catchup {
    /// Nobody was read. It began at this time.
    pub(super) fn new(since_ms: u64) -> Self {
        Catchup { since_ms, read: BTreeMap::new() }
    }

    /// All that `node` holds is held here, too.
    pub(super) fn note(&mut self, node: NodeId, is_whole: bool) {
        self.read.insert(node, is_whole);
    }

    /// Whether `node` was read.
    pub(super) fn has_read(&self, node: NodeId) -> bool {
        self.read.contains_key(&node)
    }

    /// Whether `node` was read, and could give all that it should hold.
    pub(super) fn has_read_whole(&self, node: NodeId) -> bool {
        self.read.get(&node) == Some(&true)
    }

    /// Whether nobody was read yet.
    pub(super) fn is_new(&self) -> bool {
        self.read.is_empty()
    }

    /// Whether this node has read enough. Its place among the owners is that of `place`: its own,
    /// that of the node whose place it takes, or none if it is to be a further owner.
    pub(super) fn is_enough(
        &self,
        around: &dyn Surroundings,
        partition: PartitionId,
        place: Option<NodeId>,
    ) -> bool {
        if around.catalogue().is_none() {
            return false;
        }
        let owners = around.owners(partition);
        let is_other = |owner: &NodeId| *owner != around.me() && Some(*owner) != place;
        let mut others = owners.iter().filter(|owner| is_other(owner));
        if others.all(|owner| self.has_read(*owner) || !around.is_member(*owner)) {
            return true;
        }
        let patience_ms = around.settings().fill_patience_ms;
        if around.now().monotonic_ms < self.since_ms + patience_ms {
            return false;
        }
        around.keyspaces().values().all(|keyspace| {
            let resize = keyspace.resizes.present.as_ref();
            if resize.is_some_and(|resize| resize.counts_on(around.me())) {
                return false;
            }
            let quorums = keyspace.quorums.value;
            let n = quorums.n as usize;
            let list = &owners[..owners.len().min(n)];
            let is_concerned = place.map_or(list.len() < n, |place| list.contains(&place));
            let others = list.iter().filter(|owner| is_other(owner));
            let needed = (list.len() + 1).saturating_sub(quorums.w as usize);
            let whole = others.clone().filter(|owner| self.has_read_whole(**owner));
            !is_concerned || whole.count() >= needed.min(others.count())
        })
    }
}
