//! Whom a get asks first, and when it asks one more.
//!
//! A get needs r answers ([`crate::request::get`]), and mostly asks no more than r nodes. Then one of
//! them that is slow or silent holds it up. So when an answer has not come after the *patience* with its
//! node, another node is asked as well: a *hedged request* (Dean and Barroso, "The Tail at Scale", CACM
//! 2013; "speculative retry" in Cassandra). Who of them answers is of no matter.
//!
//! - *Patience* is the mean and four mean deviations of what the node's latest answers took, the
//!   timer of TCP (RFC 6298), within bounds.
//! - A node that somebody lost patience with is *silent* until it answers a get that still waits for
//!   it, or until [`SILENT_MS`] are over. It is asked last. So of a node that dies the gets that were
//!   under way hear late, and no later ones.
//! - Gets are looked at in *slots*, those of five milliseconds together: nearly all have ended by
//!   then, and a timer each would cost more than the hedges save.
//! - *Budget*: where all nodes are slow, hedges would be load on top of the load that made them so.
//!   Every get earns a tenth of a hedge, and a hundred can be saved.
//!
//! Left out: preferring the faster of two nodes that both answer. All coordinators would prefer the
//! same one until it is the slower.

use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::message::RequestId;

/// How long a node stays silent for which patience was lost, in milliseconds.
pub const SILENT_MS: u64 = 5_000;
/// Bounds of the patience in milliseconds, and the patience with a node that never answered.
const PATIENCE_MIN_MS: u64 = 10;
const PATIENCE_MAX_MS: u64 = 250;
const PATIENCE_FIRST_MS: u64 = 25;
/// How long a slot is, in milliseconds.
const SLOT_MS: u64 = 5;
/// The budget in tenths of a hedge: what there is at first, and at most.
const BUDGET_TENTHS: u32 = 1_000;

/// What is known of one node's answers, in eighths of a millisecond.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    mean: u64,
    deviation: u64,
    has_answered: bool,
    silent_until_ms: u64,
}

/// What is known of all nodes, and the budget.
#[derive(Debug)]
pub struct Hedges {
    paces: BTreeMap<NodeId, Pace>,
    /// Gets, by the end of the slot in which they are to be looked at.
    slots: BTreeMap<u64, Vec<RequestId>>,
    tenths: u32,
}

impl Default for Hedges {
    fn default() -> Self {
        Hedges { paces: BTreeMap::new(), slots: BTreeMap::new(), tenths: BUDGET_TENTHS }
    }
}

impl Hedges {
    /// A get begins.
    pub fn earn(&mut self) {
        self.tenths = (self.tenths + 1).min(BUDGET_TENTHS);
    }

    /// A get is to be looked at when patience is over, `at_ms`. Tells the slot's end if a timer must be
    /// set for it.
    pub fn watch(&mut self, request: RequestId, at_ms: u64) -> Option<u64> {
        let end_ms = (at_ms / SLOT_MS + 1) * SLOT_MS;
        let slot = self.slots.entry(end_ms).or_default();
        slot.push(request);
        (slot.len() == 1).then_some(end_ms)
    }

    /// The gets to be looked at now.
    pub fn due(&mut self, now_ms: u64) -> impl Iterator<Item = RequestId> + use<> {
        let later = self.slots.split_off(&(now_ms + 1));
        std::mem::replace(&mut self.slots, later).into_values().flatten()
    }

    /// Whether one more node may be asked for a get.
    pub fn spend(&mut self) -> bool {
        let left = self.tenths.checked_sub(10);
        self.tenths = left.unwrap_or(self.tenths);
        left.is_some()
    }

    /// Whether `node` is asked last.
    pub fn is_silent(&self, node: NodeId, now_ms: u64) -> bool {
        self.paces.get(&node).is_some_and(|pace| now_ms < pace.silent_until_ms)
    }

    /// A get lost patience with `node`.
    pub fn lost_patience(&mut self, node: NodeId, now_ms: u64) {
        self.paces.entry(node).or_default().silent_until_ms = now_ms + SILENT_MS;
    }

    /// `node` answered a get after `took_ms`.
    pub fn answered(&mut self, node: NodeId, took_ms: u64) {
        let took = took_ms.saturating_mul(8);
        let pace = self.paces.entry(node).or_default();
        let (mean, deviation) = match pace.has_answered {
            true => {
                let off = took.abs_diff(pace.mean);
                ((pace.mean * 7 + took) / 8, (pace.deviation * 3 + off) / 4)
            }
            false => (took, took / 2),
        };
        *pace = Pace { mean, deviation, has_answered: true, silent_until_ms: 0 };
    }

    /// How long an answer of `node` is waited for before another node is asked, in milliseconds.
    pub fn patience_ms(&self, node: NodeId) -> u64 {
        match self.paces.get(&node).filter(|pace| pace.has_answered) {
            Some(pace) => {
                (pace.mean + 4 * pace.deviation).div_ceil(8).clamp(PATIENCE_MIN_MS, PATIENCE_MAX_MS)
            }
            None => PATIENCE_FIRST_MS,
        }
    }

    /// Nothing is known of nodes that are no members.
    pub fn keep(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.paces.retain(|node, _| is_member(*node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);

    #[test]
    fn patience_follows_what_answers_take_within_bounds() {
        let mut hedges = Hedges::default();
        assert_eq!(hedges.patience_ms(NODE), PATIENCE_FIRST_MS);
        (0..50).for_each(|_| hedges.answered(NODE, 0));
        assert_eq!(hedges.patience_ms(NODE), PATIENCE_MIN_MS);
        (0..50).for_each(|_| hedges.answered(NODE, 40));
        assert!((40..45).contains(&hedges.patience_ms(NODE)), "{}", hedges.patience_ms(NODE));
        hedges.answered(NODE, 100_000);
        assert_eq!(hedges.patience_ms(NODE), PATIENCE_MAX_MS);
        (0..100).for_each(|_| hedges.answered(NODE, 40));
        assert!(hedges.patience_ms(NODE) < 60, "one slow answer is forgotten");
    }

    #[test]
    fn who_is_silent_is_asked_last_until_it_answers_or_time_has_passed() {
        let mut hedges = Hedges::default();
        hedges.lost_patience(NODE, 100);
        assert!(hedges.is_silent(NODE, 100) && !hedges.is_silent(NodeId(2), 100));
        assert!(!hedges.is_silent(NODE, 100 + SILENT_MS), "it is tried again");
        hedges.answered(NODE, 300);
        assert!(!hedges.is_silent(NODE, 101));
        hedges.lost_patience(NODE, 100);
        hedges.keep(|node| node != NODE);
        assert!(!hedges.is_silent(NODE, 101));
    }

    #[test]
    fn hedges_are_a_tenth_of_all_gets_in_the_long_run() {
        let mut hedges = Hedges::default();
        let saved = std::iter::repeat_with(|| hedges.spend()).take_while(|is_there| *is_there);
        assert_eq!(saved.count(), 100);
        (0..100).for_each(|_| hedges.earn());
        let earned = std::iter::repeat_with(|| hedges.spend()).take_while(|is_there| *is_there);
        assert_eq!(earned.count(), 10);
    }
}
