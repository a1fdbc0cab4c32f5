//! Keyspaces: what they promise, and how their definitions join.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::resize::Outlook;
use super::{Chronicle, Merging, PublicKey, Quota, Report, Resizes, Stage, Trial, Versioned, What};
use crate::causality::Survivors;
use crate::id::{KeyspaceId, ModuleDigest, NodeId};

/// The longest name of a keyspace.
pub const NAME_BYTES_MAX: usize = 64;

/// Of a hundred gets, how many ask all owners of their key in a keyspace that says nothing of it.
pub const READ_REPAIR_PERCENT: u32 = 10;

/// How many replicas a key has, and how many must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Quorums {
    /// Replicas of each key.
    pub n: u32,
    /// Replicas that must answer a get.
    pub r: u32,
    /// Replicas that must acknowledge a put.
    pub w: u32,
}

/// What an acknowledgement promises about disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Every replica that acknowledged has synced.
    #[default]
    All,
    /// At least one replica that acknowledged has synced: the coordinator.
    One,
    /// In memory, written behind: survives fewer than w crashes.
    Buffered,
}

/// What concurrent versions of a value mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reconcile {
    /// The client gets all of them.
    #[default]
    Siblings,
    /// The one with the largest (timestamp, dot) is kept.
    LastWriteWins,
    /// This module merges them for every reader; the store keeps them.
    Module(ModuleDigest),
    /// This module merges them, and what it makes replaces them in the store: see
    /// [`crate::fold`].
    Fold(ModuleDigest),
    /// This module merges them for every reader and is told their ancestor, for which every
    /// version keeps a copy of one of its past: see [`crate::ancestor`].
    ThreeWay(ModuleDigest),
}

impl Reconcile {
    /// What is done where the versions are stored.
    pub fn survivors(&self) -> Survivors {
        match self {
            Reconcile::LastWriteWins => Survivors::LastWrite,
            // A module is not called where versions are stored, but by coordinators.
            Reconcile::Siblings
            | Reconcile::Module(_)
            | Reconcile::Fold(_)
            | Reconcile::ThreeWay(_) => Survivors::All,
        }
    }

    /// The module that merges, be it for readers only.
    pub fn module(&self) -> Option<ModuleDigest> {
        match self {
            Reconcile::Module(digest) | Reconcile::Fold(digest) | Reconcile::ThreeWay(digest) => {
                Some(*digest)
            }
            Reconcile::Siblings | Reconcile::LastWriteWins => None,
        }
    }

    /// The same policy with another module; none where no module merges.
    pub fn with_module(&self, digest: ModuleDigest) -> Option<Reconcile> {
        match self {
            Reconcile::Module(_) => Some(Reconcile::Module(digest)),
            Reconcile::Fold(_) => Some(Reconcile::Fold(digest)),
            Reconcile::ThreeWay(_) => Some(Reconcile::ThreeWay(digest)),
            Reconcile::Siblings | Reconcile::LastWriteWins => None,
        }
    }
}

impl fmt::Display for Reconcile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reconcile::Siblings => f.write_str("siblings"),
            Reconcile::LastWriteWins => f.write_str("last-write-wins"),
            Reconcile::Module(digest) => write!(f, "module {digest}"),
            Reconcile::Fold(digest) => write!(f, "fold {digest}"),
            Reconcile::ThreeWay(digest) => write!(f, "three-way {digest}"),
        }
    }
}

/// What an operator asks of a keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyspaceSpec {
    /// Its name.
    pub name: String,
    /// Replicas and answers.
    pub quorums: Quorums,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// What concurrent versions mean.
    pub reconcile: Reconcile,
    /// Of a hundred gets, how many ask all owners and repair those that are stale; the others ask
    /// r. At most 100.
    pub read_repair_percent: u32,
    /// The care for its merges.
    pub merging: Merging,
    /// Whose signatures it demands of modules; none if it demands none.
    pub signed_by: BTreeSet<PublicKey>,
    /// How much it may hold, and be asked.
    pub quota: Quota,
}

/// A keyspace that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyspace {
    /// Its name.
    pub name: String,
    /// Counts the keyspaces of this name, from 1.
    pub generation: u64,
    /// The hash of both.
    pub id: KeyspaceId,
    /// Replicas and answers.
    pub quorums: Versioned<Quorums>,
    /// What an acknowledgement promises.
    pub durability: Versioned<Durability>,
    /// What concurrent versions mean.
    pub reconcile: Versioned<Reconcile>,
    /// Of a hundred gets, how many ask all owners.
    #[serde(default = "usual_read_repair")]
    pub read_repair_percent: Versioned<u32>,
    /// The care for its merges.
    #[serde(default)]
    pub merging: Versioned<Merging>,
    /// The module that is tried beside the pinned one.
    #[serde(default)]
    pub trial: Versioned<Option<Trial>>,
    /// What it was pinned to, and what was tried.
    #[serde(default)]
    pub chronicle: Chronicle,
    /// Whose signatures it demands of modules; none if it demands none. As long as nobody has named
    /// any it is not written, as before there was it.
    #[serde(default, skip_serializing_if = "is_untouched")]
    pub signed_by: Versioned<BTreeSet<PublicKey>>,
    /// How much it may hold, and be asked. Likewise.
    #[serde(default, skip_serializing_if = "is_untouched")]
    pub quota: Versioned<Quota>,
    /// How `quorums` come to have another n. Likewise.
    #[serde(default, skip_serializing_if = "Resizes::is_untouched")]
    pub resizes: Resizes,
}

