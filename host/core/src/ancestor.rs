//! The ancestor of siblings: what a merge compares them with to tell what each writer changed.
//!
//! Where two siblings differ in a field, only their common ancestor tells whether one has added it
//! or the other removed it. The paper's cart, merged without one, brings removed items back
//! (section 4.4). A keyspace that merges [three ways](crate::catalogue::Reconcile::ThreeWay)
//! therefore keeps with every version a copy of one version of its past. It is part of the
//! envelope, so it is immutable, travels with its version and is the same on every replica; nothing
//! else has to be kept, found or collected.
//!
//! # What is kept
//! Siblings are merged with an ancestor only if all hold the same one, so a write should hold
//! what those that are concurrent with it will hold. Its direct predecessor is that only while
//! nobody is cut off: two sides of a partition that make several versions each have in common
//! what they had before. [`for_write`] takes the first of these that is certainly of the write's
//! past:
//! 1. what all siblings hold that the write leaves standing, if its context has seen it;
//! 2. the one version that it replaces, if nothing is left beside it and all owners were seen to
//!    hold just that ([`HeldByAll`]): whatever is written from now on is based on it, or later;
//! 3. what all versions hold that it replaces: they are its past, so theirs is too;
//! 4. *absent* for a write without a context: it has no past, and nothing is in everybody's past.
//!
//! # Why it is one
//! By induction what a version holds is of its past. Of what a context has seen the put that comes
//! with it is a successor (1, 2); past is transitive (3). What two siblings both hold is of both
//! their pasts, so it is common. It need not be the nearest: [`HeldByAll`] is a memory that a node may
//! lose, and then writes hold what their predecessors held. A merge with an older ancestor sees
//! more conflicts, and loses nothing.
//!
//! # What is left out
//! Values above [`VALUE_BYTES_MAX`] are not kept. A write that is minted where nothing of the key
//! is held (a fallback that stands in for all owners) holds nothing. Several ancestors of siblings
//! that were merged before (the criss-cross of version control) are not merged into one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::causality::{LiveVersion, Siblings, VersionVector, decode_dot, encode_dot};
use crate::codec::{DecodeError, Reader, put_varint};
use crate::divergence::{Ancestor, DivergentVersion};
use crate::id::Dot;
use crate::keys::StoreKey;
use crate::version::{Origin, Payload, Version};

/// The longest value that is kept as an ancestor, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// What of its past a version holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HeldAncestor {
    /// Nothing.
    #[default]
    Unknown,
    /// That there was no key, or that it was deleted.
    Absent,
    /// This version.
    Known(Arc<PastVersion>),
}

/// A version as it is kept with those that came after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastVersion {
    /// The write.
    pub dot: Dot,
    /// Its value.
    pub value: bytes::Bytes,
    /// Its schema number.
    pub schema: u32,
    /// When it was minted: milliseconds since 1970 (UTC).
    pub written_at_ms: u64,
}

/// Whether a write is to hold something of its past.
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

/// What a write with `context` onto `siblings` holds: see the head of this module.
pub fn for_write(
    siblings: &Siblings,
    context: &VersionVector,
    ancestors: Ancestors,
) -> HeldAncestor {
    let Ancestors::Kept { held_by_all } = ancestors else { return HeldAncestor::Unknown };
    let is_seen = |live: &LiveVersion| live.dots.iter().all(|dot| context.contains(dot));
    let (replaced, left): (Vec<_>, Vec<_>) = siblings.versions().into_iter().partition(is_seen);
    match shared(&left) {
        HeldAncestor::Known(past) if context.contains(&past.dot) => {
            return HeldAncestor::Known(past);
        }
        HeldAncestor::Absent => return HeldAncestor::Absent,
        HeldAncestor::Known(_) | HeldAncestor::Unknown => {}
    }
    match &replaced[..] {
        [sole] if left.is_empty() && held_by_all.is_some_and(|dot| is_write(sole, dot)) => {
            of(&sole.version)
        }
        [] if context.is_empty() => HeldAncestor::Absent,
        replaced => shared(replaced),
    }
}

