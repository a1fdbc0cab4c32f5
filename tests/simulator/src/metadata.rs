//! What nodes tell one another for nothing but being a cluster, in bytes: nobody reads or writes.
//!
//! The messages are the protocol's own, in the encoding in which they travel, with the product's
//! periods. Not counted are the frames around them (5 bytes each), what TCP and IP add, and signs
//! of life (5 bytes every 2 s on each connection).

use std::collections::BTreeMap;

use stator_core::message::Message;
use stator_core::wire::encode;

use super::brief::brief;
use super::queue::Micros;
use super::{Options, World, scenario};

const SECOND_US: Micros = 1_000_000;
/// Until all have probed one another and have spoken of what they begin with.
const SETTLED_US: Micros = 10 * SECOND_US;
/// How long it may take until all nodes know of a change.
const TOLD_WITHIN_US: Micros = 60 * SECOND_US;

/// What was said, by kind.
#[derive(Debug, Default)]
pub struct Sent {
    kinds: BTreeMap<String, Kind>,
}

/// What was said of one kind.
#[derive(Debug, Default, Clone, Copy)]
pub struct Kind {
    /// How many messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Sent {
    pub(super) fn count(&mut self, message: &Message) {
        let line = brief(message);
        let name = line.split([' ', ',']).next().unwrap_or_default();
        self.add(name, encode(message).len());
    }

    pub(super) fn count_probe(&mut self, bytes: usize) {
        self.add("probe", bytes);
    }

    fn add(&mut self, name: &str, bytes: usize) {
        let kind = self.kinds.entry(name.to_owned()).or_default();
        kind.messages += 1;
        kind.bytes += bytes as u64;
    }

    /// The kinds that there were, by name.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.kinds.iter().map(|(name, kind)| (name.as_str(), *kind))
    }

    /// The bytes of all.
    pub fn bytes(&self) -> u64 {
        self.kinds.values().map(|kind| kind.bytes).sum()
    }
}

/// What a cluster said.
#[derive(Debug)]
pub struct Told {
    /// The encoded catalogue.
    pub catalogue_bytes: usize,
    /// In so many seconds of rest.
    pub at_rest: Sent,
    /// From when a keyspace was made until all nodes knew it.
    pub change: Sent,
    /// How long that took, in milliseconds.
    pub change_ms: u64,
}

/// Lets `nodes` be at rest for `seconds`, and then makes a keyspace.
///
/// # Errors
/// Something was violated, or not all nodes came to know the keyspace in a minute.
pub fn told(nodes: usize, partitions_log2: u32, seconds: u64) -> Result<Told, String> {
    let mut world = World::of(scenario::at_rest(nodes, partitions_log2), &Options::of_seed(1));
    world.run_until(SETTLED_US);
    world.sent = Some(Sent::default());
    world.run_until(SETTLED_US + seconds * SECOND_US);
    let at_rest = world.sent.replace(Sent::default()).unwrap_or_default();
    let began_us = world.now_us;
    world.create_late();
    while !world.all_know_late() && world.now_us < began_us + TOLD_WITHIN_US {
        world.run_until(world.now_us + 1_000);
        if let Some(violation) = world.violations.first() {
            return Err(violation.to_string());
        }
    }
    if !world.all_know_late() {
        return Err("some nodes did not come to know a new keyspace in a minute".to_owned());
    }
    let change_ms = (world.now_us - began_us) / 1_000;
    let change = world.sent.take().unwrap_or_default();
    let catalogue = world.catalogue_of(0).ok_or("the first node has no catalogue")?;
    Ok(Told { catalogue_bytes: catalogue.encode().len(), at_rest, change, change_ms })
}

impl World {
    fn all_know_late(&self) -> bool {
        let knows = |machine| {
            let catalogue = self.catalogue_of(machine);
            catalogue.is_some_and(|known| known.keyspace(super::world::LATE).is_some())
        };
        (0..self.machines.len()).all(knows)
    }
}
