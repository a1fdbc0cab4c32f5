//! Results on standard output: text for people or one JSON document for programs.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Row, Table, presets};
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::telemetry::lines;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Output {
    /// Text for people
    #[default]
    Table,
    /// One JSON document
    Json,
}

/// Writes `document` as one line of JSON.
pub(super) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(document)
        .map_err(|error| Failure::refused(format!("cannot write the result as JSON: {error}")))?;
    line(text)
}

/// Writes text, of which more follows.
pub(super) fn text(text: impl AsRef<str>) -> Result<(), Failure> {
    Ok(io::stdout().lock().write_all(text.as_ref().as_bytes())?)
}

/// Writes one line of text.
pub(super) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", text.as_ref())?;
    Ok(stdout.flush()?)
}

/// Writes `bytes` as they are; on a terminal a line end follows.
pub(super) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    if stdout.is_terminal() && !bytes.ends_with(b"\n") {
        stdout.write_all(b"\n")?;
    }
    Ok(stdout.flush()?)
}

/// Tells people something beside the result.
pub(super) fn say(text: impl AsRef<str>) {
    lines::tell(text.as_ref());
}

/// A time in milliseconds since 1970, for people: `2026-11-22T20:08:48.123Z`.
pub(super) fn utc(at_ms: u64) -> String {
    let seconds = (at_ms / 1_000).try_into().unwrap_or(i64::MAX);
    let nanos = (at_ms % 1_000) as i32 * 1_000_000;
    prost_types::Timestamp { seconds, nanos }.to_string()
}

/// A table with columns and no lines around them.
pub(super) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    columns(header.map(str::to_uppercase), rows)
}

/// The same with as many columns as there happen to be, and the header as it is.
pub(super) fn columns<R: Into<Row>>(header: impl Into<Row>, rows: Vec<R>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// A number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    match unit {
        "B" => format!("{count} B"),
        unit => format!("{value:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_frame() {
        let text = table(["a", "b"], vec![["long".into(), "1".into()], ["x".into(), "2".into()]]);
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines, ["A     B", "long  1", "x     2"]);
    }

    #[test]
    fn a_time_is_readable_to_the_millisecond() {
        assert_eq!(utc(1_795_378_128_123), "2026-11-22T20:08:48.123Z");
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
    }
}
