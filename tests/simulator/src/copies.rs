//! Data directories that are copied, and what becomes of the processes that run on them.
//!
//! A copy is one more machine, with the files of another one as they were at a moment, and with its
//! node's id. It runs beside the original, before it, after it, or at its address. In the end all run
//! and hear one another; then some of them are one cluster, with one process for each node, and all
//! others have been refused, or are a cluster of copies that nobody of the first knows. What those
//! hold is brought home, as an operator would have it, and they are stopped (before that, if each is
//! refused by some): from then on the run is
//! judged like any other. So every write that any of the processes has acknowledged must be there.
//!
//! Left out: that what was forgotten since a copy was made comes back with it, and what expires:
//! nothing does in these worlds.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use stator_core::event::{Event, Ticket};
use stator_core::holder::Standing;
use stator_core::homecoming::Homecoming;
use stator_core::id::{Incarnation, NodeId};

use super::Planted;
use super::checkers::{REFUSED_ACKS, RESTS, UNNAMED, Violation};
use super::faults::Mend;
use super::machine::Machine;
use super::queue::Micros;
use super::world::{Happening, World};

const SECOND: Micros = 1_000_000;
/// The most copies beside the machines that there are from the start.
const COPIES_MAX: usize = 6;
/// How long it may take until each node is one process.
const SETTLES_US: Micros = 90 * SECOND;
/// The ticket of an operator who brings things home.
const HOME: Ticket = 0;

impl World {
    /// A machine's directory is copied, and a process runs on the copy.
    pub(super) fn copy(&mut self, machine: usize) {
        if self.copies.len() >= COPIES_MAX {
            return;
        }
        let copy = self.add_copy(machine);
        match self.rng.random_range(0..4) {
            // Beside it.
            0 => {}
            // Instead of it, for a while.
            1 => self.stop_or_crash(machine),
            // Instead of it, until all trouble is over.
            2 => {
                self.stop_or_crash(machine);
                self.dead.insert(machine);
            }
            // Where it was, while that is elsewhere.
            _ => {
                self.stop_or_crash(machine);
                if self.machines[machine].node.is_some() {
                    return self.start_copy(copy, 4 * SECOND);
                }
                let (one, other) = (machine.min(copy), machine.max(copy));
                let (left, right) = self.machines.split_at_mut(other);
                std::mem::swap(&mut left[one].address, &mut right[0].address);
            }
        }
        self.start_copy(copy, 4 * SECOND);
    }

    /// The directories of all machines are copied, and the copies run as a cluster of their own, with
    /// the same secret.
    pub(super) fn copy_all(&mut self) {
        if !self.copies.is_empty() {
            return;
        }
        let originals = 0..self.machines.len();
        if self.rng.random_bool(0.3) {
            originals.clone().for_each(|machine| self.stop_or_crash(machine));
        }
        let copies: Vec<usize> = originals.clone().map(|machine| self.add_copy(machine)).collect();
        if self.rng.random_bool(0.3) {
            let pairs = originals.flat_map(|a| copies.iter().flat_map(move |b| [(a, *b), (*b, a)]));
            self.cut_quietly(pairs.collect());
        }
        copies.into_iter().for_each(|copy| self.start_copy(copy, SECOND));
    }

    /// A machine is started at another address.
    pub(super) fn move_away(&mut self, machine: usize) {
        self.stop_or_crash(machine);
        if self.machines[machine].node.is_none() {
            self.moved += 1;
            self.machines[machine].address = format!("n{machine}, moved {}", self.moved);
        }
    }

    fn add_copy(&mut self, machine: usize) -> usize {
        let place = self.machines.len();
        let incarnation = self.machines[machine].store.incarnation();
        let fresh = Incarnation(self.rng.random());
        let kept: f64 = self.rng.random();
        let address = format!("n{place}, copy");
        let mut copy = self.machines[machine].copied(address, kept, fresh);
        if self.planted == Planted::CopiedIncarnation {
            copy.store.begin(incarnation);
        }
        self.report.copies += 1;
        self.trace.line(self.now_us, format_args!("n{place} is made as a copy of n{machine}"));
        self.machines.push(copy);
        self.copies.insert(place);
        place
    }

    fn start_copy(&mut self, copy: usize, within_us: Micros) {
        let at_us = self.now_us + self.rng.random_range(20_000..within_us);
        self.queue.plan(at_us, Happening::Mend(Mend::Start(copy)));
    }

    fn stop_or_crash(&mut self, machine: usize) {
        match self.rng.random_bool(0.5) {
            true => self.stop(machine),
            false => self.crash(machine),
        }
    }

    /// A put was acknowledged: not by who was refused.
    pub(super) fn check_acknowledger(&mut self, machine: usize) {
        let standing = self.machines[machine].node.as_ref().map(|node| node.standing());
        if let Some(Standing::Refused(holder)) = standing {
            let found = format!("n{machine} acknowledges a put, and is refused for {holder:?}");
            self.violations.push(Violation { rule: REFUSED_ACKS, key: None, found });
        }
    }

    /// Whether a machine is none of the cluster that is judged.
    pub(super) fn is_out(&self, place: usize) -> bool {
        self.out.contains(&place) || self.is_removed(place)
    }

    /// The place of a member among those that are judged.
    pub(super) fn place_of(&self, node: NodeId) -> usize {
        let is_it = |place: &usize| self.machines[*place].id == node && !self.out.contains(place);
        (0..self.machines.len()).find(is_it).unwrap_or(0)
    }

