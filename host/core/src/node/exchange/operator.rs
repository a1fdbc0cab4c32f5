//! Repair on demand: an operator wants all owners of some partitions to hold the same, now.
//!
//! The node that is asked hands each partition to one of its owners, which *leads* it: it makes an
//! exchange with each of the other owners in turn, and, if anything differed, with each once more,
//! so that the first one gets what the last one had. The node itself leads what it owns. A leader
//! tells how far it is about once a second; one that says nothing for a while is given up, and the
//! next owner is asked.
//!
//! A repair is done when each partition is repaired or was given up; what was given up is counted,
//! with the first reason. Asking again costs little: what is equal is two sums.
//!
//! Left out: a repair that survives the node that was asked; the operator asks another one.

use std::collections::{BTreeMap, VecDeque};

use super::ExchangeReason;
use crate::event::{
    Action, ExchangeEnd, ExchangeOutcome, Notice, RepairError, RepairFigures, RepairId,
    RepairRequest, Ticket,
};
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::message::{ExchangeFigures, LeadReport, Message, ReplicaError, RequestId};
use crate::node::Node;

/// The most repairs that a node runs at a time.
pub const REPAIRS_RUNNING_MAX: usize = 4;
/// The most partitions of one repair that are repaired at a time.
const PARTITIONS_MAX: usize = 4;
/// The most partitions that a node leads at a time, its own repairs and those of others.
const LEADS_MAX: usize = 64;
/// How often an exchange that does not succeed is tried, and how far apart.
const TRIES_MAX: u32 = 10;
const TRIES_APART_MS: u64 = 500;
/// How often a leader tells how far it is, and when it is given up for saying nothing.
const REPORT_PERIOD_MS: u64 = 1_000;
const SILENCE_MAX_MS: u64 = 10_000;

/// All repairs that this node was asked for, and what it leads.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    jobs: BTreeMap<RepairId, Job>,
    leads: BTreeMap<u64, Lead>,
}

/// A repair that an operator asked this node for.
#[derive(Debug)]
struct Job {
    keyspace: Option<KeyspaceId>,
    /// Partitions with the owners that were not tried yet.
    todo: VecDeque<(PartitionId, VecDeque<NodeId>)>,
    /// Partitions that an owner leads. This node is asked without a message.
    led: BTreeMap<RequestId, Led>,
    figures: RepairFigures,
}

#[derive(Debug)]
struct Led {
    partition: PartitionId,
    owner: NodeId,
    others: VecDeque<NodeId>,
    /// What the owner has told.
    found: ExchangeFigures,
    due_ms: u64,
}

/// A partition that this node leads.
#[derive(Debug)]
struct Lead {
    /// Who wants it, under which number.
    asker: (NodeId, RequestId),
    partition: PartitionId,
    keyspace: Option<KeyspaceId>,
    /// The other owners of this pass that were not exchanged with yet, the present one first.
    todo: VecDeque<NodeId>,
    is_last_pass: bool,
    has_differed: bool,
    tries: u32,
    resume_ms: u64,
    told_ms: u64,
    found: ExchangeFigures,
    failure: Option<String>,
}

impl Node {
    /// An operator wants a repair. It is told whether it began; [`Notice::Repair`] tells the rest.
    pub(in crate::node) fn start_repair(&mut self, ticket: Ticket, request: RepairRequest) {
        let (id, job) = match self.new_repair(request) {
            Ok(new) => new,
            Err(error) => return self.act(Action::RepairStarted(ticket, Err(error))),
        };
        self.act(Action::RepairStarted(ticket, Ok(id)));
        self.notice(Notice::Repair(id, job.figures.clone()));
        self.exchanges.repairs.jobs.insert(id, job);
        self.go_on_with_repair(id);
    }

    fn new_repair(&mut self, request: RepairRequest) -> Result<(RepairId, Job), RepairError> {
        let Some(catalogue) = self.catalogue.clone() else { return Err(RepairError::NoCluster) };
        let ring = &catalogue.ring;
        if self.exchanges.repairs.jobs.len() >= REPAIRS_RUNNING_MAX {
            return Err(RepairError::TooMany { max: REPAIRS_RUNNING_MAX });
        }
        let partitions = ring.partitions();
        if let Some(partition) = request.partition.filter(|p| u32::from(p.0) >= partitions) {
            return Err(RepairError::NoPartition { partition, partitions });
        }
        let is_wanted = |p: &PartitionId| request.partition.is_none_or(|only| only == *p);
        let owners = |partition| {
            let mut owners: VecDeque<NodeId> = ring.owners(partition).collect();
            // Itself first: that takes no message.
            if let Some(at) = owners.iter().position(|owner| *owner == self.id) {
                owners.swap(0, at);
            }
            (partition, owners)
        };
        let wanted: Vec<_> = ring.partition_ids().filter(is_wanted).map(owners).collect();
        let partitions = wanted.len();
        // With a single owner there is nothing to compare.
        let todo: VecDeque<_> = wanted.into_iter().filter(|(_, owners)| owners.len() > 1).collect();
        let partitions_done = partitions - todo.len();
        let figures = RepairFigures { partitions, partitions_done, ..RepairFigures::default() };
        let (keyspace, led) = (request.keyspace, BTreeMap::new());
        let id = self.number();
        Ok((id, Job { keyspace, todo, led, figures }))
    }

