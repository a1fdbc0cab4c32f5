//! Damaged records of this node: its partition is compared with all other owners, which hold what
//! the records held, and until that is done the node hands the partition over to nobody.
//!
//! Who reads a damaged record is told so, and asks other owners; who reads a next owner that never
//! got it is told that there is nothing, and may believe it.

use super::super::catchup::Catchup;
use crate::id::{NodeId, PartitionId};
use crate::node::Node;
use crate::tree::TreeAnswer;

/// What is known of a partition's damage.
#[derive(Debug)]
pub(super) struct Damage {
    records: u64,
    catchup: Catchup,
}

impl Node {
    /// The own trees tell how many records of a partition are damaged.
    pub(super) fn note_damage(&mut self, partition: PartitionId, answer: &TreeAnswer) {
        let TreeAnswer::Roots(roots) = answer else { return };
        if roots.damaged == 0 {
            self.exchanges.damaged.remove(&partition);
            return;
        }
        let records = roots.damaged;
        // A partition that is being filled is read from all others anyway.
        if !self.owns(partition) || self.is_filling(partition) {
            return;
        }
        if let Some(damage) = self.exchanges.damaged.get_mut(&partition)
            && records <= damage.records
        {
            damage.records = records;
            return;
        }
        let catchup = Catchup::new(self.now.monotonic_ms);
        self.exchanges.damaged.insert(partition, Damage { records, catchup });
        self.owe_exchanges_of(partition);
    }

    /// A partition was compared with another owner.
    pub(super) fn note_mending(
        &mut self,
        (partition, peer): (PartitionId, NodeId),
        is_peer_whole: bool,
    ) {
        if let Some(damage) = self.exchanges.damaged.get_mut(&partition) {
            damage.catchup.note(peer, is_peer_whole);
        }
    }

    /// Whether this node holds of a partition all that others can replace of what is damaged.
    pub(in crate::node) fn is_mended(&self, partition: PartitionId) -> bool {
        let damage = self.exchanges.damaged.get(&partition);
        damage.is_none_or(|d| self.is_caught_up(partition, Some(self.id), &d.catchup))
    }

    /// What is not this node's any more is not its concern.
    pub(super) fn forget_damage(&mut self) {
        let mut damaged = std::mem::take(&mut self.exchanges.damaged);
        damaged.retain(|partition, _| self.owns(*partition));
        self.exchanges.damaged = damaged;
    }
}
