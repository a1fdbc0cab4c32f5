//! The check: cases from samples, claims about cases, verdicts from both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion, MergeFailure, Outcome};

use super::cases::Around;
use super::counterexample::{Counterexample, Origin};
use super::evaluate::{Budget, Case, Evaluator, Found, Stop};
use super::form::Form;
use super::grow::History;
use super::law::{Law, Report, Verdict};
use super::minimise::{Smallest, minimise};
use super::term::Claim;
use super::words::Words;
use super::{Specimen, cases, mutate, twins};

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Cases made from the samples as they are, in turn, and about as many of each other kind; each
    /// law has one to three claims about a case.
    pub cases: u64,
    /// What all choices follow from.
    pub seed: u64,
    /// Whether values are tried that no client may write; see the head of [`super`].
    pub mutate: bool,
    /// Bytes that values of grown histories may have.
    pub grown_bytes_max: usize,
    /// Calls of the merge at most, those of the minimiser included.
    pub merges_max: u64,
    /// Fuel of all calls at most.
    pub fuel_max: u64,
    /// Wall time at most. With one, the report may depend on the machine.
    pub wall: Option<Duration>,
}

impl Plan {
    /// So many cases of this seed, without bounds that matter.
    pub fn new(cases: u64, seed: u64) -> Self {
        Plan {
            cases,
            seed,
            mutate: true,
            grown_bytes_max: GROWN_BYTES_MAX,
            merges_max: cases.saturating_mul(256).saturating_add(100_000),
            fuel_max: u64::MAX,
            wall: None,
        }
    }
}

/// Bytes of a grown value: orders above what most samplers make, and above the limits that merges
/// set themselves.
pub(super) const GROWN_BYTES_MAX: usize = 96 << 10;
/// Bytes of values of the other histories.
const SMALL_BYTES: usize = 2 << 10;
/// How many of so many histories grow until their values are so large, in turn.
const LARGE_ONE_IN: [(u64, usize); 3] = [(4, SMALL_BYTES), (16, 16 << 10), (64, GROWN_BYTES_MAX)];
/// Cases of a history that was grown large: growing it costs more than they do.
const LARGE_CASES: usize = 3;
/// Samples that are tried to find out whether a merge uses its ancestor.
const ANCESTOR_TRIALS: usize = 100;
/// Different samples with the same result that make a merge suspicious.
const SAME_RESULTS: usize = 10;
/// The part of the budget kept for making counterexamples smaller, of as many.
const SHRINKING: (u32, u32) = (1, 3);

/// Checks the laws of `specimen` on `samples`. Fails only if the node does.
pub fn check(
    specimen: &dyn Specimen,
    samples: &[Divergence],
    plan: &Plan,
) -> Result<Report, MergeFailure> {
    let started = Instant::now();
    let budget = Budget::starting(plan.merges_max, plan.fuel_max, plan.wall, started);
    let (part, parts) = SHRINKING;
    let evaluator = Evaluator::new(specimen, budget.without(part, parts, started));
    let mut check = Check {
        evaluator,
        samples,
        rng: ChaCha8Rng::seed_from_u64(plan.seed),
        uses_ancestor: false,
        shows_later_writes: false,
        held: BTreeMap::new(),
        found: BTreeMap::new(),
        remarks: Vec::new(),
        is_constant: false,
        words: Words::default(),
        form: Form::of(samples),
        around: Around { schemas: false, ancestor: false },
    };
    let stopped = match check.run(plan) {
        Ok(()) => None,
        Err(Stop::Spent(what)) => Some(what),
        Err(Stop::Node(failure)) => return Err(failure),
    };
    check.evaluator.allow(budget);
    Ok(check.report(plan.seed, stopped))
}

struct Check<'a> {
    evaluator: Evaluator<'a>,
    samples: &'a [Divergence],
    rng: ChaCha8Rng,
    uses_ancestor: bool,
    shows_later_writes: bool,
    held: BTreeMap<Law, u64>,
    found: BTreeMap<Law, Smallest>,
    remarks: Vec<String>,
    is_constant: bool,
    words: Words,
    form: Form,
    around: Around,
}

