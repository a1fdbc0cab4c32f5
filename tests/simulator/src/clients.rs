//! Clients: they read, change what they read, and write with the contexts they got.
//!
//! Each client does one thing at a time, through any machine. It keeps what it last saw of every
//! key, uses old contexts too, joins contexts, and writes without any. Where a module merges it also
//! puts back what a key contained before: an old value with the context of all there is, as
//! `kv restore` does.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use stator_core::catalogue::Durability;
use stator_core::causality::{Context, Siblings};
use stator_core::id::KeyspaceId;
use stator_core::request::{Effect, GetRequest, PutReceipt, PutRequest, QuorumKind, RequestError};
use stator_core::version::{Payload, Version};
use stator_core::write::{Draft, SiblingLimits};

use super::history::{ClientWrite, Counts, Outcome, WriteId};
use super::merging;
use super::scenario::{Chore, Scenario};

/// The label that carries a write's number.
pub const LABEL: &str = "write";

/// The value of many writes.
pub const SAME: Bytes = Bytes::from_static(b"as others are");
/// The largest of the large values, in bytes.
const LARGE_BYTES_MAX: usize = 40_000;

/// What the keyspace asks for, with any n: its r and w meet.
const WHOLE: u32 = 1_000;

/// What a client has seen of a key.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// As the cluster says it.
    pub context: Context,
    /// As the client saw it.
    pub seen: BTreeSet<WriteId>,
    /// What the values contain that it would carry on, where a module merges.
    pub contents: BTreeSet<WriteId>,
}

/// One client.
#[derive(Debug, Default)]
pub struct Client {
    known: BTreeMap<usize, Known>,
    /// What the values of a key contained when it first saw them.
    first: BTreeMap<usize, BTreeSet<WriteId>>,
}

/// What a client wants next.
#[derive(Debug)]
pub enum Wish {
    /// A get, and whose answers count.
    Get(GetRequest, Counts),
    /// A put; its label is still missing.
    Put(Box<PutRequest>, ClientWrite),
}

/// A key that clients use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its keyspace.
    pub keyspace: KeyspaceId,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Client {
    /// Decides what to do with the `place`-th key, of which `n` nodes are owners, in a region.
    pub fn wish(
        &mut self,
        rng: &mut ChaCha8Rng,
        scenario: &Scenario,
        (place, key, n, region): (usize, &Key, u32, usize),
    ) -> Wish {
        let is_resized = scenario.does(Chore::Resize);
        let is_strict = rng.random_bool(if is_resized { 0.6 } else { 0.3 });
        let is_local = scenario.regions > 1 && rng.random_bool(0.5);
        let quorum = match (is_local, is_strict) {
            (true, _) => QuorumKind::Local,
            (false, true) => QuorumKind::Strict,
            (false, false) => QuorumKind::Sloppy,
        };
        let counts = |needed| match quorum {
            QuorumKind::Local => Counts::Region(region),
            QuorumKind::Strict => Counts::Owners(needed),
            QuorumKind::Sloppy => Counts::Any,
        };
        // Most of those that are here, however many.
        let is_unasked = is_resized || is_local;
        let timeout_ms = rng.random_range(100..3_000);
        let known = self.known.get(&place).cloned();
        let dice = rng.random_range(0..100);
        if dice < 40 || (dice < 80 && known.is_none()) {
            let r = rng.random_range(1..=n);
            let (r, asked) = if is_unasked { (WHOLE, None) } else { (r, Some(r)) };
            let get = GetRequest {
                keyspace: key.keyspace,
                key: key.bytes.clone(),
                r: asked,
                quorum,
                timeout_ms,
            };
            return Wish::Get(get, counts(r));
        }
        let is_blind = dice >= 80;
        let is_delete = !is_blind && dice >= 70;
        let is_restore = !is_blind && !is_delete && scenario.is_folding() && rng.random_bool(0.2);
        let known = if is_blind { Known::default() } else { known.unwrap_or_default() };
        let w = rng.random_range(scenario.w_min.min(n)..=n);
        let (w, asked) = if is_unasked { (WHOLE, None) } else { (w, Some(w)) };
        let is_ending = !is_delete && scenario.is_expiring() && rng.random_bool(0.2);
        let ttl_ms = is_ending.then(|| rng.random_range(10..20_000));
        let plain = put(key, known.context, is_delete);
        let put = PutRequest {
            draft: Draft { ttl_ms, ..plain.draft },
            w: asked,
            quorum,
            durability: rng.random_bool(0.5).then_some(scenario.durability),
            timeout_ms,
            ..plain
        };
        let is_kept = scenario.durability == Durability::All;
        let counts = if is_kept { counts(w) } else { Counts::Any };
        let contents = match self.first.get(&place) {
            _ if is_delete => BTreeSet::new(),
            // Only what it replaces: the rest is there still.
            Some(first) if is_restore => first & &known.seen,
            _ => known.contents,
        };
        let write = ClientWrite {
            key: place,
            is_delete,
            seen: known.seen,
            contents,
            counts,
            outcome: Outcome::Pending,
        };
        Wish::Put(Box::new(put), write)
    }

    /// What it has seen of the `key`-th key.
    pub fn known(&self, key: usize) -> Option<&Known> {
        self.known.get(&key)
    }

    /// A get was answered with this.
    pub fn got(&mut self, rng: &mut ChaCha8Rng, key: usize, known: Known) {
        self.first.entry(key).or_insert_with(|| known.contents.clone());
        match self.known.get_mut(&key) {
            // Some clients read twice and mean to replace all that they saw.
            Some(earlier) if rng.random_bool(0.2) => {
                earlier.context.join(&known.context);
                earlier.seen.extend(known.seen);
                earlier.contents.extend(known.contents);
            }
            // Some go on with what they had in hand before.
            Some(_) if rng.random_bool(0.1) => {}
            _ => drop(self.known.insert(key, known)),
        }
    }

    /// A put was acknowledged; its value contains `contents`.
    pub fn put(
        &mut self,
        rng: &mut ChaCha8Rng,
        (key, id): (usize, WriteId),
        contents: BTreeSet<WriteId>,
        receipt: &PutReceipt,
    ) {
        match &receipt.context {
            Some(context) => {
                let seen = BTreeSet::from([id]);
                self.known.insert(key, Known { context: context.clone(), seen, contents });
            }
            None if rng.random_bool(0.5) => drop(self.known.remove(&key)),
            None => {}
        }
    }
}

