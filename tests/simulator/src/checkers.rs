//! The judges. What may be there and what must be follows from the clients' history alone; only
//! the watch for dots looks at what Stator calls its writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use stator_core::causality::{LiveVersion, Siblings};
use stator_core::event::Ticket;
use stator_core::id::Dot;
use stator_core::keys::StoreKey;
use stator_core::version::{Origin, Version};

use super::clients::{self, Key, LABEL};
use super::history::{ClientWrite, Counts, History, Outcome, WriteId};
use super::merging;
use super::queue::Micros;

/// Something that must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule that is broken.
    pub rule: &'static str,
    /// The key that it concerns, by its place in the run's list.
    pub key: Option<usize>,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.found)
    }
}

/// No acknowledged write is lost.
pub const LOST: &str = "no acknowledged write is lost";
/// No dot is minted twice.
pub const DOT: &str = "no dot is minted twice";
/// All owners of a key hold the same after healing.
pub const CONVERGED: &str = "all owners hold the same after healing";
/// Replication and hints alone bring every write to every owner.
pub const HANDED_OFF: &str = "replication and hints bring every write to every owner";
/// No node panics.
pub const PANICKED: &str = "no node panics";
/// Anti-entropy brings every write to every owner, though nobody reads.
pub const EXCHANGED: &str = "anti-entropy brings every write to every owner without a read";
/// A key is folded by the module that the catalogue of the node has for it.
pub const MODULE: &str = "a key is folded by the module that the catalogue has for it";
/// Hash trees say what the store holds.
pub const TREES: &str = "hash trees say what the store holds";
/// What was replaced or deleted does not come back.
pub const REVIVED: &str = "what was replaced or deleted stays so";
/// There are no siblings without concurrency.
pub const SIBLINGS: &str = "no siblings without concurrency";
/// No write is there twice.
pub const TWICE: &str = "no write is there twice";
/// A named write is not minted again by who has received it.
pub const NAMED: &str = "who has received a named write does not mint it again";
/// A request that failed without effect has none.
pub const NO_EFFECT: &str = "what was refused without effect has none";
/// Strict quorums that intersect see each other.
pub const STRICT: &str = "a strict get sees every strict put before it";
/// Local quorums of one region see each other.
pub const LOCAL: &str = "a local get sees every local put of its region before it";
/// Every request is answered once, by its deadline.
pub const ANSWERED: &str = "every request is answered once, by its deadline";
/// What is read is what was written.
pub const VALUE: &str = "what is read is what was written";
/// Where versions are folded no put is refused for its siblings.
pub const REFUSED: &str = "where versions are folded no put is refused for siblings";
/// What siblings are said to come from is their nearest common ancestor.
pub const ANCESTOR: &str = "what siblings are said to come from is their nearest common ancestor";
/// What is deleted leaves every store.
pub const FORGOTTEN: &str = "what is deleted leaves every store";
/// There is one ring of each version.
pub const ONE_RING: &str = "there is one ring of each version";
/// The owners of a partition are on as many nodes and in as many zones as can be.
pub const ZONES: &str = "owners are on as many nodes and in as many zones as can be";
/// Once an operator's repair is done all owners hold the same.
pub const REPAIRED: &str = "all owners hold the same once a repair is done";
/// A member serves one process as a node.
pub const ONE_HOLDER: &str = "a member serves one process as a node";
/// A process that ran all the time is not refused for another one.
pub const NEVER_GONE: &str = "a process that was never gone is not refused";
/// Who was refused as a second holder acknowledges nothing.
pub const REFUSED_ACKS: &str = "who was refused as a second holder acknowledges nothing";
/// A process that is refused is named by who refuses it.
pub const UNNAMED: &str = "members name the process that they refuse";
/// After healing the cluster comes to rest.
pub const RESTS: &str = "after healing the cluster comes to rest";

/// Remembers which write every dot of a key was minted for.
#[derive(Debug, Default)]
pub struct DotWatch {
    writes: BTreeMap<(Key, Dot), WriteId>,
    /// How many dots each write has.
    counts: BTreeMap<WriteId, usize>,
    /// Dots that were lent, and of which nothing was stored yet.
    lent: BTreeSet<(Key, Dot)>,
}

impl DotWatch {
    /// The write of `dot`, if a client made it.
    pub fn write(&self, key: &Key, dot: Dot) -> Option<WriteId> {
        self.writes.get(&(key.clone(), dot)).copied()
    }

    /// The write of `dot` of a key as stores name it.
    pub fn of_store_key(&self, key: &StoreKey, dot: Dot) -> Option<WriteId> {
        self.write(&Key { keyspace: key.keyspace, bytes: key.key.clone() }, dot)
    }

