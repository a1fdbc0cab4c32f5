//! From a sample to cases, and to what each law says about them.
//!
//! Whatever a case combines can arise from the sample: some of its siblings in any order, a
//! delete beside them, merges of them, and, where the ancestor is known, a stale copy of it that
//! was merged with a sibling before another arrived.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion};

use super::evaluate::Case;
use super::law::Law;
use super::term::{Claim, Term};

/// Siblings of a case: more of them cost merges and show nothing new.
const INPUTS_MAX: usize = 6;

/// A number below `bound`, which is not 0.
pub(super) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    (rng.next_u64() % bound.max(1) as u64) as usize
}

fn shuffle<T>(rng: &mut ChaCha8Rng, items: &mut [T]) {
    for n in (1..items.len()).rev() {
        items.swap(n, below(rng, n + 1));
    }
}

/// The whole sample as a case: every sibling, equal payloads once.
pub(super) fn whole(sample: &Divergence, ancestor: Ancestor) -> Case {
    let mut inputs: Vec<DivergentVersion> = Vec::new();
    for sibling in &sample.siblings {
        if inputs.iter().all(|known| known.value != sibling.value) {
            inputs.push(sibling.clone());
        }
    }
    case(sample, inputs, ancestor)
}

fn case(sample: &Divergence, inputs: Vec<DivergentVersion>, ancestor: Ancestor) -> Case {
    Case {
        keyspace: sample.keyspace.clone(),
        key: sample.key.clone(),
        names: (0..inputs.len()).map(name).collect(),
        inputs,
        ancestor,
        is_reachable: true,
    }
}

fn name(n: usize) -> String {
    match u8::try_from(n) {
        Ok(n) if n < 26 => char::from(b'a' + n).to_string(),
        _ => format!("v{n}"),
    }
}

pub(super) fn tombstone() -> DivergentVersion {
    DivergentVersion { value: None, schema: 0, written_at_ms: 0 }
}

/// Some siblings of the sample, in some order, sometimes with a delete.
pub(super) fn vary(sample: &Divergence, ancestor: Ancestor, rng: &mut ChaCha8Rng) -> Case {
    let mut inputs = whole(sample, Ancestor::Unknown).inputs;
    shuffle(rng, &mut inputs);
    let keep = match inputs.len() {
        n @ 4.. => 2 + below(rng, n - 1),
        n => n,
    };
    inputs.truncate(keep.min(INPUTS_MAX));
    if below(rng, 4) == 0 && inputs.iter().all(|input| input.value.is_some()) {
        let at = below(rng, inputs.len() + 1);
        inputs.insert(at, tombstone());
    }
    case(sample, inputs, ancestor)
}

/// What the laws say about a case. Those that nest merges say nothing if the merge `uses_ancestor`.
pub(super) fn claims(case: &Case, uses_ancestor: bool, rng: &mut ChaCha8Rng) -> Vec<(Law, Claim)> {
    let n = case.inputs.len();
    if n < 2 {
        return Vec::new();
    }
    let all = Term::of(0..n);
    let equal = |left: Term| Claim::Equal(left, all.clone());
    let mut order: Vec<_> = (0..n).collect();
    order.reverse();
    let reversed = Term::of(order.iter().copied());
    let mut claims = vec![
        (Law::Deterministic, Claim::Repeats(all.clone())),
        (Law::Total, Claim::Answers(all.clone())),
        (Law::Total, Claim::Answers(reversed.clone())),
        (Law::Commutative, equal(reversed)),
        (Law::Preserves, Claim::Preserves(all.clone())),
    ];
    if n > 2 {
        shuffle(rng, &mut order);
        claims.push((Law::Commutative, equal(Term::of(order.iter().copied()))));
    }
    if uses_ancestor {
        return claims;
    }
    let again = Term::Merge(vec![all.clone(), Term::Input(below(rng, n))]);
    claims.push((Law::Idempotent, equal(again)));
    if n > 2 {
        let cut = 2 + below(rng, n - 2);
        let mut left = vec![Term::of(0..cut)];
        left.extend((cut..n).map(Term::Input));
        let left = Term::Merge(left);
        let right = Term::Merge(vec![Term::Input(0), Term::of(1..n)]);
        claims.push((Law::Total, Claim::Answers(left.clone())));
        claims.push((Law::Associative, equal(left)));
        claims.push((Law::Associative, equal(right)));
        // The one later write of `a` that can be had without its history: `a` merged with `c`.
        let later = Term::of([0, 2]);
        let left = Term::Merge(vec![Term::of([0, 1]), later.clone()]);
        claims.push((Law::Derived, Claim::Equal(left, Term::Merge(vec![Term::Input(1), later]))));
    }
    claims
}

/// The derived law on a sample whose ancestor is known: `a` is the ancestor, `a'` a sibling, which
/// a client made of it, and the rest are the others. `None` if the sample shows no later write.
pub(super) fn later_write(sample: &Divergence, rng: &mut ChaCha8Rng) -> Option<(Case, Claim)> {
    let Ancestor::Known(ancestor) = &sample.ancestor else { return None };
    let mut siblings = whole(sample, Ancestor::Unknown).inputs;
    if siblings.len() < 2 {
        return None;
    }
    shuffle(rng, &mut siblings);
    let others = 1 + below(rng, siblings.len().min(INPUTS_MAX) - 1);
    let later = siblings.pop()?;
    siblings.truncate(others);
    let mut inputs = vec![ancestor.clone()];
    inputs.append(&mut siblings);
    inputs.push(later);
    let last = inputs.len() - 1;
    let mut case = case(sample, inputs, Ancestor::Unknown);
    "a'".clone_into(&mut case.names[last]);
    let left = Term::Merge(vec![Term::of(0..last), Term::Input(last)]);
    Some((case, Claim::Equal(left, Term::of(1..=last))))
}

/// Whether a delete takes back what its client saw, after a fold as before: the derived law with
/// a delete for `a'`.
pub(super) fn later_delete(sample: &Divergence) -> Option<(Case, Claim)> {
    let live = |input: &&DivergentVersion| input.value.is_some();
    let whole = whole(sample, Ancestor::Unknown);
    let mut inputs: Vec<_> = whole.inputs.iter().filter(live).take(2).cloned().collect();
    if inputs.len() < 2 {
        return None;
    }
    inputs.push(tombstone());
    let left = Term::Merge(vec![Term::of([0, 1]), Term::Input(2)]);
    Some((case(sample, inputs, Ancestor::Unknown), Claim::Equal(left, Term::of([1, 2]))))
}
