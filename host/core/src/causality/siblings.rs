//! The versions of a key that are concurrent, with the vector of all that was ever seen of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{VersionVector, decode_dots, encode_dots};
use crate::codec::{DecodeError, Reader, put_field};
use crate::id::Dot;
use crate::version::Version;

/// What is done with concurrent versions where they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fold {
    /// Every one is kept.
    #[default]
    Keep,
    /// The one with the largest (timestamp, dot) is kept, under all their dots. A context that
    /// covers those dots kills it, just as it would have killed each. A put is later than all
    /// that it meets where it is minted, and replaces that, seen or not.
    LastWriteWins,
}

/// A dotted version vector set: for every dot of a key whether it is unseen, live or dead, and
/// the version of each live one. Several dots may stand for one version, after a fold.
///
/// Vector and live versions are one value on purpose: a vector that travelled without its
/// versions would claim that they are dead.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Siblings {
    vector: VersionVector,
    live: BTreeMap<Dot, Arc<Version>>,
}

/// One version with the dots under which it is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveVersion {
    /// In ascending order, at least one.
    pub dots: Vec<Dot>,
    /// The version.
    pub version: Arc<Version>,
}

impl Siblings {
    /// The siblings of a key that nobody has written.
    pub fn new() -> Self {
        Self::default()
    }

    /// All that was ever seen of the key.
    pub fn vector(&self) -> &VersionVector {
        &self.vector
    }

    /// The live dots with their versions, in dot order.
    pub fn live(&self) -> impl Iterator<Item = (Dot, &Arc<Version>)> {
        self.live.iter().map(|(dot, version)| (*dot, version))
    }

    /// The versions, each once, by their lowest dot.
    pub fn versions(&self) -> Vec<LiveVersion> {
        let mut versions: Vec<LiveVersion> = Vec::new();
        for (dot, version) in &self.live {
            // Few versions stand under several dots, and those dots are few.
            match versions.iter_mut().find(|v| is_same(&v.version, version)) {
                Some(known) => known.dots.push(*dot),
                None => versions.push(LiveVersion { dots: vec![*dot], version: version.clone() }),
            }
        }
        versions
    }

    /// How many dots are live.
    pub fn live_count(&self) -> usize {
        self.live.len()
    }

    /// Whether the key was never written.
    pub fn is_empty(&self) -> bool {
        self.vector.is_empty()
    }

    /// The latest time at which one of the live versions was written, 0 if there is none.
    pub fn latest_ms(&self) -> u64 {
        self.live.values().map(|version| version.written_at_ms).max().unwrap_or(0)
    }

    /// About how many bytes the object takes.
    pub fn weight_bytes(&self) -> usize {
        // Of a fold that stands under many dots there is one payload.
        let mut versions: Vec<&Arc<Version>> = Vec::new();
        for version in self.live.values() {
            if !versions.iter().any(|known| Arc::ptr_eq(known, version)) {
                versions.push(version);
            }
        }
        let dots = self.vector.len() + self.live.len() - versions.len();
        dots * 24 + versions.iter().map(|version| version.weight_bytes()).sum::<usize>()
    }

    /// The live dots that `context` has seen: those that a put with it would kill.
    pub fn seen_by(&self, context: &VersionVector) -> Vec<Dot> {
        self.live.keys().filter(|dot| context.contains(dot)).copied().collect()
    }

    /// A put: kills what `context` has seen and adds `version` under `dot`.
    ///
    /// The caller has minted `dot`: it is the next of its actor, of which this object holds all
    /// earlier ones.
    pub fn put(&mut self, context: &VersionVector, dot: Dot, version: Arc<Version>) {
        debug_assert_eq!(dot.counter, self.vector.get(&dot.actor) + 1);
        self.live.retain(|live, _| !context.contains(live));
        self.vector.join(context);
        self.vector.advance(dot);
        self.live.insert(dot, version);
    }

