//! What the recorder has measured, for the page: series of its text, read back.
//!
//! The recorder has no other way out. It keeps quantiles, sums and counts, no buckets; of latency by
//! method, not by keyspace. Rates are differences between two answers, which the page takes.

use serde_json::{Map, Value, json};

use crate::telemetry::names::{Kind, Metric};

/// The series of the `wanted` metrics in `text`, the page of metrics: name, labels and value each.
pub(super) fn series(text: &str, wanted: &[Metric]) -> Vec<Value> {
    let found = text.lines().filter_map(|line| {
        let (name, labels, value) = parse(line)?;
        let is_wanted = wanted.iter().any(|metric| match name.strip_prefix(metric.name) {
            Some("") => true,
            Some("_sum" | "_count") => metric.kind == Kind::Summary,
            _ => false,
        });
        is_wanted.then(|| json!({ "name": name, "labels": labels, "value": value }))
    });
    found.collect()
}

/// `NAME{LABEL="VALUE",…} NUMBER`, as the format 0.0.4 has it.
fn parse(line: &str) -> Option<(&str, Map<String, Value>, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Map::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once("=\"")?;
            let (value, after) = unquoted(quoted)?;
            labels.insert(label.to_owned(), value.into());
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.trim().parse().ok()?;
    (!name.is_empty() && !name.starts_with('#')).then_some((name, labels, value))
}

/// A text up to its closing quote, and what follows that.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => text.push('\n'),
                other => text.push(other),
            },
            c => text.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::names::{MERGES, SIBLINGS};

    #[test]
    fn series_are_read_with_their_labels() {
        let text = "# TYPE stator_get_siblings summary\n\
                    stator_get_siblings{keyspace=\"a\",quantile=\"0.99\"} 2\n\
                    stator_get_siblings_count{keyspace=\"a\"} 7\n\
                    stator_get_siblings_other 1\n\
                    stator_merges_total{keyspace=\"a\\\"},b\\\\\\n\",outcome=\"value\"} 3.5\n\
                    stator_uptime_seconds 12\n\
                    stator_merges_total{keyspace=\"torn";
        let found = series(text, &[SIBLINGS, MERGES]);
        let expected = [
            json!({ "name": "stator_get_siblings", "value": 2.0,
                    "labels": { "keyspace": "a", "quantile": "0.99" } }),
            json!({ "name": "stator_get_siblings_count", "value": 7.0,
                    "labels": { "keyspace": "a" } }),
            json!({ "name": "stator_merges_total", "value": 3.5,
                    "labels": { "keyspace": "a\"},b\\\n", "outcome": "value" } }),
        ];
        assert_eq!(found, expected);
    }
}
