//! The state of one put: get the write a dot, then replicate until every owner has it or a durable
//! hint for it exists.
//!
//! # The dot
//! An owner mints in its own store. Who is none, or not the one whose turn it is, *borrows* the dot:
//! it asks an owner, which makes the object with the new version as if it stored it, and stores
//! nothing ([`crate::write`], "Lent dots"). What comes back is sent to all owners like any other
//! replica write. So there is one node that decides whether the write exists, the one that has the
//! client, and asking is harmless however often it is done and whenever it arrives: an owner that is
//! silent for a replica's time-out is passed over, another one is asked, and what answers first is
//! taken, once. No write appears twice, and none that was given up comes back, because only its
//! coordinator could bring it. An unnoticed fault costs a put one time-out here and one below.
//!
//! With no owner in reach the coordinator mints in its hint store; its record is then a hint for all.
//!
//! # The owners
//! The client is answered at w distinct nodes. That does not end the put: every owner that has
//! not acknowledged by its deadline is *owed* the write, and for each the write goes to the
//! next fallback as a hint, or, with no node to spare, into the coordinator's own hint store. A put
//! is finished when nobody is owed anything.
//!
//! Where an owner is known to be unreachable and its hint is kept here, the client is answered
//! only once that hint is durable: a full hint store refuses before it acknowledges. A hint that
//! cannot be stored later is tried again [`HINT_TRIES`] times, with the owner itself if it is
//! back by then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Effect, PutReceipt, PutRequest, QuorumKind, RequestError};
use crate::catalogue::Durability;
use crate::causality::{Context, LiveVersion, Siblings};
use crate::id::{Dot, NodeId, Ticket};
use crate::keys::StoreKey;
use crate::quorum::{Standing, Tally};
use crate::ring::PreferenceList;
use crate::version::Origin;

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

/// Whom a write without a dot waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namer {
    /// The store of this node.
    Here,
    /// An owner that was asked.
    Owner { node: NodeId, due_ms: u64 },
    /// Whoever was asked before: nobody is left.
    Nobody,
}

/// The dot of the write.
#[derive(Debug)]
enum Name {
    Wanted {
        from: Namer,
        put: Box<PutRequest>,
        /// Owners that are still to be asked, or this node.
        others: VecDeque<NodeId>,
        /// Owners that were asked, and may answer yet.
        asked: BTreeSet<NodeId>,
        /// What the last owner said that could not do it. Without one, this node mints as a hint
        /// when nobody is left.
        refusal: Option<RequestError>,
    },
    Given(Dot, Arc<Siblings>),
}

/// Who is to give a write its dot next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The store here mints this.
    Mint(Box<PutRequest>),
    /// This owner is to lend one.
    Borrow(NodeId, Box<PutRequest>),
    /// Nobody can: this is the answer.
    Refused(RequestError),
    /// Nobody is left; one of those that were asked may still answer.
    Wait,
}

/// One put that this node coordinates.
#[derive(Debug)]
pub struct Put {
    /// Whom to answer.
    pub ticket: Ticket,
    /// What is written.
    pub key: StoreKey,
    /// When the client stops waiting, by the monotonic clock.
    pub deadline_ms: u64,
    /// What the acknowledgement promises.
    pub durability: Durability,
    me: NodeId,
    kind: QuorumKind,
    tally: Tally,
    hinted: u32,
    primaries: Vec<NodeId>,
    /// Reachable fallbacks that were not used yet.
    spares: VecDeque<NodeId>,
    name: Name,
    /// Once the write has its dot: the owners but this node, if that has minted it.
    owners: BTreeMap<NodeId, Owner>,
    /// Whether the store of this node has minted it.
    is_minted_here: bool,
    /// Overdue, and something was done in its place: an acknowledgement still counts.
    late: BTreeSet<NodeId>,
    /// Why a required hint was refused.
    refusal: Option<String>,
    is_answered: bool,
}

impl Put {
    /// A put coordinated by `me` that needs `needed` acknowledgements, and whose dot is to come
    /// from one of `namers`.
    pub fn new(
        (ticket, put): (Ticket, PutRequest),
        key: StoreKey,
        (deadline_ms, durability, needed): (u64, Durability, usize),
        (me, list): (NodeId, &PreferenceList),
        namers: VecDeque<NodeId>,
        is_reachable: impl Fn(NodeId) -> bool,
    ) -> Self {
        let fallbacks = match put.quorum {
            QuorumKind::Sloppy => list.fallbacks(),
            QuorumKind::Strict => &[],
        };
        let spare = |node: &NodeId| *node != me && is_reachable(*node);
        Put {
            ticket,
            key,
            deadline_ms,
            durability,
            me,
            kind: put.quorum,
            tally: Tally::new(needed),
            hinted: 0,
            primaries: list.primaries().to_vec(),
            spares: fallbacks.iter().copied().filter(spare).collect(),
            name: Name::Wanted {
                from: Namer::Nobody,
                put: Box::new(put),
                others: namers,
                asked: BTreeSet::new(),
                refusal: None,
            },
            owners: BTreeMap::new(),
            is_minted_here: false,
            late: BTreeSet::new(),
            refusal: None,
            is_answered: false,
        }
    }

