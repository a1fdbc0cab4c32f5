//! What a bench found: the document, and its table for people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::latency::Latency;
use super::recorder::Siblings;
use super::timeline;
use super::workload::Kind;
use crate::cli::failure::Failure;
use crate::cli::output;

/// What `--output json` prints and `compare` reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Document {
    /// The version of this program.
    pub(super) version: String,
    /// When it began, in UTC.
    pub(super) at: String,
    pub(super) host: Host,
    /// What it was told, defaults included.
    pub(super) settings: Map<String, Value>,
    pub(super) results: Vec<Measured>,
}

/// The machine of the clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Host {
    pub(super) cores: usize,
    pub(super) processor: String,
    /// Whether this program was built with assertions, as a `dev` build is.
    pub(super) has_assertions: bool,
}

/// One workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) workload: String,
    /// From the first operation's beginning to the last one's end.
    pub(super) seconds: f64,
    /// Operations that succeeded; a read-modify-write is one.
    pub(super) operations: u64,
    pub(super) per_second: f64,
    pub(super) latency: BTreeMap<Kind, Latency>,
    /// Requests that failed, by reason.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) siblings: Siblings,
    /// Operations of an open loop that were due and never begun.
    pub(super) never_begun: u64,
    /// Second by second, if that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) by_second: Vec<timeline::Row>,
    /// Processor time of all servers for an operation, where their processes are known.
    pub(super) server_us: Option<f64>,
    /// That of the bench itself: on a machine that it shares with the servers part of what limits them.
    #[serde(default)]
    pub(super) client_us: Option<f64>,
}

impl Host {
    pub(super) fn here() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Host {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: model.map_or_else(String::new, |(_, name)| name.to_owned()),
            has_assertions: cfg!(debug_assertions),
        }
    }
}

impl Document {
    /// The latencies with names, for a drawing; those of one of several documents have its own too.
    pub(super) fn lines<'a>(
        &'a self,
        of: Option<&'a str>,
    ) -> impl Iterator<Item = (String, &'a Latency)> {
        self.results.iter().flat_map(move |result| {
            result.latency.iter().map(move |(kind, latency)| {
                let of = of.map_or_else(String::new, |name| format!("{name}: "));
                (format!("{of}{} {}", result.workload, kind.name()), latency)
            })
        })
    }

    /// Prints the table for people.
    pub(super) fn print(&self) -> Result<(), Failure> {
        let header = [
            "workload",
            "operation",
            "count",
            "per second",
            "mean ms",
            "p50",
            "p99",
            "p99.9",
            "max",
        ];
        let rows = self.results.iter().flat_map(Measured::rows).collect();
        output::line(output::table(header, rows))?;
        self.results.iter().flat_map(Measured::remarks).try_for_each(output::line)?;
        let told = self.results.iter().filter(|result| !result.by_second.is_empty());
        told.map(Measured::by_second).try_for_each(output::line)?;
        output::line(self.circumstances())
    }

    /// How it came to be, in a line.
    fn circumstances(&self) -> String {
        let Host { cores, processor, has_assertions } = &self.host;
        let build = if *has_assertions { "a dev build" } else { "a release build" };
        let mut line = format!("stator {}, {build}, {cores} cores ({processor})", self.version);
        for (name, value) in &self.settings {
            let is_something = match value {
                Value::Null | Value::Bool(false) => false,
                Value::Array(several) => !several.is_empty(),
                _ => true,
            };
            if is_something {
                line.push_str(&format!(", {name} {value}"));
            }
        }
        line
    }
}

impl Measured {
    /// Whether any operation succeeded.
    pub(super) fn is_any_done(&self) -> bool {
        self.operations > 0
    }

    fn rows(&self) -> impl Iterator<Item = [String; 9]> {
        let row = |(kind, latency): (&Kind, &Latency)| {
            let quantile = |quantile| ms(latency.quantile_us(quantile) as f64);
            [
                self.workload.clone(),
                kind.name().to_owned(),
                latency.count().to_string(),
                format!("{:.0}", latency.count() as f64 / self.seconds),
                ms(latency.mean_us()),
                quantile(0.5),
                quantile(0.99),
                quantile(0.999),
                ms(latency.max_us() as f64),
            ]
        };
        self.latency.iter().map(row)
    }