    /// Takes the later state of every dot from `self` and `other`: unseen, live, dead.
    pub fn sync(&mut self, other: &Siblings) {
        let Siblings { vector, live } = other;
        self.live.retain(|dot, _| live.contains_key(dot) || !vector.contains(dot));
        for (dot, theirs) in live {
            match self.live.get_mut(dot) {
                Some(ours) => {
                    if !is_same(ours, theirs) && theirs.outranks(ours) {
                        *ours = theirs.clone();
                    }
                }
                None if self.vector.contains(dot) => {}
                None => {
                    self.live.insert(*dot, theirs.clone());
                }
            }
        }
        self.vector.join(vector);
    }

    /// Forgets actors without a live dot: see [`crate::collect`].
    pub(crate) fn drop_dead_actors(&mut self) {
        let live = &self.live;
        self.vector.retain(|actor| live.keys().any(|dot| dot.actor == *actor));
    }

    /// The same with `version` in the place of every live one: no dot is born, none dies.
    pub(crate) fn united_as(&self, version: Arc<Version>) -> Siblings {
        let live = self.live.keys().map(|dot| (*dot, version.clone())).collect();
        Siblings { vector: self.vector.clone(), live }
    }

    /// Does with the concurrent versions what the keyspace wants done where they are stored.
    pub fn fold(&mut self, fold: Fold) {
        if fold == Fold::Keep || self.live.len() < 2 {
            return;
        }
        let winner = self.last_write().cloned();
        if let Some(winner) = winner {
            self.live.values_mut().for_each(|version| *version = winner.clone());
        }
    }

    /// The version with the largest (timestamp, dot), the dot being the write's own.
    pub fn last_write(&self) -> Option<&Arc<Version>> {
        self.live.values().max_by_key(|version| version.moment())
    }

    /// Whether `other` knows nothing that is not known here.
    pub fn covers(&self, other: &Siblings) -> bool {
        let mut joined = self.clone();
        joined.sync(other);
        joined == *self
    }

    /// Appends the object: the vector, then every version with its dots.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut field = Vec::new();
        self.vector.encode(&mut field);
        put_field(out, tag::VECTOR, &field);
        for LiveVersion { dots, version } in self.versions() {
            field.clear();
            encode_dots(&mut field, dots.len(), dots.iter().copied());
            version.encode(&mut field);
            put_field(out, tag::VERSION, &field);
        }
    }

    /// Reads what [`Self::encode`] wrote; payloads share the buffer.
    ///
    /// # Errors
    /// One damaged version makes the whole object unreadable: half of it would claim that the
    /// other half is dead. So does a field of a newer version, which might hold siblings.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, WHAT);
        let mut siblings = Siblings::new();
        while let Some((field_tag, bytes)) = reader.field()? {
            let mut field = Reader::new(bytes, WHAT);
            match field_tag {
                // First and once: every version is checked against it.
                tag::VECTOR if siblings.is_empty() => {
                    siblings.vector = VersionVector::decode(&mut field)?;
                }
                tag::VECTOR => return Err(reader.invalid("it has two vectors")),
                tag::VERSION => siblings.decode_version(&mut field)?,
                _ => return Err(reader.invalid("a field is not known to this version")),
            }
        }
        Ok(siblings)
    }

    fn decode_version(&mut self, field: &mut Reader) -> Result<(), DecodeError> {
        let dots = decode_dots(field)?;
        let version = Arc::new(Version::decode(field.take(field.remaining())?)?);
        if dots.is_empty() || dots.iter().any(|dot| !self.vector.contains(dot)) {
            return Err(field.invalid("a version's dot is not in the vector"));
        }
        for dot in dots {
            if self.live.insert(dot, version.clone()).is_some() {
                return Err(field.invalid("a dot stands for two versions"));
            }
        }
        Ok(())
    }
}

/// Pointers first: after a sync most versions are shared.
fn is_same(a: &Arc<Version>, b: &Arc<Version>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

mod tag {
    pub const VECTOR: u64 = 1;
    pub const VERSION: u64 = 2;
}

const WHAT: &str = "object";
