//! Repairing one key that differs: the peer's object is read and joined here, and the join goes
//! back if it is more than the peer has.

use std::sync::Arc;

use super::{ExchangeId, ExchangeReason, REPAIRS_MAX, Step};
use crate::causality::Siblings;
use crate::event::{Action, Area, StoreFailure, Stored};
use crate::id::NodeId;
use crate::keys::StoreKey;
use crate::message::{Message, ReplicaWrite, RequestId};
use crate::node::{Node, Purpose};
use crate::write::Change;

/// A key that is being repaired, under the number of the request to the peer.
#[derive(Debug)]
pub(super) struct Repair {
    key: StoreKey,
    state: State,
    /// When what is awaited from the peer is overdue.
    due_ms: u64,
}

#[derive(Debug)]
enum State {
    /// The peer is asked what it holds.
    Reading,
    /// What it holds is being joined with the own object.
    Joining { theirs: Option<Arc<Siblings>> },
    /// The join is on its way to the peer.
    Writing,
}

impl Node {
    /// Starts as many repairs as may be, or goes on behind the page.
    pub(super) fn go_on_repairing(&mut self, id: ExchangeId) {
        loop {
            let request = self.number();
            let due_ms = self.in_ms(self.settings.replica_timeout_ms.saturating_mul(4));
            let ring_version = self.ring_version();
            let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
            if !matches!(exchange.step, Step::Repairs { .. }) {
                return;
            }
            if exchange.repairs.len() >= self.admission.window(REPAIRS_MAX) {
                return;
            }
            let (peer, partition) = (exchange.peer, exchange.partition);
            let Some((key, keyspace)) =
                exchange.differing.pop_front().zip(exchange.keyspaces.front().copied())
            else {
                if exchange.repairs.is_empty() {
                    self.page_ended(id);
                }
                return;
            };
            let place = StoreKey { partition, keyspace, key: key.clone() };
            let repair = Repair { key: place, state: State::Reading, due_ms };
            exchange.repairs.insert(request, repair);
            exchange.figures.questions += 1;
            self.exchanges.asked.insert(request, id);
            let is_fallback = false;
            let read = Message::Read { request, keyspace, key, ring_version, is_fallback };
            self.send(peer, read);
        }
    }

    fn repair_of(&mut self, peer: NodeId, request: RequestId) -> Option<(ExchangeId, &mut Repair)> {
        let id = *self.exchanges.asked.get(&request)?;
        let exchange = self.exchanges.running.get_mut(&id)?;
        let repair = exchange.repairs.get_mut(&request).filter(|_| exchange.peer == peer)?;
        Some((id, repair))
    }

    /// The peer told what it holds of a key.
    pub(in crate::node) fn repair_read(
        &mut self,
        peer: NodeId,
        request: RequestId,
        theirs: Option<Arc<Siblings>>,
    ) {
        let Some((id, repair)) = self.repair_of(peer, request) else { return };
        if !matches!(repair.state, State::Reading) {
            return;
        }
        let key = repair.key.clone();
        repair.state = State::Joining { theirs: theirs.clone() };
        repair.due_ms = u64::MAX;
        let is_giving =
            self.exchanges.running.get(&id).is_some_and(|e| e.reason == ExchangeReason::Leave);
        if !is_giving && !self.may_hold(key.partition) {
            // The ring has changed since the exchange began.
            return self.repair_ended(id, request, false);
        }
        let token = self.effect(Purpose::ExchangeObject(id, request));
        let Some(siblings) = theirs else {
            return self.act(Action::Load { token, key, with_hints: false });
        };
        let (survivors, change) = (self.survivors(key.keyspace), Change::Sync(siblings));
        let (area, targets, is_sync) = (Area::Data, Vec::new(), true);
        self.act(Action::Write { token, area, key, change, targets, survivors, is_sync });
    }

    /// The own object was read: the peer holds nothing of the key.
    pub(in crate::node) fn repair_loaded(
        &mut self,
        id: ExchangeId,
        request: RequestId,
        result: Result<Option<Arc<Siblings>>, StoreFailure>,
    ) {
        match result {
            Ok(Some(siblings)) => self.joined(id, request, &siblings),
            Ok(None) => self.repair_ended(id, request, true),
            Err(_) => self.repair_ended(id, request, false),
        }
    }

    /// The peer's object was joined with the own one.
    pub(in crate::node) fn repair_joined(
        &mut self,
        id: ExchangeId,
        request: RequestId,
        result: Result<Stored, StoreFailure>,
    ) {
        match result {
            Ok(stored) => self.joined(id, request, &stored.siblings),
            Err(_) => self.repair_ended(id, request, false),
        }
    }

    fn joined(&mut self, id: ExchangeId, request: RequestId, joined: &Arc<Siblings>) {
        let due_ms = self.in_ms(self.settings.replica_timeout_ms.saturating_mul(4));
        let ring_version = self.ring_version();
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        let peer = exchange.peer;
        let Some(repair) = exchange.repairs.get_mut(&request) else { return };
        let State::Joining { theirs } = &repair.state else { return };
        if theirs.as_ref().is_some_and(|theirs| **theirs == **joined) {
            return self.repair_ended(id, request, true);
        }
        (repair.state, repair.due_ms) = (State::Writing, due_ms);
        let write = ReplicaWrite {
            request,
            keyspace: repair.key.keyspace,
            key: repair.key.key.clone(),
            ring_version,
            siblings: joined.clone(),
            hint_for: Vec::new(),
            is_sync: true,
            epoch: self.send_epoch(),
        };
        self.send(peer, Message::Write(write));
    }

    /// The peer has synced a join.
    pub(in crate::node) fn repair_written(&mut self, peer: NodeId, request: RequestId) {
        if let Some((id, repair)) = self.repair_of(peer, request)
            && matches!(repair.state, State::Writing)
        {
            self.repair_ended(id, request, true);
        }
    }

    /// The peer did not do it, or could not be asked. What is damaged there counts as missing.
    pub(super) fn repair_refused(&mut self, peer: NodeId, request: RequestId, is_damaged: bool) {
        let Some((id, repair)) = self.repair_of(peer, request) else { return };
        match repair.state {
            State::Reading if is_damaged => self.repair_read(peer, request, None),
            State::Reading | State::Writing => self.repair_ended(id, request, false),
            State::Joining { .. } => {}
        }
    }

    pub(super) fn overdue_repairs(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let mut late: Vec<(ExchangeId, RequestId)> = Vec::new();
        for (id, exchange) in &self.exchanges.running {
            let overdue = exchange.repairs.iter().filter(|(_, repair)| repair.due_ms <= now_ms);
            late.extend(overdue.map(|(request, _)| (*id, *request)));
        }
        late.into_iter().for_each(|(id, request)| self.repair_ended(id, request, false));
    }

    fn repair_ended(&mut self, id: ExchangeId, request: RequestId, is_repaired: bool) {
        self.exchanges.asked.remove(&request);
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        if exchange.repairs.remove(&request).is_some() {
            exchange.figures.keys_repaired += u64::from(is_repaired);
            self.go_on_repairing(id);
        }
    }
}
