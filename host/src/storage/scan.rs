//! Reading the data store in key order, a page at a time: what a removed node hands back, an owner's
//! part of a listing, and what was changed since a commit.
//!
//! The physical key begins with the partition, then the keyspace, so each of these is one range. A
//! page is no snapshot: what is written behind the place that it has come to is not in it.

use std::sync::Arc;

use stator_core::keys::StoreKey;

use super::StoreError;
use super::chunks;
use super::engine::EngineError;
use super::job::{ScanJob, ScanPage};
use super::records::{Found, Records};

/// Records that are read at once: no more than this are read in vain when a page is full.
const STEP: usize = 16;
/// A page of what was changed since a commit ends after so many records that were not.
const PASSED_MAX: usize = 4_096;

/// The page that `job` asks for. A damaged record is counted and passed over.
pub(super) fn page(records: &Records, job: &ScanJob) -> Result<ScanPage, StoreError> {
    let store = records.area.name();
    let unreadable = |why: EngineError| StoreError::Engine { store, why: Arc::new(why) };
    let mut page = ScanPage::default();
    let (mut bytes, mut passed) = (0, 0);
    let mut from = job.from.clone();
    loop {
        let step = STEP.min(job.objects_max.max(1) - page.objects.len());
        let entries = chunks::scan(&*records.engine, &from, step).map_err(unreadable)?;
        let Some((last, _)) = entries.last() else {
            return Ok(page);
        };
        from = above(last);
        for (physical, stored) in entries {
            if job.until.as_ref().is_some_and(|until| physical >= *until) {
                return Ok(page);
            }
            // Nothing but a key is ever stored there; what is no key belongs to no partition.
            let Some(key) = StoreKey::decode(&physical) else { continue };
            match records.judge(&key, stored) {
                Found::Missing => {}
                Found::Damaged(..) => page.damaged += 1,
                Found::Whole(record, _) if job.since > 0 && record.sequence <= job.since => {
                    passed += 1;
                }
                Found::Whole(record, _) => {
                    bytes += key.key.len() + record.siblings.weight_bytes();
                    page.objects.push((key.clone(), record.siblings));
                }
            }
            let is_full = page.objects.len() >= job.objects_max.max(1) || bytes >= job.bytes_max;
            if is_full || passed >= PASSED_MAX {
                page.next = Some(key);
                return Ok(page);
            }
        }
    }
}

/// The smallest physical key above this one.
fn above(physical: &[u8]) -> Vec<u8> {
    [physical, &[0]].concat()
}
