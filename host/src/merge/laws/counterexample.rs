//! A case in which a law does not hold, as plain data and as text.

use std::fmt;

use bytes::Bytes;
use serde_json::{Value, json};
use stator_core::divergence::{Ancestor, DivergentVersion, MergeFailure, Outcome, Resolution};

use super::evaluate::{Case, Finding};
use super::law::Law;
use super::term::Claim;
use super::{diff, emit};

/// A case in which a law does not hold: the smallest that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterexample {
    /// The law.
    pub law: Law,
    /// The inputs by name.
    pub inputs: Vec<(String, DivergentVersion)>,
    /// What the merges were told of the inputs' ancestor.
    pub ancestor: Ancestor,
    /// What should be the same and is not; one side only if something is wrong with it alone.
    pub sides: Vec<Side>,
    /// What is wrong, where the sides do not say it.
    pub words: Option<String>,
    /// Where the inputs come from.
    pub origin: Origin,
    pub(super) case: Case,
    pub(super) claim: Claim,
}

/// Where the inputs of a case come from; the later, the less certain it is that clients write such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// From the samples, or made of them by merging.
    Sampled,
    /// From the samples, with other words, numbers, layout or schema numbers: of the same form.
    Alike,
    /// Changed, so that perhaps no client writes them.
    Mutated,
}

impl Origin {
    /// In a word: `sampled`, `alike`, `mutated`.
    pub fn word(self) -> &'static str {
        match self {
            Origin::Sampled => "sampled",
            Origin::Alike => "alike",
            Origin::Mutated => "mutated",
        }
    }
}

/// One side of a counterexample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// What was computed: `merge(merge(a, b), c)`.
    pub term: String,
    /// What came of it.
    pub result: Shown,
}

/// What a merge gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// This payload.
    Value(Bytes),
    /// The key counts as deleted.
    Delete,
    /// The siblings are left to the client.
    KeepSiblings,
    /// No answer, for this reason.
    Failure(String),
}

impl Shown {
    pub(super) fn of(answer: &Result<Resolution, MergeFailure>) -> Self {
        match answer {
            Ok(resolution) => match &resolution.outcome {
                Outcome::Value(value) => Shown::Value(value.clone()),
                Outcome::Delete => Shown::Delete,
                Outcome::KeepSiblings => Shown::KeepSiblings,
            },
            Err(failure) => Shown::Failure(failure.to_string()),
        }
    }

    /// For programs.
    fn json(&self) -> Value {
        match self {
            Shown::Value(value) => payload(value),
            Shown::Delete => json!({ "delete": true }),
            Shown::KeepSiblings => json!({ "keep_siblings": true }),
            Shown::Failure(why) => json!({ "failure": why }),
        }
    }
}

/// A payload for programs, like in a file of samples: as text if it is text.
fn payload(value: &Bytes) -> Value {
    use base64::Engine as _;
    match std::str::from_utf8(value) {
        Ok(text) => json!({ "utf8": text }),
        Err(_) => {
            json!({ "base64": base64::engine::general_purpose::STANDARD.encode(value) })
        }
    }
}

impl Counterexample {
    pub(super) fn new(law: Law, case: Case, claim: Claim, finding: Finding) -> Self {
        let side = |(term, result): (super::term::Term, Shown)| Side {
            term: term.words(&case.names),
            result,
        };
        Counterexample {
            law,
            inputs: case.names.iter().cloned().zip(case.inputs.iter().cloned()).collect(),
            ancestor: case.ancestor.clone(),
            sides: finding.sides.into_iter().map(side).collect(),
            words: finding.words,
            origin: case.origin,
            case,
            claim,
        }
    }

    /// The counterexample as a Rust test for the crate of the module, which it uses as
    /// `module` (`cart::CartMerge`).
    pub fn rust_test(&self, module: &str) -> String {
        emit::rust_test(self, module)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let version = |version: &DivergentVersion| {
            let value = version.value.as_ref().map_or(Value::Null, payload);
            json!({ "value": value, "schema": version.schema,
                    "written_at_ms": version.written_at_ms })
        };
        let inputs: serde_json::Map<_, _> =
            self.inputs.iter().map(|(name, input)| (name.clone(), version(input))).collect();
        let ancestor = match &self.ancestor {
            Ancestor::Unknown => json!("unknown"),
            Ancestor::Absent => json!("absent"),
            Ancestor::Known(known) => version(known),
        };
        let sides: Vec<_> = self
            .sides
            .iter()
            .map(|side| json!({ "term": side.term, "result": side.result.json() }))
            .collect();
        json!({
            "inputs": inputs,
            "ancestor": ancestor,
            "sides": sides,
            "words": self.words,
            "origin": self.origin.word(),
        })
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is violated: {}", self.law, self.law.statement())?;
        match self.origin {
            Origin::Sampled => {}
            Origin::Alike => {
                writeln!(f, "with other words, numbers or layout than the samples, in their form")?;
            }
            Origin::Mutated => {
                writeln!(
                    f,
                    "with values mutated from samples; perhaps no client writes such ones"
                )?;
            }
        }
        // Where one time matters, so does that another is 0.
        let times = self.inputs.iter().any(|(_, input)| input.written_at_ms != 0);
        let width = self.inputs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, input) in &self.inputs {
            writeln!(f, "  {name:width$} = {}", diff::version(input, width + 5, times))?;
        }
        match &self.ancestor {
            Ancestor::Unknown => {}
            Ancestor::Absent => writeln!(f, "  their ancestor: the key did not exist")?,
            Ancestor::Known(known) => {
                writeln!(f, "  their ancestor: {}", diff::version(known, 18, false))?;
            }
        }
        if let Some(words) = &self.words {
            writeln!(f, "  {words}")?;
        }
        if times {
            writeln!(
                f,
                "  the merge goes by when they were written, but the clocks of nodes differ"
            )?;
        }
        match self.sides.as_slice() {
            [left, right] => f.write_str(&diff::sides(left, right)),
            sides => sides.iter().try_for_each(|side| {
                writeln!(f, "  {} = {}", side.term, diff::shown(&side.result, 4))
            }),
        }
    }
}
