//! The laws, the answers to them, and the report of a check.

use std::collections::BTreeMap;
use std::fmt;

use super::counterexample::Counterexample;
use super::reach::Reach;
use super::variety::Variety;

/// A law that merges should keep to; what each says stands in the head of [`super`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Law {
    /// The same input, the same answer.
    Deterministic,
    /// The order of siblings changes nothing.
    Commutative,
    /// Merging in between changes nothing.
    Associative,
    /// Merging in again what is merged already changes nothing.
    Idempotent,
    /// Every reachable input has an answer.
    Total,
    /// A client's later write replaces what it was made of, merged in between or not.
    Derived,
    /// The module's own invariant.
    Preserves,
}

impl Law {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Law; 7] = [
        Law::Deterministic,
        Law::Commutative,
        Law::Associative,
        Law::Idempotent,
        Law::Total,
        Law::Derived,
        Law::Preserves,
    ];

    /// Those that must hold before a module may fold.
    pub const FOR_FOLDS: [Law; 6] = [
        Law::Deterministic,
        Law::Commutative,
        Law::Associative,
        Law::Idempotent,
        Law::Total,
        Law::Derived,
    ];

    /// Its name, one word.
    pub fn name(self) -> &'static str {
        match self {
            Law::Deterministic => "deterministic",
            Law::Commutative => "commutative",
            Law::Associative => "associative",
            Law::Idempotent => "idempotent",
            Law::Total => "total",
            Law::Derived => "derived",
            Law::Preserves => "preserves",
        }
    }

    /// What it says, in a line.
    pub fn statement(self) -> &'static str {
        match self {
            Law::Deterministic => "the same siblings give the same answer in every fresh instance",
            Law::Commutative => "the order of the siblings changes nothing",
            Law::Associative => "merge(merge(a, b), c) = merge(a, b, c) = merge(a, merge(b, c))",
            Law::Idempotent => "merge(merge(a, b), a) = merge(a, b)",
            Law::Total => "all siblings that can arise have a merge",
            Law::Derived => {
                "merge(merge(a, b), a') = merge(b, a') for a client's later write a' of a"
            }
            Law::Preserves => "nothing is lost that the module's invariant promises to keep",
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The answer to whether a law holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// In every case that was tried.
    Holds {
        /// How many they were.
        cases: u64,
    },
    /// Not in this case.
    Violated(Box<Counterexample>),
    /// It cannot be said.
    NotCheckable {
        /// Why not, and what would help.
        why: String,
    },
}

impl Verdict {
    /// The answer in a word: `holds`, `violated`, `not checkable`.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Holds { .. } => "holds",
            Verdict::Violated(_) => "violated",
            Verdict::NotCheckable { .. } => "not checkable",
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed: the same module, samples, seed and limits give the same report again.
    pub seed: u64,
    /// Samples that were checked on.
    pub samples: usize,
    /// Calls of the merge, those of the minimiser included.
    pub merges: u64,
    /// Fuel that they used.
    pub fuel: u64,
    /// Which budget ended the check early, if one did.
    pub stopped: Option<&'static str>,
    /// How varied the merges were.
    pub variety: Variety,
    /// How much of the module's code they reached, where that was counted.
    pub reach: Option<Reach>,
    /// What the author should know although no law says it.
    pub remarks: Vec<String>,
    pub(super) verdicts: BTreeMap<Law, Verdict>,
}

impl Report {
    /// The verdicts in the order of [`Law::ALL`].
    pub fn verdicts(&self) -> impl Iterator<Item = (Law, &Verdict)> {
        self.verdicts.iter().map(|(law, verdict)| (*law, verdict))
    }

    /// The verdict on one law.
    pub fn verdict(&self, law: Law) -> Option<&Verdict> {
        self.verdicts.get(&law)
    }

    /// The counterexamples of the laws that are violated.
    pub fn violations(&self) -> impl Iterator<Item = &Counterexample> {
        self.verdicts.values().filter_map(|verdict| match verdict {
            Verdict::Violated(counterexample) => Some(&**counterexample),
            _ => None,
        })
    }
}
