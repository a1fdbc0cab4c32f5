//! A value that a later version replaces.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A value with the number of its change. Joining takes the larger (version, digest): a later
/// change wins, and of two that were made at the same time one wins, the same one everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// Counts the changes, from 1.
    pub version: u64,
    /// The value.
    pub value: T,
}

impl<T: Clone + Serialize> Versioned<T> {
    /// The first version of `value`.
    pub fn new(value: T) -> Self {
        Versioned { version: 1, value }
    }

    /// Replaces the value.
    pub fn change(&mut self, value: T) {
        self.version += 1;
        self.value = value;
    }

    /// Replaces the value, unless it is the same.
    pub fn set(&mut self, value: T)
    where
        T: PartialEq,
    {
        if self.value != value {
            self.change(value);
        }
    }

    /// Takes the later of the two.
    pub fn join(&mut self, other: &Versioned<T>) {
        let is_later = match other.version.cmp(&self.version) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => digest(&other.value) > digest(&self.value),
        };
        if is_later {
            *self = other.clone();
        }
    }
}

/// BLAKE3 over the value's JSON, whose order is fixed: maps are ordered, fields as declared.
pub(crate) fn digest<T: Serialize>(value: &T) -> [u8; 32] {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    *blake3::hash(&bytes).as_bytes()
}
