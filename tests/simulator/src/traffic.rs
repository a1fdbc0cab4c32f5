//! Requests on their way: from a client to a machine, and the answers back into the history.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::RngExt;
use stator_core::causality::{Context, Siblings};
use stator_core::event::{Event, Ticket};
use stator_core::id::Dot;
use stator_core::keys::StoreKey;
use stator_core::request::{
    GetReceipt, GetRequest, PutReceipt, PutRequest, QuorumKind, RequestError,
};

use super::Planted;
use super::checkers;
use super::clients::{self, Key, Known, Wish};
use super::history::{ClientWrite, Counts, Outcome, WriteId};
use super::merging;
use super::operators::OPERATOR;
use super::queue::Micros;
use super::world::{EARLY, Happening, Inner, LATE, World, index};

/// A request that was not answered yet.
pub struct Request {
    machine: usize,
    asked: Asked,
    started_us: Micros,
    /// Whether its machine has not read it yet.
    is_unread: bool,
    /// The get that it is, if that is made by listing.
    listed: Option<GetRequest>,
}

enum Asked {
    Get {
        client: usize,
        key: usize,
        counts: Counts,
    },
    Put {
        client: usize,
        id: WriteId,
    },
    /// A get of the checkers, at the end.
    Inspect {
        key: usize,
    },
    /// A get of an operator, and the put that may follow.
    ToRemerge {
        key: usize,
    },
    /// Of a planted bug: a get, and the put that follows.
    ToWriteBack {
        key: usize,
    },
    WriteBack,
}

/// How much later than its deadline an answer may come: clocks count whole milliseconds.
const GRACE_US: Micros = 5_000;

impl World {
    /// A client does what it wants next.
    pub(super) fn client_turn(&mut self, client: usize) {
        if !self.is_trouble || self.scenario.is_scripted {
            return;
        }
        let places = self.places();
        let place = places[self.rng.random_range(0..places.len())];
        let machine = self.rng.random_range(0..self.machines.len());
        // Some ask a machine that does not move.
        let is_still = self.scenario.is_pausing() && self.machines[machine].is_still(self.now_us);
        if !is_still && !self.machines[machine].takes_requests(self.now_us) {
            return self.think(client);
        }
        let (key, n) = (&self.keys[place], self.replicas(place));
        let of = (place, key, n, self.scenario.region_of(machine));
        match self.clients[client].wish(&mut self.rng, &self.scenario, of) {
            Wish::Get(mut get, counts) => {
                if self.planted == Planted::FarCounts && get.quorum == QuorumKind::Local {
                    (get.quorum, get.r) = (QuorumKind::Strict, Some(1));
                }
                self.ask(machine, Asked::Get { client, key: place, counts }, get);
            }
            Wish::Put(put, write) => drop(self.start_put((client, machine), *put, write)),
        }
    }

    /// A client puts or deletes through a machine.
    pub(super) fn start_put(
        &mut self,
        (client, machine): (usize, usize),
        mut put: PutRequest,
        write: ClientWrite,
    ) -> WriteId {
        let seen = write.seen.clone();
        let verb = if write.is_delete { "delete" } else { "put" };
        let id = self.history.start(write);
        let is_varied = self.scenario.is_varied;
        clients::name(&mut put, id, &self.history.contents(id), is_varied);
        if self.planted == Planted::DropContext && self.rng.random_bool(0.1) {
            put.context = Context::default();
        }
        if self.planted == Planted::DropDeleteContext
            && self.history.get(id).is_some_and(|write| write.is_delete)
        {
            put.context = Context::default();
        }
        self.trace.line(
            self.now_us,
            format_args!(
                "c{client} -> n{machine}: {verb} {:?} write {id} having seen {seen:?}, w {:?} {:?}",
                put.key, put.w, put.quorum
            ),
        );
        self.name_write(&mut put, id);
        self.send_put((client, machine), put, id);
        id
    }

    /// A put goes to a machine, for the first time or again.
    pub(super) fn send_put(
        &mut self,
        (client, machine): (usize, usize),
        put: PutRequest,
        id: WriteId,
    ) {
        let timeout_us = put.timeout_ms * 1_000;
        let ticket = self.request(machine, Asked::Put { client, id }, timeout_us);
        self.trace
            .line(self.now_us, format_args!("c{client} -> n{machine}: put {ticket} is write {id}"));
        self.hand_in(machine, ticket, Event::Put(ticket, put), timeout_us);
    }

