//! Disk steps: what a node wants of its store, in its order, each in its own time.
//!
//! A write is applied when the disk comes to it, and answered then, or if it is to be synced
//! (hints always are) when a sync that began after it ends. What is not synced on demand is
//! synced in the background.

use rand::RngExt;
use stator_core::event::{Action, Area, Event, StoreFailure, Stored};
use stator_core::keys::StoreKey;
use stator_core::version::Version;
use stator_core::write::Change;

use super::Planted;
use super::clients;
use super::scenario::WRITE_BEHIND_US;
use super::world::{Inner, World, index};

/// An action that the disk carries out.
pub(super) struct DiskStep(Action);

impl World {
    /// Queues an action for the disk.
    pub(super) fn queue_for_disk(&mut self, machine: usize, mut action: Action) {
        self.plant_in_store(&mut action);
        let area = match &action {
            Action::Write { area, .. } | Action::FindAny { area, .. } => *area,
            Action::ListHints { .. } | Action::SettleHint { .. } => Area::Hints,
            _ => Area::Data,
        };
        let at_us = self.machines[machine].disk_us(area, self.now_us, &mut self.rng);
        self.plan_in(machine, at_us, Inner::Disk(DiskStep(action)));
    }

    /// Carries out a step.
    pub(super) fn disk_step(&mut self, machine: usize, DiskStep(action): DiskStep) {
        match action {
            Action::Load { token, key, with_hints } => {
                let result = self.machines[machine].store.load(&key, with_hints);
                self.tell(machine, Event::Loaded(token, result));
            }
            Action::Scan { token, range } => {
                let count_max = self.rng.random_range(1..4);
                let slice = self.machines[machine].store.scan(&range, count_max);
                self.tell(machine, Event::Scanned(token, slice));
            }
            Action::ReadIndex { token, query, .. } => {
                // So few that most partitions take several pages.
                let count_max = self.rng.random_range(1..4);
                let page = self.machines[machine].store.read_index(&query, count_max);
                self.tell(machine, Event::IndexRead(token, Ok(page)));
            }
            Action::FindAny { token, area, partition } => {
                let is_blind = match area {
                    Area::Hints => self.planted == Planted::CollectOverHints,
                    Area::Data => self.planted == Planted::CollectOverLeavings,
                };
                let found = !is_blind && self.machines[machine].store.find_any(area, partition);
                self.written(machine, area, true, Event::FoundAny(token, Ok(found)));
            }
            Action::ReadTree { token, read } => {
                let count_max = self.rng.random_range(1..6);
                let answer = self.machines[machine].store.read_tree(&read, count_max);
                self.rebuild_trees(machine);
                self.tell(machine, Event::TreeRead(token, Ok(answer)));
            }
            Action::DropPartition { token, partition, keyspace } => {
                self.machines[machine].store.drop_partition(partition, keyspace);
                self.written(machine, Area::Data, true, Event::Dropped(token, Ok(())));
            }
            Action::RebuildTree(_) if self.planted == Planted::PassOverDamage => {}
            Action::RebuildTree(partition) => {
                self.machines[machine].store.trees.distrust(partition);
                self.rebuild_trees(machine);
            }
            Action::Write { .. } => self.write(machine, action),
            Action::ListHints { target, after, count_max } => {
                let hints =
                    self.machines[machine].store.list_hints(target, after.as_ref(), count_max);
                self.tell(machine, Event::HintsListed(target, Ok(hints)));
            }
            Action::SettleHint { target, key, sequence } => {
                let changed = self.machines[machine].store.hint_sequence(&key);
                let sequence = match self.planted {
                    Planted::SettleChanged => changed.unwrap_or(sequence),
                    _ => sequence,
                };
                let is_settled = self.machines[machine].store.settle(target, &key, sequence);
                self.trace.line(
                    self.now_us,
                    format_args!(
                        "n{machine} hint of {:?} for n{}: settled {is_settled}",
                        key.key,
                        index(target)
                    ),
                );
                let settled = Event::HintSettled(target, key.keyspace, is_settled);
                self.written(machine, Area::Hints, false, settled);
            }
            _ => {}
        }
    }

    fn write(&mut self, machine: usize, action: Action) {
        let Action::Write { token, area, key, mut change, targets, survivors, is_sync, is_told } =
            action
        else {
            return;
        };
        self.plant_lent(&mut change);
        let failure = self.disk_failure(machine).or_else(|| self.is_full(machine, area, &key));
        let result = match &failure {
            Some(DiskFailure { error, is_stored: false }) => Err(error.clone()),
            _ => match self.is_dropped(machine, area, (&key, &change)) {
                Some(stored) => Ok(stored),
                None => {
                    let is_skipped = self.planted == Planted::SkipTree && self.rng.random_bool(0.1);
                    let store = &mut self.machines[machine].store;
                    let trees = is_skipped.then(|| store.trees.clone());
                    let result = store.write(area, &key, &change, &targets, survivors);
                    trees.into_iter().for_each(|trees| store.trees = trees);
                    result
                }
            },
        };
        let is_lent = matches!(change, Change::Mint { is_lent: true, .. });
        self.watch(machine, area, &key, &result, is_lent);
        self.forget_surplus(machine, area, &key);
        self.rebuild_trees(machine);
        if self.planted == Planted::EarlyCollection {
            self.machines[machine].store.collect(&key);
        }
        let result = match failure {
            Some(DiskFailure { error, .. }) => Err(error),
            None => result,
        };
        let is_eager = self.planted == Planted::EagerAck && area == Area::Data;
        let is_sync = (is_sync || area == Area::Hints) && !is_eager;
        if is_told
            && is_sync
            && let Ok(stored) = &result
        {
            self.tell(machine, Event::Applied(token, stored.clone()));
        }
        self.written(machine, area, is_sync, Event::Written(token, result));
    }

