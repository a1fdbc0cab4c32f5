//! Delivering the hints that this node keeps, section 4.6 of the Dynamo paper.
//!
//! Per target: list some hints, send them, and take the target off each one that it has synced.
//! A hint that changed meanwhile stays, with what was added to it, and is sent again. When the
//! list is empty the target is done, until the next hint for it is stored. What fails or gets no
//! answer is passed over, and tried again when the list starts over; a member that comes back is tried at once.
//!
//! A target that owns the key's partition no more has nothing to do with the hint any longer: it goes
//! to all owners of now, and is taken off once all of them have synced it.
//!
//! How many hints are on their way at a time gives way to the foreground: [`crate::admission`].

use std::collections::BTreeMap;

use super::outgoing::Asker;
use super::{Node, Purpose, Timer};
use crate::event::{Action, HeldHint, Notice, StoreFailure};
use crate::id::{KeyspaceId, NodeId};
use crate::keys::StoreKey;
use crate::message::{Message, ReplicaWrite};
use crate::write::Change;

/// The delivery of hints to one target.
#[derive(Debug, Default)]
pub(super) struct Handoff {
    is_listing: bool,
    /// Whether hints were stored since the list was asked for.
    is_dirty: bool,
    /// Where the next list starts.
    after: Option<StoreKey>,
    /// By the number of the attempt.
    sent: BTreeMap<u64, Sent>,
    settling: usize,
    has_failed: bool,
}

/// A hint on its way, as it was at this commit.
#[derive(Debug)]
struct Sent {
    key: StoreKey,
    sequence: u64,
    /// How many have still to sync it.
    left: usize,
}

impl Handoff {
    fn is_idle(&self) -> bool {
        !self.is_listing && self.sent.is_empty() && self.settling == 0
    }
}

impl Node {
    /// After a start anyone may be a target who is or was a member; the first empty list tells who
    /// is not.
    pub(super) fn expect_hints(&mut self) {
        let removed = self.catalogue.iter().flat_map(|catalogue| catalogue.removed.keys());
        let removed: Vec<NodeId> = removed.copied().collect();
        // This node too: what a second holder of its place held comes home as a hint for it.
        for member in self.peers().into_iter().chain(removed).chain([self.id]) {
            self.handoffs.entry(member).or_default();
        }
    }

    /// A hint for `owner` is stored here.
    pub(super) fn hint_kept(&mut self, owner: NodeId, keyspace: KeyspaceId) {
        self.notice(Notice::HintStored(owner, keyspace));
        self.expect_hint(owner);
    }

    /// A hint for `owner` could not be stored here, or only perhaps.
    pub(super) fn hint_failed(&mut self, owner: NodeId, error: &StoreFailure) {
        if matches!(error, StoreFailure::Failed(_)) {
            self.expect_hint(owner);
        }
    }

    /// The list of hints for `owner` must be looked through (again).
    pub(super) fn expect_hint(&mut self, owner: NodeId) {
        self.handoffs.entry(owner).or_default().is_dirty = true;
    }

    pub(super) fn handoff_due(&mut self) {
        let targets: Vec<NodeId> = self.handoffs.keys().copied().collect();
        targets.into_iter().for_each(|target| self.start_handoff(target));
        let at_ms = self.in_ms(self.settings.handoff_period_ms);
        self.timers.set(at_ms, Timer::Handoff);
    }

    pub(super) fn start_handoff(&mut self, target: NodeId) {
        let count_max = self.admission.window(self.settings.handoff_window);
        // Who owns nothing any more is not needed for its hints.
        let is_reachable = self.is_reachable(target) || !self.owns_something(target);
        let Some(handoff) = self.handoffs.get_mut(&target) else {
            return;
        };
        if !is_reachable || !handoff.is_idle() {
            return;
        }
        if handoff.after.is_none() {
            handoff.is_dirty = false;
        }
        handoff.is_listing = true;
        handoff.has_failed = false;
        let after = handoff.after.clone();
        self.act(Action::ListHints { target, after, count_max });
    }

