//! Recorded conflicts: whole inputs of merges, so that another module can be tried on them later.
//!
//! A sample of the distinct merges is kept as `module test --samples` reads it, values and all, in
//! a [journal](crate::journal) of its own. Which ones is a matter of bytes alone: the journal's
//! whole room is let in per hour, a quarter of it at once, so that it always reaches back an hour
//! and a burst does not push out all that was before it.
//!
//! Left out: a choice by kind (failures are as likely to be kept as others; dead letters name them
//! all), and values that are left out one by one: without recordings no value is in any journal.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use stator_core::divergence::Divergence;

use crate::journal::{Entry, Journal};
use crate::merge::laws::sample_json;

const HOUR_MS: u64 = 3_600_000;

/// A merge with what it was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// Its number in this node's recordings, from 1.
    pub number: u64,
    /// The same for the same siblings on every node, whatever module merges them.
    pub id: String,
    /// When it was merged: milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// The keyspace's name.
    pub keyspace: String,
    /// The module that merged it, 64 hexadecimal digits.
    pub module: String,
    /// The input, as `module test --samples` reads it.
    pub sample: serde_json::Value,
}

impl Entry for Recording {
    fn number_mut(&mut self) -> &mut u64 {
        &mut self.number
    }
}

/// Keeps a sample of what is merged.
pub(super) struct Recorder {
    pub(super) journal: Journal<Recording>,
    bytes_max: u64,
    room: Mutex<Room>,
}

impl Recorder {
    /// Keeps recordings in `folder`, up to so many bytes. Blocks.
    pub(super) fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        let journal = Journal::open(("recordings", folder), bytes_max)?;
        let room = Room { left: bytes_max / 4, at_ms: 0 };
        Ok(Recorder { journal, bytes_max, room: Mutex::new(room) })
    }

    /// Keeps what `module` was given, if there is room for it now.
    pub(super) fn saw(&self, module: &str, divergence: &Divergence, at_ms: u64) {
        let siblings = divergence.siblings.iter();
        let bytes: usize = siblings.map(|s| 64 + s.value.as_ref().map_or(0, |v| v.len())).sum();
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if !room.takes(bytes as u64, at_ms, self.bytes_max) {
            return;
        }
        drop(room);
        self.journal.append(&mut Recording {
            number: 0,
            id: hex::encode(&divergence.fingerprint[..16]),
            at_ms,
            keyspace: divergence.keyspace.clone(),
            module: module.to_owned(),
            sample: sample_json(divergence),
        });
    }
}

/// Room that comes back in an hour.
#[derive(Debug, Clone, Copy)]
struct Room {
    left: u64,
    at_ms: u64,
}

impl Room {
    fn takes(&mut self, bytes: u64, now_ms: u64, bytes_max: u64) -> bool {
        let passed = u128::from(now_ms.saturating_sub(self.at_ms));
        let back = passed * u128::from(bytes_max) / u128::from(HOUR_MS);
        if back > 0 {
            let full = u128::from(bytes_max / 4);
            self.left = (u128::from(self.left) + back).min(full) as u64;
            self.at_ms = now_ms;
        }
        let fits = bytes <= self.left;
        self.left -= if fits { bytes } else { 0 };
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_takes_a_quarter_and_an_hour_all() {
        let mut room = Room { left: 1_000, at_ms: 0 };
        assert!(room.takes(600, 1, 4_000) && room.takes(400, 1, 4_000));
        assert!(!room.takes(600, 1, 4_000), "a burst has a quarter");
        assert!(!room.takes(600, HOUR_MS / 8, 4_000), "an eighth of an hour gives 500 back");
        assert!(room.takes(600, HOUR_MS / 6, 4_000));
        assert!(!room.takes(1_001, 100 * HOUR_MS, 4_000), "more than a quarter never fits");
    }
}
