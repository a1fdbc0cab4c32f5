//! The one write path of a key: load, sync, store, as one step.
//!
//! Every change of a key's object, a client's write or a replica's, goes through [`write()`]: it
//! takes the record that the store holds and returns the one to store instead. The store runs it
//! while it holds the key, so that no write is between load and store of another.
//!
//! # Named writes
//! A write to which its client gave a [`RequestName`] is minted once by everyone who knows of
//! the first attempt: the name travels in the version's envelope, and once the version is
//! replaced the record keeps a local note of it (`request_notes`). The retry is answered with the
//! dot of the first attempt and changes nothing.
//!
//! Who mints dots, and how: [`Minter`]. The store marks the hash tree in the same step
//! ([`crate::tree`]).

mod minter;
mod settle;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ancestor::{self, Ancestors};
use crate::causality::{Context, LiveVersion, Siblings, Survivors};
use crate::collect::{Marked, attest, collect};
use crate::id::{Dot, NodeId};
use crate::quota::Allowance;
use crate::record::{Mark, Record};
use crate::request_notes::Known;
use crate::version::{Origin, Payload, RequestName, Version};
pub use minter::Minter;
pub use settle::{Settled, settle};

/// What a client wants written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// A value, or a tombstone for a delete.
    pub payload: Payload,
    /// The client's schema number, 0 if it gave none.
    pub schema: u32,
    /// How long the version counts, in milliseconds from its timestamp; `None` is for ever.
    pub ttl_ms: Option<u64>,
    /// The client's labels.
    pub labels: BTreeMap<String, String>,
    /// What the client calls the write, if it gave a name.
    pub request: Option<RequestName>,
}

/// A change of one key's object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A client's write, to be given its dot here.
    Mint {
        /// What the client had seen.
        context: Context,
        /// What it wants written.
        draft: Draft,
        /// The clock: milliseconds since 1970 (UTC).
        now_ms: u64,
        /// What the clocks of all members are past: see [`crate::expiry`].
        passed_ms: u64,
        /// The sibling limit that holds for it.
        limits: SiblingLimits,
        /// What it is to keep of its past.
        ancestors: Ancestors,
        /// Not to be begun from then on, by the monotonic clock of the node: nobody waits for it
        /// any more. For whoever carries it out; [`write()`] has no clock.
        until_ms: u64,
        /// Whether it is for another node's put: the object with it is made, and not stored.
        is_lent: bool,
        /// What its keyspace's quota allows, if it has one. Also for whoever carries it out: [`write()`]
        /// sees one key.
        allowance: Option<Box<Allowance>>,
    },
    /// Another replica's object, to be joined.
    Sync(Arc<Siblings>),
    // Collection.
    /// Let go of what has expired, if anything is held.
    Expire {
        /// What the clocks of all members are past: see [`crate::expiry`].
        passed_ms: u64,
        /// Under which time the store's index had the key.
        due_ms: u64,
    },
    /// Nothing, but refuse if the object is not as marked.
    Attest(Marked),
    /// Forget what may be forgotten, if the object is as marked.
    Collect(Marked),
}

/// How far concurrent versions may pile up before blind puts are refused. Replication, repair
/// and hints are never refused for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiblingLimits {
    /// The most live versions of a key.
    pub siblings_max: usize,
    /// The most bytes that they take together.
    pub siblings_bytes_max: usize,
}

/// The most writes that the versions of a key stand for before blind puts are refused, unless
/// the sibling limit is larger: folds leave few versions, but every write keeps its dot until a
/// context covers it.
pub const FOLDED_WRITES_MAX: usize = 1_000;

/// The most expired versions that wait under a key until they may be let go. They count for no other
/// limit; this one keeps the object small enough to be sent.
pub const EXPIRED_MAX: usize = 10_000;
/// The most bytes of them.
pub const EXPIRED_BYTES_MAX: usize = 32 << 20;