fn is_untouched<T>(value: &Versioned<T>) -> bool {
    value.version == 0
}

fn usual_read_repair() -> Versioned<u32> {
    Versioned::new(READ_REPAIR_PERCENT)
}

impl Keyspace {
    /// Generation `generation` of what `spec` asks for.
    pub fn new(spec: &KeyspaceSpec, generation: u64) -> Self {
        let mut signed_by = Versioned::default();
        signed_by.set(spec.signed_by.clone());
        let mut quota = Versioned::default();
        quota.set(spec.quota);
        Keyspace {
            name: spec.name.clone(),
            generation,
            id: KeyspaceId::of(&spec.name, generation),
            quorums: Versioned::new(spec.quorums),
            durability: Versioned::new(spec.durability),
            reconcile: Versioned::new(spec.reconcile),
            read_repair_percent: Versioned::new(spec.read_repair_percent),
            merging: Versioned::new(spec.merging),
            trial: Versioned::default(),
            chronicle: Chronicle::default(),
            signed_by,
            quota,
            resizes: Resizes::default(),
        }
    }

    fn stage(&self) -> Option<(Stage, Quorums)> {
        self.resizes.present.as_ref().map(|resize| (resize.stage, resize.to))
    }

    /// What gets ask for.
    pub fn reading(&self) -> Quorums {
        match self.stage() {
            Some((Stage::Turn | Stage::Settle, to)) => to,
            _ => self.quorums.value,
        }
    }

    /// What puts ask for; while n changes, with the larger n, and what they ask for beside that: of
    /// the first of the same owners.
    pub fn writing(&self) -> (Quorums, Option<Quorums>) {
        let now = self.quorums.value;
        match self.stage() {
            None => (now, None),
            Some((Stage::Settle, to)) => (to, None),
            Some((_, to)) if to.n > now.n => (to, Some(now)),
            Some((_, to)) => (now, Some(to)),
        }
    }

    /// How many of a partition's owners hold its keys: while n changes, the larger n.
    pub fn holders(&self) -> usize {
        self.counts().max().unwrap_or_default()
    }

    /// How many of a partition's owners gets or puts may ask for: while n changes, both.
    pub fn counts(&self) -> impl Iterator<Item = usize> {
        let to = self.stage().map(|(_, to)| to.n as usize);
        [self.quorums.value.n as usize].into_iter().chain(to)
    }

    /// What concurrent versions of `key` mean: the pinned policy, with the canary's module if the
    /// key is in its share.
    pub fn reconcile_of(&self, key: &[u8]) -> Reconcile {
        let pinned = self.reconcile.value;
        let canary = self.trial.value.as_ref().and_then(|trial| trial.module_of(key));
        canary.and_then(|module| pinned.with_module(module)).unwrap_or(pinned)
    }

    /// The module that it was pinned to before, if it is to be tried where the pinned one fails.
    pub fn previous_module(&self) -> Option<ModuleDigest> {
        let pinned = self.reconcile.value.module()?;
        self.merging.value.previous.then(|| self.chronicle.module_before(pinned)).flatten()
    }

    /// The modules that it needs: the pinned one, the one on trial, and what stands in for it.
    pub fn modules(&self) -> impl Iterator<Item = ModuleDigest> {
        let tried = self.trial.value.as_ref().map(|trial| trial.module);
        self.reconcile.value.module().into_iter().chain(tried).chain(self.previous_module())
    }

    /// Pins it. A trial ends with that: it was beside another module.
    fn pin(&mut self, reconcile: Reconcile, at_ms: u64, reason: &str) {
        if self.reconcile.value == reconcile {
            return;
        }
        self.end_trial(at_ms, reason);
        self.note_origin();
        self.reconcile.change(reconcile);
        self.chronicle.note(at_ms, What::Pinned(reconcile), reason);
    }

    fn end_trial(&mut self, at_ms: u64, reason: &str) {
        if let Some(trial) = self.trial.value.take() {
            self.trial.version += 1;
            self.chronicle.note(at_ms, What::TrialEnded(trial.module), reason);
        }
    }

    /// The way back leads to what it was pinned to when it was made, of which there is no entry.
    fn note_origin(&mut self) {
        if self.chronicle.is_empty() {
            self.chronicle.note(0, What::Pinned(self.reconcile.value), "as it was");
        }
    }

