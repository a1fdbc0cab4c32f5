//! Bugs that make a store mint with an actor that it must not use any more.

use std::collections::BTreeMap;

use stator_core::event::Area;
use stator_core::id::Actor;
use stator_core::keys::StoreKey;
use stator_core::record::Record;
use stator_core::write::Minter;

use super::Planted;

/// Actors of keys whose records have left a store, to be used again by a bug. Empty without one.
#[derive(Debug, Clone, Default)]
pub struct StaleActors {
    area: Option<Area>,
    actors: BTreeMap<StoreKey, Actor>,
}

impl StaleActors {
    /// From now on actors are kept, if `planted` is such a bug.
    pub(crate) fn plant(&mut self, planted: Planted) {
        self.area = match planted {
            Planted::ActorAfterReturn => Some(Area::Data),
            Planted::ActorOnFallback => Some(Area::Hints),
            _ => None,
        };
    }

    /// The record of a key leaves a store.
    pub(crate) fn left(&mut self, area: Area, key: &StoreKey, record: Option<&Record>) {
        if let Some(mark) =
            record.and_then(|record| record.mark).filter(|_| self.area == Some(area))
        {
            self.actors.insert(key.clone(), mark.actor);
        }
    }

    /// The minter that starts with the old actor of a key again, if the key was gone since.
    pub(crate) fn minter(
        &self,
        area: Area,
        key: &StoreKey,
        stored: Option<&Record>,
        minter: &Minter,
    ) -> Option<Minter> {
        let has_mark = stored.is_some_and(|record| record.mark.is_some());
        let actor = self.actors.get(key).filter(|_| !has_mark && self.area == Some(area))?;
        (actor.incarnation == minter.incarnation).then(|| {
            let mut minter = minter.clone();
            minter.next_epoch = actor.epoch;
            minter
        })
    }
}