    /// A client reads through a machine.
    pub(super) fn start_get(&mut self, (client, machine): (usize, usize), place: usize, r: u32) {
        let key = &self.keys[place];
        let get = GetRequest {
            keyspace: key.keyspace,
            key: key.bytes.clone(),
            r: Some(r),
            quorum: QuorumKind::Sloppy,
            timeout_ms: 2_000,
        };
        self.ask(machine, Asked::Get { client, key: place, counts: Counts::Any }, get);
    }

    /// Of a planted bug: the get.
    pub(super) fn read_to_write_back(&mut self, machine: usize, place: usize) {
        self.ask(machine, Asked::ToWriteBack { key: place }, self.plain_get(place));
    }

    /// An operator reads what a module may have folded.
    pub(super) fn read_to_remerge(&mut self, machine: usize, place: usize) {
        if !self.machines[machine].takes_requests(self.now_us) {
            return;
        }
        self.ask(machine, Asked::ToRemerge { key: place }, self.plain_get(place));
    }

    fn plain_get(&self, place: usize) -> GetRequest {
        let Key { keyspace, bytes: key } = self.keys[place].clone();
        GetRequest { keyspace, key, r: None, quorum: QuorumKind::Sloppy, timeout_ms: 2_000 }
    }

    /// Of a planted bug: the put.
    pub(super) fn request_write_back(&mut self, machine: usize, timeout_us: Micros) -> Ticket {
        self.request(machine, Asked::WriteBack, timeout_us)
    }

    /// Of a planted bug: the context of all that the minter of a dot holds.
    fn whole_context(&self, place: usize, dot: Dot) -> Option<Context> {
        let key = &self.keys[place];
        let store = &self.machines[index(dot.actor.node)].store;
        let is_key = |known: &StoreKey| known.keyspace == key.keyspace && known.key == key.bytes;
        let found = store.data.records().find(|(known, _)| is_key(known));
        found.map(|(_, record)| Context::of(&record.siblings))
    }

    /// The writes that are live, whatever versions they were folded into.
    pub(super) fn writes(&self, place: usize, siblings: &Siblings) -> BTreeSet<WriteId> {
        if !self.scenario.is_folding() {
            return clients::writes(siblings);
        }
        let key = &self.keys[place];
        let mut writes = BTreeSet::new();
        for (dot, version) in siblings.live() {
            match (self.dots.write(key, dot), version.payload.value()) {
                (Some(id), _) => drop(writes.insert(id)),
                // Written back: under a dot that no client's write has.
                (None, Some(value)) => writes.extend(merging::contained(value)),
                (None, None) => {}
            }
        }
        writes
    }

    /// What a reader knows from then on.
    fn known(&self, place: usize, siblings: &Siblings) -> Known {
        let mut seen = self.writes(place, siblings);
        let contents = match self.scenario.is_folding() {
            true => merging::contents(siblings),
            false => BTreeSet::new(),
        };
        // Who holds a version has seen all that its writer had seen.
        seen.extend(&contents);
        Known { context: Context::of(siblings), seen, contents }
    }

    fn think(&mut self, client: usize) {
        if client == OPERATOR {
            return;
        }
        let at_us = self.now_us + self.rng.random_range(1_000..200_000);
        self.queue.plan(at_us, Happening::Client(client));
    }

    fn ask(&mut self, machine: usize, asked: Asked, get: GetRequest) {
        let ticket = self.request(machine, asked, get.timeout_ms * 1_000);
        self.trace.line(
            self.now_us,
            format_args!(
                "n{machine}: get {ticket} of {:?}, r {:?} {:?}",
                get.key, get.r, get.quorum
            ),
        );
        if self.is_listed(ticket, &get) {
            if let Some(request) = self.requests.get_mut(&ticket) {
                request.listed = Some(get.clone());
            }
            let before = &get.key[..get.key.len().saturating_sub(1)];
            return self.list(machine, ticket, &get, before);
        }
        let waits_us = get.timeout_ms * 1_000;
        self.hand_in(machine, ticket, Event::Get(ticket, get), waits_us);
    }

    /// Notes whether a request waits for its machine to read it.
    pub(super) fn await_reading(&mut self, ticket: Ticket, is_unread: bool) {
        if let Some(request) = self.requests.get_mut(&ticket) {
            request.is_unread = is_unread;
        }
    }

