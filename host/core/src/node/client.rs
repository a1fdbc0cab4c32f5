//! What this node coordinates: gets, puts and forwarded puts.

use std::sync::Arc;

use super::{Forward, InFlight, Node, Purpose};
use crate::catalogue::Durability;
use crate::causality::Siblings;
use crate::event::{Action, Area, Notice, StoreFailure, Stored, Ticket, Token};
use crate::id::{KeyspaceId, NodeId};
use crate::keys::StoreKey;
use crate::message::{Message, PutReceipt, ReplicaWrite, RequestId};
use crate::node::timers::Timer;
use crate::request::get::Get;
use crate::request::put::{Asker, Place, Put};
use crate::request::{Effect, GetRequest, PutRequest, QuorumKind, RequestError};
use crate::ring::PreferenceList;
use crate::write::Change;

/// What is known of a key before a request for it starts.
struct Prepared {
    key: StoreKey,
    list: PreferenceList,
    needed: u32,
    durability: Durability,
}

impl Node {
    fn prepare(
        &self,
        (keyspace, key): (KeyspaceId, &bytes::Bytes),
        name: &'static str,
        asked: Option<u32>,
    ) -> Result<Prepared, RequestError> {
        let (catalogue, keyspace) = self.keyspace(keyspace)?;
        let quorums = keyspace.quorums.value;
        let default = if name == "r" { quorums.r } else { quorums.w };
        let needed = asked.unwrap_or(default);
        if needed == 0 || needed > quorums.n {
            return Err(RequestError::BadQuorum { name, found: needed, n: quorums.n });
        }
        let partition = catalogue.ring.partition(keyspace.id, key);
        let list = catalogue.ring.preference_list(partition, quorums.n as usize);
        let owners = list.primaries().len() as u32;
        if needed > owners {
            return Err(RequestError::TooFewNodes { name, needed, owners });
        }
        let key = StoreKey { partition, keyspace: keyspace.id, key: key.clone() };
        Ok(Prepared { key, list, needed, durability: keyspace.durability.value })
    }

    pub(super) fn start_get(&mut self, ticket: Ticket, get: GetRequest) {
        let prepared = match self.prepare((get.keyspace, &get.key), "r", get.r) {
            Ok(prepared) => prepared,
            Err(error) => return self.act(Action::GetDone(ticket, Err(error))),
        };
        let deadline_ms = self.in_ms(get.timeout_ms);
        let Prepared { key, list, needed, .. } = prepared;
        let rules = (get.quorum, self.fold(key.keyspace));
        let state = Get::new(ticket, key, deadline_ms, needed as usize, rules, &list, |node| {
            self.is_reachable(node)
        });
        let request = self.number();
        self.requests.insert(request, InFlight::Get(Box::new(state)));
        for _ in 0..list.primaries().len() {
            self.ask_next(request);
        }
        self.advance(request);
    }

    /// Asks the next node of a get's list, if one is left.
    fn ask_next(&mut self, request: RequestId) {
        let due_ms = self.in_ms(self.settings.replica_timeout_ms);
        let Some(InFlight::Get(get)) = self.requests.get_mut(&request) else {
            return;
        };
        let key = get.key.clone();
        let Some((node, is_fallback)) = get.next_to_ask(due_ms) else {
            return;
        };
        if node == self.id {
            let token = self.effect(Purpose::OwnRead(request));
            self.act(Action::Load { token, key, with_hints: is_fallback });
        } else {
            let ring_version = self.ring_version();
            let StoreKey { keyspace, key, .. } = key;
            let read = Message::Read { request, keyspace, key, ring_version, is_fallback };
            self.send(node, read);
        }
    }

    pub(super) fn start_put(&mut self, asker: Asker, put: PutRequest) {
        let prepared = match self.prepare((put.keyspace, &put.key), "w", put.w) {
            Ok(prepared) => prepared,
            Err(error) => return self.put_done(asker, Err(error)),
        };
        let is_client = matches!(asker, Asker::Client(_));
        if is_client && !prepared.list.is_primary(self.id) {
            let mut owners: Vec<NodeId> = prepared.list.primaries().to_vec();
            owners.retain(|owner| self.is_reachable(*owner));
            if !owners.is_empty() {
                return self.forward(asker, put, owners);
            }
        }
        self.coordinate(asker, put, prepared);
    }