    /// Hands partitions to owners, as many as may be.
    fn go_on_with_repair(&mut self, id: RepairId) {
        loop {
            let request = self.number();
            let (now_ms, ring_version) = (self.now.monotonic_ms, self.ring_version());
            let window = self.admission.window(PARTITIONS_MAX);
            let Some(job) = self.exchanges.repairs.jobs.get_mut(&id) else { return };
            if job.figures.is_done() {
                self.exchanges.repairs.jobs.remove(&id);
                return;
            }
            if job.led.len() >= window {
                return;
            }
            let Some((partition, mut others)) = job.todo.pop_front() else { return };
            let Some(owner) = others.pop_front() else {
                job.figures.partitions_failed += 1;
                job.figures.why.get_or_insert(format!("no owner of partition {partition} answers"));
                let figures = job.figures.clone();
                self.notice(Notice::Repair(id, figures));
                continue;
            };
            let (found, due_ms) = (ExchangeFigures::default(), now_ms + SILENCE_MAX_MS);
            job.led.insert(request, Led { partition, owner, others, found, due_ms });
            let keyspace = job.keyspace;
            match owner == self.id {
                true => self.lead(owner, request, partition, keyspace),
                false => {
                    let lead = Message::Lead { request, ring_version, partition, keyspace };
                    self.send(owner, lead);
                }
            }
        }
    }

    /// A leader tells how far it is, or that it does not lead.
    pub(in crate::node) fn lead_reported(
        &mut self,
        from: NodeId,
        request: RequestId,
        result: Result<LeadReport, ReplicaError>,
    ) {
        let now_ms = self.now.monotonic_ms;
        let jobs = self.exchanges.repairs.jobs.iter_mut();
        let is_it = |job: &Job| job.led.get(&request).is_some_and(|led| led.owner == from);
        let Some((id, job)) = jobs.map(|(id, job)| (*id, job)).find(|(_, job)| is_it(job)) else {
            return;
        };
        let Some(led) = job.led.get_mut(&request) else { return };
        let Ok(LeadReport { found, is_done, failure }) = result else {
            return self.lead_refused(from, request);
        };
        job.figures.found = job.figures.found.without(led.found).with(found);
        (led.found, led.due_ms) = (found, now_ms + SILENCE_MAX_MS);
        if is_done {
            let partition = led.partition;
            job.led.remove(&request);
            match failure {
                None => job.figures.partitions_done += 1,
                Some(failure) => {
                    job.figures.partitions_failed += 1;
                    job.figures.why.get_or_insert(format!("partition {partition}: {failure}"));
                }
            }
        }
        let figures = job.figures.clone();
        self.notice(Notice::Repair(id, figures));
        self.go_on_with_repair(id);
    }

    /// The owner does not lead: the next one is asked.
    pub(super) fn lead_refused(&mut self, owner: NodeId, request: RequestId) {
        let mut jobs = self.exchanges.repairs.jobs.iter_mut();
        let Some((id, led)) = jobs.find_map(|(id, job)| {
            job.led.get(&request).filter(|led| led.owner == owner)?;
            let led = job.led.remove(&request)?;
            Some((*id, led))
        }) else {
            return;
        };
        if let Some(job) = self.exchanges.repairs.jobs.get_mut(&id) {
            job.todo.push_front((led.partition, led.others));
        }
        self.go_on_with_repair(id);
    }

    /// Someone wants the owners of `partition` to hold the same, and this node to see to it.
    pub(in crate::node) fn lead(
        &mut self,
        asker: NodeId,
        request: RequestId,
        partition: PartitionId,
        keyspace: Option<KeyspaceId>,
    ) {
        let ring_version = self.ring_version();
        let leads = &self.exchanges.repairs.leads;
        let error = if !self.owns(partition) {
            Some(ReplicaError::NotOwner { ring_version })
        } else if self.is_filling(partition) {
            Some(ReplicaError::Filling)
        } else if leads.len() >= LEADS_MAX {
            Some(ReplicaError::Store(format!("it repairs {LEADS_MAX} partitions already")))
        } else if leads.values().any(|lead| lead.asker == (asker, request)) {
            // A message that came twice.
            return;
        } else {
            None
        };
        if let Some(error) = error {
            return self.report(asker, request, Err(error));
        }
        let id = self.number();
        let lead = Lead {
            asker: (asker, request),
            partition,
            keyspace,
            todo: self.other_owners(partition),
            is_last_pass: false,
            has_differed: false,
            tries: 0,
            resume_ms: 0,
            told_ms: self.now.monotonic_ms,
            found: ExchangeFigures::default(),
            failure: None,
        };
        self.exchanges.repairs.leads.insert(id, lead);
        self.go_on_leading(id);
    }

