//! The gate of folds: whether a module's merge may replace its inputs.
//!
//! Every node asks for itself, with the same seed and the same budget of merges and fuel, on its
//! own copy of the module's bytes; the answer is kept for as long as the host lives. Only the
//! module's own sampler is asked for samples: nobody else knows what can arise. A tame sampler does
//! not help: the cases must be as varied as [`Variety`](super::Variety) says.

use std::sync::Arc;

use stator_core::divergence::MergeFailure;
use stator_core::id::ModuleDigest;

use super::{Law, Report, Verdict};
use crate::merge::MergeHost;

/// Cases in which each law must hold before a module may fold. A law has several a sample, so
/// that even a sampler which often gives two siblings only has enough.
pub(super) const CASES_FOR_FOLDS: u64 = 200;

/// Why a module may not fold. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MayNotFold {
    /// A law does not hold.
    #[error(
        "module {module} is no join, so its merge stays a view: {law} is violated \
         ({statement}). `stator module test` shows the counterexample",
        statement = law.statement()
    )]
    Violated {
        /// The module.
        module: ModuleDigest,
        /// The law.
        law: Law,
        /// In what case.
        counterexample: Box<super::Counterexample>,
    },
    /// A law could not be checked, or on too few cases.
    #[error("module {module} is not known to be a join, so its merge stays a view: {law} {why}")]
    NotShown {
        /// The module.
        module: ModuleDigest,
        /// The law.
        law: Law,
        /// Why it is not shown.
        why: String,
    },
    /// The cases were too much alike to show anything.
    #[error(
        "module {module} is not known to be a join, so its merge stays a view: its laws hold, but \
         on cases too much alike: {why}"
    )]
    TooAlike {
        /// The module.
        module: ModuleDigest,
        /// What is too little.
        why: String,
    },
    /// The check did not come to an end, which says nothing about the module.
    #[error("whether module {module} may fold is not known: {why}; try again")]
    Unchecked {
        /// The module.
        module: ModuleDigest,
        /// What was in the way.
        why: LawsUnchecked,
    },
}

/// Why the laws of a module were not checked. Says nothing about the module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LawsUnchecked {
    /// The module is not loaded on this node (yet).
    #[error("module {0} is not loaded on this node")]
    NotLoaded(ModuleDigest),
    /// The node failed, or had no room for merges.
    #[error("this node could not check its laws: {0}")]
    Node(MergeFailure),
}

impl MergeHost {
    /// Whether the module's merge may replace its inputs: whether all of [`Law::FOR_FOLDS`] hold on
    /// enough cases of its own sampler. A law that is not checkable does not hold. Takes up to
    /// some seconds when it is asked for the first time, and merges in between.
    pub async fn may_fold(&self, module: &ModuleDigest) -> Result<Arc<Report>, MayNotFold> {
        let report = self.laws(module).await;
        let report = report.map_err(|why| MayNotFold::Unchecked { module: *module, why })?;
        judge(module, &report)?;
        Ok(report)
    }
}

impl Report {
    /// Why the module may not fold by this report; `None` if it may.
    pub fn why_no_fold(&self, module: &ModuleDigest) -> Option<MayNotFold> {
        judge(module, self).err()
    }
}

/// Judges a report; a violation is worse than an open question, so it is named first.
fn judge(module: &ModuleDigest, report: &Report) -> Result<(), MayNotFold> {
    let module = *module;
    for law in Law::FOR_FOLDS {
        if let Some(Verdict::Violated(counterexample)) = report.verdict(law) {
            let counterexample = counterexample.clone();
            return Err(MayNotFold::Violated { module, law, counterexample });
        }
    }
    for law in Law::FOR_FOLDS {
        let why = match report.verdict(law) {
            Some(Verdict::Holds { cases }) if *cases >= CASES_FOR_FOLDS => continue,
            Some(Verdict::Holds { cases }) => {
                let stopped = report.stopped.map(|what| format!("; {what}")).unwrap_or_default();
                format!("holds on {cases} cases, and {CASES_FOR_FOLDS} are needed{stopped}")
            }
            Some(Verdict::NotCheckable { why }) => format!("is not checkable: {why}"),
            Some(Verdict::Violated(_)) | None => "was not checked".to_owned(),
        };
        return Err(MayNotFold::NotShown { module, law, why });
    }
    match report.variety.lacks() {
        Some(why) => Err(MayNotFold::TooAlike { module, why }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Variety;
    use super::*;

    const MODULE: ModuleDigest = ModuleDigest([7; 32]);

    fn report(change: impl FnOnce(&mut BTreeMap<Law, Verdict>)) -> Report {
        let holds = |law| (law, Verdict::Holds { cases: CASES_FOR_FOLDS });
        let mut verdicts: BTreeMap<_, _> = Law::FOR_FOLDS.into_iter().map(holds).collect();
        change(&mut verdicts);
        Report {
            seed: 0,
            samples: 1,
            merges: 1,
            fuel: 0,
            stopped: None,
            variety: Variety::of(100, 30, 3),
            reach: None,
            remarks: Vec::new(),
            verdicts,
        }
    }

    #[test]
    fn every_law_of_folds_is_needed_on_enough_cases() {
        assert_eq!(judge(&MODULE, &report(|_| ())), Ok(()));
        for law in Law::FOR_FOLDS {
            let few = report(|all| drop(all.insert(law, Verdict::Holds { cases: 199 })));
            let refused = judge(&MODULE, &few).expect_err("too few").to_string();
            assert!(refused.contains(law.name()) && refused.contains("199"), "{refused}");
            let open = Verdict::NotCheckable { why: "for a reason".to_owned() };
            let open = report(|all| drop(all.insert(law, open)));
            let refused = judge(&MODULE, &open).expect_err("not shown").to_string();
            assert!(refused.contains("for a reason"), "{refused}");
            let missing = report(|all| drop(all.remove(&law)));
            assert!(judge(&MODULE, &missing).is_err());
        }
    }

    #[test]
    fn cases_that_are_too_much_alike_show_nothing() {
        for (variety, words) in [
            (Variety::of(99, 30, 3), "99 different values were merged, and 100"),
            (Variety::of(100, 29, 3), "29 different values came of it, and 30"),
            (Variety::of(100, 30, 2), "2 merges and edits"),
        ] {
            let report = Report { variety, ..report(|_| ()) };
            let refused = judge(&MODULE, &report).expect_err("too little").to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
