//! Send epochs: a node sends every replica write under its present one, and refuses what others
//! sent under one that they have closed. They are kept on disk by both sides, so that they never go
//! back and a message from before a restart is as old as it is.
//!
//! One save is under way at a time. Whatever is to be kept meanwhile shares the next one: many
//! fences that are ready raise the epoch once.

use std::collections::BTreeMap;

use crate::event::Epochs;
use crate::id::{NodeId, RequestId};
use crate::message::ReplicaError;

/// Whether `later` is a later epoch than `epoch`, and one that can have come about: rounds count one
/// by one. A peer that says anything could close all that there will ever be.
fn is_epoch_after(later: u64, epoch: u64) -> bool {
    later > epoch && later - epoch <= 1 << 40
}

/// Who waits until epochs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A fence: the own epoch is to be raised.
    Raise(NodeId, RequestId),
    /// A job that seals: the floors are to be kept.
    Seal(u64),
    /// Nobody: a peer knows a later own epoch.
    Nobody,
}

/// The epochs of a node, and their way to disk.
#[derive(Debug, Default)]
pub(super) struct EpochKeeper {
    /// Under which this node sends.
    used: u64,
    /// What is kept, or being kept.
    epochs: Epochs,
    /// For whom they are being saved, if they are.
    saving: Option<Vec<Waiter>>,
    waiting: Vec<Waiter>,
}

impl EpochKeeper {
    /// Goes on with what was kept.
    pub(super) fn new(epochs: Epochs) -> Self {
        EpochKeeper { used: epochs.own, epochs, ..EpochKeeper::default() }
    }

    /// The epoch that a replica write carries.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Whether what `from` sent under `epoch` is taken.
    pub(super) fn check(&self, from: NodeId, epoch: u64) -> Result<(), ReplicaError> {
        let floor = self.epochs.floors.get(&from).copied().unwrap_or(0);
        match epoch >= floor {
            true => Ok(()),
            false => Err(ReplicaError::StaleEpoch { floor }),
        }
    }

    /// Takes later floors in, and forgets those of who is no member: that one is refused anyway.
    pub(super) fn take_floors(
        &mut self,
        floors: &[(NodeId, u64)],
        is_member: impl Fn(NodeId) -> bool,
    ) {
        let known: &mut BTreeMap<NodeId, u64> = &mut self.epochs.floors;
        for (node, floor) in floors {
            let known = known.entry(*node).or_insert(0);
            if is_epoch_after(*floor, *known) {
                *known = *floor;
            }
        }
        known.retain(|node, _| is_member(*node));
    }

    /// A peer has closed what is below `floor`. If that is later than what this node knows, the file
    /// that keeps it was lost or restored. Gives what is to be saved.
    pub(super) fn catch_up(&mut self, floor: u64) -> Option<Epochs> {
        if !is_epoch_after(floor, self.epochs.own) {
            return None;
        }
        self.epochs.own = floor;
        self.keep(Waiter::Nobody)
    }

    /// `waiter` waits until all is kept as it is now. Gives what is to be saved, if nothing is
    /// being saved already.
    pub(super) fn keep(&mut self, waiter: Waiter) -> Option<Epochs> {
        self.waiting.push(waiter);
        self.save()
    }

    fn save(&mut self) -> Option<Epochs> {
        if self.saving.is_some() || self.waiting.is_empty() {
            return None;
        }
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.iter().any(|waiter| matches!(waiter, Waiter::Raise(..))) {
            self.epochs.own = self.epochs.own.saturating_add(1);
        }
        self.saving = Some(waiting);
        Some(self.epochs.clone())
    }

    /// `saved` is on disk, or not. Gives who waited for it, and what is to be saved next. A raised
    /// epoch is used from now on only: otherwise a crash could lead to a second raise to the same one.
    pub(super) fn kept(&mut self, saved: Option<u64>) -> (Vec<Waiter>, Option<Epochs>) {
        if let Some(own) = saved {
            self.used = self.used.max(own);
        }
        let waiters = self.saving.take().unwrap_or_default();
        (waiters, self.save())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_during_a_save_shares_the_next() {
        let mut keeper = EpochKeeper::default();
        let raise = |request| Waiter::Raise(NodeId(2), request);
        let first = keeper.keep(raise(1)).expect("a save");
        assert_eq!(first.own, 1);
        assert_eq!(keeper.keep(raise(2)), None);
        assert_eq!(keeper.keep(raise(3)), None);
        assert_eq!(keeper.used(), 0, "not kept yet");
        let (waiters, second) = keeper.kept(Some(first.own));
        assert_eq!((waiters, keeper.used()), (vec![raise(1)], 1));
        let second = second.expect("a second save");
        assert_eq!(second.own, 2, "one raise for both");
        assert_eq!(keeper.kept(None).0, [raise(2), raise(3)]);
        assert_eq!(keeper.used(), 1, "it was not saved");
        assert_eq!(keeper.keep(raise(4)).map(|epochs| epochs.own), Some(3), "never the same again");
    }

    #[test]
    fn floors_never_go_back_nor_further_than_rounds_count() {
        let mut keeper = EpochKeeper::default();
        keeper.take_floors(&[(NodeId(2), 5), (NodeId(3), u64::MAX)], |_| true);
        assert_eq!(keeper.check(NodeId(2), 4), Err(ReplicaError::StaleEpoch { floor: 5 }));
        assert_eq!(keeper.check(NodeId(3), 0), Ok(()));
        keeper.take_floors(&[(NodeId(2), 3)], |_| true);
        assert!(keeper.check(NodeId(2), 4).is_err());
        assert_eq!(keeper.catch_up(0), None);
        assert_eq!(keeper.catch_up(7).map(|epochs| epochs.own), Some(7));
    }
}