    /// The table of its seconds.
    fn by_second(&self) -> String {
        let header = ["workload", "second", "count", "failed", "p50 ms", "p99", "max"];
        let row = |row: &timeline::Row| {
            [
                self.workload.clone(),
                row.second.to_string(),
                row.operations.to_string(),
                row.failed.to_string(),
                ms(row.p50_us as f64),
                ms(row.p99_us as f64),
                ms(row.max_us as f64),
            ]
        };
        output::table(header, self.by_second.iter().map(row).collect())
    }

    /// What does not fit into a row, a line each.
    fn remarks(&self) -> Vec<String> {
        let name = &self.workload;
        let mut total = format!("{name}: {:.0} operations per second", self.per_second);
        if let Some(micros) = self.server_us {
            total.push_str(&format!(", {micros:.0} µs of server processor time each"));
        }
        let mut remarks = vec![total];
        if self.never_begun > 0 {
            let count = self.never_begun;
            remarks.push(format!("{name}: {count} operations were due and never begun: too slow"));
        }
        for (reason, count) in &self.errors {
            remarks.push(format!("{name}: {count} requests failed: {reason}"));
        }
        let Siblings { reads, most, writes, absent } = self.siblings;
        if reads + writes > 0 {
            remarks.push(format!(
                "{name}: {reads} reads met siblings, up to {most}; {writes} writes left some"
            ));
        }
        if absent > 0 {
            remarks.push(format!("{name}: {absent} reads found nothing"));
        }
        remarks
    }
}

/// Microseconds as milliseconds, to about three digits.
pub(super) fn ms(micros: f64) -> String {
    let digits = if micros < 10_000.0 { 2 } else { 1 };
    format!("{:.digits$}", micros / 1_000.0)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    /// A document of one workload, all of whose 100 reads took `ms`.
    pub(in crate::cli::bench) fn document(workload: &str, ms: u64) -> Document {
        let mut latency = Latency::new();
        (0..100).for_each(|_| latency.record(Duration::from_millis(ms)));
        let measured = Measured {
            workload: workload.to_owned(),
            seconds: 2.0,
            operations: 100,
            per_second: 50.0,
            latency: [(Kind::Read, latency)].into(),
            errors: [("QUORUM_NOT_REACHED".to_owned(), 3)].into(),
            siblings: Siblings { reads: 1, most: 2, ..Siblings::default() },
            never_begun: 0,
            by_second: Vec::new(),
            server_us: Some(ms as f64 * 10.0),
            client_us: None,
        };
        Document {
            version: "0".to_owned(),
            at: output::utc(0),
            host: Host::here(),
            settings: [("keys".to_owned(), Value::from(ms))].into_iter().collect(),
            results: vec![measured],
        }
    }

    #[test]
    fn a_document_reads_back_what_was_written() {
        let document = document("c", 7);
        let text = serde_json::to_string(&document).expect("serialises");
        assert_eq!(serde_json::from_str::<Document>(&text).expect("reads"), document);
        let value: Value = serde_json::from_str(&text).expect("reads");
        let read = &value["results"][0]["latency"]["read"];
        assert_eq!((&read["count"], &read["p999_us"]), (&Value::from(100), &Value::from(7_003)));
    }

    #[test]
    fn people_are_told_what_failed() {
        let remarks = document("c", 7).results[0].remarks();
        assert_eq!(remarks[0], "c: 50 operations per second, 70 µs of server processor time each");
        assert_eq!(remarks[1], "c: 3 requests failed: QUORUM_NOT_REACHED");
        assert_eq!(remarks[2], "c: 1 reads met siblings, up to 2; 0 writes left some");
        assert!(document("c", 7).circumstances().ends_with(", keys 7"));
        assert_eq!([ms(123.0), ms(12_345.0)], ["0.12", "12.3"]);
    }
}
