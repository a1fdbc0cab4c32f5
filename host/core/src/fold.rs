//! Folds: siblings become one version, under the *union of their dots*.
//!
//! A view leaves siblings as they are and merges them for every reader. A fold stores the merge
//! in their place. It is no write: it mints no dot and kills none. The vector stays, every dot
//! that was live stays live, and only the version that stands under those dots is another. So it
//! travels and is joined like any object ([`Siblings::sync`]), nobody waits for it, and losing it
//! loses nothing. A context that covers the folded dots kills the fold: a put or delete that
//! races with a fold wins exactly as it would have without it. A write-back of the merged value
//! under a fresh dot would come back after a delete that had seen all there was.
//!
//! # Why nothing is lost
//! Say that a version *holds* a dot if the dot is among its [inputs](crate::version::Origin::inputs),
//! and that its payload then contains that write's contribution. For every live dot y of every
//! object, the version under y holds y. By induction over how objects come to be:
//! - *A write*: the new version stands under its own dot and holds it. Others keep theirs.
//! - *A fold* of an object: every live dot y had a version that holds y. The fold's inputs are
//!   the union over all versions, so it holds y; its payload is the module's join of all
//!   payloads, and a join contains what it joins.
//! - *A sync*: under a live dot y stands one of the two versions that stood there, or the only
//!   one. Each holds y, whichever is kept.
//!
//! # Why replicas agree
//! Which version is kept under a dot is decided by a total order, [`Version::outranks`], so a
//! sync is the larger state of every dot and therefore commutative, associative and idempotent,
//! folds or not. A fold outranks what it replaces (so that it is not undone by a replica that
//! has not heard of it): let X and Y be different versions of an object under the dots x and y,
//! and suppose that the fold holds no more than Y, so that Y holds x. Y was made where x was
//! live (a version travels with a vector that has seen its inputs, and what was dead then is dead
//! for all who know Y), so it was put under x as well, and X stands there because it outranks Y.
//! Then X holds as much as Y, so all of it, so y, and by the same argument Y outranks X: they are
//! the same. Hence a fold of different versions holds strictly more than each.
//!
//! A fold is a function of the writes it holds: every field is a union, intersection, minimum or
//! maximum over its inputs, and so is the payload if the module is a join with canonical
//! bytes. Replicas that fold apart, in any order, get the same bytes. Two folds that share some
//! dots meet as versions and fold again.
//!
//! # A context that covers only some of the inputs
//! Of a fold of a and b, a *put* whose context has seen only b kills dot b; the fold stays under a
//! and still contains b. That is what a join means: what the put derived from b contains b too
//! (the derived law that a module is checked for). A *delete* that has seen only b means b to be
//! gone, and no rule can take it out of the fold. Two things keep this from happening:
//! - only what *all* owners were seen to hold alike is folded, so every context that is read
//!   from an owner afterwards covers all inputs or none;
//! - where the fold is known such a delete is refused before it is minted
//!   ([`WriteRefused::PartlyFolded`](crate::write::WriteRefused)): get again, then delete.
//!
//! What remains: a delete with a context from before the siblings met, minted at a node that the
//! fold has not reached. Then what it deleted stays inside the fold, beside the tombstone.
//! Nothing that was acknowledged is lost, and the next delete finds it.
//!
//! # What is not folded
//! Versions that expire (a fold would have to outlive some of its inputs), versions with fields
//! that this release does not know, more than [`INPUTS_MAX`] writes, and whatever the module fails
//! at or leaves to the client: those stay siblings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::causality::{LiveVersion, Siblings};
use crate::divergence::Outcome;
use crate::id::{Dot, ModuleDigest};
use crate::reconcile;
use crate::version::{Origin, Payload, Version};

/// The most writes that a fold stands for, dead ones included.
pub const INPUTS_MAX: usize = 2_000;

/// The most labels of a fold, as of any version: the first by name.
pub const LABELS_MAX: usize = 16;

/// What a module is to be asked about `siblings`, or what they are already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foldable {
    /// They are one version, or not to be folded.
    No,
    /// They differ in nothing but where they come from: no module need be asked.
    Equal(Outcome),
    /// They differ: these are for the module, as a reader's would be.
    Divergent(Vec<LiveVersion>),
}

/// Whether and how `siblings` can be folded.
pub fn foldable(siblings: &Siblings) -> Foldable {
    let stored = siblings.versions();
    let is_plain = |live: &LiveVersion| {
        live.version.expires_at_ms.is_none() && live.version.unknown.is_empty()
    };
    if stored.len() < 2 || !stored.iter().all(is_plain) || inputs(&stored).len() > INPUTS_MAX {
        return Foldable::No;
    }
    // Nothing expires, so the time does not matter.
    let mut united = reconcile::versions(siblings, 0);
    match (united.len(), united.pop()) {
        (1, Some(sole)) => Foldable::Equal(match &sole.version.payload {
            Payload::Value(value) => Outcome::Value(value.clone()),
            Payload::Tombstone => Outcome::Delete,
        }),
        (_, Some(last)) => {
            united.push(last);
            Foldable::Divergent(united)
        }
        (_, None) => Foldable::No,
    }
}

/// What `siblings` are once `module` has made `outcome` of all of them: the same dots, live and
/// dead, with one version under the live ones. `None` if they stay as they are.
pub fn fold(siblings: &Siblings, outcome: &Outcome, module: ModuleDigest) -> Option<Siblings> {
    let payload = match outcome {
        Outcome::Value(value) => Payload::Value(value.clone()),
        Outcome::Delete => Payload::Tombstone,
        Outcome::KeepSiblings => return None,
    };
    if foldable(siblings) == Foldable::No {
        return None;
    }
    let stored = siblings.versions();
    let versions = || stored.iter().map(|live| &*live.version);
    let version = Version {
        payload,
        written_at_ms: versions().map(|version| version.written_at_ms).max()?,
        expires_at_ms: None,
        schema: versions().map(|version| version.schema).max()?,
        origin: Origin::Fold { module, inputs: inputs(&stored) },
        base: shared_base(&stored),
        // A join needs none.
        past: None,
        labels: labels(&stored),
        // Those of the inputs stay known by the notes of the record.
        request: None,
        unknown: Vec::new(),
    };
    Some(siblings.united_as(Arc::new(version)))
}

/// All writes that the versions stand for, in ascending order.
fn inputs(versions: &[LiveVersion]) -> Vec<Dot> {
    let dots = versions.iter().flat_map(|live| live.version.origin.inputs());
    dots.copied().collect::<BTreeSet<Dot>>().into_iter().collect()
}

/// What every one of the versions is based on: the fold as a whole is based on nothing else.
fn shared_base(versions: &[LiveVersion]) -> Vec<Dot> {
    let Some((first, rest)) = versions.split_first() else { return Vec::new() };
    let is_shared = |dot: &&Dot| rest.iter().all(|live| live.version.base.contains(dot));
    first.version.base.iter().filter(is_shared).copied().collect()
}

/// The labels of all versions, the larger text where two differ: unlike "the later one" this
/// does not depend on what was folded first.
fn labels(versions: &[LiveVersion]) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for (name, text) in versions.iter().flat_map(|live| &live.version.labels) {
        let kept = labels.entry(name.clone()).or_default();
        if text > kept {
            kept.clone_from(text);
        }
    }
    labels.into_iter().take(LABELS_MAX).collect()
}
