//! The merge laws, checked on samples: what a module must keep to before it may *fold*, that is,
//! replace its inputs by one version, and what its author should know in any case.
//!
//! # The laws
//! | law | says |
//! |---|---|
//! | deterministic | the same input gives the same answer in every fresh instance |
//! | commutative | no order of the siblings, so no assignment of dots, changes the bytes |
//! | associative | `merge(merge(a, b), c) = merge(a, b, c) = merge(a, merge(b, c))` |
//! | idempotent | `merge(merge(a, b), a) = merge(a, b)` |
//! | total | every reachable input has an answer |
//! | derived | `merge(merge(a, b), a') = merge(b, a')` for a client's later write `a'` of `a` |
//! | preserves | what the module itself promises (its option `invariant`) |
//!
//! Values are compared as **bytes**: two encodings of one value look divergent for ever. Equal
//! payloads reach a module once, and a lone one not at all, so `merge(a, a)` is `a` by
//! construction. Where one side of an equation is a client's own encoding for that reason and the
//! other a merged value, nothing is concluded.
//!
//! # Three answers
//! A law *holds* on so many cases, is *violated*, with the smallest counterexample found, or is
//! *not checkable*, and why. An alarm must be a real one, or nobody listens to the next, and
//! silence must mean something, or a fold destroys what no sampler thought of:
//! - Samples come from one history each, and only values of one history are combined. What is made
//!   of them can arise from them: subsets of the siblings, other orders, a delete beside them,
//!   merges of merges, and any times, since the clocks of nodes differ.
//! - A tame sampler is made to say more: histories grow by merging and editing on (`grow.rs`), have
//!   other words and numbers (`words.rs`; `tokens.rs` where values are no text), another layout
//!   (`layout.rs`), a changed value (`mutate.rs`), or some that come close to each other
//!   (`twins.rs`). What fits the form of the samples (`form.rs`) counts as what clients may write;
//!   that a module refuses such a value is its right, that it breaks on one is not. What does not
//!   fit is tried neither for totality nor for the derived law. A finding says which it is, and one
//!   on sampled values takes the place of another.
//! - How varied all this was stands beside the verdict (`variety.rs`), and a fold needs a minimum.
//! - A module that uses the ancestor merges with knowledge that merged versions no longer carry:
//!   the laws that nest merges are not checkable for it.
//! - `a'` must be what a client could make of `a`. A sample whose ancestor is known gives that:
//!   its siblings are such writes. Without one only `a' = merge(a, x)` is tried, and if that
//!   holds the law still counts as not checkable.
//!
//! # How
//! [`check`] is pure: samples, a [`Specimen`] (a module, or a closure in a test), a [`Plan`] with
//! seed and budget go in, a [`Report`] comes out. The same code answers in `stator module test`,
//! at a push and in the gate of folds. A claim is an equation of *terms* (`term.rs`), which the
//! evaluator (`evaluate.rs`) computes and the minimiser (`minimise.rs`, `shrink.rs`) makes smaller
//! while it stays violated; all of them draw on one budget. `diff.rs` and `emit.rs` show a
//! counterexample to people, as text and as a test.
//!
//! # Left out
//! Proofs: a law that holds on a million samples may fail on the next. Deletes as later writes:
//! see [`Report::remarks`]. What no sample shows and nothing leads to: a word that the merge alone
//! knows (`reopened`), two words of one hash of 24 bits or more, the structure of values that are no
//! text. Numbers that count as one because they are less than five apart show with seven seeds of
//! eight. Merges that lose something always alike keep all laws but the module's own promise. A
//! minimum of code that a fold must have reached: panics and
//! formatting are code too, and nobody can say how much of it is.

mod cases;
mod check;
mod component;
mod counterexample;
mod diff;
mod emit;
mod evaluate;
mod form;
mod gate;
mod grow;
mod law;
mod layout;
mod minimise;
mod mutate;
mod reach;
mod samples;
mod shrink;
mod term;
mod tokens;
mod twins;
mod variety;
mod words;

#[cfg(test)]
mod tests;

pub use check::{Plan, check};
pub(super) use component::Reports;
pub use counterexample::{Counterexample, Origin, Shown, Side};
pub use emit::merge_test;
pub use gate::{LawsUnchecked, MayNotFold};
pub use law::{Law, Report, Verdict};
pub use reach::Reach;
pub use samples::{SampleFileError, read_samples, sample_json};
pub use variety::Variety;

use stator_core::divergence::{Divergence, MergeFailure, Outcome, Resolution};

/// What is checked: something that merges. A closure that merges is one without an invariant.
pub trait Specimen {
    /// Merges, each time as if it were the first.
    fn merge(&self, divergence: &Divergence) -> Result<Resolution, MergeFailure>;

    /// Asks the invariant about a merge that was made.
    fn preserves(&self, _before: &Divergence, _after: &Outcome) -> Promise {
        Promise::NotStated
    }

    /// Whether siblings of older schemas are migrated before the merge.
    fn migrates(&self) -> bool {
        false
    }
}

impl<F: Fn(&Divergence) -> Result<Resolution, MergeFailure>> Specimen for F {
    fn merge(&self, divergence: &Divergence) -> Result<Resolution, MergeFailure> {
        self(divergence)
    }
}

/// What an invariant says about a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promise {
    /// There is no invariant.
    NotStated,
    /// Nothing is lost.
    Kept,
    /// This is lost, in the module's words.
    Broken(String),
    /// The invariant itself failed.
    Unanswered(MergeFailure),
}
