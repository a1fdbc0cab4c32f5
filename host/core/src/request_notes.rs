//! Which named writes a replica still knows: a retry of one of them is not a second write.
//!
//! As long as a version is live its envelope carries the name its client gave it. When it is
//! replaced, whoever held it keeps a note in the record: name, dot and time. So a retry is
//! recognised by every owner that has received the first attempt, restarts included.
//!
//! An owner that never received the first try, because it was cut off or asked in the same instant,
//! cannot recognise the retry, and names the write once more. The two are told apart as soon as they
//! meet, in a store or in the answer of a get, because each carries the client's name:
//! - of several live tries the one with the lowest dot stays, and the others are dead, as if their
//!   writer had seen it (`unite_tries`). Every node chooses the same, and death spreads with the
//!   vector, so none comes back;
//! - where a note says that the write was replaced, a try of it that comes now is dead too: who
//!   replaced it had seen the write under its other dot.
//!
//! Where the last write wins neither is done: what was minted last has replaced what it met.
//!
//! What is bounded: notes of a key are the latest [`NOTES_MAX`], for [`WINDOW_MS`] after the
//! write. What is not promised: contexts name dots and notes are not replicated, so a client that
//! had seen one try may replace that where only the other one is held, and find it beside its own.

use std::collections::{BTreeMap, BTreeSet};

use crate::causality::{Siblings, decode_dot, encode_dot};
use crate::codec::{DecodeError, Reader, put_varint};
use crate::id::Dot;
use crate::version::{Origin, RequestName, Version};

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

/// Leaves of several tries of one named write the one with the lowest dot, and none of a write that
/// `is_replaced`.
pub(crate) fn unite_tries(siblings: &mut Siblings, is_replaced: impl Fn(&RequestName) -> bool) {
    let tries = || siblings.live().filter_map(|(_, version)| attempt(version));
    let mut first: BTreeMap<&RequestName, Dot> = BTreeMap::new();
    for (name, dot) in tries() {
        first.entry(name).and_modify(|first| *first = dot.min(*first)).or_insert(dot);
    }
    let is_gone = |(name, dot): &(&RequestName, Dot)| first[name] != *dot || is_replaced(name);
    let gone: BTreeSet<Dot> = tries().filter(is_gone).map(|(_, dot)| dot).collect();
    if !gone.is_empty() {
        siblings.kill(|version| attempt(version).is_some_and(|(_, dot)| gone.contains(&dot)));
    }
}

/// The name and the dot of a version that a client named.
fn attempt(version: &Version) -> Option<(&RequestName, Dot)> {
    match (&version.request, &version.origin) {
        (Some(name), Origin::Client(dot)) => Some((name, *dot)),
        _ => None,
    }
}

/// The named writes among the live versions.
pub(crate) fn live(siblings: &Siblings) -> impl Iterator<Item = RequestNote> {
    siblings.live().filter_map(|(live_dot, version)| {
        let name = version.request.clone()?;
        // A fold may have put the version under other dots too.
        let dot = version.origin.latest_dot().unwrap_or(live_dot);
        Some(RequestNote { name, dot, written_at_ms: version.written_at_ms })
    })
}