    /// Whether a store has no room for another hint, and what it answers then.
    fn is_full(&mut self, machine: usize, area: Area, key: &StoreKey) -> Option<DiskFailure> {
        let hints = &self.machines[machine].store.hints;
        let max = self.scenario.hints_max.filter(|_| area == Area::Hints && self.is_trouble)?;
        if hints.len() < max || hints.has(key) || self.planted == Planted::FullAck {
            return None;
        }
        self.report.hints_refused += 1;
        let error = StoreFailure::Unavailable("the hints have no room".to_owned());
        Some(DiskFailure { error, is_stored: false })
    }

    /// The planted bug: what there is no room for is forgotten once it is answered.
    fn forget_surplus(&mut self, machine: usize, area: Area, key: &StoreKey) {
        let max = self.scenario.hints_max.filter(|_| self.planted == Planted::FullAck);
        let hints = &mut self.machines[machine].store.hints;
        if area == Area::Hints && max.is_some_and(|max| hints.len() > max) {
            hints.forget(key);
        }
    }

    /// Plans the next page of hash trees that are being rebuilt.
    pub(super) fn rebuild_trees(&mut self, machine: usize) {
        let store = &self.machines[machine].store;
        if !store.trees.is_complete() && !self.machines[machine].is_rebuild_planned {
            self.machines[machine].is_rebuild_planned = true;
            let at_us = self.now_us + self.rng.random_range(100..20_000);
            self.plan_in(machine, at_us, Inner::Rebuild);
        }
    }

    /// Reads a page for hash trees that are being rebuilt.
    pub(super) fn rebuild_page(&mut self, machine: usize) {
        let count_max = self.rng.random_range(1..4);
        self.machines[machine].is_rebuild_planned = false;
        self.machines[machine].store.rebuild_trees(count_max);
        self.rebuild_trees(machine);
    }

    /// Tells the node about a write, once it is synced if it is to be.
    fn written(&mut self, machine: usize, area: Area, is_sync: bool, event: Event) {
        let through = self.machines[machine].store.shelf(area).last_step();
        let (at_us, reply) = if is_sync {
            let at_us = self.machines[machine].sync_us(area, self.now_us, &mut self.rng);
            (at_us, Some(event))
        } else {
            self.tell(machine, event);
            (self.now_us + self.rng.random_range(0..WRITE_BEHIND_US), None)
        };
        self.plan_in(machine, at_us, Inner::Synced { area, through, reply });
    }

    /// Remembers which write got which dot.
    fn watch(
        &mut self,
        machine: usize,
        area: Area,
        key: &StoreKey,
        result: &Result<Stored, StoreFailure>,
        is_lent: bool,
    ) {
        match result {
            Ok(Stored { siblings, dot, .. }) => {
                let writes = clients::writes(siblings);
                self.trace.line(
                    self.now_us,
                    format_args!("n{machine} {area:?} {:?} = {writes:?} {dot:?}", key.key),
                );
                // A retry is answered with the dot of the first try.
                let minted = dot.filter(|dot| self.dots.of_store_key(key, *dot).is_none());
                if let Some(violation) =
                    dot.and_then(|dot| self.dots.minted(key, dot, siblings, is_lent))
                {
                    self.violations.push(violation);
                }
                if is_lent {
                    // Nothing is stored.
                    return;
                }
                for (_, version) in siblings.live() {
                    let ends = clients::write_of(version).zip(version.expires_at_ms);
                    ends.into_iter().for_each(|(id, at_ms)| self.history.expires(id, at_ms));
                }
                if let Some(id) = self.dots.stored(key, siblings) {
                    self.has_twins(id);
                }
                self.watch_name((machine, area), key, (minted, writes.into_iter()));
            }
            Err(error) => {
                let now_us = self.now_us;
                self.trace.line(now_us, format_args!("n{machine} {area:?} {:?}: {error}", key.key));
            }
        }
    }

    /// Whether the planted bug drops this write, and what it answers then.
    fn is_dropped(
        &mut self,
        machine: usize,
        area: Area,
        (key, change): (&StoreKey, &Change),
    ) -> Option<Stored> {
        match change {
            Change::Mint { draft, .. } if self.planted == Planted::UniteEqual => {
                let siblings = self.machines[machine].store.load(key, false).ok()??;
                let is_equal = |version: &Version| version.payload == draft.payload;
                let (dot, _) = siblings.live().find(|(_, version)| is_equal(version))?;
                Some(Stored { siblings, dot: Some(dot), gained_ms: None })
            }
            Change::Sync(siblings)
                if self.planted == Planted::DropHints
                    && area == Area::Hints
                    && self.rng.random_bool(0.25) =>
            {
                Some(Stored { siblings: siblings.clone(), dot: None, gained_ms: None })
            }
            _ => None,
        }
    }

    fn disk_failure(&mut self, machine: usize) -> Option<DiskFailure> {
        let likely = self.machines[machine].disk_failure;
        if likely == 0.0 || !self.rng.random_bool(likely) {
            return None;
        }
        let (error, is_stored) = match self.rng.random_range(0..3) {
            0 => (StoreFailure::Unavailable("out of service".to_owned()), false),
            stored => (StoreFailure::Failed("failed in the middle".to_owned()), stored == 1),
        };
        Some(DiskFailure { error, is_stored })
    }
}

/// What a bad disk answers, and whether it has stored the write all the same.
struct DiskFailure {
    error: StoreFailure,
    is_stored: bool,
}
