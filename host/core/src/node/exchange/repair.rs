//! Repairing the keys that differ, a batch at a time: the peer's objects are read at once, each is
//! joined here, and the join goes back if it is more than the peer has.

use std::sync::Arc;

use bytes::Bytes;

use super::compare::{Exchange, Step};
use super::{ExchangeReason, Wish};
use crate::causality::{Siblings, VersionVector};
use crate::event::{ExchangeEnd, Notice, StoreFailure, Stored};
use crate::node::surroundings::Surroundings;
use crate::tree::{Held, TreeQuery};

/// The most keys of a batch that the peer lacks: their objects are of this node, and of any size.
pub const GIVEN_MAX: usize = 32;

/// How far the repair of a key is.
#[derive(Debug)]
pub(super) enum Repair {
    /// What the peer holds is being joined with the own object.
    Joining {
        theirs: Option<Arc<Siblings>>,
        /// Whether the peer's record is damaged.
        is_damaged: bool,
    },
    /// The join is on its way to the peer, whose newest lack was written at this time.
    Giving(Option<u64>),
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Repaired,
    /// One side's record is damaged, and the other has none that is whole.
    Damaged,
    Failed,
}

impl Exchange {
    /// The next keys to be repaired that the peer lacks, and those that it has something of.
    fn batch(&mut self, keys_max: usize, given_max: usize) -> (Vec<Bytes>, Vec<Bytes>) {
        let (mut given, mut asked) = (Vec::new(), Vec::new());
        while given.len() < given_max
            && asked.len() < keys_max
            && let Some((key, is_theirs)) = self.differing.pop_front()
        {
            if is_theirs { asked.push(key) } else { given.push(key) }
        }
        (given, asked)
    }

    fn count(&mut self, end: End) {
        self.figures.keys_repaired += u64::from(end == End::Repaired);
        self.figures.keys_damaged += u64::from(end == End::Damaged);
    }

    /// Starts the next batch if the last one is through, or goes on behind the page.
    pub(super) fn go_on_repairing(&mut self, around: &dyn Surroundings) {
        let Step::Repairs { next } = &mut self.step else { return };
        if !self.repairs.is_empty() {
            return;
        }
        let next = next.take();
        let keys_max = around.window(TreeQuery::OBJECTS_MAX);
        let (given, asked) = self.batch(keys_max, around.window(GIVEN_MAX));
        if given.is_empty() && asked.is_empty() {
            return self.page_ended(next);
        }
        given.into_iter().for_each(|key| self.repair(key, Held::Nothing));
        if asked.is_empty() {
            self.step = Step::Repairs { next };
            return self.go_on_repairing(around);
        }
        self.step = Step::Objects { asked: asked.clone(), next };
        self.ask_for_objects(asked);
    }

    /// The peer's objects of some keys are here: of the first ones, as many as it could send.
    pub(super) fn objects_read(
        &mut self,
        around: &dyn Surroundings,
        asked: &[Bytes],
        theirs: Vec<Held>,
        next: Option<Bytes>,
    ) {
        // The ring may have changed since the exchange began.
        let is_void = self.reason != ExchangeReason::Leave && !around.may_hold(self.partition);
        if is_void || theirs.is_empty() || theirs.len() > asked.len() {
            return self.end(ExchangeEnd::Failed);
        }
        let left = asked[theirs.len()..].iter().rev().map(|key| (key.clone(), true));
        left.for_each(|key| self.differing.push_front(key));
        self.is_peer_whole &= !theirs.contains(&Held::Damaged);
        self.step = Step::Repairs { next };
        for (key, held) in asked.iter().zip(theirs) {
            self.repair(key.clone(), held);
        }
        self.go_on_repairing(around);
    }

    /// Joins what the peer holds of a key with the own object, or reads that if the peer has
    /// nothing that is whole.
    fn repair(&mut self, key: Bytes, held: Held) {
        let is_damaged = held == Held::Damaged;
        let theirs = match held {
            Held::Whole(siblings) => Some(siblings),
            Held::Nothing | Held::Damaged => None,
        };
        if self.reason == ExchangeReason::Fill && theirs.is_none() {
            return self.count(if is_damaged { End::Damaged } else { End::Repaired });
        }
        let repair = Repair::Joining { theirs: theirs.clone(), is_damaged };
        self.repairs.insert(key.clone(), repair);
        self.join(key, theirs);
    }

    /// The own object of a key was read, joined with what the peer holds of it.
    pub(super) fn joined(
        &mut self,
        around: &dyn Surroundings,
        key: &Bytes,
        result: Result<Option<Stored>, StoreFailure>,
    ) {
        let gained_ms = result.as_ref().ok().and_then(|stored| stored.as_ref()?.gained_ms);
        self.was_stale(gained_ms);
        let Some(repair) = self.repairs.get_mut(key) else { return };
        let Repair::Joining { theirs, is_damaged } = &repair else { return };
        let end = match result {
            Ok(Some(Stored { siblings: ours, .. })) => {
                let is_taking = self.reason == ExchangeReason::Fill;
                if !is_taking && theirs.as_ref().is_none_or(|theirs| **theirs != *ours) {
                    let nothing = VersionVector::default();
                    let heard_of = theirs.as_ref().map_or(&nothing, |theirs| theirs.vector());
                    // What was lost by damage is no lag.
                    let lacked_ms = ours.newest_beyond(heard_of).filter(|_| !is_damaged);
                    *repair = Repair::Giving(lacked_ms);
                    return self.give(key.clone(), ours);
                }
                End::Repaired
            }
            Ok(None) if *is_damaged => End::Damaged,
            Ok(None) => End::Repaired,
            Err(StoreFailure::Damaged) if theirs.is_none() => End::Damaged,
            Err(_) => End::Failed,
        };
        self.repaired(around, key, end);
    }

    /// The peer has synced the object of a key, or has not.
    pub(super) fn given(&mut self, around: &dyn Surroundings, key: &Bytes, is_synced: bool) {
        if let Some(Repair::Giving(lacked_ms)) = self.repairs.get(key) {
            self.was_stale(lacked_ms.filter(|_| is_synced));
            let end = if is_synced { End::Repaired } else { End::Failed };
            self.repaired(around, key, end);
        }
    }

    /// An owner has got what it lacked; who is only becoming one, or was robbed of its store, was not late.
    fn was_stale(&mut self, written_ms: Option<u64>) {
        let is_late = matches!(
            self.reason,
            ExchangeReason::Schedule | ExchangeReason::Recovery | ExchangeReason::Operator(..)
        );
        let late = self.keyspaces.front().copied().zip(written_ms).filter(|_| is_late);
        let notice = |(keyspace, written_ms)| Wish::Notice(Notice::WasStale(keyspace, written_ms));
        self.wishes.extend(late.map(notice));
    }

    fn repaired(&mut self, around: &dyn Surroundings, key: &Bytes, end: End) {
        self.repairs.remove(key);
        self.count(end);
        self.go_on_repairing(around);
    }
}
