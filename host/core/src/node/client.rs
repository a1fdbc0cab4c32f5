//! What all requests that this node coordinates have in common: how they start, whom their
//! results belong to, when they are overdue and when they end. `get` and `put` have the rest.

use std::sync::Arc;

use super::exchange::Told;
use super::outgoing::Asker;
use super::{Failure, InFlight, Node, Purpose};
use crate::catalogue::{Durability, Quorums};
use crate::causality::Siblings;
use crate::event::{Action, Notice, StoreFailure, Stored, Token};
use crate::id::{KeyspaceId, NodeId};
use crate::keys::StoreKey;
use crate::message::RequestId;
use crate::node::timers::Timer;
use crate::request::RequestError;
use crate::ring::PreferenceList;

/// What is known of a key before a request for it starts.
pub(super) struct Prepared {
    pub key: StoreKey,
    pub list: PreferenceList,
    pub needed: u32,
    /// What a put must reach beside that while n changes: so many of these owners.
    pub also: Option<(Vec<NodeId>, u32)>,
    pub durability: Durability,
    pub read_repair_percent: u32,
}

impl Node {
    pub(super) fn prepare(
        &self,
        (keyspace, key): (KeyspaceId, &bytes::Bytes),
        name: &'static str,
        asked: Option<u32>,
    ) -> Result<Prepared, RequestError> {
        let (catalogue, keyspace) = self.keyspace(keyspace)?;
        let (quorums, also, default) = match name {
            "r" => (keyspace.reading(), None, keyspace.reading().r),
            _ => {
                let (quorums, also) = keyspace.writing();
                (quorums, also, quorums.w)
            }
        };
        let needed = asked.unwrap_or(default);
        if needed == 0 || needed > quorums.n {
            return Err(RequestError::BadQuorum { name, found: needed, n: quorums.n });
        }
        let partition = catalogue.ring.partition(keyspace.id, key);
        let list = catalogue.ring.preference_list(partition, quorums.n as usize);
        let also = also.map(|Quorums { n, w, .. }| {
            let owners: Vec<NodeId> = list.primaries().iter().take(n as usize).copied().collect();
            (owners, asked.unwrap_or(w).min(n))
        });
        let lists = also.iter().map(|(owners, needed)| (owners.as_slice(), *needed));
        for (owners, needed) in [(list.primaries(), needed)].into_iter().chain(lists) {
            let owners = owners.len() as u32;
            if needed > owners {
                return Err(RequestError::TooFewNodes { name, needed, owners });
            }
        }
        let key = StoreKey { partition, keyspace: keyspace.id, key: key.clone() };
        Ok(Prepared {
            key,
            list,
            needed,
            also,
            durability: keyspace.durability.value,
            read_repair_percent: keyspace.read_repair_percent.value,
        })
    }

    /// A replica holds what it was sent: of a put, or a hint.
    pub(super) fn replica_wrote(&mut self, node: NodeId, request: RequestId) {
        match self.requests.get_mut(&request) {
            Some(InFlight::Put(put)) => {
                put.acknowledged(node);
                self.advance(request);
            }
            _ => {
                let is_asker = |asker: &Asker| matches!(asker, Asker::Repair(..) | Asker::Hint(..));
                match self.answered(node, request, is_asker) {
                    Some(Asker::Repair(id, key)) => self.tell_exchange(id, Told::Given(key, true)),
                    Some(Asker::Hint(target, attempt)) => self.hint_received(target, attempt),
                    _ => {}
                }
            }
        }
    }

    /// A replica did not do what it was asked, or could not be asked.
    pub(super) fn replica_failed(&mut self, node: NodeId, request: RequestId, failure: Failure) {
        let due_ms = self.in_ms(self.settings.replica_timeout_ms);
        match self.requests.get_mut(&request) {
            Some(InFlight::Get(get)) => {
                let was_waiting = match failure {
                    Failure::Late => get.is_late(node, due_ms),
                    Failure::Refused | Failure::Damaged => {
                        get.failed(node, failure == Failure::Damaged)
                    }
                    Failure::NoRoom(bytes_max) => {
                        get.has_no_room(node, bytes_max);
                        false
                    }
                };
                if was_waiting {
                    self.ask_next(request);
                }
            }
            Some(InFlight::Put(put)) if put.is_asking(node) => {
                put.namer_gone(node);
                self.turn_to_next(request);
            }
            Some(InFlight::Put(put)) => {
                let place = match failure {
                    Failure::Late => put.debts.is_late(node, due_ms),
                    Failure::Refused | Failure::Damaged | Failure::NoRoom(_) => {
                        put.debts.failed(node, due_ms)
                    }
                };
                place.into_iter().for_each(|place| self.place(request, place));
            }
            None => return self.unanswered(node, request),
        }
        self.advance(request);
    }

