//! The versions of a key that are concurrent, with the vector of all that was ever seen of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{VersionVector, decode_dots, encode_dots};
use crate::codec::{DecodeError, Pieces, Reader, Sink, append_field};
use crate::id::{Actor, Dot};
use crate::version::Version;

/// Which of concurrent versions survive where they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Survivors {
    /// Every one.
    #[default]
    All,
    /// The one with the largest (timestamp, dot), under the dots of all. A context that covers
    /// those dots kills it, just as it would have killed each. A put is later than all that it
    /// meets where it is minted, and replaces that, seen or not.
    LastWrite,
}

/// A dotted version vector set: for every dot of a key whether it is unseen, live or dead, and
/// the version of each live one. Several dots may stand for one version, after a fold.
///
/// Vector and live versions are one value on purpose: a vector that travelled without its
/// versions would claim that they are dead.
#[derive(Debug, Clone, Default)]
pub struct Siblings {
    known: Known,
    /// What [`Siblings::encode`] appends, once somebody wanted it: it is hashed, stored and sent to
    /// several peers, and made once. Values are not copied into it.
    canonical: OnceLock<Pieces>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Known {
    vector: VersionVector,
    live: BTreeMap<Dot, Arc<Version>>,
}

impl PartialEq for Siblings {
    fn eq(&self, other: &Self) -> bool {
        self.known == other.known
    }
}

impl Eq for Siblings {}

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

    /// The only way in which the object changes.
    fn known_mut(&mut self) -> &mut Known {
        self.canonical.take();
        &mut self.known
    }

    /// All that was ever seen of the key.
    pub fn vector(&self) -> &VersionVector {
        &self.known.vector
    }

    /// The live dots with their versions, in dot order.
    pub fn live(&self) -> impl Iterator<Item = (Dot, &Arc<Version>)> {
        self.known.live.iter().map(|(dot, version)| (*dot, version))
    }

    /// The versions, each once, by their lowest dot.
    pub fn versions(&self) -> Vec<LiveVersion> {
        let mut versions: Vec<LiveVersion> = Vec::new();
        // Places in the list: of one and the same version, and of those that may be equal.
        let mut shared: BTreeMap<*const Version, usize> = BTreeMap::new();
        let mut alike: BTreeMap<(Option<Dot>, usize), Vec<usize>> = BTreeMap::new();
        for (dot, version) in &self.known.live {
            let place = *shared.entry(Arc::as_ptr(version)).or_insert_with(|| {
                let origin = (version.origin.latest_dot(), version.origin.input_count());
                let alike = alike.entry(origin).or_default();
                let is_same = |place: &&usize| versions[**place].version == *version;
                alike.iter().find(is_same).copied().unwrap_or_else(|| {
                    alike.push(versions.len());
                    versions.push(LiveVersion { dots: Vec::new(), version: version.clone() });
                    versions.len() - 1
                })
            });
            versions[place].dots.push(*dot);
        }
        versions
    }

    /// How many dots are live.
    pub fn live_count(&self) -> usize {
        self.known.live.len()
    }

    /// Whether the key was never written.
    pub fn is_empty(&self) -> bool {
        self.known.vector.is_empty()
    }

    /// The latest time at which one of the live versions was written, 0 if there is none.
    pub fn latest_ms(&self) -> u64 {
        self.known.live.values().map(|version| version.written_at_ms).max().unwrap_or(0)
    }

    /// When the newest of the live versions was written that `seen` knows nothing of.
    pub fn newest_beyond(&self, seen: &VersionVector) -> Option<u64> {
        let beyond = self.known.live.iter().filter(|(dot, _)| !seen.contains(dot));
        beyond.map(|(_, version)| version.written_at_ms).max()
    }

    /// About how many bytes the object takes.
    pub fn weight_bytes(&self) -> usize {
        // Of a version that stands under many dots there is one payload.
        let versions: BTreeMap<*const Version, &Version> =
            self.known.live.values().map(|version| (Arc::as_ptr(version), &**version)).collect();
        let dots = self.known.vector.len() + self.known.live.len() - versions.len();
        dots * 24 + versions.values().map(|version| version.weight_bytes()).sum::<usize>()
    }

    /// The live dots that `context` has seen: those that a put with it would kill.
    pub fn seen_by(&self, context: &VersionVector) -> Vec<Dot> {
        self.known.live.keys().filter(|dot| context.contains(dot)).copied().collect()
    }

    /// A put: kills what `context` has seen and adds `version` under `dot`.
    ///
    /// The caller has minted `dot`: it is the next of its actor, of which this object holds all
    /// earlier ones.
    pub fn put(&mut self, context: &VersionVector, dot: Dot, version: Arc<Version>) {
        let known = self.known_mut();
        debug_assert_eq!(dot.counter, known.vector.get(&dot.actor) + 1);
        known.live.retain(|live, _| !context.contains(live));
        known.vector.join(context);
        known.vector.advance(dot);
        known.live.insert(dot, version);
    }

