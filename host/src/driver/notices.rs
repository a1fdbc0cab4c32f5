//! What the core has noticed, for people: the log, counters, and what the node's status shows.

use std::sync::PoisonError;
use std::time::Duration;

use stator_core::event::{ExchangeEnd, ExchangeOutcome, FillFigures, Notice};
use stator_core::holder::Standing;
use stator_core::id::{KeyspaceId, NodeId, PartitionId};

use super::effects::Effects;
use crate::telemetry;
use crate::telemetry::names::{
    COLLECT_GIVEN_UP, COLLECTED, CONVERGENCE_SECONDS, EXCHANGE_KEYS_COMPARED,
    EXCHANGE_KEYS_REPAIRED, EXCHANGES, MOVES, Metric, PARTITIONS_DROPPED, STALENESS_SECONDS,
};

impl Effects {
    /// Records how long something of a keyspace took.
    fn lasted(&self, metric: Metric, keyspace: KeyspaceId, ms: u64) {
        if !telemetry::is_recording() {
            return;
        }
        let catalogue = self.shared().catalogue();
        if let Some(keyspace) = catalogue.as_ref().and_then(|known| known.keyspace_by_id(keyspace))
        {
            let name = keyspace.name.clone();
            metrics::histogram!(metric.name, "keyspace" => name).record(Duration::from_millis(ms));
        }
    }

    pub(super) fn take_notice(&self, notice: Notice) {
        match notice {
            Notice::MemberUp(node) => {
                tracing::info!(%node, "reachable");
                self.down(|down| down.retain(|known| *known != node));
                self.shared().alive(|alive| _ = alive.insert(node));
            }
            Notice::MemberDown(node) => {
                tracing::warn!(%node, "not reachable");
                self.shared().alive(|alive| _ = alive.remove(&node));
                self.down(|down| {
                    if !down.contains(&node) {
                        down.push(node);
                    }
                });
            }
            Notice::Everywhere(keyspace, after_ms) => {
                self.lasted(CONVERGENCE_SECONDS, keyspace, after_ms);
            }
            Notice::WasStale(keyspace, written_ms) => {
                let age_ms = self.clock.now().wall_ms.saturating_sub(written_ms);
                self.lasted(STALENESS_SECONDS, keyspace, age_ms);
            }
            Notice::HintStored(_, keyspace) => {
                self.shared().count(keyspace, |f| f.hints_stored += 1)
            }
            Notice::HintLost(node, keyspace, why) => {
                tracing::error!(%node, %keyspace, %why, "a write for an absent owner is not kept");
                self.shared().count(keyspace, |f| f.hints_lost += 1);
            }
            Notice::HintDelivered(node, keyspace) => {
                self.shared().count(keyspace, |f| f.hints_delivered += 1);
                self.shared().count_peer(node, |f| f.hints_delivered += 1);
            }
            Notice::ReadRepaired(node) => self.shared().count_peer(node, |f| f.read_repairs += 1),
            Notice::Folded(keyspace) => self.shared().count(keyspace, |f| f.folds += 1),
            Notice::NotFolded(keyspace, why) => {
                tracing::debug!(%keyspace, %why, "siblings were not folded and stay");
                self.shared().count(keyspace, |f| f.fold_failures += 1);
            }
            Notice::Overruled(keyspace) => tracing::warn!(
                keyspace,
                "another operator changed the keyspace at the same time, and that change stands"
            ),
            Notice::ForeignCatalogue(node) => {
                tracing::error!(%node, "sent the catalogue of another cluster; it was dropped");
            }
            Notice::Exchanged(partition, peer, outcome) => {
                self.take_exchange(partition, peer, outcome);
            }
            Notice::Collected(partition, count) => {
                metrics::counter!(COLLECTED.name).increment(count);
                tracing::debug!(%partition, count, "what was deleted is forgotten");
            }
            Notice::NotCollected(partition, why) => {
                metrics::counter!(COLLECT_GIVEN_UP.name).increment(1);
                tracing::debug!(%partition, %why, "a round of collection was given up");
            }
            Notice::Repair(id, figures) => self.shared().show_repair(id, figures),
            Notice::Usage(estimates) => self.shared().show_usage(estimates),
            Notice::StagingOverruled => tracing::warn!(
                "another operator staged changes of the ring at the same time through another \
                 node, and those stand: look at `stator cluster plan`"
            ),
            Notice::RingCommitted(version) => tracing::info!(version, "there is a next ring"),
            Notice::Removed(ring_version) => tracing::error!(
                "this node was removed from this cluster with ring version {ring_version}, for \
                 ever, and serves nothing any more: `stator cluster recover` brings home what it \
                 alone holds; then stop it, and give its machine an empty data directory to join \
                 as a new node"
            ),
            Notice::Standing(standing) => {
                match &standing {
                    Standing::Held => tracing::debug!("this process is served as the node"),
                    Standing::Asking => tracing::info!("the other members are asked to let in"),
                    Standing::Refused(holder) => tracing::error!(
                        incarnation = %holder.incarnation,
                        address = holder.peer_address,
                        "another process is this node: the data directory was copied. This copy \
                         serves nothing while the other one runs: stop one of the two"
                    ),
                }
                self.shared().standing.send_replace(standing);
            }
            Notice::TransferProgress(figures) => {
                *self.shared().transfers.lock().unwrap_or_else(PoisonError::into_inner) = figures;
            }
            Notice::Resizing(figures) => {
                *self.shared().resizes.lock().unwrap_or_else(PoisonError::into_inner) = figures;
            }
            Notice::Moved(made) => {
                metrics::counter!(MOVES.name).increment(1);
                tracing::info!(
                    partition = %made.partition,
                    from = made.from.map(tracing::field::display),
                    to = made.to.map(tracing::field::display),
                    "the partition is handed over"
                );
            }
            Notice::PartitionDropped(partition) => {
                metrics::counter!(PARTITIONS_DROPPED.name).increment(1);
                tracing::info!(%partition, "every owner has it, so it was dropped here");
            }
            Notice::FillStarted(_)
            | Notice::FillProgress(_)
            | Notice::FillEnded(_)
            | Notice::DataLost(_) => self.take_fill_notice(&notice),
            Notice::UnknownKeyspace(keyspace) => {
                tracing::debug!(%keyspace, "a message names a keyspace that is not known here yet");
            }
        }
    }

