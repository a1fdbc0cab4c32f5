//! The state of one put: mint and store here, then replicate until every owner has it or a
//! durable hint for it exists.
//!
//! The client is answered at w distinct nodes. That does not end the put: every owner that has
//! not acknowledged by its deadline is *owed* the write, and for each the write goes to the next
//! fallback as a hint, or, with no node to spare, into the coordinator's own hint store. A put
//! is finished when nobody is owed anything.
//!
//! Where an owner is known to be unreachable and its hint is kept here, the client is answered
//! only once that hint is durable: a full hint store refuses before it acknowledges. A hint that
//! cannot be stored later is tried again [`HINT_TRIES`] times, with the owner itself if it is
//! back by then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Effect, PutReceipt, PutRequest, QuorumKind, RequestError};
use crate::causality::{Context, LiveVersion, Siblings};
use crate::id::{Dot, NodeId, RequestId, Ticket};
use crate::keys::StoreKey;
use crate::quorum::{Standing, Tally};
use crate::ring::PreferenceList;
use crate::version::Origin;

/// How often a hint that could not be stored here is tried again, a replica's time-out apart.
pub const HINT_TRIES: u32 = 20;

/// Who asked for the put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A client of this node.
    Client(Ticket),
    /// A node that forwarded it.
    Peer(NodeId, RequestId),
}

/// What is to be done for an owner that is owed the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Send it to this owner.
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

#[derive(Debug, Clone, Copy)]
struct Pending {
    due_ms: u64,
    /// The owner that the write is for: the node itself, unless it is a hint.
    owner: NodeId,
}

/// One put that this node coordinates.
#[derive(Debug)]
pub struct Put {
    /// Whom to answer.
    pub asker: Asker,
    /// What is written.
    pub key: StoreKey,
    /// When the client stops waiting, by the monotonic clock.
    pub deadline_ms: u64,
    /// Whether replicas sync before they acknowledge.
    pub is_sync: bool,
    /// A client's request, for another owner if the store here does not take it.
    pub retry: Option<Box<PutRequest>>,
    me: NodeId,
    tally: Tally,
    hinted: u32,
    primaries: Vec<NodeId>,
    /// Reachable fallbacks that were not used yet.
    spares: VecDeque<NodeId>,
    waiting: BTreeMap<NodeId, Pending>,
    /// Owners for which a hint is being stored here.
    storing: BTreeSet<NodeId>,
    /// Those of them without whose hint the client is not answered.
    required: BTreeSet<NodeId>,
    /// Why a required hint was refused.
    refusal: Option<String>,
    /// Owners whose hint could not be stored here, with the time of the next attempt.
    retries: BTreeMap<NodeId, u64>,
    /// How often that happened.
    attempts: BTreeMap<NodeId, u32>,
    /// Overdue, and something was done in its place: an acknowledgement still counts.
    late: BTreeSet<NodeId>,
    minted: Option<(Dot, Arc<Siblings>)>,
    is_answered: bool,
}

