//! What a node has seen of modules on trial.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stator_core::catalogue::{Catalogue, Keyspace, Trial, TrialFigures, TrialKind};
use stator_core::divergence::{Outcome, Resolution};
use stator_core::id::{KeyspaceId, ModuleDigest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Answer;
use super::record::Comparison;

/// Merges for comparison that wait or run at a time; beyond them a merge is not compared.
const COMPARED_MAX: usize = 256;
/// Ends of trials that wait to be carried out.
const OVER_MAX: usize = 64;

/// A trial that is beyond its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialOver {
    /// The keyspace's name.
    pub keyspace: String,
    /// The candidate.
    pub module: ModuleDigest,
    /// Why, in words.
    pub why: String,
}

/// The trials that this node takes part in.
pub(super) struct Trials {
    seen: Mutex<BTreeMap<(KeyspaceId, Trial), Seen>>,
    compared: Arc<Semaphore>,
    over: mpsc::Sender<TrialOver>,
}

#[derive(Debug, Default)]
struct Seen {
    figures: TrialFigures,
    /// Whether its end has been asked for.
    is_over: bool,
}

impl Trials {
    pub(super) fn new() -> (Self, mpsc::Receiver<TrialOver>) {
        let (over, receiver) = mpsc::channel(OVER_MAX);
        let compared = Arc::new(Semaphore::new(COMPARED_MAX));
        (Trials { seen: Mutex::default(), compared, over }, receiver)
    }

    /// Room for a comparison, if there is some.
    pub(super) fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.compared.clone().try_acquire_owned().ok()
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<(KeyspaceId, Trial), Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what candidate and pinned module made of the same.
    pub(super) fn compare(
        &self,
        keyspace: &Keyspace,
        trial: &Trial,
        [candidate, pinned]: [&Answer; 2],
    ) -> Comparison {
        let compared = comparison(candidate, pinned);
        let mut all = self.seen();
        let seen = all.entry((keyspace.id, trial.clone())).or_default();
        let figures = &mut seen.figures;
        figures.merges += 1;
        match compared {
            Comparison::Same => {}
            Comparison::Differs => figures.differing += 1,
            Comparison::CandidateFailed => figures.failures += 1,
            Comparison::PinnedFailed => figures.mended += 1,
        }
        if let (Ok(candidate), Ok(pinned)) = (candidate, pinned) {
            for (place, made) in [candidate, pinned].into_iter().enumerate() {
                figures.fuel[place] += made.fuel_used;
                figures.bytes[place] += bytes(made);
            }
        }
        if let TrialKind::Canary { limits, .. } = &trial.kind
            && !seen.is_over
            && let Some(why) = seen.figures.beyond(limits)
        {
            let (keyspace, module) = (keyspace.name.clone(), trial.module);
            // If there is no room, the next merge finds it beyond its limits again.
            seen.is_over = self.over.try_send(TrialOver { keyspace, module, why }).is_ok();
        }
        compared
    }

    pub(super) fn figures(&self, keyspace: &Keyspace) -> TrialFigures {
        let trial = keyspace.trial.value.clone();
        let seen = trial.and_then(|trial| Some(self.seen().get(&(keyspace.id, trial))?.figures));
        seen.unwrap_or_default()
    }

    /// Forgets those that the catalogue has not got.
    pub(super) fn keep(&self, catalogue: &Catalogue) {
        self.seen().retain(|(id, trial), _| {
            let keyspace = catalogue.keyspace_by_id(*id);
            keyspace.is_some_and(|keyspace| keyspace.trial.value.as_ref() == Some(trial))
        });
    }
}

fn comparison(candidate: &Answer, pinned: &Answer) -> Comparison {
    match (candidate, pinned) {
        (Ok(candidate), Ok(pinned)) if candidate.outcome == pinned.outcome => Comparison::Same,
        (Ok(_), Ok(_)) => Comparison::Differs,
        (Err(_), Ok(_)) => Comparison::CandidateFailed,
        (Ok(_), Err(_)) => Comparison::PinnedFailed,
        // Neither can: the candidate makes nothing worse.
        (Err(_), Err(_)) => Comparison::Same,
    }
}

fn bytes(resolution: &Resolution) -> u64 {
    match &resolution.outcome {
        Outcome::Value(value) => value.len() as u64,
        Outcome::Delete | Outcome::KeepSiblings => 0,
    }
}