    /// Waits until one process is each node, brings home what the others hold, and stops them.
    pub(super) fn one_process_each(&mut self) {
        if !self.scenario.is_copying() {
            return;
        }
        let until_us = self.now_us + SETTLES_US;
        let mut is_helped = false;
        // Who has just been started takes some seconds to be judged.
        self.run_until(self.now_us + 15 * SECOND);
        let served = loop {
            if !self.violations.is_empty() {
                return;
            }
            match self.served() {
                Ok(served) => break served,
                Err(found) if self.now_us >= until_us => {
                    let violation = Violation { rule: RESTS, key: None, found };
                    return self.violations.push(violation);
                }
                Err(_) => {
                    if self.now_us + SETTLES_US / 2 > until_us && !is_helped {
                        is_helped = true;
                        self.stop_copies();
                    }
                    self.run_until(self.now_us + SECOND);
                }
            }
        };
        self.trace.line(self.now_us, format_args!("{served:?} are the cluster"));
        let is_out = |place: &usize| !served.contains(place) && !self.is_removed(*place);
        self.out = (0..self.machines.len()).filter(is_out).collect();
        self.check_named(&served);
        let Some(first) = served.first().copied() else { return };
        let others = (0..self.machines.len()).filter(|place| !served.contains(place));
        for place in others.collect::<Vec<_>>() {
            for home in self.held_by(place) {
                self.report.brought_home += 1;
                self.tell(first, Event::BringHome(HOME, Box::new(home)));
            }
        }
        for place in self.out.clone() {
            self.machines[place].node = None;
            self.abandon(place);
        }
    }

    /// Processes of one node may each be refused by other processes of others. An operator stops the
    /// copies then, and tells the originals where they are.
    fn stop_copies(&mut self) {
        self.trace.line(self.now_us, format_args!("the copies are stopped"));
        for copy in self.copies.clone() {
            self.machines[copy].node = None;
            self.abandon(copy);
        }
        let originals: Vec<usize> =
            (0..self.machines.len()).filter(|place| !self.copies.contains(place)).collect();
        for one in &originals {
            originals.iter().filter(|other| one < other).for_each(|o| self.introduce(*one, *o));
        }
    }

    fn held_by(&self, place: usize) -> Vec<Homecoming> {
        let Machine { id, store, .. } = &self.machines[place];
        let all = store.data.records().chain(store.hints.records());
        let home = |(key, record): (&stator_core::keys::StoreKey, stator_core::record::Record)| {
            let (from, siblings) = (*id, record.siblings);
            Homecoming { from, keyspace: key.keyspace, key: key.key.clone(), siblings }
        };
        all.map(home).collect()
    }

    /// The places of a cluster in which each member is one process, which knows the same; the one of
    /// the first machine that is in such a one.
    fn served(&self) -> Result<BTreeSet<usize>, String> {
        let mut why = Vec::new();
        for place in 0..self.machines.len() {
            match self.served_around(place) {
                Ok(served) => return Ok(served),
                Err(found) => why.push(found),
            }
        }
        Err(why.join("; "))
    }

    fn served_around(&self, place: usize) -> Result<BTreeSet<usize>, String> {
        let holders = self.holders_by(place).ok_or(format!("n{place} is no node"))?;
        let mut served = BTreeSet::new();
        for (node, incarnation) in &holders {
            let is_it = |other: &usize| {
                let machine = &self.machines[*other];
                machine.id == *node && machine.store.incarnation() == *incarnation
            };
            let found = (0..self.machines.len()).find(is_it);
            let found = found.ok_or(format!("n{place} knows {incarnation} as {node}: nobody"))?;
            if self.holders_by(found).as_ref() != Some(&holders) {
                return Err(format!("n{place} and n{found} know other processes"));
            }
            served.insert(found);
        }
        Ok(served)
    }

    /// By whom each node is served, as a process knows that is one itself.
    fn holders_by(&self, place: usize) -> Option<BTreeMap<NodeId, Incarnation>> {
        let node = self.machines[place].node.as_ref()?;
        let catalogue = node.catalogue().filter(|_| node.standing() == Standing::Held)?;
        let holder = |(node, member): (&NodeId, &stator_core::catalogue::Versioned<_>)| {
            let member: &stator_core::catalogue::Member = &member.value;
            (*node, member.incarnation)
        };
        Some(catalogue.members.iter().map(holder).collect())
    }

    /// Who was told that it is a second holder is named by those who told it.
    fn check_named(&mut self, served: &BTreeSet<usize>) {
        // One that asks no more is not named for ever.
        let lately_us = self.now_us - 3 * SECOND;
        let mut named = BTreeSet::new();
        for place in served {
            let now_ms = self.machines[*place].now(self.now_us).monotonic_ms;
            let door = self.machines[*place].door.as_ref();
            let intruders = door.map(|door| door.intruders(now_ms)).unwrap_or_default();
            named.extend(intruders.into_iter().map(|intruder| intruder.process.incarnation));
        }
        for place in self.out.clone() {
            let machine = &self.machines[place];
            let is_refused = machine
                .refused_by
                .is_some_and(|(by, at_us)| served.contains(&by) && at_us > lately_us);
            if is_refused && !named.contains(&machine.store.incarnation()) {
                let found = format!("nobody names n{place}, which was refused just now");
                self.violations.push(Violation { rule: UNNAMED, key: None, found });
            }
        }
    }
}
