//! Carrying out the core's actions.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use stator_core::catalogue::Catalogue;
use stator_core::divergence::Divergence;
use stator_core::event::{
    Action, Area, Event, HeldHint, Notice, StoreFailure, Stored, Ticket, Token,
};
use stator_core::id::{ModuleDigest, NodeId};
use stator_core::keys::StoreKey;
use stator_core::message::Message;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::handle::{Answer, Shared};
use super::inbox::Inbox;
use crate::merge::MergeHost;
use crate::storage::{
    Area as StoreArea, Effect, Home, ListHintsJob, LoadJob, StoreError, Stores, WriteDone, WriteJob,
};
use crate::transport::Transport;

/// The file in the data directory that holds the catalogue.
pub const CATALOGUE_FILE: &str = "catalogue";
/// The most bytes of hints in one list, beside the hint that goes beyond it.
const HINT_LIST_BYTES_MAX: usize = 4 << 20;

/// What actions act upon.
pub struct Effects {
    stores: Arc<Stores>,
    transport: Transport,
    merges: MergeHost,
    inbox: Inbox,
    shared: Arc<Shared>,
    persist: UnboundedSender<(Token, Arc<Catalogue>)>,
}

impl Effects {
    /// Acts upon these. Starts the task that persists catalogues, one after the other.
    pub fn new(
        home: Arc<Home>,
        stores: Arc<Stores>,
        (transport, merges): (Transport, MergeHost),
        inbox: Inbox,
        shared: Arc<Shared>,
    ) -> Self {
        let (persist, receiver) = unbounded_channel();
        tokio::spawn(persist_all(home, inbox.clone(), receiver));
        Effects { stores, transport, merges, inbox, shared, persist }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn carry_out(&self, action: Action, answers: &mut HashMap<Ticket, Answer>) {
        match action {
            // A client that went away does not want its answer.
            Action::GetDone(ticket, result) => {
                if let Some(Answer::Get(sender)) = answers.remove(&ticket) {
                    let _ = sender.send(result);
                }
            }
            Action::PutDone(ticket, result) => {
                if let Some(Answer::Put(sender)) = answers.remove(&ticket) {
                    let _ = sender.send(result);
                }
            }
            Action::ChangeDone(ticket, result) => {
                if let Some(Answer::Change(sender)) = answers.remove(&ticket) {
                    let _ = sender.send(result);
                }
            }
            Action::Send(to, message) => self.send(to, message),
            Action::Probe(to, bytes) => self.transport.send_probe(to, bytes),
            Action::Load { token, key, with_hints } => self.load(token, key, with_hints),
            Action::Write { token, area, key, change, targets, fold, is_sync } => {
                let inbox = self.inbox.clone();
                let done = Box::new(move |result: Result<WriteDone, StoreError>| {
                    let result = result
                        .map(|done| Stored { siblings: done.siblings, dot: done.dot })
                        .map_err(failure);
                    inbox.deliver(Event::Written(token, result));
                });
                let area = match area {
                    Area::Data => StoreArea::Data,
                    Area::Hints => StoreArea::Hints,
                };
                self.stores.write(WriteJob {
                    area,
                    key,
                    change,
                    targets,
                    fold,
                    sync: is_sync,
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
                let _ = self.persist.send((token, catalogue));
            }
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
        let members = catalogue.members.iter();
        let roster = members.map(|(node, m)| (*node, m.value.peer_address.clone())).collect();
        self.transport.set_roster(catalogue.cluster, roster);
        self.shared.catalogue.send_replace(Some(catalogue.clone()));
    }

    fn take_notice(&self, notice: Notice) {
        match notice {
            Notice::MemberUp(node) => {
                tracing::info!(%node, "reachable");
                self.down(|down| down.retain(|known| *known != node));
            }
            Notice::MemberDown(node) => {
                tracing::warn!(%node, "not reachable");
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
            Notice::UnknownKeyspace(keyspace) => {
                tracing::debug!(%keyspace, "a message names a keyspace that is not known here yet");
            }
        }
    }

    fn down(&self, change: impl FnOnce(&mut Vec<NodeId>)) {
        change(&mut self.shared.down.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What a store's error means to the protocol.
fn failure(error: StoreError) -> StoreFailure {
    match error {
        StoreError::Refused(refused) => StoreFailure::Refused(refused),
        StoreError::Damaged { .. } => StoreFailure::Damaged,
        StoreError::OutOfService { effect: Effect::Maybe, .. } | StoreError::Engine { .. } => {
            StoreFailure::Failed(error.to_string())
        }
        StoreError::OutOfService { effect: Effect::None, .. }
        | StoreError::Overloaded { .. }
        | StoreError::HintBudget { .. }
        | StoreError::HintWithoutTarget
        | StoreError::Closed { .. } => StoreFailure::Unavailable(error.to_string()),
    }
}

async fn persist_all(
    home: Arc<Home>,
    inbox: Inbox,
    mut catalogues: UnboundedReceiver<(Token, Arc<Catalogue>)>,
) {
    while let Some((token, catalogue)) = catalogues.recv().await {
        let home = home.clone();
        let saved = tokio::task::spawn_blocking(move || {
            home.save(CATALOGUE_FILE, &catalogue.encode()).map_err(|error| error.to_string())
        });
        let result = saved.await.unwrap_or_else(|error| Err(error.to_string()));
        if let Err(error) = &result {
            tracing::error!(%error, "the catalogue could not be persisted");
        }
        inbox.deliver(Event::Persisted(token, result));
    }
}
