//! Collection in its node: how its wishes are granted, and what of the node it may look at.

use super::{CollectEffect, CollectFigures, Collection, STEP_MS, Wish};
use crate::collect::{DuePlace, IndexPage, IndexQuery};
use crate::event::{Action, Epochs, StoreFailure, Stored};
use crate::id::{NodeId, PartitionId, RequestId, Token};
use crate::keys::StoreKey;
use crate::message::{Message, ReplicaError};
use crate::node::outgoing::Asker;
use crate::node::surroundings::Surroundings;
use crate::node::{InFlight, Node, Purpose};
use crate::tree::ObjectHash;
use crate::write::Change;

impl Node {
    /// How collection goes.
    pub fn collect_figures(&self) -> &CollectFigures {
        &self.collection.figures
    }

    /// Goes on with the epochs that were kept. To be called before the first event.
    pub fn keep_epochs(&mut self, epochs: Epochs) {
        self.collection.keep(epochs);
    }

    /// Tells collection something, and grants what it wants.
    pub(in crate::node) fn collecting(
        &mut self,
        tell: impl FnOnce(&mut Collection, &mut dyn Surroundings),
    ) {
        let mut collection = std::mem::take(&mut self.collection);
        tell(&mut collection, self);
        let wishes = std::mem::take(&mut collection.wishes);
        self.collection = collection;
        wishes.into_iter().for_each(|wish| self.grant_to_collection(wish));
    }

    fn grant_to_collection(&mut self, wish: Wish) {
        match wish {
            Wish::Send(to, message) => self.send(to, message),
            Wish::Ask(to, request, message) => {
                self.ask_as(request, (to, Asker::Collection), STEP_MS, message);
            }
            Wish::Gossip(to) => {
                let digest = self.digest;
                if to != self.id {
                    self.send(to, Message::CatalogueDigest { digest });
                }
            }
            Wish::ReadIndex(query, count_max) => {
                let effect = match query {
                    IndexQuery::Forgettable { .. } => CollectEffect::Forgettable,
                    IndexQuery::Due { .. } => CollectEffect::Due,
                };
                let token = self.effect(Purpose::Collect(effect));
                self.act(Action::ReadIndex { token, query, count_max });
            }
            Wish::Write { effect, key, change, is_sync } => {
                self.write(Purpose::Collect(effect), key, change, Vec::new(), is_sync);
            }
            Wish::Expire { key, due_ms, passed_ms } => {
                let change = Change::Expire { passed_ms, due_ms };
                let purpose = Purpose::Collect(CollectEffect::Expire);
                self.write(purpose, key, change, Vec::new(), false);
            }
            Wish::FindAny { effect, area, partition } => {
                let token = self.effect(Purpose::Collect(effect));
                self.act(Action::FindAny { token, area, partition });
            }
            Wish::KeepEpochs(epochs) => {
                let effect = CollectEffect::Epochs { own: epochs.own };
                let token = self.effect(Purpose::Collect(effect));
                self.act(Action::PersistEpochs(token, epochs));
            }
            Wish::At(at_ms, timer) => self.timers.set(at_ms, timer),
            Wish::Notice(notice) => self.notice(notice),
        }
    }

    /// A write that collection wanted has ended.
    pub(in crate::node) fn collect_written(
        &mut self,
        effect: CollectEffect,
        result: Result<Stored, StoreFailure>,
    ) {
        self.collecting(|collection, around| match effect {
            CollectEffect::Candidate { job, place } => {
                collection.attested(around, (job, place), result);
            }
            CollectEffect::Expire => collection.expired(around),
            _ => {}
        });
    }

    /// The index was read.
    pub(in crate::node) fn index_read(
        &mut self,
        token: Token,
        result: Result<IndexPage, StoreFailure>,
    ) {
        let Some(Purpose::Collect(effect)) = self.effects.remove(&token) else { return };
        self.collecting(|collection, around| match effect {
            CollectEffect::Forgettable => collection.forgettable(around, forgettable(result)),
            CollectEffect::Due => collection.due_read(around, due(result)),
            _ => {}
        });
    }

    /// A store was looked through.
    pub(in crate::node) fn found_any(&mut self, token: Token, found: Result<bool, StoreFailure>) {
        let Some(Purpose::Collect(CollectEffect::Search { job })) = self.effects.remove(&token)
        else {
            return;
        };
        self.collecting(|collection, around| collection.found_any(around, job, found));
    }

    /// Epochs are kept, or not.
    pub(in crate::node) fn epochs_persisted(
        &mut self,
        effect: CollectEffect,
        result: Result<(), String>,
    ) {
        let CollectEffect::Epochs { own } = effect else { return };
        self.collecting(|collection, around| collection.epochs_kept(around, own, result));
    }

    /// The epoch that a replica write carries.
    pub(in crate::node) fn send_epoch(&self) -> u64 {
        self.collection.send_epoch()
    }

    /// Whether what `from` sent under `epoch` is taken.
    pub(in crate::node) fn open_epoch(&self, from: NodeId, epoch: u64) -> Result<(), ReplicaError> {
        match from == self.id {
            true => Ok(()),
            false => self.collection.open_epoch(from, epoch),
        }
    }

    /// A peer refused a write. If that is for its epoch, a put's is sent once more, under the present
    /// one; says whether it is.
    pub(in crate::node) fn epoch_refused(
        &mut self,
        from: NodeId,
        request: RequestId,
        error: &ReplicaError,
    ) -> bool {
        let ReplicaError::StaleEpoch { floor } = error else { return false };
        self.collecting(|collection, _| collection.epoch_refused(*floor));
        let place = match self.requests.get(&request) {
            Some(InFlight::Put(put)) => put.debts.place_of(from),
            _ => None,
        };
        let place = place.filter(|_| *floor <= self.send_epoch());
        place.map(|place| self.place(request, place)).is_some()
    }

    /// What the clocks of all members are safely past: milliseconds since 1970 (UTC).
    pub(in crate::node) fn clocks_passed_ms(&self) -> u64 {
        self.collection.clocks_passed_ms(self)
    }

    /// Whether nothing moves `partition` on this node but requests, hints and exchanges, which a
    /// round deals with itself. Whoever else carries objects between stores says so here: while
    /// the answer is no, this node takes part in no round of the partition. What this node holds
    /// of a partition that it does not own is found by step 2 without help.
    pub(in crate::node) fn is_at_rest(&self, partition: PartitionId) -> bool {
        let ring = self.catalogue.as_ref().map(|catalogue| &catalogue.ring);
        let is_moving = ring.is_none_or(|ring| !ring.moves_of(partition).is_empty());
        !is_moving && !self.is_stopping && !self.is_filling(partition)
    }
}

fn forgettable(
    result: Result<IndexPage, StoreFailure>,
) -> Result<Vec<(StoreKey, ObjectHash, bool)>, StoreFailure> {
    result.map(|page| match page {
        IndexPage::Forgettable(found) => found,
        IndexPage::Due(_) => Vec::new(),
    })
}

fn due(result: Result<IndexPage, StoreFailure>) -> Result<Vec<DuePlace>, StoreFailure> {
    result.map(|page| match page {
        IndexPage::Due(found) => found,
        IndexPage::Forgettable(_) => Vec::new(),
    })
}