    /// A request that its machine has not read is over: it has no effect.
    pub(super) fn unread(&mut self, ticket: Ticket) {
        if !self.requests.get(&ticket).is_some_and(|request| request.is_unread) {
            return;
        }
        self.trace.line(self.now_us, format_args!("request {ticket} ends unread"));
        // An earlier try may have done it.
        let outcome = if self.scenario.is_naming { Outcome::Maybe } else { Outcome::Nothing };
        match self.requests.remove(&ticket).map(|request| request.asked) {
            Some(Asked::Put { client, id }) if !self.tries_again(client, id, outcome) => {
                self.history.end(id, outcome);
                self.think(client);
            }
            Some(Asked::Get { client, .. }) => self.think(client),
            _ => {}
        }
    }

    fn request(&mut self, machine: usize, asked: Asked, timeout_us: Micros) -> Ticket {
        self.last_ticket += 1;
        let started_us = self.now_us;
        self.requests.insert(
            self.last_ticket,
            Request { machine, asked, started_us, is_unread: false, listed: None },
        );
        let at_us = self.now_us + timeout_us + GRACE_US;
        self.plan_in(machine, at_us, Inner::Overdue(self.last_ticket));
        self.last_ticket
    }

    /// Since when a request is under way.
    pub(super) fn started_us(&self, ticket: Ticket) -> Option<Micros> {
        self.requests.get(&ticket).map(|request| request.started_us)
    }

    /// The get that is made by this listing, and by which machine.
    pub(super) fn listed(&self, ticket: Ticket) -> Option<(usize, GetRequest)> {
        let request = self.requests.get(&ticket)?;
        Some((request.machine, request.listed.clone()?))
    }

    /// A get ended.
    pub(super) fn get_done(&mut self, ticket: Ticket, result: Result<GetReceipt, RequestError>) {
        self.trace.line(self.now_us, format_args!("get {ticket}: {}", outcome_of(&result)));
        if self.is_ghost(ticket) {
            return;
        }
        let Some(Request { asked, started_us, machine, .. }) = self.requests.remove(&ticket) else {
            return self.violations.push(checkers::answered_twice(ticket));
        };
        let (client, key, counts) = match asked {
            Asked::Get { client, key, counts } => (Some(client), key, counts),
            Asked::Inspect { key } => (None, key, Counts::Any),
            Asked::ToWriteBack { key } => {
                return result.into_iter().for_each(|receipt| {
                    self.written_back(machine, key, &receipt.siblings);
                });
            }
            Asked::ToRemerge { key } => {
                return result.into_iter().for_each(|receipt| {
                    self.remerge(machine, key, &receipt.siblings);
                });
            }
            Asked::Put { .. } | Asked::WriteBack => {
                return self.violations.push(checkers::answered_twice(ticket));
            }
        };
        if let Ok(receipt) = result {
            self.report.gets_answered += 1;
            self.got(key, &receipt, counts, started_us);
            if let Some(client) = client {
                let known = self.known(key, &receipt.siblings);
                self.clients[client].got(&mut self.rng, key, known);
            }
        }
        client.into_iter().for_each(|client| self.think(client));
    }

    /// How many owners a key has.
    pub(super) fn replicas(&self, place: usize) -> u32 {
        let (is_early, resized) = (place < self.early_keys, self.resized());
        let asked = self.scenario.quorums(if is_early { EARLY } else { LATE }).n;
        resized.filter(|_| is_early).unwrap_or(asked)
    }

    /// Tells the history what all clocks have been past.
    pub(super) fn look_at_clocks(&mut self) {
        let members =
            self.machines.iter().enumerate().filter(|(place, _)| !self.is_removed(*place));
        let passed_ms = members.map(|(_, machine)| machine.wall_max_ms).min();
        self.history.clocks_passed(passed_ms.unwrap_or(0));
    }

    fn got(&mut self, key: usize, receipt: &GetReceipt, counts: Counts, from_us: Micros) {
        self.look_at_clocks();
        let found = self.writes(key, &receipt.siblings);
        if receipt.siblings.versions().len() > 1 {
            self.report.siblings_seen += 1;
        }
        found.iter().for_each(|id| self.history.observe(*id));
        self.violations.extend(checkers::values(&receipt.siblings));
        self.violations.extend(checkers::answer(&self.history, key, &found));
        self.violations.extend(checkers::twice(key, &receipt.siblings));
        self.check_contents(key, &receipt.siblings, false);
        self.check_ancestor(key, &receipt.siblings);
        if self.scenario.is_acked_kept && self.keeps_siblings() {
            let n = self.replicas(key);
            let missing = checkers::strict_get(&self.history, (key, &found), counts, n, from_us);
            self.violations.extend(missing);
        }
    }

