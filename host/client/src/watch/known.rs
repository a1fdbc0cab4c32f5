//! What a watch has told, so that it tells each state of a key once and never goes back.
//!
//! Every owner of a key tells each of its writes, so most of what a watch hears it knows. Two states
//! compare by what they have seen: one that has seen less is older. Where both have seen the same they
//! are the same, but for values that ended or were folded; the object's hash tells.
//!
//! Of at most [`BYTES_MAX`] bytes: two halves, of which the older one goes when the younger is full.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use stator_core::causality::VersionVector;
use stator_proto::v1;

/// What it may take: about 100,000 keys.
const BYTES_MAX: usize = 32 << 20;
/// About what a key takes beside its bytes, and each entry of its vector.
const KEY_BYTES: usize = 160;
const ACTOR_BYTES: usize = 48;

/// What was told last of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Last {
    seen: VersionVector,
    /// Of the object; empty if it is not known.
    hash: Bytes,
    /// Of what was told.
    print: u64,
}

/// The states that were told last.
#[derive(Debug, Default)]
pub(super) struct Known {
    young: HashMap<Bytes, Last>,
    old: HashMap<Bytes, Last>,
    /// Of the young ones.
    bytes: usize,
}

impl Known {
    fn last(&self, key: &Bytes) -> Option<&Last> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// What the state of `key` had seen that was told last.
    pub(super) fn seen(&self, key: &Bytes) -> Option<&VersionVector> {
        self.last(key).map(|last| &last.seen)
    }

    /// Whether this state of the key, or a later one, was told.
    pub(super) fn was_told(&self, key: &Bytes, seen: &VersionVector, hash: &Bytes) -> bool {
        self.last(key).is_some_and(|last| {
            last.seen.covers(seen) && (last.hash == *hash || !seen.covers(&last.seen))
        })
    }

    /// A get gave this, of a key that a member said to have `hash` when it had seen `told`. Whether it
    /// is to be told.
    pub(super) fn is_new(
        &mut self,
        key: &Bytes,
        (seen, answer): (VersionVector, &v1::GetResponse),
        (told, hash): (&VersionVector, Bytes),
    ) -> bool {
        let print = print(answer);
        let before = self.last(key);
        // A get may be behind: what has seen less, or is forgotten, is told only if it was not there.
        let is_same = |last: &Last| last.print == print && last.seen.covers(&seen);
        let is_older =
            |last: &Last| !seen.is_empty() && last.seen.covers(&seen) && !seen.covers(&last.seen);
        if before.is_some_and(is_older) {
            return false;
        }
        let is_new = !before.is_some_and(is_same);
        let hash = if *told == seen { hash } else { Bytes::new() };
        self.note(key, Last { seen, hash, print });
        is_new
    }

    /// A listing tells this.
    pub(super) fn listed(&mut self, key: &Bytes, seen: VersionVector, answer: &v1::GetResponse) {
        self.note(key, Last { seen, hash: Bytes::new(), print: print(answer) });
    }

    fn note(&mut self, key: &Bytes, last: Last) {
        let weight = |last: &Last| KEY_BYTES + key.len() + last.seen.len() * ACTOR_BYTES;
        self.bytes += weight(&last);
        // In memory of its own: that of an answer is a part of all that came with it.
        let before = self.young.insert(Bytes::copy_from_slice(key), last);
        self.bytes -= before.as_ref().map_or(0, weight);
        self.old.remove(key);
        if self.bytes > BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
    }
}

/// Tells answers apart by what they say of the key.
fn print(answer: &v1::GetResponse) -> u64 {
    let mut hasher = DefaultHasher::new();
    for version in &answer.versions {
        (&version.dots, &version.value, version.tombstone).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use stator_core::id::{Actor, Dot, Incarnation, NodeId};

    use super::*;

    fn seen(dots: &[(u64, u64)]) -> VersionVector {
        let dot = |(node, counter): &(u64, u64)| {
            let actor = Actor { node: NodeId(*node), incarnation: Incarnation(1), epoch: 0 };
            Dot { actor, counter: *counter }
        };
        dots.iter().map(dot).collect()
    }

    fn answer(value: &'static str) -> v1::GetResponse {
        let version = v1::Version { value: Some(value.into()), ..Default::default() };
        let versions = if value.is_empty() { Vec::new() } else { vec![version] };
        v1::GetResponse { versions, ..Default::default() }
    }

    #[test]
    fn a_state_is_told_once_whoever_tells_it_and_older_ones_never() {
        let (mut known, key) = (Known::default(), Bytes::from_static(b"k"));
        let (first, second) = (seen(&[(1, 1)]), seen(&[(1, 2)]));
        let hash = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert!(!known.was_told(&key, &second, &hash("h2")));
        assert!(known.is_new(&key, (second.clone(), &answer("b")), (&second, hash("h2"))));
        assert!(known.was_told(&key, &second, &hash("h2")), "by another owner");
        assert!(known.was_told(&key, &first, &hash("h1")), "by one that is behind");
        assert!(!known.is_new(&key, (first.clone(), &answer("a")), (&first, hash("h1"))));
        assert!(!known.was_told(&key, &seen(&[(2, 1)]), &hash("h3")), "a concurrent write");
        // It ended, or was folded: nothing else was seen.
        assert!(!known.was_told(&key, &second, &hash("h4")));
        assert!(known.is_new(&key, (second.clone(), &answer("")), (&second, hash("h4"))));
        assert!(!known.is_new(&key, (seen(&[]), &answer("")), (&second, hash("h4"))), "forgotten");
        let again = seen(&[(3, 1)]);
        assert!(known.is_new(&key, (again.clone(), &answer("c")), (&again, hash("h5"))));
    }

    #[test]
    fn it_forgets_what_was_told_longest_ago() {
        let mut known = Known::default();
        let key = |number: u32| Bytes::from(number.to_be_bytes().to_vec());
        for number in 0..400_000 {
            known.listed(&key(number), seen(&[(1, 1)]), &answer("a"));
            assert!(known.bytes <= BYTES_MAX / 2);
        }
        assert!(known.seen(&key(0)).is_none() && known.seen(&key(399_999)).is_some());
    }
}
