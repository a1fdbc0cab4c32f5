//! What the owners are owed of a write that has its dot.
//!
//! The client is answered at w distinct nodes. That does not end the put: every owner that has
//! not acknowledged by its deadline is *owed* the write, and for each the write goes to the
//! next fallback as a hint, or, with no node to spare, into the coordinator's own hint store. A put
//! is finished when nobody is owed anything.
//!
//! Where an owner is known to be unreachable and its hint is kept here, the client is answered
//! only once that hint is durable: a full hint store refuses before it acknowledges. A hint that
//! cannot be stored later is tried again [`HINT_TRIES`] times, with the owner itself if it is
//! back by then.
//!
//! Where there are several regions, the fallback is one of the owner's region if one is left: the write
//! crosses the sea once, and the hint does not cross it again. Else it is one of this node's own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::id::NodeId;
use crate::region::Regions;

/// How often a hint that could not be stored here is tried again, a replica's time-out apart.
pub const HINT_TRIES: u32 = 20;

/// What is to be done for an owner that is owed the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Send it to this owner, or store it if that is this node.
    Owner(NodeId),
    /// Send it to the fallback, as a hint for the owner.
    Fallback {
        /// Who keeps the hint.
        node: NodeId,
        /// Whom it is for.
        owner: NodeId,
    },
    /// Keep the hint here.
    Here {
        /// Whom it is for.
        owner: NodeId,
    },
}

/// What an owner is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// It was sent to this node, to the owner itself or as a hint for it.
    Sent { to: NodeId, due_ms: u64 },
    /// A hint for it is being stored here. Without one that `is_required` the client is not
    /// answered.
    Storing { is_required: bool },
    /// The hint could not be stored; there is another try then.
    Retry { at_ms: u64 },
    /// Nothing.
    Settled,
}

/// An owner.
#[derive(Debug, Clone, Copy)]
struct Owner {
    owed: Owed,
    /// How often its hint could not be stored here.
    tries: u32,
}

/// What all owners are owed.
#[derive(Debug)]
pub struct Debts {
    me: NodeId,
    /// Those that do not have it by its mint.
    owners: BTreeMap<NodeId, Owner>,
    /// Reachable fallbacks that were not used yet.
    spares: VecDeque<NodeId>,
    /// Where there is more than one.
    pub(super) regions: Option<Arc<Regions>>,
    /// Overdue, and something was done in its place: an acknowledgement still counts.
    late: BTreeSet<NodeId>,
    /// Whether this node's own record is a hint for every owner.
    pub(super) is_covered: bool,
}

impl Debts {
    pub(super) fn new(me: NodeId, spares: VecDeque<NodeId>) -> Self {
        let (owners, late) = (BTreeMap::new(), BTreeSet::new());
        Debts { me, owners, spares, regions: None, late, is_covered: false }
    }

    /// Fallbacks that were not used yet.
    pub(super) fn spares(&self) -> usize {
        self.spares.len()
    }

    /// What is to be done for an owner once the write has its dot.
    pub(super) fn begin(
        &mut self,
        owner: NodeId,
        is_reachable: bool,
        due_ms: u64,
    ) -> Option<Place> {
        let place = match is_reachable {
            true => Some(self.send(owner, due_ms)),
            false => self.place_hint(owner, due_ms),
        };
        if let Some(Place::Here { owner }) = place {
            self.owe(owner, Owed::Storing { is_required: true });
        }
        place
    }

    fn owe(&mut self, owner: NodeId, owed: Owed) {
        self.owners.entry(owner).or_insert(Owner { owed, tries: 0 }).owed = owed;
    }

    fn send(&mut self, owner: NodeId, due_ms: u64) -> Place {
        self.owe(owner, Owed::Sent { to: owner, due_ms });
        Place::Owner(owner)
    }

    /// The next fallback that is to keep a hint for `owner`.
    fn take_spare(&mut self, owner: NodeId) -> Option<NodeId> {
        let regions = self.regions.as_ref();
        let place = regions.map_or(0, |regions| regions.stand_in((owner, self.me), &self.spares));
        self.spares.remove(place)
    }

    /// Where a hint for `owner` goes. Nowhere if this node's own record is one already and no
    /// fallback is left.
    fn place_hint(&mut self, owner: NodeId, due_ms: u64) -> Option<Place> {
        let (owed, place) = match self.take_spare(owner) {
            Some(node) => (Owed::Sent { to: node, due_ms }, Some(Place::Fallback { node, owner })),
            // What this node owns and may not take now comes by anti-entropy: nobody hands over to
            // itself.
            None if self.is_covered || owner == self.me => (Owed::Settled, None),
            None => (Owed::Storing { is_required: false }, Some(Place::Here { owner })),
        };
        self.owe(owner, owed);
        place
    }

    /// For whom `node` was sent the write, if it is still waited for.
    pub(super) fn sent_for(&self, node: NodeId) -> Option<NodeId> {
        let is_sent = |owner: &Owner| matches!(owner.owed, Owed::Sent { to, .. } if to == node);
        self.owners.iter().find(|(_, owner)| is_sent(owner)).map(|(owner, _)| *owner)
    }

