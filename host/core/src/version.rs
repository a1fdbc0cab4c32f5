//! A version: one payload and what is known about it, in an envelope that keeps unknown fields.
//!
//! The envelope is the same for a value and a tombstone. It is immutable once minted: replicas
//! exchange it as it is, so everything that is decided per version (last write wins, time to
//! live, provenance) is decided alike everywhere.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ancestor::Past;
use crate::causality::{decode_dot, decode_dots, encode_dot, encode_dots};
use crate::codec::{
    DecodeError, Reader, Sink, UnknownField, number, put_field, put_number, put_varint, share_field,
};
use crate::id::{Dot, ModuleDigest};

/// What a version says the key holds.
#[derive(Debug, Clone, Eq)]
pub enum Payload {
    /// These bytes.
    Value(Bytes),
    /// Nothing: the key was deleted.
    Tombstone,
}

impl Payload {
    /// The bytes, if it is a value.
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Payload::Value(bytes) => Some(bytes),
            Payload::Tombstone => None,
        }
    }

    /// How many bytes there are: none in a tombstone, nor in an empty value.
    pub fn len_bytes(&self) -> usize {
        self.value().map_or(0, Bytes::len)
    }

    /// A hash that tells payloads apart; a tombstone differs from an empty value.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("stator payload v1");
        match self {
            Payload::Value(bytes) => hasher.update(&[1]).update(bytes),
            Payload::Tombstone => hasher.update(&[0]),
        };
        *hasher.finalize().as_bytes()
    }
}

impl PartialEq for Payload {
    /// A value that was shared is the same without a look at its bytes.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Payload::Value(a), Payload::Value(b)) => {
                let is_shared = a.as_ptr() == b.as_ptr();
                a.len() == b.len() && (is_shared || compare::is_equal(a, b))
            }
            (Payload::Tombstone, Payload::Tombstone) => true,
            _ => false,
        }
    }
}

/// Where the bytes of values are compared, so that a test can count them.
mod compare {
    #[cfg(test)]
    thread_local! {
        pub(crate) static COMPARED_BYTES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    pub(super) fn is_equal(a: &[u8], b: &[u8]) -> bool {
        #[cfg(test)]
        COMPARED_BYTES.set(COMPARED_BYTES.get() + a.len());
        a == b
    }
}

#[cfg(test)]
pub(crate) use compare::COMPARED_BYTES;

#[cfg(test)]
impl Version {
    /// A client's write of `value`, with nothing else to it.
    pub(crate) fn plain(dot: Dot, value: impl Into<Bytes>, written_at_ms: u64) -> Self {
        Version {
            payload: Payload::Value(value.into()),
            written_at_ms,
            expires_at_ms: None,
            schema: 0,
            origin: Origin::Client(dot),
            base: Vec::new(),
            past: None,
            labels: BTreeMap::new(),
            request: None,
            unknown: Vec::new(),
        }
    }
}

/// Where a version comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A client's put or delete, under this dot.
    Client(Dot),
    /// A merge module folded these versions into one.
    Fold {
        /// The module.
        module: ModuleDigest,
        /// The dots that the folded versions stood for.
        inputs: Vec<Dot>,
    },
}

impl Origin {
    /// How many writes the version stands for.
    pub fn input_count(&self) -> usize {
        match self {
            Origin::Client(_) => 1,
            Origin::Fold { inputs, .. } => inputs.len(),
        }
    }

    /// The dots of the writes that the version stands for, in ascending order. Some may be dead.
    pub fn inputs(&self) -> &[Dot] {
        match self {
            Origin::Client(dot) => std::slice::from_ref(dot),
            Origin::Fold { inputs, .. } => inputs,
        }
    }

    /// The largest dot of the writes that the version stands for.
    pub fn latest_dot(&self) -> Option<Dot> {
        match self {
            Origin::Client(dot) => Some(*dot),
            Origin::Fold { inputs, .. } => inputs.iter().max().copied(),
        }
    }
}

/// The name that a client gave a write, so that a retry of it is not a second one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestName {
    /// The client's bytes.
    pub id: Bytes,
    /// A hash of what was asked for, which tells a retry from another request under the same id.
    pub fingerprint: [u8; FINGERPRINT_BYTES],
}

/// Bytes of a [`RequestName::fingerprint`].
pub const FINGERPRINT_BYTES: usize = 16;

impl RequestName {
    /// Appends the fingerprint, then the id.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.fingerprint);
        out.extend_from_slice(&self.id);
    }

    /// Reads what [`Self::encode`] wrote, to the end.
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut fingerprint = [0; FINGERPRINT_BYTES];
        fingerprint.copy_from_slice(&reader.take(FINGERPRINT_BYTES)?);
        Ok(RequestName { id: reader.take(reader.remaining())?, fingerprint })
    }
}