    /// How many distinct nodes could hold the write, as far as `is_reachable`.
    pub fn possible(&self, is_reachable: impl Fn(NodeId) -> bool) -> usize {
        let owners =
            self.primaries.iter().filter(|node| **node == self.me || is_reachable(**node)).count();
        let is_minting = matches!(&self.name, Name::Wanted { others, .. } if others.is_empty());
        // More owners are away than others stand in for: this node does.
        let is_standing_in = self.primaries.len() - owners > self.spares.len();
        let own_hint = usize::from((is_minting || is_standing_in) && self.may_stand_in());
        owners + own_hint + self.spares.len()
    }

    /// Whether this node owns the key. If not, what it mints itself is a hint for all who do.
    pub fn is_owner(&self) -> bool {
        self.primaries.contains(&self.me)
    }

    /// Whether a hint that this node keeps itself counts as another node's would.
    fn may_stand_in(&self) -> bool {
        !self.is_owner() && self.kind == QuorumKind::Sloppy
    }

    /// Whether this node's own record is a hint for every owner.
    fn is_own_hint(&self) -> bool {
        self.is_minted_here && !self.is_owner()
    }

    /// Whether replicas sync before they acknowledge. For `one` that who has minted it is enough.
    pub fn is_sync(&self) -> bool {
        match self.durability {
            Durability::All => true,
            Durability::One => !self.is_minted_here,
            Durability::Buffered => false,
        }
    }

    /// The owners, in order.
    pub fn primaries(&self) -> &[NodeId] {
        &self.primaries
    }

    // The dot.

    /// Turns to the next node that could give the write its dot. An owner has until `due_ms`.
    pub fn next_namer(&mut self, due_ms: u64) -> Next {
        let is_stranger = !self.is_owner();
        let needed = self.tally.needed() as u32;
        let Name::Wanted { from, put, others, asked, refusal } = &mut self.name else {
            return Next::Wait;
        };
        match others.pop_front() {
            Some(node) if node != self.me => {
                *from = Namer::Owner { node, due_ms };
                asked.insert(node);
                Next::Borrow(node, put.clone())
            }
            Some(_) => {
                *from = Namer::Here;
                Next::Mint(put.clone())
            }
            None => {
                *from = Namer::Nobody;
                match refusal.take() {
                    Some(error) => Next::Refused(error),
                    None if is_stranger && self.kind == QuorumKind::Sloppy => {
                        *from = Namer::Here;
                        Next::Mint(put.clone())
                    }
                    None if asked.is_empty() => {
                        let (answered, effect) = (0, Effect::None);
                        Next::Refused(RequestError::QuorumNotReached { needed, answered, effect })
                    }
                    None => Next::Wait,
                }
            }
        }
    }

    /// Whether the write waits for `node` to lend it a dot.
    pub fn is_asking(&self, node: NodeId) -> bool {
        matches!(self.name, Name::Wanted { from: Namer::Owner { node: asked, .. }, .. } if asked == node)
    }

    /// Whether a dot that an owner lends is taken: the write has none, and the store here mints
    /// none.
    pub fn is_borrowing(&self) -> bool {
        matches!(&self.name, Name::Wanted { from, .. } if *from != Namer::Here)
    }

    /// An owner that was asked does not lend a dot.
    pub fn namer_gone(&mut self, node: NodeId) {
        if let Name::Wanted { asked, .. } = &mut self.name {
            asked.remove(&node);
        }
    }

    /// Who was to give the dot did certainly nothing, and says why.
    pub fn namer_failed(&mut self, error: RequestError) {
        if let Name::Wanted { refusal, .. } = &mut self.name {
            *refusal = Some(error);
        }
    }

    /// The write is minted and stored here.
    pub fn minted(&mut self, dot: Dot, siblings: Arc<Siblings>) {
        self.name = Name::Given(dot, siblings);
        self.tally.count(self.me);
        self.is_minted_here = true;
        self.hinted += u32::from(self.is_own_hint());
    }

