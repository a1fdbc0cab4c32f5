//! The table at the end, and what each error of a client means.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};

use crate::ledger::Faults;
use crate::scenarios::Scenario;

/// What a scenario came to.
#[derive(Debug)]
pub struct Line {
    /// Which.
    pub scenario: Scenario,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Those that had fallbacks among those who acknowledged.
    pub hinted: u64,
    /// Gets that were answered.
    pub reads: u64,
    /// Errors by gRPC code, reason and effect (`read` for gets).
    pub errors: BTreeMap<(String, String, &'static str), u64>,
    /// What the audit found.
    pub faults: Faults,
    /// From the healing until every node serves and sees all others.
    pub well: Duration,
    /// From the healing until no hint is left, with the load going on in between.
    pub recovered: Duration,
}

/// Why a client may be answered this while something is broken. An error that is not here is a
/// defect.
const EXPLANATIONS: [(&str, &str); 12] = [
    ("NOT_CONNECTED", "the client's own node is dead or cut off from it: nothing was sent"),
    ("NO_ANSWER", "its node died, hangs or lost packets with the request under way"),
    (
        "QUORUM_NOT_REACHED",
        "fewer than r or w nodes in reach: NONE is known before anything is written, MAYBE after",
    ),
    ("EXPIRED", "its node came to it after its deadline: nothing was done"),
    ("STORE_UNAVAILABLE", "the coordinator's disk took no writes, and no other owner could"),
    ("STOPPING", "its node was told to stop"),
    ("NO_CLUSTER", "its machine came back empty, and waits to be joined"),
    ("NODE_NOT_ACCEPTED", "its node has come back, and no majority has said yet that it is it"),
    ("SECOND_HOLDER", "its node runs on a copy of another process's directory: it does nothing"),
    ("NODE_REMOVED", "its node was removed from the cluster: it serves nothing any more"),
    ("TOO_MANY_SIBLINGS", "a blind put to a key with 100 siblings, the stated limit of them"),
    ("OVERLOADED", "too much was under way on its node; it says when to come again"),
];

impl Line {
    /// Whether it holds what it must.
    pub fn is_good(&self) -> bool {
        self.faults == Faults::default() && self.unexplained().is_empty()
    }

    fn unexplained(&self) -> BTreeSet<&str> {
        let reasons = self.errors.keys().map(|(_, reason, _)| reason.as_str());
        reasons.filter(|reason| EXPLANATIONS.iter().all(|(known, _)| known != reason)).collect()
    }

    fn error_words(&self) -> String {
        let words = self.errors.iter().map(|((code, reason, effect), count)| {
            let reason = if reason.is_empty() { "no reason" } else { reason };
            format!("{count} {code} {reason} {effect}")
        });
        let words: Vec<String> = words.collect();
        if words.is_empty() { "none".to_owned() } else { words.join("\n") }
    }
}

/// Prints one table of all.
pub fn print(lines: &[Line]) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "scenario",
        "what was done",
        "acknowledged",
        "by hints",
        "reads",
        "errors",
        "lost",
        "revived",
        "well after",
        "hints gone after",
    ]);
    for line in lines {
        table.add_row([
            line.scenario.name().to_owned(),
            line.scenario.words().to_owned(),
            line.acknowledged.to_string(),
            line.hinted.to_string(),
            line.reads.to_string(),
            line.error_words(),
            line.faults.lost.len().to_string(),
            (line.faults.revived.len() + line.faults.invented.len()).to_string(),
            format!("{:.1} s", line.well.as_secs_f64()),
            format!("{:.1} s", line.recovered.as_secs_f64()),
        ]);
    }
    println!("\n{table}\n");
    let met: BTreeSet<&str> =
        lines.iter().flat_map(|line| line.errors.keys()).map(|(_, reason, _)| &**reason).collect();
    for (reason, why) in EXPLANATIONS.iter().filter(|(reason, _)| met.contains(reason)) {
        println!("{reason}: {why}");
    }
    for line in lines.iter().filter(|line| !line.is_good()) {
        let (name, faults) = (line.scenario.name(), &line.faults);
        println!("FAILED {name}: {faults:?}, errors without explanation: {:?}", line.unexplained());
    }
}