/// What a write is refused for. Nothing was changed and no dot was minted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteRefused {
    /// The key has the most siblings it may have, and the put would replace none of them.
    #[error(
        "the key has {found} concurrent versions, the limit is {max}, and this put replaces none \
         of them: get the key, resolve its versions and put the result with the context of the get"
    )]
    TooManySiblings {
        /// Live versions now.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The same, counted in bytes.
    #[error(
        "the key's concurrent versions take {found} bytes, with this put more than the limit of \
         {max}, and it replaces none of them: get the key, resolve its versions and put the \
         result with the context of the get"
    )]
    SiblingsTooLarge {
        /// Bytes now.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The versions stand for too many writes that nobody has replaced, after folds.
    #[error(
        "the key's versions stand for {found} writes that nobody has replaced, the limit is {max}, \
         and this put replaces none of them: get the key and put the result with the context of \
         the get"
    )]
    TooManyWrites {
        /// Live dots now.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Expired versions that the store cannot let go yet have piled up.
    #[error(
        "the key holds {found} versions of {bytes} bytes that have expired and cannot be let go \
         before the clocks of all members are known to be past their end; the limits are \
         {EXPIRED_MAX} and {EXPIRED_BYTES_MAX}: see that all members are up, and put again"
    )]
    TooManyExpired {
        /// Expired versions now.
        found: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The keyspace has as many keys as its quota lets it have.
    #[error(
        "the keyspace holds about {found} keys, and its quota is {max}: delete some, or raise the \
         quota with `stator keyspace update --quota-keys`; nothing was stored"
    )]
    OverKeys {
        /// Keys now, about.
        found: u64,
        /// The quota.
        max: u64,
    },
    /// The keyspace has no room for so many bytes more.
    #[error(
        "the keyspace holds about {found} bytes, the put would add {added}, and its quota is {max}: \
         delete or shrink values, or raise the quota with `stator keyspace update --quota-bytes`; \
         nothing was stored"
    )]
    OverBytes {
        /// Bytes now, about.
        found: u64,
        /// What the put would add at the least.
        added: u64,
        /// The quota.
        max: u64,
    },
    /// A delete has seen a part of what a fold made one version of.
    #[error(
        "the delete's context has seen {seen} of the {inputs} writes that were folded into one \
         version, so what it means to delete cannot be told from the rest: get the key again and \
         delete with that context"
    )]
    PartlyFolded {
        /// Writes of the fold that the context has seen.
        seen: usize,
        /// All writes of the fold.
        inputs: usize,
    },
    /// What is to be forgotten is not held, or not so, or not to be forgotten yet.
    #[error("the object is not the one that was marked for collection")]
    NotAsMarked,
    /// The write's request id was given to another write of this key.
    #[error("the request id belongs to another write of this key, {0}")]
    RequestReused(Dot),
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The record to store in place of the old one, if that is to be.
    pub record: Record,
    /// The dot that was minted, for a client's write.
    pub dot: Option<Dot>,
    /// Whether the record differs from the old one. If not, nothing need be stored.
    pub is_changed: bool,
    /// Whether the record is to be removed: nothing of the key is to be stored.
    pub is_removed: bool,
    /// When the newest version was written that a sync has brought.
    pub gained_ms: Option<u64>,
}

impl Written {
    /// Nothing is held, and nothing is to be stored.
    fn nothing() -> Self {
        Written::kept(Record::default(), None)
    }

    /// The record stays as it is.
    pub(crate) fn kept(record: Record, dot: Option<Dot>) -> Self {
        Written { record, dot, is_changed: false, is_removed: false, gained_ms: None }
    }
}

/// Applies `change` to the `stored` record of a key; `None` is a key that the store has nothing
/// of, or nothing undamaged.
///
/// `targets` are the nodes that the record is a hint for, added to those it has.
///
/// # Errors
/// [`WriteRefused`], for a client's write only; nothing was changed.
pub fn write(
    stored: Option<Record>,
    change: &Change,
    targets: &[NodeId],
    survivors: Survivors,
    minter: &mut Minter,
) -> Result<Written, WriteRefused> {
    match change {
        Change::Attest(marked) => return attest(stored, marked, survivors),
        Change::Collect(marked) => return collect(stored, marked, survivors),
        Change::Expire { .. } if stored.is_none() => return Ok(Written::nothing()),
        Change::Mint { .. } | Change::Sync(_) | Change::Expire { .. } => {}
    }
    let is_new = stored.is_none();
    let mut record = stored.unwrap_or_default();
    let before = record.clone();
    let dot = match change {
        Change::Attest(_) | Change::Collect(_) => None,
        Change::Expire { passed_ms, .. } => {
            record.siblings_mut().expire(*passed_ms, survivors);
            None
        }
        Change::Sync(siblings) => {
            record.siblings_mut().sync(siblings);
            if survivors == Survivors::All {
                record.unite_tries();
            }
            None
        }
        Change::Mint { context, draft, now_ms, passed_ms, limits, ancestors, is_lent, .. } => {
            match draft.request.as_ref().map_or(Known::New, |name| record.known(name, *now_ms)) {
                Known::New => {}
                Known::Retry(dot) => {
                    return Ok(Written::kept(record, Some(dot)));
                }
                Known::Other(dot) => return Err(WriteRefused::RequestReused(dot)),
            }
            // Where the last write wins, versions do not pile up.
            if survivors == Survivors::All {
                record.siblings_mut().expire(*passed_ms, survivors);
                check_limits(&record.siblings, (context, *now_ms), draft, limits)?;
                check_folds(&record.siblings, context, draft)?;
            }
            let wanted = (context, draft, *ancestors);
            let dot = mint(&mut record, wanted, (*now_ms, *is_lent), survivors, minter);
            if *is_lent {
                record.siblings_mut().keep(survivors);
                return Ok(Written::kept(record, Some(dot)));
            }
            record.mark = Some(Mark { actor: dot.actor, counter: dot.counter });
            Some(dot)
        }
    };
    record.siblings_mut().keep(survivors);
    let arrived = match change {
        Change::Sync(siblings) => Some(&**siblings),
        _ => None,
    };
    record.note_replaced([Some(&*before.siblings), arrived].into_iter().flatten());
    record.targets.extend(targets);
    let is_changed = is_new || record != before;
    let gained_ms = arrived.and_then(|_| record.siblings.newest_beyond(before.siblings.vector()));
    Ok(Written { record, dot, is_changed, is_removed: false, gained_ms })
}