    fn begin_trial(&mut self, trial: Trial, reason: &str) {
        let at_ms = trial.began_at_ms;
        self.end_trial(at_ms, reason);
        self.note_origin();
        self.chronicle.note(at_ms, What::Tried(trial.clone()), reason);
        self.trial.change(Some(trial));
    }

    /// Changes whenever a field does: for updates that must not overwrite one another.
    pub fn etag(&self) -> String {
        hex::encode(&super::versioned::digest(self)[..8])
    }

    fn join(&mut self, other: &Keyspace) {
        self.quorums.join(&other.quorums);
        self.durability.join(&other.durability);
        self.reconcile.join(&other.reconcile);
        self.read_repair_percent.join(&other.read_repair_percent);
        self.merging.join(&other.merging);
        self.trial.join(&other.trial);
        self.chronicle.join(&other.chronicle);
        self.signed_by.join(&other.signed_by);
        self.quota.join(&other.quota);
        self.resizes.join(&other.resizes);
    }
}

/// What is known of one name: the keyspace that has it, and the generations that had it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyspaceState {
    /// The highest generation that was deleted, 0 if none was.
    pub deleted_through: u64,
    /// The latest generation, which may be deleted.
    latest: Option<Keyspace>,
}

impl KeyspaceState {
    /// The keyspace, unless it is deleted.
    pub fn live(&self) -> Option<&Keyspace> {
        self.latest.as_ref().filter(|keyspace| keyspace.generation > self.deleted_through)
    }

    /// Makes the next generation.
    pub(super) fn create(&mut self, spec: &KeyspaceSpec) {
        self.latest = Some(Keyspace::new(spec, self.deleted_through + 1));
    }

    /// Gives the present generation what `spec` asks for. A field that has it stays as it is, so
    /// that a concurrent change of it by another operator is not overruled for nothing.
    pub(super) fn update(&mut self, spec: &KeyspaceSpec, at_ms: u64, reason: &str) {
        if let Some(keyspace) = &mut self.latest {
            keyspace.quorums.set(spec.quorums);
            keyspace.durability.set(spec.durability);
            keyspace.pin(spec.reconcile, at_ms, reason);
            keyspace.read_repair_percent.set(spec.read_repair_percent);
            keyspace.merging.set(spec.merging);
            keyspace.signed_by.set(spec.signed_by.clone());
            keyspace.quota.set(spec.quota);
        }
    }

    /// Has n, and with it r and w, become others.
    pub(super) fn begin_resize(&mut self, to: Quorums) {
        if let Some(keyspace) = &mut self.latest {
            keyspace.resizes.begin(to);
        }
    }

    /// Has a change of n given up.
    pub(super) fn cancel_resize(&mut self) {
        let keyspace = self.latest.as_mut();
        if let Some(resize) = keyspace.and_then(|keyspace| keyspace.resizes.present.as_mut()) {
            resize.is_cancelled = true;
        }
    }

    /// A member tells how far it is with a change of n, and what that leads to is done.
    pub(super) fn go_on_resizing<'a>(
        &mut self,
        (member, report): (NodeId, Report),
        members: impl Iterator<Item = &'a NodeId> + Clone,
        ring_version: u64,
    ) {
        let Some(keyspace) = &mut self.latest else { return };
        let Some(resize) = &mut keyspace.resizes.present else { return };
        let known = resize.reports.entry(member).or_default();
        *known = (*known).max(report);
        let to = resize.to;
        match resize.outlook(members, ring_version) {
            Outlook::Waits => {}
            Outlook::Stage(stage) => resize.stage = stage,
            Outlook::Done => {
                keyspace.resizes.present = None;
                keyspace.quorums.change(to);
            }
            Outlook::Cancelled => keyspace.resizes.present = None,
        }
    }

    /// Begins a trial in the place of the one there is, or ends that.
    pub(super) fn try_module(&mut self, trial: Option<Trial>, at_ms: u64, reason: &str) {
        if let Some(keyspace) = &mut self.latest {
            match trial {
                Some(trial) => keyspace.begin_trial(trial, reason),
                None => keyspace.end_trial(at_ms, reason),
            }
        }
    }

    /// Deletes every generation up to the present one.
    pub(super) fn delete(&mut self) {
        if let Some(keyspace) = self.latest.take() {
            self.deleted_through = self.deleted_through.max(keyspace.generation);
        }
    }

    pub(super) fn join(&mut self, other: &KeyspaceState) {
        self.deleted_through = self.deleted_through.max(other.deleted_through);
        if let Some(theirs) = &other.latest {
            match &mut self.latest {
                Some(ours) if ours.generation == theirs.generation => ours.join(theirs),
                Some(ours) if ours.generation > theirs.generation => {}
                _ => self.latest = Some(theirs.clone()),
            }
        }
        // A deleted definition is forgotten, else two orders of joining would differ in it.
        let deleted_through = self.deleted_through;
        self.latest.take_if(|keyspace| keyspace.generation <= deleted_through);
    }
}
