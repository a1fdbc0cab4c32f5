//! The proposer: one attempt to have a value chosen.

use std::collections::BTreeSet;

use super::{Answer, Ask, Ballot};
use crate::id::NodeId;

/// What follows from an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<V> {
    /// Nothing yet.
    Wait,
    /// A majority has promised: propose this value, or one's own where there is none.
    Propose(Option<V>),
    /// A majority has accepted this value: it is chosen, for ever.
    Chosen(V),
    /// Someone attempts it under this higher ballot. This attempt is over.
    Outbid(Ballot),
}

/// An attempt under one ballot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposer<V> {
    ballot: Ballot,
    acceptors: BTreeSet<NodeId>,
    promised: BTreeSet<NodeId>,
    /// The value of the highest ballot that the promises told of.
    found: Option<(Ballot, V)>,
    proposed: Option<V>,
    accepted: BTreeSet<NodeId>,
    is_over: bool,
}

impl<V: Clone> Proposer<V> {
    /// An attempt under `ballot` with these acceptors, which all proposers must agree on.
    pub fn new(ballot: Ballot, acceptors: BTreeSet<NodeId>) -> Self {
        Proposer {
            ballot,
            acceptors,
            promised: BTreeSet::new(),
            found: None,
            proposed: None,
            accepted: BTreeSet::new(),
            is_over: false,
        }
    }

    /// Its ballot.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// How many acceptors are a majority.
    pub fn majority(&self) -> usize {
        self.acceptors.len() / 2 + 1
    }

    /// How many have answered what is being asked now.
    pub fn answered(&self) -> usize {
        match self.proposed {
            Some(_) => self.accepted.len(),
            None => self.promised.len(),
        }
    }

    /// Whether a value was proposed: from then on it may be chosen, whatever becomes of this
    /// attempt.
    pub fn has_proposed(&self) -> bool {
        self.proposed.is_some()
    }

    /// What is being asked now, and the acceptors that have not answered it.
    pub fn question(&self) -> (Ask<V>, Vec<NodeId>) {
        let (ask, answered) = match &self.proposed {
            Some(value) => (Ask::Accept(self.ballot, value.clone()), &self.accepted),
            None => (Ask::Prepare(self.ballot), &self.promised),
        };
        (ask, self.acceptors.difference(answered).copied().collect())
    }

    /// Proposes a value: the one that [`Step::Propose`] gave, or if it gave none any.
    pub fn propose(&mut self, value: V) {
        self.proposed.get_or_insert(value);
    }

    /// Takes an acceptor's answer in.
    pub fn answered_by(&mut self, acceptor: NodeId, answer: Answer<V>) -> Step<V> {
        if self.is_over || !self.acceptors.contains(&acceptor) {
            return Step::Wait;
        }
        match answer {
            Answer::Promised { ballot, accepted } if ballot == self.ballot => {
                self.take_promise(acceptor, accepted)
            }
            Answer::Accepted { ballot } if ballot == self.ballot => self.take_acceptance(acceptor),
            Answer::Refused { ballot, promised }
                if ballot == self.ballot && promised > self.ballot =>
            {
                self.is_over = true;
                Step::Outbid(promised)
            }
            _ => Step::Wait,
        }
    }

    fn take_promise(&mut self, acceptor: NodeId, accepted: Option<(Ballot, V)>) -> Step<V> {
        if self.proposed.is_some() || self.promised.len() >= self.majority() {
            return Step::Wait;
        }
        if let Some((ballot, value)) = accepted
            && self.found.as_ref().is_none_or(|(found, _)| ballot > *found)
        {
            self.found = Some((ballot, value));
        }
        if self.promised.insert(acceptor) && self.promised.len() == self.majority() {
            return Step::Propose(self.found.as_ref().map(|(_, value)| value.clone()));
        }
        Step::Wait
    }

    fn take_acceptance(&mut self, acceptor: NodeId) -> Step<V> {
        let is_new = self.proposed.is_some() && self.accepted.insert(acceptor);
        match &self.proposed {
            Some(value) if is_new && self.accepted.len() == self.majority() => {
                self.is_over = true;
                Step::Chosen(value.clone())
            }
            _ => Step::Wait,
        }
    }
}
