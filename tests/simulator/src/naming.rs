//! Clients that name their writes and try again what they do not know the end of.
//!
//! A retry has the name, the context and the bytes of the first try, and goes through any machine.
//! Who has received the first try does not mint again. Who has not may: then one write has two
//! dots, and who replaced one of them has not seen the other.

use std::collections::{BTreeMap, VecDeque};

use rand::RngExt;
use stator_core::event::Area;
use stator_core::id::Dot;
use stator_core::keys::StoreKey;
use stator_core::request::PutRequest;
use stator_core::request_notes::NOTES_MAX;
use stator_core::version::{FINGERPRINT_BYTES, RequestName};

use super::Planted;
use super::checkers::{NAMED, Violation};
use super::history::{Outcome, WriteId};
use super::world::{Happening, World};

/// How often a client tries.
const TRIES_MAX: u32 = 5;

/// A named write whose end is not known yet.
struct Attempt {
    put: PutRequest,
    tries: u32,
}

/// What is known of named writes.
#[derive(Default)]
pub struct Names {
    open: BTreeMap<WriteId, Attempt>,
    /// By machine and key: the writes that it has received last, since it lost anything.
    held: BTreeMap<(usize, StoreKey), VecDeque<WriteId>>,
}

impl Names {
    /// A machine may have lost what it held.
    pub fn forget(&mut self, machine: usize) {
        self.held.retain(|(holder, _), _| *holder != machine);
    }
}

impl World {
    /// Gives a put the name of its write, and keeps it for retries.
    pub(super) fn name_write(&mut self, put: &mut PutRequest, id: WriteId) {
        if !self.scenario.is_naming {
            return;
        }
        let fingerprint = [id as u8; FINGERPRINT_BYTES];
        put.draft.request = Some(RequestName { id: id.to_string().into(), fingerprint });
        self.names.open.insert(id, Attempt { put: put.clone(), tries: 1 });
    }

    /// A try ended, or its machine is gone. Whether the client tries again.
    pub(super) fn tries_again(&mut self, client: usize, id: WriteId, outcome: Outcome) -> bool {
        let again =
            self.names.open.get_mut(&id).filter(|open| {
                outcome == Outcome::Maybe && open.tries < TRIES_MAX && self.is_trouble
            });
        let Some(attempt) = again else {
            self.names.open.remove(&id);
            return false;
        };
        attempt.tries += 1;
        let at_us = self.now_us + self.rng.random_range(1_000..600_000);
        self.queue.plan(at_us, Happening::Retry(client, id));
        true
    }

    /// A client tries again, through any machine that takes requests.
    pub(super) fn retry(&mut self, client: usize, id: WriteId) {
        let machine = self.rng.random_range(0..self.machines.len());
        let Some(Attempt { put, .. }) = self.names.open.get(&id) else { return };
        let mut put = put.clone();
        if self.machines[machine].takes_requests(self.now_us) {
            if self.planted == Planted::DropName {
                put.draft.request = None;
            }
            self.report.retries += 1;
            return self.send_put((client, machine), put, id);
        }
        match self.is_trouble {
            true => self.queue.plan(self.now_us + 100_000, Happening::Retry(client, id)),
            false => drop(self.names.open.remove(&id)),
        }
    }

    /// A write has come to have several dots.
    pub(super) fn has_twins(&mut self, id: WriteId) {
        self.report.minted_twice += 1;
        self.history.has_twins(id);
    }

    /// A machine has minted a dot for a write, or has received it.
    pub(super) fn watch_name(
        &mut self,
        (machine, area): (usize, Area),
        key: &StoreKey,
        (dot, live): (Option<Dot>, impl Iterator<Item = WriteId>),
    ) {
        if !self.scenario.is_naming {
            return;
        }
        let minted = dot.and_then(|dot| self.dots.of_store_key(key, dot));
        if let Some(id) = minted.filter(|id| self.dots.count(*id) > 1) {
            self.has_twins(id);
        }
        if area == Area::Hints {
            return;
        }
        let held = self.names.held.entry((machine, key.clone())).or_default();
        if let Some(id) = minted.filter(|id| held.contains(id)) {
            let found = format!("n{machine} mints {dot:?} for write {id}, which it has received");
            self.violations.push(Violation { rule: NAMED, key: None, found });
        }
        for id in live {
            if !held.contains(&id) {
                held.push_back(id);
            }
        }
        held.drain(..held.len().saturating_sub(NOTES_MAX / 2));
    }
}
