//! The ancestor of siblings: what a merge compares them with to tell what each writer changed.
//!
//! Where two siblings differ in a field, only their common ancestor tells whether one has added it
//! or the other removed it. The paper's cart, merged without one, brings removed items back
//! (section 4.4). A keyspace that merges [three ways](crate::catalogue::Reconcile::ThreeWay)
//! therefore keeps with every version its [`Past`]: what its writer had seen, as a vector, and a copy
//! of one version of that. It is part of the envelope, so it is immutable, travels with its version
//! and is the same on every replica; nothing else has to be kept, found or collected.
//!
//! # What is told
//! Only the *nearest* common ancestor is safe. Say that a field was there in *a*, removed in *b*, and
//! put back by one of two writers who had both seen *b*. Compared with *a* that writer has left it
//! alone and the other has removed it, so it would be lost. Therefore [`nearest`] is *a* if every
//! version keeps a copy of *a*, and whatever any two of them have both seen, *a* had seen or is:
//! then nothing that came after *a* is in the past of two. If all of them but one were written
//! without having seen anything, there was no key; and in every other case the ancestor is unknown,
//! and a module unites.
//!
//! # What is kept
//! A write should keep what those that are concurrent with it will keep. Its direct predecessor is
//! that only while nobody is cut off: two sides of a partition that make several versions each have
//! in common what they had before. [`past_of`] takes the first of these that its context has seen:
//! 1. what all siblings keep that the write leaves standing;
//! 2. the one version that it replaces, if nothing is left beside it and all owners were seen to
//!    hold just that ([`crate::held_by_all`]): whatever is written from now on is based on it, or
//!    later;
//! 3. what all versions keep that it replaces.
//!
//! The choice decides how often siblings have an ancestor, never which: a node may believe what it
//! likes of the others.
//!
//! # Collection
//! It takes dead actors out of vectors ([`crate::collect`]), so of two writers who had both seen a
//! write one may not show it. Therefore a write keeps no past if its context has seen what is not
//! known where it is minted (it may be from before a round), and not the ancestor of what it replaces
//! if its context lacks what that one's writer had seen (it is from after one). That is no proof
//! for owners who differ about a round while it ends; the simulator, which collects all the time,
//! holds what is told against what its clients had seen.
//!
//! # What is left out
//! - Values above [`VALUE_BYTES_MAX`] are not kept, nor versions from before the keyspace kept a
//!   past. A write that is minted where its context is not known (a fallback that stands in for all
//!   owners, an owner that is behind) keeps no past.
//! - Several nearest ancestors, of siblings that were merged before (the criss-cross of version
//!   control), are not merged into one: they are unknown.

use std::sync::Arc;

use bytes::Bytes;

use crate::causality::{LiveVersion, Siblings, VersionVector, decode_dot, encode_dot};
use crate::codec::{DecodeError, Reader, put_varint};
use crate::divergence::{Ancestor, DivergentVersion};
use crate::id::Dot;
use crate::version::{Origin, Payload, Version};

/// The longest value that is kept as an ancestor, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// What a version keeps of its past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// What its writer had seen.
    pub seen: VersionVector,
    /// A version of that.
    pub ancestor: Option<Arc<PastVersion>>,
}

/// A version as it is kept with those that came after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastVersion {
    /// The write.
    pub dot: Dot,
    /// What its own writer had seen.
    pub seen: VersionVector,
    /// What the key held.
    pub payload: Payload,
    /// Its schema number.
    pub schema: u32,
    /// When it was minted: milliseconds since 1970 (UTC).
    pub written_at_ms: u64,
}

/// Whether a write is to keep something of its past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ancestors {
    /// Nothing.
    #[default]
    NotKept,
    /// What is best for it.
    Kept {
        /// The write that all owners were seen to hold, and nothing beside it.
        held_by_all: Option<Dot>,
    },
}

/// What a write with `context` onto `siblings` keeps: see the head of this module.
pub fn past_of(siblings: &Siblings, context: &VersionVector, ancestors: Ancestors) -> Option<Past> {
    let Ancestors::Kept { held_by_all } = ancestors else { return None };
    // Else dead actors may have been collected since, or this replica is behind.
    let is_known = siblings.vector().covers(context);
    is_known
        .then(|| Past { seen: context.clone(), ancestor: choose(siblings, context, held_by_all) })
}

fn choose(
    siblings: &Siblings,
    context: &VersionVector,
    held_by_all: Option<Dot>,
) -> Option<Arc<PastVersion>> {
    let is_seen = |live: &LiveVersion| live.dots.iter().all(|dot| context.contains(dot));
    let (replaced, left): (Vec<_>, Vec<_>) = siblings.versions().into_iter().partition(is_seen);
    let is_held = |live: &LiveVersion| {
        held_by_all.is_some_and(|dot| live.version.origin == Origin::Client(dot))
    };
    if let ([], [sole]) = (&left[..], &replaced[..])
        && is_held(sole)
    {
        return copy(&sole.version);
    }
    // A context that has not seen what they had seen is from after a collection.
    let is_whole = |live: &LiveVersion| {
        live.version.past.as_ref().is_some_and(|past| context.covers(&past.seen))
    };
    let kept = |versions| kept_by_all(versions).filter(|past| context.covers(&past.reach()));
    let is_whole = replaced.iter().all(is_whole);
    is_whole.then(|| kept(&left).or_else(|| kept(&replaced))).flatten()
}

