//! Shows values, and how two of them differ, to people: JSON and text by lines, the rest as hex.

use stator_core::divergence::DivergentVersion;

use super::counterexample::{Shown, Side};
use super::form;

/// Characters that a value may have to stand on one line.
const LINE_CHARS: usize = 88;
/// Lines of a diff; more is no longer read.
const LINES_MAX: usize = 200;
/// Lines that stay before and behind what differs.
const CONTEXT: usize = 3;
/// Lines of one value.
const VALUE_LINES_MAX: usize = 24;
/// Characters of a line, and how many of its end are among them.
const CHARS_MAX: usize = 200;
const END_CHARS: usize = 60;
const HEX_PER_LINE: usize = 16;

/// A version on one line if it is short, else on several, indented by `indent`; `with_time` even if
/// that is 0.
pub(super) fn version(version: &DivergentVersion, indent: usize, with_time: bool) -> String {
    let mut text = match &version.value {
        Some(value) => payload(value, indent),
        None => "(deleted)".to_owned(),
    };
    if version.schema != 0 {
        text.push_str(&format!("  schema {}", version.schema));
    }
    if with_time || version.written_at_ms != 0 {
        text.push_str(&format!("  written at {} ms", version.written_at_ms));
    }
    text
}

/// A result, likewise.
pub(super) fn shown(shown: &Shown, indent: usize) -> String {
    match shown {
        Shown::Value(value) => payload(value, indent),
        other => lines(other).join(" "),
    }
}

/// The diff of two sides.
pub(super) fn sides(left: &Side, right: &Side) -> String {
    let repeated = if left.term == right.term { [" (once)", " (again)"] } else { ["", ""] };
    let mut text =
        format!("  --- {}{}\n  +++ {}{}\n", left.term, repeated[0], right.term, repeated[1]);
    let (mut l, mut r) = (lines(&left.result), lines(&right.result));
    if l == r {
        // Only laid out the same; the bytes differ.
        (l, r) = (raw_lines(&left.result), raw_lines(&right.result));
    }
    if l == r {
        (l, r) = (hex_lines(&left.result), hex_lines(&right.result));
    }
    let diff = around_changes(line_diff(&l, &r));
    for line in diff.iter().take(LINES_MAX) {
        text.push_str(&format!("  {}\n", short(line)));
    }
    if diff.len() > LINES_MAX {
        text.push_str(&format!("  … and {} more lines\n", diff.len() - LINES_MAX));
    }
    text
}

fn payload(value: &[u8], indent: usize) -> String {
    let one_line = match form::text(value) {
        Some(text) if serde_json::from_str::<serde_json::Value>(text).is_ok() => {
            visible(&if text.contains('\n') { compact(text) } else { text.to_owned() })
        }
        Some(text) => format!("{text:?}"),
        None => format!("hex {}", hex::encode(value)),
    };
    if one_line.chars().count() <= LINE_CHARS {
        return one_line;
    }
    let all = payload_lines(value);
    let mut lines: Vec<_> = all.iter().take(VALUE_LINES_MAX).map(|line| short(line)).collect();
    if all.len() > VALUE_LINES_MAX {
        let more = all.len() - VALUE_LINES_MAX;
        lines.push(format!("… and {more} more lines, {} bytes in all", value.len()));
    }
    lines.join(&format!("\n{:indent$}", ""))
}

/// A line of which the middle is left out if it is long.
fn short(line: &str) -> String {
    let count = line.chars().count();
    if count <= CHARS_MAX {
        return line.to_owned();
    }
    let start: String = line.chars().take(CHARS_MAX - END_CHARS).collect();
    let end: String = line.chars().skip(count - END_CHARS).collect();
    format!("{start}…({} more)…{end}", count - CHARS_MAX)
}

fn compact(json: &str) -> String {
    serde_json::from_str::<serde_json::Value>(json).map_or_else(|_| json.into(), |v| v.to_string())
}

fn lines(shown: &Shown) -> Vec<String> {
    match shown {
        Shown::Value(value) => payload_lines(value),
        Shown::Delete => vec!["(deleted)".to_owned()],
        Shown::KeepSiblings => vec!["(siblings kept)".to_owned()],
        Shown::Failure(why) => vec![format!("(no answer: {why})")],
    }
}

fn payload_lines(value: &[u8]) -> Vec<String> {
    let Some(text) = form::text(value) else {
        return hex_of(value);
    };
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(text)
        && (json.is_object() || json.is_array())
        && let Ok(pretty) = serde_json::to_string_pretty(&json)
    {
        return pretty.lines().map(visible).collect();
    }
    text.lines().map(visible).collect()
}

/// The text as it is, with characters that cannot be seen escaped.
fn raw_lines(shown: &Shown) -> Vec<String> {
    match shown {
        Shown::Value(value) => match form::text(value) {
            Some(text) => text.split_inclusive('\n').map(visible).collect(),
            None => hex_of(value),
        },
        other => lines(other),
    }
}

fn visible(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for character in line.chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else if !character.is_ascii() {
            // Accents that stand alone and spaces that are not the usual one.
            text.extend(character.escape_debug());
        } else {
            text.push(character);
        }
    }
    text
}

fn hex_lines(shown: &Shown) -> Vec<String> {
    match shown {
        Shown::Value(value) => hex_of(value),
        other => lines(other),
    }
}