    /// `node` holds the write. Whether that is a hint.
    pub(super) fn acknowledged(&mut self, node: NodeId) -> bool {
        // An answer after its deadline still counts: the node holds the write.
        self.late.remove(&node);
        let Some(owner) = self.sent_for(node) else { return false };
        self.owe(owner, Owed::Settled);
        owner != node
    }

    /// What `node` was sent, if it is still waited for.
    pub fn place_of(&self, node: NodeId) -> Option<Place> {
        let owner = self.sent_for(node)?;
        Some(if owner == node { Place::Owner(node) } else { Place::Fallback { node, owner } })
    }

    /// `node` does not acknowledge. Gives what is to be done for the owner in its place.
    pub fn failed(&mut self, node: NodeId, due_ms: u64) -> Option<Place> {
        self.late.remove(&node);
        let owner = self.sent_for(node)?;
        self.place_hint(owner, due_ms)
    }

    /// `node` is overdue. Gives what is to be done for the owner in its place; an
    /// acknowledgement that still comes counts.
    pub fn is_late(&mut self, node: NodeId, due_ms: u64) -> Option<Place> {
        let place = self.failed(node, due_ms);
        self.late.insert(node);
        place
    }

    /// The hint for `owner` is stored here.
    pub(super) fn hint_stored(&mut self, owner: NodeId) {
        self.owe(owner, Owed::Settled);
    }

    /// The hint for `owner` could not be stored here; it is tried again at `retry_ms`. Whether the
    /// client waits for it, and whether there is no further try.
    pub(super) fn hint_failed(&mut self, owner: NodeId, retry_ms: u64) -> (bool, bool) {
        let Some(known) = self.owners.get_mut(&owner) else { return (false, false) };
        let is_required = known.owed == (Owed::Storing { is_required: true });
        known.tries += 1;
        let is_over = known.tries > HINT_TRIES;
        known.owed = if is_over { Owed::Settled } else { Owed::Retry { at_ms: retry_ms } };
        (is_required, is_over)
    }

    /// What is to be done now for owners whose hint could not be stored.
    pub fn retry(
        &mut self,
        now_ms: u64,
        is_reachable: impl Fn(NodeId) -> bool,
        due_ms: u64,
    ) -> Vec<Place> {
        let is_due = |owed: Owed| matches!(owed, Owed::Retry { at_ms } if at_ms <= now_ms);
        let due = self.owners.iter().filter(|(_, owner)| is_due(owner.owed));
        let due: Vec<NodeId> = due.map(|(owner, _)| *owner).collect();
        let place = |owner: NodeId| {
            if is_reachable(owner) {
                return self.send(owner, due_ms);
            }
            self.owe(owner, Owed::Storing { is_required: false });
            Place::Here { owner }
        };
        due.into_iter().map(place).collect()
    }

    /// The node is about to stop: nobody else is asked any more, and what is owed becomes hints
    /// here.
    pub fn stop(&mut self) -> Vec<Place> {
        self.spares.clear();
        let mut places = Vec::new();
        for (owner, known) in &mut self.owners {
            match known.owed {
                // The own store ends it.
                Owed::Sent { to, .. } if to == self.me => continue,
                Owed::Sent { to, .. } => drop(self.late.insert(to)),
                Owed::Retry { .. } => {}
                Owed::Storing { .. } | Owed::Settled => continue,
            }
            known.owed = match self.is_covered {
                true => Owed::Settled,
                false => Owed::Storing { is_required: false },
            };
            places.extend((!self.is_covered).then_some(Place::Here { owner: *owner }));
        }
        places
    }

    /// Nodes whose acknowledgement is overdue.
    pub fn overdue(&self, now_ms: u64) -> Vec<NodeId> {
        let overdue = |owner: &Owner| match owner.owed {
            Owed::Sent { to, due_ms } if due_ms <= now_ms => Some(to),
            _ => None,
        };
        self.owners.values().filter_map(overdue).collect()
    }

    /// When something is to be looked at again.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let due = self.owners.values().filter_map(|owner| match owner.owed {
            Owed::Sent { due_ms: at_ms, .. } | Owed::Retry { at_ms } => Some(at_ms),
            Owed::Storing { .. } | Owed::Settled => None,
        });
        due.min()
    }

    fn count(&self, is_so: impl Fn(Owed) -> bool) -> usize {
        self.owners.values().filter(|owner| is_so(owner.owed)).count()
    }

    /// How many other nodes that count may come to acknowledge it.
    pub(super) fn possible(&self, counts: impl Fn(NodeId) -> bool) -> usize {
        let sent = self.count(|owed| matches!(owed, Owed::Sent { to, .. } if counts(to)));
        sent + self.spares.len() + self.late.iter().filter(|node| counts(**node)).count()
    }

    /// Whether a hint is being stored here.
    pub(super) fn is_storing(&self) -> bool {
        self.count(|owed| matches!(owed, Owed::Storing { .. })) > 0
    }

    /// Whether a hint is being stored here without which the client is not answered.
    pub(super) fn is_required(&self) -> bool {
        self.count(|owed| owed == Owed::Storing { is_required: true }) > 0
    }

    /// Whether no owner is owed anything.
    pub(super) fn are_settled(&self) -> bool {
        self.count(|owed| owed != Owed::Settled) == 0
    }
}
