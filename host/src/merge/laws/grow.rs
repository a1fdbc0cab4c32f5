//! Histories that go on where a sample ends: its versions are merged, what comes of it is merged
//! again, and copies with other words join in, so that values become much larger and older than
//! any sample.
//!
//! What is made by merging versions of one sample can arise as surely as the sample. Values with
//! other words, or with what two of them hold laid together without a merge (a client that adds
//! much at once), are only of its form.

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion};

use super::cases::{self, below};
use super::counterexample::Origin;
use super::evaluate::{Case, Evaluator, Stop};
use super::form;
use super::words::Words;

/// Values of one history that are kept.
const VALUES_MAX: usize = 24;
/// Siblings of a case with many of them.
const MANY: usize = 16;
/// Bytes of all values of a case, unless it is two: a merge of them keeps to the limits of a module.
const CASE_BYTES_MAX: usize = 256 << 10;
/// Fuel beyond which a merge of two values is not doubled once more: a case merges several of that
/// size, and all of them within the fuel of one call.
const FUEL_MAX: u64 = 30_000_000;
/// How often a value is doubled in vain before that is given up.
const TRIES: usize = 4;
/// Beyond this depth JSON is not laid together.
const DEPTH_MAX: usize = 16;

/// A version of the history.
#[derive(Debug, Clone)]
struct Grown {
    version: DivergentVersion,
    origin: Origin,
    depth: usize,
}

impl Grown {
    fn bytes(&self) -> usize {
        self.version.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Lets the history of a sample go on for some steps, until a value has about `bytes` bytes.
pub(super) struct History<'a> {
    sample: &'a Divergence,
    values: Vec<Grown>,
    bytes: usize,
}

impl<'a> History<'a> {
    /// The history as far as the sample shows it. `origin` is that of the sample.
    pub(super) fn of(sample: &'a Divergence, origin: Origin, bytes: usize) -> Self {
        let mut versions = cases::whole(sample, Ancestor::Unknown).inputs;
        if let Ancestor::Known(known) = &sample.ancestor {
            versions.insert(0, known.clone());
        }
        let grown = |version| Grown { version, origin, depth: 0 };
        History { sample, values: versions.into_iter().map(grown).collect(), bytes }
    }

    /// Goes on by `steps`.
    pub(super) fn grow(
        &mut self,
        steps: usize,
        evaluator: &mut Evaluator<'_>,
        words: &mut Words,
        rng: &mut ChaCha8Rng,
    ) -> Result<(), Stop> {
        for _ in 0..steps {
            match below(rng, 5) {
                0 | 1 => self.merge(evaluator, rng)?,
                2 => self.double(evaluator, words, rng)?,
                3 => self.rename(words, rng),
                _ => self.lay_together(words, rng),
            }
            self.make_room();
        }
        Ok(())
    }

    fn make_room(&mut self) {
        if self.values.len() > VALUES_MAX {
            // The oldest tell least; the ancestor stays.
            self.values.remove(1);
        }
    }

    /// Doubles one of the values, again and again, until it is as large as it may be, which is soon.
    /// Which one decides what it grows full of: what is there, or what was removed.
    pub(super) fn grow_large(
        &mut self,
        evaluator: &mut Evaluator<'_>,
        words: &mut Words,
        rng: &mut ChaCha8Rng,
    ) -> Result<(), Stop> {
        let at = below(rng, self.values.len());
        let Some(mut of) = self.values.get(at).cloned() else { return Ok(()) };
        let mut failed = 0;
        while failed < TRIES && of.bytes() * 2 <= self.bytes {
            let fuel = evaluator.fuel;
            match self.doubled(&of, evaluator, words, rng)? {
                Some(next) if next.bytes() > of.bytes() => (of, failed) = (next, 0),
                _ => failed += 1,
            }
            self.make_room();
            if evaluator.fuel - fuel > FUEL_MAX {
                return Ok(());
            }
        }
        if failed == TRIES && self.values.len() > 2 {
            // Perhaps no longer a value that is merged: cases with it would say nothing.
            self.values.retain(|known| known.version.value != of.version.value);
        }
        Ok(())
    }

    /// Some of the latest versions as a case.
    pub(super) fn case(&self, rng: &mut ChaCha8Rng) -> Case {
        let mut chosen: Vec<&Grown> = Vec::new();
        let wanted = if below(rng, 12) == 0 { 5 + below(rng, MANY - 4) } else { 2 + below(rng, 3) };
        for _ in 0..wanted {
            let known = self.values.len();
            // Rather late ones than early ones.
            let at = below(rng, known).max(below(rng, known));
            let Some(grown) = self.values.get(at) else { continue };
            let bytes: usize = chosen.iter().map(|known| known.bytes()).sum();
            if chosen.len() > 1 && bytes + grown.bytes() > CASE_BYTES_MAX {
                continue;
            }
            if chosen.iter().all(|known| known.version.value != grown.version.value) {
                chosen.push(grown);
            }
        }
        let inputs = chosen.iter().map(|grown| grown.version.clone()).collect();
        let mut case = cases::case(self.sample, inputs, Ancestor::Unknown);
        case.origin = chosen.iter().map(|grown| grown.origin).max().unwrap_or(Origin::Sampled);
        case.depth = chosen.iter().map(|grown| grown.depth).max().unwrap_or_default();
        case
    }

    fn merge(&mut self, evaluator: &mut Evaluator<'_>, rng: &mut ChaCha8Rng) -> Result<(), Stop> {
        let mut case = self.case(rng);
        case.inputs.truncate(3);
        if case.inputs.len() > 1 {
            self.take_merged(evaluator, &case)?;
        }
        Ok(())
    }

