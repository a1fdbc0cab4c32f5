//! `stator bench compare`: what several benches found, as ratios to the first.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::report::{Document, Measured, ms};
use super::{beside, svg};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};

/// The largest document that is read: far beyond what a bench writes.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

const EXAMPLES: &str = "\
Examples:
  stator bench compare before.json after.json
  stator bench compare sled.json fjall.json memory.json --svg engines.svg
  stator bench compare --rows round-1/*.json round-2/*.json round-3/*.json

The files are what `stator bench --output json` printed. The first one's figures are printed as they
are, those of the others as ratios to them.";

/// Compare what several benches found
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Compare {
    /// Results as JSON, two or more
    #[arg(value_name = "FILE", num_args = 2..=128, required = true)]
    files: Vec<PathBuf>,
    /// Print a row for each file name with its own figures, and ratios beside the main ones; of
    /// several files of one name, in different folders, the one with the median rate
    #[arg(long)]
    rows: bool,
    /// Draw the latencies into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// One figure of all documents; none where one lacks it.
#[derive(Debug)]
struct Row {
    workload: String,
    figure: String,
    values: Vec<Option<f64>>,
    /// How the first one is printed.
    print: fn(f64) -> String,
}

impl Compare {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let documents: Vec<Document> =
            self.files.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
        let names: Vec<String> = self.files.iter().map(|file| name(file)).collect();
        if let Some(path) = &self.svg {
            let named = documents.iter().zip(&names);
            let lines: Vec<_> = named.flat_map(|(one, name)| one.lines(Some(name))).collect();
            svg::write(path, &lines)?;
        }
        if self.rows && output == Output::Table {
            return beside::print(&names, &documents);
        }
        let rows = rows(&documents);
        if output == Output::Json {
            let rows: Vec<_> = rows.iter().map(Row::json).collect();
            return output::json(&json!({ "files": names, "rows": rows }));
        }
        let mut header = vec!["workload".to_owned(), String::new()];
        header.extend(names.iter().cloned());
        output::line(output::columns(header, rows.iter().map(Row::cells).collect()))?;
        different_settings(&documents).iter().try_for_each(output::line)
    }
}

fn name(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(file: &Path) -> Result<Document, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::usage(format!("{}: {why}", file.display()));
    let bytes = std::fs::metadata(file).map_err(|error| wrong(&error))?.len();
    if bytes > DOCUMENT_BYTES_MAX {
        return Err(wrong(&format!("{bytes} bytes are more than a bench writes")));
    }
    let text = std::fs::read(file).map_err(|error| wrong(&error))?;
    serde_json::from_slice(&text)
        .map_err(|error| wrong(&format!("not what `stator bench --output json` prints: {error}")))
}

/// A figure of one workload.
type Figure = Box<dyn Fn(&Measured) -> Option<f64>>;

/// All figures of the workloads of the first document.
fn rows(documents: &[Document]) -> Vec<Row> {
    let mut rows = Vec::new();
    let first = documents.first().map_or(&[][..], |document| &document.results);
    for result in first {
        let mut add = |figure: String, print: fn(f64) -> String, of: Figure| {
            let value = |document: &Document| {
                let same = |other: &&Measured| other.workload == result.workload;
                of(document.results.iter().find(same)?)
            };
            let (workload, values) =
                (result.workload.clone(), documents.iter().map(value).collect());
            rows.push(Row { workload, figure, values, print });
        };
        let whole = |value: f64| format!("{value:.0}");
        add("per second".to_owned(), whole, Box::new(|one| Some(one.per_second)));
        add("server µs".to_owned(), whole, Box::new(|one| one.server_us));
        add(
            "errors".to_owned(),
            whole,
            Box::new(|one| Some(one.errors.values().sum::<u64>() as f64)),
        );
        for kind in result.latency.keys().copied() {
            let mean: Figure = Box::new(move |one| Some(one.latency.get(&kind)?.mean_us()));
            add(format!("{} mean ms", kind.name()), ms, mean);
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
                let of: Figure =
                    Box::new(move |one| Some(one.latency.get(&kind)?.quantile_us(quantile) as f64));
                add(format!("{} {name} ms", kind.name()), ms, of);
            }
        }
    }
    // What none has says nothing.
    rows.retain(|row| row.values.iter().any(Option::is_some));
    rows
}

impl Row {
    /// Each value in terms of the first; none for the first itself.
    fn ratios(&self) -> Vec<Option<f64>> {
        let first = self.values.first().copied().flatten().filter(|value| *value != 0.0);
        let ratio = |value: &Option<f64>| Some((*value)? / first?);
        self.values.iter().skip(1).map(ratio).collect()
    }

    fn cells(&self) -> Vec<String> {
        let first = self.values.first().copied().flatten();
        let mut cells = vec![self.workload.clone(), self.figure.clone()];
        cells.push(first.map_or_else(String::new, self.print));
        for (ratio, value) in self.ratios().iter().zip(self.values.iter().skip(1)) {
            cells.push(match (ratio, value) {
                (Some(ratio), _) if *ratio < 0.1 => format!("{ratio:.3}×"),
                (Some(ratio), _) => format!("{ratio:.2}×"),
                // Nothing is a multiple of zero.
                (None, Some(value)) => (self.print)(*value),
                (None, None) => String::new(),
            });
        }
        cells
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "workload": self.workload,
            "figure": self.figure,
            "values": self.values,
            "ratios": self.ratios(),
        })
    }
}

/// Settings in which the documents differ, a line each.
fn different_settings(documents: &[Document]) -> Vec<String> {
    let Some((first, others)) = documents.split_first() else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (name, value) in &first.settings {
        if others.iter().any(|other| other.settings.get(name) != Some(value)) {
            let of =
                |one: &Document| one.settings.get(name).map_or("-".to_owned(), ToString::to_string);
            let values: Vec<_> = documents.iter().map(of).collect();
            lines.push(format!("{name}: {}", values.join(", ")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::document;
    use super::*;

    #[test]
    fn figures_are_ratios_to_the_first() {
        let documents = [document("c", 10), document("c", 5), document("a", 5)];
        let rows = rows(&documents);
        let cells = |figure: &str| {
            let row = rows.iter().find(|row| row.figure == figure).expect("the figure");
            row.cells()
        };
        assert_eq!(cells("per second"), ["c", "per second", "50", "1.00×", ""]);
        assert_eq!(cells("read p99.9 ms"), ["c", "read p99.9 ms", "10.0", "0.50×", ""]);
        assert_eq!(cells("server µs"), ["c", "server µs", "100", "0.50×", ""]);
        assert_eq!(rows.len(), 3 + 5);
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let row = Row {
            workload: "c".to_owned(),
            figure: "errors".to_owned(),
            values: vec![Some(0.0), Some(3.0)],
            print: |value| format!("{value:.0}"),
        };
        assert_eq!(row.cells(), ["c", "errors", "0", "3"]);
        assert_eq!(row.ratios(), [None]);
    }

    #[test]
    fn settings_that_differ_are_named() {
        let documents = [document("c", 10), document("c", 10)];
        assert!(different_settings(&documents).is_empty());
        let documents = [document("c", 10), document("c", 5)];
        assert_eq!(different_settings(&documents), ["keys: 10, 5"]);
    }

    #[test]
    fn what_is_no_result_is_a_wrong_use() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "{}").expect("written");
        let failure = read(file.path()).expect_err("no result");
        assert_eq!(failure.kind, crate::cli::failure::Kind::Usage);
        assert!(read(Path::new("/nonexistent")).is_err());
    }
}