    /// An owner has lent the write this dot, in an object that nobody has stored.
    pub fn lent(&mut self, dot: Dot, siblings: Arc<Siblings>) {
        self.name = Name::Given(dot, siblings);
    }

    /// The object to replicate, once there is one.
    pub fn siblings(&self) -> Option<&Arc<Siblings>> {
        match &self.name {
            Name::Given(_, siblings) => Some(siblings),
            Name::Wanted { .. } => None,
        }
    }

    // The owners.

    /// What is to be done for the owners once the write has its dot.
    pub fn spread(&mut self, is_reachable: impl Fn(NodeId) -> bool, due_ms: u64) -> Vec<Place> {
        let has_it = |node: &NodeId| self.tally.has_counted(*node);
        let owners: Vec<NodeId> = self.primaries.iter().copied().filter(|o| !has_it(o)).collect();
        let mut places = Vec::with_capacity(owners.len());
        for owner in owners {
            let place = match is_reachable(owner) {
                true => Some(self.send(owner, due_ms)),
                false => self.place_hint(owner, due_ms),
            };
            if let Some(Place::Here { owner }) = place {
                self.owe(owner, Owed::Storing { is_required: true });
            }
            places.extend(place);
        }
        places
    }

    fn owe(&mut self, owner: NodeId, owed: Owed) {
        self.owners.entry(owner).or_insert(Owner { owed, tries: 0 }).owed = owed;
    }

    fn send(&mut self, owner: NodeId, due_ms: u64) -> Place {
        self.owe(owner, Owed::Sent { to: owner, due_ms });
        Place::Owner(owner)
    }

    /// Where a hint for `owner` goes. Nowhere if this node's own record is one already and no
    /// fallback is left.
    fn place_hint(&mut self, owner: NodeId, due_ms: u64) -> Option<Place> {
        let (owed, place) = match self.spares.pop_front() {
            Some(node) => (Owed::Sent { to: node, due_ms }, Some(Place::Fallback { node, owner })),
            // What this node owns and may not take now comes by anti-entropy: nobody hands over to
            // itself.
            None if self.is_own_hint() || owner == self.me => (Owed::Settled, None),
            None => (Owed::Storing { is_required: false }, Some(Place::Here { owner })),
        };
        self.owe(owner, owed);
        place
    }

    /// For whom `node` was sent the write, if it is still waited for.
    fn sent_for(&self, node: NodeId) -> Option<NodeId> {
        let is_sent = |owner: &Owner| matches!(owner.owed, Owed::Sent { to, .. } if to == node);
        self.owners.iter().find(|(_, owner)| is_sent(owner)).map(|(owner, _)| *owner)
    }

