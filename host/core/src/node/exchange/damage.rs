//! Damaged records of this node: its partition is compared with all other owners, which hold what
//! the records held, and until that is done the node hands the partition over to nobody.
//!
//! Who reads a damaged record is told so, and asks other owners; who reads a next owner that never
//! got it is told that there is nothing, and may believe it.

use super::{Exchanges, Pair};
use crate::id::PartitionId;
use crate::node::catchup::Catchup;
use crate::node::surroundings::Surroundings;
use crate::tree::TreeAnswer;

/// What is known of a partition's damage.
#[derive(Debug)]
pub(super) struct Damage {
    records: u64,
    catchup: Catchup,
}

impl Exchanges {
    /// The own trees tell how many records of a partition are damaged.
    pub(super) fn note_damage(
        &mut self,
        around: &dyn Surroundings,
        partition: PartitionId,
        answer: &TreeAnswer,
    ) {
        let TreeAnswer::Roots(roots) = answer else { return };
        if roots.damaged == 0 {
            self.damaged.remove(&partition);
            return;
        }
        let records = roots.damaged;
        // A partition that is being filled is read from all others anyway.
        if !around.is_owner(partition, around.me()) || around.is_filling(partition) {
            return;
        }
        if let Some(damage) = self.damaged.get_mut(&partition)
            && records <= damage.records
        {
            damage.records = records;
            return;
        }
        let catchup = Catchup::new(around.now().monotonic_ms);
        self.damaged.insert(partition, Damage { records, catchup });
        self.schedule.owe(around.others(partition).into_iter().map(|owner| (partition, owner)));
    }

    /// A partition was compared with another owner.
    pub(super) fn note_mending(&mut self, (partition, peer): Pair, is_peer_whole: bool) {
        if let Some(damage) = self.damaged.get_mut(&partition) {
            damage.catchup.note(peer, is_peer_whole);
        }
    }

    /// Whether this node holds of a partition all that others can replace of what is damaged.
    pub(super) fn is_mended(&self, around: &dyn Surroundings, partition: PartitionId) -> bool {
        let damage = self.damaged.get(&partition);
        damage.is_none_or(|d| d.catchup.is_enough(around, partition, Some(around.me())))
    }
}
