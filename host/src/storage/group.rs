//! A group of writes on its way to the engine, and the answers that wait for it.
//!
//! A key's record is loaded once per group; later writes of the key find the staged record here,
//! so each sees the ones before it although none is in the engine yet, and the record is encoded
//! once however many writes it took.

use std::collections::BTreeMap;

use bytes::Bytes;
use stator_core::collect::{DuePlace, Listed};
use stator_core::id::KeyspaceId;
use stator_core::keys::StoreKey;
use stator_core::record::Record;
use stator_core::usage::Usage;

use super::StoreError;
use super::chunks;
use super::engine::Batch;
use super::index;
use super::job::{Applied, Done, WriteDone};
use super::trees::Replaced;

/// Writes that are applied together.
#[derive(Default)]
pub(super) struct Group {
    pub(super) staged: BTreeMap<StoreKey, Staged>,
    pub(super) answers: Vec<Answer>,
    /// Entries of the index that led to keys of which nothing is due then.
    pub(super) not_due: Vec<DuePlace>,
    /// Records staged as they will be, and their weight.
    pub(super) bytes: usize,
    /// What the group adds to the bytes of all hints; negative if it frees some.
    pub(super) hint_bytes: isize,
    /// What its puts add to keyspaces that have quotas.
    pub(super) granted: BTreeMap<KeyspaceId, Usage>,
}

/// A key's record as the group leaves it.
pub(super) struct Staged {
    pub(super) record: Option<Record>,
    /// What the engine holds under the key.
    pub(super) stored: InEngine,
    /// What that added to the hash trees.
    pub(super) replaced: Replaced,
    /// How that is listed in the index.
    pub(super) listed: Listed,
    pub(super) is_changed: bool,
}

/// What a staged record replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InEngine {
    Nothing,
    /// A value, damaged or not, of so many chunks.
    Value(u32),
}

impl InEngine {
    fn chunks(self) -> u32 {
        match self {
            InEngine::Nothing => 0,
            InEngine::Value(count) => count,
        }
    }
}

/// What a job gets once its group is applied.
pub(super) enum Answer {
    Write { done: Done<WriteDone>, applied: Option<Applied>, outcome: WriteDone, needs_sync: bool },
    Settle { done: Done<bool>, is_removed: bool },
    Drop { done: Done<()> },
}

impl Answer {
    pub(super) fn needs_sync(&self) -> bool {
        matches!(self, Answer::Write { needs_sync: true, .. } | Answer::Drop { .. })
    }

    /// Tells who wants to know it before the sync.
    pub(super) fn tell_applied(&mut self) {
        if let Answer::Write { applied, outcome, .. } = self
            && let Some(applied) = applied.take()
        {
            let outcome = outcome.clone();
            call(|| applied(outcome));
        }
    }

    /// Calls back with the outcome, or with the error that came instead.
    pub(super) fn give(self, result: Result<(), StoreError>) {
        match self {
            Answer::Write { done, outcome, .. } => answer(done, result.map(|()| outcome)),
            Answer::Drop { done } => answer(done, result),
            Answer::Settle { done, is_removed } => answer(done, result.map(|()| is_removed)),
        }
    }
}

/// Gives a job its answer.
pub(super) fn answer<T>(done: Done<T>, result: Result<T, StoreError>) {
    call(|| done(result));
}

/// Tells the one who waits. A panic in that is the caller's, and must not end a store's thread.
fn call(tell: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(tell)).is_err() {
        tracing::error!("the receiver of a store's answer panicked; the store goes on");
    }
}

impl Group {
    /// Puts all changed records into `batch`, and what the index has to say of them where there is
    /// one. `next_stamp` gives a number never used before. Gives the changed keys with the bytes
    /// of their records, where those are whole.
    pub(super) fn write_to(
        &self,
        batch: &mut Batch,
        is_indexed: bool,
        mut next_stamp: impl FnMut() -> u64,
    ) -> Vec<(&StoreKey, Option<Bytes>)> {
        let mut written = Vec::new();
        // First, for what is listed anew may be due then.
        self.not_due.iter().for_each(|place| index::forget_due(batch, place));
        for (key, staged) in &self.staged {
            if !staged.is_changed {
                continue;
            }
            let replaced = staged.stored.chunks();
            if is_indexed {
                index::change(batch, key, staged.listed, staged.record.as_ref());
            }
            let bytes = match &staged.record {
                Some(record) => {
                    chunks::put(batch, &key.encode(), record.encode(), replaced, &mut next_stamp)
                }
                None => {
                    chunks::delete(batch, &key.encode(), replaced);
                    None
                }
            };
            written.push((key, bytes));
        }
        written
    }

    /// The changed keys with what they now hold.
    pub(super) fn changes(&self) -> impl Iterator<Item = (&StoreKey, Option<&Record>)> {
        let changed = self.staged.iter().filter(|(_, staged)| staged.is_changed);
        changed.map(|(key, staged)| (key, staged.record.as_ref()))
    }

    /// By how many the count of keys in the store changes.
    pub(super) fn objects_added(&self) -> i64 {
        self.staged
            .values()
            .filter(|staged| staged.is_changed)
            .map(|staged| match (staged.stored, &staged.record) {
                (InEngine::Nothing, Some(_)) => 1,
                (InEngine::Value(_), None) => -1,
                _ => 0,
            })
            .sum()
    }
}
