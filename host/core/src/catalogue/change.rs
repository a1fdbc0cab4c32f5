//! What operators change: checked against the catalogue, then made in it.

use std::collections::BTreeSet;

use super::access::{AccessChange, AccessError};
use super::keyspace::{Durability, Keyspace, KeyspaceSpec, NAME_BYTES_MAX, Quorums, Reconcile};
use super::merging::{HISTORY_MS_MAX, Merging};
use super::signing::{self, PublicKey, SIGNATURES_MAX, SIGNERS_MAX};
use super::stage::{self, StageError};
use super::{Catalogue, Member, Module, Quota, RingChange, Stage, Trial, TrialKind};
use crate::id::{ModuleDigest, NodeId};

/// A change of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogueChange {
    /// Makes a keyspace.
    CreateKeyspace(KeyspaceSpec),
    /// Changes what a keyspace promises.
    UpdateKeyspace {
        /// Its name.
        name: String,
        /// Its etag as the operator saw it, if the update shall depend on it.
        etag: Option<String>,
        /// What is to be other.
        update: KeyspaceUpdate,
    },
    /// Deletes the keyspace of this name, with all that it holds.
    DeleteKeyspace {
        /// Its name.
        name: String,
        /// Its etag as the operator saw it, if the delete shall depend on it.
        etag: Option<String>,
    },
    /// Makes a module known; its bytes are on the node that makes the change. One that is known
    /// already stays as it is, but for its class, which may rise, and its signatures, to which those
    /// are added.
    AddModule {
        /// The module.
        digest: ModuleDigest,
        /// Its description.
        module: Module,
    },
    /// Deletes a module that no keyspace needs.
    DeleteModule(ModuleDigest),
    /// Begins a trial of a module in a keyspace, in the place of the one there is.
    BeginTrial {
        /// The keyspace's name.
        name: String,
        /// The trial.
        trial: Trial,
        /// Why, in words.
        reason: String,
    },
    /// Ends the trial of a module, if that is what is tried.
    EndTrial {
        /// The keyspace's name.
        name: String,
        /// The candidate.
        module: ModuleDigest,
        /// When: milliseconds since 1970 (UTC).
        at_ms: u64,
        /// Why, in words.
        reason: String,
    },
    /// Changes what somebody may do.
    Access {
        /// Their name.
        name: String,
        /// The change.
        change: AccessChange,
    },
    // Changes of the ring; `stage` makes them.
    /// Makes a node a member without a seat, unless it is one, and stages the change that gives
    /// it a seat.
    Admit {
        /// The node.
        node: NodeId,
        /// Its addresses and labels.
        member: Box<Member>,
        /// A join, or a replacement.
        change: RingChange,
    },
    /// Stages a change of the ring. What is staged already is not staged twice.
    StageRing(RingChange),
    /// Drops all staged changes.
    CancelRing,
    /// Removes a node that has given its seat up and handed all over.
    Retire {
        /// The node.
        node: NodeId,
        /// When: milliseconds since 1970 (UTC).
        at_ms: u64,
    },
}

/// New values of a keyspace's fields; `None` leaves a field as it is. The name is not among them: it
/// is an identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyspaceUpdate {
    /// Replicas of each key. Another n comes about in stages, and r and w with it; the present one
    /// cancels a change to another.
    pub n: Option<u32>,
    /// Replicas that must answer a get.
    pub r: Option<u32>,
    /// Replicas that must acknowledge a put.
    pub w: Option<u32>,
    /// What an acknowledgement promises.
    pub durability: Option<Durability>,
    /// What concurrent versions mean.
    pub reconcile: Option<Reconcile>,
    /// Of a hundred gets, how many ask all owners.
    pub read_repair_percent: Option<u32>,
    /// The care for its merges.
    pub merging: Option<Merging>,
    /// Whose signatures it demands of modules.
    pub signed_by: Option<BTreeSet<PublicKey>>,
    /// How much it may hold, and be asked.
    pub quota: Option<Quota>,
    /// When: milliseconds since 1970 (UTC). The chronicle has it.
    pub at_ms: u64,
    /// Why, in words. The chronicle has it.
    pub reason: String,
}

/// What an update has to do with n.
enum Resizing {
    Nothing,
    Begins(Quorums),
    IsCancelled,
}

