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

use crate::causality::{Siblings, decode_dot, encode_dot};
use crate::codec::{DecodeError, Reader, put_varint};
use crate::id::Dot;
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
pub(crate) fn live(siblings: &Siblings) -> impl Iterator<Item = RequestNote> {
    siblings.live().filter_map(|(live_dot, version)| {
        let name = version.request.clone()?;
        // A fold may have put the version under other dots too.
        let dot = version.origin.latest_dot().unwrap_or(live_dot);
        Some(RequestNote { name, dot, written_at_ms: version.written_at_ms })
    })
}