    pub(super) fn hints_listed(
        &mut self,
        target: NodeId,
        hints: Result<Vec<HeldHint>, StoreFailure>,
    ) {
        let Some(handoff) = self.handoffs.get_mut(&target) else {
            return;
        };
        handoff.is_listing = false;
        let Ok(hints) = hints else {
            // What cannot be listed now is there still: the next period tries again.
            handoff.after = None;
            return;
        };
        let Some(last) = hints.last() else {
            // The end: of nothing, then the target is done; else start over for what is left.
            let was_first = handoff.after.take().is_none();
            if was_first && !handoff.is_dirty {
                self.handoffs.remove(&target);
            }
            return;
        };
        handoff.after = Some(last.key.clone());
        for hint in hints {
            // A hint of a keyspace that was deleted meanwhile has nowhere to go.
            match self.is_deleted(hint.key.keyspace) {
                true => self.settle(target, hint.key, hint.sequence),
                false => self.send_hint(target, hint),
            }
        }
    }

    fn settle(&mut self, target: NodeId, key: StoreKey, sequence: u64) {
        if let Some(handoff) = self.handoffs.get_mut(&target) {
            handoff.settling += 1;
            self.act(Action::SettleHint { target, key, sequence });
        }
    }

    /// Sends a hint to all who are to have it.
    fn send_hint(&mut self, target: NodeId, hint: HeldHint) {
        let HeldHint { key, siblings, sequence } = hint;
        let (attempt, receivers) = (self.number(), self.receivers(target, &key));
        let sent = Sent { key: key.clone(), sequence, left: receivers.len() };
        if receivers.is_empty() {
            return;
        }
        if let Some(handoff) = self.handoffs.get_mut(&target) {
            handoff.sent.insert(attempt, sent);
        }
        for owner in receivers {
            let (key, siblings) = (key.clone(), siblings.clone());
            if owner == self.id {
                let purpose = Purpose::MovedHint(target, attempt);
                self.write(purpose, key, Change::Sync(siblings), Vec::new(), true);
                continue;
            }
            // The hint is deleted once this is acknowledged, so it is synced whatever the
            // keyspace's durability.
            let write = self.replica_write(0, key, siblings);
            self.ask(owner, Asker::Hint(target, attempt), |request| {
                Message::Write(ReplicaWrite { request, ..write })
            });
        }
    }

    fn owns_something(&self, node: NodeId) -> bool {
        self.catalogue.as_ref().is_some_and(|c| c.ring.nodes().binary_search(&node).is_ok())
    }

    /// Who is to have a hint for `target`: all owners, if that is none of them any more.
    fn receivers(&self, target: NodeId, key: &StoreKey) -> Vec<NodeId> {
        let Ok((catalogue, keyspace)) = self.keyspace(key.keyspace) else { return vec![target] };
        let owners = catalogue.ring.owners(key.partition).take(keyspace.holders());
        let owners: Vec<NodeId> = owners.collect();
        if owners.contains(&target) { vec![target] } else { owners }
    }

    /// The target, or an owner in its place, has synced a hint.
    pub(super) fn hint_received(&mut self, target: NodeId, attempt: u64) {
        let Some(handoff) = self.handoffs.get_mut(&target) else { return };
        let Some(sent) = handoff.sent.get_mut(&attempt) else { return };
        sent.left -= 1;
        if sent.left == 0
            && let Some(Sent { key, sequence, .. }) = handoff.sent.remove(&attempt)
        {
            self.settle(target, key, sequence);
        }
    }

    /// One who was to have a hint did not take it, or does not answer: it stays, whatever others
    /// answer.
    pub(super) fn hint_refused(&mut self, target: NodeId, attempt: u64) {
        if let Some(handoff) = self.handoffs.get_mut(&target)
            && handoff.sent.remove(&attempt).is_some()
        {
            handoff.has_failed = true;
            self.go_on(target);
        }
    }

    pub(super) fn hint_settled(&mut self, target: NodeId, keyspace: KeyspaceId, is_settled: bool) {
        if is_settled && !self.is_deleted(keyspace) {
            self.notice(Notice::HintDelivered(target, keyspace));
        }
        if let Some(handoff) = self.handoffs.get_mut(&target) {
            handoff.settling = handoff.settling.saturating_sub(1);
            self.go_on(target);
        }
    }

    /// Lists on when a batch is through; after a failure, at the next period. It goes on behind
    /// what failed, so that a hint that its target keeps refusing does not hold up the rest.
    fn go_on(&mut self, target: NodeId) {
        let Some(handoff) = self.handoffs.get_mut(&target) else {
            return;
        };
        if !handoff.is_idle() {
            return;
        }
        if !handoff.has_failed {
            self.start_handoff(target);
        }
    }
}