    fn coordinate(&mut self, asker: Asker, put: PutRequest, prepared: Prepared) {
        let Prepared { key, list, needed, durability } = prepared;
        let durability = put.durability.unwrap_or(durability);
        let state = Put::new(
            asker,
            key.clone(),
            self.in_ms(put.timeout_ms),
            durability == Durability::All,
            needed as usize,
            put.quorum,
            (self.id, &list),
            |node| self.is_reachable(node),
        );
        let is_strict_stranger = put.quorum == QuorumKind::Strict && !state.is_owner();
        let possible = if is_strict_stranger {
            0
        } else {
            state.possible(|node| self.is_reachable(node)) as u32
        };
        if possible < needed {
            // Known before the mint, so the client is told that nothing happened.
            let error =
                RequestError::QuorumNotReached { needed, answered: 0, effect: Effect::None };
            return self.put_done(asker, Err(error));
        }
        let fold = self.fold(key.keyspace);
        let (area, targets) = match state.is_owner() {
            true => (Area::Data, Vec::new()),
            false => (Area::Hints, state.primaries().to_vec()),
        };
        let request = self.number();
        self.requests.insert(request, InFlight::Put(Box::new(state)));
        let token = self.effect(Purpose::Mint(request));
        let PutRequest { context, draft, limits, .. } = put;
        let change = Change::Mint { context, draft, now_ms: self.now.wall_ms, limits };
        let is_sync = durability != Durability::Buffered;
        self.act(Action::Write { token, area, key, change, targets, fold, is_sync });
        self.advance(request);
    }

    fn forward(&mut self, asker: Asker, put: PutRequest, mut owners: Vec<NodeId>) {
        let to = owners.remove(0);
        let request = self.number();
        let due_ms = self.in_ms(put.timeout_ms);
        self.send(to, Message::Forward { request, put: put.clone() });
        let forward = Forward { asker, put, to, others: owners, due_ms };
        self.requests.insert(request, InFlight::Forward(Box::new(forward)));
        self.timers.set(due_ms, Timer::Request(request));
    }

    pub(super) fn forward_ended(
        &mut self,
        request: RequestId,
        result: Result<PutReceipt, RequestError>,
    ) {
        if let Some(InFlight::Forward(forward)) = self.requests.get(&request) {
            let asker = forward.asker;
            self.requests.remove(&request);
            self.put_done(asker, result);
        }
    }