/// The ancestor of which all `versions` keep a copy.
fn kept_by_all(versions: &[LiveVersion]) -> Option<Arc<PastVersion>> {
    let mut kept = versions.iter().map(|live| live.version.past.as_ref()?.ancestor.as_ref());
    let first = kept.next()??;
    kept.all(|other| other == Some(first)).then(|| first.clone())
}

fn copy(version: &Version) -> Option<Arc<PastVersion>> {
    let payload = match &version.payload {
        Payload::Value(value) if value.len() > VALUE_BYTES_MAX => return None,
        // Not the bytes themselves, which are a part of the object that they were read from.
        Payload::Value(value) => Payload::Value(Bytes::copy_from_slice(value)),
        Payload::Tombstone => Payload::Tombstone,
    };
    Some(Arc::new(PastVersion {
        dot: version.origin.latest_dot()?,
        seen: version.past.as_ref()?.seen.clone(),
        payload,
        schema: version.schema,
        written_at_ms: version.written_at_ms,
    }))
}

/// What siblings have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nearest {
    /// It is not certain.
    Unknown,
    /// There was no key: at most one writer had seen anything.
    Nothing,
    /// The nearest common ancestor of any two of them.
    Version(Arc<PastVersion>),
}

/// What those `siblings` have in common that count at `now_ms` (milliseconds since 1970, UTC): all of
/// them, for of two with equal payloads one may have a past that the other has not.
pub fn nearest(siblings: &Siblings, now_ms: u64) -> Nearest {
    let mut versions = siblings.versions();
    versions.retain(|live| live.version.counts_at(now_ms));
    let Some(pasts) = versions.iter().map(|live| live.version.past.as_ref()).collect() else {
        return Nearest::Unknown;
    };
    let pasts: Vec<&Past> = pasts;
    if pasts.iter().filter(|past| !past.seen.is_empty()).count() < 2 {
        return Nearest::Nothing;
    }
    let Some(ancestor) = kept_by_all(&versions) else { return Nearest::Unknown };
    let reach = ancestor.reach();
    let mut pairs =
        pasts.iter().enumerate().flat_map(|(i, a)| pasts[..i].iter().map(move |b| (a, b)));
    match pairs.all(|(a, b)| reach.covers(&a.seen.meet(&b.seen))) {
        true => Nearest::Version(ancestor),
        false => Nearest::Unknown,
    }
}

impl Nearest {
    /// What a module is told.
    pub fn told(&self) -> Ancestor {
        match self {
            Nearest::Unknown => Ancestor::Unknown,
            Nearest::Nothing => Ancestor::Absent,
            Nearest::Version(past) => match &past.payload {
                Payload::Tombstone => Ancestor::Absent,
                Payload::Value(value) => Ancestor::Known(DivergentVersion {
                    value: Some(value.clone()),
                    schema: past.schema,
                    written_at_ms: past.written_at_ms,
                }),
            },
        }
    }
}

impl PastVersion {
    /// The write and what its writer had seen. A vector cannot say that it has seen a dot and not
    /// the one before it: then it says neither.
    fn reach(&self) -> VersionVector {
        let mut reach = self.seen.clone();
        if reach.get(&self.dot.actor) + 1 == self.dot.counter {
            reach.advance(self.dot);
        }
        reach
    }
}

impl Past {
    /// The bytes it takes, without small change.
    pub(crate) fn weight_bytes(&self) -> usize {
        let ancestor = self.ancestor.as_ref().map_or(0, |past| {
            48 + past.seen.len() * 24 + past.payload.value().map_or(0, Bytes::len)
        });
        self.seen.len() * 24 + ancestor
    }

    /// Appends what was seen, then the ancestor if there is one.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.seen.encode(out);
        if let Some(past) = &self.ancestor {
            encode_dot(out, past.dot);
            past.seen.encode(out);
            put_varint(out, past.written_at_ms);
            put_varint(out, u64::from(past.schema));
            if let Payload::Value(value) = &past.payload {
                out.push(IS_VALUE);
                out.extend_from_slice(value);
            }
        }
    }

    /// Reads what [`Self::encode`] wrote, to the end.
    pub(crate) fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let seen = VersionVector::decode(&mut reader)?;
        let ancestor = match reader.is_empty() {
            true => None,
            false => Some(Arc::new(PastVersion::decode(reader)?)),
        };
        Ok(Past { seen, ancestor })
    }
}

/// Stands before the value of an ancestor; a tombstone ends without it.
const IS_VALUE: u8 = 1;

impl PastVersion {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let dot = decode_dot(&mut reader)?;
        let seen = VersionVector::decode(&mut reader)?;
        let written_at_ms = reader.varint()?;
        let schema = u32::try_from(reader.varint()?)
            .map_err(|_| reader.invalid("the ancestor's schema is larger than 32 bits"))?;
        let payload = match reader.is_empty() {
            true => Payload::Tombstone,
            false if reader.byte()? == IS_VALUE => Payload::Value(reader.take(reader.remaining())?),
            false => return Err(reader.invalid("the ancestor is neither value nor tombstone")),
        };
        Ok(PastVersion { dot, seen, payload, schema, written_at_ms })
    }
}
