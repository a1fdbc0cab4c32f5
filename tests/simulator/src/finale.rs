//! The end of a run: everything heals, the cluster comes to rest, and is judged.

use stator_core::ancestor::{Nearest, nearest};
use stator_core::catalogue::{Catalogue, Keyspace};
use stator_core::causality::{LiveVersion, Siblings};
use stator_core::expiry::MARGIN_MS;
use stator_core::id::NodeId;
use stator_core::keys::StoreKey;
use stator_core::record::Record;
use stator_core::version::Version;

use super::checkers::{self, CONVERGED, EXCHANGED, FORGOTTEN, HANDED_OFF, RESTS, TREES, Violation};
use super::clients;
use super::merging;
use super::queue::Micros;
use super::scenario::Chore;
use super::world::{TROUBLE_US, World, index};

/// How long the cluster may take to come to rest.
const REST_US: Micros = 60_000_000;
/// How often the checkers read all keys before owners that still differ count as a violation.
const ROUNDS: usize = 3;
const SECOND: Micros = 1_000_000;

impl World {
    /// Runs the world to its end.
    pub(super) fn live(&mut self) {
        self.run_until(TROUBLE_US);
        if !self.violations.is_empty() {
            return;
        }
        self.end();
    }

    /// Heals everything, waits for rest and judges.
    pub(super) fn end(&mut self) {
        self.check_trees();
        self.heal();
        self.one_process_each();
        self.come_to_rest();
        self.take_back();
        self.check_trees();
        if self.scenario.is_handoff_complete {
            self.compare(HANDED_OFF);
        } else if self.scenario.does(Chore::Repair) {
            self.repair();
        } else if !self.scenario.is_rotting() {
            self.compare(EXCHANGED);
        }
        for round in 1..=ROUNDS {
            if !self.violations.is_empty() {
                return;
            }
            self.inspect();
            // Answers, then repairs.
            self.run_until(self.now_us + 7 * SECOND);
            let before = self.violations.len();
            self.compare(CONVERGED);
            match self.violations.len() == before {
                true => break,
                false if round < ROUNDS => self.violations.truncate(before),
                false => return,
            }
        }
        self.judge();
        self.forget();
    }

    pub(super) fn come_to_rest(&mut self) {
        // Stragglers of before are still on their way.
        self.run_until(self.now_us + 3 * SECOND);
        let until_us = self.now_us + REST_US;
        while self.violations.is_empty() {
            let Some(unrest) = self.unrest() else { return };
            if self.now_us >= until_us {
                let violation = Violation { rule: RESTS, key: None, found: unrest };
                return self.violations.push(violation);
            }
            self.run_until(self.now_us + SECOND / 4);
        }
    }

    /// Why the cluster is not at rest, if it is not.
    fn unrest(&self) -> Option<String> {
        let digest = |machine: usize| self.catalogue(machine).map(|c| c.digest());
        let first = self.first_member();
        for (place, machine) in self.machines.iter().enumerate() {
            if self.is_out(place) {
                continue;
            }
            let Some(node) = &machine.node else {
                return Some(format!("n{place} does not run"));
            };
            if let Some((key, hint)) = machine.store.hints.records().next() {
                let targets: Vec<usize> = hint.targets.iter().map(|t| index(*t)).collect();
                return Some(format!("n{place} holds a hint of {:?} for {targets:?}", key.key));
            }
            if let Some(figures) = node.fill_figures() {
                return Some(format!("n{place} is being filled: {figures:?}"));
            }
            if node.requests_in_flight() + node.folds_in_flight() > 0 {
                return Some(format!("n{place} has requests or folds in flight"));
            }
            if node.exchanges_owed() > 0 || !machine.store.trees.is_complete() {
                return Some(format!("n{place} owes exchanges or rebuilds its hash trees"));
            }
            if digest(place) != digest(first) {
                return Some(format!("n{place} has another catalogue than n{first}"));
            }
            if let Some(pending) = self.catalogue(place).and_then(|c| c.ring.moves().first()) {
                let figures = node.transfers();
                return Some(format!("n{place} knows of {pending:?}, its transfers: {figures:?}"));
            }
            let resizing = self.catalogue(place).and_then(|c| self.resize_unrest(place, c));
            if let Some(unrest) = resizing {
                return Some(unrest);
            }
            if !node.has_no_leavings() {
                return Some(format!("n{place} holds what it does not own"));
            }
            let lost =
                self.machines.iter().enumerate().find(|(other, machine)| {
                    !node.is_reachable(machine.id) && !self.is_out(*other)
                });
            let lost = lost.map(|(_, machine)| machine);
            if let Some(lost) = lost {
                return Some(format!("n{place} takes n{} as down", index(lost.id)));
            }
        }
        match self.scenario.exchange_cover_ms() == 0 {
            true => None,
            false => self.unequal_roots(),
        }
    }