    /// `node` holds the write.
    pub fn acknowledged(&mut self, node: NodeId) {
        if let Some(owner) = self.sent_for(node) {
            self.hinted += u32::from(owner != node);
            self.owe(owner, Owed::Settled);
        }
        // An answer after its deadline still counts: the node holds the write.
        self.late.remove(&node);
        self.tally.count(node);
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
    pub fn hint_stored(&mut self, owner: NodeId) {
        self.owe(owner, Owed::Settled);
        if self.may_stand_in() && !self.tally.has_counted(self.me) {
            self.hinted += 1;
            self.tally.count(self.me);
        }
    }

    /// The hint for `owner` could not be stored here; it is tried again at `retry_ms`. Says
    /// whether there is no further attempt.
    pub fn hint_failed(&mut self, owner: NodeId, reason: String, retry_ms: u64) -> bool {
        let Some(known) = self.owners.get_mut(&owner) else { return false };
        if known.owed == (Owed::Storing { is_required: true }) {
            self.refusal = Some(reason);
        }
        known.tries += 1;
        let is_over = known.tries > HINT_TRIES;
        known.owed = if is_over { Owed::Settled } else { Owed::Retry { at_ms: retry_ms } };
        is_over
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
        let is_own_hint = self.is_own_hint();
        let mut places = Vec::new();
        for (owner, known) in &mut self.owners {
            match known.owed {
                // The own store ends it.
                Owed::Sent { to, .. } if to == self.me => continue,
                Owed::Sent { to, .. } => drop(self.late.insert(to)),
                Owed::Retry { .. } => {}
                Owed::Storing { .. } | Owed::Settled => continue,
            }
            known.owed = match is_own_hint {
                true => Owed::Settled,
                false => Owed::Storing { is_required: false },
            };
            places.extend((!is_own_hint).then_some(Place::Here { owner: *owner }));
        }
        places
    }

    // Time and answers.

    /// Whether the owner that was asked for a dot is overdue.
    pub fn is_namer_overdue(&self, now_ms: u64) -> bool {
        matches!(self.name, Name::Wanted { from: Namer::Owner { due_ms, .. }, .. } if due_ms <= now_ms)
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
    pub fn next_due_ms(&self) -> Option<u64> {
        let namer = match self.name {
            Name::Wanted { from: Namer::Owner { due_ms, .. }, .. } => Some(due_ms),
            _ => None,
        };
        let answer = (!self.is_answered).then_some(self.deadline_ms);
        let owed = self.owners.values().filter_map(|owner| match owner.owed {
            Owed::Sent { due_ms: at_ms, .. } | Owed::Retry { at_ms } => Some(at_ms),
            Owed::Storing { .. } | Owed::Settled => None,
        });
        owed.chain(namer).chain(answer).min()
    }

    fn count(&self, is_so: impl Fn(Owed) -> bool) -> usize {
        self.owners.values().filter(|owner| is_so(owner.owed)).count()
    }

    /// The answer for the client, once, as soon as it is certain.
    pub fn take_answer(
        &mut self,
        now_ms: u64,
        ring_version: u64,
    ) -> Option<Result<PutReceipt, RequestError>> {
        if self.is_answered {
            return None;
        }
        let acked = self.tally.answered() as u32;
        let sent = self.count(|owed| matches!(owed, Owed::Sent { .. }));
        let is_required = self.count(|owed| owed == Owed::Storing { is_required: true }) > 0;
        let is_storing = self.count(|owed| matches!(owed, Owed::Storing { .. })) > 0;
        let own =
            usize::from(is_storing && self.may_stand_in() && !self.tally.has_counted(self.me));
        let standing = self.tally.standing(sent + self.spares.len() + self.late.len() + own);
        let is_early = now_ms < self.deadline_ms;
        let short = |effect| {
            let needed = self.tally.needed() as u32;
            Err(RequestError::QuorumNotReached { needed, answered: acked, effect })
        };
        let answer = match (&self.name, standing) {
            (Name::Wanted { .. }, _) if is_early => return None,
            // What the store here mints may yet be.
            (Name::Wanted { from: Namer::Here, .. }, _) => short(Effect::Maybe),
            (Name::Wanted { .. }, _) => short(Effect::None),
            (Name::Given(..), _) if self.refusal.is_some() => {
                let reason = self.refusal.take().unwrap_or_default();
                Err(RequestError::Store { reason, effect: Effect::Maybe })
            }
            (Name::Given(..), Standing::Reached) if is_required && is_early => return None,
            (Name::Given(dot, siblings), Standing::Reached) if !is_required => {
                Ok(self.receipt(*dot, siblings, acked, ring_version))
            }
            (Name::Given(..), Standing::Pending) if is_early => return None,
            _ => short(Effect::Maybe),
        };
        self.is_answered = true;
        Some(answer)
    }

    fn receipt(&self, dot: Dot, siblings: &Siblings, acked: u32, ring_version: u64) -> PutReceipt {
        let versions = siblings.versions();
        let others = versions.iter().filter(|v| !v.dots.contains(&dot)).count();
        // A retry may find that its write was replaced meanwhile, or that another version stands
        // under its dot since a fold: its client has seen neither.
        let is_own = |v: &LiveVersion| v.version.origin == Origin::Client(dot);
        let is_sole = others == 0 && versions.iter().any(is_own);
        PutReceipt {
            dot,
            context: is_sole.then(|| Context::of(siblings)),
            siblings_remaining: others as u32,
            acked,
            hinted: self.hinted,
            ring_version,
        }
    }

    /// Whether the client is answered, be it that its deadline has passed.
    pub fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Whether every owner has acknowledged it.
    pub fn is_everywhere(&self) -> bool {
        self.primaries.iter().all(|owner| self.tally.has_counted(*owner))
    }

    /// Whether the write may be: it has its dot, or the store here is about to mint it.
    pub fn is_begun(&self) -> bool {
        !matches!(self.name, Name::Wanted { from, .. } if from != Namer::Here)
    }

    /// How many nodes must hold it.
    pub fn needed(&self) -> u32 {
        self.tally.needed() as u32
    }

    /// Whether the write may be, and an owner have nothing of it.
    pub fn is_in_debt(&self) -> bool {
        match self.name {
            Name::Wanted { from, .. } => from == Namer::Here,
            Name::Given(..) => self.count(|owed| owed != Owed::Settled) > 0,
        }
    }

    /// Whether the client is answered and no owner is owed anything.
    pub fn is_finished(&self) -> bool {
        self.is_answered && !self.is_in_debt()
    }
}
