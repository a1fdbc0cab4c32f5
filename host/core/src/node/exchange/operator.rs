//! Repair on demand: an operator wants all owners of some partitions to hold the same, now.
//!
//! The node that is asked has every two owners of a partition compared, one pair after the other:
//! one of the two makes an exchange with the other, says several times a second that it goes on,
//! and tells how it ended. As each owner is compared with each other one, it gets all that any of
//! them held. What fails is tried again for a while, the other way round if the one that was asked
//! does not do it; then the pair is given up, and the others of the partition are tried once.
//!
//! A repair is done when each partition is repaired or was given up; what was given up is counted,
//! with the first reason. Asking again costs little: what is equal is two sums for each pair.
//!
//! Left out: a repair that survives the node that was asked; the operator asks another one.

use std::collections::{BTreeMap, VecDeque};

use super::{ExchangeReason, Exchanges, Pair, Wish};
use crate::event::{
    ExchangeEnd, ExchangeOutcome, Notice, RepairError, RepairFigures, RepairId, RepairRequest,
    Ticket,
};
use crate::id::{KeyspaceId, NodeId, PartitionId, RequestId};
use crate::message::{Comparison, ExchangeFigures, ReplicaError};
use crate::node::surroundings::Surroundings;

/// The most repairs that a node runs at a time.
pub const REPAIRS_RUNNING_MAX: usize = 4;
/// The most partitions of one repair that are compared at a time.
const PARTITIONS_MAX: usize = 4;
/// The most exchanges that a node makes for repairs at a time, its own and those of others.
const COMPARISONS_MAX: usize = 64;
/// How long comparisons that fail are tried again, and how far apart.
const TRY_MS: u64 = 20_000;
const TRIES_APART_MS: u64 = 500;

/// A repair that an operator asked this node for.
#[derive(Debug)]
pub(super) struct Repair {
    keyspace: Option<KeyspaceId>,
    todo: VecDeque<Pairs>,
    running: BTreeMap<PartitionId, Pairs>,
    figures: RepairFigures,
}

/// The pairs of a partition's owners that were not compared yet, the present one first.
#[derive(Debug)]
struct Pairs {
    partition: PartitionId,
    left: VecDeque<(NodeId, NodeId)>,
    is_asked: bool,
    /// Until when what fails is tried again, since the first failure in succession.
    until_ms: Option<u64>,
    resume_ms: u64,
    why: Option<String>,
}

impl Pairs {
    fn of(around: &dyn Surroundings, partition: PartitionId) -> Self {
        let owners = around.owners(partition);
        let behind = |place: usize| owners[place + 1..].iter().copied();
        let places = owners.iter().enumerate();
        let left = places.flat_map(|(at, owner)| behind(at).map(|other| (*owner, other)));
        let (is_asked, until_ms, resume_ms, why) = (false, None, 0, None);
        Pairs { partition, left: left.collect(), is_asked, until_ms, resume_ms, why }
    }
}

/// How an exchange that a repair wanted has ended.
pub(super) fn comparison(peer: NodeId, outcome: ExchangeOutcome) -> Comparison {
    let why = match outcome.end {
        ExchangeEnd::Skipped => "cannot tell yet what it holds",
        ExchangeEnd::Different => "still differs, because keys could not be repaired",
        _ => "does not answer",
    };
    let failure = (!outcome.is_compared()).then(|| format!("owner {peer} {why}"));
    Comparison { found: outcome.figures, is_over: true, failure }
}

impl Exchanges {
    /// An operator wants a repair. It is told whether it began; [`Notice::Repair`] tells the rest.
    pub(in crate::node) fn start_repair(
        &mut self,
        around: &mut dyn Surroundings,
        ticket: Ticket,
        request: RepairRequest,
    ) {
        let repair = match self.new_repair(around, request) {
            Ok(repair) => repair,
            Err(error) => return self.wish(Wish::Started(ticket, Err(error))),
        };
        let id = around.number();
        self.wish(Wish::Started(ticket, Ok(id)));
        self.wish(Wish::Notice(Notice::Repair(id, repair.figures.clone())));
        self.repairs.insert(id, repair);
        self.go_on_with(around, id);
    }

    fn new_repair(
        &self,
        around: &dyn Surroundings,
        request: RepairRequest,
    ) -> Result<Repair, RepairError> {
        let ring = &around.catalogue().ok_or(RepairError::NoCluster)?.ring;
        if self.repairs.len() >= REPAIRS_RUNNING_MAX {
            return Err(RepairError::TooMany { max: REPAIRS_RUNNING_MAX });
        }
        let partitions = ring.partitions();
        if let Some(partition) = request.partition.filter(|p| u32::from(p.0) >= partitions) {
            return Err(RepairError::NoPartition { partition, partitions });
        }
        let is_wanted = |p: &PartitionId| request.partition.is_none_or(|only| only == *p);
        let wanted = ring.partition_ids().filter(is_wanted).map(|p| Pairs::of(around, p));
        let wanted: Vec<Pairs> = wanted.collect();
        let partitions = wanted.len();
        // With a single owner there is nothing to compare.
        let todo: VecDeque<Pairs> = wanted.into_iter().filter(|p| !p.left.is_empty()).collect();
        let partitions_done = partitions - todo.len();
        let figures = RepairFigures { partitions, partitions_done, ..RepairFigures::default() };
        Ok(Repair { keyspace: request.keyspace, todo, running: BTreeMap::new(), figures })
    }

