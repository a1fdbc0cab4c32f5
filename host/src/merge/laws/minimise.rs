//! Makes a counterexample smaller while it stays one.
//!
//! First whole siblings go, then what merges are told beside the values, then parts of values:
//! those that all have alike, and at last those of each alone. Values of the derived law are only
//! changed all alike, because `a'` must stay what a client can make of `a`.

use stator_core::divergence::Ancestor;

use super::evaluate::{Case, Evaluator, Finding, Found, Stop};
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
pub(super) fn minimise(evaluator: &mut Evaluator<'_>, law: Law, from: Smallest) -> Smallest {
    let mut smallest = from;
    // Ends, because every step makes the case smaller.
    while let Ok(true) = round(evaluator, law, &mut smallest) {}
    smallest
}

/// Tries every kind of step once; whether one of them went.
fn round(evaluator: &mut Evaluator<'_>, law: Law, smallest: &mut Smallest) -> Result<bool, Stop> {
    let dropped = drop_inputs(evaluator, law, smallest)?;
    let plain = drop_circumstances(evaluator, smallest)?;
    let common = drop_common_parts(evaluator, smallest)?;
    let parts = law != Law::Derived && drop_parts(evaluator, smallest)?;
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
    let steps: [fn(&mut Case); 3] = [
        |case| case.ancestor = Ancestor::Unknown,
        |case| case.inputs.iter_mut().for_each(|input| input.schema = 0),
        |case| case.inputs.iter_mut().for_each(|input| input.written_at_ms = 0),
    ];
    for change in steps {
        let mut case = smallest.case.clone();
        change(&mut case);
        if case != smallest.case {
            let claim = smallest.claim.clone();
            went |= step(evaluator, smallest, case, claim)?;
        }
    }
    Ok(went)
}

fn drop_common_parts(evaluator: &mut Evaluator<'_>, smallest: &mut Smallest) -> Result<bool, Stop> {
    let values: Vec<_> = smallest.case.inputs.iter().filter_map(|i| i.value.as_ref()).collect();
    let mut went = false;
    for path in shrink::paths(&values) {
        let mut case = smallest.case.clone();
        for value in case.inputs.iter_mut().filter_map(|input| input.value.as_mut()) {
            if let Some(without) = shrink::without(value, &path) {
                *value = without;
            }
        }
        if case != smallest.case && is_distinct(&case) {
            let claim = smallest.claim.clone();
            went |= step(evaluator, smallest, case, claim)?;
        }
    }
    Ok(went)
}

fn drop_parts(evaluator: &mut Evaluator<'_>, smallest: &mut Smallest) -> Result<bool, Stop> {
    let mut went = false;
    for n in 0..smallest.case.inputs.len() {
        while let Some(value) = &smallest.case.inputs[n].value {
            let mut stepped = false;
            for candidate in shrink::candidates(value) {
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
