//! What a demo found: a table for people, a line for programs, a verdict for the exit code.

use serde_json::{Map, Value, json};

use super::oplog::{Operation, Outcome, Record};
use super::truth::Verdict;
use super::verify::Reading;

/// How many losses are named one by one.
const NAMED_MAX: usize = 5;

/// What was found of both keyspaces.
#[derive(Debug, Clone)]
pub struct Report {
    /// In the order merged, last write wins.
    pub keyspaces: Vec<KeyspaceReport>,
    /// How long all took.
    pub seconds: f64,
}

/// What was found of one keyspace.
#[derive(Debug, Clone, Default)]
pub struct KeyspaceReport {
    /// Its name.
    pub name: &'static str,
    /// How many carts there are.
    pub carts: usize,
    /// How many puts were acknowledged.
    pub puts_acked: usize,
    /// How many puts have an unknown outcome.
    pub puts_unknown: usize,
    /// How many articles were taken out of carts by acknowledged puts.
    pub removals: usize,
    /// How many reads met concurrent versions.
    pub siblings_seen: usize,
    /// How many times the nodes made one answer of several versions.
    pub merges: u64,
    /// How many objects the nodes delivered from hints.
    pub hints_delivered: u64,
    /// How many acknowledged adds are missing.
    pub lost_adds: usize,
    /// How many removed articles are there.
    pub resurrected_removals: usize,
    /// Whether all nodes give the same bytes for every cart.
    pub replicas_equal: bool,
    /// The first of the losses, in words.
    pub examples: Vec<String>,
}

impl KeyspaceReport {
    /// What the log, the carts at the end and the verdict on them say.
    pub fn new(name: &'static str, log: &[Record], reading: &Reading, verdict: &Verdict) -> Self {
        let mut report = KeyspaceReport {
            name,
            carts: reading.finals.len(),
            lost_adds: verdict.lost_adds.len(),
            resurrected_removals: verdict.resurrected.len(),
            replicas_equal: reading.unequal.is_empty(),
            ..Default::default()
        };
        for record in log {
            match &record.operation {
                Operation::Get { siblings, .. } => {
                    report.siblings_seen += usize::from(*siblings > 1)
                }
                Operation::Put(put) => match put.outcome {
                    Outcome::Acked => {
                        report.puts_acked += 1;
                        report.removals += put.removed.len();
                    }
                    Outcome::Unknown => report.puts_unknown += 1,
                    Outcome::Refused => {}
                },
            }
        }
        let lost = verdict.lost_adds.iter().map(|(cart, tag)| format!("{cart} lost the add {tag}"));
        let back = verdict.resurrected.iter().map(|(cart, sku)| format!("{cart} has {sku} back"));
        let unequal = reading.unequal.iter().map(|cart| format!("{cart} differs between nodes"));
        let kinds = lost.take(NAMED_MAX).chain(back.take(NAMED_MAX)).chain(unequal.take(NAMED_MAX));
        report.examples = kinds.collect();
        report
    }

    fn json(&self) -> Value {
        json!({
            "carts": self.carts,
            "puts_acked": self.puts_acked,
            "removals": self.removals,
            "siblings_seen": self.siblings_seen,
            "merges": self.merges,
            "hints_delivered": self.hints_delivered,
            "lost_adds": self.lost_adds,
            "resurrected_removals": self.resurrected_removals,
            "replicas_equal": self.replicas_equal,
        })
    }
}

impl Report {
    /// The document for programs.
    pub fn json(&self) -> Value {
        let keyspaces = self.keyspaces.iter().map(|report| (report.name.to_owned(), report.json()));
        json!({
            "keyspaces": keyspaces.collect::<Map<_, _>>(),
            "seconds": (self.seconds * 10.0).round() / 10.0,
        })
    }