    /// How many dots a write has.
    pub fn count(&self, id: WriteId) -> usize {
        self.counts.get(&id).copied().unwrap_or(0)
    }

    /// Something is stored of a key. Gives a write that has come to have more than one dot by it.
    pub fn stored(&mut self, key: &StoreKey, siblings: &Siblings) -> Option<WriteId> {
        let watched = |dot| (Key { keyspace: key.keyspace, bytes: key.key.clone() }, dot);
        let mut twin = None;
        if self.lent.is_empty() {
            return twin;
        }
        for (dot, _) in siblings.live() {
            if self.lent.remove(&watched(dot))
                && let Some(id) = self.writes.get(&watched(dot))
            {
                let count = self.counts.entry(*id).or_default();
                *count += 1;
                twin = twin.or((*count > 1).then_some(*id));
            }
        }
        twin
    }

    /// `dot` was minted for the version that is now live under it in `siblings`, or lent for it.
    pub fn minted(
        &mut self,
        key: &StoreKey,
        dot: Dot,
        siblings: &Siblings,
        is_lent: bool,
    ) -> Option<Violation> {
        let version = siblings.live().find(|(live, _)| *live == dot)?.1;
        let id = version.labels.get(LABEL)?.parse().ok()?;
        let watched = Key { keyspace: key.keyspace, bytes: key.key.clone() };
        let first = *self.writes.entry((watched.clone(), dot)).or_insert_with(|| {
            match is_lent {
                true => drop(self.lent.insert((watched, dot))),
                false => *self.counts.entry(id).or_default() += 1,
            }
            id
        });
        (first != id).then(|| Violation {
            rule: DOT,
            key: None,
            found: format!("{dot} of {:?} names write {first} and write {id}", key.key),
        })
    }
}

/// The value of every version that a client wrote ends with the number of its write.
pub fn values(siblings: &Siblings) -> Option<Violation> {
    let is_right = |version: &Version| match (&version.origin, version.payload.value()) {
        (Origin::Client(_), Some(value)) => {
            let label = version.labels.get(LABEL).and_then(|label| label.parse().ok());
            label.is_some()
                && (*value == clients::SAME || merging::contained(value).last().copied() == label)
        }
        _ => true,
    };
    let (dot, version) = siblings.live().find(|(_, version)| !is_right(version))?;
    let found = format!("{dot} is labelled {:?} and holds {:?}", version.labels, version.payload);
    Some(Violation { rule: VALUE, key: None, found })
}

/// A version that stands for `live` writes contains all that each of them does.
pub fn contents(
    history: &History,
    key: usize,
    live: &BTreeSet<WriteId>,
    contained: &BTreeSet<WriteId>,
) -> Option<Violation> {
    let lost = |id: &WriteId| history.contents(*id).difference(contained).next().copied();
    let lost = live.iter().find_map(lost)?;
    let found = format!("a version of {live:?} contains {contained:?} without {lost}");
    Some(Violation { rule: LOST, key: Some(key), found })
}

/// At the end a version is there because of something that nobody has replaced or deleted.
pub fn is_left(
    history: &History,
    key: usize,
    live: &BTreeSet<WriteId>,
    contained: &BTreeSet<WriteId>,
) -> Option<Violation> {
    let is_left = |id: &WriteId| !history.successors(*id).iter().any(|s| history.is_certain(*s));
    if contained.is_empty() || live.union(contained).any(is_left) {
        return None;
    }
    let found = format!("all of {contained:?} was replaced or deleted, and is there");
    Some(Violation { rule: REVIVED, key: Some(key), found })
}

/// A module is told that `live` have `ancestor` in common, or `None`: that there was no key.
pub fn ancestor(
    history: &History,
    key: usize,
    live: &BTreeSet<WriteId>,
    ancestor: Option<WriteId>,
) -> Option<Violation> {
    let violation = |found| Some(Violation { rule: ANCESTOR, key: Some(key), found });
    // A get does not show what has expired, and its context covers that all the same.
    if ancestor.is_some_and(|id| history.may_expire(id)) {
        return None;
    }
    let pasts: Vec<_> = live.iter().map(|id| (id, history.ancestors(*id))).collect();
    let mut reach = BTreeSet::new();
    if let Some(ancestor) = ancestor {
        reach = history.ancestors(ancestor);
        reach.insert(ancestor);
        if let Some((id, _)) = pasts.iter().find(|(_, past)| !past.contains(&ancestor)) {
            return violation(format!(
                "{live:?} are said to come from {ancestor}, which {id} has not seen"
            ));
        }
    }
    let is_delete = |id: &WriteId| history.get(*id).is_some_and(|write| write.is_delete);
    for (place, (_, a)) in pasts.iter().enumerate() {
        for (_, b) in &pasts[..place] {
            let mut common: BTreeSet<WriteId> = a & b;
            if ancestor.is_none() {
                // After a delete that both have seen there was no key.
                for delete in common.clone().iter().filter(|id| is_delete(id)) {
                    let before = history.ancestors(*delete);
                    common.retain(|id| id != delete && !before.contains(id));
                }
            }
            if let Some(nearer) = common.difference(&reach).next() {
                let from = format!("{live:?} are said to come from {ancestor:?}");
                return violation(format!("{from}; two had seen {nearer} too"));
            }
        }
    }
    None
}