impl Check<'_> {
    fn run(&mut self, plan: &Plan) -> Result<(), Stop> {
        if self.samples.is_empty() {
            return Ok(());
        }
        self.look_for_ancestor()?;
        self.look_for_constant()?;
        self.look_at_deletes()?;
        self.words = Words::learn(&mut self.evaluator, self.samples)?;
        let is_plain = |version: &DivergentVersion| version.schema == 0;
        let mut siblings = self.samples.iter().flat_map(|sample| &sample.siblings);
        let schemas = siblings.all(is_plain) && !self.evaluator.migrates();
        self.around = Around { schemas, ancestor: self.uses_ancestor };
        for n in 0..plan.cases {
            self.check_round(n, plan)?;
        }
        Ok(())
    }

    fn ancestor_of(&self, sample: &Divergence) -> Ancestor {
        if self.uses_ancestor { sample.ancestor.clone() } else { Ancestor::Unknown }
    }

    /// One case of every kind. They take turns, so that a budget that ends cuts all of them alike.
    fn check_round(&mut self, n: u64, plan: &Plan) -> Result<(), Stop> {
        let samples = self.samples;
        // The remainder is smaller than the number of samples.
        let sample = &samples[(n % samples.len() as u64) as usize];
        self.check_sample(sample, Origin::Sampled)?;
        let another = self.words.another(sample, &mut self.rng);
        let renamed = self.words.origin();
        if let Some(another) = &another {
            self.check_sample(another, renamed)?;
        }
        if !self.uses_ancestor {
            let (sample, origin) = match &another {
                Some(another) if n % 2 == 1 => (another, renamed),
                _ => (sample, Origin::Sampled),
            };
            self.check_grown(sample, origin, n, plan)?;
        }
        if plan.mutate {
            self.check_variant(sample)?;
        }
        Ok(())
    }

    /// The sample, and what clients write later.
    fn check_sample(&mut self, sample: &Divergence, origin: Origin) -> Result<(), Stop> {
        let mut case = cases::vary(sample, self.ancestor_of(sample), &mut self.rng);
        case.origin = origin;
        self.check_laws(case.clone(), origin < Origin::Mutated)?;
        if self.uses_ancestor || origin == Origin::Mutated {
            return Ok(());
        }
        if let Some((mut case, claim)) = cases::later_write(sample, &mut self.rng) {
            self.shows_later_writes = true;
            case.origin = origin;
            self.check_derived(case, claim)?;
        }
        // The one later write that can be had without a history: `a` merged with another.
        if case.inputs.len() > 2
            && let Some(other) = case.inputs.pop()
        {
            let mut both = case.clone();
            both.inputs = vec![case.inputs[0].clone(), other];
            self.evaluator.begin();
            // A delete may take more than it saw: see the remarks.
            if let Some(later) = self.evaluator.version(&both)?.filter(|v| v.value.is_some()) {
                let (case, claim) = cases::derived(case, later);
                self.check_derived(case, claim)?;
            }
        }
        Ok(())
    }

    fn check_derived(&mut self, mut case: Case, claim: Claim) -> Result<(), Stop> {
        cases::set_in(&mut case, self.around, &mut self.rng);
        case.depth += 1;
        self.check_case(&case, vec![(Law::Derived, claim)])
    }

    /// A history that goes on where the sample ends.
    fn check_grown(
        &mut self,
        sample: &Divergence,
        origin: Origin,
        n: u64,
        plan: &Plan,
    ) -> Result<(), Stop> {
        let grown_large = LARGE_ONE_IN.iter().filter(|(of, _)| n % of == of - 1);
        let large = grown_large.map(|(_, bytes)| *bytes).max();
        let bytes = large.unwrap_or(SMALL_BYTES).min(plan.grown_bytes_max);
        let mut history = History::of(sample, origin, bytes);
        let steps = 2 + cases::below(&mut self.rng, 6);
        let (evaluator, words) = (&mut self.evaluator, &mut self.words);
        history.grow(steps, evaluator, words, &mut self.rng)?;
        if large.is_some() {
            history.grow_large(evaluator, words, &mut self.rng)?;
        }
        for _ in 0..if large.is_some() { LARGE_CASES } else { 1 } {
            let mut case = history.case(&mut self.rng);
            let is_laid_out = plan.mutate && n.is_multiple_of(4);
            if is_laid_out {
                mutate::lay_out(&mut case, &self.form, &mut self.rng);
            }
            self.check_laws(case, !is_laid_out)?;
        }
        Ok(())
    }

    /// The sample in another layout, or changed.
    fn check_variant(&mut self, sample: &Divergence) -> Result<(), Stop> {
        for change in [mutate::lay_out, mutate::mutate, twins::twin, twins::twin] {
            let mut case = cases::vary(sample, self.ancestor_of(sample), &mut self.rng);
            change(&mut case, &self.form, &mut self.rng);
            self.check_laws(case, false)?;
        }
        Ok(())
    }

    /// All laws but the derived one. What the module promises it promises to clients that keep to
    /// its format.
    fn check_laws(&mut self, mut case: Case, with_promise: bool) -> Result<(), Stop> {
        cases::set_in(&mut case, self.around, &mut self.rng);
        let mut claims = cases::claims(&case, self.uses_ancestor, &mut self.rng);
        claims.retain(|(law, _)| match law {
            Law::Total => case.origin < Origin::Mutated,
            Law::Preserves => with_promise,
            _ => true,
        });
        self.check_case(&case, claims)
    }

    fn check_case(&mut self, case: &Case, claims: Vec<(Law, Claim)>) -> Result<(), Stop> {
        self.evaluator.begin();
        for (law, claim) in claims {
            // A counterexample that a client could have written takes the place of another.
            if self.found.get(&law).is_some_and(|known| known.case.origin <= case.origin) {
                continue;
            }
            match self.evaluator.judge(case, &claim)? {
                Found::True => *self.held.entry(law).or_default() += 1,
                Found::Moot => {}
                Found::False(finding) => {
                    let case = case.clone();
                    self.found.insert(law, Smallest { case, claim, finding });
                }
            }
        }
        Ok(())
    }

    /// Whether what a merge answers depends on what it is told of the ancestor.
    fn look_for_ancestor(&mut self) -> Result<(), Stop> {
        for sample in self.samples.iter().take(ANCESTOR_TRIALS) {
            let other = match sample.ancestor {
                Ancestor::Unknown => Ancestor::Absent,
                _ => Ancestor::Unknown,
            };
            let mut outcomes = Vec::new();
            for ancestor in [sample.ancestor.clone(), other] {
                self.evaluator.begin();
                outcomes.push(self.evaluator.outcome(&cases::whole(sample, ancestor))?);
            }
            if outcomes[0] != outcomes[1] {
                self.uses_ancestor = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether different siblings all merge to the same: the laws alone accept that.
    fn look_for_constant(&mut self) -> Result<(), Stop> {
        let mut inputs = BTreeSet::new();
        let mut only: Option<Outcome> = None;
        for sample in self.samples.iter().take(ANCESTOR_TRIALS) {
            let mut values: Vec<_> = sample.siblings.iter().map(|s| s.value.clone()).collect();
            values.sort();
            self.evaluator.begin();
            let case = cases::whole(sample, self.ancestor_of(sample));
            let Some(outcome) = self.evaluator.outcome(&case)? else { continue };
            if outcome == Outcome::KeepSiblings || only.get_or_insert(outcome.clone()) != &outcome {
                return Ok(());
            }
            inputs.insert(values);
        }
        self.is_constant = inputs.len() >= SAME_RESULTS;
        if self.is_constant {
            self.remarks.push(format!(
                "{} different samples all merge to the same: no algebraic law forbids that, the \
                 option `invariant` can",
                inputs.len()
            ));
        }
        Ok(())
    }

    /// What becomes of a delete whose client had seen one of two versions that were folded.
    fn look_at_deletes(&mut self) -> Result<(), Stop> {
        for sample in self.samples.iter().take(SAME_RESULTS) {
            let Some((case, claim)) = cases::later_delete(sample) else { continue };
            self.evaluator.begin();
            if let Found::False(_) = self.evaluator.judge(&case, &claim)? {
                self.remarks.push(
                    "deletes: once a and b are merged into one, a delete whose client had seen \
                     only a leaves what was in a. Where that matters, make removals values"
                        .to_owned(),
                );
                return Ok(());
            }
        }
        Ok(())
    }

    fn report(mut self, seed: u64, stopped: Option<&'static str>) -> Report {
        let found = std::mem::take(&mut self.found);
        let mut verdicts: BTreeMap<_, _> =
            Law::ALL.into_iter().map(|law| (law, self.verdict(law, stopped))).collect();
        for (law, smallest) in found {
            let Smallest { case, claim, finding } =
                minimise(&mut self.evaluator, law, &self.form, smallest);
            let counterexample = Counterexample::new(law, case, claim, finding);
            verdicts.insert(law, Verdict::Violated(Box::new(counterexample)));
        }
        Report {
            seed,
            samples: self.samples.len(),
            merges: self.evaluator.merges,
            fuel: self.evaluator.fuel,
            stopped,
            variety: self.evaluator.variety,
            reach: None,
            remarks: self.remarks,
            verdicts,
        }
    }

    /// The verdict on a law that was not seen violated.
    fn verdict(&self, law: Law, stopped: Option<&'static str>) -> Verdict {
        let not_checkable = |why: &str| Verdict::NotCheckable { why: why.to_owned() };
        let nests = matches!(law, Law::Associative | Law::Idempotent | Law::Derived);
        let cases = self.held.get(&law).copied().unwrap_or_default();
        match law {
            _ if self.samples.is_empty() => not_checkable(
                "there are no samples: the module has no option `sampler`, and no file was given",
            ),
            _ if nests && self.uses_ancestor => {
                not_checkable("the merge uses the ancestor, which merged versions no longer share")
            }
            Law::Derived if !self.shows_later_writes => not_checkable(
                "no sample shows what a client writes later: give samples with a known ancestor \
                 (`Divergence::of_edits`)",
            ),
            _ if cases > 0 => Verdict::Holds { cases },
            _ if stopped.is_some() => not_checkable(stopped.unwrap_or_default()),
            Law::Preserves => not_checkable("the module has no option `invariant`"),
            Law::Associative => not_checkable("no sample has three siblings that merge"),
            _ => not_checkable("no sample has two siblings that merge"),
        }
    }
}
