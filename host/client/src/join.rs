//! What r owners hold of a key, joined: whether that is an answer.
//!
//! A coordinating node joins what it hears (`stator_core::request::get`): by a causal sync, whatever
//! the order. The join is the client's answer if every owner holds just that, and if it is one version
//! or none: then no policy has anything to merge, nobody is to be repaired, and the context of each of
//! them is that of the join. So nothing needs to be joined, only compared: the join of equal objects is
//! any of them. Everything else is a coordinator's business.
//!
//! r answers are a quorum if r nodes gave them. Addresses do not tell: two may lead to one node.
//!
//! What has expired is no answer; the time is that of the latest clock among those that answered, for
//! the client's own may be wrong.

use bytes::Bytes;
use stator_core::causality::Siblings;
use stator_core::reconcile::{View, versions, view};
use stator_proto::v1;

use crate::entry::{Entry, Merge, Version};

/// The answers to one get.
#[derive(Debug, Default)]
pub(crate) struct Join {
    needed: usize,
    /// The nodes that answered.
    nodes: Vec<String>,
    joined: Siblings,
    context: Bytes,
    now_ms: u64,
}

impl Join {
    /// Of as many answers as the client knows to be needed.
    pub(crate) fn of(needed: usize) -> Self {
        Join { needed, ..Join::default() }
    }

    /// How many answers are still to come.
    pub(crate) fn lacking(&self) -> usize {
        self.needed.saturating_sub(self.nodes.len())
    }

    /// Takes an answer in; `None` if a coordinator has to look at the key.
    pub(crate) fn add(&mut self, answer: v1::GetReplicaResponse) -> Option<()> {
        let held = Siblings::decode(answer.object?).ok()?;
        let is_agreed = self.nodes.is_empty() || held.is_same_as(&self.joined);
        let is_counted = self.nodes.contains(&answer.node_id);
        if !is_agreed || is_counted || held.versions().len() > 1 {
            return None;
        }
        self.joined = held;
        self.nodes.push(answer.node_id);
        self.needed = self.needed.max(answer.r as usize);
        self.now_ms = self.now_ms.max(answer.now_ms);
        self.context = answer.context?;
        Some(())
    }

    /// The key as they hold it.
    pub(crate) fn entry(self, keyspace: &str, key: &Bytes) -> Entry {
        let sibling_count = versions(&self.joined, self.now_ms).len() as u32;
        let found = match view(&self.joined, self.now_ms) {
            View::Sole(live) => Some(Version::of(&live)),
            View::Absent | View::Divergent(_) => None,
        };
        let merge = Merge { sibling_count, ..Merge::default() };
        Entry::found(keyspace.to_owned(), key.clone(), found, merge, self.context)
    }
}

#[cfg(test)]
mod tests;