    fn other_owners(&self, partition: PartitionId) -> VecDeque<NodeId> {
        let ring = self.catalogue.iter().map(|catalogue| &catalogue.ring);
        let owners = ring.flat_map(|ring| ring.owners(partition));
        owners.filter(|owner| *owner != self.id).collect()
    }

    fn go_on_leading(&mut self, id: u64) {
        let now_ms = self.now.monotonic_ms;
        let Some(lead) = self.exchanges.repairs.leads.get(&id) else { return };
        let (partition, keyspace) = (lead.partition, lead.keyspace);
        if lead.resume_ms > now_ms {
            return;
        }
        if let Some(peer) = lead.todo.front().copied() {
            return self.start_exchange(partition, peer, keyspace, ExchangeReason::Operator(id));
        }
        let others = self.other_owners(partition);
        let Some(lead) = self.exchanges.repairs.leads.get_mut(&id) else { return };
        if lead.has_differed && !lead.is_last_pass && others.len() > 1 {
            (lead.todo, lead.is_last_pass) = (others, true);
            return self.go_on_leading(id);
        }
        if let Some(lead) = self.exchanges.repairs.leads.remove(&id) {
            let Lead { asker, found, failure, .. } = lead;
            self.report(asker.0, asker.1, Ok(LeadReport { found, is_done: true, failure }));
        }
    }

    /// An exchange of a partition that this node leads is over.
    pub(super) fn led_exchange_ended(&mut self, id: u64, peer: NodeId, outcome: ExchangeOutcome) {
        let ExchangeOutcome { end, figures, .. } = outcome;
        let resume_ms = self.in_ms(TRIES_APART_MS);
        let is_reachable = self.is_reachable(peer);
        let Some(lead) = self.exchanges.repairs.leads.get_mut(&id) else { return };
        lead.found = lead.found.with(figures);
        lead.has_differed |= figures.keys_differed > 0;
        let is_compared = outcome.is_compared();
        lead.tries += 1;
        if is_compared || lead.tries >= TRIES_MAX || !is_reachable {
            lead.todo.pop_front();
            lead.tries = 0;
            if !is_compared {
                let why = match end {
                    ExchangeEnd::Skipped => "cannot tell yet what it holds",
                    ExchangeEnd::Different => "still differs, because keys could not be repaired",
                    _ => "does not answer",
                };
                lead.failure.get_or_insert(format!("owner {peer} {why}"));
            }
        } else {
            lead.resume_ms = resume_ms;
        }
        self.go_on_leading(id);
    }

    fn report(
        &mut self,
        asker: NodeId,
        request: RequestId,
        result: Result<LeadReport, ReplicaError>,
    ) {
        match asker == self.id {
            true => self.lead_reported(asker, request, result),
            false => self.send(asker, Message::LeadReply { request, result }),
        }
    }

    /// Looks at what no event tells.
    pub(super) fn repairs_due(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let leads: Vec<u64> = self.exchanges.repairs.leads.keys().copied().collect();
        for id in leads {
            let Some(lead) = self.exchanges.repairs.leads.get_mut(&id) else { continue };
            if lead.told_ms + REPORT_PERIOD_MS <= now_ms {
                lead.told_ms = now_ms;
                let ((asker, request), found) = (lead.asker, lead.found);
                let report = LeadReport { found, is_done: false, failure: None };
                self.report(asker, request, Ok(report));
            }
            self.go_on_leading(id);
        }
        let jobs = self.exchanges.repairs.jobs.values();
        let led = jobs.flat_map(|job| &job.led);
        let silent: Vec<(NodeId, RequestId)> = led
            .filter(|(_, led)| led.due_ms <= now_ms || !self.is_reachable(led.owner))
            .map(|(request, led)| (led.owner, *request))
            .collect();
        silent.into_iter().for_each(|(owner, request)| self.lead_refused(owner, request));
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

    /// This without `other`, which was added before.
    fn without(self, other: Self) -> Self {
        ExchangeFigures {
            questions: self.questions.saturating_sub(other.questions),
            keys_compared: self.keys_compared.saturating_sub(other.keys_compared),
            keys_differed: self.keys_differed.saturating_sub(other.keys_differed),
            keys_repaired: self.keys_repaired.saturating_sub(other.keys_repaired),
            keys_damaged: self.keys_damaged.saturating_sub(other.keys_damaged),
        }
    }
}
