//! Operators who change the ring, and the checks that no two machines ever see two rings of one
//! version, and that owners are as far apart as they can be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::RngExt;
use stator_core::catalogue::{Catalogue, CatalogueChange, RingChange};
use stator_core::event::{CommitError, CommitRequest, Event};
use stator_core::id::NodeId;

use super::TICKET;
use crate::Planted;
use crate::checkers::{ONE_RING, Violation, ZONES};
use crate::queue::Micros;
use crate::scenario::Scenario;
use crate::world::{Happening, World, index};

/// What was seen of the rings.
#[derive(Debug, Default)]
pub struct RingWatch {
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

/// The zone in which a machine stands.
pub fn zone_of(machine: usize, scenario: &Scenario) -> usize {
    machine % scenario.zones
}

/// A list of owners with fewer nodes, regions or zones of a region than there could be.
fn zones(
    catalogue: &Catalogue,
    (zone_of, region_of): (impl Fn(NodeId) -> usize, impl Fn(NodeId) -> usize),
) -> Option<Violation> {
    let ring = &catalogue.ring;
    let regions = |nodes: &[NodeId]| -> BTreeMap<usize, BTreeSet<usize>> {
        let mut regions: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for node in nodes {
            regions.entry(region_of(*node)).or_default().insert(zone_of(*node));
        }
        regions
    };
    let all = regions(ring.seats());
    let is_near = |owners: &Vec<NodeId>| {
        let nodes: BTreeSet<&NodeId> = owners.iter().collect();
        let used = regions(owners);
        let is_narrow = |(region, zones): (&usize, &BTreeSet<usize>)| {
            let of_it = nodes.iter().filter(|node| region_of(***node) == *region).count();
            zones.len() < of_it.min(all.get(region).map_or(0, BTreeSet::len))
        };
        nodes.len() < ring.replicas_max().min(ring.seats().len())
            || used.len() < nodes.len().min(all.len())
            || used.iter().any(is_narrow)
    };
    let near = ring.planned().into_iter().find(is_near)?;
    let found = format!("ring {} has the owners {near:?}", ring.version());
    Some(Violation { rule: ZONES, key: None, found })
}

impl World {
    /// Operators change the ring, each through another machine, sometimes two at the same time.
    pub(super) fn change_rings(&mut self, machine: usize) {
        match self.rng.random_range(0..10) {
            0 => self.change_ring(machine, CatalogueChange::CancelRing),
            1..=5 => self.stage(machine),
            6..=7 => self.commit(machine, false),
            _ => {
                let other = self.rng.random_range(0..self.machines.len());
                // Each commits what it has staged itself, as far as it knows by then.
                for machine in [machine, other] {
                    self.stage(machine);
                    self.commit(machine, false);
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
        let leave = |change: &&RingChange| matches!(change, RingChange::Leave { .. });
        let leavers = catalogue.staged_changes().iter().filter(leave).count();
        let stay = catalogue.ring.seats().len().saturating_sub(leavers);
        let weight = Some(self.rng.random_range(1..4));
        let change = match (catalogue.ring.has_seat(node), self.rng.random_bool(0.3)) {
            // Who leaves does not come back, and as many as there are owners are needed.
            (true, false) if stay > self.scenario.owners as usize + 1 => RingChange::Leave { node },
            (true, true) if self.scenario.zones > 1 && self.rng.random_bool(0.3) => {
                let owners = self.scenario.owners as u16;
                RingChange::Replicas { replicas_max: self.rng.random_range(owners..=owners + 1) }
            }
            (true, _) => RingChange::Set { node, weight, zone: None, region: None },
            (false, _) => RingChange::Join { node },
        };
        self.change_ring(machine, CatalogueChange::StageRing(change));
    }

    /// What an operator does about a dead machine, sooner or later. `spare` may take its place.
    fn change_for_dead(&mut self, catalogue: &Catalogue, spare: NodeId) -> Option<RingChange> {
        let node = self.machines[*self.dead.first()?].id;
        if !catalogue.members.contains_key(&node) || self.rng.random_bool(0.5) {
            return None;
        }
        Some(match catalogue.ring.has_seat(spare) {
            false => RingChange::Replace { node, by: spare },
            true => RingChange::Remove { node },
        })
    }

    pub(crate) fn catalogue_of(&self, machine: usize) -> Option<Arc<Catalogue>> {
        self.machines[machine].node.as_ref()?.catalogue().cloned()
    }

    fn change_ring(&mut self, machine: usize, change: CatalogueChange) {
        self.trace.line(self.now_us, format_args!("operator -> n{machine}: {change:?}"));
        self.tell(machine, Event::Change(TICKET, change));
    }

    fn commit(&mut self, machine: usize, without_majority: bool) {
        let Some(catalogue) = self.catalogue_of(machine) else { return };
        let request = CommitRequest {
            expected_ring_version: catalogue.ring.version(),
            expected_plan: Some(catalogue.plan_id()),
            without_majority,
        };
        self.trace.line(self.now_us, format_args!("operator -> n{machine}: {request:?}"));
        self.tell(machine, Event::CommitRing(TICKET, request));
    }

    /// A commit was answered.
    pub(crate) fn commit_done(
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
    pub(crate) fn saw_catalogue(&mut self, machine: usize, catalogue: &Catalogue) {
        let zone = |node: NodeId| zone_of(index(node), &self.scenario);
        self.violations.extend(self.rings.saw(machine, catalogue));
        let region = |node: NodeId| self.scenario.region_of(index(node));
        self.violations.extend(zones(catalogue, (zone, region)));
        self.count_resizes(catalogue);
    }

    /// The machines with a seat, by the first machine's catalogue.
    pub(crate) fn seats(&self) -> Vec<usize> {
        let catalogue = (0..self.machines.len()).find_map(|machine| self.catalogue_of(machine));
        let seats = catalogue.iter().flat_map(|catalogue| catalogue.ring.seats());
        seats.map(|seat| index(*seat)).collect()
    }

    /// An operator removes the dead without a majority, from one machine, until that is done.
    pub(crate) fn rescue(&mut self) {
        if !self.is_trouble {
            return;
        }
        let again_us: Micros = self.now_us + 1_000_000;
        self.queue.plan(again_us, Happening::Rescue);
        let mut alive = (0..self.machines.len()).filter(|machine| !self.dead.contains(machine));
        let Some(first) = alive.next() else { return };
        let second = alive.next().filter(|_| self.planted == Planted::CommitTwice);
        for machine in [Some(first), second].into_iter().flatten() {
            let Some(catalogue) = self.catalogue_of(machine) else { continue };
            if catalogue.ring.version() > 1 {
                continue;
            }
            let mut dead: Vec<NodeId> =
                self.dead.iter().map(|dead| self.machines[*dead].id).collect();
            // Of a planted bug: the other operator goes on without one of them only.
            dead.truncate(if machine == first { usize::MAX } else { 1 });
            for node in dead {
                self.change_ring(machine, CatalogueChange::StageRing(RingChange::Remove { node }));
            }
            self.commit(machine, true);
        }
    }
}
