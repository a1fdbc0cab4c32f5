//! Operators who change the ring, each through another machine, sometimes two at the same time;
//! and the check that no two machines ever see two rings of one version.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use stator_core::catalogue::{Catalogue, CatalogueChange, RingChange};
use stator_core::event::{CommitError, CommitRequest, Event};
use stator_core::id::NodeId;

use super::checkers::{ONE_RING, Violation};
use super::world::{Happening, World};

/// The tickets of operators' changes, of which the world wants no answer.
const TICKET: u64 = 0;

/// What was seen of the rings.
#[derive(Debug, Default)]
pub(super) struct RingWatch {
    /// By version: who was to own what, and who saw it first.
    seen: BTreeMap<u64, (Vec<Vec<NodeId>>, usize)>,
}

impl RingWatch {
    fn saw(&mut self, machine: usize, catalogue: &Catalogue) -> Option<Violation> {
        let (version, planned) = (catalogue.ring.version(), catalogue.ring.planned());
        let (first, by) = self.seen.entry(version).or_insert_with(|| (planned.clone(), machine));
        (*first != planned).then(|| Violation {
            rule: ONE_RING,
            key: None,
            found: format!("n{by} and n{machine} have two rings of version {version}"),
        })
    }
}

impl World {
    /// An operator does something, and the next time is planned.
    pub(super) fn operate(&mut self) {
        let Some(mean_us) = self.scenario.operators_us.filter(|_| self.is_trouble) else { return };
        let next_us = self.now_us + self.rng.random_range(mean_us / 4..mean_us * 7 / 4);
        self.queue.plan(next_us, Happening::Operator);
        let machine = self.rng.random_range(0..self.machines.len());
        match self.rng.random_range(0..10) {
            0 => self.change_ring(machine, CatalogueChange::CancelRing),
            1..=5 => self.stage(machine),
            6..=7 => self.commit(machine),
            _ => {
                let other = self.rng.random_range(0..self.machines.len());
                // Each commits what it has staged itself, as far as it knows by then.
                for machine in [machine, other] {
                    self.stage(machine);
                    self.commit(machine);
                }
            }
        }
    }

    fn stage(&mut self, machine: usize) {
        let place = self.rng.random_range(0..self.machines.len());
        let node = self.machines[place].id;
        let Some(catalogue) = self.catalogue_of(machine) else { return };
        if let Some(change) = self.change_for_dead(&catalogue, node) {
            return self.change_ring(machine, CatalogueChange::StageRing(change));
        }
        let weight = Some(self.rng.random_range(1..4));
        let change = match (catalogue.ring.has_seat(node), self.rng.random_bool(0.3)) {
            // Who leaves does not come back, and three are needed.
            (true, false) if catalogue.ring.seats().len() > 4 => RingChange::Leave { node },
            (true, _) => RingChange::Set { node, weight, zone: None, region: None },
            (false, _) => RingChange::Join { node },
        };
        self.change_ring(machine, CatalogueChange::StageRing(change));
    }

    /// What an operator does about a dead machine, sooner or later. `spare` may take its place.
    fn change_for_dead(&mut self, catalogue: &Catalogue, spare: NodeId) -> Option<RingChange> {
        let node = self.machines[self.dead?].id;
        if !catalogue.members.contains_key(&node) || self.rng.random_bool(0.5) {
            return None;
        }
        Some(match catalogue.ring.has_seat(spare) {
            false => RingChange::Replace { node, by: spare },
            true => RingChange::Remove { node },
        })
    }

    fn catalogue_of(&self, machine: usize) -> Option<Arc<Catalogue>> {
        self.machines[machine].node.as_ref()?.catalogue().cloned()
    }

    fn change_ring(&mut self, machine: usize, change: CatalogueChange) {
        self.trace.line(self.now_us, format_args!("operator -> n{machine}: {change:?}"));
        self.tell(machine, Event::Change(TICKET, change));
    }

    fn commit(&mut self, machine: usize) {
        let Some(catalogue) = self.catalogue_of(machine) else { return };
        let request = CommitRequest {
            expected_ring_version: catalogue.ring.version(),
            expected_plan: Some(catalogue.plan_id()),
            without_majority: false,
        };
        self.trace.line(self.now_us, format_args!("operator -> n{machine}: {request:?}"));
        self.tell(machine, Event::CommitRing(TICKET, request));
    }

    /// A commit was answered.
    pub(super) fn commit_done(
        &mut self,
        machine: usize,
        result: Result<Arc<Catalogue>, CommitError>,
    ) {
        let now_us = self.now_us;
        match result {
            Ok(catalogue) => {
                self.report.rings += 1;
                let version = catalogue.ring.version();
                self.trace.line(now_us, format_args!("n{machine} committed ring {version}"));
            }
            Err(error) => {
                self.trace.line(now_us, format_args!("n{machine} did not commit: {error}"));
            }
        }
    }

    /// A machine has another catalogue.
    pub(super) fn saw_catalogue(&mut self, machine: usize, catalogue: &Catalogue) {
        self.violations.extend(self.rings.saw(machine, catalogue));
    }
}
