//! Founding a cluster so that it comes to one cluster or none, however many try at once.
//!
//! Of the nodes that are named the one with the smallest id founds; whoever else is asked hands
//! over to it. The founder has every other node *promise*, durably, to join this cluster and no
//! other, in the order of their ids. Once all have, it writes the catalogue down: that is the
//! decision, made in one place. Then all are told. If any refuses, nothing was decided and the
//! founder forgets about it. (Two-phase commit with presumed abort: Mohan, Lindsay, Obermarck,
//! "Transaction Management in the R* Distributed Database Management System", 1986.)
//!
//! A promise binds until its holder knows better ([`Promise::settle`]): a member of that cluster
//! exists, then it joins; or the founder is not making it any more and does not belong to it, then
//! it never will, because a cluster's id is drawn once. While the founder is away and nobody else
//! knows, the promise holds: the cluster may exist.
//!
//! Nobody waits in a circle: who founds waits for larger ids only.
//!
//! Left out: a founder that is lost for good after it decided, and before anyone heard of it. Those
//! who promised wait for it; they hold nothing yet, so emptying their directories frees them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{ClusterId, NodeId};

/// What a node that waits for a cluster is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The cluster that it will join, if it comes to be.
    pub cluster: ClusterId,
    /// Who decides that.
    pub founder: NodeId,
    /// Those who are to be members, with their peer addresses.
    pub nodes: BTreeMap<NodeId, String>,
}

/// How a node stands to a cluster that was promised to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is a member of it.
    Founded,
    /// It is making it right now.
    Undecided,
    /// Neither.
    Unknown,
}

impl Fate {
    /// Of `cluster`, as a node sees it that is `member` of one and `founding` one.
    pub fn of(cluster: ClusterId, member: Option<ClusterId>, founding: Option<ClusterId>) -> Fate {
        match (member == Some(cluster), founding == Some(cluster)) {
            (true, _) => Fate::Founded,
            (false, true) => Fate::Undecided,
            (false, false) => Fate::Unknown,
        }
    }
}

/// What becomes of a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The cluster exists: it is to be joined.
    Joins,
    /// It never will: the promise is void.
    Void,
    /// Nobody knows: it holds.
    Holds,
}

impl Promise {
    /// What the nodes that could be asked say of the cluster.
    pub fn settle(&self, answers: &BTreeMap<NodeId, Fate>) -> Settled {
        if answers.values().any(|fate| *fate == Fate::Founded) {
            return Settled::Joins;
        }
        match answers.get(&self.founder) {
            Some(Fate::Unknown) => Settled::Void,
            _ => Settled::Holds,
        }
    }

    /// The bytes to store or send.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`Self::encode`] wrote; `None` if it is anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let promise: Promise = serde_json::from_slice(bytes).ok()?;
        let first = promise.nodes.keys().next().copied();
        (first == Some(promise.founder)).then_some(promise)
    }
}

/// The founder's part: whom to ask, and when it is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founding {
    promise: Promise,
    /// Those who have promised.
    promised: usize,
}

impl Founding {
    /// Begins; `None` if the founder is not the first of the nodes.
    pub fn new(promise: Promise) -> Option<Self> {
        let first = promise.nodes.keys().next().copied();
        (first == Some(promise.founder)).then_some(Founding { promise, promised: 0 })
    }

    /// What is to be promised.
    pub fn promise(&self) -> &Promise {
        &self.promise
    }

    /// Who is asked next, and where; nobody once all have promised and the founder may decide.
    pub fn next(&self) -> Option<(NodeId, &str)> {
        let (node, address) = self.promise.nodes.iter().nth(1 + self.promised)?;
        Some((*node, address))
    }

    /// Who was asked has promised.
    pub fn promised(&mut self) {
        self.promised += 1;
    }
}
