//! The puts that this node coordinates, and the dots that it lends to others that do.

use std::collections::VecDeque;
use std::sync::Arc;

use super::client::Prepared;
use super::{Failure, InFlight, Node, Purpose};
use crate::ancestor::Ancestors;
use crate::catalogue::{Durability, Reconcile};
use crate::causality::Siblings;
use crate::event::{Action, Notice, StoreFailure, Stored};
use crate::id::{Dot, KeyspaceId, NodeId, Ticket, Token};
use crate::keys::StoreKey;
use crate::message::{Message, ReplicaWrite, RequestId};
use crate::request::put::{Next, Place, Put};
use crate::request::{Effect, ImportRequest, PutReceipt, PutRequest, QuorumKind, RequestError};
use crate::write::{Change, WriteRefused};

/// Whether the store of who was to mint certainly did nothing, so that another owner may try.
fn is_untouched(error: &RequestError) -> bool {
    matches!(error, RequestError::Store { effect: Effect::None, .. })
}

/// Why a store did not mint, as the client is told.
fn mint_failure(failure: StoreFailure) -> RequestError {
    match failure {
        StoreFailure::Refused(WriteRefused::RequestReused(dot)) => RequestError::RequestReused(dot),
        StoreFailure::Refused(refused) => RequestError::Refused(refused),
        StoreFailure::Failed(reason) => RequestError::Store { reason, effect: Effect::Maybe },
        error => RequestError::Store { reason: error.to_string(), effect: Effect::None },
    }
}

/// Known before anything is written, so the client is told that nothing happened.
fn out_of_reach(needed: u32) -> RequestError {
    RequestError::QuorumNotReached { needed, answered: 0, effect: Effect::None }
}

impl Node {
    pub(super) fn start_put(&mut self, ticket: Ticket, put: PutRequest) {
        if let Err(error) = self.may_write() {
            return self.put_done(ticket, Err(error));
        }
        let prepared = match self.prepare((put.keyspace, &put.key), "w", put.w) {
            Ok(prepared) => prepared,
            Err(error) => return self.put_done(ticket, Err(error)),
        };
        let Prepared { key, list, needed, also, durability, .. } = prepared;
        let of = |(owners, needed): (&[NodeId], u32)| {
            self.needed_of(put.quorum, owners, ("w", put.w, needed))
        };
        let also_of = |(owners, needed): (Vec<NodeId>, u32)| {
            of((&owners, needed)).map(|needed| (owners, needed as usize))
        };
        let (needed, also) = match (of((list.primaries(), needed)), also.map(also_of).transpose()) {
            (Ok(needed), Ok(also)) => (needed, also),
            (Err(error), _) | (_, Err(error)) => return self.put_done(ticket, Err(error)),
        };
        let namers = self.namers(&key, &put, list.primaries());
        let durability = put.durability.unwrap_or(durability);
        let is_stuck = namers.is_empty() && list.is_primary(self.id);
        let is_alone =
            namers.is_empty() && !list.is_primary(self.id) && put.quorum != QuorumKind::Sloppy;
        let kind = put.quorum;
        let deadline_ms = self.in_ms(put.timeout_ms);
        let terms = (deadline_ms, durability, needed as usize);
        let state = Put::new((ticket, put), key, terms, (self.id, &list), namers, |node| {
            self.is_reachable(node)
        });
        let counts = |owner: &NodeId| self.counts_for(kind, *owner);
        let state = match kind {
            QuorumKind::Local => state.counting(list.primaries().iter().copied().filter(counts)),
            QuorumKind::Sloppy | QuorumKind::Strict => state,
        };
        let state = match also {
            Some((owners, n)) => state.reaching_also(owners.into_iter().filter(counts), n),
            None => state,
        };
        if is_stuck {
            // Another owner may take it; this one would not hold it when it hands over.
            let reason = "the partition is being handed over to another node".to_owned();
            let error = RequestError::Store { reason, effect: Effect::None };
            return self.put_done(ticket, Err(error));
        }
        if is_alone || state.is_out_of_reach(|node| self.is_reachable(node)) {
            return self.put_done(ticket, Err(out_of_reach(needed)));
        }
        let request = self.begin_put(state);
        self.turn_to_next(request);
        self.advance(request);
    }

