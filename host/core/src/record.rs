//! The stored record of one key: the object, and what only this node knows of it.
//!
//! Format 1: the format byte, an 8-byte checksum over all that follows, then the fields. What
//! is local (mark, targets, sequence) is never sent to another node.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::causality::{Siblings, decode_dot, encode_dot};
use crate::codec::{
    CHECKSUM_BYTES, DecodeError, Reader, append_field, checksum, number, put_field, put_number,
};
use crate::collect::Listed;
use crate::id::{Actor, Dot, NodeId};
use crate::keys::StoreKey;
use crate::request_notes::{Known, NOTES_MAX, RequestNote, WINDOW_MS, live, unite_tries};
use crate::tree::{Addend, ObjectHash, object_hash};
use crate::usage::Usage;
use crate::version::RequestName;

/// The format that this version writes.
pub const FORMAT: u8 = 1;

/// The actor that this node used last for a key, and the counter it minted. While it stands the
/// node has held the key without a break, see [`crate::write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The actor.
    pub actor: Actor,
    /// Its last counter.
    pub counter: u64,
}

/// What a store keeps under one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The object, as replicas exchange it.
    pub siblings: Arc<Siblings>,
    /// This node's right to go on with an actor.
    pub mark: Option<Mark>,
    /// For a hint: who is to receive it. Empty for an owner's own record.
    pub targets: BTreeSet<NodeId>,
    /// The store's commit that wrote it, counted from 1.
    pub sequence: u64,
    /// Named writes that were replaced, the oldest first.
    pub request_notes: Vec<RequestNote>,
    /// What the record adds to the hash trees. The store sets it whenever it stores an object that
    /// changed; records from before hash trees have none.
    pub object_hash: Option<ObjectHash>,
    /// How the store's index lists it: the store sets it.
    pub listed: Listed,
    /// For a hint: since when the key has been one, by the store's wall clock in milliseconds
    /// since 1970. Hints from before this was noted have none.
    pub held_since_ms: Option<u64>,
}

mod tag {
    pub const OBJECT: u64 = 1;
    pub const MARK: u64 = 2;
    pub const TARGETS: u64 = 3;
    pub const SEQUENCE: u64 = 4;
    pub const REQUEST_NOTE: u64 = 5;
    pub const OBJECT_HASH: u64 = 6;
    pub const HELD_SINCE: u64 = 7;
    pub const LISTED_DUE: u64 = 8;
    pub const LISTED_FORGETTABLE: u64 = 9;
}

const WHAT: &str = "record";
/// About what a record takes beside its object.
const LOCAL_BYTES: usize = 128;

impl Record {
    /// The object, to be changed; copied if a reader holds it.
    pub fn siblings_mut(&mut self) -> &mut Siblings {
        Arc::make_mut(&mut self.siblings)
    }

    /// What it adds to the hash trees under `key`.
    pub fn object_hash(&self, key: &StoreKey) -> ObjectHash {
        self.object_hash.unwrap_or_else(|| object_hash(key, &self.siblings))
    }

