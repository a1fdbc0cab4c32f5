//! The gets that this node coordinates.

use std::sync::Arc;

use rand_chacha::rand_core::Rng;

use super::client::Prepared;
use super::surroundings::Surroundings;
use super::timers::Timer;
use super::{Failure, InFlight, Node, Purpose};
use crate::causality::Siblings;
use crate::event::{Action, Notice, StoreFailure, Ticket};
use crate::id::NodeId;
use crate::keys::StoreKey;
use crate::message::{Message, ReplicaWrite, RequestId};
use crate::request::GetRequest;
use crate::request::get::Get;
use crate::write::Change;

impl Node {
    pub(super) fn start_get(&mut self, ticket: Ticket, get: GetRequest) {
        if let Err(error) = self.may_read() {
            return self.act(Action::GetDone(ticket, Err(error)));
        }
        let prepared = match self.prepare((get.keyspace, &get.key), "r", get.r) {
            Ok(prepared) => prepared,
            Err(error) => return self.act(Action::GetDone(ticket, Err(error))),
        };
        let deadline_ms = self.in_ms(get.timeout_ms);
        let Prepared { key, list, needed, read_repair_percent, .. } = prepared;
        let needed = match self.needed_of(get.quorum, list.primaries(), ("r", get.r, needed)) {
            Ok(needed) => needed as usize,
            Err(error) => return self.act(Action::GetDone(ticket, Err(error))),
        };
        let rules = (get.quorum, self.survivors(key.keyspace));
        let now_ms = self.now.monotonic_ms;
        let state = Get::new(Some(ticket), key, deadline_ms, needed, rules, &list, |node| {
            // Its own copy costs no message, and one of another region the longest way.
            let (is_far, is_silent) = (!self.is_near(node), self.hedges.is_silent(node, now_ms));
            let rank = match node == self.id {
                true => 0,
                false => 1 + u8::from(is_silent) + 2 * u8::from(is_far),
            };
            (self.is_reachable(node) && self.counts_for(get.quorum, node)).then_some(rank)
        });
        let state = state.minding(self.id, self.regions.as_deref());
        self.hedges.earn();
        let owners = list.primaries().len();
        if self.rng.next_u64() % 100 < u64::from(read_repair_percent) || needed >= owners {
            self.ask_first(state, owners);
            return;
        }
        let patience = state.next_owners(needed).map(|node| self.hedges.patience_ms(node)).max();
        let request = self.ask_first(state, needed);
        if self.requests.contains_key(&request)
            && let Some(at_ms) = self.hedges.watch(request, now_ms + patience.unwrap_or_default())
        {
            self.timers.set(at_ms, Timer::Hedge);
        }
    }

    /// Starts a get that asks `count` nodes at first.
    pub(super) fn ask_first(&mut self, get: Get, count: usize) -> RequestId {
        let request = self.number();
        self.requests.insert(request, InFlight::Get(Box::new(get)));
        for _ in 0..count {
            self.ask_next(request);
        }
        self.advance(request);
        request
    }

    /// The patience of some gets is over.
    pub(super) fn hedges_due(&mut self) {
        self.hedges.due(self.now.monotonic_ms).for_each(|request| self.hedge(request));
    }

    /// Asks other owners as well in place of those that have had their time, if the budget has it.
    fn hedge(&mut self, request: RequestId) {
        let now_ms = self.now.monotonic_ms;
        let Some(InFlight::Get(get)) = self.requests.get_mut(&request) else { return };
        let slow = get.holding_up();
        let spares = get.unasked_owners();
        slow.iter().for_each(|node| self.hedges.lost_patience(*node, now_ms));
        for _ in 0..slow.len().min(spares) {
            if self.hedges.spend() {
                self.ask_next(request);
            }
        }
    }

    /// Asks the next node of a get's list, if one is left.
    pub(super) fn ask_next(&mut self, request: RequestId) {
        let now_ms = self.now.monotonic_ms;
        let due_ms = self.in_ms(self.settings.replica_timeout_ms);
        let Some(InFlight::Get(get)) = self.requests.get_mut(&request) else {
            return;
        };
        let key = get.key.clone();
        let Some((node, is_fallback)) = get.next_to_ask(now_ms, due_ms) else {
            return;
        };
        if node == self.id && self.is_filling(key.partition) {
            // It cannot tell what it held, so it does not count; like a damaged copy it is
            // sent what the others hold.
            if let Some(InFlight::Get(get)) = self.requests.get_mut(&request) {
                get.failed(node, true);
            }
            self.ask_next(request);
        } else if node == self.id {
            let token = self.effect(Purpose::OwnRead(request));
            self.act(Action::Load { token, key, with_hints: is_fallback });
        } else {
            let ring_version = self.ring_version();
            let StoreKey { keyspace, key, .. } = key;
            let read = Message::Read { request, keyspace, key, ring_version, is_fallback };
            self.send(node, read);
        }
    }

    /// The coordinator's own copy was read.
    pub(super) fn own_read(
        &mut self,
        request: RequestId,
        result: Result<Option<Arc<Siblings>>, StoreFailure>,
    ) {
        match result {
            Ok(held) => self.replica_read(self.id, request, held),
            Err(error) => {
                let failure = match error {
                    StoreFailure::Damaged => Failure::Damaged,
                    StoreFailure::NoRoom { bytes_max } => Failure::NoRoom(bytes_max),
                    _ => Failure::Refused,
                };
                self.replica_failed(self.id, request, failure);
            }
        }
    }

    /// A replica told what it holds.
    pub(super) fn replica_read(
        &mut self,
        node: NodeId,
        request: RequestId,
        held: Option<Arc<Siblings>>,
    ) {
        let Some(InFlight::Get(get)) = self.requests.get_mut(&request) else { return };
        if let Some(asked_ms) = get.answered(node, held) {
            self.hedges.answered(node, self.now.monotonic_ms.saturating_sub(asked_ms));
        }
        let unasked = get.unasked_owners();
        if unasked > 0 && get.is_divided() {
            // Somebody is stale: the others may be too.
            (0..unasked).for_each(|_| self.ask_next(request));
        }
        self.advance(request);
    }

    /// Sends an owner what it lacks. Nobody waits for it: the next get would find it again.
    pub(super) fn repair(
        &mut self,
        (node, lacked_ms): (NodeId, Option<u64>),
        key: &StoreKey,
        siblings: &Arc<Siblings>,
    ) {
        self.notice(Notice::ReadRepaired(node));
        if let Some(written_ms) = lacked_ms {
            self.notice(Notice::WasStale(key.keyspace, written_ms));
        }
        self.send_object(node, key, siblings);
    }

    /// Sends an owner an object to sync. Nobody waits for it.
    pub(super) fn send_object(&mut self, node: NodeId, key: &StoreKey, siblings: &Arc<Siblings>) {
        let siblings = siblings.clone();
        if node != self.id {
            let (request, is_sync) = (self.number(), false);
            let write = self.replica_write(request, key.clone(), siblings);
            self.send(node, Message::Write(ReplicaWrite { is_sync, ..write }));
        } else if self.may_hold(key.partition) {
            // Else the ring has changed since the owners were asked.
            let change = Change::Sync(siblings);
            self.write(Purpose::OwnRepair, key.clone(), change, Vec::new(), false);
        }
    }
}