/// Versions that have expired by the clock count for none but [`EXPIRED_MAX`].
fn check_limits(
    siblings: &Siblings,
    (context, now_ms): (&Context, u64),
    draft: &Draft,
    limits: &SiblingLimits,
) -> Result<(), WriteRefused> {
    if siblings.live_count() == 0 && limits.siblings_max > 0 {
        return Ok(());
    }
    let counts = |live: &LiveVersion| live.version.counts_at(now_ms);
    let (counting, expired): (Vec<_>, Vec<_>) = siblings.versions().into_iter().partition(counts);
    let bytes_of = |versions: &[LiveVersion]| {
        versions
            .iter()
            .map(|live| live.version.weight_bytes() + 24 * (live.dots.len() - 1))
            .sum::<usize>()
    };
    let is_seen = |live: &LiveVersion| live.dots.iter().any(|dot| context.vector.contains(dot));
    if counting.iter().any(is_seen) {
        return Ok(());
    }
    let (found, bytes) = (expired.len(), bytes_of(&expired));
    if found >= EXPIRED_MAX || bytes > EXPIRED_BYTES_MAX {
        return Err(WriteRefused::TooManyExpired { found, bytes });
    }
    let found = counting.len();
    if found >= limits.siblings_max {
        return Err(WriteRefused::TooManySiblings { found, max: limits.siblings_max });
    }
    let dots = counting.iter().map(|live| live.dots.len()).sum();
    let max = limits.siblings_max.max(FOLDED_WRITES_MAX);
    if dots >= max {
        return Err(WriteRefused::TooManyWrites { found: dots, max });
    }
    let bytes = bytes_of(&counting) + 24 * siblings.vector().len();
    if found > 0 && bytes + draft.payload.len_bytes() > limits.siblings_bytes_max {
        return Err(WriteRefused::SiblingsTooLarge {
            found: bytes,
            max: limits.siblings_bytes_max,
        });
    }
    Ok(())
}

/// Whether a delete has seen all or nothing of every fold that it would leave: see
/// [`crate::fold`].
fn check_folds(siblings: &Siblings, context: &Context, draft: &Draft) -> Result<(), WriteRefused> {
    if draft.payload != Payload::Tombstone {
        return Ok(());
    }
    let is_left = |live: &LiveVersion| live.dots.iter().any(|dot| !context.vector.contains(dot));
    for left in siblings.versions().into_iter().filter(is_left) {
        let inputs = left.version.origin.inputs();
        let seen = inputs.iter().filter(|dot| context.vector.contains(dot)).count();
        if seen > 0 {
            return Err(WriteRefused::PartlyFolded { seen, inputs: inputs.len() });
        }
    }
    Ok(())
}

fn mint(
    record: &mut Record,
    (context, draft, ancestors): (&Context, &Draft, Ancestors),
    (now_ms, is_lent): (u64, bool),
    survivors: Survivors,
    minter: &mut Minter,
) -> Dot {
    let dot = minter.next_dot(record, context, is_lent);
    // Later than all it replaces, and than all it meets, whatever the clocks say.
    let earlier_ms = context.timestamp_ms.max(record.siblings.latest_ms());
    let written_at_ms = now_ms.max(earlier_ms.saturating_add(1));
    let version = Version {
        payload: draft.payload.clone(),
        written_at_ms,
        expires_at_ms: draft.ttl_ms.map(|ttl| written_at_ms.saturating_add(ttl)),
        schema: draft.schema,
        origin: Origin::Client(dot),
        base: record.siblings.seen_by(&context.vector),
        past: ancestor::past_of(&record.siblings, &context.vector, ancestors),
        labels: draft.labels.clone(),
        request: draft.request.clone(),
        unknown: Vec::new(),
    };
    let mut replaced = context.vector.clone();
    if survivors == Survivors::LastWrite {
        // It is the last write of all that is held here. Kept under its dot, they would come to
        // one more dot with every blind put.
        replaced.join(record.siblings.vector());
    }
    record.siblings_mut().put(&replaced, dot, Arc::new(version));
    dot
}