/// One payload with its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// When the coordinator minted it: milliseconds since 1970 (UTC), later than all it replaced.
    pub written_at_ms: u64,
    /// When it stops counting: milliseconds since 1970 (UTC); `None` is never.
    pub expires_at_ms: Option<u64>,
    /// The client's schema number, 0 if it gave none.
    pub schema: u32,
    /// Where it comes from.
    pub origin: Origin,
    /// What it replaced: the live dots that its writer had seen, in ascending order.
    pub base: Vec<Dot>,
    /// What is kept of its past, where the keyspace wants that.
    pub past: Option<Past>,
    /// The client's labels.
    pub labels: BTreeMap<String, String>,
    /// What its client called the write, if it gave a name.
    pub request: Option<RequestName>,
    /// Fields of a newer version of Stator.
    pub unknown: Vec<UnknownField>,
    /// What the key holds. The last field, so that versions that differ in any other are compared
    /// without it.
    pub payload: Payload,
}

mod tag {
    pub const VALUE: u64 = 1;
    pub const WRITTEN_AT: u64 = 2;
    pub const EXPIRES_AT: u64 = 3;
    pub const SCHEMA: u64 = 4;
    pub const ORIGIN_CLIENT: u64 = 5;
    pub const ORIGIN_FOLD: u64 = 6;
    pub const BASE: u64 = 7;
    pub const LABELS: u64 = 8;
    pub const REQUEST: u64 = 9;
    pub const PAST: u64 = 10;
}

const WHAT: &str = "version";

impl Version {
    /// Which of two versions under one dot is kept: the one that stands for more writes, then
    /// the later one by [`Self::moment`], then one that has [ended](crate::expiry), then the one
    /// with the larger payload hash, then the one with the larger bytes. A total order: two folds may agree in all but their inputs or
    /// their module, and every replica must keep the same one.
    pub fn outranks(&self, other: &Version) -> bool {
        let rank = |v: &Version| (v.origin.input_count(), v.moment(), v.is_ended());
        let bytes = |v: &Version| {
            let mut bytes = Vec::new();
            v.encode(&mut bytes);
            bytes
        };
        rank(self)
            .cmp(&rank(other))
            .then_with(|| self.payload.hash().cmp(&other.payload.hash()))
            .then_with(|| bytes(self).cmp(&bytes(other)))
            .is_gt()
    }

    /// Whether it is the same write as `other`: equal, but that the values of a client's write
    /// are not compared.
    pub fn is_same_write(&self, other: &Version) -> bool {
        let envelope = |v: &Version| {
            (v.written_at_ms, v.expires_at_ms, v.payload.len_bytes(), v.payload.value().is_some())
        };
        match &self.origin {
            Origin::Client(_) => self.origin == other.origin && envelope(self) == envelope(other),
            Origin::Fold { .. } => self == other,
        }
    }

    /// Whether it has not expired at `now_ms` (milliseconds since 1970, UTC).
    pub fn counts_at(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_none_or(|at_ms| at_ms > now_ms)
    }

    /// When it was written, for the last write to win: the timestamp, then the dot of the write
    /// itself. A fold may have put the version under other dots too, at some replicas and not
    /// yet at others, so those must not decide.
    pub fn moment(&self) -> (u64, Option<Dot>) {
        (self.written_at_ms, self.origin.latest_dot())
    }

    /// The bytes it takes in memory and in store, without small change.
    pub fn weight_bytes(&self) -> usize {
        let labels: usize = self.labels.iter().map(|(k, v)| k.len() + v.len()).sum();
        let dots = self.base.len() + self.origin.input_count();
        let request = self.request.as_ref().map_or(0, |r| r.id.len() + FINGERPRINT_BYTES);
        let past = self.past.as_ref().map_or(0, Past::weight_bytes);
        40 + request + self.payload.len_bytes() + labels + past + dots * 24
    }

