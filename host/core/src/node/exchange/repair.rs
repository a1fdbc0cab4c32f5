//! Repairing the keys that differ, a batch at a time: the peer's objects are read at once, each is
//! joined here, and the join goes back if it is more than the peer has.

use std::sync::Arc;

use bytes::Bytes;

use super::{Exchange, ExchangeEnd, ExchangeId, ExchangeReason, Step};
use crate::causality::Siblings;
use crate::event::{Action, Area, StoreFailure, Stored};
use crate::id::NodeId;
use crate::keys::StoreKey;
use crate::message::{Message, ReplicaWrite, RequestId};
use crate::node::{Node, Purpose};
use crate::tree::{Held, TreeQuery};
use crate::write::Change;

/// The most keys of a batch that the peer lacks: their objects are of this node, and of any size.
pub const GIVEN_MAX: usize = 32;

/// A key that is being repaired, under the number of the write to the peer.
#[derive(Debug)]
pub(super) struct Repair {
    key: StoreKey,
    state: State,
    /// Whether the peer's record is damaged.
    is_damaged: bool,
    /// When what is awaited from the peer is overdue.
    due_ms: u64,
}

#[derive(Debug)]
enum State {
    /// What the peer holds is being joined with the own object.
    Joining { theirs: Option<Arc<Siblings>> },
    /// The join is on its way to the peer.
    Writing,
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Repaired,
    /// One side's record is damaged, and the other has none that is whole.
    Damaged,
    Failed,
}

impl Exchange {
    /// The next keys to be repaired, and those of them that the peer has something of.
    fn batch(&mut self, keys_max: usize, given_max: usize) -> (Vec<Bytes>, Vec<Bytes>) {
        let (mut given, mut asked) = (Vec::new(), Vec::new());
        while given.len() < given_max
            && asked.len() < keys_max
            && let Some((key, is_theirs)) = self.differing.pop_front()
        {
            if is_theirs { asked.push(key) } else { given.push(key) }
        }
        (given, asked)
    }

    fn count(&mut self, end: End) {
        self.figures.keys_repaired += u64::from(end == End::Repaired);
        self.figures.keys_damaged += u64::from(end == End::Damaged);
    }
}

impl Node {
    /// Starts the next batch if the last one is through, or goes on behind the page.
    pub(super) fn go_on_repairing(&mut self, id: ExchangeId) {
        let keys_max = self.admission.window(TreeQuery::OBJECTS_MAX);
        let given_max = self.admission.window(GIVEN_MAX);
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        let Step::Repairs { next } = &mut exchange.step else { return };
        if !exchange.repairs.is_empty() {
            return;
        }
        let next = next.take();
        let (given, asked) = exchange.batch(keys_max, given_max);
        let Some(keyspace) = exchange.keyspaces.front().copied() else { return };
        if given.is_empty() && asked.is_empty() {
            exchange.step = Step::Repairs { next };
            return self.page_ended(id);
        }
        exchange.step = match asked.is_empty() {
            true => Step::Repairs { next },
            false => Step::Objects { asked: asked.clone(), next },
        };
        given.into_iter().for_each(|key| self.join(id, key, Held::Nothing));
        match asked.is_empty() {
            true => self.go_on_repairing(id),
            false => self.ask_peer(id, TreeQuery::Objects(keyspace, asked)),
        }
    }

    /// The peer's objects of some keys are here: of the first ones, as many as it could send.
    pub(super) fn objects_read(
        &mut self,
        id: ExchangeId,
        asked: &[Bytes],
        theirs: Vec<Held>,
        next: Option<Bytes>,
    ) {
        let Some(exchange) = self.exchanges.running.get(&id) else { return };
        // The ring may have changed since the exchange began.
        let is_void =
            exchange.reason != ExchangeReason::Leave && !self.may_hold(exchange.partition);
        if is_void || theirs.is_empty() || theirs.len() > asked.len() {
            return self.end_exchange(id, ExchangeEnd::Failed);
        }
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        let left = asked[theirs.len()..].iter().rev().map(|key| (key.clone(), true));
        left.for_each(|key| exchange.differing.push_front(key));
        exchange.is_peer_whole &= !theirs.contains(&Held::Damaged);
        exchange.step = Step::Repairs { next };
        for (key, held) in asked.iter().zip(theirs) {
            self.join(id, key.clone(), held);
        }
        self.go_on_repairing(id);
    }

