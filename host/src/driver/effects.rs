//! Carrying out the core's actions.

use std::collections::HashMap;
use std::sync::Arc;

use stator_core::catalogue::Catalogue;
use stator_core::divergence::Divergence;
use stator_core::event::{Action, Area, Event, HeldHint, StoreFailure, Stored, Ticket, Token};
use stator_core::id::{Dot, ModuleDigest, NodeId};
use stator_core::keys::StoreKey;
use stator_core::listing::{self, KeyRange, Slice};
use stator_core::message::Message;
use stator_core::tree::TreeRead;
use stator_core::write::Change;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::Clock;
use super::handle::{Answer, Shared};
use super::inbox::Inbox;
use super::persist::{Persist, persist_all};
use crate::conflicts::{Cause, Conflicts};
use crate::storage::{
    Applied, Area as StoreArea, Effect, FindAnyJob, Home, IndexJob, ListHintsJob, LoadJob, ScanJob,
    ScanPage, StoreError, Stores, TreeJob, WriteDone, WriteJob,
};
use crate::telemetry::traces::{self, Place};
use crate::transport::Transport;

/// The most bytes of hints in one list, beside the hint that goes beyond it.
const HINT_LIST_BYTES_MAX: usize = 4 << 20;

/// What actions act upon.
pub struct Effects {
    stores: Arc<Stores>,
    transport: Transport,
    conflicts: Conflicts,
    inbox: Inbox,
    pub(super) clock: Clock,
    shared: Arc<Shared>,
    persist: UnboundedSender<Persist>,
}

impl Effects {
    /// Acts upon these. Starts the task that persists catalogues, one after the other.
    pub fn new(
        home: Arc<Home>,
        stores: Arc<Stores>,
        (transport, conflicts): (Transport, Conflicts),
        (inbox, clock): (Inbox, Clock),
        shared: Arc<Shared>,
    ) -> Self {
        let (persist, receiver) = unbounded_channel();
        let filled = Arc::downgrade(&stores);
        tokio::spawn(persist_all((home, filled), inbox.clone(), receiver));
        Effects { stores, transport, conflicts, inbox, clock, shared, persist }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Carries out an action, which is a part of what is traced below this span, if it is.
    pub(super) fn carry_out(
        &self,
        action: Action,
        trace: Option<Place>,
        answers: &mut HashMap<Ticket, Answer>,
    ) {
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
            Action::ListDone(ticket, result) => {
                if let Some(Answer::List(sender)) = answers.remove(&ticket) {
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
            Action::Send(to, message) => self.send(to, message, trace),
            Action::Probe(to, bytes) => self.transport.send_probe(to, bytes),
            Action::Load { token, key, with_hints } => self.load(token, key, with_hints),
            Action::Scan { token, range } => self.scan(token, &range),
            Action::Write { token, area, key, change, targets, survivors, is_sync, is_told } => {
                let inbox = self.inbox.clone();
                let applied = is_told.then(|| {
                    let inbox = inbox.clone();
                    let tell = move |done| inbox.deliver(Event::Applied(token, stored(done)));
                    Box::new(tell) as Applied
                });
                let done = Box::new(move |result: Result<WriteDone, StoreError>| {
                    let result = result.map(stored).map_err(failure);
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
                    applied,
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
            Action::DropPartition { token, partition, keyspace } => {
                let inbox = self.inbox.clone();
                let done = Box::new(move |result: Result<(), StoreError>| {
                    inbox.deliver(Event::Dropped(token, result.map_err(failure)));
                });
                match keyspace {
                    Some(keyspace) => self.stores.drop_stretch((partition, keyspace), done),
                    None => self.stores.drop_partition(partition, done),
                }
            }
            Action::ReadUsage => self.inbox.deliver(Event::UsageRead(self.stores.usage())),
            Action::RebuildTree(partition) => self.stores.rebuild_trees(partition),
            Action::Merge { token, module, divergence, dots } => {
                self.merge((token, trace), module, divergence, dots);
            }
            Action::CatalogueChanged(catalogue) => self.publish(&catalogue),
            Action::Notice(notice) => self.take_notice(notice),
        }
    }

    fn send(&self, to: NodeId, message: Message, trace: Option<Place>) {
        let request = message.starts_request();
        if self.transport.send_traced(to, message, trace).is_err()
            && let Some(request) = request
        {
            self.inbox.undelivered(to, request);
        }
    }

    fn load(&self, token: Token, key: StoreKey, with_hints: bool) {
        let inbox = self.inbox.clone();
        let loaded = if with_hints { None } else { self.stores.loaded(&key) };
        if let Some(object) = loaded {
            return inbox.deliver(Event::Loaded(token, Ok(object)));
        }
        self.stores.load(LoadJob {
            key,
            from_hints_too: with_hints,
            done: Box::new(move |result| {
                inbox.deliver(Event::Loaded(token, result.map_err(failure)));
            }),
        });
    }

    fn scan(&self, token: Token, range: &KeyRange) {
        let inbox = self.inbox.clone();
        let (from, until) = range.physical();
        let (objects_max, bytes_max) = (listing::OBJECTS_MAX, listing::BYTES_MAX);
        let done = Box::new(move |page: Result<ScanPage, StoreError>| {
            let slice = page.map_err(failure).and_then(slice);
            inbox.deliver(Event::Scanned(token, slice));
        });
        self.stores.scan(ScanJob { from, until, objects_max, bytes_max, since: 0, done });
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

    fn merge(
        &self,
        (token, trace): (Token, Option<Place>),
        module: ModuleDigest,
        divergence: Box<Divergence>,
        dots: Vec<Vec<Dot>>,
    ) {
        let (conflicts, inbox) = (self.conflicts.clone(), self.inbox.clone());
        tokio::spawn(async move {
            let merge = conflicts.resolve(Cause::Fold, &module, &divergence, || dots.clone());
            let result = traces::within(trace, merge).await;
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
        self.stores.drop_keyspaces(catalogue.deleted_keyspaces().collect());
        let members = catalogue.members.iter();
        let roster = members.map(|(node, m)| (*node, m.value.peer_address.clone())).collect();
        let held = catalogue.members.iter();
        self.transport.set_holders(held.map(|(node, m)| (*node, m.version, m.value.holder())));
        let removed = catalogue.removed.iter().map(|(node, r)| (*node, r.ring_version)).collect();
        self.transport.set_roster_without(catalogue.cluster, roster, removed);
        self.shared.catalogue.send_replace(Some(catalogue.clone()));
    }
}

/// A page of the store, if nothing in it is damaged.
fn slice(page: ScanPage) -> Result<Slice, StoreFailure> {
    match page.damaged {
        0 => {
            let objects = page.objects.into_iter().map(|(key, siblings)| (key.key, siblings));
            Ok(Slice { objects: objects.collect(), is_cut: page.next.is_some() })
        }
        _ => Err(StoreFailure::Damaged),
    }
}

fn store_area(area: Area) -> StoreArea {
    match area {
        Area::Data => StoreArea::Data,
        Area::Hints => StoreArea::Hints,
    }
}

fn stored(done: WriteDone) -> Stored {
    let WriteDone { siblings, dot, gained_ms, .. } = done;
    Stored { siblings, dot, gained_ms }
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
