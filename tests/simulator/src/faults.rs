//! Faults: they strike at random within the scenario's budget, and end.

use std::collections::BTreeSet;

use rand::RngExt;
use stator_core::event::{Area, Backlog, Event};
use stator_core::id::Incarnation;
use stator_core::node::Node;

use super::Planted;
use super::machine::Machine;
use super::network::region_of;
use super::queue::Micros;
use super::scenario::FaultKind;
use super::world::{Happening, Inner, World};

/// The end of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mend {
    /// A cut of the network.
    Cut(u64),
    /// A machine that lies still.
    Start(usize),
    /// A machine's disk.
    Disk(usize),
    /// A machine that took its time.
    Haste(usize),
}

impl World {
    /// A fault strikes, unless trouble is over, and the next of its kind is planned.
    pub(super) fn strike(&mut self, kind: FaultKind, mean_us: Micros) {
        if !self.is_trouble {
            return;
        }
        let next_us = self.now_us + self.rng.random_range(mean_us / 4..mean_us * 7 / 4);
        self.queue.plan(next_us, Happening::Fault(kind, mean_us));
        let machine = self.rng.random_range(0..self.machines.len());
        match kind {
            FaultKind::Partition => self.partition(),
            FaultKind::OneWay => self.one_way(),
            FaultKind::CutRegion => self.cut_region(self.scenario.region_of(machine)),
            FaultKind::Crash => self.crash(machine),
            FaultKind::PowerCut => {
                (0..self.machines.len()).for_each(|machine| self.crash(machine));
            }
            FaultKind::Die => self.die(machine),
            FaultKind::LoseDisk => self.lose_disk(machine),
            FaultKind::Stop => self.stop(machine),
            FaultKind::StopInOrder => self.stop_in_order(machine),
            FaultKind::DieMost => self.die_most(),
            FaultKind::Restore => self.restore(),
            FaultKind::SlowNode => self.slow_node(machine),
            FaultKind::Freeze => self.freeze(machine),
            FaultKind::SlowDisk | FaultKind::BadDisk | FaultKind::BadFiles => {
                self.disk_fault(kind, machine);
            }
            FaultKind::Copy => self.copy(machine),
            FaultKind::CopyAll => self.copy_all(),
            FaultKind::Move => self.move_away(machine),
            FaultKind::Skew => {
                let skew_ms = self.rng.random_range(-300_000..=300_000);
                self.machines[machine].skew_ms = skew_ms;
                self.trace.line(self.now_us, format_args!("n{machine} skew {skew_ms} ms"));
            }
            FaultKind::Rot => {
                let (chosen, bit) = (self.rng.random::<u32>(), self.rng.random::<u32>());
                let key = self.machines[0].store.damage(chosen as usize, bit as usize);
                let key = key.map(|key| key.key);
                self.trace.line(self.now_us, format_args!("n0 damaged {key:?}"));
            }
        }
    }

    fn partition(&mut self) {
        let count = self.machines.len();
        let side: Vec<bool> = (0..count).map(|_| self.rng.random_bool(0.5)).collect();
        self.cut_between(|machine| side[machine]);
    }

    fn cut_region(&mut self, region: usize) {
        let regions = self.scenario.regions;
        self.cut_between(|machine| region_of(machine, regions) == region);
    }

    fn cut_between(&mut self, is_on_side: impl Fn(usize) -> bool) {
        let count = self.machines.len();
        let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        let links = pairs.filter(|&(a, b)| is_on_side(a) != is_on_side(b)).collect();
        self.cut(links);
    }

    fn one_way(&mut self) {
        let count = self.machines.len();
        let mut links = BTreeSet::new();
        for _ in 0..self.rng.random_range(1..=count) {
            links.insert((self.rng.random_range(0..count), self.rng.random_range(0..count)));
        }
        // Nobody is cut off from itself.
        links.retain(|(from, to)| from != to);
        self.cut(links);
    }

    fn cut(&mut self, links: BTreeSet<(usize, usize)>) {
        for place in links.iter().flat_map(|(from, to)| [*from, *to]) {
            self.machines[place].was_gone = true;
        }
        self.cut_quietly(links);
    }