    /// Takes an object in that has its dots: what is left of a put once it has one.
    pub(super) fn start_import(&mut self, ticket: Ticket, import: ImportRequest) {
        let prepared = self
            .may_write()
            .and_then(|()| self.prepare((import.keyspace, &import.key), "w", import.w));
        let Prepared { key, list, needed, also, durability, .. } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.put_done(ticket, Err(error)),
        };
        let terms = (self.in_ms(import.timeout_ms), durability, needed as usize);
        let Some((dot, _)) = import.siblings.live().next() else {
            let reason = "the object holds no version".to_owned();
            let error = RequestError::Store { reason, effect: Effect::None };
            return self.put_done(ticket, Err(error));
        };
        let object = (ticket, dot, import.siblings);
        let state =
            Put::given(object, key, terms, (self.id, &list), |node| self.is_reachable(node));
        let state = match also {
            Some((owners, needed)) => state.reaching_also(owners.into_iter(), needed as usize),
            None => state,
        };
        if state.is_out_of_reach(|node| self.is_reachable(node)) {
            return self.put_done(ticket, Err(out_of_reach(needed)));
        }
        let request = self.begin_put(state);
        self.spread(request);
    }

    fn begin_put(&mut self, state: Put) -> RequestId {
        let request = self.number();
        let mut state = Box::new(state.minding(self.regions.clone()));
        state.began_ms = self.now.monotonic_ms;
        state.ring_version = self.ring_version();
        self.requests.insert(request, InFlight::Put(state));
        request
    }

    /// Who is to give a put its dot, in order: the owners in reach. A named write has one that is
    /// the first while nobody comes or goes: who has minted it knows its retry.
    fn namers(&self, key: &StoreKey, put: &PutRequest, owners: &[NodeId]) -> VecDeque<NodeId> {
        let is_frozen = self.is_frozen((key.partition, key.keyspace), self.id);
        let mut namers: VecDeque<NodeId> = owners.iter().copied().collect();
        namers.retain(|owner| self.is_reachable(*owner) && !(is_frozen && *owner == self.id));
        // Who is only becoming an owner does not hold what there is.
        let reads = self.keyspaces.get(&key.keyspace).map(|keyspace| keyspace.reading().n as usize);
        let readable = &owners[..owners.len().min(reads.unwrap_or(usize::MAX))];
        if readable.len() < owners.len() {
            namers.make_contiguous().sort_by_key(|owner| !readable.contains(owner));
        }
        if put.quorum == QuorumKind::Local {
            // Its dot comes from a node that counts, if one is there.
            namers.make_contiguous().sort_by_key(|owner| !self.is_near(*owner));
        }
        if put.draft.request.is_none()
            && let Some(place) = namers.iter().position(|owner| *owner == self.id)
            && readable.contains(&self.id)
        {
            namers.remove(place);
            namers.push_front(self.id);
        }
        namers
    }

    /// Has the next node give a put its dot.
    pub(super) fn turn_to_next(&mut self, request: RequestId) {
        let due_ms = self.in_ms(self.settings.replica_timeout_ms);
        let takes_own = self.takes_own(request);
        let Some(InFlight::Put(put)) = self.requests.get_mut(&request) else {
            return;
        };
        match put.next_namer(due_ms) {
            Next::Borrow(owner, mut wanted) => {
                wanted.timeout_ms = put.deadline_ms.saturating_sub(self.now.monotonic_ms);
                self.send(owner, Message::Forward { request, put: *wanted });
            }
            Next::Mint(_) if put.is_owner() && !takes_own => {
                let reason = "the partition is another node's by now".to_owned();
                let error = RequestError::Store { reason, effect: Effect::None };
                self.unnamed(request, error);
            }
            Next::Mint(wanted) => {
                let targets = match put.is_owner() {
                    true => Vec::new(),
                    false => put.primaries().to_vec(),
                };
                let (key, deadline_ms, is_lent) = (put.key.clone(), put.deadline_ms, false);
                let (is_sync, is_told) = (put.durability != Durability::Buffered, put.is_told());
                let change = self.mint(&key, *wanted, deadline_ms, is_lent);
                let purpose = Purpose::Mint(request);
                match is_told {
                    true => self.write_told(purpose, key, change),
                    false => self.write(purpose, key, change, targets, is_sync),
                }
            }
            Next::Refused(error) => self.end_put(request, error),
            Next::Wait => {}
        }
    }

    /// Whether the store here takes what a put has for this node as an owner. It may have handed the
    /// partition over since the put began, to who counts for its next reader.
    fn takes_own(&self, request: RequestId) -> bool {
        let Some(InFlight::Put(put)) = self.requests.get(&request) else { return false };
        let (key, ring_version) = (&put.key, put.ring_version);
        let is_owner = self.keyspace(key.keyspace).is_ok_and(|(catalogue, keyspace)| {
            self.is_owner_for(catalogue, (key.partition, keyspace.holders()), ring_version)
        });
        is_owner && !self.is_frozen((key.partition, key.keyspace), self.id)
    }

    fn mint(&self, key: &StoreKey, put: PutRequest, until_ms: u64, is_lent: bool) -> Change {
        let PutRequest { context, draft, limits, .. } = put;
        let (ancestors, now_ms) = (self.ancestors(key), self.now.wall_ms);
        let (passed_ms, allowance) = (self.clocks_passed_ms(), self.allowance(key.keyspace));
        Change::Mint {
            context,
            draft,
            now_ms,
            passed_ms,
            limits,
            ancestors,
            until_ms,
            is_lent,
            allowance,
        }
    }

    /// A put ends without having done anything.
    fn end_put(&mut self, request: RequestId, error: RequestError) {
        if let Some(InFlight::Put(put)) = self.requests.remove(&request)
            && !put.is_answered()
        {
            self.put_done(put.ticket, Err(error));
        }
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

    /// The coordinator's mint is in its store, and not durable yet: while it syncs so do others.
    pub(super) fn applied(&mut self, token: Token, stored: Stored) {
        let Some(Purpose::Mint(request)) = self.effects.get(&token) else { return };
        let request = *request;
        if let Some(InFlight::Put(put)) = self.requests.get_mut(&request)
            && let Stored { siblings, dot: Some(dot), .. } = stored
        {
            put.applied(dot, siblings);
            self.spread(request);
        }
    }

    /// What the coordinator's store takes as another owner's would is durable, or not.
    pub(super) fn own_write_ended(
        &mut self,
        request: RequestId,
        result: &Result<Stored, StoreFailure>,
    ) {
        match result {
            Ok(_) => self.replica_wrote(self.id, request),
            Err(_) => self.replica_failed(self.id, request, Failure::Refused),
        }
    }

    /// The coordinator's mint ended.
    pub(super) fn mint_ended(&mut self, request: RequestId, result: Result<Stored, StoreFailure>) {
        let Some(InFlight::Put(put)) = self.requests.get_mut(&request) else {
            return;
        };
        if put.is_applied() {
            return self.own_write_ended(request, &result);
        }
        // A stranger's own record is a hint for every owner.
        let hint_for = if put.is_owner() { Vec::new() } else { put.primaries().to_vec() };
        let keyspace = put.key.keyspace;
        let error = match result {
            Ok(Stored { siblings, dot: Some(dot), .. }) => {
                put.minted(dot, siblings);
                hint_for.into_iter().for_each(|owner| self.hint_kept(owner, keyspace));
                return self.spread(request);
            }
            Ok(Stored { dot: None, .. }) => {
                let reason = "the store answered a mint without a dot".to_owned();
                RequestError::Store { reason, effect: Effect::Maybe }
            }
            Err(failure) => {
                if matches!(failure, StoreFailure::Failed(_)) {
                    hint_for.into_iter().for_each(|owner| self.expect_hint(owner));
                }
                mint_failure(failure)
            }
        };
        self.unnamed(request, error);
    }

    /// Who was to give a put its dot does not.
    fn unnamed(&mut self, request: RequestId, error: RequestError) {
        let now_ms = self.now.monotonic_ms;
        match self.requests.get_mut(&request) {
            Some(InFlight::Put(put)) if is_untouched(&error) && now_ms < put.deadline_ms => {
                put.namer_failed(error);
                self.turn_to_next(request);
                self.advance(request);
            }
            _ => self.end_put(request, error),
        }
    }

    /// A put has its dot: now its owners are to have it.
    fn spread(&mut self, request: RequestId) {
        let due_ms = self.in_ms(self.settings.replica_timeout_ms);
        let takes_own = self.takes_own(request);
        let (me, detector, is_stopping) = (self.id, &self.detector, self.is_stopping);
        let may_have = |node: NodeId| match node == me {
            true => takes_own,
            false => !is_stopping && detector.is_reachable(node),
        };
        if let Some(InFlight::Put(put)) = self.requests.get_mut(&request) {
            let places = put.spread(may_have, due_ms);
            places.into_iter().for_each(|place| self.place(request, place));
        }
        self.advance(request);
    }

    /// A coordinator wants a dot for a put of a key that this node owns.
    pub(super) fn lend(&mut self, from: NodeId, request: RequestId, put: PutRequest) {
        let owned = self.own(from, (put.keyspace, &put.key), self.ring_version(), false);
        let refused = match owned {
            Ok(partition) if !self.is_frozen((partition, put.keyspace), self.id) => {
                let key = StoreKey { partition, keyspace: put.keyspace, key: put.key.clone() };
                let until_ms = self.in_ms(put.timeout_ms);
                let change = self.mint(&key, put, until_ms, true);
                let purpose = Purpose::Lend(from, request);
                return self.write(purpose, key, change, Vec::new(), false);
            }
            Ok(_) => "the partition is being handed over to another node".to_owned(),
            Err(error) => error.to_string(),
        };
        let result = Err(RequestError::Store { reason: refused, effect: Effect::None });
        self.send(from, Message::ForwardReply { request, result });
    }

    /// The object with a dot that is lent is made, or not. Nothing is stored.
    pub(super) fn lent(
        &mut self,
        to: NodeId,
        request: RequestId,
        result: Result<Stored, StoreFailure>,
    ) {
        let result = match result {
            Ok(Stored { siblings, dot: Some(dot), .. }) => Ok((dot, siblings)),
            Ok(Stored { dot: None, .. }) => {
                let reason = "the store answered a mint without a dot".to_owned();
                Err(RequestError::Store { reason, effect: Effect::None })
            }
            Err(StoreFailure::Failed(reason)) => {
                Err(RequestError::Store { reason, effect: Effect::None })
            }
            Err(failure) => Err(mint_failure(failure)),
        };
        self.send(to, Message::ForwardReply { request, result });
    }

    /// An owner lends a put a dot, or does not. The first that comes in time is taken, of whoever
    /// was asked.
    pub(super) fn borrowed(
        &mut self,
        from: NodeId,
        request: RequestId,
        result: Result<(Dot, Arc<Siblings>), RequestError>,
    ) {
        let now_ms = self.now.monotonic_ms;
        let Some(InFlight::Put(put)) = self.requests.get_mut(&request) else {
            return;
        };
        match result {
            // Nobody waits for what is late: it is as if it had never been asked for.
            Ok((dot, siblings)) if put.is_borrowing() && now_ms < put.deadline_ms => {
                put.lent(dot, siblings);
                self.spread(request);
            }
            Ok(_) => self.advance(request),
            Err(error) => {
                put.namer_gone(from);
                match put.is_asking(from) {
                    true => self.unnamed(request, error),
                    false => self.advance(request),
                }
            }
        }
    }

    /// Carries out what an owner is owed.
    pub(super) fn place(&mut self, request: RequestId, place: Place) {
        let Some(InFlight::Put(put)) = self.requests.get(&request) else {
            return;
        };
        let Some(siblings) = put.siblings().cloned() else {
            return;
        };
        let (key, is_sync, ring_version) = (put.key.clone(), put.is_sync(), put.ring_version);
        let (to, hint_for) = match place {
            Place::Owner(node) if node == self.id => {
                let (purpose, change) = (Purpose::OwnWrite(request), Change::Sync(siblings));
                return self.write(purpose, key, change, Vec::new(), is_sync);
            }
            Place::Owner(node) => (node, Vec::new()),
            Place::Fallback { node, owner } => (node, vec![owner]),
            Place::Here { owner } => return self.keep_hint(request, owner, key, siblings),
        };
        let write = self.replica_write(request, key, siblings);
        let write = ReplicaWrite { ring_version, hint_for, is_sync, is_background: false, ..write };
        self.send(to, Message::Write(write));
    }

    pub(super) fn keep_hint(
        &mut self,
        request: RequestId,
        owner: NodeId,
        key: StoreKey,
        siblings: Arc<Siblings>,
    ) {
        let purpose = Purpose::OwnHint(request, owner, key.keyspace);
        self.write(purpose, key, Change::Sync(siblings), vec![owner], true);
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
            let places = put.debts.retry(now_ms, |node| detector.is_reachable(node), due_ms);
            places.into_iter().for_each(|place| self.place(request, place));
        }
    }

    /// What owners are owed becomes hints here: the node is about to stop.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        let requests: Vec<RequestId> = self.requests.keys().copied().collect();
        for request in requests {
            if let Some(InFlight::Put(put)) = self.requests.get_mut(&request) {
                let places = put.debts.stop();
                places.into_iter().for_each(|place| self.place(request, place));
                self.advance(request);
            }
        }
    }

    pub(super) fn put_done(&mut self, ticket: Ticket, result: Result<PutReceipt, RequestError>) {
        self.act(Action::PutDone(ticket, result));
    }
}
