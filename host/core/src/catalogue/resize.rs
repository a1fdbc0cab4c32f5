//! A keyspace's n on its way to another one, as the catalogue has it: what is wanted, how far that
//! is, and what each member has said of it. What the stages are for is told by the
//! [node](crate::node)'s `resize`.
//!
//! It joins like this: of two changes the one with the higher number stands, and of one number the
//! one that is over; of two that were begun at the same time the one with the larger quorums. Of the
//! same change the later stage stands, whoever wants it cancelled has said so for all, and of each
//! member what it said last.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Quorums;
use crate::id::NodeId;

/// How far a change of n is. Nobody is at a stage while a member may be at the one before the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Puts must reach w of the old owners and w of the new ones.
    Spread,
    /// New owners read what old ones hold.
    Copy,
    /// All have read it. Who is here may still be told that the change is cancelled.
    Agree,
    /// Gets ask the new owners.
    Turn,
    /// Puts need not reach the old ones any more.
    Settle,
}

impl Stage {
    fn next(self) -> Option<Stage> {
        match self {
            Stage::Spread => Some(Stage::Copy),
            Stage::Copy => Some(Stage::Agree),
            Stage::Agree => Some(Stage::Turn),
            Stage::Turn => Some(Stage::Settle),
            Stage::Settle => None,
        }
    }
}

/// What a member has said of a change of n. What it says later is larger.
///
/// What was copied and agreed on counts for one ring only. So whoever ends a change for a member that
/// will not agree, and whoever turns without that member because it was removed, cannot both have
/// heard from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Report {
    /// The last stage that it is through with, durably.
    pub through: Option<Stage>,
    /// Whether it knows, durably, that the change is cancelled: it goes no further before
    /// [`Stage::Turn`].
    pub is_cancelled: bool,
    /// By which ring.
    pub ring_version: u64,
}

/// A change of n that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// What the keyspace is to ask for.
    pub to: Quorums,
    /// How far it is.
    pub stage: Stage,
    /// Whether an operator has thought better of it.
    pub is_cancelled: bool,
    /// What members have said of it.
    pub reports: BTreeMap<NodeId, Report>,
}

/// What comes next of a change of n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Members have still to say something.
    Waits,
    /// All are through with the stage.
    Stage(Stage),
    /// The keyspace asks for what was wanted.
    Done,
    /// It asks for what it did.
    Cancelled,
}

impl Outlook {
    /// Whether anything is to be done.
    pub(crate) fn is_news(self) -> bool {
        self != Outlook::Waits
    }
}

impl Resize {
    pub(super) fn new(to: Quorums) -> Self {
        Resize { to, stage: Stage::Spread, is_cancelled: false, reports: BTreeMap::new() }
    }

    /// Whether a member is through with the present stage, by this ring where that matters.
    pub fn is_through(&self, member: NodeId, ring_version: u64) -> bool {
        let report = self.reports.get(&member).copied().unwrap_or_default();
        let is_by_any = !matches!(self.stage, Stage::Copy | Stage::Agree);
        report.through >= Some(self.stage) && (is_by_any || report.ring_version == ring_version)
    }

    /// Whether what this member has read of others is counted on.
    pub(crate) fn counts_on(&self, member: NodeId) -> bool {
        let through = self.reports.get(&member).and_then(|report| report.through);
        self.stage > Stage::Copy || through >= Some(Stage::Copy)
    }

    /// What comes next, with these members and this ring.
    pub(crate) fn outlook<'a>(
        &self,
        mut members: impl Iterator<Item = &'a NodeId> + Clone,
        ring_version: u64,
    ) -> Outlook {
        // One member that will not agree is enough: nobody turns without it.
        let refuses = |r: &Report| r.is_cancelled && r.through < Some(Stage::Agree);
        let mut said = members.clone().filter_map(|member| self.reports.get(member));
        if self.stage < Stage::Turn && said.any(refuses) {
            return Outlook::Cancelled;
        }
        if !members.all(|member| self.is_through(*member, ring_version)) {
            return Outlook::Waits;
        }
        match self.stage.next() {
            // All have agreed before they heard that it is cancelled.
            Some(Stage::Turn) => Outlook::Stage(Stage::Turn),
            Some(next) if next < Stage::Turn && self.is_cancelled => Outlook::Waits,
            Some(next) => Outlook::Stage(next),
            None => Outlook::Done,
        }
    }

    fn join(&mut self, other: &Resize) {
        self.stage = self.stage.max(other.stage);
        self.is_cancelled |= other.is_cancelled;
        for (member, theirs) in &other.reports {
            let ours = self.reports.entry(*member).or_default();
            *ours = (*ours).max(*theirs);
        }
    }
}

/// The changes of a keyspace's n.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resizes {
    /// How many there were, the present one included.
    pub number: u64,
    /// The one that is under way.
    pub present: Option<Resize>,
}

impl Resizes {
    pub(super) fn is_untouched(&self) -> bool {
        self.number == 0
    }

    pub(super) fn begin(&mut self, to: Quorums) {
        self.number += 1;
        self.present = Some(Resize::new(to));
    }

    pub(super) fn join(&mut self, other: &Resizes) {
        if self.number != other.number {
            if self.number < other.number {
                self.clone_from(other);
            }
            return;
        }
        match (&mut self.present, &other.present) {
            (None, _) => {}
            (present, None) => *present = None,
            (Some(ours), Some(theirs)) if ours.to == theirs.to => ours.join(theirs),
            (Some(ours), Some(theirs)) if ours.to < theirs.to => ours.clone_from(theirs),
            (Some(_), Some(_)) => {}
        }
    }
}
