//! Computes the sides of a law, within a budget.
//!
//! A merged version that is merged again is what a fold would store: the payload, the largest
//! schema number and the latest time of all its inputs. As in a node, equal payloads reach the
//! merge once, the first of them, and a lone version does not reach it at all.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stator_core::divergence::{
    Ancestor, Divergence, DivergentVersion, MergeFailure, Outcome, Resolution,
};

use super::counterexample::{Origin, Shown};
use super::term::{Claim, Term};
use super::variety::Variety;
use super::{Promise, Specimen};

/// The inputs of a law, all of one history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) keyspace: String,
    pub(super) key: Bytes,
    pub(super) inputs: Vec<DivergentVersion>,
    /// For people: `a`, `b`, `a'`.
    pub(super) names: Vec<String>,
    /// What every merge of the case is given.
    pub(super) ancestor: Ancestor,
    /// The least certain origin of the inputs.
    pub(super) origin: Origin,
    /// Merges and edits that made the deepest input.
    pub(super) depth: usize,
}

impl Case {
    /// A fold has the largest schema number of all: a module may refuse it for that.
    fn is_of_one_schema(&self) -> bool {
        self.inputs.windows(2).all(|pair| pair[0].schema == pair[1].schema)
    }
}

/// What a check may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) merges: u64,
    pub(super) fuel: u64,
    pub(super) until: Option<Instant>,
}

/// Why a check, or a part of it, ends early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// This budget is used up.
    Spent(&'static str),
    /// The node is to blame, not what is checked.
    Node(MergeFailure),
}

/// How the two sides of a violated claim differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// What is computed and what came of it, of both sides, or of the only one.
    pub(super) sides: Vec<(Term, Shown)>,
    /// What is wrong, where the two sides do not say it.
    pub(super) words: Option<String>,
}

/// What a claim comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// It is true of the case.
    True,
    /// It says nothing about the case.
    Moot,
    /// It is false.
    False(Finding),
}

/// The value of a term.
#[derive(Debug, Clone)]
enum Value {
    /// An input as it is.
    Raw(DivergentVersion),
    /// A merge's version.
    Merged(DivergentVersion),
    /// The siblings are kept, here or further inside.
    Kept,
    /// A merge failed, here or further inside.
    Failed(MergeFailure),
}

/// Merges for the laws, and counts.
pub(super) struct Evaluator<'a> {
    specimen: &'a dyn Specimen,
    budget: Budget,
    pub(super) merges: u64,
    pub(super) fuel: u64,
    /// What the merges were like.
    pub(super) variety: Variety,
    /// Answers of this case: its laws share most of their terms.
    known: HashMap<Vec<DivergentVersion>, Result<Resolution, MergeFailure>>,
}

/// What a merge is given, and what a fold of it would be dated.
struct Met {
    /// Equal payloads once, and whether each is an input as it is.
    siblings: Vec<(DivergentVersion, bool)>,
    schema: u32,
    written_at_ms: u64,
}

/// Clocks are asked only now and then: they cost as much as a small merge.
const MERGES_PER_LOOK: u64 = 16;

impl<'a> Evaluator<'a> {
    pub(super) fn new(specimen: &'a dyn Specimen, budget: Budget) -> Self {
        let variety = Variety::default();
        Evaluator { specimen, budget, merges: 0, fuel: 0, variety, known: HashMap::new() }
    }

    /// Whether older schemas are read.
    pub(super) fn migrates(&self) -> bool {
        self.specimen.migrates()
    }

