//! A bad release: operators activate a module that loses a write of what it merges, go back to the
//! good one, and have merged anew what the bad one has folded.
//!
//! That is `module remerge`: of a key whose one version is a fold by the bad module, what that was
//! made of is merged by the good one and put with the context of what is there. What the versions
//! were is in the nodes' journals, which are no part of the protocol; here the log of all writes knows
//! it. Until the end what the bad module has lost is forgiven wherever it is missing. At the end the
//! good module is activated everywhere: from then on nobody may fold by the bad one, and a key that
//! is merged anew then must contain all.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use stator_core::catalogue::{CatalogueChange, KeyspaceUpdate, Reconcile};
use stator_core::causality::{Context, LiveVersion, Siblings};
use stator_core::divergence::{Divergence, Outcome};
use stator_core::event::Event;
use stator_core::id::ModuleDigest;
use stator_core::version::Origin;

use super::TICKET;
use crate::checkers::{MODULE, Violation};
use crate::clients;
use crate::history::{self, ClientWrite, WriteId};
use crate::merging::{UNION, contained};
use crate::scenario::Chore;
use crate::world::{EARLY, World};

/// A version of the module that loses the oldest write of those that it merges.
pub const UNION_BAD: ModuleDigest = ModuleDigest([0x77; 32]);

/// In place of a client's number.
pub const OPERATOR: usize = usize::MAX;

/// What is known of a bad release.
#[derive(Debug, Default)]
pub struct Release {
    /// Per key the writes that folds have lost.
    lost: BTreeMap<usize, BTreeSet<WriteId>>,
    /// Whether the good module is active on every node, for good.
    is_over: bool,
    /// The writes by which keys were merged anew after that.
    mended: BTreeMap<WriteId, usize>,
}

impl World {
    pub(super) fn release(&mut self, machine: usize) {
        match self.rng.random_range(0..6) {
            0 | 1 => self.activate(machine, UNION_BAD),
            2 => self.activate(machine, UNION),
            _ => {
                let place = self.rng.random_range(0..self.early_keys);
                self.read_to_remerge(machine, place);
            }
        }
    }

    fn activate(&mut self, machine: usize, module: ModuleDigest) {
        let reconcile = Some(Reconcile::Fold(module));
        let update = KeyspaceUpdate { reconcile, ..KeyspaceUpdate::default() };
        let change = CatalogueChange::UpdateKeyspace { name: EARLY.to_owned(), etag: None, update };
        self.trace.line(self.now_us, format_args!("operator -> n{machine}: {change:?}"));
        self.tell(machine, Event::Change(TICKET, change));
    }

    /// What the module makes of what it is given; the bad one loses something.
    pub(crate) fn spoil(
        &mut self,
        module: ModuleDigest,
        divergence: &Divergence,
        made: &mut Outcome,
    ) {
        if module != UNION_BAD {
            return;
        }
        if self.release.is_over {
            let found = format!("{:?} is folded by a module that was taken back", divergence.key);
            self.violations.push(Violation { rule: MODULE, key: None, found });
        }
        let Outcome::Value(value) = made else { return };
        let mut writes = contained(value);
        let place = self.keys.iter().position(|key| key.bytes == divergence.key);
        if let Some((place, oldest)) = place.zip(writes.pop_first()) {
            self.release.lost.entry(place).or_default().insert(oldest);
            *value = crate::merging::value_of(&writes);
        }
    }

    /// The writes that may be missing from a key's values.
    pub(crate) fn forgiven(&self, place: usize) -> BTreeSet<WriteId> {
        self.release.lost.get(&place).cloned().unwrap_or_default()
    }

    /// A key was read, to be merged anew if it is a fold by the bad module.
    pub(crate) fn remerge(&mut self, machine: usize, place: usize, found: &Siblings) {
        let [LiveVersion { version, .. }] = &found.versions()[..] else { return };
        if !matches!(version.origin, Origin::Fold { module: UNION_BAD, .. }) {
            return;
        }
        let live = self.writes(place, found);
        let contents = live.iter().flat_map(|id| self.history.contents(*id)).collect();
        let write = ClientWrite {
            key: place,
            is_delete: false,
            seen: &live | &contained(version.payload.value().map_or(&[][..], |value| value)),
            contents,
            counts: history::Counts::Any,
            outcome: history::Outcome::Pending,
        };
        let put = clients::put(&self.keys[place], Context::of(found), false);
        let id = self.start_put((OPERATOR, machine), put, write);
        if self.release.is_over {
            self.release.mended.insert(id, place);
        }
    }

    /// A key was merged anew.
    pub(crate) fn remerged(&mut self, id: WriteId) {
        self.report.remerged += 1;
        if let Some(place) = self.release.mended.remove(&id) {
            self.release.lost.remove(&place);
        }
    }

    /// The good module for good, and all that the bad one has folded merged anew.
    pub(crate) fn take_back(&mut self) {
        if !self.scenario.does(Chore::Release) {
            return;
        }
        self.activate(self.first_member(), UNION);
        self.come_to_rest();
        self.release.is_over = true;
        for place in 0..self.early_keys {
            self.read_to_remerge(self.first_member(), place);
        }
        self.come_to_rest();
    }
}
