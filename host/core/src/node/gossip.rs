//! The catalogue between nodes: each period the digest goes to a random member, section 4.8 of
//! the Dynamo paper; who has another one sends its own and gets the joined one back. A change
//! made here is sent to everyone at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand_chacha::rand_core::Rng;

use super::{Node, Purpose, Timer};
use crate::catalogue::{
    Catalogue, CatalogueChange, CatalogueDigest, ChangeError, Keyspace, Removed, Resizes,
};
use crate::event::{Action, ChangeFailure, CommitError, Notice, Ticket, Token};
use crate::id::NodeId;
use crate::message::Message;
use crate::region::Regions;

impl Node {
    /// Becomes part of a cluster, or starts as part of one.
    pub(super) fn adopt(&mut self, catalogue: Arc<Catalogue>) {
        if self.catalogue.is_some() {
            // Of a cluster that runs: what was changed here meanwhile stands.
            return self.catalogue_received(self.id, &catalogue, false);
        }
        self.take_over(catalogue);
        self.expect_hints();
        let now_ms = self.now.monotonic_ms;
        self.timers.set(now_ms, Timer::Roster);
        self.timers.set(now_ms, Timer::Gossip);
        self.timers.set(now_ms, Timer::Handoff);
        self.timers.set(now_ms, Timer::Collect);
        self.timers.set(now_ms, Timer::Exchange);
        self.timers.set(now_ms, Timer::Transfer);
    }

    pub(super) fn take_over(&mut self, catalogue: Arc<Catalogue>) {
        self.parts = CatalogueDigest::of(&catalogue);
        self.digest = self.parts.whole();
        self.keyspaces = catalogue.live_keyspaces().map(|k| (k.id, k.clone())).collect();
        self.deleted = catalogue.deleted_keyspaces().collect();
        self.regions = Regions::of(&catalogue);
        self.hedges.keep(|node| catalogue.members.contains_key(&node));
        let before = self.catalogue.replace(catalogue.clone());
        self.act(Action::CatalogueChanged(catalogue));
        self.keep_usages();
        self.ring_taken_over(before.as_deref());
        self.moves_taken_over(before.as_deref());
        self.resizes_taken_over(before.is_none());
        self.look_at_standing();
    }

    pub(super) fn change(&mut self, ticket: Ticket, change: &CatalogueChange) {
        let Some(catalogue) = &self.catalogue else {
            let failure = ChangeFailure::Refused(ChangeError::NoCluster);
            return self.act(Action::ChangeDone(ticket, Err(failure)));
        };
        if let Some(Removed { ring_version, .. }) = catalogue.removed.get(&self.id) {
            let failure = ChangeError::Removed { ring_version: *ring_version }.into();
            return self.act(Action::ChangeDone(ticket, Err(failure)));
        }
        let mut changed = Catalogue::clone(catalogue);
        if let Err(error) = change.apply(&mut changed) {
            return self.act(Action::ChangeDone(ticket, Err(error.into())));
        }
        self.publish(changed, Purpose::Change(ticket));
    }

    /// Takes over a catalogue that this node has changed, keeps it, and tells everyone: those who go
    /// and those who come.
    pub(super) fn publish(&mut self, changed: Catalogue, purpose: Purpose) {
        let changed = Arc::new(changed);
        let mut everyone: BTreeSet<NodeId> = self.peers().into_iter().collect();
        self.take_over(changed.clone());
        everyone.extend(self.peers());
        let token = self.effect(purpose);
        self.act(Action::Persist(token, changed.clone()));
        for peer in everyone {
            let catalogue = changed.clone();
            self.send(peer, Message::Catalogue { catalogue, is_reply_wanted: false });
        }
    }

