//! Folds that this node makes, for keyspaces that want them: see [`crate::fold`].
//!
//! After a client's get to which all owners gave the same answer, and after a client's put that
//! left siblings at all owners, the coordinator asks the module and sends what it makes to the
//! owners, as a read repair would. What a put leaves is read once more before, from all owners:
//! its acknowledgements do not say what else they hold. Nobody waits for any of it, and nothing
//! of it is repeated by a timer: the next get or put of the key tries again.
//!
//! A key is folded by one attempt at a time. Siblings that a module failed at are not tried again
//! by this node until they or the module change.
//!
//! Left out: two coordinators may fold the same siblings at the same time, to the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Node, Purpose};
use crate::catalogue::Reconcile;
use crate::causality::{Siblings, Survivors};
use crate::divergence::{Ancestor, MergeFailure, Outcome, Resolution};
use crate::event::{Action, Notice, Token};
use crate::fold::{Foldable, fold, foldable};
use crate::id::{ModuleDigest, NodeId, PartitionId};
use crate::keys::StoreKey;
use crate::reconcile::divergence;
use crate::request::QuorumKind;
use crate::request::get::Get;
use crate::request::put::Put;

/// How many keys with siblings that cannot be folded are remembered.
const FAILED_MAX: usize = 1_024;
/// How long all owners may take to answer the read before a fold, in milliseconds.
const READ_MS: u64 = 2_000;

/// A merge whose result is to replace `siblings`.
#[derive(Debug, Clone)]
pub(super) struct FoldJob {
    key: StoreKey,
    siblings: Arc<Siblings>,
    module: ModuleDigest,
}

impl FoldJob {
    pub(super) fn partition(&self) -> PartitionId {
        self.key.partition
    }
}

/// What is known of folds beyond the requests in flight.
#[derive(Default)]
pub(super) struct Folds {
    /// Keys that are being folded, and whether a put has come to them meanwhile.
    busy: BTreeMap<StoreKey, bool>,
    /// What of a key a module has failed at.
    failed: BTreeMap<StoreKey, [u8; 32]>,
}

impl Folds {
    fn remember_failure(&mut self, job: &FoldJob) {
        if self.failed.len() >= FAILED_MAX {
            // Forgetting costs a call of the module each, and no order of age need be kept.
            self.failed.clear();
        }
        self.failed.insert(job.key.clone(), fingerprint(job));
    }

    fn has_failed(&self, job: &FoldJob) -> bool {
        self.failed.get(&job.key).is_some_and(|failed| *failed == fingerprint(job))
    }

    /// The key is free again. Says whether a put has come to it meanwhile.
    fn free(&mut self, key: &StoreKey) -> bool {
        self.busy.remove(key).unwrap_or(false)
    }
}

fn fingerprint(job: &FoldJob) -> [u8; 32] {
    let mut object = Vec::new();
    job.siblings.encode(&mut object);
    let mut hasher = blake3::Hasher::new_derive_key("stator failed fold v1");
    hasher.update(&job.module.0).update(&object);
    *hasher.finalize().as_bytes()
}

impl Node {
    /// How many folds are under way.
    pub fn folds_in_flight(&self) -> usize {
        self.folds.busy.len()
    }

    /// The module for a key, if what it makes is stored.
    fn folding_module(&self, key: &StoreKey) -> Option<ModuleDigest> {
        let keyspace = self.keyspaces.get(&key.keyspace)?;
        // What gets ask are not all that hold the key while n changes.
        let may_fold = !self.is_stopping && keyspace.resizes.present.is_none();
        match keyspace.reconcile_of(&key.key) {
            Reconcile::Fold(module) if may_fold => Some(module),
            _ => None,
        }
    }

    /// All owners hold these siblings, as a get has shown.
    pub(super) fn fold_after_get(&mut self, key: &StoreKey, siblings: Arc<Siblings>) {
        if self.folding_module(key).is_some() && !self.folds.busy.contains_key(key) {
            self.start_fold(key, siblings);
        }
    }

    /// All owners hold what a put has written, and perhaps more.
    pub(super) fn fold_after_put(&mut self, put: &Put) {
        if self.folding_module(&put.key).is_none() {
            return;
        }
        if put.siblings().is_none_or(|held| foldable(held) == Foldable::No) {
            return;
        }
        match self.folds.busy.get_mut(&put.key) {
            Some(is_wanted_again) => *is_wanted_again = true,
            None => self.read_for_fold(&put.key),
        }
    }

