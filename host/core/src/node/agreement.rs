//! Committing a ring: what is staged becomes the next ring once a majority of the nodes with a
//! seat in the present one have durably accepted it ([`crate::agreement`]).
//!
//! Any member can propose. Its plan is made when a majority has promised, from the owners that
//! it knows to serve by then. What was chosen goes into the catalogue and is told to everyone;
//! who misses it gets it by gossip, so nothing here has to arrive but by chance.
//!
//! An attempt that ends without a majority may have left an accepted value behind, which a later
//! attempt would find and finish. So that its operator knows soon what became of it, any node
//! that has accepted a value and sees no ring come of it finishes the attempt by itself
//! ([`FINISH_AFTER_MS`]).
//!
//! A process that no member serves as the node ([`super::holding`]) neither proposes nor answers: its
//! seat is another process's, which may have promised something else.

use std::sync::Arc;

use rand_chacha::rand_core::Rng;

use super::{Node, Purpose, Timer};
use crate::agreement::{Acceptor, Answer, Ask, Ballot, Proposer, Step};
use crate::catalogue::{Catalogue, Decision, Removed, RingChange, digest_of};
use crate::event::{Action, CommitError, CommitRequest, Notice, Ticket, Token};
use crate::id::NodeId;
use crate::message::Message;
use crate::request::{Effect, RequestError};
use crate::ring::{plan, plan_of};

/// How long a commit is attempted, in milliseconds.
const COMMIT_MAX_MS: u64 = 10_000;
/// How long acceptors may take before they are asked again, in milliseconds.
const ASK_AGAIN_MS: u64 = 500;
/// The longest wait of an attempt that was outbid, in milliseconds.
const BACKOFF_MAX_MS: u64 = 1_000;
/// How long an accepted value waits for its ring before who accepted it finishes the attempt, in
/// milliseconds. Longer than any attempt takes.
const FINISH_AFTER_MS: u64 = 15_000;

/// The node's part in agreements.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    acceptor: Acceptor<Arc<Decision>>,
    proposal: Option<Box<Proposal>>,
    /// Since when a value is accepted of which no ring has come, by the monotonic clock.
    unfinished_since_ms: Option<u64>,
    last_round: u64,
}

/// An attempt to commit.
#[derive(Debug)]
struct Proposal {
    /// Who waits; nobody if this node finishes what another has left.
    ticket: Option<Ticket>,
    ring_version: u64,
    /// What is proposed where nothing was accepted yet.
    changes: Vec<RingChange>,
    nonce: u64,
    proposer: Proposer<Arc<Decision>>,
    has_ever_proposed: bool,
    /// When a higher ballot is drawn, after one was outbid.
    again_ms: Option<u64>,
    until_ms: u64,
}

impl Catalogue {
    /// Names what is staged now: a commit can be made to depend on it.
    pub fn plan_id(&self) -> u64 {
        let mut first = [0; 8];
        let staged = (self.ring.version(), self.staged_changes());
        first.copy_from_slice(&digest_of(&staged)[..8]);
        u64::from_be_bytes(first)
    }
}

impl Node {
    /// Gives the node back what it had promised and accepted before it was started: called
    /// before any event. Without it, a node that promised something counts as one that never
    /// did, and two rings of one version may be committed.
    pub fn remember_ballot(&mut self, acceptor: Acceptor<Arc<Decision>>) {
        self.agreement.acceptor = acceptor;
    }

    /// Says that what this node had promised is lost: it takes no part in the agreement on the
    /// next ring.
    pub fn forget_ballot(&mut self) {
        let next = self.ring_version() + 1;
        self.agreement.acceptor = Acceptor::forgetful_through(next);
    }

    pub(super) fn commit(&mut self, ticket: Ticket, request: CommitRequest) {
        if let Err(error) = self.try_commit(ticket, request) {
            self.act(Action::CommitDone(ticket, Err(error)));
        }
    }