/// The number of the write that a version is of, as its label says.
pub fn writes(siblings: &Siblings) -> BTreeSet<WriteId> {
    siblings.live().map(|(_, version)| write_of(version).unwrap_or(0)).collect()
}

/// The number of the write that a version is of.
pub fn write_of(version: &Version) -> Option<WriteId> {
    version.labels.get(LABEL)?.parse().ok()
}

/// A put or delete as most are; its value is still missing.
pub fn put(key: &Key, context: Context, is_delete: bool) -> PutRequest {
    PutRequest {
        keyspace: key.keyspace,
        key: key.bytes.clone(),
        context,
        draft: Draft {
            payload: if is_delete { Payload::Tombstone } else { Payload::Value(Bytes::new()) },
            schema: 0,
            ttl_ms: None,
            labels: BTreeMap::new(),
            request: None,
        },
        w: None,
        quorum: QuorumKind::Sloppy,
        durability: None,
        limits: SiblingLimits { siblings_max: 8, siblings_bytes_max: 1 << 20 },
        timeout_ms: 2_000,
    }
}

/// Gives a put its number, as a label, and its value if it has one: all that it contains. With
/// `is_varied` a third of the values are large, and a third are the same bytes.
pub fn name(put: &mut PutRequest, id: WriteId, contents: &BTreeSet<WriteId>, is_varied: bool) {
    put.draft.labels.insert(LABEL.to_owned(), id.to_string());
    let Payload::Value(value) = &mut put.draft.payload else { return };
    *value = merging::value_of(contents);
    match id % 3 {
        0 if is_varied => *value = SAME,
        1 if is_varied => {
            let padding = vec![b'x'; (id as usize * 7_919) % LARGE_BYTES_MAX];
            *value = [&padding[..], b"\n", value].concat().into();
        }
        _ => {}
    }
    if is_varied {
        put.limits.siblings_bytes_max = 3 * LARGE_BYTES_MAX;
    }
}

/// How a put that failed ended for its client.
pub fn outcome(error: &RequestError) -> Outcome {
    match error {
        RequestError::QuorumNotReached { effect: Effect::Maybe, .. }
        | RequestError::Store { effect: Effect::Maybe, .. } => Outcome::Maybe,
        _ => Outcome::Nothing,
    }
}