impl KeyspaceUpdate {
    fn quorums(&self, now: &Keyspace) -> Quorums {
        let Quorums { n, r, w } = now.quorums.value;
        Quorums { n: self.n.unwrap_or(n), r: self.r.unwrap_or(r), w: self.w.unwrap_or(w) }
    }

    /// What it has to do with n, if that is possible.
    fn resizing(&self, now: &Keyspace, catalogue: &Catalogue) -> Result<Resizing, ChangeError> {
        let (from, to) = (now.quorums.value, self.quorums(now));
        let is_about_quorums = (self.n, self.r, self.w) != (None, None, None);
        let Some(present) = now.resizes.present.as_ref().filter(|_| is_about_quorums) else {
            return match to.n == from.n {
                true => Ok(Resizing::Nothing),
                false => self.check_resize(now, to, catalogue).map(|()| Resizing::Begins(to)),
            };
        };
        let (name, stage) = (now.name.clone(), present.stage);
        match (self.n, self.r, self.w) {
            (Some(n), None, None) if n == from.n && stage < Stage::Turn => {
                Ok(Resizing::IsCancelled)
            }
            (Some(n), None, None) if n == present.to.n => Ok(Resizing::Nothing),
            _ if to == present.to => Ok(Resizing::Nothing),
            _ => Err(ChangeError::ResizeUnderWay { name, from: from.n, to: present.to.n }),
        }
    }

    fn check_resize(
        &self,
        now: &Keyspace,
        to: Quorums,
        catalogue: &Catalogue,
    ) -> Result<(), ChangeError> {
        let (from, ring) = (now.quorums.value, &catalogue.ring);
        check_quorums(to, catalogue)?;
        let sees_last = |quorums: Quorums| quorums.r + quorums.w > quorums.n;
        let is_meant = self.r.is_some() && self.w.is_some();
        if sees_last(from) && !sees_last(to) && !is_meant {
            let Quorums { n, r, w } = to;
            return Err(ChangeError::ResizeTooWeak { n, r, w });
        }
        let owners = ring.replicas() as u32;
        if to.n > from.n && to.n > owners {
            return Err(ChangeError::TooFewOwners { n: to.n, owners });
        }
        match ring.moves().len() {
            0 => Ok(()),
            moves => Err(ChangeError::ResizeAmongMoves { moves }),
        }
    }

    /// What the keyspace would be asked for, so that it is checked like a new one.
    fn spec(&self, now: &Keyspace) -> KeyspaceSpec {
        let quorums = now.quorums.value;
        let asked = self.quorums(now);
        KeyspaceSpec {
            name: now.name.clone(),
            // Those with another n come in stages.
            quorums: if asked.n == quorums.n { asked } else { quorums },
            durability: self.durability.unwrap_or(now.durability.value),
            reconcile: self.reconcile.unwrap_or(now.reconcile.value),
            read_repair_percent: self.read_repair_percent.unwrap_or(now.read_repair_percent.value),
            merging: self.merging.unwrap_or(now.merging.value),
            signed_by: self.signed_by.clone().unwrap_or_else(|| now.signed_by.value.clone()),
            quota: self.quota.unwrap_or(now.quota.value),
        }
    }
}