impl Put {
    /// A put coordinated by `me` that needs `needed` acknowledgements.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        asker: Asker,
        key: StoreKey,
        deadline_ms: u64,
        is_sync: bool,
        needed: usize,
        kind: QuorumKind,
        (me, list): (NodeId, &PreferenceList),
        is_reachable: impl Fn(NodeId) -> bool,
    ) -> Self {
        let fallbacks = match kind {
            QuorumKind::Sloppy => list.fallbacks(),
            QuorumKind::Strict => &[],
        };
        let spare = |node: &NodeId| *node != me && is_reachable(*node);
        Put {
            asker,
            key,
            deadline_ms,
            is_sync,
            retry: None,
            me,
            tally: Tally::new(needed),
            hinted: 0,
            primaries: list.primaries().to_vec(),
            spares: fallbacks.iter().copied().filter(spare).collect(),
            waiting: BTreeMap::new(),
            storing: BTreeSet::new(),
            required: BTreeSet::new(),
            refusal: None,
            retries: BTreeMap::new(),
            attempts: BTreeMap::new(),
            late: BTreeSet::new(),
            minted: None,
            is_answered: false,
        }
    }

    /// How many distinct nodes could hold the write, this one included, as far as
    /// `is_reachable`.
    pub fn possible(&self, is_reachable: impl Fn(NodeId) -> bool) -> usize {
        let owners =
            self.primaries.iter().filter(|node| **node == self.me || is_reachable(**node)).count();
        let me = usize::from(!self.is_owner());
        owners + me + self.spares.len()
    }

    /// Whether this node owns the key. If not, its record is a hint for all who do.
    pub fn is_owner(&self) -> bool {
        self.primaries.contains(&self.me)
    }

    /// The owners, in order.
    pub fn primaries(&self) -> &[NodeId] {
        &self.primaries
    }

    /// The write is minted and stored here. Gives what is to be done for the other owners.
    pub fn minted(
        &mut self,
        dot: Dot,
        siblings: Arc<Siblings>,
        is_reachable: impl Fn(NodeId) -> bool,
        due_ms: u64,
    ) -> Vec<Place> {
        self.minted = Some((dot, siblings));
        self.tally.count(self.me);
        self.hinted += u32::from(!self.is_owner());
        let others: Vec<NodeId> =
            self.primaries.iter().copied().filter(|node| *node != self.me).collect();
        let mut places = Vec::with_capacity(others.len());
        for owner in others {
            if is_reachable(owner) {
                self.waiting.insert(owner, Pending { due_ms, owner });
                places.push(Place::Owner(owner));
            } else {
                let place = self.place_hint(owner, due_ms);
                if let Some(Place::Here { owner }) = place {
                    self.required.insert(owner);
                }
                places.extend(place);
            }
        }
        places
    }

    /// Where a hint for `owner` goes. Nowhere if this node's own record is one already and no
    /// fallback is left.
    fn place_hint(&mut self, owner: NodeId, due_ms: u64) -> Option<Place> {
        if let Some(node) = self.spares.pop_front() {
            self.waiting.insert(node, Pending { due_ms, owner });
            return Some(Place::Fallback { node, owner });
        }
        if !self.is_owner() {
            return None;
        }
        self.storing.insert(owner);
        Some(Place::Here { owner })
    }

    /// The object to replicate.
    pub fn siblings(&self) -> Option<&Arc<Siblings>> {
        self.minted.as_ref().map(|(_, siblings)| siblings)
    }

    /// `node` holds the write.
    pub fn acknowledged(&mut self, node: NodeId) {
        if let Some(pending) = self.waiting.remove(&node) {
            self.hinted += u32::from(pending.owner != node);
        }
        // An answer after its deadline still counts: the node holds the write.
        self.late.remove(&node);
        self.tally.count(node);
    }

    /// What `node` was sent, if it is still waited for.
    pub fn place_of(&self, node: NodeId) -> Option<Place> {
        let owner = self.waiting.get(&node)?.owner;
        Some(if owner == node { Place::Owner(node) } else { Place::Fallback { node, owner } })
    }

    /// `node` does not acknowledge. Gives what is to be done for the owner in its place.
    pub fn failed(&mut self, node: NodeId, due_ms: u64) -> Option<Place> {
        self.late.remove(&node);
        let pending = self.waiting.remove(&node)?;
        self.place_hint(pending.owner, due_ms)
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
        self.storing.remove(&owner);
        self.required.remove(&owner);
    }

    /// The hint for `owner` could not be stored here; it is tried again at `retry_ms`. Says
    /// whether there is no further attempt.
    pub fn hint_failed(&mut self, owner: NodeId, reason: String, retry_ms: u64) -> bool {
        self.storing.remove(&owner);
        if self.required.remove(&owner) {
            self.refusal = Some(reason);
        }
        let attempts = self.attempts.entry(owner).or_insert(0);
        *attempts += 1;
        let is_over = *attempts > HINT_TRIES;
        if !is_over {
            self.retries.insert(owner, retry_ms);
        }
        is_over
    }

    /// What is to be done now for owners whose hint could not be stored.
    pub fn retry(
        &mut self,
        now_ms: u64,
        is_reachable: impl Fn(NodeId) -> bool,
        due_ms: u64,
    ) -> Vec<Place> {
        let due = self.retries.extract_if(.., |_, at_ms| *at_ms <= now_ms);
        let owners: Vec<NodeId> = due.map(|(owner, _)| owner).collect();
        let place = |owner: NodeId| {
            if is_reachable(owner) {
                self.waiting.insert(owner, Pending { due_ms, owner });
                Place::Owner(owner)
            } else {
                self.storing.insert(owner);
                Place::Here { owner }
            }
        };
        owners.into_iter().map(place).collect()
    }

    /// The node is about to stop: nobody else is asked any more, and what is owed becomes hints
    /// here.
    pub fn stop(&mut self) -> Vec<Place> {
        self.spares.clear();
        let waiting = std::mem::take(&mut self.waiting);
        self.late.extend(waiting.keys());
        let owed = waiting.values().map(|pending| pending.owner);
        let owed: BTreeSet<NodeId> =
            owed.chain(std::mem::take(&mut self.retries).into_keys()).collect();
        if !self.is_owner() {
            return Vec::new();
        }
        self.storing.extend(&owed);
        owed.into_iter().map(|owner| Place::Here { owner }).collect()
    }

    /// Nodes whose acknowledgement is overdue.
    pub fn overdue(&self, now_ms: u64) -> Vec<NodeId> {
        let is_overdue = |(_, pending): &(&NodeId, &Pending)| pending.due_ms <= now_ms;
        self.waiting.iter().filter(is_overdue).map(|(node, _)| *node).collect()
    }

    /// When something is to be looked at again.
    pub fn next_due_ms(&self) -> Option<u64> {
        let answer = (!self.is_answered).then_some(self.deadline_ms);
        let retries = self.retries.values().copied();
        self.waiting.values().map(|pending| pending.due_ms).chain(retries).chain(answer).min()
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
        let possible = self.waiting.len() + self.spares.len() + self.late.len();
        let answer = match (&self.minted, self.tally.standing(possible)) {
            (Some(_), _) if self.refusal.is_some() => {
                let reason = self.refusal.take().unwrap_or_default();
                Err(RequestError::Store { reason, effect: Effect::Maybe })
            }
            (Some(_), Standing::Reached)
                if !self.required.is_empty() && now_ms < self.deadline_ms =>
            {
                return None;
            }
            (Some((dot, siblings)), Standing::Reached) if self.required.is_empty() => {
                Ok(self.receipt(*dot, siblings, acked, ring_version))
            }
            (None, _) | (_, Standing::Pending) if now_ms < self.deadline_ms => return None,
            _ => Err(RequestError::QuorumNotReached {
                needed: self.tally.needed() as u32,
                answered: acked,
                effect: Effect::Maybe,
            }),
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

    /// Whether the client is answered and no owner is owed anything.
    pub fn is_finished(&self) -> bool {
        let is_settled =
            self.waiting.is_empty() && self.storing.is_empty() && self.retries.is_empty();
        self.minted.is_some() && self.is_answered && is_settled
    }
}