    fn try_commit(&mut self, ticket: Ticket, request: CommitRequest) -> Result<(), CommitError> {
        let catalogue = self.catalogue.clone().ok_or(CommitError::NoCluster)?;
        // A move that this node could still forget must be in no ring.
        let catalogue = self.tellable(catalogue);
        if let Some(Removed { ring_version, .. }) = catalogue.removed.get(&self.id) {
            return Err(CommitError::Removed { ring_version: *ring_version });
        }
        // Of who was not accepted yet the others decide, who are asked.
        self.may_read().map_err(CommitError::NotServed)?;
        let (expected, found) = (request.expected_ring_version, catalogue.ring.version());
        if expected != found {
            return Err(CommitError::OtherRing { expected, found });
        }
        if request.expected_plan.is_some_and(|expected| expected != catalogue.plan_id()) {
            return Err(CommitError::OtherPlan);
        }
        if self.agreement.proposal.is_some() {
            return Err(CommitError::UnderWay);
        }
        let planned = plan(&catalogue)?;
        let nonce = self.rng.next_u64();
        if request.without_majority {
            return self.commit_alone(ticket, &catalogue, nonce);
        }
        self.propose(Some(ticket), found + 1, planned.changes, nonce);
        Ok(())
    }

    /// Commits without asking anyone, but for what this node has accepted itself.
    fn commit_alone(
        &mut self,
        ticket: Ticket,
        catalogue: &Arc<Catalogue>,
        nonce: u64,
    ) -> Result<(), CommitError> {
        let ring_version = catalogue.ring.version() + 1;
        if let Some(accepted) = self.accepted_for(ring_version) {
            self.decided(&accepted, None);
            return Err(CommitError::Lost { ring_version });
        }
        let mut decision = plan(catalogue)?.decision(catalogue, self.now.wall_ms, self.id, nonce);
        decision.committed.without_majority = true;
        self.decided(&decision, Some(ticket));
        Ok(())
    }

    fn accepted_for(&self, ring_version: u64) -> Option<Arc<Decision>> {
        let acceptor = &self.agreement.acceptor;
        let accepted = acceptor.accepted().filter(|_| acceptor.instance() == ring_version);
        accepted.map(|(_, decision)| decision.clone())
    }

    fn propose(
        &mut self,
        ticket: Option<Ticket>,
        ring_version: u64,
        changes: Vec<RingChange>,
        nonce: u64,
    ) {
        let proposer = self.attempt();
        let until_ms = self.in_ms(COMMIT_MAX_MS);
        self.agreement.proposal = Some(Box::new(Proposal {
            ticket,
            ring_version,
            changes,
            nonce,
            proposer,
            has_ever_proposed: false,
            again_ms: None,
            until_ms,
        }));
        self.ask_ring();
    }

    fn attempt(&mut self) -> Proposer<Arc<Decision>> {
        let seats = self.catalogue.iter().flat_map(|c| c.ring.seats()).copied().collect();
        let round = self.agreement.last_round.saturating_add(1);
        self.agreement.last_round = round;
        Proposer::new(Ballot { round, node: self.id, nonce: self.rng.next_u64() }, seats)
    }

    /// Asks everyone who has not answered, and looks again later.
    fn ask_ring(&mut self) {
        let Some(proposal) = &self.agreement.proposal else { return };
        let ring_version = proposal.ring_version;
        let (ask, unasked) = proposal.proposer.question();
        let at_ms = self.in_ms(ASK_AGAIN_MS);
        self.timers.set(at_ms, Timer::Commit);
        for to in unasked {
            match to == self.id {
                true => self.ring_asked(to, ring_version, ask.clone()),
                false => {
                    let ask = Box::new(ask.clone());
                    self.send(to, Message::RingAsk { ring_version, ask });
                }
            }
        }
    }