    /// Keeps what is merged from the case, and gives it if it is kept.
    fn take_merged(
        &mut self,
        evaluator: &mut Evaluator<'_>,
        case: &Case,
    ) -> Result<Option<Grown>, Stop> {
        evaluator.begin();
        let Some(version) = evaluator.version(case)? else { return Ok(None) };
        let grown = Grown { version, origin: case.origin, depth: case.depth + 1 };
        Ok(self.take(grown.clone()).then_some(grown))
    }

    /// Keeps it, unless it is too large or there already; whether it is kept.
    fn take(&mut self, grown: Grown) -> bool {
        let is_new = self.values.iter().all(|v| v.version.value != grown.version.value);
        let is_kept = is_new && grown.bytes() <= self.bytes;
        if is_kept {
            self.values.push(grown);
        }
        is_kept
    }

    /// Merges the largest value with a copy of it in other words.
    fn double(
        &mut self,
        evaluator: &mut Evaluator<'_>,
        words: &mut Words,
        rng: &mut ChaCha8Rng,
    ) -> Result<(), Stop> {
        let Some(largest) = self.values.iter().max_by_key(|grown| grown.bytes()) else {
            return Ok(());
        };
        let largest = largest.clone();
        self.doubled(&largest, evaluator, words, rng).map(drop)
    }

    /// What a value and a copy of it in other words merge to, if that is kept.
    fn doubled(
        &mut self,
        of: &Grown,
        evaluator: &mut Evaluator<'_>,
        words: &mut Words,
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<Grown>, Stop> {
        let suffix = words.fresh(rng);
        let other = renamed(of, words, &suffix).filter(|other| other.bytes() <= self.bytes);
        let Some(other) = other else { return Ok(None) };
        let inputs = vec![of.version.clone(), other.version.clone()];
        let mut case = cases::case(self.sample, inputs, Ancestor::Unknown);
        (case.origin, case.depth) = (other.origin, of.depth);
        let _ = self.take(other);
        self.take_merged(evaluator, &case)
    }

    fn rename(&mut self, words: &mut Words, rng: &mut ChaCha8Rng) {
        let suffix = words.fresh(rng);
        let at = below(rng, self.values.len());
        if let Some(other) = self.values.get(at).and_then(|of| renamed(of, words, &suffix)) {
            let _ = self.take(other);
        }
    }

    /// What a client writes who has read one value and adds all that another one has.
    fn lay_together(&mut self, words: &mut Words, rng: &mut ChaCha8Rng) {
        let suffix = words.fresh(rng);
        let (left, right) = (below(rng, self.values.len()), below(rng, self.values.len()));
        let (Some(left), Some(right)) = (self.values.get(left), self.values.get(right)) else {
            return;
        };
        let right = renamed(right, words, &suffix).unwrap_or_else(|| right.clone());
        let (Some(ours), Some(theirs)) = (&left.version.value, &right.version.value) else {
            return;
        };
        let Some(value) = together(ours, theirs) else { return };
        let version = DivergentVersion { value: Some(value), ..left.version.clone() };
        let depth = left.depth.max(right.depth) + 1;
        let origin = Origin::Alike.max(left.origin).max(right.origin);
        let _ = self.take(Grown { version, origin, depth });
    }
}

fn renamed(grown: &Grown, words: &mut Words, suffix: &str) -> Option<Grown> {
    let value = words.renamed(grown.version.value.as_ref()?, suffix)?;
    let version = DivergentVersion { value: Some(value), ..grown.version.clone() };
    Some(Grown { version, origin: grown.origin.max(words.origin()), depth: grown.depth })
}

/// All that two values hold: names, elements and lines of both; of two numbers or texts in the
/// same place, the first.
fn together(ours: &Bytes, theirs: &Bytes) -> Option<Bytes> {
    let (left, right) = (form::text(ours)?, form::text(theirs)?);
    if let (Ok(mut left), Ok(right)) = (serde_json::from_str(left), serde_json::from_str(right)) {
        let is_container = matches!(left, Value::Object(_) | Value::Array(_));
        unite(&mut left, right, 0);
        return is_container.then(|| left.to_string().into());
    }
    let mut lines: Vec<&str> = left.lines().collect();
    let is_sorted = lines.is_sorted() && right.lines().is_sorted();
    lines.extend(right.lines());
    if is_sorted {
        lines.sort_unstable();
        lines.dedup();
    }
    let end = if left.ends_with('\n') { "\n" } else { "" };
    Some((lines.join("\n") + end).into())
}

fn unite(left: &mut Value, right: Value, depth: usize) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) if depth < DEPTH_MAX => {
            for (name, field) in right {
                match left.get_mut(&name) {
                    Some(known) => unite(known, field, depth + 1),
                    None => drop(left.insert(name, field)),
                }
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            let texts = |items: &[Value]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
            let is_sorted = texts(left).is_sorted() && texts(&right).is_sorted();
            left.extend(right);
            if is_sorted {
                left.sort_by_key(ToString::to_string);
                left.dedup();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_values_hold_is_laid_together() {
        let of = |left: &'static str, right: &'static str| {
            let value = together(&Bytes::from(left), &Bytes::from(right))?;
            Some(String::from_utf8(value.to_vec()).expect("UTF-8"))
        };
        let united = of(r#"{"a":{"x":1},"b":["m","o"],"n":1}"#, r#"{"a":{"y":2},"b":["n"],"n":7}"#);
        assert_eq!(united.as_deref(), Some(r#"{"a":{"x":1,"y":2},"b":["m","n","o"],"n":1}"#));
        assert_eq!(of("a\nc\n", "b\n").as_deref(), Some("a\nb\nc\n"));
        assert_eq!(of("c\na", "b").as_deref(), Some("c\na\nb"), "no order to keep to");
        assert_eq!(of("17", "18"), None);
    }
}
