//! Who gives a put its dot.
//!
//! An owner mints in its own store. Who is none, or not the one whose turn it is, *borrows* the dot:
//! it asks an owner, which makes the object with the new version as if it stored it, and stores
//! nothing ([`crate::write`], "Lent dots"). What comes back is sent to all owners like any other
//! replica write. So there is one node that decides whether the write exists, the one that has the
//! client, and asking is harmless however often it is done and whenever it arrives: an owner that is
//! silent for a replica's time-out is passed over, another one is asked, and what answers first is
//! taken, once. No write appears twice, and none that was given up comes back, because only its
//! coordinator could bring it. An unnoticed fault costs a put one time-out here and one below.
//!
//! With no owner in reach the coordinator mints in its hint store; its record is then a hint for all.

use std::collections::{BTreeSet, VecDeque};

use crate::id::NodeId;
use crate::request::{Effect, PutRequest, RequestError};

/// Whom a write without a dot waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Namer {
    /// The store of this node.
    Here,
    /// An owner that was asked.
    Owner { node: NodeId, due_ms: u64 },
    /// Whoever was asked before: nobody is left.
    Nobody,
}

/// Who is to give a write its dot next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The store here mints this.
    Mint(Box<PutRequest>),
    /// This owner is to lend one.
    Borrow(NodeId, Box<PutRequest>),
    /// Nobody can: this is the answer.
    Refused(RequestError),
    /// Nobody is left; one of those that were asked may still answer.
    Wait,
}

/// The way of a write to its dot.
#[derive(Debug)]
pub(super) struct Naming {
    me: NodeId,
    from: Namer,
    put: Box<PutRequest>,
    /// Owners that are still to be asked, or this node.
    others: VecDeque<NodeId>,
    /// Owners that were asked, and may answer yet.
    asked: BTreeSet<NodeId>,
    /// What the last owner said that could not do it.
    refusal: Option<RequestError>,
}

impl Naming {
    pub fn new(me: NodeId, put: PutRequest, others: VecDeque<NodeId>) -> Self {
        let (from, put, asked) = (Namer::Nobody, Box::new(put), BTreeSet::new());
        Naming { me, from, put, others, asked, refusal: None }
    }

    /// Turns to the next node. An owner has until `due_ms`. When nobody is left a node that
    /// `may_stand_in` mints what is a hint then; another one has not reached the `needed` nodes.
    pub fn next(&mut self, due_ms: u64, (may_stand_in, needed): (bool, u32)) -> Next {
        match self.others.pop_front() {
            Some(node) if node != self.me => {
                self.from = Namer::Owner { node, due_ms };
                self.asked.insert(node);
                Next::Borrow(node, self.put.clone())
            }
            Some(_) => self.mint(),
            None => {
                self.from = Namer::Nobody;
                match self.refusal.take() {
                    Some(error) => Next::Refused(error),
                    None if may_stand_in => self.mint(),
                    None if self.asked.is_empty() => {
                        let (answered, effect) = (0, Effect::None);
                        Next::Refused(RequestError::QuorumNotReached { needed, answered, effect })
                    }
                    None => Next::Wait,
                }
            }
        }
    }

    fn mint(&mut self) -> Next {
        self.from = Namer::Here;
        Next::Mint(self.put.clone())
    }

    /// Whether an owner is waited for: this one.
    pub fn is_asking(&self, node: NodeId) -> bool {
        matches!(self.from, Namer::Owner { node: asked, .. } if asked == node)
    }

    /// Whether the store here is about to mint it.
    pub fn is_here(&self) -> bool {
        self.from == Namer::Here
    }

    /// Whether nobody but this node is left.
    pub fn is_last(&self) -> bool {
        self.others.is_empty()
    }

    /// Until when the owner that was asked has time.
    pub fn due_ms(&self) -> Option<u64> {
        match self.from {
            Namer::Owner { due_ms, .. } => Some(due_ms),
            Namer::Here | Namer::Nobody => None,
        }
    }

    /// An owner that was asked does not lend a dot.
    pub fn gone(&mut self, node: NodeId) {
        self.asked.remove(&node);
    }

    /// Who was to give the dot did certainly nothing, and says why.
    pub fn failed(&mut self, error: RequestError) {
        self.refusal = Some(error);
    }
}