/// A reader that gets several versions gets each client's write once.
pub fn twice(key: usize, siblings: &Siblings) -> Option<Violation> {
    let mut seen = BTreeSet::new();
    for LiveVersion { version, .. } in siblings.versions() {
        let label = version.labels.get(LABEL).cloned();
        let is_write = matches!(version.origin, Origin::Client(_)) && label.is_some();
        if is_write && !seen.insert(label.clone()) {
            let found = format!("write {label:?} is there as two versions");
            return Some(Violation { rule: TWICE, key: Some(key), found });
        }
    }
    None
}

/// What any reader got.
pub fn answer(history: &History, key: usize, found: &BTreeSet<WriteId>) -> Option<Violation> {
    let violation = |rule, found| Some(Violation { rule, key: Some(key), found });
    for &id in found {
        match history.get(id) {
            Some(write) if write.key != key => {
                return violation(VALUE, format!("write {id} is of key {}", write.key));
            }
            Some(ClientWrite { outcome: Outcome::Nothing, .. }) => {
                return violation(NO_EFFECT, format!("write {id} was refused and is there"));
            }
            Some(_) => {}
            None => return violation(VALUE, format!("nobody wrote {id}")),
        }
        let ancestors = history.ancestors(id);
        // Who has replaced one try of a write may not have seen the other.
        let mut old = ancestors.intersection(found).filter(|old| !history.is_twin(**old));
        if let Some(old) = old.next() {
            let text = format!("write {old} is beside write {id}, whose writer had seen it");
            return violation(SIBLINGS, text);
        }
    }
    None
}

/// What a get that started at `from_us` found, of which such answers count: no put that was acknowledged
/// before, and that it must meet, may be missing.
pub fn strict_get(
    history: &History,
    (key, found): (usize, &BTreeSet<WriteId>),
    counts: Counts,
    n: u32,
    from_us: Micros,
) -> Option<Violation> {
    let is_before = |write: &ClientWrite| match write.outcome {
        Outcome::Acked { at_us } => at_us < from_us && counts.meets(write.counts, n),
        _ => false,
    };
    let mut before = history.of_key(key).filter(|(_, write)| is_before(write));
    let (id, _) = before.find(|(id, _)| !history.is_explained(*id, found))?;
    let rule = if let Counts::Region(_) = counts { LOCAL } else { STRICT };
    let found = format!("a get of {counts:?} found {found:?}, not write {id}");
    Some(Violation { rule, key: Some(key), found })
}

/// What is left of a key at the end: `found` by every owner.
pub fn end(
    history: &History,
    key: usize,
    found: &BTreeSet<WriteId>,
    keeps_siblings: bool,
) -> Option<Violation> {
    let violation = |rule, found| Some(Violation { rule, key: Some(key), found });
    for &id in found {
        let later = history.successors(id).iter().find(|later| history.is_certain(**later));
        if let Some(later) = later.filter(|_| !history.is_twin(id)) {
            let text = format!("write {id} is live, though write {later} had seen it");
            return violation(REVIVED, text);
        }
    }
    if keeps_siblings {
        let mut acked = history.of_key(key).filter(|(id, _)| history.is_certain(*id));
        if let Some((id, _)) = acked.find(|(id, _)| !history.is_explained(*id, found)) {
            return violation(LOST, format!("write {id} is gone; left are {found:?}"));
        }
    } else if found.len() > 1 {
        return violation(SIBLINGS, format!("the last write wins, and {found:?} are left"));
    }
    answer(history, key, found)
}

/// Several owners of a key hold different things.
pub fn differs(rule: &'static str, key: usize, held: &[(usize, Option<Siblings>)]) -> Violation {
    let brief = |(machine, siblings): &(usize, Option<Siblings>)| match siblings {
        Some(siblings) => format!("n{machine} {:?}", clients::writes(siblings)),
        None => format!("n{machine} nothing"),
    };
    let found = held.iter().map(brief).collect::<Vec<_>>().join(", ");
    Violation { rule, key: Some(key), found }
}

/// A put was refused for siblings that cannot be.
pub fn refused(key: usize, error: &impl fmt::Display) -> Violation {
    Violation { rule: REFUSED, key: Some(key), found: error.to_string() }
}

