//! The state of one get: ask nodes, answer at r, then repair who is stale.
//!
//! The answer is the join of what the first r nodes hold. Later answers are still taken in,
//! until every node that was asked has answered or failed; then each of those owners that holds less
//! than the join is sent the join (read repair, section 5 of the Dynamo paper).
//!
//! How many nodes are asked decides the coordinator: all n owners, which finds every stale one, or r,
//! which is a third of the work less where n is three. Where two of the r differ, all are asked after
//! all, because then there is something to repair. Who is slow gets company ([`crate::hedge`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Effect, GetReceipt, QuorumKind, RequestError};
use crate::causality::{Siblings, Survivors, VersionVector};
use crate::id::{NodeId, Ticket};
use crate::keys::StoreKey;
use crate::quorum::{Standing, Tally};
use crate::region::Regions;
use crate::request_notes::unite_tries;
use crate::ring::PreferenceList;

/// One get that this node coordinates.
#[derive(Debug)]
pub struct Get {
    /// Whom to answer; nobody, if the node asks for itself.
    pub ticket: Option<Ticket>,
    /// What is read.
    pub key: StoreKey,
    /// When the client stops waiting, by the monotonic clock.
    pub deadline_ms: u64,
    tally: Tally,
    primaries: Vec<NodeId>,
    /// Asked and not heard of.
    waiting: BTreeMap<NodeId, Asked>,
    /// Reachable nodes that were not asked yet.
    spares: VecDeque<NodeId>,
    answers: BTreeMap<NodeId, Option<Arc<Siblings>>>,
    damaged: BTreeSet<NodeId>,
    /// Overdue, and another was asked in its place: its answer is still taken, until then.
    late: BTreeMap<NodeId, u64>,
    joined: Siblings,
    /// A node had no room for its value, which has this many bytes for all.
    no_room: Option<u64>,
    survivors: Survivors,
    is_answered: bool,
}

/// A node that was asked.
#[derive(Debug, Clone, Copy)]
struct Asked {
    at_ms: u64,
    /// When its silence counts as a failure.
    due_ms: u64,
}

impl Get {
    /// A get that needs `needed` answers from the nodes of `list`, as far as they have a `rank`:
    /// those that are not reachable have none, and owners of a lower one are asked first.
    /// The nodes to ask are what [`Self::next_to_ask`] gives.
    pub fn new(
        ticket: Option<Ticket>,
        key: StoreKey,
        deadline_ms: u64,
        needed: usize,
        (kind, survivors): (QuorumKind, Survivors),
        list: &PreferenceList,
        rank: impl Fn(NodeId) -> Option<u8>,
    ) -> Self {
        let fallbacks = match kind {
            QuorumKind::Sloppy => list.fallbacks(),
            QuorumKind::Strict | QuorumKind::Local => &[],
        };
        let ranked = |node: &NodeId| Some((rank(*node)?, *node));
        let mut owners: Vec<(u8, NodeId)> = list.primaries().iter().filter_map(ranked).collect();
        // Owners of one rank stay in order.
        owners.sort_by_key(|(rank, _)| *rank);
        let spares = owners.into_iter().chain(fallbacks.iter().filter_map(ranked));
        Get {
            ticket,
            key,
            deadline_ms,
            tally: Tally::new(needed),
            primaries: list.primaries().to_vec(),
            waiting: BTreeMap::new(),
            spares: spares.map(|(_, node)| node).collect(),
            answers: BTreeMap::new(),
            damaged: BTreeSet::new(),
            late: BTreeMap::new(),
            joined: Siblings::new(),
            no_room: None,
            survivors,
            is_answered: false,
        }
    }

    /// The same, at `me`, in a cluster of these regions: of the fallbacks those come first that stand in
    /// for the owners which are not asked.
    pub fn minding(mut self, me: NodeId, regions: Option<&Regions>) -> Self {
        let Some(regions) = regions else { return self };
        let mut fallbacks = self.spares.split_off(self.unasked_owners());
        let absent = self.primaries.iter().filter(|owner| !self.spares.contains(owner));
        let absent: Vec<NodeId> = absent.copied().collect();
        for owner in absent {
            let place = regions.stand_in((owner, me), &fallbacks);
            self.spares.extend(fallbacks.remove(place));
        }
        self.spares.append(&mut fallbacks);
        self
    }

    /// The next node to ask, which from now on is waited for until `due_ms`; and whether it is
    /// asked as a fallback.
    pub fn next_to_ask(&mut self, at_ms: u64, due_ms: u64) -> Option<(NodeId, bool)> {
        let node = self.spares.pop_front()?;
        self.waiting.insert(node, Asked { at_ms, due_ms });
        Some((node, !self.primaries.contains(&node)))
    }

    /// The nodes for whose answer the client still waits.
    pub fn holding_up(&self) -> Vec<NodeId> {
        if self.is_answered { Vec::new() } else { self.waiting.keys().copied().collect() }
    }

    /// The owners that are asked next, at most `count`.
    pub fn next_owners(&self, count: usize) -> impl Iterator<Item = NodeId> {
        self.spares.iter().take(count.min(self.unasked_owners())).copied()
    }

    /// How many owners were not asked yet.
    pub fn unasked_owners(&self) -> usize {
        self.spares.iter().take_while(|node| self.primaries.contains(node)).count()
    }

