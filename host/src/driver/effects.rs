//! Carrying out the core's actions.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, Weak};

use stator_core::agreement::Acceptor;
use stator_core::catalogue::{Catalogue, Decision};
use stator_core::divergence::Divergence;
use stator_core::event::{
    Action, Area, Backlog, Epochs, Event, ExchangeEnd, ExchangeOutcome, FillFigures, HeldHint,
    Notice, StoreFailure, Stored, Ticket, Token,
};
use stator_core::holder::Standing;
use stator_core::id::{ModuleDigest, NodeId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::message::Message;
use stator_core::ring::MadeMoves;
use stator_core::tree::TreeRead;
use stator_core::write::Change;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Clock;
use super::handle::{Answer, Shared};
use super::inbox::Inbox;
use crate::merge::MergeHost;
use crate::storage::{
    Area as StoreArea, Effect, FindAnyJob, Home, HomeError, IndexJob, ListHintsJob, LoadJob,
    StoreError, Stores, TreeJob, WriteDone, WriteJob,
};
use crate::telemetry::names::{
    COLLECT_GIVEN_UP, COLLECTED, EXCHANGE_KEYS_COMPARED, EXCHANGE_KEYS_REPAIRED, EXCHANGES, MOVES,
    PARTITIONS_DROPPED,
};
use crate::telemetry::vital::Vital;
use crate::transport::Transport;

/// The file in the data directory that holds the catalogue.
pub const CATALOGUE_FILE: &str = "catalogue";
/// The file in the data directory that holds the moves that were made since the catalogue was
/// saved.
pub const MOVES_FILE: &str = "moves";
/// The file in the data directory that holds what the node promised for the next ring.
pub const BALLOT_FILE: &str = "ballot";
/// The file in the data directory that holds what is left of a partition fill.
pub const FILL_FILE: &str = "fill";
/// The file in the data directory that holds the send epochs.
pub const EPOCHS_FILE: &str = "epochs";
/// The most bytes of hints in one list, beside the hint that goes beyond it.
const HINT_LIST_BYTES_MAX: usize = 4 << 20;

/// What actions act upon.
pub struct Effects {
    stores: Arc<Stores>,
    transport: Transport,
    merges: MergeHost,
    inbox: Inbox,
    clock: Clock,
    shared: Arc<Shared>,
    persist: UnboundedSender<Persist>,
}

impl Effects {
    /// Acts upon these. Starts the task that persists catalogues, one after the other.
    pub fn new(
        home: Arc<Home>,
        stores: Arc<Stores>,
        (transport, merges): (Transport, MergeHost),
        (inbox, clock): (Inbox, Clock),
        shared: Arc<Shared>,
    ) -> Self {
        let (persist, receiver) = unbounded_channel();
        let filled = Arc::downgrade(&stores);
        tokio::spawn(persist_all((home, filled), inbox.clone(), receiver));
        Effects { stores, transport, merges, inbox, clock, shared, persist }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn carry_out(&self, action: Action, answers: &mut HashMap<Ticket, Answer>) {
        match action {
            // A client that went away does not want its answer.
            Action::GetDone(ticket, result) => {
                if let Some(Answer::Get(sender, _held)) = answers.remove(&ticket) {
                    let _ = sender.send(result);
                }
            }
            Action::ReplicaDone(ticket, result) => {
                if let Some(Answer::Replica(sender, _held)) = answers.remove(&ticket) {
                    let _ = sender.send(result);
                }
            }
            Action::PutDone(ticket, result) => {
                if let Some(Answer::Put(sender, _held)) = answers.remove(&ticket) {
                    let _ = sender.send(result);
                }
            }
            Action::ChangeDone(ticket, result) => {
                if let Some(Answer::Change(sender)) = answers.remove(&ticket) {
                    let _ = sender.send(result);
                }
            }
            // Anti-entropy.
            Action::RepairStarted(ticket, result) => {
                if let Some(Answer::Repair(sender)) = answers.remove(&ticket) {
                    let _ = sender.send(result);
                }
            }
            Action::BroughtHome(ticket, result) => {
                if let Some(Answer::BringHome(sender)) = answers.remove(&ticket) {
                    let _ = sender.send(result);
                }
            }
            // Ring changes.
            Action::CommitDone(ticket, result) => {
                if let Some(Answer::Commit(sender)) = answers.remove(&ticket) {
                    let _ = sender.send(result);
                }
            }
            Action::PersistBallot(token, ballot) => {
                let _ = self.persist.send(Persist::Ballot(token, Box::new(ballot)));
            }
            Action::Send(to, message) => self.send(to, message),
            Action::Probe(to, bytes) => self.transport.send_probe(to, bytes),
            Action::Load { token, key, with_hints } => self.load(token, key, with_hints),
            Action::Write { token, area, key, change, targets, survivors, is_sync } => {
                let inbox = self.inbox.clone();
                let done = Box::new(move |result: Result<WriteDone, StoreError>| {
                    let result = result
                        .map(|done| Stored { siblings: done.siblings, dot: done.dot })
                        .map_err(failure);
                    inbox.deliver(Event::Written(token, result));
                });
                let area = store_area(area);
                let until = match &change {
                    Change::Mint { until_ms, .. } => self.clock.at(*until_ms),
                    _ => None,
                };
                self.stores.write(WriteJob {
                    area,
                    key,
                    change,
                    targets,
                    survivors,
                    sync: is_sync,
                    until,
                    done,
                });
            }
            Action::ListHints { target, after, count_max } => {
                self.list_hints(target, after, count_max);
            }
            Action::SettleHint { target, key, sequence } => {
                self.settle_hint(target, key, sequence);
            }
            Action::Persist(token, catalogue) => {
                let _ = self.persist.send(Persist::Catalogue(token, catalogue));
            }
            Action::PersistMoves(token, made) => {
                let _ = self.persist.send(Persist::Moves(token, made));
            }
            Action::PersistFill(token, backlog) => {
                let _ = self.persist.send(Persist::Fill(token, backlog));
            }
            // Collection.
            Action::ReadIndex { token, query, count_max } => {
                let inbox = self.inbox.clone();
                self.stores.read_index(IndexJob {
                    query,
                    entries_max: count_max,
                    done: Box::new(move |result| {
                        inbox.deliver(Event::IndexRead(token, result.map_err(failure)));
                    }),
                });
            }
            Action::FindAny { token, area, partition } => {
                let inbox = self.inbox.clone();
                let area = store_area(area);
                let done = Box::new(move |result: Result<bool, StoreError>| {
                    inbox.deliver(Event::FoundAny(token, result.map_err(failure)));
                });
                self.stores.find_any(FindAnyJob { area, partition, done });
            }
            Action::PersistEpochs(token, epochs) => {
                let _ = self.persist.send(Persist::Epochs(token, epochs));
            }
            Action::ReadTree { token, read } => self.read_tree(token, read),
            Action::DropPartition { token, partition } => {
                let inbox = self.inbox.clone();
                let done = Box::new(move |result: Result<(), StoreError>| {
                    inbox.deliver(Event::Dropped(token, result.map_err(failure)));
                });
                self.stores.drop_partition(partition, done);
            }
            Action::RebuildTree(partition) => self.stores.rebuild_trees(partition),
            Action::Merge { token, module, divergence } => self.merge(token, module, divergence),
            Action::CatalogueChanged(catalogue) => self.publish(&catalogue),
            Action::Notice(notice) => self.take_notice(notice),
        }
    }

    fn send(&self, to: NodeId, message: Message) {
        let request = message.starts_request();
        if self.transport.send(to, message).is_err()
            && let Some(request) = request
        {
            self.inbox.undelivered(to, request);
        }
    }

    fn load(&self, token: Token, key: StoreKey, with_hints: bool) {
        let inbox = self.inbox.clone();
        self.stores.load(LoadJob {
            key,
            from_hints_too: with_hints,
            done: Box::new(move |result| {
                inbox.deliver(Event::Loaded(token, result.map_err(failure)));
            }),
        });
    }

    fn list_hints(&self, target: NodeId, after: Option<StoreKey>, hints_max: usize) {
        let inbox = self.inbox.clone();
        self.stores.list_hints(ListHintsJob {
            target,
            after,
            hints_max,
            bytes_max: HINT_LIST_BYTES_MAX,
            done: Box::new(move |result| {
                let held = |hint: crate::storage::HeldHint| HeldHint {
                    key: hint.key,
                    siblings: hint.siblings,
                    sequence: hint.sequence,
                };
                let hints = result.map(|hints| hints.into_iter().map(held).collect());
                inbox.deliver(Event::HintsListed(target, hints.map_err(failure)));
            }),
        });
    }

    fn merge(&self, token: Token, module: ModuleDigest, divergence: Box<Divergence>) {
        let (merges, inbox) = (self.merges.clone(), self.inbox.clone());
        tokio::spawn(async move {
            let result = merges.resolve(&module, &divergence).await;
            inbox.deliver(Event::Merged(token, result));
        });
    }

    fn read_tree(&self, token: Token, read: TreeRead) {
        let inbox = self.inbox.clone();
        self.stores.read_tree(TreeJob {
            read,
            done: Box::new(move |result| {
                inbox.deliver(Event::TreeRead(token, result.map_err(failure)));
            }),
        });
    }

    fn settle_hint(&self, target: NodeId, key: StoreKey, sequence: u64) {
        let inbox = self.inbox.clone();
        let keyspace = key.keyspace;
        let done = Box::new(move |result: Result<bool, StoreError>| {
            let is_settled = result.unwrap_or_else(|error| {
                tracing::warn!(%target, %error, "a delivered hint stays and is sent again");
                false
            });
            inbox.deliver(Event::HintSettled(target, keyspace, is_settled));
        });
        self.stores.settle_hint(target, key, sequence, done);
    }

    fn publish(&self, catalogue: &Arc<Catalogue>) {
        self.stores.keep_trees(catalogue.cluster);
        let members = catalogue.members.iter();
        let roster = members.map(|(node, m)| (*node, m.value.peer_address.clone())).collect();
        let held = catalogue.members.iter();
        self.transport.set_holders(held.map(|(node, m)| (*node, m.version, m.value.holder())));
        let removed = catalogue.removed.iter().map(|(node, r)| (*node, r.ring_version)).collect();
        self.transport.set_roster_without(catalogue.cluster, roster, removed);
        self.shared.catalogue.send_replace(Some(catalogue.clone()));
    }

    fn take_notice(&self, notice: Notice) {
        match notice {
            Notice::MemberUp(node) => {
                tracing::info!(%node, "reachable");
                self.down(|down| down.retain(|known| *known != node));
                self.shared.alive(|alive| _ = alive.insert(node));
            }
            Notice::MemberDown(node) => {
                tracing::warn!(%node, "not reachable");
                self.shared.alive(|alive| _ = alive.remove(&node));
                self.down(|down| {
                    if !down.contains(&node) {
                        down.push(node);
                    }
                });
            }
            Notice::HintStored(_, keyspace) => self.shared.count(keyspace, |f| f.hints_stored += 1),
            Notice::HintLost(node, keyspace, why) => {
                tracing::error!(%node, %keyspace, %why, "a write for an absent owner is not kept");
                self.shared.count(keyspace, |f| f.hints_lost += 1);
            }
            Notice::HintDelivered(node, keyspace) => {
                self.shared.count(keyspace, |f| f.hints_delivered += 1);
                self.shared.count_peer(node, |f| f.hints_delivered += 1);
            }
            Notice::ReadRepaired(node) => self.shared.count_peer(node, |f| f.read_repairs += 1),
            Notice::Folded(keyspace) => self.shared.count(keyspace, |f| f.folds += 1),
            Notice::NotFolded(keyspace, why) => {
                tracing::debug!(%keyspace, %why, "siblings were not folded and stay");
                self.shared.count(keyspace, |f| f.fold_failures += 1);
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
            Notice::Repair(id, figures) => self.shared.show_repair(id, figures),
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
                self.shared.standing.send_replace(standing);
            }
            Notice::TransferProgress(figures) => {
                *self.shared.transfers.lock().unwrap_or_else(PoisonError::into_inner) = figures;
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
            let mut totals = self.shared.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
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
        *self.shared.fill.write().unwrap_or_else(PoisonError::into_inner) = figures;
    }

    fn down(&self, change: impl FnOnce(&mut Vec<NodeId>)) {
        change(&mut self.shared.down.write().unwrap_or_else(PoisonError::into_inner));
    }
}

fn store_area(area: Area) -> StoreArea {
    match area {
        Area::Data => StoreArea::Data,
        Area::Hints => StoreArea::Hints,
    }
}

/// What a store's error means to the protocol.
fn failure(error: StoreError) -> StoreFailure {
    match error {
        StoreError::Refused(refused) => StoreFailure::Refused(refused),
        StoreError::Damaged { .. } => StoreFailure::Damaged,
        StoreError::NoRoom { bytes_max } => StoreFailure::NoRoom { bytes_max },
        StoreError::OutOfService { effect: Effect::Maybe, .. } | StoreError::Engine { .. } => {
            StoreFailure::Failed(error.to_string())
        }
        StoreError::OutOfService { effect: Effect::None, .. }
        | StoreError::Overloaded { .. }
        | StoreError::Expired { .. }
        | StoreError::HintBudget { .. }
        | StoreError::HintWithoutTarget
        | StoreError::Closed { .. } => StoreFailure::Unavailable(error.to_string()),
    }
}

/// What is kept in small files, one after the other.
enum Persist {
    Catalogue(Token, Arc<Catalogue>),
    Moves(Token, MadeMoves),
    Ballot(Token, Box<Acceptor<Arc<Decision>>>),
    Fill(Token, Backlog),
    Epochs(Token, Epochs),
}

async fn persist_all(
    (home, stores): (Arc<Home>, Weak<Stores>),
    inbox: Inbox,
    mut all: UnboundedReceiver<Persist>,
) {
    let _vital = Vital("what keeps the node's small files");
    while let Some(next) = all.recv().await {
        match next {
            Persist::Catalogue(token, catalogue) => {
                let home = home.clone();
                let save = move || {
                    home.save(CATALOGUE_FILE, &catalogue.encode())?;
                    // They are in it. What stays behind says nothing new.
                    home.remove(MOVES_FILE)
                };
                let result = blocking(save).await;
                if let Err(error) = &result {
                    tracing::error!(%error, "the catalogue could not be persisted");
                }
                inbox.deliver(Event::Persisted(token, result));
            }
            Persist::Moves(token, made) => {
                let home = home.clone();
                let append = move || home.append(MOVES_FILE, made.encode().as_bytes());
                let result = blocking(append).await;
                if let Err(error) = &result {
                    tracing::error!(%error, "moves could not be persisted: they are tried again, \
                                             and nobody is told of them");
                }
                inbox.deliver(Event::Persisted(token, result));
            }
            Persist::Ballot(token, ballot) => {
                let result = save(&home, BALLOT_FILE, move || ballot.encode()).await;
                if let Err(error) = &result {
                    tracing::error!(%error, "a promise for the next ring could not be persisted, \
                                             and is not given");
                }
                inbox.deliver(Event::BallotPersisted(token, result));
            }
            Persist::Epochs(token, epochs) => {
                let result = save(&home, EPOCHS_FILE, move || epochs.encode().into_bytes()).await;
                if let Err(error) = &result {
                    tracing::error!(%error, "send epochs could not be persisted: a round of \
                                             collection waits");
                }
                inbox.deliver(Event::Persisted(token, result));
            }
            Persist::Fill(token, backlog) => {
                let is_filled = backlog.left.as_ref().is_some_and(BTreeSet::is_empty);
                let mut result =
                    save(&home, FILL_FILE, move || backlog.encode().into_bytes()).await;
                if let (true, true, Some(stores)) = (is_filled, result.is_ok(), stores.upgrade()) {
                    result = blocking(move || stores.refilled(StoreArea::Data)).await;
                }
                if let Err(error) = &result {
                    tracing::error!(%error, "what is left of a fill could not be persisted: what \
                                             makes this node an owner waits for it");
                }
                inbox.deliver(Event::Persisted(token, result));
            }
        }
    }
}

async fn save(
    home: &Arc<Home>,
    name: &'static str,
    content: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> Result<(), String> {
    let home = home.clone();
    blocking(move || home.save(name, &content())).await
}

async fn blocking(
    work: impl FnOnce() -> Result<(), HomeError> + Send + 'static,
) -> Result<(), String> {
    let done = tokio::task::spawn_blocking(move || work().map_err(|error| error.to_string()));
    done.await.unwrap_or_else(|error| Err(error.to_string()))
}