    /// Takes the later state of every dot from `self` and `other`: unseen, live, dead.
    pub fn sync(&mut self, other: &Siblings) {
        let Known { vector, live } = &other.known;
        let known = self.known_mut();
        known.live.retain(|dot, _| live.contains_key(dot) || !vector.contains(dot));
        // Of two versions that stand under many dots each.
        let mut compared: BTreeMap<(*const Version, *const Version), bool> = BTreeMap::new();
        for (dot, theirs) in live {
            match known.live.get_mut(dot) {
                Some(ours) if Arc::ptr_eq(ours, theirs) => {}
                Some(ours) => {
                    let is_theirs = compared
                        .entry((Arc::as_ptr(ours), Arc::as_ptr(theirs)))
                        .or_insert_with(|| theirs != ours && theirs.outranks(ours));
                    if *is_theirs {
                        *ours = theirs.clone();
                    }
                }
                None if known.vector.contains(dot) => {}
                None => {
                    known.live.insert(*dot, theirs.clone());
                }
            }
        }
        known.vector.join(vector);
    }

    /// Every live dot whose version is to go is dead from now on.
    pub(crate) fn kill(&mut self, is_to_go: impl Fn(&Version) -> bool) {
        self.known_mut().live.retain(|_, version| !is_to_go(version));
    }

    /// The live versions, to be replaced by others of the same writes.
    pub(crate) fn live_mut(&mut self) -> impl Iterator<Item = &mut Arc<Version>> {
        self.known_mut().live.values_mut()
    }

    /// Whether `other` is the same object, as far as it can be told without comparing values: a
    /// write has one value, whoever holds it. Of a fold they are compared.
    pub fn is_same_as(&self, other: &Siblings) -> bool {
        let mut compared = BTreeMap::new();
        let mut is_same = |a: &Arc<Version>, b: &Arc<Version>| {
            let pair = (Arc::as_ptr(a), Arc::as_ptr(b));
            *compared.entry(pair).or_insert_with(|| a.is_same_write(b))
        };
        self.known.vector == other.known.vector
            && self.known.live.len() == other.known.live.len()
            && self
                .known
                .live
                .iter()
                .zip(&other.known.live)
                .all(|(a, b)| a.0 == b.0 && is_same(a.1, b.1))
    }

    /// The actors that have a live dot.
    fn live_actors(&self) -> BTreeSet<Actor> {
        self.known.live.keys().map(|dot| dot.actor).collect()
    }

    /// How many actors have no live dot.
    pub fn dead_actors(&self) -> usize {
        self.known.vector.len() - self.live_actors().len()
    }

    /// Forgets actors without a live dot: see [`crate::collect`].
    pub(crate) fn drop_dead_actors(&mut self) {
        let live = self.live_actors();
        self.known_mut().vector.retain(|actor| live.contains(actor));
    }

    /// The same with `version` in the place of every live one: no dot is born, none dies.
    pub(crate) fn united_as(&self, version: Arc<Version>) -> Siblings {
        let live = self.known.live.keys().map(|dot| (*dot, version.clone())).collect();
        let known = Known { vector: self.known.vector.clone(), live };
        Siblings { known, canonical: OnceLock::new() }
    }

    /// Lets only those of concurrent versions stand that the keyspace wants stored.
    pub fn keep(&mut self, survivors: Survivors) {
        if survivors == Survivors::All || self.known.live.len() < 2 {
            return;
        }
        let winner = self.last_write().cloned();
        if let Some(winner) = winner {
            self.known_mut().live.values_mut().for_each(|version| *version = winner.clone());
        }
    }

    /// The version with the largest (timestamp, dot), the dot being the write's own.
    pub fn last_write(&self) -> Option<&Arc<Version>> {
        self.known.live.values().max_by_key(|version| version.moment())
    }

    /// Whether `other` knows nothing that is not known here.
    pub fn covers(&self, other: &Siblings) -> bool {
        let mut joined = self.clone();
        joined.sync(other);
        joined == *self
    }

    /// Appends the object: the vector, then every version with its dots.
    pub fn encode(&self, out: &mut impl Sink) {
        out.append(self.canonical());
    }

    /// What [`Self::encode`] appends; made when it is first asked for.
    pub fn canonical(&self) -> &Pieces {
        self.canonical.get_or_init(|| {
            let mut out = Pieces::new();
            let mut field = Pieces::new();
            self.known.vector.encode(&mut field);
            append_field(&mut out, tag::VECTOR, &field);
            for LiveVersion { dots, version } in self.versions() {
                let mut field = Pieces::new();
                encode_dots(&mut field, dots.len(), dots.iter().copied());
                version.encode(&mut field);
                append_field(&mut out, tag::VERSION, &field);
            }
            out
        })
    }