/// A request got no answer.
pub fn unanswered(ticket: Ticket) -> Violation {
    let found = format!("request {ticket} has no answer at its deadline");
    Violation { rule: ANSWERED, key: None, found }
}

/// A request got an answer that nobody waits for.
pub fn answered_twice(ticket: Ticket) -> Violation {
    let found = format!("request {ticket} has got a second answer");
    Violation { rule: ANSWERED, key: None, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(seen: &[WriteId], strict_w: Option<u32>, outcome: Outcome) -> ClientWrite {
        let seen = seen.iter().copied().collect();
        let counts = strict_w.map_or(Counts::Any, Counts::Owners);
        ClientWrite { key: 0, is_delete: false, seen, contents: BTreeSet::new(), counts, outcome }
    }

    const ACKED: Outcome = Outcome::Acked { at_us: 10 };

    fn rule(violation: Option<Violation>) -> Option<&'static str> {
        violation.map(|violation| violation.rule)
    }

    /// Write 1; 2 and 3 that had both seen it; 4 that had seen 2 and 3.
    fn history(last: Outcome) -> History {
        let mut history = History::new(false);
        history.start(write(&[], Some(2), ACKED));
        history.start(write(&[1], None, ACKED));
        history.start(write(&[1], None, ACKED));
        history.start(write(&[2, 3], None, last));
        history
    }

    #[test]
    fn ends() {
        let judge = |last, found: &[WriteId]| {
            rule(end(&history(last), 0, &found.iter().copied().collect(), true))
        };
        // the last write's outcome, what is left, the rule that is broken
        let table: [(Outcome, &[WriteId], Option<&'static str>); 8] = [
            (ACKED, &[4], None),
            (ACKED, &[], Some(LOST)),
            (ACKED, &[2, 3], Some(REVIVED)),
            (ACKED, &[1, 4], Some(REVIVED)),
            (Outcome::Maybe, &[4], None),
            (Outcome::Maybe, &[2, 3], None),
            (Outcome::Maybe, &[2, 4], Some(SIBLINGS)),
            (Outcome::Nothing, &[4], Some(LOST)),
        ];
        for (last, found, expected) in table {
            assert_eq!(judge(last, found), expected, "{last:?} {found:?}");
        }
        let refused = history(Outcome::Nothing);
        assert_eq!(rule(answer(&refused, 0, &BTreeSet::from([4]))), Some(NO_EFFECT));
        assert_eq!(rule(answer(&refused, 1, &BTreeSet::from([2]))), Some(VALUE));
        assert_eq!(rule(answer(&refused, 0, &BTreeSet::from([9]))), Some(VALUE));
    }

    #[test]
    fn strict_quorums_intersect_only_if_they_are_large_enough() {
        let history = history(Outcome::Maybe);
        let get = |r, from_us| {
            let found = BTreeSet::new();
            rule(strict_get(&history, (0, &found), Counts::Owners(r), 3, from_us))
        };
        assert_eq!(get(2, 11), Some(STRICT));
        assert_eq!(get(1, 11), None, "w=2 and r=1 of 3 need not meet");
        assert_eq!(get(2, 10), None, "the put was not over yet");
        let replaced = BTreeSet::from([4]);
        assert_eq!(rule(strict_get(&history, (0, &replaced), Counts::Owners(2), 3, 11)), None);
    }

    #[test]
    fn local_quorums_meet_in_their_region() {
        let mut history = History::new(false);
        history.start(ClientWrite { counts: Counts::Region(1), ..write(&[], None, ACKED) });
        let get = |counts| rule(strict_get(&history, (0, &BTreeSet::new()), counts, 3, 11));
        assert_eq!(get(Counts::Region(1)), Some(LOCAL));
        let others = [Counts::Region(0), Counts::Owners(3), Counts::Any];
        others.into_iter().for_each(|counts| assert_eq!(get(counts), None, "{counts:?}"));
    }

    #[test]
    fn an_ancestor_is_the_nearest_of_all() {
        let mut history = history(ACKED);
        history.start(write(&[4], None, ACKED));
        history.start(write(&[4], None, ACKED));
        let judge = |live: &[WriteId], past| {
            rule(ancestor(&history, 0, &live.iter().copied().collect(), past))
        };
        assert_eq!(judge(&[2, 3], Some(1)), None);
        assert_eq!(judge(&[5, 6], Some(4)), None);
        assert_eq!(judge(&[5, 6], Some(1)), Some(ANCESTOR), "both have seen 4");
        assert_eq!(judge(&[2, 4], Some(3)), Some(ANCESTOR), "2 has not seen 3");
        assert_eq!(judge(&[1, 2], Some(1)), Some(ANCESTOR), "nothing is in its own past");
        assert_eq!(judge(&[2, 3], None), Some(ANCESTOR), "there was a key");
    }
}
