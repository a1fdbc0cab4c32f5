//! Operators who change a keyspace's n.

use rand::RngExt;
use stator_core::catalogue::{Catalogue, CatalogueChange, KeyspaceUpdate};
use stator_core::event::Event;

use super::TICKET;
use crate::scenario::Chore;
use crate::world::{EARLY, World, index};

impl World {
    /// Another n, with r and w that meet: r is as small as can be. Some want it back at once.
    pub(super) fn resize(&mut self, machine: usize) {
        let Some(catalogue) = self.catalogue_of(machine) else { return };
        let Some(keyspace) = catalogue.keyspace(EARLY) else { return };
        let n = match keyspace.resizes.present {
            Some(_) if self.rng.random_bool(0.3) => keyspace.quorums.value.n,
            _ => self.rng.random_range(self.scenario.w_min..=self.scenario.owners),
        };
        let w = self.rng.random_range(self.scenario.w_min..=n);
        let is_other = n != keyspace.quorums.value.n;
        let (r, w) = (is_other.then_some(n - w + 1), is_other.then_some(w));
        let update = KeyspaceUpdate { n: Some(n), r, w, ..KeyspaceUpdate::default() };
        let change = CatalogueChange::UpdateKeyspace { name: EARLY.to_owned(), etag: None, update };
        self.trace.line(self.now_us, format_args!("operator -> n{machine}: {change:?}"));
        self.tell(machine, Event::Change(TICKET, change));
    }

    /// How many owners of a key of the keyspace gets ask for, as a member knows that.
    pub(crate) fn resized(&self) -> Option<u32> {
        if !self.scenario.does(Chore::Resize) {
            return None;
        }
        // Who was removed knows what was.
        let catalogue = self.catalogue_of(self.first_member())?;
        Some(catalogue.keyspace(EARLY)?.reading().n)
    }

    /// Counts the changes of n that have ended.
    pub(super) fn count_resizes(&mut self, catalogue: &Catalogue) {
        let resizes = catalogue.keyspace(EARLY).map(|keyspace| &keyspace.resizes);
        let ended = resizes.map_or(0, |r| r.number - u64::from(r.present.is_some()));
        self.report.resizes = self.report.resizes.max(ended);
    }

    /// What a change of n leaves to do, if it does.
    pub(crate) fn resize_unrest(&self, place: usize, catalogue: &Catalogue) -> Option<String> {
        if !self.scenario.does(Chore::Resize) {
            return None;
        }
        if let Some((keyspace, resize)) = catalogue.resizes().next() {
            return Some(format!("n of {:?} is on its way: {resize:?}", keyspace.name));
        }
        let mut records = self.machines[place].store.data.records();
        let is_left = |(key, _): &(&_, _)| {
            let key: &stator_core::keys::StoreKey = key;
            let Some(keyspace) = catalogue.keyspace_by_id(key.keyspace) else { return false };
            let mut owners = catalogue.ring.owners(key.partition).take(keyspace.holders());
            keyspace.resizes.number > 0 && owners.all(|owner| index(owner) != place)
        };
        let (key, _) = records.find(is_left)?;
        Some(format!("n{place} holds {:?} beyond n", key.key))
    }
}
