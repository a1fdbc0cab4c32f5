//! What callers ask of the stores, and what they get back.
//!
//! Nothing here waits: a job is queued and its `done` is called with the answer, on one of the
//! stores' own threads, or, if the job cannot be queued, on the caller's before the call returns.
//! `done` must be short and must not block: it holds up everyone else's job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use stator_core::causality::{Siblings, Survivors};
use stator_core::collect::{IndexPage, IndexQuery};
use stator_core::id::{Dot, NodeId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::tree::{TreeAnswer, TreeRead};
use stator_core::write::Change;

use super::StoreError;

/// Called once with a job's answer.
pub type Done<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;

/// Called once when readers see a write, which a power cut may still take back.
pub type Applied = Box<dyn FnOnce(WriteDone) + Send>;

/// Which of the node's two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// What the node holds as an owner.
    Data,
    /// What it holds for others that were unreachable.
    Hints,
}

impl Area {
    /// The store's name in messages, and its folder's in the data directory.
    pub fn name(self) -> &'static str {
        match self {
            Area::Data => "data",
            Area::Hints => "hints",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Area::Data, Area::Hints].into_iter().find(|area| area.name() == name)
    }
}

/// A change of one key, to be done under that key.
pub struct WriteJob {
    /// In which store.
    pub area: Area,
    /// The key.
    pub key: StoreKey,
    /// The change.
    pub change: Change,
    /// For a hint: who is to receive it.
    pub targets: Vec<NodeId>,
    /// What is done with concurrent versions.
    pub survivors: Survivors,
    /// Whether `done` waits until a power cut cannot take the write back. Hints always do.
    pub sync: bool,
    /// Not begun from then on: nobody waits for it any more.
    pub until: Option<Instant>,
    /// Called before `done`, once readers see the write and before it is synced.
    pub applied: Option<Applied>,
    /// Gets the answer.
    pub done: Done<WriteDone>,
}

/// A write that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteDone {
    /// The key's object after the write.
    pub siblings: Arc<Siblings>,
    /// The dot that was minted, for a client's write.
    pub dot: Option<Dot>,
    /// When the newest version was written that a sync has brought.
    pub gained_ms: Option<u64>,
    /// The commit that the record carries: this write's, or an earlier one's if this write
    /// changed nothing.
    pub sequence: u64,
}

/// A read of one key.
pub struct LoadJob {
    /// The key.
    pub key: StoreKey,
    /// Whether what is held for others counts too.
    pub from_hints_too: bool,
    /// Gets the object, or `None` if the key was never written here.
    pub done: Done<Option<Arc<Siblings>>>,
}

/// A page of the hints for one node, in key order.
pub struct ListHintsJob {
    /// Whose hints.
    pub target: NodeId,
    /// Start behind this key; `None` is from the first.
    pub after: Option<StoreKey>,
    /// The most hints of the page.
    pub hints_max: usize,
    /// The page ends with the hint that exceeds this. A page has at least one hint if there is
    /// one.
    pub bytes_max: usize,
    /// Gets the page; an empty one is the end.
    pub done: Done<Vec<HeldHint>>,
}

/// A page of what the data store holds, in the order of physical keys.
pub struct ScanJob {
    /// The first physical key, if there is one like that.
    pub from: Vec<u8>,
    /// The first that is not meant; `None` is up to the last.
    pub until: Option<Vec<u8>>,
    /// The most objects of the page.
    pub objects_max: usize,
    /// The page ends with the object that goes beyond this, by the bytes of its versions.
    pub bytes_max: usize,
    /// Only what commits with a larger number have changed; 0 is everything.
    pub since: u64,
    /// Gets the page.
    pub done: Done<ScanPage>,
}

/// A page of the data store, in the order of physical keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScanPage {
    /// What is whole.
    pub objects: Vec<(StoreKey, Arc<Siblings>)>,
    /// Where the next page starts: behind this key. `None` is the end.
    pub next: Option<StoreKey>,
    /// How many records were damaged and passed over.
    pub damaged: usize,
}

/// A question about the hash trees of the data store.
pub struct TreeJob {
    /// The question.
    pub read: TreeRead,
    /// Gets the answer.
    pub done: Done<TreeAnswer>,
}

/// A page of the data store's index of what collection is to look at.
pub struct IndexJob {
    /// Which part.
    pub query: IndexQuery,
    /// The most entries of the page.
    pub entries_max: usize,
    /// Gets the page.
    pub done: Done<IndexPage>,
}

/// Whether a store holds anything of a partition, damaged or not, once all that was asked of it
/// before is durable.
pub struct FindAnyJob {
    /// In which store.
    pub area: Area,
    /// The partition.
    pub partition: PartitionId,
    /// Gets the answer.
    pub done: Done<bool>,
}

/// A hint that waits for its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldHint {
    /// The key.
    pub key: StoreKey,
    /// The object to deliver.
    pub siblings: Arc<Siblings>,
    /// How it stands: to be given back when it is settled.
    pub sequence: u64,
}

/// What the hint store holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HintFigures {
    /// Hints that wait, by the node they wait for.
    pub waiting: BTreeMap<NodeId, usize>,
    /// About how many bytes all of them take.
    pub bytes: usize,
    /// The limit on that.
    pub bytes_max: usize,
    /// About how many bytes wait for each node; what waits for several counts for each.
    pub waiting_bytes: BTreeMap<NodeId, usize>,
    /// Since when the oldest that waits for each node has been a hint, in milliseconds since 1970,
    /// to the second.
    pub oldest_ms: BTreeMap<NodeId, u64>,
    /// Hints refused since the start because they did not fit the limit.
    pub refused: u64,
}

/// What one store has done and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFigures {
    /// Keys that it holds.
    pub objects: u64,
    /// The number of its latest commit.
    pub sequence: u64,
    /// Groups of writes that were applied since the start.
    pub commits: u64,
    /// Times that it was synced since the start.
    pub syncs: u64,
    /// Records that were found unreadable since the start.
    pub damaged_records: u64,
    /// Why it takes no writes, if it does not, and what to do about it.
    pub out_of_service: Option<String>,
    /// Times that it went out of service and came back since the start.
    pub reopened: u64,
    /// Why the store before it was set aside, until this one is refilled.
    pub set_aside: Option<String>,
}
