//! What is due when. A timer that is no longer wanted is dropped when it fires.

use std::collections::BTreeSet;

use crate::message::RequestId;

/// A reason to look at something again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A request's replica or client is overdue.
    Request(RequestId),
    /// The patience of gets is over.
    Hedge,
    /// Undelivered hints are to be tried again.
    Handoff,
    /// The catalogue's digest is to be sent.
    Gossip,
    /// Members that are not active are to be announced to.
    Roster,
    /// A partition fill is to be looked at.
    Fill,
    /// Exchanges are to be looked at.
    Exchange,
    // Collection.
    /// Keys are to be looked through.
    Collect,
    /// What a fence waits for is to be looked at.
    Fence,
    /// Transfers are to be looked at.
    Transfer,
    /// Saves that failed are to be tried again.
    Saves,
    /// An attempt to commit a ring is to be looked at.
    Commit,
    /// The failure detector's timer of this number.
    Detector(u64),
}

/// Timers by time, then by reason, so that two runs fire them in the same order.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(u64, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at_ms: u64, timer: Timer) {
        self.0.insert((at_ms, timer));
    }

    pub(super) fn drop(&mut self, at_ms: u64, timer: Timer) {
        self.0.remove(&(at_ms, timer));
    }

    /// Those of the failure detector.
    pub(super) fn detector(&self) -> Vec<(u64, Timer)> {
        let is_detector = |(_, timer): &&(u64, Timer)| matches!(timer, Timer::Detector(_));
        self.0.iter().filter(is_detector).copied().collect()
    }

    pub(super) fn next_ms(&self) -> Option<u64> {
        self.0.first().map(|(at_ms, _)| *at_ms)
    }

    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<Timer> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }
}