    /// The forward did not leave this node: another owner may be tried.
    fn forward_undelivered(&mut self, request: RequestId) {
        if let Some(InFlight::Forward(forward)) = self.requests.remove(&request) {
            let Forward { asker, mut put, others, due_ms, .. } = *forward;
            put.timeout_ms = due_ms.saturating_sub(self.now.monotonic_ms);
            if !others.is_empty() {
                return self.forward(asker, put, others);
            }
            match self.prepare((put.keyspace, &put.key), "w", put.w) {
                Ok(prepared) => self.coordinate(asker, put, prepared),
                Err(error) => self.put_done(asker, Err(error)),
            }
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
                self.replica_failed(self.id, request, error == StoreFailure::Damaged);
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
        if let Some(InFlight::Get(get)) = self.requests.get_mut(&request) {
            get.answered(node, held);
            self.advance(request);
        }
    }

    /// A replica holds what it was sent: of a put, or a hint.
    pub(super) fn replica_wrote(&mut self, node: NodeId, request: RequestId) {
        match self.requests.get_mut(&request) {
            Some(InFlight::Put(put)) => {
                put.acknowledged(node);
                self.advance(request);
            }
            _ => self.hint_received(node, request),
        }
    }

    /// A replica did not do what it was asked, or could not be asked.
    pub(super) fn replica_failed(&mut self, node: NodeId, request: RequestId, is_damaged: bool) {
        let due_ms = self.in_ms(self.settings.replica_timeout_ms);
        match self.requests.get_mut(&request) {
            Some(InFlight::Get(get)) => {
                if get.failed(node, is_damaged) {
                    self.ask_next(request);
                }
            }
            Some(InFlight::Put(put)) => {
                let place = put.failed(node, due_ms);
                place.into_iter().for_each(|place| self.place(request, place));
            }
            Some(InFlight::Forward(forward)) if forward.to == node => {
                return self.forward_undelivered(request);
            }
            Some(InFlight::Forward(_)) => return,
            None => return self.hint_refused(node, request),
        }
        self.advance(request);
    }

    /// The coordinator's mint ended.
    pub(super) fn mint_ended(&mut self, request: RequestId, result: Result<Stored, StoreFailure>) {
        let due_ms = self.in_ms(self.settings.replica_timeout_ms);
        let Some(InFlight::Put(put)) = self.requests.get_mut(&request) else {
            return;
        };
        // A stranger's own record is a hint for every owner.
        let hint_for = if put.is_owner() { Vec::new() } else { put.primaries().to_vec() };
        let keyspace = put.key.keyspace;
        let ended = (put.asker, put.is_answered());
        let failure = match result {
            Ok(Stored { siblings, dot: Some(dot) }) => {
                let detector = &self.detector;
                let places = put.minted(dot, siblings, |node| detector.is_reachable(node), due_ms);
                hint_for.into_iter().for_each(|owner| self.hint_kept(owner, keyspace));
                places.into_iter().for_each(|place| self.place(request, place));
                return self.advance(request);
            }
            Ok(Stored { dot: None, .. }) => {
                let reason = "the store answered a mint without a dot".to_owned();
                RequestError::Store { reason, effect: Effect::Maybe }
            }
            Err(StoreFailure::Refused(refused)) => RequestError::TooManySiblings(refused),
            Err(StoreFailure::Failed(reason)) => {
                hint_for.into_iter().for_each(|owner| self.expect_hint(owner));
                RequestError::Store { reason, effect: Effect::Maybe }
            }
            Err(error) => RequestError::Store { reason: error.to_string(), effect: Effect::None },
        };
        let (asker, is_answered) = ended;
        self.requests.remove(&request);
        if !is_answered {
            self.put_done(asker, Err(failure));
        }
    }

    /// Carries out what an owner is owed.
    fn place(&mut self, request: RequestId, place: Place) {
        let Some(InFlight::Put(put)) = self.requests.get(&request) else {
            return;
        };
        let Some(siblings) = put.siblings().cloned() else {
            return;
        };
        let (key, is_sync) = (put.key.clone(), put.is_sync);
        let (to, hint_for) = match place {
            Place::Owner(node) => (node, Vec::new()),
            Place::Fallback { node, owner } => (node, vec![owner]),
            Place::Here { owner } => return self.keep_hint(request, owner, key, siblings),
        };
        let ring_version = self.ring_version();
        let StoreKey { keyspace, key, .. } = key;
        let write =
            ReplicaWrite { request, keyspace, key, ring_version, siblings, hint_for, is_sync };
        self.send(to, Message::Write(write));
    }

    fn keep_hint(
        &mut self,
        request: RequestId,
        owner: NodeId,
        key: StoreKey,
        siblings: Arc<Siblings>,
    ) {
        let token = self.effect(Purpose::OwnHint(request, owner, key.keyspace));
        let fold = self.fold(key.keyspace);
        self.act(Action::Write {
            token,
            area: Area::Hints,
            key,
            change: Change::Sync(siblings),
            targets: vec![owner],
            fold,
            is_sync: true,
        });
    }

    /// A hint that the coordinator keeps itself is stored, or not.
    pub(super) fn own_hint_ended(
        &mut self,
        request: RequestId,
        (owner, keyspace): (NodeId, KeyspaceId),
        result: Result<Stored, StoreFailure>,
    ) {
        match result {
            Ok(_) => self.hint_kept(owner, keyspace),
            Err(error) => {
                self.hint_failed(owner, &error);
                self.notice(Notice::HintLost(owner, keyspace, error.to_string()));
            }
        }
        if let Some(InFlight::Put(put)) = self.requests.get_mut(&request) {
            put.hint_stored(owner);
            self.advance(request);
        }
    }

    /// A request's replica or client is overdue.
    pub(super) fn request_due(&mut self, request: RequestId) {
        let now_ms = self.now.monotonic_ms;
        let overdue = match self.requests.get(&request) {
            Some(InFlight::Get(get)) => get.overdue(now_ms),
            Some(InFlight::Put(put)) => put.overdue(now_ms),
            Some(InFlight::Forward(forward)) if forward.due_ms <= now_ms => {
                return self.forward_ended(request, Err(RequestError::OutcomeUnknown));
            }
            Some(InFlight::Forward(_)) => return,
            None => return self.hint_due(request),
        };
        overdue.into_iter().for_each(|node| self.replica_failed(node, request, false));
        self.advance(request);
    }

    /// Answers the client as soon as it can be, and ends the request when nothing is left to do.
    fn advance(&mut self, request: RequestId) {
        let now_ms = self.now.monotonic_ms;
        let ring_version = self.ring_version();
        match self.requests.get_mut(&request) {
            Some(InFlight::Get(get)) => {
                if let Some(answer) = get.take_answer(now_ms, ring_version) {
                    let ticket = get.ticket;
                    self.act(Action::GetDone(ticket, answer));
                }
            }
            Some(InFlight::Put(put)) => {
                if let Some(answer) = put.take_answer(now_ms, ring_version) {
                    let asker = put.asker;
                    self.put_done(asker, answer);
                }
            }
            _ => return,
        }
        self.end_or_wait(request);
    }

    fn end_or_wait(&mut self, request: RequestId) {
        let (is_finished, due_ms) = match self.requests.get(&request) {
            Some(InFlight::Get(get)) => (get.is_finished(), get.next_due_ms()),
            Some(InFlight::Put(put)) => (put.is_finished(), put.next_due_ms()),
            _ => return,
        };
        if !is_finished {
            if let Some(due_ms) = due_ms {
                self.timers.set(due_ms, Timer::Request(request));
            }
            return;
        }
        if let Some(InFlight::Get(get)) = self.requests.remove(&request) {
            let key = get.key.clone();
            let (siblings, stale) = get.repairs();
            stale.into_iter().for_each(|node| self.repair(node, &key, &siblings));
        }
    }

    /// Sends an owner what it lacks. Nobody waits for it: the next get would find it again.
    fn repair(&mut self, node: NodeId, key: &StoreKey, siblings: &Arc<Siblings>) {
        self.notice(Notice::ReadRepaired(node));
        let siblings = siblings.clone();
        if node == self.id {
            let token = self.effect(Purpose::OwnRepair);
            let (key, fold) = (key.clone(), self.fold(key.keyspace));
            let change = Change::Sync(siblings);
            let (area, targets, is_sync) = (Area::Data, Vec::new(), false);
            self.act(Action::Write { token, area, key, change, targets, fold, is_sync });
        } else {
            let write = ReplicaWrite {
                request: self.number(),
                keyspace: key.keyspace,
                key: key.key.clone(),
                ring_version: self.ring_version(),
                siblings,
                hint_for: Vec::new(),
                is_sync: false,
            };
            self.send(node, Message::Write(write));
        }
    }

    fn put_done(&mut self, asker: Asker, result: Result<PutReceipt, RequestError>) {
        match asker {
            Asker::Client(ticket) => self.act(Action::PutDone(ticket, result)),
            Asker::Peer(node, request) => {
                self.send(node, Message::ForwardReply { request, result });
            }
        }
    }

    /// An effect on the store ended.
    pub(super) fn loaded(
        &mut self,
        token: Token,
        result: Result<Option<Arc<Siblings>>, StoreFailure>,
    ) {
        match self.effects.remove(&token) {
            Some(Purpose::OwnRead(request)) => self.own_read(request, result),
            Some(Purpose::PeerRead(node, request)) => self.peer_read_ended(node, request, result),
            _ => {}
        }
    }

    /// An effect on the store ended.
    pub(super) fn written(&mut self, token: Token, result: Result<Stored, StoreFailure>) {
        match self.effects.remove(&token) {
            Some(Purpose::Mint(request)) => self.mint_ended(request, result),
            Some(Purpose::OwnHint(request, owner, keyspace)) => {
                self.own_hint_ended(request, (owner, keyspace), result);
            }
            Some(Purpose::PeerWrite(node, request, keyspace, hint_for)) => {
                self.peer_write_ended(node, request, (keyspace, &hint_for), result);
            }
            _ => {}
        }
    }
}
