//! Minting: how a node draws the dots that name its writes.
//!
//! A dot must never name two writes, and no vector may claim a write that its minter did not
//! hold (Riak's kv679 family of losses). Therefore a node goes on with an actor only if the
//! record carries its own [`Mark`](crate::record::Mark) for this key: a note, never replicated, of
//! the actor and counter it minted last, written together with the mint. The mark is gone whenever
//! the record is dropped, refetched or set aside. Without a valid mark the node draws a fresh epoch
//! and starts at 1.
//!
//! An incarnation is one start of one process, drawn at random in memory: what an earlier start
//! left on disk is void by itself, and of two copies of a data directory neither can name a write
//! as the other does, whoever was started when, from whatever backup. So epochs need no disk: they
//! are counted from 0 in each incarnation.
//!
//! # Lent dots
//! A write for another node's put is minted, and not stored: see [`crate::lent`].

use crate::causality::{Context, VersionVector};
use crate::id::{Actor, Dot, Incarnation, NodeId};
use crate::lent::Lent;
use crate::record::Record;

/// Draws epochs: from a counter in memory that never goes back within an incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minter {
    /// The node that mints.
    pub node: NodeId,
    /// Its present life; never that of another minter, past or present.
    pub incarnation: Incarnation,
    /// The epoch that it draws next.
    pub next_epoch: u64,
    /// Actors of earlier epochs mint no more.
    oldest_epoch: u64,
    lent: Lent,
}

impl Minter {
    /// The minter of an incarnation that was just drawn.
    pub fn new(node: NodeId, incarnation: Incarnation) -> Self {
        Minter { node, incarnation, next_epoch: 0, oldest_epoch: 0, lent: Lent::default() }
    }

    /// Retires every actor drawn so far: what they minted may be lost, so none of them goes on.
    /// To be called when a store may have lost what it had applied.
    pub fn retire_actors(&mut self) {
        self.oldest_epoch = self.next_epoch;
        self.lent.clear();
    }

    fn fresh_actor(&mut self) -> Actor {
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        Actor { node: self.node, incarnation: self.incarnation, epoch }
    }

    /// The next dot of this node for a key whose record is `record`, to be stored or lent.
    pub(super) fn next_dot(&mut self, record: &Record, context: &Context, is_lent: bool) -> Dot {
        if is_lent && self.lent.is_full() {
            self.retire_actors();
        }
        let vector = record.siblings.vector();
        let marked = record.mark.map(|mark| Dot { actor: mark.actor, counter: mark.counter });
        // Of an actor that has lent a dot the mark says too little.
        let marked = marked.filter(|last| !self.lent.has(&last.actor));
        let last = {
            let mut all = marked.into_iter().chain(self.lent.returned(vector));
            all.find(|last| self.may_go_on(last, vector, context))
        };
        let dot = match last {
            Some(Dot { actor, counter }) => Dot { actor, counter: counter + 1 },
            None => Dot { actor: self.fresh_actor(), counter: 1 },
        };
        match is_lent {
            true => self.lent.lend(dot),
            false => self.lent.stored(&dot.actor),
        }
        dot
    }

    fn may_go_on(&self, last: &Dot, vector: &VersionVector, context: &Context) -> bool {
        last.actor.node == self.node
            && last.actor.incarnation == self.incarnation
            && last.actor.epoch >= self.oldest_epoch
            // Anyone could know more of the actor than the mark only if the mark is stale.
            && vector.get(&last.actor) == last.counter
            && context.vector.get(&last.actor) <= last.counter
    }
}