    /// Someone wants this node's promise, or acceptance.
    pub(super) fn ring_asked(&mut self, from: NodeId, ring_version: u64, ask: Ask<Arc<Decision>>) {
        let Some(catalogue) = self.catalogue.clone() else { return };
        if !catalogue.members.contains_key(&from) {
            return;
        }
        if ring_version <= catalogue.ring.version() {
            return self.send(from, Message::Catalogue { catalogue, is_reply_wanted: false });
        }
        if ring_version > catalogue.ring.version() + 1 {
            let digest = self.digest;
            return self.send(from, Message::CatalogueDigest { digest });
        }
        if self.may_vote().is_err() {
            return;
        }
        let had_accepted = self.accepted_for(ring_version).is_some();
        let Some(answer) = self.agreement.acceptor.answer(ring_version, ask) else { return };
        if !had_accepted && self.accepted_for(ring_version).is_some() {
            self.agreement.unfinished_since_ms = Some(self.now.monotonic_ms);
        }
        if let Answer::Refused { .. } = answer {
            return self.answer_ring(from, ring_version, answer);
        }
        let token = self.effect(Purpose::Ballot(from, ring_version, Box::new(answer)));
        self.act(Action::PersistBallot(token, self.agreement.acceptor.clone()));
    }

    pub(super) fn ballot_persisted(&mut self, token: Token, result: Result<(), String>) {
        // What could not be persisted is not answered: for the proposer it is as if lost.
        if let (Some(Purpose::Ballot(to, ring_version, answer)), Ok(())) =
            (self.effects.remove(&token), result)
        {
            self.answer_ring(to, ring_version, *answer);
        }
    }

    fn answer_ring(&mut self, to: NodeId, ring_version: u64, answer: Answer<Arc<Decision>>) {
        match to == self.id {
            true => self.ring_answered(to, ring_version, answer),
            false => {
                let answer = Box::new(answer);
                self.send(to, Message::RingAnswer { ring_version, answer });
            }
        }
    }

    pub(super) fn ring_answered(
        &mut self,
        from: NodeId,
        ring_version: u64,
        answer: Answer<Arc<Decision>>,
    ) {
        let Some(proposal) = &mut self.agreement.proposal else { return };
        if proposal.ring_version != ring_version {
            return;
        }
        match proposal.proposer.answered_by(from, answer) {
            Step::Wait => {}
            Step::Propose(found) => match found.map_or_else(|| self.own_decision(), Ok) {
                Ok(decision) => self.offer(decision),
                Err(error) => self.end_commit(Err(error)),
            },
            Step::Chosen(decision) => self.chosen(&decision),
            Step::Outbid(ballot) => {
                self.agreement.last_round = self.agreement.last_round.max(ballot.round);
                let wait_ms = 1 + self.rng.next_u64() % BACKOFF_MAX_MS;
                let at_ms = self.in_ms(wait_ms);
                if let Some(proposal) = &mut self.agreement.proposal {
                    proposal.again_ms = Some(at_ms);
                }
                self.timers.set(at_ms, Timer::Commit);
            }
        }
    }

    fn offer(&mut self, decision: Arc<Decision>) {
        if let Some(proposal) = &mut self.agreement.proposal {
            proposal.has_ever_proposed = true;
            proposal.proposer.propose(decision);
            self.ask_ring();
        }
    }

    /// The plan as it is now, for what was staged when the attempt began.
    fn own_decision(&self) -> Result<Arc<Decision>, CommitError> {
        let (Some(catalogue), Some(proposal)) = (&self.catalogue, &self.agreement.proposal) else {
            return Err(CommitError::NoCluster);
        };
        // A move that this node could still forget must be in no ring.
        let catalogue = self.tellable(catalogue.clone());
        let planned = plan_of(&catalogue, &proposal.changes)?;
        let nonce = proposal.nonce;
        Ok(Arc::new(planned.decision(&catalogue, self.now.wall_ms, self.id, nonce)))
    }

    /// A majority has accepted it.
    fn chosen(&mut self, decision: &Arc<Decision>) {
        let Some(proposal) = self.agreement.proposal.take() else { return };
        let is_own = decision.committed.nonce == proposal.nonce;
        self.decided(decision, proposal.ticket.filter(|_| is_own));
        if let Some(ticket) = proposal.ticket.filter(|_| !is_own) {
            let ring_version = decision.ring.version();
            self.act(Action::CommitDone(ticket, Err(CommitError::Lost { ring_version })));
        }
    }