    /// Owners of a partition whose hash trees differ, if there are some.
    fn unequal_roots(&self) -> Option<String> {
        let catalogue = self.catalogue(self.first_member())?;
        for partition in catalogue.ring.partition_ids() {
            for Keyspace { id, quorums, .. } in catalogue.live_keyspaces() {
                let owners = catalogue.ring.owners(partition).take(quorums.value.n as usize);
                let root = |owner: usize| {
                    let roots = self.machines[owner].store.trees.roots(partition);
                    (owner, roots.into_iter().find(|(keyspace, _)| keyspace == id))
                };
                let roots: Vec<_> = owners.map(|owner| self.place_of(owner)).map(root).collect();
                if roots.windows(2).any(|pair| pair[0].1 != pair[1].1) {
                    return Some(format!("the owners of partition {partition} differ: {roots:?}"));
                }
            }
        }
        None
    }

    /// Whether complete hash trees are what the records add up to. Damage is in no record.
    fn check_trees(&mut self) {
        for (place, machine) in self.machines.iter().enumerate() {
            let is_damaged = place == 0 && self.scenario.is_rotting();
            let store = &machine.store;
            if !is_damaged && store.trees.is_complete() && store.trees != store.counted_trees() {
                let found = format!("n{place}: {:?}", store.trees);
                self.violations.push(Violation { rule: TREES, key: None, found });
            }
        }
    }

    fn catalogue(&self, machine: usize) -> Option<&Catalogue> {
        let node = self.machines[machine].node.as_ref()?;
        node.catalogue().map(|catalogue| &**catalogue)
    }

    /// Whether a machine has left the cluster for good, by what any machine knows.
    pub(super) fn is_removed(&self, place: usize) -> bool {
        let id = self.machines[place].id;
        (0..self.machines.len())
            .any(|machine| self.catalogue(machine).is_some_and(|c| c.removed.contains_key(&id)))
    }

    pub(super) fn first_member(&self) -> usize {
        (0..self.machines.len()).find(|place| !self.is_out(*place)).unwrap_or(0)
    }

    /// What the owners of a key hold; nothing for a key whose keyspace was never made.
    fn held(&self, place: usize) -> Vec<(usize, Option<Siblings>)> {
        let key = &self.keys[place];
        let Some(catalogue) = self.catalogue(self.first_member()) else { return Vec::new() };
        if catalogue.keyspace_by_id(key.keyspace).is_none() {
            return Vec::new();
        }
        let partition = catalogue.ring.partition(key.keyspace, &key.bytes);
        let owners: Vec<NodeId> =
            catalogue.ring.owners(partition).take(self.replicas(place) as usize).collect();
        let held = |owner: NodeId| {
            let place = self.place_of(owner);
            let mut records = self.machines[place].store.data.records();
            let record =
                records.find(|(known, _)| known.keyspace == key.keyspace && known.key == key.bytes);
            (place, record.map(|(_, record)| Siblings::clone(&record.siblings)))
        };
        owners.into_iter().map(held).collect()
    }

    /// Whether all owners of every key hold the same bytes.
    pub(super) fn compare(&mut self, rule: &'static str) {
        self.look_at_clocks();
        for place in 0..self.keys.len() {
            let held = self.held(place);
            let readable = |held: &Option<Siblings>| self.readable(held);
            if held.windows(2).any(|pair| readable(&pair[0].1) != readable(&pair[1].1)) {
                self.violations.push(checkers::differs(rule, place, &held));
            }
        }
    }

    /// Waits until all that is deleted has left every store, and every owner has forgotten the same
    /// of what lives. Nothing may be revived by that.
    fn forget(&mut self) {
        // What names a retry may come by stays for minutes.
        if !self.scenario.is_collecting() || self.scenario.is_naming {
            return self.judge();
        }
        // A leader looks at a few partitions a second.
        let ring = self.catalogue(self.first_member()).map(|catalogue| &catalogue.ring);
        let partitions = ring.map_or(0, |ring| ring.partition_ids().count()) as Micros;
        let until_us = self.now_us + REST_US.max(partitions * SECOND / 4);
        while self.violations.is_empty() {
            let Some((key, found)) = self.remembered() else { return self.judge() };
            if self.now_us >= until_us {
                return self.violations.push(Violation { rule: FORGOTTEN, key, found });
            }
            // Gets repair what a round met in the middle of another one's last step.
            self.inspect();
            self.run_until(self.now_us + 7 * SECOND);
        }
    }