    /// A cut of which nobody takes anybody of before for gone.
    pub(super) fn cut_quietly(&mut self, links: BTreeSet<(usize, usize)>) {
        let is_known = self.rng.random_bool(0.4);
        self.trace.line(self.now_us, format_args!("cut {links:?}, known {is_known}"));
        let cut = self.network.cut(links, is_known);
        let at_us = self.now_us + self.rng.random_range(200_000..8_000_000);
        self.queue.plan(at_us, Happening::Mend(Mend::Cut(cut)));
    }

    pub(super) fn crash(&mut self, machine: usize) {
        let is_too_early = self
            .last_crash_us
            .is_some_and(|last_us| self.now_us - last_us < self.scenario.crashes_apart_us);
        if is_too_early || self.machines[machine].node.take().is_none() {
            return;
        }
        self.last_crash_us = Some(self.now_us);
        self.report.crashes += 1;
        let incarnation = self.next_incarnation(machine);
        let store = &mut self.machines[machine].store;
        let unsynced = [Area::Data, Area::Hints].map(|area| store.shelf(area).unsynced());
        let kept = unsynced.map(|steps| self.rng.random_range(0..=steps));
        store.restart_unclean(kept.into(), incarnation);
        self.machines[machine].is_unclean = true;
        let now_us = self.now_us;
        self.trace.line(now_us, format_args!("n{machine} crashes, keeps {kept:?} of {unsynced:?}"));
        self.lie_still(machine);
    }

    /// A machine is gone until trouble is over. What it knows it keeps.
    fn die(&mut self, machine: usize) {
        if self.dead.is_empty() && self.machines[machine].node.is_some() {
            self.crash(machine);
            self.dead.insert(machine);
            self.trace.line(self.now_us, format_args!("n{machine} is dead"));
        }
    }

    /// A majority of the seats is gone until trouble is over, and an operator goes on without.
    fn die_most(&mut self) {
        if !self.dead.is_empty() {
            return;
        }
        let seats = self.seats();
        for machine in seats.into_iter().take(self.scenario.dead_max()) {
            self.crash(machine);
            self.dead.insert(machine);
            self.trace.line(self.now_us, format_args!("n{machine} is dead"));
        }
        let at_us = self.now_us + self.rng.random_range(2_000_000..8_000_000);
        self.queue.plan(at_us, Happening::Rescue);
    }

    /// A machine loses its power and its disk but for the small files. Not while another one's
    /// loss is not filled yet: what only these two held would be gone.
    fn lose_disk(&mut self, machine: usize) {
        let is_any_left = self.machines.iter().any(Machine::is_left_to_fill);
        if is_any_left || self.machines[machine].node.take().is_none() {
            return;
        }
        self.report.losses += 1;
        let with_hints = self.rng.random_bool(0.5);
        let (fresh, loss) = (Incarnation(self.rng.random()), self.rng.random());
        let incarnation = match self.planted {
            Planted::ActorAfterLoss => self.machines[machine].store.incarnation(),
            _ => fresh,
        };
        self.machines[machine].store.restart_empty(with_hints, incarnation);
        self.machines[machine].loss = Some(loss);
        if self.planted == Planted::CountBeforeFill {
            // It takes itself as whole, so the next one may follow.
            self.machines[machine].backlog = Some(Backlog::nothing(loss).encode());
        }
        let now_us = self.now_us;
        self.trace.line(now_us, format_args!("n{machine} loses its disk, hints: {with_hints}"));
        self.lie_still(machine);
    }

    pub(super) fn stop(&mut self, machine: usize) {
        if self.machines[machine].node.take().is_some() {
            let incarnation = self.next_incarnation(machine);
            self.machines[machine].store.restart_clean(incarnation);
            self.trace.line(self.now_us, format_args!("n{machine} stops"));
            self.lie_still(machine);
        }
    }

    /// In which a machine starts next.
    fn next_incarnation(&mut self, machine: usize) -> Incarnation {
        match self.planted {
            Planted::OldActor => self.machines[machine].store.incarnation(),
            _ => Incarnation(self.rng.random()),
        }
    }

    /// A machine takes no more requests, and stops once what it owes to owners is theirs, or a
    /// hint.
    fn stop_in_order(&mut self, machine: usize) {
        let Machine { node, is_stopping, .. } = &mut self.machines[machine];
        if node.is_some() && !std::mem::replace(is_stopping, true) {
            self.trace.line(self.now_us, format_args!("n{machine} is told to stop"));
            self.tell(machine, Event::Stopping);
            self.go_on_stopping(machine);
        }
    }