    /// The next ring is there: it is told to everyone, those who go included.
    fn decided(&mut self, decision: &Decision, ticket: Option<Ticket>) {
        let Some(catalogue) = &self.catalogue else { return };
        let mut changed = Catalogue::clone(catalogue);
        changed.decide(decision);
        self.publish(changed, ticket.map_or(Purpose::Gossip, Purpose::Commit));
    }

    /// An attempt is to be looked at.
    pub(super) fn commit_due(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let Some(proposal) = &self.agreement.proposal else { return };
        if now_ms >= proposal.until_ms {
            let (answered, needed) = (proposal.proposer.answered(), proposal.proposer.majority());
            let effect = match proposal.has_ever_proposed {
                true => Effect::Maybe,
                false => Effect::None,
            };
            return self.end_commit(Err(CommitError::NoMajority { answered, needed, effect }));
        }
        match proposal.again_ms {
            None => self.ask_ring(),
            Some(again_ms) if again_ms <= now_ms => {
                let proposer = self.attempt();
                if let Some(proposal) = &mut self.agreement.proposal {
                    (proposal.proposer, proposal.again_ms) = (proposer, None);
                }
                self.ask_ring();
            }
            // It is looked at then.
            Some(_) => {}
        }
    }

    fn end_commit(&mut self, result: Result<Arc<Catalogue>, CommitError>) {
        let proposal = self.agreement.proposal.take();
        self.agreement.unfinished_since_ms = Some(self.now.monotonic_ms);
        if let Some(ticket) = proposal.and_then(|proposal| proposal.ticket) {
            self.act(Action::CommitDone(ticket, result));
        }
    }

    /// Finishes what another node has left unfinished.
    pub(super) fn finish_commit(&mut self) {
        let ring_version = self.ring_version() + 1;
        let is_idle = self.agreement.proposal.is_none() && self.may_vote().is_ok();
        if !is_idle || self.accepted_for(ring_version).is_none() {
            return;
        }
        let now_ms = self.now.monotonic_ms;
        let since_ms = *self.agreement.unfinished_since_ms.get_or_insert(now_ms);
        // Not all at the same time.
        let jitter_ms = self.rng.next_u64() % FINISH_AFTER_MS;
        if now_ms >= since_ms.saturating_add(FINISH_AFTER_MS + jitter_ms) {
            let nonce = self.rng.next_u64();
            self.propose(None, ring_version, Vec::new(), nonce);
        }
    }

    /// Another catalogue stands: an attempt may be over, and this node may have been removed.
    pub(super) fn ring_taken_over(&mut self, before: Option<&Catalogue>) {
        let Some(catalogue) = self.catalogue.clone() else { return };
        let version = catalogue.ring.version();
        if before.is_some_and(|before| before.ring.version() < version) {
            self.agreement.unfinished_since_ms = None;
            self.notice(Notice::RingCommitted(version));
        }
        let was_removed = before.is_some_and(|before| before.removed.contains_key(&self.id));
        if let Some(removed) = catalogue.removed.get(&self.id).filter(|_| !was_removed) {
            self.notice(Notice::Removed(removed.ring_version));
            self.leave_requests(&RequestError::Removed { ring_version: removed.ring_version });
        }
        let over = self.agreement.proposal.take_if(|proposal| proposal.ring_version <= version);
        let Some(proposal) = over else { return };
        let made = catalogue.history.get(&proposal.ring_version);
        let is_own = made.is_some_and(|made| made.nonce == proposal.nonce);
        let Some(ticket) = proposal.ticket else { return };
        match is_own {
            true => {
                let token = self.effect(Purpose::Commit(ticket));
                self.act(Action::Persist(token, catalogue));
            }
            false => {
                let ring_version = proposal.ring_version;
                self.act(Action::CommitDone(ticket, Err(CommitError::Lost { ring_version })));
            }
        }
    }
}