fn hex_of(value: &[u8]) -> Vec<String> {
    let line = |(n, bytes): (usize, &[u8])| {
        let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:06x}  {}", n * HEX_PER_LINE, hex.join(" "))
    };
    value.chunks(HEX_PER_LINE).enumerate().map(line).collect()
}

/// Long stretches in which both sides are alike become one line.
fn around_changes(diff: Vec<String>) -> Vec<String> {
    if diff.len() <= VALUE_LINES_MAX {
        return diff;
    }
    let is_change = |line: &String| !line.starts_with("  ");
    let near = |n: usize| {
        let end = (n + CONTEXT + 1).min(diff.len());
        diff[n.saturating_sub(CONTEXT)..end].iter().any(is_change)
    };
    let (mut shown, mut alike) = (Vec::new(), 0);
    for n in 0..=diff.len() {
        let is_shown = n == diff.len() || near(n);
        if is_shown && alike > 0 {
            shown.push(format!("  … {alike} lines alike"));
        }
        alike = if is_shown { 0 } else { alike + 1 };
        shown.extend(diff.get(n).filter(|_| is_shown).cloned());
    }
    shown
}

/// Lines with ` `, `-` or `+` in front: the longest common subsequence stays.
fn line_diff(left: &[String], right: &[String]) -> Vec<String> {
    // Above this the table of the algorithm is too large, and nobody reads the result.
    if left.len().saturating_mul(right.len()) > 4_000_000 {
        let removed = left.iter().map(|line| format!("- {line}"));
        return removed.chain(right.iter().map(|line| format!("+ {line}"))).collect();
    }
    let width = right.len() + 1;
    let mut common = vec![0u32; (left.len() + 1) * width];
    for l in (0..left.len()).rev() {
        for r in (0..right.len()).rev() {
            common[l * width + r] = if left[l] == right[r] {
                common[(l + 1) * width + r + 1] + 1
            } else {
                common[(l + 1) * width + r].max(common[l * width + r + 1])
            };
        }
    }
    let (mut l, mut r, mut diff) = (0, 0, Vec::new());
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() && left[l] == right[r] {
            diff.push(format!("  {}", left[l]));
            (l, r) = (l + 1, r + 1);
        } else if r == right.len()
            || l < left.len() && common[(l + 1) * width + r] >= common[l * width + r + 1]
        {
            diff.push(format!("- {}", left[l]));
            l += 1;
        } else {
            diff.push(format!("+ {}", right[r]));
            r += 1;
        }
    }
    diff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(term: &str, value: &'static [u8]) -> Side {
        Side { term: term.to_owned(), result: Shown::Value(value.into()) }
    }

    #[test]
    fn json_differs_by_lines() {
        let (left, right) = (side("x", br#"{"a":1,"b":[2]}"#), side("y", br#"{"a":1,"b":[3]}"#));
        let expected = [
            "  --- x",
            "  +++ y",
            "    {",
            "      \"a\": 1,",
            "      \"b\": [",
            "  -     2",
            "  +     3",
            "      ]",
            "    }",
        ];
        assert_eq!(sides(&left, &right).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn of_large_values_the_start_and_what_differs_is_shown() {
        let lines: Vec<String> = (0..300).map(|n| format!("{n}\n")).collect();
        let (all, odd) = (lines.concat(), lines.concat().replace("150\n", ""));
        let [left, right] = [all, odd].map(|text| Side {
            term: "x".to_owned(),
            result: Shown::Value(text.into_bytes().into()),
        });
        let text = sides(&left, &right);
        assert!(text.contains("… 147 lines alike") && text.contains("  - 150\n"), "{text}");
        assert!(text.lines().count() < 12, "{text}");
        let Shown::Value(value) = &left.result else { panic!() };
        let text = payload(value, 4);
        assert!(text.ends_with("    … and 276 more lines, 1090 bytes in all"), "{text}");
        let long = payload("x".repeat(9_000).as_bytes(), 0);
        assert!(long.contains("…(8800 more)…") && long.chars().count() < 220, "{long}");
    }

    #[test]
    fn encodings_of_the_same_json_are_told_apart() {
        let text = sides(&side("x", b"{\"a\":1}"), &side("y", b"{ \"a\": 1 }"));
        assert!(text.contains("- {\"a\":1}") && text.contains("+ { \"a\": 1 }"), "{text}");
        let text = sides(&side("x", b"{\"a\":1}"), &side("y", b"{\"a\":1}\n"));
        assert!(text.contains("+ {\"a\":1}\\n"), "{text}");
    }

    #[test]
    fn letters_that_look_the_same_are_told_apart() {
        let text = sides(&side("x", "é".as_bytes()), &side("y", "e\u{301}".as_bytes()));
        assert!(text.contains("- é\n") && text.contains("+ e\\u{301}\n"), "{text}");
        assert_eq!(payload("[\"größe\u{a0}\"]".as_bytes(), 0), r#"["größe\u{a0}"]"#);
    }

    #[test]
    fn bytes_are_shown_as_hex() {
        let text = sides(&side("x", &[0xff, 1]), &side("y", &[0xff, 2]));
        assert!(text.contains("- 000000  ff 01") && text.contains("+ 000000  ff 02"), "{text}");
    }
}
