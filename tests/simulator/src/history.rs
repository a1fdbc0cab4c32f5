//! The log of all that clients did, as they saw it: the truth that a run is judged by.
//!
//! It knows nothing of vectors and dots. Every write has a number, which travels with it as a
//! label; a write's `seen` are the writes whose versions its client had in hand when it wrote.
//! From that alone follows what may be missing at the end and what must be.

use std::collections::{BTreeMap, BTreeSet};

use super::queue::Micros;

/// The number of a client's write.
pub type WriteId = u64;

/// How a write ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has not.
    Pending,
    /// It was acknowledged.
    Acked {
        /// When.
        at_us: Micros,
    },
    /// The client was told that nothing happened.
    Nothing,
    /// The client does not know.
    Maybe,
}

/// Whose answers a request counts: which gets must see which puts follows from both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// Those of fallbacks too, so nothing follows.
    Any,
    /// So many owners.
    Owners(u32),
    /// Most of the owners of this region.
    Region(usize),
}

impl Counts {
    /// Whether a get that counts so must see what was put so, where `n` nodes are owners.
    pub fn meets(self, put: Counts, n: u32) -> bool {
        match (self, put) {
            (Counts::Owners(r), Counts::Owners(w)) => r + w > n,
            (Counts::Region(here), Counts::Region(there)) => here == there,
            _ => false,
        }
    }
}

/// A client's put or delete.
#[derive(Debug, Clone)]
pub struct ClientWrite {
    /// The key, by its place in the run's list of keys.
    pub key: usize,
    /// Whether it deletes.
    pub is_delete: bool,
    /// The writes that its client had seen.
    pub seen: BTreeSet<WriteId>,
    /// The writes that its value carries on, where a module merges.
    pub contents: BTreeSet<WriteId>,
    /// Whose acknowledgements count.
    pub counts: Counts,
    /// How it ended.
    pub outcome: Outcome,
}

/// All writes of a run.
#[derive(Debug, Default)]
pub struct History {
    writes: BTreeMap<WriteId, ClientWrite>,
    /// Writes that some reader got.
    observed: BTreeSet<WriteId>,
    is_observed_lasting: bool,
    /// Writes that have two dots: who has seen one has not seen the other.
    twins: BTreeSet<WriteId>,
    /// Per write those whose clients had seen it.
    successors: BTreeMap<WriteId, Vec<WriteId>>,
    /// When writes expire, by the clock: milliseconds since 1970.
    ends_ms: BTreeMap<WriteId, u64>,
    /// What the clocks of all machines were past at some time.
    passed_ms: u64,
}

impl History {
    /// The history of a run before its first write. With `is_observed_lasting` a write that
    /// some reader got stays, acknowledged or not; a crash can take it back if it was not.
    pub fn new(is_observed_lasting: bool) -> Self {
        History { is_observed_lasting, ..History::default() }
    }

    /// Adds a write that starts now.
    pub fn start(&mut self, write: ClientWrite) -> WriteId {
        let id = self.writes.len() as WriteId + 1;
        for seen in &write.seen {
            self.successors.entry(*seen).or_default().push(id);
        }
        self.writes.insert(id, write);
        id
    }

    /// A write is stored somewhere, and expires then: a second try by another clock, perhaps.
    pub fn expires(&mut self, id: WriteId, at_ms: u64) {
        let known = self.ends_ms.entry(id).or_default();
        *known = at_ms.max(*known);
    }

    /// The clocks of all machines have been past this.
    pub fn clocks_passed(&mut self, passed_ms: u64) {
        self.passed_ms = passed_ms.max(self.passed_ms);
    }

    /// Whether the write expires at some time.
    pub fn may_expire(&self, id: WriteId) -> bool {
        self.ends_ms.contains_key(&id)
    }

    /// Whether the write has expired by every clock, so that it may be gone.
    pub fn is_over(&self, id: WriteId) -> bool {
        self.ends_ms.get(&id).is_some_and(|at_ms| *at_ms <= self.passed_ms)
    }

    /// A write ended for its client.
    pub fn end(&mut self, id: WriteId, outcome: Outcome) {
        if let Some(write) = self.writes.get_mut(&id) {
            write.outcome = outcome;
        }
    }

    /// A write was minted a second time.
    pub fn has_twins(&mut self, id: WriteId) {
        self.twins.insert(id);
    }

    /// Whether a write was minted more than once.
    pub fn is_twin(&self, id: WriteId) -> bool {
        self.twins.contains(&id)
    }

    /// A reader got this write.
    pub fn observe(&mut self, id: WriteId) {
        self.observed.insert(id);
    }

    /// A write.
    pub fn get(&self, id: WriteId) -> Option<&ClientWrite> {
        self.writes.get(&id)
    }

    /// The writes that its value contains, itself too; none for a delete.
    pub fn contents(&self, id: WriteId) -> BTreeSet<WriteId> {
        match self.get(id) {
            Some(write) if !write.is_delete => write.contents.iter().copied().chain([id]).collect(),
            _ => BTreeSet::new(),
        }
    }

    /// All writes of a key.
    pub fn of_key(&self, key: usize) -> impl Iterator<Item = (WriteId, &ClientWrite)> {
        self.writes.iter().filter(move |(_, write)| write.key == key).map(|(id, w)| (*id, w))
    }

    /// Whether the write certainly took effect, and for good.
    pub fn is_certain(&self, id: WriteId) -> bool {
        let outcome = self.get(id).map(|write| write.outcome);
        matches!(outcome, Some(Outcome::Acked { .. }))
            || (self.is_observed_lasting && self.observed.contains(&id))
    }

    /// Whether the write may have taken effect.
    pub fn is_possible(&self, id: WriteId) -> bool {
        self.get(id).is_some_and(|write| write.outcome != Outcome::Nothing)
    }

    /// The writes whose clients had seen this one.
    pub fn successors(&self, id: WriteId) -> &[WriteId] {
        self.successors.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Whether it can be explained that a reader who got `found` did not get `id`: someone who
    /// had seen it replaced it, and that write is there or was replaced in its turn. A delete need
    /// not be there: once everybody has it, it is forgotten. Nor need what has expired.
    pub fn is_explained(&self, id: WriteId, found: &BTreeSet<WriteId>) -> bool {
        let mut reached = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let is_delete = self.get(id).is_some_and(|write| write.is_delete);
            if found.contains(&id) || is_delete || self.is_over(id) {
                return true;
            }
            let later = self.successors(id).iter().filter(|later| self.is_possible(**later));
            open.extend(later.filter(|later| reached.insert(**later)));
        }
        false
    }

    /// Everything that the writer of `id` had seen, and the writers of that, and so on.
    pub fn ancestors(&self, id: WriteId) -> BTreeSet<WriteId> {
        let mut all = BTreeSet::new();
        let mut open = vec![id];
        while let Some(write) = open.pop().and_then(|id| self.get(id)) {
            open.extend(write.seen.iter().filter(|seen| all.insert(**seen)));
        }
        all
    }
}