    /// A put ended.
    pub(super) fn put_done(&mut self, ticket: Ticket, result: Result<PutReceipt, RequestError>) {
        self.trace.line(self.now_us, format_args!("put {ticket}: {}", outcome_of(&result)));
        if self.is_ghost(ticket) {
            return;
        }
        let request = self.requests.remove(&ticket);
        let (client, id, machine) = match request.map(|request| (request.asked, request.machine)) {
            Some((Asked::Put { client, id }, machine)) => (client, id, machine),
            Some((Asked::WriteBack, _)) => return,
            _ => return self.violations.push(checkers::answered_twice(ticket)),
        };
        let key = self.history.get(id).map_or(0, |write| write.key);
        match result {
            Ok(mut receipt) => {
                if self.planted == Planted::ContextWithSiblings && receipt.context.is_none() {
                    receipt.context = self.whole_context(key, receipt.dot);
                }
                self.report.puts_acked += 1;
                self.check_acknowledger(machine);
                self.tries_again(client, id, Outcome::Acked { at_us: self.now_us });
                self.history.end(id, Outcome::Acked { at_us: self.now_us });
                let contents = match self.scenario.is_folding() {
                    true => self.history.contents(id),
                    false => BTreeSet::new(),
                };
                match self.clients.get_mut(client) {
                    Some(client) => client.put(&mut self.rng, (key, id), contents, &receipt),
                    None => self.remerged(id),
                }
            }
            Err(error) => {
                if self.tries_again(client, id, clients::outcome(&error)) {
                    return;
                }
                match error {
                    RequestError::Refused(_) if self.keeps_siblings() => {
                        self.report.puts_refused += 1;
                    }
                    RequestError::Refused(_) => {
                        self.violations.push(checkers::refused(key, &error));
                    }
                    _ => self.report.puts_failed += 1,
                }
                // An earlier try may have done it.
                let outcome = match self.scenario.is_naming {
                    true => Outcome::Maybe,
                    false => clients::outcome(&error),
                };
                self.history.end(id, outcome);
            }
        }
        self.think(client);
    }

    /// Whether a request runs that has no client any more, by a planted bug.
    fn is_ghost(&self, ticket: Ticket) -> bool {
        self.planted == Planted::Expired && !self.requests.contains_key(&ticket)
    }

    /// A machine is gone: its clients do not know how their requests ended.
    pub(super) fn abandon(&mut self, machine: usize) {
        let gone = self.requests.iter().filter(|(_, request)| request.machine == machine);
        let gone: Vec<Ticket> = gone.map(|(ticket, _)| *ticket).collect();
        for ticket in gone {
            match self.requests.remove(&ticket).map(|request| request.asked) {
                Some(Asked::Put { client, id })
                    if !self.tries_again(client, id, Outcome::Maybe) =>
                {
                    self.history.end(id, Outcome::Maybe);
                    self.think(client);
                }
                Some(Asked::Get { client, .. }) => self.think(client),
                _ => {}
            }
        }
    }

    /// A request's time is over in a life in which its machine could have answered it.
    pub(super) fn overdue(&mut self, ticket: Ticket) {
        if self.requests.contains_key(&ticket) {
            self.violations.push(checkers::unanswered(ticket));
        }
    }

    /// The checkers get every key from every machine, with all owners answering.
    pub(super) fn inspect(&mut self) {
        let asked = (0..self.machines.len()).filter(|machine| !self.out.contains(machine));
        for machine in asked.collect::<Vec<_>>() {
            for place in 0..self.keys.len() {
                let key = self.keys[place].clone();
                let get = GetRequest {
                    keyspace: key.keyspace,
                    key: key.bytes,
                    r: Some(self.replicas(place)),
                    quorum: QuorumKind::Strict,
                    timeout_ms: 5_000,
                };
                self.ask(machine, Asked::Inspect { key: place }, get);
            }
        }
    }
}

fn outcome_of<T: Brief>(result: &Result<T, RequestError>) -> String {
    match result {
        Ok(receipt) => receipt.brief(),
        Err(error) => error.to_string(),
    }
}

trait Brief {
    fn brief(&self) -> String;
}

impl Brief for GetReceipt {
    fn brief(&self) -> String {
        let siblings = Arc::as_ref(&self.siblings);
        format!("found {:?}, {} answered", clients::writes(siblings), self.answered)
    }
}

impl Brief for PutReceipt {
    fn brief(&self) -> String {
        format!("acknowledged by {}, {} of them with hints", self.acked, self.hinted)
    }
}