    pub(super) fn persisted(&mut self, token: Token, result: Result<(), String>) {
        let purpose = self.effects.remove(&token);
        if let Some(Purpose::Collect(effect)) = purpose {
            return self.epochs_persisted(effect, result);
        }
        if let Some(Purpose::Moves(made)) = purpose {
            return self.moves_persisted(made, result.is_ok());
        }
        if let Some(Purpose::Backlog) = purpose {
            return self.backlog_persisted(token, result);
        }
        let Some(catalogue) = self.catalogue.clone() else { return };
        self.saves.is_catalogue_behind |= result.is_err();
        if result.is_ok() {
            self.resizes_saved(token);
        }
        let result = result.map(|()| catalogue);
        match purpose {
            Some(Purpose::Change(ticket)) => {
                let result = result.map_err(ChangeFailure::NotPersisted);
                self.act(Action::ChangeDone(ticket, result));
            }
            Some(Purpose::Commit(ticket)) => {
                let result = result.map_err(CommitError::NotPersisted);
                self.act(Action::CommitDone(ticket, result));
            }
            _ => {}
        }
    }

    pub(super) fn gossip_due(&mut self) {
        let peers = self.peers();
        if !peers.is_empty() && !self.was_removed() {
            let chosen = (self.rng.next_u64() % peers.len() as u64) as usize;
            let digest = self.digest;
            self.send(peers[chosen], Message::CatalogueDigest { digest });
            let members: Vec<NodeId> = peers.iter().copied().chain([self.id]).collect();
            let clocks = self.collection.clocks_told(&members, (self.id, self.now.wall_ms));
            self.send(peers[chosen], clocks);
        }
        self.act(Action::ReadUsage);
        self.saves_due();
        self.finish_commit();
        let at_ms = self.in_ms(self.settings.gossip_period_ms);
        self.timers.set(at_ms, Timer::Gossip);
    }

    pub(super) fn digest_received(&mut self, from: NodeId, digest: [u8; 32]) {
        if let Some(catalogue) = self.catalogue.clone()
            && digest != self.digest
        {
            self.send(from, Message::Catalogue { catalogue, is_reply_wanted: true });
        }
    }

    pub(super) fn catalogue_received(
        &mut self,
        from: NodeId,
        theirs: &Catalogue,
        is_reply_wanted: bool,
    ) {
        let Some(ours) = &self.catalogue else { return };
        let mut joined = Catalogue::clone(ours);
        if joined.join(theirs).is_err() {
            return self.notice(Notice::ForeignCatalogue(from));
        }
        if joined != **ours {
            overruled(ours, &joined).for_each(|name| {
                self.out.push(Action::Notice(Notice::Overruled(name.to_owned())));
            });
            let is_staging_lost = ours.staged.version == joined.staged.version
                && ours.staged != joined.staged
                && !ours.staged_changes().is_empty();
            if is_staging_lost {
                self.out.push(Action::Notice(Notice::StagingOverruled));
            }
            let joined = Arc::new(joined);
            self.take_over(joined.clone());
            let token = self.effect(Purpose::Gossip);
            self.act(Action::Persist(token, joined));
        }
        if let Some(catalogue) = self.catalogue.clone()
            && is_reply_wanted
            && *catalogue != *theirs
        {
            self.send(from, Message::Catalogue { catalogue, is_reply_wanted: false });
        }
    }
}

/// Keyspaces of which a field was replaced by another of the same version: someone made a
/// change at the same time, and won.
fn overruled<'a>(ours: &'a Catalogue, joined: &'a Catalogue) -> impl Iterator<Item = &'a str> {
    ours.live_keyspaces().filter_map(|old| {
        let new = joined.keyspace(&old.name).filter(|new| new.id == old.id)?;
        let lost = old.quorums.version == new.quorums.version && old.quorums != new.quorums
            || old.durability.version == new.durability.version && old.durability != new.durability
            || old.reconcile.version == new.reconcile.version && old.reconcile != new.reconcile
            || old.signed_by.version == new.signed_by.version && old.signed_by != new.signed_by
            || old.quota.version == new.quota.version && old.quota != new.quota
            || is_resize_lost(old, new);
        lost.then_some(old.name.as_str())
    })
}

/// Whether a change of n gave way to another one that was begun at the same time.
fn is_resize_lost(old: &Keyspace, new: &Keyspace) -> bool {
    let (old, new) = (&old.resizes, &new.resizes);
    let to = |resizes: &Resizes| resizes.present.as_ref().map(|resize| resize.to);
    old.number == new.number && to(new).is_some() && to(old) != to(new)
}
