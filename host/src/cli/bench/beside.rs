//! Benches of several stores in one table (`bench compare --rows`): a row for each, by workload, with
//! its own figures, and rate and processor time also as ratios to the first row of the workload.
//! Latencies are of the workload's first kind of operation, its only one in `c` and `load`.

use super::latency::Latency;
use super::report::{Document, Measured, ms};
use crate::cli::failure::Failure;
use crate::cli::output;

const HEADER: [&str; 11] = [
    "workload",
    "",
    "per second",
    "ratio",
    "mean ms",
    "p50",
    "p99",
    "server µs",
    "ratio",
    "client µs",
    "errors",
];

/// Prints the table of `documents`, which have `names`.
pub(super) fn print(names: &[String], documents: &[Document]) -> Result<(), Failure> {
    output::line(output::columns(HEADER.map(str::to_owned), rows(names, documents)))
}

fn rows(names: &[String], documents: &[Document]) -> Vec<[String; 11]> {
    let all = || {
        let named = names.iter().zip(documents);
        named.flat_map(|(name, one)| one.results.iter().map(move |result| (name, result)))
    };
    let mut rows = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for (_, first) in all() {
        if !done.contains(&first.workload.as_str()) {
            done.push(&first.workload);
            let same = all().filter(|(_, result)| result.workload == first.workload);
            rows.extend(same.map(|(name, result)| row(name, result, first)));
        }
    }
    rows
}

fn row(name: &str, result: &Measured, first: &Measured) -> [String; 11] {
    let latency = result.latency.values().next();
    let time = |of: fn(&Latency) -> f64| latency.map_or_else(String::new, |one| ms(of(one)));
    let ratio = |own: Option<f64>, first: Option<f64>| {
        let first = first.filter(|first| *first > 0.0);
        own.zip(first).map_or_else(String::new, |(own, first)| format!("{:.2}×", own / first))
    };
    let whole = |micros: Option<f64>| micros.map_or_else(String::new, |one| format!("{one:.0}"));
    [
        result.workload.clone(),
        name.to_owned(),
        format!("{:.0}", result.per_second),
        ratio(Some(result.per_second), Some(first.per_second)),
        time(Latency::mean_us),
        time(|one| one.quantile_us(0.5) as f64),
        time(|one| one.quantile_us(0.99) as f64),
        whole(result.server_us),
        ratio(result.server_us, first.server_us),
        whole(result.client_us),
        result.errors.values().sum::<u64>().to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::document;
    use super::*;

    #[test]
    fn a_workload_is_compared_with_whoever_has_it_first() {
        let documents = [document("c", 10), document("a", 20), document("c", 5)];
        let names = ["one", "two", "three"].map(str::to_owned);
        let rows: Vec<_> = rows(&names, &documents).iter().map(|row| row.join(" ")).collect();
        assert_eq!(rows[1], "c three 50 1.00× 5.00 5.00 5.00 50 0.50×  3");
        assert_eq!(rows[2][..11], *"a two 50 1.");
    }
}
