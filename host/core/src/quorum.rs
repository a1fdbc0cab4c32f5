//! Quorum arithmetic: pending, reached or unreachable, as a type.
//!
//! A [`Tally`] counts distinct nodes. It knows how many answers are needed, who gave one and how
//! many more could: those that were asked and did not fail, and those that could still be asked.

use std::collections::BTreeSet;

use crate::id::NodeId;

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Neither reached nor out of reach.
    Pending,
    /// Enough nodes answered.
    Reached,
    /// Not enough nodes are left that could.
    Unreachable,
}

/// Counts the nodes that answered one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    needed: usize,
    answered: BTreeSet<NodeId>,
}

impl Tally {
    /// A tally that needs `needed` distinct nodes.
    pub fn new(needed: usize) -> Self {
        Tally { needed, answered: BTreeSet::new() }
    }

    /// Counts `node`, once.
    pub fn count(&mut self, node: NodeId) {
        self.answered.insert(node);
    }

    /// Whether `node` is counted.
    pub fn has_counted(&self, node: NodeId) -> bool {
        self.answered.contains(&node)
    }

    /// How many nodes are needed.
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// How many nodes answered.
    pub fn answered(&self) -> usize {
        self.answered.len()
    }

    /// Where it stands, if `possible` nodes that have not answered still may.
    pub fn standing(&self, possible: usize) -> Standing {
        let answered = self.answered.len();
        if answered >= self.needed {
            Standing::Reached
        } else if answered + possible >= self.needed {
            Standing::Pending
        } else {
            Standing::Unreachable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standings() {
        use Standing::{Pending, Reached, Unreachable};
        // needed, answered by, possible, standing
        let table: [(usize, &[u64], usize, Standing); 8] = [
            (1, &[], 1, Pending),
            (1, &[], 0, Unreachable),
            (1, &[1], 0, Reached),
            (2, &[1], 1, Pending),
            (2, &[1, 1], 1, Pending),
            (2, &[1, 1], 0, Unreachable),
            (2, &[1, 2], 0, Reached),
            (3, &[1, 2], 5, Pending),
        ];
        for (needed, answered, possible, expected) in table {
            let mut tally = Tally::new(needed);
            answered.iter().for_each(|&node| tally.count(NodeId(node)));
            assert_eq!(tally.standing(possible), expected, "{needed} {answered:?} {possible}");
        }
    }
}