    /// Whether owners hold different things, as far as they have answered.
    pub fn is_divided(&self) -> bool {
        let mut held = self.answers.values().map(Option::as_ref);
        let Some(first) = held.next() else { return false };
        held.any(|other| match (first, other) {
            (Some(first), Some(other)) => !first.is_same_as(other),
            (None, None) => false,
            _ => true,
        })
    }

    /// `node` holds this. Tells when it was asked, if it was waited for.
    pub fn answered(&mut self, node: NodeId, held: Option<Arc<Siblings>>) -> Option<u64> {
        let asked = self.waiting.remove(&node);
        self.late.remove(&node);
        if let Some(siblings) = &held {
            self.joined.sync(siblings);
            self.joined.keep(self.survivors);
            if self.survivors == Survivors::All {
                unite_tries(&mut self.joined, |_| false);
            }
        }
        self.tally.count(node);
        self.answers.insert(node, held);
        asked.map(|asked| asked.at_ms)
    }

    /// `node` gives no answer; with `is_damaged` because its copy is. Another node is to be
    /// asked in its place. Says whether it was waited for.
    pub fn failed(&mut self, node: NodeId, is_damaged: bool) -> bool {
        if is_damaged {
            self.damaged.insert(node);
        }
        self.late.remove(&node);
        self.waiting.remove(&node).is_some()
    }

    /// `node`, or this one for its answer, had no room for the value. Nobody is asked in its place:
    /// a fallback that holds nothing would pass for an answer, and every reader of the key for
    /// one that finds it gone.
    pub fn has_no_room(&mut self, node: NodeId, bytes_max: u64) {
        self.late.remove(&node);
        self.waiting.remove(&node);
        self.spares.clear();
        self.no_room = Some(bytes_max);
    }

    /// `node` is overdue. Another node is to be asked in its place; its own answer still counts,
    /// and once the client is answered it is waited for until `until_ms`, to be repaired.
    pub fn is_late(&mut self, node: NodeId, until_ms: u64) -> bool {
        let was_waiting = self.waiting.remove(&node).is_some();
        if was_waiting {
            self.late.insert(node, until_ms);
        }
        was_waiting
    }

    /// Nodes whose answer is overdue.
    pub fn overdue(&self, now_ms: u64) -> Vec<NodeId> {
        let is_overdue = |(_, asked): &(&NodeId, &Asked)| asked.due_ms <= now_ms;
        self.waiting.iter().filter(is_overdue).map(|(node, _)| *node).collect()
    }

    /// When something is to be looked at again.
    pub fn next_due_ms(&self) -> Option<u64> {
        let answer = (!self.is_answered).then_some(self.deadline_ms);
        // All of them are waited for, and only once nobody else is.
        let is_last = self.is_answered && self.waiting.is_empty();
        let late = self.late.values().copied().filter(|_| is_last).max();
        let waiting = self.waiting.values().map(|asked| asked.due_ms);
        waiting.chain(late).chain(answer).min()
    }

    /// The answer for the client, once, as soon as it is certain.
    pub fn take_answer(
        &mut self,
        now_ms: u64,
        ring_version: u64,
    ) -> Option<Result<GetReceipt, RequestError>> {
        if self.is_answered {
            return None;
        }
        let answered = self.tally.answered() as u32;
        let possible = self.waiting.len() + self.spares.len() + self.late.len();
        let answer = match self.tally.standing(possible) {
            Standing::Reached => {
                let siblings = Arc::new(self.joined.clone());
                Ok(GetReceipt { siblings, answered, ring_version })
            }
            Standing::Pending if now_ms < self.deadline_ms => return None,
            Standing::Pending | Standing::Unreachable => Err(match self.no_room {
                Some(bytes_max) => RequestError::NoRoom { bytes_max },
                None => RequestError::QuorumNotReached {
                    needed: self.tally.needed() as u32,
                    answered,
                    effect: Effect::None,
                },
            }),
        };
        self.is_answered = true;
        Some(answer)
    }

    /// Whether nobody is waited for any more.
    pub fn is_finished(&self, now_ms: u64) -> bool {
        let is_late_over = self.late.values().all(|until_ms| *until_ms <= now_ms);
        self.is_answered && self.waiting.is_empty() && is_late_over
    }

    /// Whether every owner has answered with the very same object.
    pub fn is_agreed(&self) -> bool {
        let held = |node| self.answers.get(node).and_then(Option::as_ref);
        self.primaries
            .iter()
            .all(|node| held(node).is_some_and(|held| held.is_same_as(&self.joined)))
    }

    /// The owners that hold less than all answers joined, and when the newest version was written that
    /// they had not heard of, as far as they have told what they hold; and the join.
    pub fn repairs(self) -> (Arc<Siblings>, Vec<(NodeId, Option<u64>)>) {
        let nothing = VersionVector::default();
        let lacks = |node: NodeId| match self.answers.get(&node) {
            Some(Some(held)) if held.is_same_as(&self.joined) => None,
            Some(held) => {
                let heard_of = held.as_ref().map_or(&nothing, |held| held.vector());
                Some((node, self.joined.newest_beyond(heard_of)))
            }
            None => self.damaged.contains(&node).then_some((node, None)),
        };
        let stale = if self.joined.is_empty() {
            Vec::new()
        } else {
            self.primaries.iter().copied().filter_map(lacks).collect()
        };
        (Arc::new(self.joined), stale)
    }
}
