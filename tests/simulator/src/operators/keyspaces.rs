//! Operators who make, change and delete keyspaces, and switch their modules.

use rand::RngExt;
use stator_core::catalogue::{
    CanaryLimits, CatalogueChange, KeyspaceUpdate, Quorums, Reconcile, Trial, TrialKind,
};
use stator_core::event::{Event, RepairFigures, RepairId, Ticket};
use stator_core::id::KeyspaceId;

use super::TICKET;
use crate::clients::Key;
use crate::merging::{UNION, UNION_2};
use crate::scenario::Chore;
use crate::world::{EARLY, LATE, World, spec};

/// The tickets of those who make and delete the late keyspace.
const CREATE: Ticket = u64::MAX;
const DELETE: Ticket = u64::MAX - 1;

/// What operators know.
#[derive(Debug, Default)]
pub struct Desk {
    /// How often the late keyspace was deleted, as far as answers said so.
    deleted: u64,
    /// Whether someone has asked to delete it: it may be deleted though no answer said so.
    is_deletion_asked: bool,
    /// The repair that is waited for, and how far it is.
    pub(super) repair: Option<(usize, RepairId, RepairFigures)>,
}

impl World {
    /// An operator makes the late keyspace on the first machine, if that runs.
    pub(crate) fn create_late(&mut self) {
        self.create_on(0);
    }

    fn create_on(&mut self, machine: usize) {
        let change = CatalogueChange::CreateKeyspace(spec(LATE, &self.scenario));
        self.tell(machine, Event::Change(CREATE, change));
    }

    /// A change ended, well or not.
    pub(crate) fn change_done(&mut self, ticket: Ticket, is_made: bool) {
        match (ticket, is_made) {
            (CREATE, true) if !self.is_late_ready => {
                self.is_late_ready = true;
                let keyspace = self.late_id();
                // Its successor has the same keys.
                let last: Vec<Key> = self.keys[self.keys.len() - 2..].to_vec();
                let is_new = last.iter().all(|key| key.keyspace != keyspace);
                if is_new {
                    self.keys.extend(last.into_iter().map(|key| Key { keyspace, ..key }));
                }
            }
            (DELETE, true) if self.is_late_ready => {
                self.is_late_ready = false;
                self.desk.deleted += 1;
                self.desk.is_deletion_asked = false;
                self.report.keyspaces_deleted += 1;
            }
            _ => {}
        }
    }

    fn late_id(&self) -> KeyspaceId {
        KeyspaceId::of(LATE, self.desk.deleted + 1)
    }

    /// How many keys there were before those of the late keyspace that clients use.
    pub(crate) fn places(&self) -> Vec<usize> {
        let late = self.late_id();
        let is_used = |place: &usize| {
            *place < self.early_keys || (self.is_late_ready && self.keys[*place].keyspace == late)
        };
        (0..self.keys.len()).filter(is_used).collect()
    }

    pub(super) fn change_keyspaces(&mut self, machine: usize) {
        match self.rng.random_range(0..4) {
            0 if self.is_late_ready => {
                let change = CatalogueChange::DeleteKeyspace { name: LATE.to_owned(), etag: None };
                self.desk.is_deletion_asked = true;
                self.trace.line(self.now_us, format_args!("operator -> n{machine}: {change:?}"));
                self.tell(machine, Event::Change(DELETE, change));
            }
            0 | 1 if !self.is_late_ready => self.create_on(machine),
            _ => {
                let Quorums { n, .. } = self.scenario.quorums(EARLY);
                let r = Some(self.rng.random_range(1..=n));
                let w = Some(self.rng.random_range(1..=n));
                let update = KeyspaceUpdate { r, w, ..KeyspaceUpdate::default() };
                self.update(machine, update);
            }
        }
    }

    pub(super) fn switch_module(&mut self, machine: usize) {
        let reconcile = match self.rng.random_range(0..7) {
            0 => Reconcile::Siblings,
            1 => Reconcile::ThreeWay(UNION),
            2 => Reconcile::Fold(UNION_2),
            3 | 4 => return self.try_module(machine),
            _ => Reconcile::Fold(UNION),
        };
        let update = KeyspaceUpdate { reconcile: Some(reconcile), ..KeyspaceUpdate::default() };
        self.update(machine, update);
    }

    /// The next version merges half of the keys, or is only compared; or that ends.
    fn try_module(&mut self, machine: usize) {
        let (name, module, reason) = (EARLY.to_owned(), UNION_2, String::new());
        let canary = TrialKind::Canary { percent: 50, limits: CanaryLimits::default() };
        let began_at_ms = self.now_us / 1_000;
        let change = match self.rng.random_range(0..4) {
            0 => CatalogueChange::EndTrial { name, module, at_ms: began_at_ms, reason },
            kind => {
                let kind = if kind == 1 { TrialKind::Shadow } else { canary };
                let trial = Trial { module, kind, began_at_ms };
                CatalogueChange::BeginTrial { name, trial, reason }
            }
        };
        self.trace.line(self.now_us, format_args!("operator -> n{machine}: {change:?}"));
        self.tell(machine, Event::Change(TICKET, change));
    }

    fn update(&mut self, machine: usize, update: KeyspaceUpdate) {
        let name = if self.rng.random_bool(0.7) { EARLY } else { LATE };
        let change = CatalogueChange::UpdateKeyspace { name: name.to_owned(), etag: None, update };
        self.trace.line(self.now_us, format_args!("operator -> n{machine}: {change:?}"));
        self.tell(machine, Event::Change(TICKET, change));
    }

    /// Whether the keyspace of a key was deleted: by an answer, or by what the nodes know if an
    /// answer was lost.
    pub(crate) fn is_key_gone(&self, place: usize) -> bool {
        let (is_late, keyspace) = (place >= self.early_keys, self.keys[place].keyspace);
        if !self.scenario.does(Chore::Keyspaces) || !is_late {
            return false;
        }
        let is_known_deleted = || {
            let mut nodes = self.machines.iter().filter_map(|machine| machine.node.as_ref());
            nodes.any(|node| {
                let mut deleted =
                    node.catalogue().into_iter().flat_map(|one| one.deleted_keyspaces());
                deleted.any(|deleted| deleted == keyspace)
            })
        };
        !self.is_late_ready
            || keyspace != self.late_id()
            || (self.desk.is_deletion_asked && is_known_deleted())
    }
}
