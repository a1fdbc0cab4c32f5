//! Telling the other members what this node's data store holds of each keyspace, and hearing it of
//! them: see [`crate::usage`]. What quotas allow by that: [`crate::quota`].
//!
//! Each period of gossip the store is asked, which costs it a copy of its sums, and every member is
//! told what has changed since. All is told to who has heard nothing and says so, and to everybody every
//! [`ALL_PERIODS`] periods and when a member comes up: a message may get lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Node;
use super::surroundings::Surroundings;
use crate::event::Notice;
use crate::id::{KeyspaceId, NodeId};
use crate::message::Message;
use crate::quota::Allowance;
use crate::usage::{Estimate, Usage, UsageReport, Usages};

/// In how many periods of gossip all is told once.
const ALL_PERIODS: u32 = 30;

/// What is told and heard.
#[derive(Debug, Default)]
pub(super) struct Counting {
    usages: Usages,
    /// What the others were told last; a whole report, once there is one.
    told: UsageReport,
    /// Periods until they are told all again.
    until_all: u32,
    /// Whether something was heard that is not in `estimates`.
    is_news: bool,
    estimates: Arc<BTreeMap<KeyspaceId, Estimate>>,
}

impl Counting {
    /// The next report is a whole one.
    pub(super) fn tell_all(&mut self) {
        self.until_all = 0;
    }

    /// What the others are to hear of `held`; nothing if that is nothing new.
    fn report(&mut self, held: &UsageReport) -> Option<UsageReport> {
        let is_all = self.until_all == 0 || held.is_complete != self.told.is_complete;
        let mut usages = held.usages.clone();
        if is_all {
            self.until_all = ALL_PERIODS;
        } else {
            usages.retain(|keyspace, usage| self.told.usages.get(keyspace) != Some(usage));
            let gone = self.told.usages.keys().filter(|told| !held.usages.contains_key(told));
            usages.extend(gone.map(|keyspace| (*keyspace, Usage::default())));
        }
        self.until_all -= 1;
        self.told = held.clone();
        let report = UsageReport { usages, is_all, ..held.clone() };
        (is_all || !report.usages.is_empty()).then_some(report)
    }
}

impl Node {
    /// The store has said what it holds.
    pub(super) fn usage_read(&mut self, mut held: UsageReport) {
        held.usages.retain(|keyspace, _| self.keyspaces.contains_key(keyspace));
        let report = self.counting.report(&held);
        for peer in self.peers() {
            let wants_all = self.is_reachable(peer) && !self.counting.usages.has(peer);
            let told = match wants_all {
                true => Some(UsageReport { wants_all, ..held.clone() }),
                false => report.clone(),
            };
            if let Some(report) = told.filter(|_| !self.was_removed()) {
                self.send(peer, Message::Usage(report));
            }
        }
        self.counting.is_news |= self.counting.usages.take(self.id, held);
        if std::mem::take(&mut self.counting.is_news) {
            self.estimate();
        }
    }

    /// A member has said what it holds. What that comes to is reckoned with the own news.
    pub(super) fn usage_told(&mut self, from: NodeId, mut report: UsageReport) {
        if self.is_member(from) {
            if report.wants_all && self.counting.told.is_all {
                self.send(from, Message::Usage(self.counting.told.clone()));
            }
            report.usages.retain(|keyspace, _| self.keyspaces.contains_key(keyspace));
            self.counting.is_news |= self.counting.usages.take(from, report);
        }
    }

    fn estimate(&mut self) {
        let Some(catalogue) = &self.catalogue else { return };
        let members: Vec<NodeId> = catalogue.members.keys().copied().collect();
        let estimate = |(id, keyspace): (&KeyspaceId, &crate::catalogue::Keyspace)| {
            let replicas = keyspace.quorums.value.n as usize;
            (*id, self.counting.usages.estimate(*id, replicas, &members))
        };
        let estimates = Arc::new(self.keyspaces.iter().map(estimate).collect());
        self.counting.estimates = estimates;
        self.notice(Notice::Usage(self.counting.estimates.clone()));
    }

    /// The catalogue is another.
    pub(super) fn keep_usages(&mut self) {
        let (catalogue, keyspaces) = (self.catalogue.as_ref(), &self.keyspaces);
        self.counting.usages.keep(
            |node| catalogue.is_some_and(|catalogue| catalogue.members.contains_key(node)),
            |keyspace| keyspaces.contains_key(keyspace),
        );
        self.counting.is_news = true;
    }

    /// What the keyspace's quota allows a put, if it has one.
    pub(super) fn allowance(&self, keyspace: KeyspaceId) -> Option<Box<Allowance>> {
        let quota = self.keyspaces.get(&keyspace)?.quota.value;
        let estimate = self.counting.estimates.get(&keyspace);
        let told = estimate.map(|estimate| estimate.one_copy).unwrap_or_default();
        quota.bounds_storage().then(|| Box::new(Allowance { quota, told }))
    }
}