/// Whether `live` is what the client wrote under `dot`.
fn is_write(live: &LiveVersion, dot: Dot) -> bool {
    live.version.origin == Origin::Client(dot)
}

fn of(version: &Version) -> HeldAncestor {
    match (&version.payload, version.origin.latest_dot()) {
        (Payload::Tombstone, _) => HeldAncestor::Absent,
        (Payload::Value(value), Some(dot)) if value.len() <= VALUE_BYTES_MAX => {
            let Version { schema, written_at_ms, .. } = *version;
            // A copy, for the value is a part of the object that it was read from.
            let value = bytes::Bytes::copy_from_slice(value);
            HeldAncestor::Known(Arc::new(PastVersion { dot, value, schema, written_at_ms }))
        }
        _ => HeldAncestor::Unknown,
    }
}

/// What all `versions` hold. Nothing is in the past of all if one has no past.
pub fn shared(versions: &[LiveVersion]) -> HeldAncestor {
    let held = || versions.iter().map(|live| &live.version.ancestor);
    match versions.first().map(|first| &first.version.ancestor) {
        _ if held().any(|held| *held == HeldAncestor::Absent) => HeldAncestor::Absent,
        Some(first) if held().all(|held| held == first) => first.clone(),
        _ => HeldAncestor::Unknown,
    }
}

impl HeldAncestor {
    /// What a module is told.
    pub(crate) fn told(&self) -> Ancestor {
        match self {
            HeldAncestor::Unknown => Ancestor::Unknown,
            HeldAncestor::Absent => Ancestor::Absent,
            HeldAncestor::Known(past) => Ancestor::Known(DivergentVersion {
                value: Some(past.value.clone()),
                schema: past.schema,
                written_at_ms: past.written_at_ms,
            }),
        }
    }

    /// The bytes it takes, without small change.
    pub(crate) fn weight_bytes(&self) -> usize {
        match self {
            HeldAncestor::Unknown | HeldAncestor::Absent => 0,
            HeldAncestor::Known(past) => past.value.len() + 48,
        }
    }

    /// Appends what is held: nothing for [`HeldAncestor::Absent`]. Of what is unknown there is no
    /// field at all.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        if let HeldAncestor::Known(past) = self {
            encode_dot(out, past.dot);
            put_varint(out, past.written_at_ms);
            put_varint(out, u64::from(past.schema));
            out.extend_from_slice(&past.value);
        }
    }

    /// Reads what [`Self::encode`] wrote, to the end.
    pub(crate) fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        if reader.is_empty() {
            return Ok(HeldAncestor::Absent);
        }
        let dot = decode_dot(&mut reader)?;
        let written_at_ms = reader.varint()?;
        let schema = u32::try_from(reader.varint()?)
            .map_err(|_| reader.invalid("the ancestor's schema is larger than 32 bits"))?;
        let value = reader.take(reader.remaining())?;
        Ok(HeldAncestor::Known(Arc::new(PastVersion { dot, value, schema, written_at_ms })))
    }
}

/// How many keys [`HeldByAll`] remembers at least, of those that were noted last. It holds twice as
/// many at most.
const KEYS_MAX: usize = 8_192;

/// A coordinator's memory of keys of which all owners held the same write and nothing else.
#[derive(Debug, Default)]
pub struct HeldByAll {
    young: BTreeMap<StoreKey, Dot>,
    old: BTreeMap<StoreKey, Dot>,
}

impl HeldByAll {
    /// All owners were seen to hold `siblings`.
    pub fn note(&mut self, key: &StoreKey, siblings: &Siblings) {
        let [LiveVersion { version, .. }] = &siblings.versions()[..] else { return };
        let Origin::Client(dot) = version.origin else { return };
        if self.young.len() >= KEYS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key.clone(), dot);
    }

    /// The write that all owners held when the key was last noted.
    pub fn of(&self, key: &StoreKey) -> Option<Dot> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }
}