    /// What it adds to the hash trees under `key`, with what there is of its keyspace.
    pub fn addend(&self, key: &StoreKey) -> Addend {
        Addend { hash: self.object_hash(key), usage: Usage::of(key, &self.siblings) }
    }

    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.resize(1 + CHECKSUM_BYTES, 0);
        let object = self.siblings.canonical();
        out.reserve(object.len() + LOCAL_BYTES);
        append_field(&mut out, tag::OBJECT, object);
        let mut field = Vec::new();
        if let Some(Mark { actor, counter }) = self.mark {
            field.clear();
            encode_dot(&mut field, Dot { actor, counter });
            put_field(&mut out, tag::MARK, &field);
        }
        if !self.targets.is_empty() {
            field.clear();
            self.targets.iter().for_each(|t| field.extend_from_slice(&t.0.to_be_bytes()));
            put_field(&mut out, tag::TARGETS, &field);
        }
        put_number(&mut out, tag::SEQUENCE, self.sequence);
        for note in &self.request_notes {
            field.clear();
            note.encode(&mut field);
            put_field(&mut out, tag::REQUEST_NOTE, &field);
        }
        if let Some(hash) = self.object_hash {
            put_field(&mut out, tag::OBJECT_HASH, &hash.0.to_be_bytes());
        }
        if let Some(since_ms) = self.held_since_ms {
            put_number(&mut out, tag::HELD_SINCE, since_ms);
        }
        if let Some(due_ms) = self.listed.due_ms {
            put_number(&mut out, tag::LISTED_DUE, due_ms);
        }
        if self.listed.is_forgettable {
            put_field(&mut out, tag::LISTED_FORGETTABLE, &[]);
        }
        let sum = checksum(&out[1 + CHECKSUM_BYTES..]);
        out[1..=CHECKSUM_BYTES].copy_from_slice(&sum);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// A record that cannot be read counts as missing, with its mark: the key is refetched from
    /// its peers and this node draws a fresh epoch for it.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, WHAT);
        match reader.byte()? {
            FORMAT => {}
            found => return Err(DecodeError::UnknownFormat { what: WHAT, found }),
        }
        let sum = reader.take(CHECKSUM_BYTES)?;
        let body = reader.take(reader.remaining())?;
        if sum[..] != checksum(&body) {
            return Err(DecodeError::Damaged { what: WHAT });
        }
        Self::read(body)
    }

    /// Reads what [`Self::encode`] has just written, which was nowhere in between: its checksum is
    /// not looked at.
    ///
    /// # Errors
    /// It is nothing that was written.
    pub fn decode_own(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, WHAT);
        reader.take(1 + CHECKSUM_BYTES)?;
        Self::read(reader.take(reader.remaining())?)
    }

    fn read(body: Bytes) -> Result<Self, DecodeError> {
        let mut record = Record::default();
        let mut reader = Reader::new(body, WHAT);
        while let Some((field_tag, bytes)) = reader.field()? {
            match field_tag {
                tag::OBJECT => record.siblings = Arc::new(Siblings::decode(bytes)?),
                tag::MARK => {
                    let dot = decode_dot(&mut Reader::new(bytes, WHAT))?;
                    record.mark = Some(Mark { actor: dot.actor, counter: dot.counter });
                }
                tag::TARGETS => {
                    let mut field = Reader::new(bytes, WHAT);
                    while !field.is_empty() {
                        record.targets.insert(NodeId(field.fixed64()?));
                    }
                }
                tag::SEQUENCE => record.sequence = number(bytes, WHAT)?,
                tag::REQUEST_NOTE => {
                    let note = RequestNote::decode(&mut Reader::new(bytes, WHAT))?;
                    record.request_notes.push(note);
                }
                tag::OBJECT_HASH => {
                    let mut field = Reader::new(bytes, WHAT);
                    let (high, low) = (field.fixed64()?, field.fixed64()?);
                    record.object_hash = Some(ObjectHash(u128::from(high) << 64 | u128::from(low)));
                }
                tag::LISTED_DUE => record.listed.due_ms = Some(number(bytes, WHAT)?),
                tag::LISTED_FORGETTABLE => record.listed.is_forgettable = true,
                tag::HELD_SINCE => record.held_since_ms = Some(number(bytes, WHAT)?),
                // Local notes of a newer version: safe to drop, they are never replicated.
                _ => {}
            }
        }
        Ok(record)
    }
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
        self.named_until_ms().is_some_and(|until_ms| now_ms < until_ms)
    }

    /// Until when the retry of some named write would still be recognised; `None` without any.
    pub(crate) fn named_until_ms(&self) -> Option<u64> {
        let until_ms = |note: RequestNote| note.written_at_ms.saturating_add(WINDOW_MS);
        live(&self.siblings).chain(self.request_notes.iter().cloned()).map(until_ms).max()
    }

    /// Of several tries of a named write one stays, and none of a write that was replaced.
    pub(crate) fn unite_tries(&mut self) {
        let Record { siblings, request_notes, .. } = self;
        let is_replaced = |name: &RequestName| request_notes.iter().any(|note| note.name == *name);
        unite_tries(Arc::make_mut(siblings), is_replaced);
    }

    /// Notes what was live in `sources` and is not any more.
    pub(crate) fn note_replaced<'a>(&mut self, sources: impl Iterator<Item = &'a Siblings>) {
        let mut replaced: Vec<RequestNote> = sources.flat_map(live).collect();
        if !replaced.is_empty() {
            let left: BTreeSet<Bytes> = live(&self.siblings).map(|note| note.name.id).collect();
            let mut known: BTreeSet<Dot> = self.request_notes.iter().map(|n| n.dot).collect();
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