    /// Has the pairs of a repair compared whose turn it is.
    fn go_on_with(&mut self, around: &dyn Surroundings, id: RepairId) {
        let Some(repair) = self.repairs.get_mut(&id) else { return };
        if repair.figures.is_done() {
            self.repairs.remove(&id);
            return;
        }
        while repair.running.len() < around.window(PARTITIONS_MAX)
            && let Some(pairs) = repair.todo.pop_front()
        {
            repair.running.insert(pairs.partition, pairs);
        }
        for (partition, pairs) in &mut repair.running {
            let Some((leader, peer)) = pairs.left.front().copied() else { continue };
            if !pairs.is_asked && pairs.resume_ms <= around.now().monotonic_ms {
                pairs.is_asked = true;
                let pair = (*partition, peer);
                self.wishes.push(Wish::Compare(id, leader, pair, repair.keyspace));
            }
        }
    }

    /// The present pair of a partition was compared, or its leader did not do it.
    pub(in crate::node) fn compared(
        &mut self,
        around: &dyn Surroundings,
        (id, partition): (RepairId, PartitionId),
        result: Result<Comparison, String>,
    ) {
        let Some(repair) = self.repairs.get_mut(&id) else { return };
        let Some(pairs) = repair.running.get_mut(&partition) else { return };
        let Some((leader, peer)) = pairs.left.pop_front() else { return };
        pairs.is_asked = false;
        let (again, failure) = match result {
            Ok(Comparison { found, failure, .. }) => {
                repair.figures.found = repair.figures.found.with(found);
                ((leader, peer), failure)
            }
            Err(why) => ((peer, leader), Some(why)),
        };
        if let Some(why) = failure {
            let until_ms = *pairs.until_ms.get_or_insert(around.in_ms(TRY_MS));
            let are_there = around.is_reachable(leader) && around.is_reachable(peer);
            if around.now().monotonic_ms < until_ms && are_there {
                pairs.resume_ms = around.in_ms(TRIES_APART_MS);
                pairs.left.push_front(again);
                return;
            }
            pairs.why.get_or_insert(why);
        } else if pairs.why.is_none() {
            pairs.until_ms = None;
        }
        if pairs.left.is_empty()
            && let Some(Pairs { why, .. }) = repair.running.remove(&partition)
        {
            match why {
                None => repair.figures.partitions_done += 1,
                Some(why) => {
                    repair.figures.partitions_failed += 1;
                    repair.figures.why.get_or_insert(format!("partition {partition}: {why}"));
                }
            }
        }
        let figures = repair.figures.clone();
        self.wish(Wish::Notice(Notice::Repair(id, figures)));
        self.go_on_with(around, id);
    }

    /// Someone wants this node to compare itself with another owner.
    pub(in crate::node) fn compare(
        &mut self,
        around: &mut dyn Surroundings,
        (asker, request): (NodeId, RequestId),
        pair: Pair,
        keyspace: Option<KeyspaceId>,
    ) {
        let ring_version = around.catalogue().map_or(0, |catalogue| catalogue.ring.version());
        let error = if !around.is_owner(pair.0, around.me()) {
            ReplicaError::NotOwner { ring_version }
        } else if around.is_filling(pair.0) {
            ReplicaError::Filling
        } else if self.led().count() >= COMPARISONS_MAX {
            ReplicaError::Store(format!("it makes {COMPARISONS_MAX} comparisons already"))
        } else {
            return self.start(around, pair, keyspace, ExchangeReason::Operator(asker, request));
        };
        self.wish(Wish::Report(asker, request, Err(error)));
    }

    /// Who waits for exchanges of this node, and what these have found so far.
    fn led(&self) -> impl Iterator<Item = (NodeId, RequestId, ExchangeFigures)> {
        self.running.values().filter_map(|exchange| match exchange.reason {
            ExchangeReason::Operator(asker, request) => Some((asker, request, exchange.figures)),
            _ => None,
        })
    }

    /// Looks at what no event tells.
    pub(super) fn go_on_with_repairs(&mut self, around: &dyn Surroundings) {
        let going_on = self.led().map(|(asker, request, found)| {
            let comparison = Comparison { found, is_over: false, failure: None };
            Wish::Report(asker, request, Ok(comparison))
        });
        let going_on: Vec<Wish> = going_on.collect();
        self.wishes.extend(going_on);
        let ids: Vec<RepairId> = self.repairs.keys().copied().collect();
        ids.into_iter().for_each(|id| self.go_on_with(around, id));
    }
}

impl ExchangeFigures {
    /// Both together.
    fn with(self, other: Self) -> Self {
        ExchangeFigures {
            questions: self.questions.saturating_add(other.questions),
            keys_compared: self.keys_compared.saturating_add(other.keys_compared),
            keys_differed: self.keys_differed.saturating_add(other.keys_differed),
            keys_repaired: self.keys_repaired.saturating_add(other.keys_repaired),
            keys_damaged: self.keys_damaged.saturating_add(other.keys_damaged),
        }
    }
}
