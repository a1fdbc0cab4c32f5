//! The writes that this node has its stores run, and those that it sends.

use std::sync::Arc;

use super::{Node, Purpose};
use crate::causality::{Siblings, Survivors};
use crate::event::{Action, Area};
use crate::id::{KeyspaceId, NodeId, RequestId};
use crate::keys::StoreKey;
use crate::message::ReplicaWrite;
use crate::write::Change;

impl Node {
    /// What the keyspace does with concurrent versions where they are stored.
    pub(super) fn survivors(&self, keyspace: KeyspaceId) -> Survivors {
        self.keyspace(keyspace).map_or(Survivors::All, |(_, k)| k.reconcile.value.survivors())
    }

    /// Has a key written: in the data store, or as a hint if that is for somebody.
    pub(super) fn write(
        &mut self,
        purpose: Purpose,
        key: StoreKey,
        change: Change,
        targets: Vec<NodeId>,
        is_sync: bool,
    ) {
        self.begin_write(purpose, key, change, targets, (is_sync, false));
    }

    /// Has a key written in the data store and synced. What it holds then is told before that.
    pub(super) fn write_told(&mut self, purpose: Purpose, key: StoreKey, change: Change) {
        self.begin_write(purpose, key, change, Vec::new(), (true, true));
    }

    fn begin_write(
        &mut self,
        purpose: Purpose,
        key: StoreKey,
        change: Change,
        targets: Vec<NodeId>,
        (is_sync, is_told): (bool, bool),
    ) {
        let token = self.effect(purpose);
        let survivors = self.survivors(key.keyspace);
        let area = if targets.is_empty() { Area::Data } else { Area::Hints };
        let write =
            Action::Write { token, area, key, change, targets, survivors, is_sync, is_told };
        self.act(write);
    }

    /// An object for an owner, to be synced, for which no client waits.
    pub(super) fn replica_write(
        &self,
        request: RequestId,
        key: StoreKey,
        siblings: Arc<Siblings>,
    ) -> ReplicaWrite {
        let StoreKey { keyspace, key, .. } = key;
        ReplicaWrite {
            request,
            keyspace,
            key,
            ring_version: self.ring_version(),
            siblings,
            hint_for: Vec::new(),
            is_sync: true,
            epoch: self.send_epoch(),
            is_background: true,
        }
    }
}