    /// Reads the key from all owners, to fold what they hold.
    fn read_for_fold(&mut self, key: &StoreKey) {
        let Ok(prepared) = self.prepare((key.keyspace, &key.key), "r", None) else {
            return;
        };
        self.folds.busy.insert(key.clone(), false);
        let (owners, deadline_ms) = (prepared.list.primaries().len(), self.in_ms(READ_MS));
        let rules = (QuorumKind::Strict, Survivors::All);
        let get = Get::new(None, key.clone(), deadline_ms, owners, rules, &prepared.list, |node| {
            self.is_reachable(node).then_some(0)
        });
        self.ask_first(get, owners);
    }

    /// A read for a fold ended; `agreed` is what all owners hold, if that is the same.
    pub(super) fn fold_read_ended(&mut self, key: &StoreKey, agreed: Option<Arc<Siblings>>) {
        let is_wanted_again = self.folds.free(key);
        let is_folding = self.folding_module(key).is_some()
            && agreed.is_some_and(|siblings| self.start_fold(key, siblings));
        match self.folds.busy.get_mut(key) {
            Some(again) if is_folding => *again = is_wanted_again,
            _ => self.fold_again(key, is_wanted_again),
        }
    }

    fn fold_again(&mut self, key: &StoreKey, is_wanted: bool) {
        if is_wanted && self.folding_module(key).is_some() {
            self.read_for_fold(key);
        }
    }

    /// Asks the module, if it need be asked. Says whether its answer is waited for.
    fn start_fold(&mut self, key: &StoreKey, siblings: Arc<Siblings>) -> bool {
        let Some(module) = self.folding_module(key) else { return false };
        let Some(keyspace) = self.keyspaces.get(&key.keyspace) else { return false };
        let name = keyspace.name.clone();
        let job = FoldJob { key: key.clone(), siblings, module };
        match foldable(&job.siblings) {
            Foldable::No => false,
            Foldable::Equal(outcome) => {
                self.store_fold(&job, &outcome);
                false
            }
            Foldable::Divergent(_) if self.folds.has_failed(&job) => false,
            Foldable::Divergent(versions) => {
                let dots = versions.iter().map(|live| live.dots.clone()).collect();
                let divergence =
                    Box::new(divergence(&name, &key.key, &versions, Ancestor::Unknown));
                self.folds.busy.insert(key.clone(), false);
                let token = self.effect(Purpose::Fold(Box::new(job)));
                self.act(Action::Merge { token, module, divergence, dots });
                true
            }
        }
    }

    /// The module has answered.
    pub(super) fn merged(&mut self, token: Token, result: Result<Arc<Resolution>, MergeFailure>) {
        let Some(Purpose::Fold(job)) = self.effects.remove(&token) else {
            return;
        };
        let is_wanted_again = self.folds.free(&job.key);
        if self.folding_module(&job.key) == Some(job.module) {
            match result {
                Ok(resolution) => self.store_fold(&job, &resolution.outcome),
                Err(failure) => {
                    if failure.is_lasting() {
                        self.folds.remember_failure(&job);
                    }
                    let keyspace = job.key.keyspace;
                    self.notice(Notice::NotFolded(keyspace, failure.to_string()));
                }
            }
        }
        self.fold_again(&job.key, is_wanted_again);
    }

    /// Sends the fold to all owners.
    fn store_fold(&mut self, job: &FoldJob, outcome: &Outcome) {
        let key = &job.key;
        let Some(folded) = fold(&job.siblings, outcome, job.module) else {
            // The module leaves them to the client, and will again.
            return self.folds.remember_failure(job);
        };
        self.folds.failed.remove(key);
        let Ok(prepared) = self.prepare((key.keyspace, &key.key), "r", None) else {
            return;
        };
        self.notice(Notice::Folded(key.keyspace));
        let folded = Arc::new(folded);
        let owners: Vec<NodeId> = prepared.list.primaries().to_vec();
        owners.into_iter().for_each(|owner| self.send_object(owner, key, &folded));
    }
}