    /// Joins what the peer holds of a key with the own object, or reads that if the peer has
    /// nothing that is whole.
    fn join(&mut self, id: ExchangeId, key: Bytes, held: Held) {
        let request = self.number();
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        let Some(keyspace) = exchange.keyspaces.front().copied() else { return };
        let (partition, reason) = (exchange.partition, exchange.reason);
        let key = StoreKey { partition, keyspace, key };
        let is_damaged = held == Held::Damaged;
        let theirs = match held {
            Held::Whole(siblings) => Some(siblings),
            Held::Nothing | Held::Damaged => None,
        };
        if reason == ExchangeReason::Fill && theirs.is_none() {
            let end = if is_damaged { End::Damaged } else { End::Repaired };
            return exchange.count(end);
        }
        let state = State::Joining { theirs: theirs.clone() };
        let repair = Repair { key: key.clone(), state, is_damaged, due_ms: u64::MAX };
        exchange.repairs.insert(request, repair);
        self.exchanges.asked.insert(request, id);
        let token = self.effect(Purpose::ExchangeObject(id, request));
        let Some(siblings) = theirs else {
            return self.act(Action::Load { token, key, with_hints: false });
        };
        let (survivors, change) = (self.survivors(key.keyspace), Change::Sync(siblings));
        let (area, targets, is_sync) = (Area::Data, Vec::new(), true);
        self.act(Action::Write { token, area, key, change, targets, survivors, is_sync });
    }

    /// The own object was read: the peer holds nothing of the key that is whole.
    pub(in crate::node) fn repair_loaded(
        &mut self,
        id: ExchangeId,
        request: RequestId,
        result: Result<Option<Arc<Siblings>>, StoreFailure>,
    ) {
        let repairs = self.exchanges.running.get(&id).map(|exchange| &exchange.repairs);
        let is_damaged = repairs.and_then(|r| r.get(&request)).is_some_and(|r| r.is_damaged);
        match result {
            Ok(Some(siblings)) => self.joined(id, request, &siblings),
            Ok(None) if is_damaged => self.repair_ended(id, request, End::Damaged),
            Ok(None) => self.repair_ended(id, request, End::Repaired),
            Err(StoreFailure::Damaged) => self.repair_ended(id, request, End::Damaged),
            Err(_) => self.repair_ended(id, request, End::Failed),
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
            Err(_) => self.repair_ended(id, request, End::Failed),
        }
    }

    fn joined(&mut self, id: ExchangeId, request: RequestId, joined: &Arc<Siblings>) {
        let due_ms = self.in_ms(self.settings.replica_timeout_ms.saturating_mul(4));
        let ring_version = self.ring_version();
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        let (peer, is_taking) = (exchange.peer, exchange.reason == ExchangeReason::Fill);
        let Some(repair) = exchange.repairs.get_mut(&request) else { return };
        let State::Joining { theirs } = &repair.state else { return };
        if is_taking || theirs.as_ref().is_some_and(|theirs| **theirs == **joined) {
            return self.repair_ended(id, request, End::Repaired);
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

    fn is_writing_repair(&self, peer: NodeId, request: RequestId) -> Option<ExchangeId> {
        let id = *self.exchanges.asked.get(&request)?;
        let exchange = self.exchanges.running.get(&id).filter(|exchange| exchange.peer == peer)?;
        let repair = exchange.repairs.get(&request)?;
        matches!(repair.state, State::Writing).then_some(id)
    }

    /// The peer has synced a join.
    pub(in crate::node) fn repair_written(&mut self, peer: NodeId, request: RequestId) {
        if let Some(id) = self.is_writing_repair(peer, request) {
            self.repair_ended(id, request, End::Repaired);
        }
    }

    /// The peer did not store a join, or could not be sent it.
    pub(super) fn repair_refused(&mut self, peer: NodeId, request: RequestId) {
        if let Some(id) = self.is_writing_repair(peer, request) {
            self.repair_ended(id, request, End::Failed);
        }
    }

    pub(super) fn overdue_repairs(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let mut late: Vec<(ExchangeId, RequestId)> = Vec::new();
        for (id, exchange) in &self.exchanges.running {
            let overdue = exchange.repairs.iter().filter(|(_, repair)| repair.due_ms <= now_ms);
            late.extend(overdue.map(|(request, _)| (*id, *request)));
        }
        late.into_iter().for_each(|(id, request)| self.repair_ended(id, request, End::Failed));
    }

    fn repair_ended(&mut self, id: ExchangeId, request: RequestId, end: End) {
        self.exchanges.asked.remove(&request);
        let Some(exchange) = self.exchanges.running.get_mut(&id) else { return };
        if exchange.repairs.remove(&request).is_some() {
            exchange.count(end);
            self.go_on_repairing(id);
        }
    }
}