/// A change that is not made. The catalogue is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The node belongs to no cluster.
    #[error("this node belongs to no cluster yet: run `stator cluster init` first")]
    NoCluster,
    /// The node was removed from its cluster.
    #[error(
        "this node was removed from its cluster with ring version {ring_version}, and changes \
         nothing any more: ask another node"
    )]
    Removed {
        /// The ring that it was removed with.
        ring_version: u64,
    },
    /// Who may do what cannot be so.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The name is taken.
    #[error("keyspace {0:?} exists already")]
    KeyspaceExists(String),
    /// There is none of this name.
    #[error("there is no keyspace {0:?}")]
    NoSuchKeyspace(String),
    /// The keyspace changed since the operator looked.
    #[error("keyspace {name:?} was changed meanwhile: its etag is {found:?}, not {expected:?}")]
    EtagMismatch {
        /// Its name.
        name: String,
        /// What it has.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// A name that cannot be one.
    #[error(
        "{name:?} cannot be a keyspace's name: 1 to {NAME_BYTES_MAX} characters of a-z, 0-9, '-', \
         '_' and '.' are possible, the first one a letter or digit"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// n, r or w do not fit each other.
    #[error("n={n}, r={r}, w={w}: r and w must be from 1 to n, and n at least 1")]
    BadQuorums {
        /// Replicas.
        n: u32,
        /// Answers to a get.
        r: u32,
        /// Acknowledgements of a put.
        w: u32,
    },
    /// More than all gets cannot ask all owners.
    #[error("read repair of {percent} % of all gets: 0 to 100 are possible")]
    BadReadRepair {
        /// What was asked for.
        percent: u32,
    },
    /// Nobody keeps a history for so long.
    #[error("a history of {days} days: {} at most", HISTORY_MS_MAX / 86_400_000)]
    HistoryTooLong {
        /// What was asked for, in days.
        days: u64,
    },
    /// The ring keeps fewer owners per partition.
    #[error(
        "n={n} is more than the {replicas} owners that a partition of this cluster's ring can \
         have: raise that with `stator cluster replicas` first"
    )]
    TooManyReplicas {
        /// Replicas asked for.
        n: u32,
        /// Owners per partition.
        replicas: u32,
    },
    /// The cluster has too few nodes.
    #[error(
        "n={n} needs as many nodes, and the ring has {owners}: add nodes with `stator cluster join` \
         and commit them first; nothing was changed"
    )]
    TooFewOwners {
        /// Replicas asked for.
        n: u32,
        /// Owners that a partition has.
        owners: u32,
    },
    /// A quorum of the new n would not meet the others.
    #[error(
        "with n={n}, r={r} and w={w} a get might miss what was written last, which it does not now \
         (r + w > n): give r and w together with n; nothing was changed"
    )]
    ResizeTooWeak {
        /// Replicas asked for.
        n: u32,
        /// Answers to a get.
        r: u32,
        /// Acknowledgements of a put.
        w: u32,
    },
    /// Another change of n has not ended.
    #[error(
        "keyspace {name:?} is on its way from n={from} to n={to}, and n, r and w stay as they are until \
         that is done: `stator keyspace describe {name}` tells how far it is; nothing was changed"
    )]
    ResizeUnderWay {
        /// The keyspace.
        name: String,
        /// What its n is.
        from: u32,
        /// What it is to be.
        to: u32,
    },
    /// Partitions are being handed over.
    #[error(
        "{moves} ownerships are still to be handed over by an earlier change of the ring: try again \
         when `stator cluster status` shows none; nothing was changed"
    )]
    ResizeAmongMoves {
        /// How many.
        moves: usize,
    },
    /// The module was never pushed.
    #[error("module {0} is not known to this cluster: push it first, with `stator module push`")]
    NoSuchModule(ModuleDigest),
    /// The keyspace demands a signature that the module has not got.
    #[error(
        "keyspace {keyspace:?} merges by modules only that {demanded} signed, and module {module} is \
         signed by {found}: sign it with `stator module sign`, push it with the signature, then try \
         again; nothing was changed"
    )]
    NotSigned {
        /// The keyspace.
        keyspace: String,
        /// The module.
        module: ModuleDigest,
        /// Whose signature is demanded.
        demanded: String,
        /// Whose signatures it has.
        found: String,
    },
    /// Too many keys.
    #[error("{found} keys: a keyspace names {SIGNERS_MAX} at most")]
    TooManySigners {
        /// How many there would be.
        found: usize,
    },
    /// Too many signatures.
    #[error(
        "the module would have {found} signatures, {SIGNATURES_MAX} at most are kept: delete it and \
         push it again with those that count; nothing was changed"
    )]
    TooManySignatures {
        /// How many there would be.
        found: usize,
    },
    /// A keyspace needs the module.
    #[error(
        "module {module} is in use in keyspace {keyspace:?}: activate another one there, or end its \
         trial, first"
    )]
    ModuleInUse {
        /// The module.
        module: ModuleDigest,
        /// One of the keyspaces.
        keyspace: String,
    },
    /// A trial needs a module to be compared with.
    #[error(
        "keyspace {0:?} merges by no module, so there is nothing to try one beside: give it one \
         with `stator keyspace update --reconcile module`"
    )]
    NothingToTryBeside(String),
    /// The candidate merges already.
    #[error("keyspace {keyspace:?} is pinned to module {module} already")]
    TrialOfThePinned {
        /// The keyspace.
        keyspace: String,
        /// The module.
        module: ModuleDigest,
    },
    /// A share of keys that is none.
    #[error("a canary of {percent} % of the keys: 1 to 100 are possible")]
    BadShare {
        /// What was asked for.
        percent: u32,
    },
    /// There is no such trial.
    #[error("keyspace {keyspace:?} does not try module {module}")]
    NoSuchTrial {
        /// The keyspace.
        keyspace: String,
        /// The module.
        module: ModuleDigest,
    },
    /// It does not fit the ring, its members, or what is staged already.
    #[error(transparent)]
    Ring(#[from] StageError),
}

