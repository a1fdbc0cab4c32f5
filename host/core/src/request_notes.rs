//! Which named writes a replica still knows: a retry of one of them is not a second write.
//!
//! As long as a version is live its envelope carries the name its client gave it. When it is
//! replaced, whoever held it keeps a note in the record: name, dot and time. So a retry is
//! recognised by every owner that has received the first attempt, restarts included.
//!
//! What is bounded: notes of a key are the latest [`NOTES_MAX`], for [`WINDOW_MS`] after the
//! write. What is not promised: an owner that never received the first attempt, because it was
//! cut off or asked in the same instant, cannot recognise its retry. It mints a sibling with equal
//! bytes, never less.

use std::collections::BTreeSet;

use crate::causality::{Siblings, decode_dot, encode_dot};
use crate::codec::{DecodeError, Reader, put_varint};
use crate::id::Dot;
use crate::record::Record;
use crate::version::RequestName;

/// How long the name of a replaced write is known, in milliseconds from its timestamp.
pub const WINDOW_MS: u64 = 5 * 60 * 1_000;
/// How many replaced writes of one key are known by their names at most.
pub const NOTES_MAX: usize = 16;

/// A named write that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestNote {
    /// Its name.
    pub name: RequestName,
    /// What it was minted as.
    pub dot: Dot,
    /// Its timestamp: milliseconds since 1970 (UTC).
    pub written_at_ms: u64,
}

/// What a record knows of a named write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    New,
    /// It was minted as this.
    Retry(Dot),
    /// Another request had the id, and was minted as this.
    Other(Dot),
}

impl RequestNote {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        encode_dot(out, self.dot);
        put_varint(out, self.written_at_ms);
        self.name.encode(out);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let dot = decode_dot(reader)?;
        let written_at_ms = reader.varint()?;
        Ok(RequestNote { name: RequestName::decode(reader)?, dot, written_at_ms })
    }
}

/// The named writes among the live versions.
fn live(siblings: &Siblings) -> impl Iterator<Item = RequestNote> {
    siblings.live().filter_map(|(live_dot, version)| {
        let name = version.request.clone()?;
        // A fold may have put the version under other dots too.
        let dot = version.origin.latest_dot().unwrap_or(live_dot);
        Some(RequestNote { name, dot, written_at_ms: version.written_at_ms })
    })
}

impl Record {
    /// What is known of the write called `name`, at `now_ms` by the clock.
    pub fn known(&self, name: &RequestName, now_ms: u64) -> Known {
        let is_fresh = |note: &RequestNote| now_ms < note.written_at_ms.saturating_add(WINDOW_MS);
        let notes = self.request_notes.iter().filter(|note| is_fresh(note)).cloned();
        let mut all = live(&self.siblings).chain(notes);
        match all.find(|known| known.name.id == name.id) {
            None => Known::New,
            Some(known) if known.name == *name => Known::Retry(known.dot),
            Some(known) => Known::Other(known.dot),
        }
    }

    /// Whether the retry of any named write would still be recognised by this record, at `now_ms`
    /// by the clock.
    pub(crate) fn knows_names(&self, now_ms: u64) -> bool {
        let is_fresh = |note: RequestNote| now_ms < note.written_at_ms.saturating_add(WINDOW_MS);
        live(&self.siblings).chain(self.request_notes.iter().cloned()).any(is_fresh)
    }

    /// Notes what was live in `sources` and is not any more.
    pub(crate) fn note_replaced<'a>(&mut self, sources: impl Iterator<Item = &'a Siblings>) {
        let mut replaced: Vec<RequestNote> = sources.flat_map(live).collect();
        if !replaced.is_empty() {
            let ids = |siblings| live(siblings).map(|note| note.name.id).collect::<BTreeSet<_>>();
            let (left, known) = (ids(&self.siblings), self.request_notes.iter().map(|n| n.dot));
            let mut known: BTreeSet<Dot> = known.collect();
            replaced.retain(|note| !left.contains(&note.name.id) && known.insert(note.dot));
            self.request_notes.extend(replaced);
            self.request_notes.sort_by_key(|note| note.written_at_ms);
        }
        let latest_ms = self.siblings.latest_ms();
        let surplus = self.request_notes.len().saturating_sub(NOTES_MAX);
        self.request_notes.drain(..surplus);
        // By the time of the latest write: a store has no clock.
        self.request_notes.retain(|n| latest_ms < n.written_at_ms.saturating_add(WINDOW_MS));
    }
}