    /// A request's replica or client is overdue.
    pub(super) fn request_due(&mut self, request: RequestId) {
        let now_ms = self.now.monotonic_ms;
        let overdue = match self.requests.get(&request) {
            Some(InFlight::Get(get)) => get.overdue(now_ms),
            Some(InFlight::Put(put)) if put.is_namer_overdue(now_ms) => {
                self.turn_to_next(request);
                Vec::new()
            }
            Some(InFlight::Put(put)) => put.debts.overdue(now_ms),
            None => return self.answer_due(request),
        };
        overdue.into_iter().for_each(|node| self.replica_failed(node, request, Failure::Late));
        self.retry_hints(request);
        self.advance(request);
    }

    /// Answers the client as soon as it can be, and ends the request when nothing is left to do.
    pub(super) fn advance(&mut self, request: RequestId) {
        let now_ms = self.now.monotonic_ms;
        let ring_version = self.ring_version();
        match self.requests.get_mut(&request) {
            Some(InFlight::Get(get)) => {
                let answer = get.take_answer(now_ms, ring_version);
                if let (Some(answer), Some(ticket)) = (answer, get.ticket) {
                    self.act(Action::GetDone(ticket, answer));
                }
            }
            Some(InFlight::Put(put)) => {
                if let Some(answer) = put.take_answer(now_ms, ring_version) {
                    let ticket = put.ticket;
                    self.put_done(ticket, answer);
                }
            }
            None => return,
        }
        self.end_or_wait(request);
    }

    pub(super) fn end_or_wait(&mut self, request: RequestId) {
        let now_ms = self.now.monotonic_ms;
        let (is_finished, due_ms) = match self.requests.get(&request) {
            Some(InFlight::Get(get)) => (get.is_finished(now_ms), get.next_due_ms()),
            Some(InFlight::Put(put)) => (put.is_finished(), put.next_due_ms()),
            None => return,
        };
        if !is_finished {
            if let Some(due_ms) = due_ms {
                self.timers.set(due_ms, Timer::Request(request));
            }
            return;
        }
        match self.requests.remove(&request) {
            Some(InFlight::Get(get)) => {
                let (key, is_client) = (get.key.clone(), get.ticket.is_some());
                let is_agreed = get.is_agreed();
                let (siblings, stale) = get.repairs();
                stale.into_iter().for_each(|stale| self.repair(stale, &key, &siblings));
                if is_agreed {
                    self.note_held_by_all(&key, &siblings);
                }
                match is_client {
                    true if is_agreed => self.fold_after_get(&key, siblings),
                    true => {}
                    false => self.fold_read_ended(&key, is_agreed.then_some(siblings)),
                }
            }
            Some(InFlight::Put(put)) if put.is_everywhere() => {
                if let Some(siblings) = put.siblings() {
                    self.note_held_by_all(&put.key, siblings);
                }
                let after_ms = now_ms.saturating_sub(put.began_ms);
                self.notice(Notice::Everywhere(put.key.keyspace, after_ms));
                self.fold_after_put(&put);
            }
            _ => {}
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
            Some(Purpose::ClientRead(ticket, request)) => {
                self.direct_ended(ticket, &request, result);
            }
            Some(Purpose::ExchangeObject(id, key)) => {
                let stored = |siblings| Stored { siblings, dot: None, gained_ms: None };
                self.tell_exchange(id, Told::Joined(key, result.map(|held| held.map(stored))));
            }
            _ => {}
        }
    }

    /// An effect on the store ended.
    pub(super) fn written(&mut self, token: Token, result: Result<Stored, StoreFailure>) {
        match self.effects.remove(&token) {
            Some(Purpose::Mint(request)) => self.mint_ended(request, result),
            Some(Purpose::Lend(to, request)) => self.lent(to, request, result),
            Some(Purpose::OwnWrite(request)) => self.own_write_ended(request, &result),
            Some(Purpose::OwnHint(request, owner, keyspace)) => {
                self.own_hint_ended(request, (owner, keyspace), result);
            }
            Some(Purpose::PeerWrite((node, request, _), keyspace, hint_for)) => {
                self.peer_write_ended(node, request, (keyspace, &hint_for), result);
            }
            Some(Purpose::Collect(effect)) => self.collect_written(effect, result),
            Some(Purpose::BringHome(ticket, from, keyspace)) => {
                self.brought_home(ticket, (from, keyspace), result);
            }
            Some(Purpose::MovedHint(target, attempt)) => match result {
                Ok(_) => self.hint_received(target, attempt),
                Err(_) => self.hint_refused(target, attempt),
            },
            Some(Purpose::ExchangeObject(id, key)) => {
                self.tell_exchange(id, Told::Joined(key, result.map(Some)));
            }
            _ => {}
        }
    }
}
