//! Send epochs: a node sends every replica write under its present one, and refuses what others
//! sent under one that they have closed. They are kept on disk by both sides, so that they never go
//! back and a message from before a restart is as old as it is.

use super::{CollectEffect, Node};
use crate::event::{Action, Epochs};
use crate::id::NodeId;
use crate::message::{ReplicaError, RequestId};
use crate::node::InFlight;

/// Whether `later` is a later epoch than `epoch`, and one that can have come about: rounds count one
/// by one. A peer that says anything could close all that there will ever be.
pub(super) fn is_epoch_after(later: u64, epoch: u64) -> bool {
    later > epoch && later - epoch <= 1 << 40
}

impl Node {
    /// Goes on with the epochs that were kept. To be called before the first event.
    pub fn keep_epochs(&mut self, epochs: Epochs) {
        self.collection.epoch = epochs.own;
        self.collection.epochs = epochs;
    }

    /// The epoch that a replica write carries.
    pub(in crate::node) fn send_epoch(&self) -> u64 {
        self.collection.epoch
    }

    /// Whether what `from` sent under `epoch` is taken.
    pub(in crate::node) fn open_epoch(&self, from: NodeId, epoch: u64) -> Result<(), ReplicaError> {
        let floor = self.collection.epochs.floors.get(&from).copied().unwrap_or(0);
        match from == self.id || epoch >= floor {
            true => Ok(()),
            false => Err(ReplicaError::StaleEpoch { floor }),
        }
    }

    /// Whether `node` is a member, as far as this node knows.
    pub(in crate::node) fn is_member(&self, node: NodeId) -> bool {
        let catalogue = self.catalogue.as_ref();
        catalogue.is_some_and(|catalogue| catalogue.members.contains_key(&node))
    }

    /// A peer refused a write. If that is for its epoch, a put's is sent once more, under the present
    /// one; says whether it is. If the peer knows a later epoch of this node than this node itself,
    /// the file that keeps it was lost or restored.
    pub(in crate::node) fn epoch_refused(
        &mut self,
        from: NodeId,
        request: RequestId,
        error: &ReplicaError,
    ) -> bool {
        let ReplicaError::StaleEpoch { floor } = error else { return false };
        if is_epoch_after(*floor, self.collection.epochs.own) {
            self.collection.epochs.own = *floor;
            self.persist_epochs(CollectEffect::CatchUp { epoch: *floor });
        }
        let place = match self.requests.get(&request) {
            Some(InFlight::Put(put)) => put.place_of(from),
            _ => None,
        };
        let place = place.filter(|_| *floor <= self.collection.epoch);
        place.map(|place| self.place(request, place)).is_some()
    }

    pub(super) fn persist_epochs(&mut self, effect: CollectEffect) {
        let token = self.collect_effect(effect);
        let epochs = self.collection.epochs.clone();
        self.act(Action::PersistEpochs(token, epochs));
    }

    /// The epochs are kept, or not. A raised one is used from now on only: otherwise a crash could
    /// lead to a second raise to the same one.
    pub(in crate::node) fn epochs_persisted(
        &mut self,
        effect: CollectEffect,
        result: Result<(), String>,
    ) {
        match effect {
            CollectEffect::Raise { from, request, epoch } => {
                self.epoch_raised(from, request, epoch, result);
            }
            CollectEffect::CatchUp { epoch } if result.is_ok() => self.use_epoch(epoch),
            CollectEffect::Seal { job } => self.floors_kept(job, result),
            _ => {}
        }
    }

    pub(super) fn use_epoch(&mut self, epoch: u64) {
        self.collection.epoch = self.collection.epoch.max(epoch);
    }
}