    /// What some store has still to forget.
    fn remembered(&self) -> Option<(Option<usize>, String)> {
        // Where the last write wins, a tombstone waits for the slowest clock to come past it.
        let clocks = self.machines.iter().map(|machine| machine.now(self.now_us).wall_ms);
        let slowest_ms = clocks.min().unwrap_or(0);
        let is_left = |siblings: &Siblings| {
            let is_due = self.keeps_siblings() || siblings.latest_ms() < slowest_ms;
            let is_over = |end_ms: u64| end_ms + MARGIN_MS <= slowest_ms;
            siblings.is_deleted() && is_due || siblings.first_end_ms().is_some_and(is_over)
        };
        let catalogue = self.catalogue(self.first_member());
        let is_live =
            |key: &StoreKey| catalogue.is_some_and(|c| c.keyspace_by_id(key.keyspace).is_some());
        for (place, machine) in self.machines.iter().enumerate() {
            let mut records = machine.store.data.records();
            // What is left of a deleted keyspace stays where it is.
            let is_left =
                |(key, record): &(&StoreKey, Record)| is_live(key) && is_left(&record.siblings);
            if self.is_out(place) {
                continue;
            }
            if let Some((key, _)) = records.find(is_left) {
                let name = self.keys.iter().position(|known| known.bytes == key.key);
                return Some((
                    name,
                    format!("n{place} keeps what is deleted or over of {:?}", key.key),
                ));
            }
        }
        for place in 0..self.keys.len() {
            let held = self.held(place);
            let is_long = |held: &Siblings| !held.is_deleted() && held.dead_actors() > 0;
            if let Some((machine, _)) = held.iter().find(|(_, h)| h.as_ref().is_some_and(is_long)) {
                return Some((Some(place), format!("n{machine} keeps dead actors of key {place}")));
            }
        }
        None
    }

    /// Judges what is left, now that all owners agree.
    fn judge(&mut self) {
        self.look_at_clocks();
        for place in 0..self.keys.len() {
            if self.is_key_gone(place) {
                continue;
            }
            let held = self.left(place);
            let found = self.writes(place, &held);
            let keeps_siblings = self.keeps_siblings();
            self.violations.extend(checkers::end(&self.history, place, &found, keeps_siblings));
            self.check_contents(place, &held, true);
            self.check_ancestor(place, &held);
        }
    }

    /// What an owner of a key holds.
    pub(super) fn left(&self, place: usize) -> Siblings {
        let held = self.held(place).into_iter().find_map(|(_, siblings)| siblings);
        held.unwrap_or_default()
    }

    /// Whether versions contain what they stand for, where they are folded.
    pub(super) fn check_contents(&mut self, place: usize, siblings: &Siblings, is_end: bool) {
        if !self.scenario.is_folding() {
            return;
        }
        let (key, forgiven) = (&self.keys[place], self.forgiven(place));
        for LiveVersion { dots, version } in siblings.versions() {
            let live = dots.iter().filter_map(|dot| self.dots.write(key, *dot)).collect();
            let value = version.payload.value();
            let contained = value.map(|value| merging::contained(value)).unwrap_or_default();
            let history = &self.history;
            let accounted = &contained | &forgiven;
            self.violations.extend(checkers::contents(history, place, &live, &accounted));
            if is_end {
                self.violations.extend(checkers::is_left(history, place, &live, &contained));
            }
        }
    }

    /// Whether what siblings are said to come from is that.
    pub(super) fn check_ancestor(&mut self, place: usize, siblings: &Siblings) {
        if siblings.live_count() < 2 {
            return;
        }
        let write = |dot| self.dots.write(&self.keys[place], dot);
        let ancestor = match nearest(siblings, 0) {
            Nearest::Unknown => return,
            Nearest::Nothing => None,
            Nearest::Version(past) => write(past.dot),
        };
        self.report.ancestors_known += u64::from(ancestor.is_some());
        let found = self.writes(place, siblings);
        self.violations.extend(checkers::ancestor(&self.history, place, &found, ancestor));
    }

    /// What a reader may get of an object. Owners may differ in what else they hold of it while a
    /// round of collection ends, or while they let go of what has expired: a tombstone that is left
    /// alone by that is forgotten where it is, and stands beside the expired where that is still held.
    fn readable(&self, held: &Option<Siblings>) -> String {
        let is_over = |v: &Version| clients::write_of(v).is_some_and(|id| self.history.is_over(id));
        let live = held.iter().flat_map(Siblings::live);
        let left: Vec<_> = live.filter(|(_, version)| !is_over(version)).collect();
        let is_readable = left.iter().any(|(_, version)| version.payload.value().is_some());
        let left = left.into_iter().filter(|_| is_readable);
        left.map(|(dot, version)| format!("{dot} {version:?}\n")).collect()
    }

    /// Whether concurrent writes are kept, be it in one version.
    pub(super) fn keeps_siblings(&self) -> bool {
        self.scenario.reconcile != stator_core::catalogue::Reconcile::LastWriteWins
    }
}