    /// Looks whether a machine that was told to may stop by now.
    pub(super) fn go_on_stopping(&mut self, machine: usize) {
        let is_in_debt = self.machines[machine].node.as_ref().is_some_and(Node::is_in_debt);
        match is_in_debt && self.planted != Planted::StopInDebt {
            true => self.plan_in(machine, self.now_us + 20_000, Inner::Stopping),
            false => {
                self.report.stops_in_order += 1;
                self.stop(machine);
            }
        }
    }

    /// A copy of the first machine's data directory is made, or the one that was made comes back.
    fn restore(&mut self) {
        let is_back = self.rng.random_bool(0.5);
        let Some(copy) = self.machines[0].copy.clone().filter(|_| is_back) else {
            let copy = Box::new(self.machines[0].store.clone());
            self.machines[0].copy = Some(copy);
            return self.trace.line(self.now_us, format_args!("n0 is copied"));
        };
        if self.machines[0].node.take().is_none() {
            return;
        }
        self.report.restored += 1;
        let incarnation = match self.planted {
            Planted::OldActor => copy.incarnation(),
            _ => Incarnation(self.rng.random()),
        };
        self.machines[0].store = *copy;
        self.machines[0].store.restart_unclean((0, 0), incarnation);
        self.machines[0].is_unclean = true;
        self.trace.line(self.now_us, format_args!("n0 gets an old copy of its disk back"));
        self.lie_still(0);
    }

    /// What a machine sends and gets takes long, while everything else about it is well.
    fn slow_node(&mut self, machine: usize) {
        self.network.slow(machine, true);
        self.trace.line(self.now_us, format_args!("n{machine} takes its time"));
        let at_us = self.now_us + self.rng.random_range(500_000..6_000_000);
        self.queue.plan(at_us, Happening::Mend(Mend::Haste(machine)));
    }

    fn lie_still(&mut self, machine: usize) {
        self.abandon(machine);
        self.machines[machine].was_gone = true;
        if self.machines[machine].is_unclean {
            self.names.forget(machine);
        }
        // Half of them are back before anyone has noticed.
        let longest_us = if self.rng.random_bool(0.5) { 300_000 } else { 6_000_000 };
        let at_us = self.now_us + self.rng.random_range(20_000..longest_us);
        self.queue.plan(at_us, Happening::Mend(Mend::Start(machine)));
    }

    fn disk_fault(&mut self, kind: FaultKind, machine: usize) {
        match kind {
            FaultKind::SlowDisk => self.machines[machine].disk_factor = 100,
            FaultKind::BadFiles => self.machines[machine].file_failure = 0.5,
            _ => self.machines[machine].disk_failure = 0.3,
        }
        self.trace.line(self.now_us, format_args!("n{machine} {kind:?}"));
        let at_us = self.now_us + self.rng.random_range(500_000..4_000_000);
        self.queue.plan(at_us, Happening::Mend(Mend::Disk(machine)));
    }

    /// A fault ends.
    pub(super) fn mend(&mut self, mend: Mend) {
        self.trace.line(self.now_us, format_args!("mend {mend:?}"));
        match mend {
            Mend::Cut(cut) => self.network.mend(cut),
            Mend::Start(machine) if self.dead.contains(&machine) && self.is_trouble => {}
            Mend::Start(machine) if self.machines[machine].node.is_none() => self.start(machine),
            Mend::Start(_) => {}
            Mend::Haste(machine) => self.network.slow(machine, false),
            Mend::Disk(machine) => {
                self.machines[machine].disk_factor = 1;
                self.machines[machine].disk_failure = 0.0;
                self.machines[machine].file_failure = 0.0;
            }
        }
    }

    /// Ends all faults, and clients fall silent.
    pub(super) fn heal(&mut self) {
        self.trace.line(self.now_us, format_args!("everything heals"));
        self.is_trouble = false;
        self.network.heal();
        for machine in 0..self.machines.len() {
            self.mend(Mend::Disk(machine));
            self.mend(Mend::Start(machine));
        }
    }
}