    /// The table for people: a name and what each keyspace says.
    pub fn rows(&self) -> Vec<Vec<String>> {
        type Fact = fn(&KeyspaceReport) -> String;
        let facts: [(&str, Fact); 10] = [
            ("carts", |report| report.carts.to_string()),
            ("puts acknowledged", |report| report.puts_acked.to_string()),
            ("puts with unknown outcome", |report| report.puts_unknown.to_string()),
            ("items taken out", |report| report.removals.to_string()),
            ("reads that met siblings", |report| report.siblings_seen.to_string()),
            ("merges", |report| report.merges.to_string()),
            ("hints delivered", |report| report.hints_delivered.to_string()),
            ("adds lost", |report| report.lost_adds.to_string()),
            ("removed items that came back", |report| report.resurrected_removals.to_string()),
            ("all nodes agree", |report| {
                if report.replicas_equal { "yes" } else { "no" }.to_owned()
            }),
        ];
        let row = |(name, fact): (&str, Fact)| {
            std::iter::once(name.to_owned()).chain(self.keyspaces.iter().map(fact)).collect()
        };
        facts.into_iter().map(row).collect()
    }

    /// Why the demo failed or proves nothing; empty if it shows what it should. Last write wins
    /// may lose: that is its point.
    pub fn complaints(&self) -> Vec<String> {
        let Some(merged) = self.keyspaces.first() else {
            return vec!["nothing was found out".to_owned()];
        };
        let bad = [
            (merged.lost_adds > 0, "acknowledged adds are lost"),
            (merged.resurrected_removals > 0, "removed items came back"),
            (!merged.replicas_equal, "the nodes do not agree"),
            (merged.siblings_seen == 0, "no read met siblings, so nothing is proved"),
            (merged.merges == 0, "nothing was merged, so nothing is proved"),
            (merged.hints_delivered == 0, "no hint was delivered, so nothing is proved"),
            (merged.removals == 0, "nothing was taken out, so nothing is proved"),
        ];
        let bad = bad.into_iter().filter(|(holds, _)| *holds);
        let words = bad.map(|(_, words)| format!("{}: {words}", merged.name));
        words.chain(merged.examples.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(name: &'static str) -> KeyspaceReport {
        KeyspaceReport {
            name,
            carts: 1,
            puts_acked: 1,
            removals: 1,
            siblings_seen: 1,
            merges: 1,
            hints_delivered: 1,
            replicas_equal: true,
            ..Default::default()
        }
    }

    fn report(merged: KeyspaceReport) -> Report {
        let lossy = KeyspaceReport { lost_adds: 9, replicas_equal: false, ..good("carts_lww") };
        Report { keyspaces: vec![merged, lossy], seconds: 1.25 }
    }

    #[test]
    fn last_write_wins_may_lose_and_the_merge_may_not() {
        assert!(report(good("carts")).complaints().is_empty());
        let bad = [
            KeyspaceReport { lost_adds: 1, ..good("carts") },
            KeyspaceReport { resurrected_removals: 1, ..good("carts") },
            KeyspaceReport { replicas_equal: false, ..good("carts") },
            KeyspaceReport { siblings_seen: 0, ..good("carts") },
            KeyspaceReport { merges: 0, ..good("carts") },
            KeyspaceReport { hints_delivered: 0, ..good("carts") },
            KeyspaceReport { removals: 0, ..good("carts") },
        ];
        for merged in bad {
            assert_eq!(report(merged.clone()).complaints().len(), 1, "{merged:?}");
        }
    }

    #[test]
    fn the_line_for_programs_has_exactly_these_keys() {
        let json = report(good("carts")).json();
        let keys = |value: &Value| -> Vec<String> {
            value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
        };
        assert_eq!(keys(&json), ["keyspaces", "seconds"]);
        let mut expected = [
            "carts",
            "puts_acked",
            "removals",
            "siblings_seen",
            "merges",
            "hints_delivered",
            "lost_adds",
            "resurrected_removals",
            "replicas_equal",
        ];
        expected.sort_unstable();
        for keyspace in ["carts", "carts_lww"] {
            let mut found = keys(&json["keyspaces"][keyspace]);
            found.sort_unstable();
            assert_eq!(found, expected);
        }
    }
}
