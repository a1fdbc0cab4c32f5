//! A round as its leader sees it: which step it is at, who has still to answer, and what was
//! answered. See the head of [`super`].

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::collect::{Candidate, CollectAnswer, CollectAsk};
use crate::id::{KeyspaceId, NodeId, PartitionId, RequestId};

/// What all have to do before the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Mark,
    Clean,
    Fence,
    Seal,
    Drop,
}

/// What comes after an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Others have still to answer.
    Wait,
    /// All have answered.
    Step(Step),
    /// The round is over.
    Done,
    /// It cannot go on.
    GiveUp(String),
}

/// A round that this node leads.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) partition: PartitionId,
    /// What it depends on, when it began.
    pub(super) scope: [u8; 32],
    pub(super) until_ms: u64,
    step: Step,
    waiting: BTreeMap<RequestId, NodeId>,
    candidates: Vec<Candidate>,
    owners: Vec<NodeId>,
    members: Vec<NodeId>,
    /// How many owners agree, per candidate.
    agreed: Vec<usize>,
    /// The lives in which owners have marked, and in which members were clean.
    marked: BTreeMap<NodeId, u64>,
    clean: BTreeMap<NodeId, (u64, u64)>,
    floors: BTreeMap<NodeId, u64>,
    /// What owners had nothing of when they marked.
    absent: BTreeMap<NodeId, BTreeSet<(KeyspaceId, Bytes)>>,
}

impl Round {
    pub(super) fn new(
        partition: PartitionId,
        scope: [u8; 32],
        (owners, members): (Vec<NodeId>, Vec<NodeId>),
        candidates: Vec<Candidate>,
    ) -> Self {
        Round {
            partition,
            scope,
            until_ms: 0,
            step: Step::Mark,
            waiting: BTreeMap::new(),
            candidates,
            owners,
            members,
            agreed: Vec::new(),
            marked: BTreeMap::new(),
            clean: BTreeMap::new(),
            floors: BTreeMap::new(),
            absent: BTreeMap::new(),
        }
    }

    /// Begins a step. Gives whom to ask what, under which numbers.
    pub(super) fn begin(
        &mut self,
        step: Step,
        mut number: impl FnMut() -> RequestId,
    ) -> Vec<(RequestId, NodeId, CollectAsk)> {
        let nodes = match step {
            Step::Mark | Step::Drop => &self.owners,
            Step::Clean | Step::Fence | Step::Seal => &self.members,
        };
        self.step = step;
        self.agreed = vec![0; self.candidates.len()];
        self.waiting = nodes.iter().map(|node| (number(), *node)).collect();
        self.waiting.iter().map(|(request, node)| (*request, *node, self.ask(*node))).collect()
    }

    /// What it is about.
    pub(super) fn names(&self) -> impl Iterator<Item = (KeyspaceId, Bytes)> + '_ {
        self.candidates.iter().map(Candidate::name)
    }

    /// Whether the answer of `node` to this question is waited for.
    pub(super) fn waits_for(&self, node: NodeId, request: RequestId) -> bool {
        self.waiting.get(&request) == Some(&node)
    }

    /// Who has not answered yet.
    pub(super) fn silent(&self) -> Option<NodeId> {
        self.waiting.values().next().copied()
    }

    fn ask(&self, node: NodeId) -> CollectAsk {
        let is_owner = self.owners.contains(&node);
        let mut candidates = if is_owner { self.candidates.clone() } else { Vec::new() };
        if let Some(absent) = self.absent.get(&node).filter(|_| self.step == Step::Seal) {
            candidates.iter_mut().for_each(|c| c.was_absent = absent.contains(&c.name()));
        }
        let (life, arrivals) = self.clean.get(&node).copied().unwrap_or_default();
        match self.step {
            Step::Mark => CollectAsk::Mark(candidates),
            Step::Clean => CollectAsk::Clean,
            Step::Fence => CollectAsk::Fence,
            Step::Seal => {
                let floors = self.floors.iter().map(|(node, floor)| (*node, *floor)).collect();
                CollectAsk::Seal { life, arrivals, floors, candidates }
            }
            Step::Drop => CollectAsk::Drop { life, candidates },
        }
    }

    /// `node` has answered the question.
    pub(super) fn answered(
        &mut self,
        node: NodeId,
        request: RequestId,
        result: Result<CollectAnswer, String>,
    ) -> Next {
        self.waiting.remove(&request);
        let answer = match result {
            Ok(answer) => answer,
            Err(reason) => return Next::GiveUp(format!("{node}: {reason}")),
        };
        if self.take(node, answer).is_none() {
            return Next::GiveUp(format!("{node} was restarted, or answers something else"));
        }
        match self.waiting.is_empty() {
            true => self.next(),
            false => Next::Wait,
        }
    }

    /// Takes an answer in; `None` if it is no answer to the step.
    fn take(&mut self, node: NodeId, answer: CollectAnswer) -> Option<()> {
        match (self.step, answer) {
            (Step::Mark, CollectAnswer::Marked { life, agreed, absent }) => {
                self.marked.insert(node, life);
                let at = |place: &u32| self.candidates.get(*place as usize);
                let keys = absent.iter().filter_map(at).map(Candidate::name).collect();
                self.absent.insert(node, keys);
                self.count(&agreed);
            }
            (Step::Clean, CollectAnswer::Clean { life, arrivals }) => {
                if self.marked.get(&node).is_some_and(|marked| *marked != life) {
                    return None;
                }
                self.clean.insert(node, (life, arrivals));
            }
            (Step::Fence, CollectAnswer::Fenced { epoch }) => {
                self.floors.insert(node, epoch);
            }
            (Step::Seal, CollectAnswer::Sealed { agreed }) => {
                if self.owners.contains(&node) {
                    self.count(&agreed);
                }
            }
            (Step::Drop, CollectAnswer::Dropped { .. }) => {}
            _ => return None,
        }
        Some(())
    }

    fn count(&mut self, agreed: &[u32]) {
        // A place that is named twice counts once.
        let places: BTreeSet<usize> = agreed.iter().map(|place| *place as usize).collect();
        for place in places {
            if let Some(count) = self.agreed.get_mut(place) {
                *count += 1;
            }
        }
    }

    fn next(&mut self) -> Next {
        if matches!(self.step, Step::Mark | Step::Seal) {
            // Those candidates go on to which every owner has agreed.
            let owners = self.owners.len();
            let mut agreed = std::mem::take(&mut self.agreed).into_iter();
            self.candidates.retain(|_| agreed.next() == Some(owners));
            if self.candidates.is_empty() {
                return Next::GiveUp("owners hold different objects".to_owned());
            }
        }
        match self.step {
            Step::Mark => Next::Step(Step::Clean),
            Step::Clean => Next::Step(Step::Fence),
            Step::Fence => Next::Step(Step::Seal),
            Step::Seal => Next::Step(Step::Drop),
            Step::Drop => Next::Done,
        }
    }
}