    /// From now on, up to this budget in all.
    pub(super) fn allow(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// Forgets the answers of the case before: another one begins.
    pub(super) fn begin(&mut self) {
        self.known.clear();
    }

    /// What `claim` comes to in `case`, the one that was begun.
    pub(super) fn judge(&mut self, case: &Case, claim: &Claim) -> Result<Found, Stop> {
        self.variety.depth = self.variety.depth.max(case.depth + claim.depth());
        match claim {
            Claim::Equal(left, right) => self.equal(case, left, right),
            Claim::Repeats(term) => self.repeats(case, term),
            Claim::Answers(term) => self.answers(case, term),
            Claim::Preserves(term) => self.preserves(case, term),
        }
    }

    fn equal(&mut self, case: &Case, left: &Term, right: &Term) -> Result<Found, Stop> {
        let (l, r) = (self.value(case, left)?, self.value(case, right)?);
        match (&l, &r) {
            (Value::Raw(l), Value::Raw(r)) | (Value::Merged(l), Value::Merged(r))
                if l.value == r.value =>
            {
                Ok(Found::True)
            }
            // A client's own encoding beside a merged one: both may mean the same.
            (Value::Raw(_) | Value::Merged(_), Value::Raw(_) | Value::Merged(_))
                if matches!(l, Value::Raw(_)) != matches!(r, Value::Raw(_)) =>
            {
                Ok(Found::Moot)
            }
            (Value::Raw(_) | Value::Merged(_), Value::Raw(_) | Value::Merged(_)) => {
                let sides = vec![(left.clone(), shown(&l)), (right.clone(), shown(&r))];
                Ok(Found::False(Finding { sides, words: None }))
            }
            // The same inputs could be read the other way: what cannot be is a merge's own work.
            (Value::Failed(failure), Value::Merged(_))
            | (Value::Merged(_), Value::Failed(failure))
                if blames_a_value(failure)
                    && case.is_of_one_schema()
                    && left.inputs() == right.inputs() =>
            {
                let sides = vec![(left.clone(), shown(&l)), (right.clone(), shown(&r))];
                Ok(Found::False(Finding { sides, words: None }))
            }
            // Else failures are for the law `total`; where siblings are kept nothing is replaced.
            _ => Ok(Found::Moot),
        }
    }

    fn repeats(&mut self, case: &Case, term: &Term) -> Result<Found, Stop> {
        let Some(divergence) = self.outermost(case, term)? else { return Ok(Found::Moot) };
        let (first, second) = (self.call(&divergence)?, self.call(&divergence)?);
        let same = match (&first, &second) {
            (Ok(l), Ok(r)) => (&l.outcome, &l.note, &l.events) == (&r.outcome, &r.note, &r.events),
            (Err(l), Err(r)) => l == r,
            _ => false,
        };
        if same {
            return Ok(Found::True);
        }
        let words = match (&first, &second) {
            (Ok(l), Ok(r)) if l.outcome == r.outcome => {
                "the merged values are equal, but the notes or events are not"
            }
            _ => "the same input gave two answers",
        };
        let sides = [first, second].map(|answer| (term.clone(), Shown::of(&answer)));
        Ok(Found::False(Finding { sides: sides.into(), words: Some(words.to_owned()) }))
    }

    fn answers(&mut self, case: &Case, term: &Term) -> Result<Found, Stop> {
        Ok(match self.value(case, term)? {
            // To refuse what no sample shows is a module's right; to break is not.
            Value::Failed(MergeFailure::Refused { .. }) if case.origin != Origin::Sampled => {
                Found::Moot
            }
            Value::Failed(failure) => Found::False(Finding {
                sides: vec![(term.clone(), Shown::Failure(failure.to_string()))],
                words: Some("siblings that can arise have no merge".to_owned()),
            }),
            Value::Raw(_) => Found::Moot,
            Value::Merged(_) | Value::Kept => Found::True,
        })
    }

    fn preserves(&mut self, case: &Case, term: &Term) -> Result<Found, Stop> {
        let Some(before) = self.outermost(case, term)? else { return Ok(Found::Moot) };
        let Ok(answer) = self.merge(&before)? else { return Ok(Found::Moot) };
        if answer.outcome == Outcome::KeepSiblings {
            return Ok(Found::Moot);
        }
        self.spend()?;
        let words = match self.specimen.preserves(&before, &answer.outcome) {
            Promise::NotStated => return Ok(Found::Moot),
            Promise::Kept => return Ok(Found::True),
            Promise::Broken(words) => format!("the module's invariant says: {words}"),
            Promise::Unanswered(failure) if !failure.is_lasting() => {
                return Err(Stop::Node(failure));
            }
            // What it takes to look is not promised, and values grow beyond what a sampler thinks of.
            Promise::Unanswered(
                MergeFailure::OutOfFuel { .. } | MergeFailure::OutOfMemory { .. },
            ) if case.origin != Origin::Sampled => return Ok(Found::Moot),
            Promise::Unanswered(failure) => format!("the module's invariant fails: {failure}"),
        };
        let sides = vec![(term.clone(), Shown::of(&Ok(answer)))];
        Ok(Found::False(Finding { sides, words: Some(words) }))
    }

    /// What is merged from some versions of one history; `None` where that gives none.
    pub(super) fn version(&mut self, case: &Case) -> Result<Option<DivergentVersion>, Stop> {
        let term = Term::of(0..case.inputs.len());
        Ok(match self.value(case, &term)? {
            Value::Raw(version) | Value::Merged(version) => Some(version),
            Value::Kept | Value::Failed(_) => None,
        })
    }

    /// The outcome of merging all inputs; `None` if that fails.
    pub(super) fn outcome(&mut self, case: &Case) -> Result<Option<Outcome>, Stop> {
        let term = Term::of(0..case.inputs.len());
        let Some(divergence) = self.outermost(case, &term)? else { return Ok(None) };
        Ok(self.merge(&divergence)?.ok().map(|answer| answer.outcome))
    }

    fn value(&mut self, case: &Case, term: &Term) -> Result<Value, Stop> {
        match term {
            Term::Input(n) => match case.inputs.get(*n) {
                Some(input) => Ok(Value::Raw(input.clone())),
                None => Ok(Value::Kept),
            },
            Term::Merge(terms) => {
                let met = match self.meet(case, terms)? {
                    Ok(met) => met,
                    Err(value) => return Ok(value),
                };
                let (schema, written_at_ms) = (met.schema, met.written_at_ms);
                let merged = |value| DivergentVersion { value, schema, written_at_ms };
                if let [(sole, is_raw)] = met.siblings.as_slice() {
                    let sole = merged(sole.value.clone());
                    return Ok(if *is_raw { Value::Raw(sole) } else { Value::Merged(sole) });
                }
                let siblings = met.siblings.into_iter().map(|(version, _)| version).collect();
                let merged = |value| Value::Merged(merged(value));
                let answer = self.merge(&divergence(case, siblings))?;
                Ok(match answer {
                    Err(failure) => Value::Failed(failure),
                    Ok(Resolution { outcome: Outcome::KeepSiblings, .. }) => Value::Kept,
                    Ok(Resolution { outcome: Outcome::Delete, .. }) => merged(None),
                    Ok(Resolution { outcome: Outcome::Value(value), .. }) => merged(Some(value)),
                })
            }
        }
    }

    /// What a merge of `terms` is given; or why there is none.
    fn meet(&mut self, case: &Case, terms: &[Term]) -> Result<Result<Met, Value>, Stop> {
        let mut met =
            Met { siblings: Vec::with_capacity(terms.len()), schema: 0, written_at_ms: 0 };
        for term in terms {
            let (version, is_raw) = match self.value(case, term)? {
                Value::Raw(version) => (version, true),
                Value::Merged(version) => (version, false),
                none => return Ok(Err(none)),
            };
            met.schema = met.schema.max(version.schema);
            met.written_at_ms = met.written_at_ms.max(version.written_at_ms);
            match met.siblings.iter_mut().find(|(known, _)| known.value == version.value) {
                // The very bytes that a merge made are no client's own encoding.
                Some((_, known_is_raw)) => *known_is_raw &= is_raw,
                None => met.siblings.push((version, is_raw)),
            }
        }
        Ok(Ok(met))
    }

    /// What the outermost merge of `term` is given, if it takes place.
    fn outermost(&mut self, case: &Case, term: &Term) -> Result<Option<Divergence>, Stop> {
        let Term::Merge(terms) = term else { return Ok(None) };
        let Ok(met) = self.meet(case, terms)? else { return Ok(None) };
        if met.siblings.len() < 2 {
            return Ok(None);
        }
        let siblings = met.siblings.into_iter().map(|(version, _)| version).collect();
        Ok(Some(divergence(case, siblings)))
    }

    fn merge(&mut self, divergence: &Divergence) -> Result<Result<Resolution, MergeFailure>, Stop> {
        if let Some(answer) = self.known.get(&divergence.siblings) {
            return Ok(answer.clone());
        }
        let answer = self.call(divergence)?;
        self.known.insert(divergence.siblings.clone(), answer.clone());
        Ok(answer)
    }

    fn call(&mut self, divergence: &Divergence) -> Result<Result<Resolution, MergeFailure>, Stop> {
        self.spend()?;
        let answer = self.specimen.merge(divergence);
        self.variety.saw(divergence, &answer);
        match &answer {
            Ok(resolution) => self.fuel += resolution.fuel_used,
            Err(MergeFailure::OutOfFuel { limit }) => self.fuel += limit,
            Err(failure) if !failure.is_lasting() => return Err(Stop::Node(failure.clone())),
            Err(_) => {}
        }
        Ok(answer)
    }

    /// Books one more call.
    fn spend(&mut self) -> Result<(), Stop> {
        if self.merges >= self.budget.merges {
            return Err(Stop::Spent("its budget of merges was used up"));
        }
        if self.fuel >= self.budget.fuel {
            return Err(Stop::Spent("its budget of fuel was used up"));
        }
        let looks = self.merges.is_multiple_of(MERGES_PER_LOOK);
        if looks && self.budget.until.is_some_and(|until| Instant::now() >= until) {
            return Err(Stop::Spent("its time was used up"));
        }
        self.merges += 1;
        Ok(())
    }
}

impl Budget {
    /// What is left of a check's budget when `part` of `parts` of it is set aside.
    pub(super) fn without(self, part: u32, parts: u32, started: Instant) -> Budget {
        let share = |whole: u64| whole - whole / u64::from(parts) * u64::from(part);
        let time = |until: Instant| {
            let whole = until.saturating_duration_since(started);
            until.checked_sub(whole * part / parts).unwrap_or(until)
        };
        Budget { merges: share(self.merges), fuel: share(self.fuel), until: self.until.map(time) }
    }

    /// A budget that begins now.
    pub(super) fn starting(merges: u64, fuel: u64, wall: Option<Duration>, now: Instant) -> Self {
        Budget { merges, fuel, until: wall.and_then(|wall| now.checked_add(wall)) }
    }
}

/// Whether it is a value that cannot be merged, rather than too much of it.
fn blames_a_value(failure: &MergeFailure) -> bool {
    matches!(failure, MergeFailure::Refused { .. } | MergeFailure::Trapped(_))
}

fn divergence(case: &Case, siblings: Vec<DivergentVersion>) -> Divergence {
    Divergence {
        keyspace: case.keyspace.clone(),
        key: case.key.clone(),
        siblings,
        ancestor: case.ancestor.clone(),
        fingerprint: [0; 32], // not used: the laws pass the memo by
    }
}

fn shown(value: &Value) -> Shown {
    match value {
        Value::Raw(version) | Value::Merged(version) => match &version.value {
            Some(value) => Shown::Value(value.clone()),
            None => Shown::Delete,
        },
        Value::Kept => Shown::KeepSiblings,
        Value::Failed(failure) => Shown::Failure(failure.to_string()),
    }
}
