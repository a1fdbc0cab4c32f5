//! The verdicts on the merge laws that a node answers to a push.

use serde_json::{Value, json};
use stator_proto::v1;
use stator_proto::v1::law_verdict::Answer;

use crate::cli::output;

fn word(verdict: &v1::LawVerdict) -> &'static str {
    match verdict.answer() {
        Answer::Holds => "holds",
        Answer::Violated => "violated",
        Answer::NotCheckable => "not checkable",
        Answer::Unspecified => "not known",
    }
}

/// Tells people, beside the result, how the module stands to the laws: one line if all is well.
pub(super) fn say(verdicts: &[v1::LawVerdict]) {
    say_names(verdicts);
    for verdict in verdicts.iter().filter(|verdict| verdict.answer() == Answer::Violated) {
        output::say(verdict.detail.trim_end());
    }
}

/// The same without counterexamples.
pub(super) fn say_names(verdicts: &[v1::LawVerdict]) {
    let named = |answer: Answer| {
        let names = verdicts.iter().filter(|verdict| verdict.answer() == answer);
        names.map(|verdict| verdict.law.as_str()).collect::<Vec<_>>().join(", ")
    };
    let lines = [
        ("laws that hold", named(Answer::Holds)),
        ("laws that are violated", named(Answer::Violated)),
        ("laws that are not checkable", named(Answer::NotCheckable)),
    ];
    for (what, names) in lines.iter().filter(|(_, names)| !names.is_empty()) {
        output::say(format!("{what}: {names}"));
    }
}

/// For programs.
pub(super) fn json(verdicts: &[v1::LawVerdict]) -> Value {
    let verdict = |verdict: &v1::LawVerdict| {
        json!({
            "law": verdict.law,
            "answer": word(verdict),
            "cases": verdict.cases,
            "detail": verdict.detail,
        })
    };
    verdicts.iter().map(verdict).collect()
}