    /// Reads what [`Self::encode`] wrote, and nothing else, so the bytes are the object's; payloads
    /// share the buffer.
    ///
    /// # Errors
    /// One damaged version makes the whole object unreadable: half of it would claim that the
    /// other half is dead. So does a field of a newer version, which might hold siblings.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let canonical = OnceLock::from(Pieces::of(bytes.clone()));
        let mut reader = Reader::new(bytes, WHAT);
        let mut siblings = Siblings::new();
        // First and once: every version is checked against it.
        let Some((tag::VECTOR, vector)) = reader.field()? else {
            return Err(reader.invalid("it does not begin with a vector"));
        };
        let mut vector = Reader::new(vector, WHAT);
        siblings.known.vector = VersionVector::decode(&mut vector)?;
        vector.end()?;
        let (mut count, mut last) = (0, None);
        while let Some((field_tag, bytes)) = reader.field()? {
            if field_tag != tag::VERSION {
                return Err(reader.invalid("a field is not known to this version"));
            }
            let first = siblings.decode_version(&mut Reader::new(bytes, WHAT))?;
            if last.replace(first) >= Some(first) {
                return Err(reader.invalid("versions are not in ascending order"));
            }
            count += 1;
        }
        if count > 1 && siblings.versions().len() != count {
            return Err(reader.invalid("a version stands twice"));
        }
        Ok(Siblings { canonical, ..siblings })
    }

    /// Reads a version, and tells the first of its dots.
    fn decode_version(&mut self, field: &mut Reader) -> Result<Dot, DecodeError> {
        let dots = decode_dots(field)?;
        let version = Arc::new(Version::decode(field.take(field.remaining())?)?);
        let first = dots.first().copied();
        let first = first.filter(|_| dots.iter().all(|dot| self.known.vector.contains(dot)));
        let first = first.ok_or_else(|| field.invalid("a version's dot is not in the vector"))?;
        for dot in dots {
            if self.known.live.insert(dot, version.clone()).is_some() {
                return Err(field.invalid("a dot stands for two versions"));
            }
        }
        Ok(first)
    }
}

mod tag {
    pub const VECTOR: u64 = 1;
    pub const VERSION: u64 = 2;
}

const WHAT: &str = "object";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::put_field;
    use crate::id::{Incarnation, NodeId};
    use crate::reconcile;
    use crate::version::COMPARED_BYTES;

    const COUNT: u64 = 100;
    const BYTES: usize = 16 << 10;

    fn dot(node: u64) -> Dot {
        let actor = Actor { node: NodeId(node), incarnation: Incarnation(1), epoch: 0 };
        Dot { actor, counter: 1 }
    }

    /// Blind puts of `value`, each at a node of its own.
    fn blind(value: impl Fn(u64) -> Vec<u8>) -> Siblings {
        let mut siblings = Siblings::new();
        for node in 0..COUNT {
            let mut bare = Vec::new();
            put_field(&mut bare, 1, &value(node));
            crate::codec::put_number(&mut bare, 2, 7);
            let mut origin = Vec::new();
            super::super::encode_dot(&mut origin, dot(node));
            put_field(&mut bare, 5, &origin);
            let version = Version::decode(bare.into()).unwrap();
            siblings.put(&VersionVector::new(), dot(node), Arc::new(version));
        }
        siblings
    }

    /// The object as another replica sends it: nothing is shared.
    fn sent(siblings: &Siblings) -> Siblings {
        let mut bytes = Vec::new();
        siblings.encode(&mut bytes);
        Siblings::decode(bytes.into()).unwrap()
    }

    fn compared<T>(work: impl FnOnce() -> T) -> (T, usize) {
        COMPARED_BYTES.set(0);
        let result = work();
        (result, COMPARED_BYTES.get())
    }

    #[test]
    fn equal_values_of_many_writes_are_never_compared_pairwise() {
        let all = COUNT as usize * BYTES;
        let prefix = |node: u64| [vec![7; BYTES - 8], node.to_be_bytes().to_vec()].concat();
        let worlds: [Box<dyn Fn(u64) -> Vec<u8>>; 2] =
            [Box::new(|_| vec![7; BYTES]), Box::new(prefix)];
        for value in worlds {
            let siblings = blind(value);
            let (versions, bytes) = compared(|| siblings.versions().len());
            assert_eq!((versions, bytes), (COUNT as usize, 0), "versions");
            let theirs = sent(&siblings);
            let (is_same, bytes) = compared(|| theirs.is_same_as(&siblings));
            assert_eq!((is_same, bytes), (true, 0), "the same object");
            let (joined, bytes) = compared(|| {
                let mut joined = siblings.clone();
                joined.sync(&theirs);
                joined
            });
            assert!(joined == siblings && bytes <= all, "a sync compares {bytes} bytes");
            let (_, bytes) = compared(|| reconcile::versions(&siblings, 0));
            assert_eq!(bytes, 0, "a view goes by hashes");
        }
    }

    #[test]
    fn a_version_under_many_dots_is_compared_once() {
        let siblings = blind(|node| vec![node as u8; BYTES]);
        let winner = siblings.last_write().unwrap().clone();
        let ours = siblings.united_as(winner);
        let mut theirs = sent(&ours);
        let half = ours.known.live.iter().take(COUNT as usize / 2);
        theirs.known_mut().live.extend(half.map(|(dot, version)| (*dot, version.clone())));
        let (versions, bytes) = compared(|| theirs.versions());
        assert_eq!((versions.len(), bytes), (1, BYTES), "two copies of one version");
        let (_, bytes) = compared(|| theirs.clone().sync(&ours));
        assert!(bytes <= BYTES, "a sync compares {bytes} bytes");
    }
}