    fn take_exchange(&self, partition: PartitionId, peer: NodeId, outcome: ExchangeOutcome) {
        let ExchangeOutcome { end, figures, .. } = outcome;
        let word = match end {
            ExchangeEnd::Equal => "equal",
            ExchangeEnd::Different => "different",
            ExchangeEnd::Skipped => "skipped",
            ExchangeEnd::Failed => "failed",
        };
        metrics::counter!(EXCHANGES.name, "outcome" => word).increment(1);
        metrics::counter!(EXCHANGE_KEYS_COMPARED.name).increment(figures.keys_compared);
        metrics::counter!(EXCHANGE_KEYS_REPAIRED.name).increment(figures.keys_repaired);
        {
            let mut totals = self.shared().exchanges.lock().unwrap_or_else(PoisonError::into_inner);
            totals.exchanges +=
                u64::from(matches!(end, ExchangeEnd::Equal | ExchangeEnd::Different));
            totals.keys_differed += figures.keys_differed;
            totals.keys_repaired += figures.keys_repaired;
        }
        if figures.keys_differed > 0 {
            tracing::info!(
                %partition, %peer, keys = figures.keys_differed, repaired = figures.keys_repaired,
                "a partition differed from another owner's and was repaired"
            );
        } else {
            tracing::debug!(%partition, %peer, word, "a partition was compared");
        }
    }

    fn take_fill_notice(&self, notice: &Notice) {
        let figures = match notice {
            Notice::FillStarted(figures) => {
                tracing::warn!(
                    partitions = figures.partitions,
                    "the data store was lost: its partitions are copied from their other owners, \
                     and count for no read until they are"
                );
                Some(*figures)
            }
            Notice::FillProgress(figures) => Some(*figures),
            Notice::FillEnded(figures) => {
                let FillFigures { partitions, objects_copied, .. } = figures;
                tracing::info!(
                    partitions,
                    objects_copied,
                    "the lost data store is filled: the node counts for all reads again"
                );
                None
            }
            Notice::DataLost(partitions) => {
                tracing::error!(
                    partitions,
                    "the data store was lost, and no other node owns these partitions: what they \
                     held is gone; restore it from a backup"
                );
                return;
            }
            _ => return,
        };
        *self.shared().fill.write().unwrap_or_else(PoisonError::into_inner) = figures;
    }

    fn down(&self, change: impl FnOnce(&mut Vec<NodeId>)) {
        change(&mut self.shared().down.write().unwrap_or_else(PoisonError::into_inner));
    }
}
