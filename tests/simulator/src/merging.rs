//! The merge module of a simulated world: the union of sets of write numbers.
//!
//! A value is the numbers of the writes that it contains, a line each, sorted as text. Where a
//! module merges, a client's put carries on what its client had in hand, so the union is a join: it
//! never loses a write, and what a merged value contains tells who it was made of.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use rand::RngExt;
use stator_core::catalogue::Reconcile;
use stator_core::causality::{Context, Siblings};
use stator_core::divergence::{Divergence, MergeFailure, Outcome, Resolution};
use stator_core::event::{Event, Token};
use stator_core::id::ModuleDigest;

use super::Planted;
use super::checkers::{MODULE, Violation};
use super::clients;
use super::history::WriteId;
use super::world::{Inner, World};

/// The module.
pub const UNION: ModuleDigest = ModuleDigest([0x75; 32]);

/// Its next version, which makes the same.
pub const UNION_2: ModuleDigest = ModuleDigest([0x76; 32]);

/// The writes that a value contains.
pub fn contained(value: &[u8]) -> BTreeSet<WriteId> {
    let text = String::from_utf8_lossy(value);
    text.split('\n').filter_map(|number| number.parse().ok()).collect()
}

/// The value that contains these writes.
pub fn value_of(writes: &BTreeSet<WriteId>) -> Bytes {
    let lines: BTreeSet<String> = writes.iter().map(|id| format!("{id}\n")).collect();
    lines.into_iter().collect::<String>().into()
}

/// The writes that the values of all siblings contain.
pub fn contents(siblings: &Siblings) -> BTreeSet<WriteId> {
    let versions = siblings.live().filter_map(|(_, version)| version.payload.value());
    versions.flat_map(|value| contained(value)).collect()
}

/// What makes one value of siblings.
pub type Merger = fn(&Divergence) -> Result<Resolution, MergeFailure>;

/// The native twin of the module `lines` of `tests/guests`.
///
/// # Errors
/// None.
pub fn union(divergence: &Divergence) -> Result<Resolution, MergeFailure> {
    let values: Vec<&Bytes> =
        divergence.siblings.iter().filter_map(|sibling| sibling.value.as_ref()).collect();
    let all = values.iter().flat_map(|value| contained(value)).collect();
    let outcome = match values.is_empty() {
        true => Outcome::Delete,
        false => Outcome::Value(value_of(&all)),
    };
    Ok(Resolution { outcome, note: None, events: Vec::new(), fuel_used: 1 })
}

impl World {
    /// A node asks for a merge, for a fold.
    pub(super) fn merge(
        &mut self,
        machine: usize,
        (token, module): (Token, ModuleDigest),
        divergence: &Divergence,
    ) {
        self.check_module(machine, module, divergence);
        let result = if self.planted == Planted::FreshDot {
            self.write_back(machine, divergence);
            Err(MergeFailure::Unavailable("it is written back".to_owned()))
        } else if !self.scenario.is_scripted && self.rng.random_bool(0.05) {
            Err(match self.rng.random_bool(0.5) {
                true => MergeFailure::Trapped("unreachable".to_owned()),
                false => MergeFailure::NotLoaded(UNION),
            })
        } else {
            (self.merger)(divergence).map(|mut resolution| {
                self.spoil(module, divergence, &mut resolution.outcome);
                Arc::new(resolution)
            })
        };
        let (now_us, writes) = (self.now_us, divergence.siblings.len());
        self.trace.line(
            now_us,
            format_args!("n{machine} merges {writes} versions of {:?}", divergence.key),
        );
        let at_us = now_us + self.rng.random_range(20..5_000);
        self.plan_in(machine, at_us, Inner::Merged(token, result));
    }

    /// A node folds a key by the module that its catalogue has for the key: nodes that know the same
    /// fold by the same, canary or not.
    fn check_module(&mut self, machine: usize, module: ModuleDigest, divergence: &Divergence) {
        let catalogue = self.machines[machine].node.as_ref().and_then(|node| node.catalogue());
        let Some(keyspace) = catalogue.and_then(|one| one.keyspace(&divergence.keyspace)) else {
            return;
        };
        let reconcile = keyspace.reconcile_of(&divergence.key);
        if reconcile != Reconcile::Fold(module) {
            let found = format!("n{machine} folds by {module}, and its catalogue says {reconcile}");
            self.violations.push(Violation { rule: MODULE, key: None, found });
        }
    }

    /// The planted bug: what a get finds is merged and put with its context, under a dot of its
    /// own, as clients do.
    fn write_back(&mut self, machine: usize, divergence: &Divergence) {
        let place = self.keys.iter().position(|key| key.bytes == divergence.key);
        if let Some(place) = place {
            self.read_to_write_back(machine, place);
        }
    }

    /// The second half of it.
    pub(super) fn written_back(&mut self, machine: usize, place: usize, found: &Siblings) {
        let mut put = clients::put(&self.keys[place], Context::of(found), false);
        put.draft.payload = stator_core::version::Payload::Value(value_of(&contents(found)));
        let ticket = self.request_write_back(machine, put.timeout_ms * 1_000);
        self.tell(machine, Event::Put(ticket, put));
    }
}
