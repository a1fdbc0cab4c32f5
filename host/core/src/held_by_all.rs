//! What a coordinator remembers of keys of which all owners held the same write: a later write may
//! keep that as its [ancestor](crate::ancestor). It decides how often one is known, never which.

use std::collections::BTreeMap;

use crate::causality::{LiveVersion, Siblings};
use crate::id::Dot;
use crate::keys::StoreKey;
use crate::version::Origin;

/// How many keys [`HeldByAll`] remembers at least, of those that were noted last. It holds twice as
/// many at most.
const KEYS_MAX: usize = 8_192;

/// A coordinator's memory of keys of which all owners held the same write and nothing else.
#[derive(Debug, Default)]
pub struct HeldByAll {
    young: BTreeMap<StoreKey, Dot>,
    old: BTreeMap<StoreKey, Dot>,
}

impl HeldByAll {
    /// All owners were seen to hold `siblings`.
    pub fn note(&mut self, key: &StoreKey, siblings: &Siblings) {
        let [LiveVersion { version, .. }] = &siblings.versions()[..] else { return };
        let Origin::Client(dot) = version.origin else { return };
        if self.young.len() >= KEYS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key.clone(), dot);
    }

    /// The write that all owners held when the key was last noted.
    pub fn of(&self, key: &StoreKey) -> Option<Dot> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }
}
