//! The store's index of what collection is to look at, beside the records and written with them:
//! see [`stator_core::collect::Listed`].
//!
//! ```text
//!   03 key          may be forgotten: 16 bytes of object hash, and 1 if it is deleted
//!   04 time key     to be looked at by then: nothing
//! ```
//!
//! A record says itself how it is listed, so whoever replaces it takes that off. Of a damaged one
//! nobody knows when it was due: that entry goes when its time has come.

use std::sync::Arc;

use stator_core::collect::{DuePlace, IndexPage, IndexQuery, Listed};
use stator_core::id::PartitionId;
use stator_core::keys::StoreKey;
use stator_core::record::Record;
use stator_core::tree::ObjectHash;

use super::StoreError;
use super::engine::{Batch, EngineError};
use super::job::IndexJob;
use super::records::Records;

const FORGETTABLE: u8 = 3;
const DUE: u8 = 4;
const END: u8 = 5;

const HASH_BYTES: usize = 16;
const TIME_BYTES: usize = 8;

/// What of a record that cannot be read may be in the index.
pub(super) const OF_DAMAGED: Listed = Listed { is_forgettable: true, due_ms: None };

/// Lists what is now under `key` in place of what was listed.
pub(super) fn change(batch: &mut Batch, key: &StoreKey, before: Listed, now: Option<&Record>) {
    let after = now.map_or(Listed::default(), |record| record.listed);
    match now.filter(|_| after.is_forgettable) {
        Some(record) => {
            let mut value = record.object_hash(key).0.to_be_bytes().to_vec();
            value.push(u8::from(record.siblings.is_deleted()));
            batch.put(forgettable(key), value);
        }
        None if before.is_forgettable => batch.delete(forgettable(key)),
        None => {}
    }
    if before.due_ms != after.due_ms {
        before.due_ms.into_iter().for_each(|due_ms| forget_due(batch, &(due_ms, key.clone())));
        after.due_ms.into_iter().for_each(|due_ms| batch.put(due(&(due_ms, key.clone())), vec![]));
    }
}

/// Takes off what was due.
pub(super) fn forget_due(batch: &mut Batch, place: &DuePlace) {
    batch.delete(due(place));
}

fn forgettable(key: &StoreKey) -> Vec<u8> {
    [&[FORGETTABLE], &key.encode()[..]].concat()
}

fn due((due_ms, key): &DuePlace) -> Vec<u8> {
    [&[DUE], &due_ms.to_be_bytes()[..], &key.encode()].concat()
}

/// The smallest key above this one.
fn above(key: Vec<u8>) -> Vec<u8> {
    [key, vec![0]].concat()
}

/// The page that `job` asks for.
pub(super) fn page(records: &Records, job: &IndexJob) -> Result<IndexPage, StoreError> {
    let store = records.area.name();
    let page = match &job.query {
        IndexQuery::Forgettable { from, after } => {
            forgettable_page(records, (*from, after.as_ref()), job.entries_max)
        }
        IndexQuery::Due { until_ms, after } => {
            due_page(records, *until_ms, after.as_ref(), job.entries_max)
        }
    };
    page.map_err(|why| StoreError::Engine { store, why: Arc::new(why) })
}

fn forgettable_page(
    records: &Records,
    (from, after): (PartitionId, Option<&StoreKey>),
    entries_max: usize,
) -> Result<IndexPage, EngineError> {
    let first = match after {
        Some(after) => above(forgettable(after)),
        None => [&[FORGETTABLE], &from.0.to_be_bytes()[..]].concat(),
    };
    let entries = records.engine.scan(&first, &[DUE], entries_max.max(1))?;
    let found = entries.into_iter().filter_map(|(entry, value)| {
        let key = StoreKey::decode(&entry[1..])?;
        let (hash, is_deleted) = value.split_first_chunk::<HASH_BYTES>()?;
        Some((key, ObjectHash(u128::from_be_bytes(*hash)), is_deleted == [1]))
    });
    let mut found: Vec<_> = found.collect();
    if let Some(partition) = found.first().map(|(key, ..)| key.partition) {
        found.retain(|(key, ..)| key.partition == partition);
    }
    Ok(IndexPage::Forgettable(found))
}

fn due_page(
    records: &Records,
    until_ms: u64,
    after: Option<&DuePlace>,
    entries_max: usize,
) -> Result<IndexPage, EngineError> {
    let first = after.map_or(vec![DUE], |after| above(due(after)));
    let end = match until_ms.checked_add(1) {
        Some(end_ms) => [&[DUE], &end_ms.to_be_bytes()[..]].concat(),
        None => vec![END],
    };
    if first >= end {
        return Ok(IndexPage::Due(Vec::new()));
    }
    let entries = records.engine.scan(&first, &end, entries_max.max(1))?;
    let found = entries.into_iter().filter_map(|(entry, _)| {
        let (due_ms, key) = entry[1..].split_first_chunk::<TIME_BYTES>()?;
        Some((u64::from_be_bytes(*due_ms), StoreKey::decode(key)?))
    });
    Ok(IndexPage::Due(found.collect()))
}
