//! From siblings to what a reader gets: nothing to merge, a divergence for a module, or all.
//!
//! A merge is a view: the store keeps every sibling until a client's put with their context
//! kills them, and the reader gets the merged value with the context of all of them.
//!
//! The same siblings must give the same bytes on every node. So they reach a module in dot
//! order, equal payloads once, at their lowest dot: for equal payloads no merge is called, but
//! each dot stays, because a client that saw only one of them may kill only that one.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::causality::{LiveVersion, Siblings};
use crate::divergence::{Ancestor, Divergence, DivergentVersion};
use crate::version::Payload;

/// What a key's siblings are for a reader at a certain time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// Never written, or nothing left: deleted, expired.
    Absent,
    /// All live versions have the same payload: this one.
    Sole(LiveVersion),
    /// Versions that differ, in dot order, equal payloads once.
    Divergent(Vec<LiveVersion>),
}

impl View {
    /// How many versions that differ there are.
    pub fn count(&self) -> usize {
        match self {
            View::Absent => 0,
            View::Sole(_) => 1,
            View::Divergent(versions) => versions.len(),
        }
    }
}

/// The versions of `siblings` that count at `now_ms` (milliseconds since 1970, UTC), equal
/// payloads united at their lowest dot, in dot order. Tombstones are versions too.
pub fn versions(siblings: &Siblings, now_ms: u64) -> Vec<LiveVersion> {
    let mut versions = siblings.versions();
    versions.retain(|live| live.version.counts_at(now_ms));
    let kind = |live: &LiveVersion| live.version.payload.value().map(Bytes::len);
    let mut counts: BTreeMap<Option<usize>, usize> = BTreeMap::new();
    versions.iter().for_each(|live| *counts.entry(kind(live)).or_default() += 1);
    // By hash, so that large values are read once, and only if others are as long.
    let mut places: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    let mut united: Vec<LiveVersion> = Vec::new();
    for live in versions {
        if counts.get(&kind(&live)) != Some(&1) {
            let place = *places.entry(live.version.payload.hash()).or_insert(united.len());
            if let Some(known) = united.get_mut(place) {
                known.dots.extend(live.dots);
                known.dots.sort_unstable();
                continue;
            }
        }
        united.push(live);
    }
    united
}

/// What a reader of `siblings` gets, before any module is asked.
pub fn view(siblings: &Siblings, now_ms: u64) -> View {
    let mut versions = versions(siblings, now_ms);
    match versions.len() {
        0 => View::Absent,
        1 => match versions.pop() {
            Some(sole) if sole.version.payload.value().is_some() => View::Sole(sole),
            _ => View::Absent,
        },
        _ => View::Divergent(versions),
    }
}

/// What a module is handed for `versions`, as [`view`] gave them, and what they have in common.
pub fn divergence(
    keyspace: &str,
    key: &Bytes,
    versions: &[LiveVersion],
    ancestor: Ancestor,
) -> Divergence {
    let sibling = |live: &LiveVersion| DivergentVersion {
        value: live.version.payload.value().cloned(),
        schema: live.version.schema,
        written_at_ms: live.version.written_at_ms,
    };
    let siblings: Vec<DivergentVersion> = versions.iter().map(sibling).collect();
    let mut name = Fingerprint(blake3::Hasher::new_derive_key("stator divergence v1"));
    name.text(keyspace.as_bytes());
    name.text(key);
    siblings.iter().for_each(|sibling| name.version(sibling));
    match &ancestor {
        Ancestor::Unknown => {}
        Ancestor::Absent => name.text(b"absent"),
        Ancestor::Known(past) => {
            name.text(b"known");
            name.version(past);
        }
    }
    let fingerprint = *name.0.finalize().as_bytes();
    Divergence { keyspace: keyspace.to_owned(), key: key.clone(), siblings, ancestor, fingerprint }
}

/// A hash over all that a module sees.
struct Fingerprint(blake3::Hasher);

impl Fingerprint {
    fn text(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes()).update(bytes);
    }

    fn version(&mut self, version: &DivergentVersion) {
        let payload = version.value.clone().map_or(Payload::Tombstone, Payload::Value);
        self.text(&payload.hash());
        self.text(&version.schema.to_be_bytes());
        self.text(&version.written_at_ms.to_be_bytes());
    }
}
