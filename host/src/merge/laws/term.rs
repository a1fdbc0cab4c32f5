//! The two sides of a law: merges of merges of inputs.

use std::collections::BTreeSet;

/// What is computed: an input, or the merge of further terms, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Term {
    /// The input of this number.
    Input(usize),
    /// The merge of these.
    Merge(Vec<Term>),
}

/// What a law says in one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// Both give the same bytes.
    Equal(Term, Term),
    /// Computed twice it gives the same answer, remarks included.
    Repeats(Term),
    /// It has an answer.
    Answers(Term),
    /// The invariant holds for it. The term is a merge of inputs.
    Preserves(Term),
}

impl Term {
    /// The merge of these inputs.
    pub(super) fn of(inputs: impl IntoIterator<Item = usize>) -> Self {
        Term::Merge(inputs.into_iter().map(Term::Input).collect())
    }

    /// The inputs in it.
    pub(super) fn inputs(&self) -> BTreeSet<usize> {
        match self {
            Term::Input(n) => BTreeSet::from([*n]),
            Term::Merge(terms) => terms.iter().flat_map(Term::inputs).collect(),
        }
    }

    /// Merges on top of each other.
    fn depth(&self) -> usize {
        match self {
            Term::Input(_) => 0,
            Term::Merge(terms) => 1 + terms.iter().map(Term::depth).max().unwrap_or_default(),
        }
    }

    /// The same without one input; `None` if nothing is left. The inputs behind it move up.
    fn without(&self, input: usize) -> Option<Term> {
        match self {
            Term::Input(n) if *n == input => None,
            Term::Input(n) if *n > input => Some(Term::Input(n - 1)),
            Term::Input(n) => Some(Term::Input(*n)),
            Term::Merge(terms) => {
                let mut rest: Vec<_> = terms.iter().filter_map(|t| t.without(input)).collect();
                match rest.len() {
                    // A lone version reaches no module.
                    0 | 1 => rest.pop(),
                    _ => Some(Term::Merge(rest)),
                }
            }
        }
    }

    /// As text: `merge(merge(a, b), c)`.
    pub(super) fn words(&self, names: &[String]) -> String {
        self.write(names, &mut |terms| format!("merge({})", terms.join(", ")))
    }

    /// As text, with merges written by `merge`, which is given its parts.
    pub(super) fn write(
        &self,
        names: &[String],
        merge: &mut dyn FnMut(Vec<String>) -> String,
    ) -> String {
        match self {
            Term::Input(n) => names.get(*n).cloned().unwrap_or_else(|| format!("input {n}")),
            Term::Merge(terms) => {
                let parts = terms.iter().map(|term| term.write(names, merge)).collect();
                merge(parts)
            }
        }
    }
}

impl Claim {
    /// Merges on top of each other, at the most.
    pub(super) fn depth(&self) -> usize {
        match self {
            Claim::Equal(left, right) => left.depth().max(right.depth()),
            Claim::Repeats(term) | Claim::Answers(term) | Claim::Preserves(term) => term.depth(),
        }
    }

    /// The same without one input; `None` if nothing is left of a side, or both are the same.
    pub(super) fn without(&self, input: usize) -> Option<Claim> {
        match self {
            Claim::Equal(left, right) => {
                let (left, right) = (left.without(input)?, right.without(input)?);
                (left != right).then_some(Claim::Equal(left, right))
            }
            Claim::Repeats(term) => Some(Claim::Repeats(term.without(input)?)),
            Claim::Answers(term) => Some(Claim::Answers(term.without(input)?)),
            Claim::Preserves(term) => match term.without(input)? {
                term @ Term::Merge(_) => Some(Claim::Preserves(term)),
                Term::Input(_) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_an_input_keeps_the_rest_of_the_equation() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let left = Term::Merge(vec![Term::of([0, 1]), Term::Input(2)]);
        assert_eq!(left.words(&names), "merge(merge(a, b), c)");
        assert_eq!(left.without(2), Some(Term::of([0, 1])));
        assert_eq!(left.without(0), Some(Term::of([0, 1])), "b and c, moved up");
        let law = Claim::Equal(left, Term::of([0, 1, 2]));
        assert_eq!(law.without(2), None, "merge(a, b) = merge(a, b) says nothing");
    }
}
