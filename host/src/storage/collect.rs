//! What collection asks of a store beside writes: whether it holds anything of a partition. The
//! answer goes through the store's one writer, so that it is behind all that was asked before, and
//! is given once that is durable: a hint whose deletion a power cut takes back is still held.

use std::sync::Arc;

use stator_core::codec::DecodeError;
use stator_core::id::PartitionId;
use stator_core::keys::StoreKey;
use stator_core::write::Change;

use super::StoreError;
use super::chunks;
use super::committer::Committer;
use super::group::answer;
use super::job::FindAnyJob;
use super::trees::Replaced;

impl Committer {
    /// What is damaged is not absent: whoever asks whether a key is as it was must be told, and the
    /// trees, so that an exchange mends it.
    pub(super) fn refuse_damaged(&self, key: &StoreKey, change: &Change) -> Result<(), StoreError> {
        let is_asked = matches!(change, Change::Attest(_) | Change::Collect(_));
        let is_damaged = |staged: &super::group::Staged| {
            staged.record.is_none() && matches!(staged.replaced, Replaced::Unknown)
        };
        if !is_asked || !self.staged(key).is_some_and(is_damaged) {
            return Ok(());
        }
        if let Some(trees) = &self.trees {
            trees.met_damaged(key);
        }
        let (store, why) = (self.records.area.name(), DecodeError::Damaged { what: "record" });
        Err(StoreError::Damaged { store, why })
    }

    pub(super) fn find_any(&mut self, job: FindAnyJob) {
        self.commit();
        let found = self.sync().and_then(|()| self.holds_any(job.partition));
        answer(job.done, found);
    }

    fn holds_any(&self, partition: PartitionId) -> Result<bool, StoreError> {
        if let Some(error) = self.out_of_service() {
            return Err(error);
        }
        let store = self.records.area.name();
        let unread = |error| StoreError::Engine { store, why: Arc::new(error) };
        let from = partition.0.to_be_bytes();
        let first = chunks::scan(&*self.records.engine, &from, 1).map_err(unread)?;
        let key = first.first().and_then(|(physical, _)| StoreKey::decode(physical));
        Ok(key.is_some_and(|key| key.partition == partition))
    }
}
