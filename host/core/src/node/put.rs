//! The puts that this node coordinates, or hands to an owner of the key.

use std::sync::Arc;

use super::client::Prepared;
use super::timers::Timer;
use super::{Forward, InFlight, Node, Purpose};
use crate::ancestor::Ancestors;
use crate::catalogue::{Durability, Reconcile};
use crate::causality::Siblings;
use crate::event::{Action, Area, Notice, StoreFailure, Stored};
use crate::id::{KeyspaceId, NodeId};
use crate::keys::StoreKey;
use crate::message::{Message, ReplicaWrite, RequestId};
use crate::request::put::{Asker, Place, Put};
use crate::request::{Effect, PutReceipt, PutRequest, QuorumKind, RequestError};
use crate::write::{Change, WriteRefused};

/// Whether the store of who coordinated certainly did nothing, so that another owner may try.
fn is_untouched(error: &RequestError) -> bool {
    matches!(error, RequestError::Store { effect: Effect::None, .. })
}

impl Node {
    pub(super) fn start_put(&mut self, asker: Asker, put: PutRequest) {
        let prepared = match self.prepare((put.keyspace, &put.key), "w", put.w) {
            Ok(prepared) => prepared,
            Err(error) => return self.put_done(asker, Err(error)),
        };
        // A named write has one coordinator while nobody comes or goes: who has minted it knows
        // its retry.
        let is_frozen = self.is_frozen(prepared.key.partition, self.id);
        let is_mine =
            prepared.list.is_primary(self.id) && put.draft.request.is_none() && !is_frozen;
        if matches!(asker, Asker::Client(_)) && !is_mine {
            let mut owners: Vec<NodeId> = prepared.list.primaries().to_vec();
            owners.retain(|owner| self.is_reachable(*owner));
            owners.retain(|owner| !is_frozen || *owner != self.id);
            if owners.first().is_some_and(|first| *first != self.id) {
                return self.forward(asker, put, owners, None);
            }
        }
        self.coordinate(asker, put, prepared);
    }

