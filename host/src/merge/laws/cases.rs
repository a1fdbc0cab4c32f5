//! From a sample to cases, and to what each law says about them.
//!
//! Whatever a case combines can arise from the sample: some of its siblings in any order, a
//! delete beside them, merges of them, and, where the ancestor is known, a stale copy of it that
//! was merged with a sibling before another arrived. When each was written is for the clocks of
//! the nodes that took the writes, which differ: any times can arise, also an earlier one for a
//! later write.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion};

use super::counterexample::Origin;
use super::evaluate::Case;
use super::law::Law;
use super::term::{Claim, Term};

/// Siblings of a case: more of them cost merges and show nothing new.
const INPUTS_MAX: usize = 6;
/// A time as clocks tell it today, in milliseconds since 1970.
const TODAY_MS: u64 = 1_763_800_000_000;
/// How long ago a sibling may have been written: a node can be cut off for minutes, hours or months.
const AGES_MS: [u64; 6] = [0, 1_000, 600_000, 10_000_000, 200_000_000, 40_000_000_000];

/// A number below `bound`, which is not 0.
pub(super) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    (rng.next_u64() % bound.max(1) as u64) as usize
}

pub(super) fn shuffle<T>(rng: &mut ChaCha8Rng, items: &mut [T]) {
    for n in (1..items.len()).rev() {
        items.swap(n, below(rng, n + 1));
    }
}

/// The whole sample as a case: every sibling, equal payloads once.
pub(super) fn whole(sample: &Divergence, ancestor: Ancestor) -> Case {
    let mut case = case(sample, sample.siblings.clone(), ancestor);
    case.drop_equal_inputs();
    case
}

/// These inputs, of the sample's history, as a case.
pub(super) fn case(sample: &Divergence, inputs: Vec<DivergentVersion>, ancestor: Ancestor) -> Case {
    let mut case = Case {
        keyspace: sample.keyspace.clone(),
        key: sample.key.clone(),
        names: Vec::new(),
        inputs,
        ancestor,
        origin: Origin::Sampled,
        depth: 0,
    };
    case.name_inputs();
    case
}

impl Case {
    /// Names the inputs `a`, `b`, `c`.
    pub(super) fn name_inputs(&mut self) {
        self.names = (0..self.inputs.len()).map(name).collect();
    }

    /// Names the last input `a'`, and the others as before.
    fn name_later(&mut self) {
        self.name_inputs();
        if let Some(last) = self.names.last_mut() {
            "a'".clone_into(last);
        }
    }

    /// Equal payloads are one version.
    pub(super) fn drop_equal_inputs(&mut self) {
        let mut kept: Vec<DivergentVersion> = Vec::new();
        for input in std::mem::take(&mut self.inputs) {
            if kept.iter().all(|known| known.value != input.value) {
                kept.push(input);
            }
        }
        self.inputs = kept;
        self.name_inputs();
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
    let mut case = whole(sample, ancestor);
    shuffle(rng, &mut case.inputs);
    let keep = match case.inputs.len() {
        n @ 4.. => 2 + below(rng, n - 1),
        n => n,
    };
    case.inputs.truncate(keep.min(INPUTS_MAX));
    if below(rng, 4) == 0 && case.inputs.iter().all(|input| input.value.is_some()) {
        let at = below(rng, case.inputs.len() + 1);
        case.inputs.insert(at, tombstone());
    }
    case.name_inputs();
    case
}

/// What may vary beside the values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around {
    /// Schema numbers; not where the samples or a migration have a say in them.
    pub(super) schemas: bool,
    /// The ancestor.
    pub(super) ancestor: bool,
}

/// Other times, and as far as that may be other schema numbers and another ancestor.
pub(super) fn set_in(case: &mut Case, around: Around, rng: &mut ChaCha8Rng) {
    let of = below(rng, 5);
    for input in &mut case.inputs {
        match of {
            0 => {}
            1 | 2 => input.written_at_ms = 1 + below(rng, 4) as u64,
            3 => input.written_at_ms = TODAY_MS + below(rng, 100_000) as u64,
            _ => input.written_at_ms = TODAY_MS - AGES_MS[below(rng, AGES_MS.len())],
        }
    }
    if around.schemas && below(rng, 8) == 0 {
        case.origin = case.origin.max(Origin::Alike);
        case.inputs.iter_mut().for_each(|input| input.schema = 1 + below(rng, 3) as u32);
    }
    if around.ancestor {
        match below(rng, 6) {
            // A module must be right without any.
            0 | 1 => case.ancestor = Ancestor::Unknown,
            2 => {
                case.ancestor = Ancestor::Absent;
                case.origin = case.origin.max(Origin::Alike);
            }
            _ => {}
        }
    }
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
    // Which input it is follows from the order, which is random.
    claims.push((Law::Idempotent, equal(Term::Merge(vec![all.clone(), Term::Input(0)]))));
    if n > 2 {
        let cut = 2 + below(rng, n - 2);
        let mut left = vec![Term::of(0..cut)];
        left.extend((cut..n).map(Term::Input));
        let left = Term::Merge(left);
        let right = Term::Merge(vec![Term::Input(0), Term::of(1..n)]);
        claims.push((Law::Total, Claim::Answers(left.clone())));
        claims.push((Law::Associative, equal(left)));
        claims.push((Law::Associative, equal(right)));
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
    siblings.insert(0, ancestor.clone());
    Some(derived(case(sample, siblings, Ancestor::Unknown), later))
}

/// The derived law on `a` and the others of the case, and `later`, which a client made of `a`.
pub(super) fn derived(mut case: Case, later: DivergentVersion) -> (Case, Claim) {
    case.inputs.push(later);
    case.name_later();
    let last = case.inputs.len() - 1;
    let left = Term::Merge(vec![Term::of(0..last), Term::Input(last)]);
    (case, Claim::Equal(left, Term::of(1..=last)))
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
