//! Makes a counterexample smaller while it stays one.
//!
//! First whole siblings go, then what merges are told beside the values, then parts of values:
//! those that all have alike, and at last those of each alone. Values of the derived law are only
//! changed all alike, because `a'` must stay what a client can make of `a`.
//!
//! What fits the [`Form`] of the samples goes on to do so: an example of values that nobody would
//! write convinces nobody.

use stator_core::divergence::{Ancestor, DivergentVersion};

use super::evaluate::{Case, Evaluator, Finding, Found, Stop};
use super::form::Form;
use super::law::Law;
use super::shrink;
use super::term::Claim;

/// The smallest violated case that the evaluator's budget could find.
pub(super) struct Smallest {
    pub(super) case: Case,
    pub(super) claim: Claim,
    pub(super) finding: Finding,
}

/// Follows every step that keeps the violation, until there is none or the budget is used up.
pub(super) fn minimise(
    evaluator: &mut Evaluator<'_>,
    law: Law,
    form: &Form,
    from: Smallest,
) -> Smallest {
    let mut smallest = from;
    // Ends, because every step makes the case smaller.
    while let Ok(true) = round(evaluator, law, form, &mut smallest) {}
    smallest
}

/// Tries every kind of step once; whether one of them went.
fn round(
    evaluator: &mut Evaluator<'_>,
    law: Law,
    form: &Form,
    smallest: &mut Smallest,
) -> Result<bool, Stop> {
    let dropped = drop_inputs(evaluator, law, smallest)?;
    let plain = drop_circumstances(evaluator, smallest)?;
    let common = drop_common_parts(evaluator, form, smallest)?;
    let parts = law != Law::Derived && drop_parts(evaluator, form, smallest)?;
    Ok(dropped || plain || common || parts)
}

/// Takes over a smaller case if its claim is still false.
fn step(
    evaluator: &mut Evaluator<'_>,
    smallest: &mut Smallest,
    case: Case,
    claim: Claim,
) -> Result<bool, Stop> {
    evaluator.begin();
    let Found::False(finding) = evaluator.judge(&case, &claim)? else { return Ok(false) };
    *smallest = Smallest { case, claim, finding };
    Ok(true)
}

fn drop_inputs(
    evaluator: &mut Evaluator<'_>,
    law: Law,
    smallest: &mut Smallest,
) -> Result<bool, Stop> {
    let (mut at, mut went) = (0, false);
    while at < smallest.case.inputs.len() {
        let last = smallest.case.inputs.len() - 1;
        let is_fixed = law == Law::Derived && (at == 0 || at == last);
        let claim = smallest.claim.without(at).filter(|_| !is_fixed);
        let Some(claim) = claim else {
            at += 1;
            continue;
        };
        let mut case = smallest.case.clone();
        case.inputs.remove(at);
        // The names stay in order: a, b, c.
        let later = case.names.pop();
        if law == Law::Derived {
            case.names.pop();
            case.names.extend(later);
        }
        if step(evaluator, smallest, case, claim)? {
            went = true;
        } else {
            at += 1;
        }
    }
    Ok(went)
}

fn drop_circumstances(
    evaluator: &mut Evaluator<'_>,
    smallest: &mut Smallest,
) -> Result<bool, Stop> {
    let mut went = false;
    let mut try_case = |smallest: &mut Smallest, case: Case| -> Result<bool, Stop> {
        let claim = smallest.claim.clone();
        Ok(case != smallest.case && step(evaluator, smallest, case, claim)?)
    };
    let steps: [fn(&mut Case); 4] = [
        |case| case.ancestor = Ancestor::Unknown,
        |case| case.inputs.iter_mut().for_each(|input| input.schema = 0),
        |case| case.inputs.iter_mut().for_each(|input| input.written_at_ms = 0),
        rank_times,
    ];
    for change in steps {
        let mut case = smallest.case.clone();
        change(&mut case);
        went |= try_case(smallest, case)?;
    }
    for n in 0..smallest.case.inputs.len() {
        for change in [
            |input: &mut DivergentVersion| input.schema = 0,
            |input: &mut DivergentVersion| input.written_at_ms = 0,
        ] {
            let mut case = smallest.case.clone();
            change(&mut case.inputs[n]);
            went |= try_case(smallest, case)?;
        }
    }
    Ok(went)
}

/// Small times in the same order.
fn rank_times(case: &mut Case) {
    let mut times: Vec<_> = case.inputs.iter().map(|input| input.written_at_ms).collect();
    times.sort_unstable();
    times.dedup();
    for input in &mut case.inputs {
        let rank = times.partition_point(|time| *time < input.written_at_ms) as u64;
        input.written_at_ms = input.written_at_ms.min(1 + rank);
    }
}

fn drop_common_parts(
    evaluator: &mut Evaluator<'_>,
    form: &Form,
    smallest: &mut Smallest,
) -> Result<bool, Stop> {
    let values: Vec<_> = smallest.case.inputs.iter().filter_map(|i| i.value.as_ref()).collect();
    let mut went = false;
    for part in shrink::parts(&values) {
        let mut case = smallest.case.clone();
        let mut fits = true;
        for value in case.inputs.iter_mut().filter_map(|input| input.value.as_mut()) {
            if let Some(without) = shrink::without(value, &part) {
                fits &= form.fits(&without) || !form.fits(value);
                *value = without;
            }
        }
        if fits && case != smallest.case && is_distinct(&case) {
            let claim = smallest.claim.clone();
            went |= step(evaluator, smallest, case, claim)?;
        }
    }
    Ok(went)
}

fn drop_parts(
    evaluator: &mut Evaluator<'_>,
    form: &Form,
    smallest: &mut Smallest,
) -> Result<bool, Stop> {
    let mut went = false;
    for n in 0..smallest.case.inputs.len() {
        while let Some(value) = &smallest.case.inputs[n].value {
            let mut stepped = false;
            let must_fit = form.fits(value);
            for candidate in shrink::candidates(value) {
                if must_fit && !form.fits(&candidate) {
                    continue;
                }
                let mut case = smallest.case.clone();
                case.inputs[n].value = Some(candidate);
                let claim = smallest.claim.clone();
                if is_distinct(&case) && step(evaluator, smallest, case, claim)? {
                    stepped = true;
                    break;
                }
            }
            if !stepped {
                break;
            }
            went = true;
        }
    }
    Ok(went)
}

/// Equal payloads would be one version, and the case another one.
fn is_distinct(case: &Case) -> bool {
    let inputs = &case.inputs;
    (1..inputs.len()).all(|n| inputs[..n].iter().all(|before| before.value != inputs[n].value))
}
