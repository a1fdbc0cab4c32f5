//! Stock and reservations that never sell below zero: a merge with a business rule.
//!
//! Two shops reserve the last piece at the same time. Both versions are in order, but not
//! together. Someone must lose, and the one who loses must be told: the merge cancels the later
//! reservation and says so in an event.
//!
//! # The format (schema 1)
//! ```json
//! {"deliveries":{"d-1":10},"reservations":{"o-7":{"at_ms":1763800000000,"quantity":3}},
//!  "released":["o-3"]}
//! ```
//! - `deliveries`: what came in, each under an id of its own, in pieces.
//! - `reservations`: what is promised, each under the id of its order: when (milliseconds since
//!   1970, by the shop's clock) and how many pieces.
//! - `released`: ids of reservations that are over for good, given up by a shop or cancelled by
//!   the merge.
//!
//! Each may be missing. An id has at most [`ID_BYTES_MAX`] bytes. What is free is the sum of the deliveries without the sum of the
//! reservations.
//!
//! # What a client does
//! It reads the inventory with its context, changes it and puts it with that context.
//! - Take in goods: a delivery under a fresh id. Reserve: a reservation under a fresh id, for at
//!   most what is free. Give it up: move the id to `released`. Nothing else ever changes.
//! - A reservation is *certain* once it is read from a value that is stored alone (one sibling):
//!   ship only then. A merged view may be another one tomorrow, when a sibling arrives late.
//!
//! # What the merge does
//! The union of deliveries, reservations and released ids (of one id with different contents, the
//! larger). Then it goes through the reservations by time, then id, and keeps each that still
//! fits into the stock. What does not fit is moved to `released`, and an event
//! `reservation-cancelled` with `{"order":…,"quantity":…}` tells it. The note counts them, also
//! those beyond [`EVENTS_MAX`].
//!
//! # Why this is a view and must not fold
//! It is commutative and idempotent, but not associative. Let 1 piece be there, *a* and *b*
//! reserve it, and *c* bring a second one. All three together keep both reservations; *a* and *b*
//! first cancel one, and then *c* comes too late for it. As a view that is right: the siblings
//! stay, every reader sees the best answer for what is known now, and a client's put settles it.
//! A fold would write the cancellation down, on each replica another one. The law checker finds
//! this (`associative: violated`), and it is meant so.
//!
//! A deleted key (a tombstone among the siblings) takes nothing from what was written at the same
//! time.

mod checks;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stator_guest::{Divergence, Failure, Merge, Resolution};

/// The topic of the event that a reservation was cancelled.
pub const CANCELLED: &str = "reservation-cancelled";

/// The most cancellations that are told one by one: a host takes so many events and bytes only.
pub const EVENTS_MAX: usize = 40;
/// The longest id.
pub const ID_BYTES_MAX: usize = 200;

/// The module.
pub struct InventoryMerge;

/// An inventory as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Inventory {
    /// What came in, in pieces.
    #[serde(deserialize_with = "strict_json::unique")]
    pub deliveries: BTreeMap<String, u32>,
    /// What is promised, by order.
    #[serde(deserialize_with = "strict_json::unique_objects")]
    pub reservations: BTreeMap<String, Reservation>,
    /// Orders whose reservation is over.
    pub released: BTreeSet<String>,
}

/// A promise. The derived order, by time first, says who came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// When it was made, in milliseconds since 1970 by the shop's clock.
    pub at_ms: u64,
    /// How many pieces.
    pub quantity: u32,
}

/// What an event tells.
#[derive(Debug, Serialize)]
struct Cancelled<'a> {
    order: &'a str,
    quantity: u32,
}

impl Inventory {
    /// All pieces that ever came in.
    pub fn delivered(&self) -> u64 {
        self.deliveries.values().map(|pieces| u64::from(*pieces)).sum()
    }

    /// All pieces that are promised.
    pub fn reserved(&self) -> u64 {
        self.reservations.values().map(|promise| u64::from(promise.quantity)).sum()
    }

    fn ids(&self) -> impl Iterator<Item = &String> {
        self.deliveries.keys().chain(self.reservations.keys()).chain(&self.released)
    }

    fn absorb(&mut self, other: Inventory) {
        for (id, pieces) in other.deliveries {
            let known = self.deliveries.entry(id).or_default();
            *known = pieces.max(*known);
        }
        for (order, promise) in other.reservations {
            let known = self.reservations.entry(order).or_insert(promise);
            *known = promise.max(*known);
        }
        self.released.extend(other.released);
    }

    /// Cancels what does not fit, the latest first to go, and returns it in that order.
    fn settle(&mut self) -> Vec<(String, Reservation)> {
        self.reservations.retain(|order, _| !self.released.contains(order));
        let mut by_time: Vec<_> =
            self.reservations.iter().map(|(order, promise)| (*promise, order.clone())).collect();
        by_time.sort_unstable_by(|(promise, order), (other, other_order)| {
            promise.at_ms.cmp(&other.at_ms).then_with(|| order.cmp(other_order))
        });
        let mut free = self.delivered();
        let mut cancelled = Vec::new();
        for (promise, order) in by_time {
            match free.checked_sub(u64::from(promise.quantity)) {
                Some(rest) => free = rest,
                None => cancelled.push((order, promise)),
            }
        }
        for (order, _) in &cancelled {
            self.reservations.remove(order);
            self.released.insert(order.clone());
        }
        cancelled
    }
}

impl Merge for InventoryMerge {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let mut merged = Inventory::default();
        for (sibling, version) in divergence.live() {
            let inventory: Inventory = strict_json::read(sibling, version)?;
            if let Some(id) = inventory.ids().find(|id| id.len() > ID_BYTES_MAX) {
                let message = format!("an id of {} bytes: {ID_BYTES_MAX} are allowed", id.len());
                return Err(Failure::malformed(sibling, message));
            }
            merged.absorb(inventory);
        }
        if divergence.live().next().is_none() {
            return Ok(Resolution::delete());
        }
        let cancelled = merged.settle();
        let mut resolution = strict_json::resolution(&merged);
        if !cancelled.is_empty() {
            resolution =
                resolution.with_note(format!("reservations cancelled: {}", cancelled.len()));
        }
        for (order, promise) in cancelled.iter().take(EVENTS_MAX) {
            let told = Cancelled { order, quantity: promise.quantity };
            resolution = resolution.with_event(CANCELLED, strict_json::text(&told));
        }
        Ok(resolution)
    }
}

stator_guest::export!(InventoryMerge, sampler, invariant);
