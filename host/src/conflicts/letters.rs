//! Dead letters: keys whose siblings no module has merged yet.
//!
//! They are what the feed adds up to: a failure makes one, any later merge of the key takes it away
//! again, so a restart finds them in the feed. When the feed drops its oldest records, those of
//! letters are appended once more: they stay as long as there are at most [`LETTERS_MAX`] of them.
//! Beyond that the oldest go.

use std::collections::BTreeMap;

use super::record::{Cause, Conflict};

/// How many dead letters a node keeps.
pub const LETTERS_MAX: usize = 10_000;

/// A key whose merge failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The last failure.
    pub last: Conflict,
    /// When the first one was: milliseconds since 1970 (UTC).
    pub since_ms: u64,
    /// How many different merges of it have failed.
    pub failures: u64,
}

/// The dead letters of one node.
#[derive(Debug, Default)]
pub(super) struct Letters {
    by_key: BTreeMap<(String, Vec<u8>), Letter>,
    /// The feed's oldest record when they were last looked through for those that it has dropped.
    pub(super) looked_through: u64,
}

impl Letters {
    /// Takes in what the feed has got.
    pub(super) fn saw(&mut self, conflict: &Conflict) {
        // What a trial makes does not reach anybody.
        if conflict.cause == Cause::Trial {
            return;
        }
        let key = (conflict.keyspace.clone(), conflict.key.clone());
        if !conflict.is_failure() {
            self.by_key.remove(&key);
            return;
        }
        match self.by_key.get_mut(&key) {
            Some(letter) => {
                letter.failures += u64::from(letter.last.id != conflict.id);
                letter.last = conflict.clone();
            }
            None => {
                let letter =
                    Letter { last: conflict.clone(), since_ms: conflict.at_ms, failures: 1 };
                self.by_key.insert(key, letter);
                self.keep_bounded();
            }
        }
    }

    fn keep_bounded(&mut self) {
        if self.by_key.len() > LETTERS_MAX {
            let oldest = self.by_key.iter().min_by_key(|(_, letter)| letter.since_ms);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.by_key.remove(&oldest);
            }
        }
    }

    /// The key is merged, or has nothing to be merged any more.
    pub(super) fn settle(&mut self, keyspace: &str, key: &[u8]) {
        self.by_key.remove(&(keyspace.to_owned(), key.to_vec()));
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.by_key.len()
    }

    /// Those of a keyspace, by key; of all with an empty name.
    pub(super) fn of(&self, keyspace: &str) -> Vec<Letter> {
        let letters = self.by_key.iter();
        letters
            .filter(|((name, _), _)| keyspace.is_empty() || name == keyspace)
            .map(|(_, letter)| letter.clone())
            .collect()
    }

    /// Those whose last record is before the number `first`.
    pub(super) fn before(&self, first: u64) -> Vec<Conflict> {
        let letters = self.by_key.values().map(|letter| &letter.last);
        letters.filter(|last| last.sequence < first).cloned().collect()
    }
}
