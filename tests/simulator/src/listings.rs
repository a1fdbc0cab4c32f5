//! Gets by way of a listing: a share of the strict gets, and of the checkers' at the end, reads the
//! pages of the key's partition up to the key instead. What it finds is held to the same promises.

use std::sync::Arc;

use stator_core::event::{Event, StoreFailure, Ticket};
use stator_core::keys::StoreKey;
use stator_core::listing::{KeyRange, ListPage, ListRequest, Slice};
use stator_core::request::{GetReceipt, GetRequest, QuorumKind, RequestError};

use super::Planted;
use super::store::Store;
use super::world::World;

/// One of so many strict gets is a listing.
const SHARE: u64 = 4;

impl World {
    /// Whether a get is made by listing. Without a draw, and neither where writes have names nor where
    /// another bug is planted: what those runs are about is rare, and its seeds are known.
    pub(super) fn is_listed(&self, ticket: Ticket, get: &GetRequest) -> bool {
        let is_else = !matches!(self.planted, Planted::Nothing | Planted::ListFromOne);
        let is_rare = self.scenario.is_naming || is_else;
        let is_chosen = !is_rare && ticket.is_multiple_of(SHARE);
        is_chosen && get.quorum == QuorumKind::Strict
    }

    /// Asks for the page from `from` on, with what is left of the get's time.
    pub(super) fn list(&mut self, machine: usize, ticket: Ticket, get: &GetRequest, from: &[u8]) {
        let (Some(started_us), Some(node)) =
            (self.started_us(ticket), &self.machines[machine].node)
        else {
            return;
        };
        let ring = node.catalogue().map(|catalogue| &catalogue.ring);
        let Some(partition) = ring.map(|ring| ring.partition(get.keyspace, &get.key)) else {
            return self.hand_in(machine, ticket, Event::Get(ticket, get.clone()), 0);
        };
        let gone_ms = (self.now_us - started_us) / 1_000;
        let timeout_ms = get.timeout_ms.saturating_sub(gone_ms);
        let until = Some([&get.key[..], &[0]].concat().into());
        let from = from.to_vec().into();
        let range = KeyRange { partition, keyspace: get.keyspace, from, until };
        let r = if self.planted == Planted::ListFromOne { Some(1) } else { get.r };
        let request = ListRequest { range, r, timeout_ms };
        self.hand_in(machine, ticket, Event::List(ticket, request), timeout_ms * 1_000);
    }

    /// A page is there: it shows the key, or the next one is asked for.
    pub(super) fn list_done(&mut self, ticket: Ticket, result: Result<ListPage, RequestError>) {
        let Some((machine, get)) = self.listed(ticket) else { return };
        let page = match result {
            Ok(page) => page,
            Err(error) => return self.get_done(ticket, Err(error)),
        };
        if let Some(next) = page.next.filter(|next| *next <= get.key) {
            return self.list(machine, ticket, &get, &next);
        }
        let found = page.objects.into_iter().find(|(key, _)| *key == get.key);
        let siblings = found.map_or_else(Arc::default, |(_, siblings)| siblings);
        let receipt = GetReceipt { siblings, answered: page.answered, ring_version: 0 };
        self.get_done(ticket, Ok(receipt));
    }
}

impl Store {
    /// What is held of a range, at most `count_max` objects of it.
    pub(super) fn scan(&self, range: &KeyRange, count_max: usize) -> Result<Slice, StoreFailure> {
        let mut slice = Slice::default();
        let is_meant = |key: &&StoreKey| {
            (key.partition, key.keyspace) == (range.partition, range.keyspace)
                && key.key >= range.from
                && range.until.as_ref().is_none_or(|until| key.key < *until)
        };
        for key in self.data.keys().filter(is_meant) {
            if slice.objects.len() >= count_max {
                slice.is_cut = true;
                break;
            }
            if let Some(object) = self.load(key, false)? {
                slice.objects.push((key.key.clone(), object));
            }
        }
        Ok(slice)
    }
}