    pub(super) fn coordinate(&mut self, asker: Asker, put: PutRequest, prepared: Prepared) {
        let Prepared { key, list, needed, durability } = prepared;
        let durability = put.durability.unwrap_or(durability);
        let mut state = Put::new(
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
        if state.is_owner() && self.is_frozen(key.partition, self.id) {
            // Another owner may take it; this one would not hold it when it hands over.
            let reason = "the partition is being handed over to another node".to_owned();
            let error = RequestError::Store { reason, effect: Effect::None };
            return self.put_done(asker, Err(error));
        }
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
        let until_ms = state.deadline_ms;
        state.retry = matches!(asker, Asker::Client(_)).then(|| Box::new(put.clone()));
        self.requests.insert(request, InFlight::Put(Box::new(state)));
        let token = self.effect(Purpose::Mint(request));
        let PutRequest { context, draft, limits, .. } = put;
        let ancestors = self.ancestors(&key);
        let now_ms = self.now.wall_ms;
        let change = Change::Mint { context, draft, now_ms, limits, ancestors, until_ms };
        let is_sync = durability != Durability::Buffered;
        self.act(Action::Write { token, area, key, change, targets, fold, is_sync });
        self.advance(request);
    }

    /// What a write of `key` is to keep of its past.
    fn ancestors(&self, key: &StoreKey) -> Ancestors {
        match self.keeps_ancestors(key.keyspace) {
            true => Ancestors::Kept { held_by_all: self.held_by_all.of(key) },
            false => Ancestors::NotKept,
        }
    }

    pub(super) fn keeps_ancestors(&self, keyspace: KeyspaceId) -> bool {
        let keyspace = self.keyspaces.get(&keyspace);
        keyspace.is_some_and(|k| matches!(k.reconcile.value, Reconcile::ThreeWay(_)))
    }

    /// All owners hold `siblings`, as a client's request has shown.
    pub(super) fn note_held_by_all(&mut self, key: &StoreKey, siblings: &Siblings) {
        if self.keeps_ancestors(key.keyspace) {
            self.held_by_all.note(key, siblings);
        }
    }

    pub(super) fn forward(
        &mut self,
        asker: Asker,
        put: PutRequest,
        mut owners: Vec<NodeId>,
        refusal: Option<RequestError>,
    ) {
        let to = owners.remove(0);
        if to == self.id {
            return match self.prepare((put.keyspace, &put.key), "w", put.w) {
                Ok(prepared) => self.coordinate(asker, put, prepared),
                Err(error) => self.put_done(asker, Err(error)),
            };
        }
        let request = self.number();
        let due_ms = self.in_ms(put.timeout_ms);
        // The owner's word about a put that falls short must be here before the client gives up.
        let timeout_ms = put.timeout_ms - put.timeout_ms / 10;
        self.send(to, Message::Forward { request, put: PutRequest { timeout_ms, ..put.clone() } });
        let forward = Forward { asker, put, to, others: owners, refusal, due_ms };
        self.requests.insert(request, InFlight::Forward(Box::new(forward)));
        self.timers.set(due_ms, Timer::Request(request));
    }

    pub(super) fn forward_ended(
        &mut self,
        request: RequestId,
        result: Result<PutReceipt, RequestError>,
    ) {
        if !matches!(self.requests.get(&request), Some(InFlight::Forward(_))) {
            return;
        }
        if let Some(InFlight::Forward(forward)) = self.requests.remove(&request) {
            let Forward { asker, mut put, others, due_ms, .. } = *forward;
            self.timers.drop(due_ms, Timer::Request(request));
            put.timeout_ms = due_ms.saturating_sub(self.now.monotonic_ms);
            match result {
                Err(error) if !others.is_empty() && put.timeout_ms > 0 && is_untouched(&error) => {
                    self.forward(asker, put, others, Some(error));
                }
                result => self.put_done(asker, result),
            }
        }
    }

    /// The forward did not leave this node: another owner may be tried.
    pub(super) fn forward_undelivered(&mut self, request: RequestId) {
        if let Some(InFlight::Forward(forward)) = self.requests.remove(&request) {
            let Forward { asker, mut put, others, refusal, due_ms, .. } = *forward;
            self.timers.drop(due_ms, Timer::Request(request));
            put.timeout_ms = due_ms.saturating_sub(self.now.monotonic_ms);
            if !others.is_empty() {
                return self.forward(asker, put, others, refusal);
            }
            match (refusal, self.prepare((put.keyspace, &put.key), "w", put.w)) {
                (Some(error), _) | (None, Err(error)) => self.put_done(asker, Err(error)),
                (None, Ok(prepared)) => self.coordinate(asker, put, prepared),
            }
        }
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
                let (detector, is_stopping) = (&self.detector, self.is_stopping);
                let places = put.minted(
                    dot,
                    siblings,
                    |node| !is_stopping && detector.is_reachable(node),
                    due_ms,
                );
                hint_for.into_iter().for_each(|owner| self.hint_kept(owner, keyspace));
                places.into_iter().for_each(|place| self.place(request, place));
                return self.advance(request);
            }
            Ok(Stored { dot: None, .. }) => {
                let reason = "the store answered a mint without a dot".to_owned();
                RequestError::Store { reason, effect: Effect::Maybe }
            }
            Err(StoreFailure::Refused(WriteRefused::RequestReused(dot))) => {
                RequestError::RequestReused(dot)
            }
            Err(StoreFailure::Refused(refused)) => RequestError::Refused(refused),
            Err(StoreFailure::Failed(reason)) => {
                hint_for.into_iter().for_each(|owner| self.expect_hint(owner));
                RequestError::Store { reason, effect: Effect::Maybe }
            }
            Err(error) => RequestError::Store { reason: error.to_string(), effect: Effect::None },
        };
        let (asker, is_answered) = ended;
        let retry = self.take_retry(request);
        self.requests.remove(&request);
        match retry {
            _ if is_answered => {}
            Some((put, owners)) if is_untouched(&failure) => {
                self.forward(asker, put, owners, Some(failure));
            }
            _ => self.put_done(asker, Err(failure)),
        }
    }

    /// A client's put that this node could not store, for the other owners in reach.
    fn take_retry(&mut self, request: RequestId) -> Option<(PutRequest, Vec<NodeId>)> {
        let Some(InFlight::Put(put)) = self.requests.get_mut(&request) else {
            return None;
        };
        let left_ms = put.deadline_ms.saturating_sub(self.now.monotonic_ms);
        let again = PutRequest { timeout_ms: left_ms, ..*put.retry.take()? };
        let mut owners = put.primaries().to_vec();
        owners.retain(|owner| *owner != self.id && self.is_reachable(*owner));
        (left_ms > 0 && !owners.is_empty()).then_some((again, owners))
    }

    /// Carries out what an owner is owed.
    pub(super) fn place(&mut self, request: RequestId, place: Place) {
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
        let epoch = self.send_epoch();
        let write = ReplicaWrite {
            request,
            keyspace,
            key,
            ring_version,
            siblings,
            hint_for,
            is_sync,
            epoch,
        };
        self.send(to, Message::Write(write));
    }

    pub(super) fn keep_hint(
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
        let retry_ms = self.in_ms(self.settings.replica_timeout_ms);
        let Some(InFlight::Put(put)) = self.requests.get_mut(&request) else {
            return;
        };
        match result {
            Ok(_) => {
                put.hint_stored(owner);
                self.hint_kept(owner, keyspace);
            }
            Err(error) => {
                if put.hint_failed(owner, error.to_string(), retry_ms) {
                    self.notice(Notice::HintLost(owner, keyspace, error.to_string()));
                }
                self.hint_failed(owner, &error);
            }
        }
        self.advance(request);
    }

    /// Tries again what could not be stored as a hint.
    pub(super) fn retry_hints(&mut self, request: RequestId) {
        let now_ms = self.now.monotonic_ms;
        let due_ms = self.in_ms(self.settings.replica_timeout_ms);
        if let Some(InFlight::Put(put)) = self.requests.get_mut(&request) {
            let detector = &self.detector;
            let places = put.retry(now_ms, |node| detector.is_reachable(node), due_ms);
            places.into_iter().for_each(|place| self.place(request, place));
        }
    }

    /// What owners are owed becomes hints here: the node is about to stop.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        let requests: Vec<RequestId> = self.requests.keys().copied().collect();
        for request in requests {
            if let Some(InFlight::Put(put)) = self.requests.get_mut(&request) {
                let places = put.stop();
                places.into_iter().for_each(|place| self.place(request, place));
                self.advance(request);
            }
        }
    }

    pub(super) fn put_done(&mut self, asker: Asker, result: Result<PutReceipt, RequestError>) {
        match asker {
            Asker::Client(ticket) => self.act(Action::PutDone(ticket, result)),
            Asker::Peer(node, request) => {
                self.send(node, Message::ForwardReply { request, result });
            }
        }
    }
}