impl CatalogueChange {
    /// Makes the change in `catalogue`.
    pub fn apply(&self, catalogue: &mut Catalogue) -> Result<(), ChangeError> {
        match self {
            CatalogueChange::CreateKeyspace(spec) => {
                check_name(&spec.name, catalogue)?;
                check(spec, catalogue)?;
                signing::check(catalogue, &spec.name, &spec.signed_by, spec.reconcile.module())?;
                catalogue.keyspaces.entry(spec.name.clone()).or_default().create(spec);
                Ok(())
            }
            CatalogueChange::DeleteKeyspace { name, etag } => {
                current(catalogue, name, etag.as_deref())?;
                catalogue.keyspaces.entry(name.clone()).or_default().delete();
                Ok(())
            }
            CatalogueChange::UpdateKeyspace { name, etag, update } => {
                let now = current(catalogue, name, etag.as_deref())?;
                let resizing = update.resizing(now, catalogue)?;
                let spec = update.spec(now);
                check(&spec, catalogue)?;
                check_signed(now, &spec, catalogue)?;
                let state = catalogue.keyspaces.entry(name.clone()).or_default();
                state.update(&spec, update.at_ms, &update.reason);
                match resizing {
                    Resizing::Nothing => {}
                    Resizing::Begins(to) => state.begin_resize(to),
                    Resizing::IsCancelled => state.cancel_resize(),
                }
                Ok(())
            }
            CatalogueChange::AddModule { digest, module } => add_module(catalogue, digest, module),
            CatalogueChange::DeleteModule(digest) => delete_module(catalogue, digest),
            CatalogueChange::BeginTrial { name, trial, reason } => {
                check_trial(current(catalogue, name, None)?, trial, catalogue)?;
                let state = catalogue.keyspaces.entry(name.clone()).or_default();
                state.try_module(Some(trial.clone()), trial.began_at_ms, reason);
                Ok(())
            }
            CatalogueChange::EndTrial { name, module, at_ms, reason } => {
                let tried = current(catalogue, name, None)?.trial.value.as_ref();
                if tried.is_none_or(|trial| trial.module != *module) {
                    let keyspace = name.clone();
                    return Err(ChangeError::NoSuchTrial { keyspace, module: *module });
                }
                let state = catalogue.keyspaces.entry(name.clone()).or_default();
                state.try_module(None, *at_ms, reason);
                Ok(())
            }
            CatalogueChange::Access { name, change } => {
                Ok(catalogue.access.change(name, change)?)
            }
            CatalogueChange::Admit { node, member, change } => {
                stage::admit(catalogue, *node, member)?;
                Ok(stage::stage(catalogue, change)?)
            }
            CatalogueChange::StageRing(change) => Ok(stage::stage(catalogue, change)?),
            CatalogueChange::CancelRing => Ok(stage::cancel(catalogue)?),
            CatalogueChange::Retire { node, at_ms } => Ok(stage::retire(catalogue, *node, *at_ms)?),
        }
    }
}

/// The keyspace called `name`, if it is still as the operator saw it.
fn current<'a>(
    catalogue: &'a Catalogue,
    name: &str,
    etag: Option<&str>,
) -> Result<&'a Keyspace, ChangeError> {
    let keyspace =
        catalogue.keyspace(name).ok_or_else(|| ChangeError::NoSuchKeyspace(name.to_owned()))?;
    let found = keyspace.etag();
    match etag {
        Some(expected) if expected != found => Err(ChangeError::EtagMismatch {
            name: name.to_owned(),
            found,
            expected: expected.to_owned(),
        }),
        _ => Ok(keyspace),
    }
}

fn check_name(name: &str, catalogue: &Catalogue) -> Result<(), ChangeError> {
    if !is_name(name) {
        return Err(ChangeError::BadName { name: name.to_owned() });
    }
    match catalogue.keyspace(name) {
        Some(_) => Err(ChangeError::KeyspaceExists(name.to_owned())),
        None => Ok(()),
    }
}