    /// Appends the envelope.
    pub fn encode(&self, out: &mut impl Sink) {
        if let Payload::Value(bytes) = &self.payload {
            share_field(out, tag::VALUE, bytes);
        }
        put_number(out, tag::WRITTEN_AT, self.written_at_ms);
        let mut field = Vec::new();
        if let Some(at_ms) = self.expires_at_ms {
            // 0 is a time like any other; absent is never.
            put_varint(&mut field, at_ms);
            put_field(out, tag::EXPIRES_AT, &field);
            field.clear();
        }
        put_number(out, tag::SCHEMA, u64::from(self.schema));
        match &self.origin {
            Origin::Client(dot) => {
                encode_dot(&mut field, *dot);
                put_field(out, tag::ORIGIN_CLIENT, &field);
            }
            Origin::Fold { module, inputs } => {
                field.extend_from_slice(&module.0);
                encode_dots(&mut field, inputs.len(), inputs.iter().copied());
                put_field(out, tag::ORIGIN_FOLD, &field);
            }
        }
        if !self.base.is_empty() {
            field.clear();
            encode_dots(&mut field, self.base.len(), self.base.iter().copied());
            put_field(out, tag::BASE, &field);
        }
        if !self.labels.is_empty() {
            field.clear();
            encode_labels(&mut field, &self.labels);
            put_field(out, tag::LABELS, &field);
        }
        if let Some(request) = &self.request {
            field.clear();
            request.encode(&mut field);
            put_field(out, tag::REQUEST, &field);
        }
        if let Some(past) = &self.past {
            field.clear();
            past.encode(&mut field);
            put_field(out, tag::PAST, &field);
        }
        for unknown in &self.unknown {
            put_field(out, unknown.tag, &unknown.bytes);
        }
    }

    /// Reads what [`Self::encode`] wrote, and nothing else; the payload shares the buffer.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, WHAT);
        let mut origin = None;
        let mut version = Version {
            payload: Payload::Tombstone,
            written_at_ms: 0,
            expires_at_ms: None,
            schema: 0,
            origin: Origin::Fold { module: ModuleDigest([0; 32]), inputs: Vec::new() },
            base: Vec::new(),
            past: None,
            labels: BTreeMap::new(),
            request: None,
            unknown: Vec::new(),
        };
        let mut last_tag = 0;
        while let Some((field_tag, bytes)) = reader.field()? {
            if field_tag <= last_tag {
                return Err(reader.invalid("fields are not in ascending order"));
            }
            last_tag = field_tag;
            match field_tag {
                tag::VALUE => version.payload = Payload::Value(bytes),
                tag::WRITTEN_AT => version.written_at_ms = present(bytes)?,
                tag::EXPIRES_AT => version.expires_at_ms = Some(number(bytes, WHAT)?),
                tag::SCHEMA => {
                    version.schema = u32::try_from(present(bytes)?)
                        .map_err(|_| reader.invalid("the schema is larger than 32 bits"))?;
                }
                tag::ORIGIN_CLIENT => {
                    let mut field = Reader::new(bytes, WHAT);
                    origin = Some(Origin::Client(decode_dot(&mut field)?));
                    field.end()?;
                }
                tag::ORIGIN_FOLD if origin.is_some() => {
                    return Err(reader.invalid("it has two origins"));
                }
                tag::ORIGIN_FOLD => origin = Some(decode_fold(bytes)?),
                tag::BASE => {
                    let mut field = Reader::new(bytes, WHAT);
                    version.base = decode_dots(&mut field)?;
                    field.end()?;
                    if version.base.is_empty() {
                        return Err(reader.invalid("a field is empty"));
                    }
                }
                tag::LABELS => version.labels = decode_labels(bytes)?,
                tag::REQUEST => {
                    let request = RequestName::decode(&mut Reader::new(bytes, WHAT))?;
                    version.request = Some(request);
                }
                tag::PAST => version.past = Some(Past::decode(Reader::new(bytes, WHAT))?),
                _ => version.unknown.push(UnknownField { tag: field_tag, bytes }),
            }
        }
        version.origin = origin.ok_or_else(|| reader.invalid("it has no origin"))?;
        Ok(version)
    }
}

fn decode_fold(bytes: Bytes) -> Result<Origin, DecodeError> {
    let mut reader = Reader::new(bytes, WHAT);
    let mut module = ModuleDigest([0; 32]);
    module.0.copy_from_slice(&reader.take(32)?);
    let inputs = decode_dots(&mut reader)?;
    reader.end().map(|()| Origin::Fold { module, inputs })
}

/// A number that is not 0: that would be absent.
fn present(bytes: Bytes) -> Result<u64, DecodeError> {
    match number(bytes, WHAT)? {
        0 => Err(DecodeError::Invalid { what: WHAT, why: "a field holds what absence means" }),
        number => Ok(number),
    }
}

fn encode_labels(out: &mut Vec<u8>, labels: &BTreeMap<String, String>) {
    put_varint(out, labels.len() as u64);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        put_varint(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

fn decode_labels(bytes: Bytes) -> Result<BTreeMap<String, String>, DecodeError> {
    let mut reader = Reader::new(bytes, WHAT);
    let count = reader.count()?;
    let mut labels = BTreeMap::new();
    for _ in 0..count {
        let (name, value) = (reader.text()?, reader.text()?);
        if labels.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(reader.invalid("labels are not in ascending order"));
        }
        labels.insert(name, value);
    }
    if labels.is_empty() {
        return Err(reader.invalid("a field is empty"));
    }
    reader.end().map(|()| labels)
}
