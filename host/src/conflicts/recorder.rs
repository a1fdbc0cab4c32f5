//! Recorded conflicts: whole inputs of merges, so that another module can be tried on them later.
//!
//! A sample of the distinct merges is kept as `module test --samples` reads it, values and all, in
//! a [journal](crate::journal) of its own. The journal's whole room is let in per hour, a quarter of
//! it at once, so that it always reaches back an hour and a burst does not push out all that was
//! before it. Of that each kind that was seen in the last hour has an equal part: the merges of one
//! keyspace that succeed, and those that fail. So what is rare is kept however much there is of the
//! rest.
//!
//! Left out: values that are left out one by one: without recordings no value is in any journal.

use std::collections::HashMap;
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
    rooms: Mutex<Rooms>,
}

impl Recorder {
    /// Keeps recordings in `folder`, up to so many bytes. Blocks.
    pub(super) fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        let journal = Journal::open(("recordings", folder), bytes_max)?;
        let rooms = Rooms { bytes_max, of: HashMap::new() };
        Ok(Recorder { journal, rooms: Mutex::new(rooms) })
    }

    /// Keeps what `module` was given, and failed at or not, if there is room for it now.
    pub(super) fn saw(&self, (module, failed): (&str, bool), divergence: &Divergence, at_ms: u64) {
        let siblings = divergence.siblings.iter();
        let bytes: usize = siblings.map(|s| 64 + s.value.as_ref().map_or(0, |v| v.len())).sum();
        let kind = (divergence.keyspace.clone(), failed);
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if !rooms.take(kind, bytes as u64, at_ms) {
            return;
        }
        drop(rooms);
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

/// The rooms of the kinds: a keyspace, and whether its module failed.
struct Rooms {
    bytes_max: u64,
    of: HashMap<(String, bool), Room>,
}

impl Rooms {
    fn take(&mut self, kind: (String, bool), bytes: u64, now_ms: u64) -> bool {
        self.of.retain(|_, room| now_ms.saturating_sub(room.seen_ms) < HOUR_MS);
        let kinds = self.of.len() + usize::from(!self.of.contains_key(&kind));
        let share = self.bytes_max / kinds as u64;
        let fresh = Room { left: share / 4, at_ms: now_ms, seen_ms: now_ms };
        let room = self.of.entry(kind).or_insert(fresh);
        room.seen_ms = now_ms;
        room.takes(bytes, now_ms, share)
    }
}

/// Room that comes back in an hour.
#[derive(Debug, Clone, Copy)]
struct Room {
    left: u64,
    at_ms: u64,
    seen_ms: u64,
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
        let mut room = Room { left: 1_000, at_ms: 0, seen_ms: 0 };
        assert!(room.takes(600, 1, 4_000) && room.takes(400, 1, 4_000));
        assert!(!room.takes(600, 1, 4_000), "a burst has a quarter");
        assert!(!room.takes(600, HOUR_MS / 8, 4_000), "an eighth of an hour gives 500 back");
        assert!(room.takes(600, HOUR_MS / 6, 4_000));
        assert!(!room.takes(1_001, 100 * HOUR_MS, 4_000), "more than a quarter never fits");
    }

    #[test]
    fn what_is_rare_has_as_much_room_as_what_is_not() {
        let mut rooms = Rooms { bytes_max: 40_000, of: HashMap::new() };
        let kind = |name: &str, failed| (name.to_owned(), failed);
        let kept = |rooms: &mut Rooms, kind: &(String, bool), at_ms| {
            (0..1_000).filter(|_| rooms.take(kind.clone(), 100, at_ms)).count()
        };
        let (busy, failures, other) =
            (kind("busy", false), kind("busy", true), kind("other", false));
        assert_eq!(kept(&mut rooms, &busy, 1), 100, "alone it has all");
        assert_eq!(kept(&mut rooms, &failures, 1), 50);
        assert_eq!(kept(&mut rooms, &other, 1), 33);
        let later = HOUR_MS / 4;
        let all = [&busy, &failures, &other].map(|kind| kept(&mut rooms, kind, later));
        assert!(all.iter().all(|kept| *kept == 33), "{all:?}");
    }
}