/// What holds for new keyspaces and for changed ones.
fn check(spec: &KeyspaceSpec, catalogue: &Catalogue) -> Result<(), ChangeError> {
    check_quorums(spec.quorums, catalogue)?;
    if spec.read_repair_percent > 100 {
        return Err(ChangeError::BadReadRepair { percent: spec.read_repair_percent });
    }
    if spec.merging.history_ms > HISTORY_MS_MAX {
        return Err(ChangeError::HistoryTooLong { days: spec.merging.history_ms / 86_400_000 });
    }
    match spec.reconcile.module() {
        Some(digest) => must_exist(catalogue, digest),
        None => Ok(()),
    }
}

fn check_quorums(quorums: Quorums, catalogue: &Catalogue) -> Result<(), ChangeError> {
    let Quorums { n, r, w } = quorums;
    if n == 0 || r == 0 || w == 0 || r > n || w > n {
        return Err(ChangeError::BadQuorums { n, r, w });
    }
    let replicas = catalogue.ring.replicas_max() as u32;
    match n > replicas {
        true => Err(ChangeError::TooManyReplicas { n, replicas }),
        false => Ok(()),
    }
}

fn must_exist(catalogue: &Catalogue, digest: ModuleDigest) -> Result<(), ChangeError> {
    catalogue.module(&digest).map(drop).ok_or(ChangeError::NoSuchModule(digest))
}

/// What an update leads to is looked at only if it has to do with it: else the way out of what two
/// operators made at the same time would be barred.
fn check_signed(
    now: &Keyspace,
    spec: &KeyspaceSpec,
    catalogue: &Catalogue,
) -> Result<(), ChangeError> {
    let is_pinned_so = spec.reconcile == now.reconcile.value;
    if is_pinned_so && spec.signed_by == now.signed_by.value {
        return Ok(());
    }
    // Another module ends the trial.
    let tried = now.trial.value.as_ref().filter(|_| is_pinned_so).map(|trial| trial.module);
    let modules = spec.reconcile.module().into_iter().chain(tried);
    signing::check(catalogue, &now.name, &spec.signed_by, modules)
}

fn add_module(
    catalogue: &mut Catalogue,
    digest: &ModuleDigest,
    module: &Module,
) -> Result<(), ChangeError> {
    let before = catalogue.module(digest).map(|known| known.signatures.clone());
    let signatures = before.unwrap_or_default().with(&module.signatures)?;
    let known = catalogue.modules.entry(*digest).or_insert_with(|| module.clone());
    if known.is_deleted {
        *known = Module { generation: known.generation + 1, ..module.clone() };
    }
    known.class = known.class.max(module.class);
    known.laws = known.laws.take().or_else(|| module.laws.clone());
    known.signatures = signatures;
    Ok(())
}

fn delete_module(catalogue: &mut Catalogue, digest: &ModuleDigest) -> Result<(), ChangeError> {
    must_exist(catalogue, *digest)?;
    if let Some(keyspace) = catalogue.keyspaces_with(digest).next() {
        let keyspace = keyspace.name.clone();
        return Err(ChangeError::ModuleInUse { module: *digest, keyspace });
    }
    catalogue.modules.entry(*digest).and_modify(|module| module.is_deleted = true);
    Ok(())
}

fn check_trial(
    keyspace: &Keyspace,
    trial: &Trial,
    catalogue: &Catalogue,
) -> Result<(), ChangeError> {
    let (name, module) = (keyspace.name.clone(), trial.module);
    must_exist(catalogue, module)?;
    signing::check(catalogue, &name, &keyspace.signed_by.value, [module])?;
    match (keyspace.reconcile.value.module(), &trial.kind) {
        (None, _) => Err(ChangeError::NothingToTryBeside(name)),
        (Some(pinned), _) if pinned == module => {
            Err(ChangeError::TrialOfThePinned { keyspace: name, module })
        }
        (Some(_), TrialKind::Canary { percent, .. }) if !(1..=100).contains(percent) => {
            Err(ChangeError::BadShare { percent: *percent })
        }
        (Some(_), TrialKind::Canary { .. } | TrialKind::Shadow) => Ok(()),
    }
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(plain)
        && name.chars().all(|c| plain(c) || "-_.".contains(c))
}
