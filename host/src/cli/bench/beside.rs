//! Benches of several stores in one table (`bench compare --rows`): a row for each, by workload, with
//! its own figures, and rate and processor time also as ratios to the first row of the workload.
//!
//! Files of one name are rounds of the same: the row is the one with the median rate, and *spread*
//! says how far the slowest and the fastest were from it, which is what the machine does by itself.
//! Latencies are of the workload's first kind of operation, its only one in `c` and `load`.

use super::latency::Latency;
use super::report::{Document, Measured, ms};
use crate::cli::failure::Failure;
use crate::cli::output;

const HEADER: [&str; 12] = [
    "workload",
    "",
    "per second",
    "ratio",
    "spread",
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

fn rows(names: &[String], documents: &[Document]) -> Vec<[String; 12]> {
    let named = names.iter().zip(documents);
    let all = named.flat_map(|(name, one)| one.results.iter().map(move |result| (name, result)));
    let all: Vec<(&String, &Measured)> = all.collect();
    let mut rows = Vec::new();
    for workload in distinct(all.iter().map(|(_, result)| result.workload.as_str())) {
        let mut first = None;
        for store in distinct(names.iter().map(String::as_str)) {
            let same = all.iter().filter(|(name, one)| *name == store && one.workload == workload);
            let mut rounds: Vec<&Measured> = same.map(|(_, result)| *result).collect();
            rounds.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
            if let Some(median) = rounds.get(rounds.len() / 2).copied() {
                rows.push(row(store, &rounds, median, first.get_or_insert(median)));
            }
        }
    }
    rows
}

fn distinct<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    all.for_each(|one| {
        if !seen.contains(&one) {
            seen.push(one)
        }
    });
    seen
}

/// The row of a store with its `rounds`, slowest first.
fn row(store: &str, rounds: &[&Measured], median: &Measured, first: &Measured) -> [String; 12] {
    let latency = median.latency.values().next();
    let time = |of: fn(&Latency) -> f64| latency.map_or_else(String::new, |one| ms(of(one)));
    let ratio = |own: Option<f64>, first: Option<f64>| {
        let first = first.filter(|first| *first > 0.0);
        own.zip(first).map_or_else(String::new, |(own, first)| format!("{:.2}×", own / first))
    };
    let whole = |micros: Option<f64>| micros.map_or_else(String::new, |one| format!("{one:.0}"));
    let spread = match rounds {
        [slowest, .., fastest] if median.per_second > 0.0 => {
            let of = |one: &Measured| one.per_second / median.per_second;
            format!("{:.2}–{:.2}", of(slowest), of(fastest))
        }
        _ => String::new(),
    };
    let errors = rounds.iter().flat_map(|one| one.errors.values());
    [
        median.workload.clone(),
        store.to_owned(),
        format!("{:.0}", median.per_second),
        ratio(Some(median.per_second), Some(first.per_second)),
        spread,
        time(Latency::mean_us),
        time(|one| one.quantile_us(0.5) as f64),
        time(|one| one.quantile_us(0.99) as f64),
        whole(median.server_us),
        ratio(median.server_us, first.server_us),
        whole(median.client_us),
        errors.sum::<u64>().to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::document;
    use super::*;

    fn joined(names: &[&str], documents: &[Document]) -> Vec<String> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        rows(&names, documents).iter().map(|row| row.join(" ")).collect()
    }

    #[test]
    fn a_workload_is_compared_with_whoever_has_it_first() {
        let documents = [document("c", 10), document("a", 20), document("c", 5)];
        let rows = joined(&["one", "two", "three"], &documents);
        assert_eq!(rows[1], "c three 50 1.00×  5.00 5.00 5.00 50 0.50×  3");
        assert!(rows[2].starts_with("a two 50 1.00×"), "{}", rows[2]);
    }

    #[test]
    fn rounds_of_one_name_are_a_row_of_the_median() {
        let round = |per_second: f64| {
            let mut document = document("c", 10);
            document.results[0].per_second = per_second;
            document
        };
        let documents = [round(300.0), round(50.0), round(100.0), round(200.0)];
        let rows = joined(&["one", "two", "one", "one"], &documents);
        assert!(rows[0].starts_with("c one 200 1.00× 0.50–1.50 "), "{}", rows[0]);
        assert!(rows[1].starts_with("c two 50 0.25×  "), "{}", rows[1]);
        assert!(rows[0].ends_with(" 9"), "the errors of all rounds: {}", rows[0]);
    }
}
