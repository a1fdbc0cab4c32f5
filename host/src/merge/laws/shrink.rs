//! Smaller values: JSON by its structure, all else by bytes, text at the borders of characters.

use bytes::Bytes;
use serde_json::{Number, Value};

/// Candidates for one value; more of them cost merges and help little.
const CANDIDATES_MAX: usize = 256;
/// Beyond this depth JSON is left as it is.
const DEPTH_MAX: usize = 16;

/// Values that are smaller than `value`, the smallest first, a bounded number. Following any of
/// them again and again comes to an end.
pub(super) fn candidates(value: &Bytes) -> Vec<Bytes> {
    let mut found: Vec<Bytes> = match serde_json::from_slice::<Value>(value) {
        Ok(json) => {
            let mut smaller = Vec::new();
            shrink_json(&json, 0, &mut |candidate| smaller.push(candidate));
            smaller.iter().map(|json| json.to_string().into()).collect()
        }
        Err(_) => shrink_bytes(value).into_iter().map(Bytes::from).collect(),
    };
    found.retain(|candidate| candidate != value && !candidate.is_empty());
    found.truncate(CANDIDATES_MAX);
    found
}

/// What can be taken out of every value of a history alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// A field of JSON: a path through objects.
    Field(Vec<String>),
    /// An element of the JSON arrays at a path.
    Element(Vec<String>, Value),
    /// A line of a text.
    Line(String),
}

/// The parts of these values.
pub(super) fn parts(values: &[&Bytes]) -> Vec<Part> {
    let mut found = Vec::new();
    for value in values {
        match serde_json::from_slice::<Value>(value) {
            Ok(json @ (Value::Object(_) | Value::Array(_))) => {
                collect_parts(&json, &mut Vec::new(), &mut found);
            }
            _ => {
                let lines = std::str::from_utf8(value).unwrap_or_default().lines();
                found.extend(lines.take(CANDIDATES_MAX).map(|line| Part::Line(line.to_owned())));
            }
        }
    }
    // Short paths first: they take most away.
    found.sort_by_key(|part| match part {
        Part::Field(path) => path.len(),
        Part::Element(path, _) => path.len() + 1,
        Part::Line(_) => 0,
    });
    let mut distinct: Vec<Part> = Vec::new();
    for part in found.into_iter().take(8 * CANDIDATES_MAX) {
        if distinct.len() < CANDIDATES_MAX && !distinct.contains(&part) {
            distinct.push(part);
        }
    }
    distinct
}

/// `value` without a part; `None` if it is not in there.
pub(super) fn without(value: &Bytes, part: &Part) -> Option<Bytes> {
    let (Part::Field(path) | Part::Element(path, _)) = part else {
        return without_line(value, part);
    };
    let mut json: Value = serde_json::from_slice(value).ok()?;
    if let Part::Element(path, element) = part {
        let items = at(&mut json, path)?.as_array_mut()?;
        let before = items.len();
        items.retain(|item| item != element);
        return (items.len() < before).then(|| json.to_string().into());
    }
    let (last, parents) = path.split_last()?;
    at(&mut json, parents)?.as_object_mut()?.remove(last)?;
    Some(json.to_string().into())
}

fn at<'a>(json: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(json, |at, name| at.get_mut(name))
}

fn without_line(value: &Bytes, part: &Part) -> Option<Bytes> {
    let Part::Line(line) = part else { return None };
    let text = std::str::from_utf8(value).ok()?;
    let lines: Vec<_> = text.lines().collect();
    let kept: Vec<_> = lines.iter().copied().filter(|known| known != line).collect();
    let end = if text.ends_with('\n') && !kept.is_empty() { "\n" } else { "" };
    (kept.len() < lines.len()).then(|| (kept.join("\n") + end).into())
}

fn collect_parts(json: &Value, path: &mut Vec<String>, found: &mut Vec<Part>) {
    if path.len() == DEPTH_MAX || found.len() >= 8 * CANDIDATES_MAX {
        return;
    }
    match json {
        Value::Object(fields) => {
            for (name, field) in fields {
                path.push(name.clone());
                found.push(Part::Field(path.clone()));
                collect_parts(field, path, found);
                path.pop();
            }
        }
        Value::Array(items) => {
            found.extend(items.iter().map(|item| Part::Element(path.clone(), item.clone())));
        }
        _ => {}
    }
}

/// Hands every smaller form of `json` to `found`, what drops most first.
fn shrink_json(json: &Value, depth: usize, found: &mut dyn FnMut(Value)) {
    match json {
        Value::Null => {}
        Value::Bool(true) => found(Value::Bool(false)),
        Value::Bool(false) => {}
        Value::Number(number) => shrink_number(number).into_iter().for_each(|n| found(n.into())),
        Value::String(text) => {
            for smaller in shrink_text(text) {
                found(Value::String(smaller));
            }
        }
        Value::Array(items) => {
            for rest in without_chunks(items) {
                found(Value::Array(rest));
            }
            if depth < DEPTH_MAX {
                for (n, item) in items.iter().enumerate() {
                    shrink_json(item, depth + 1, &mut |smaller| {
                        let mut changed = items.clone();
                        changed[n] = smaller;
                        found(Value::Array(changed));
                    });
                }
            }
        }
        Value::Object(fields) => {
            let entries: Vec<_> = fields.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            for rest in without_chunks(&entries) {
                found(Value::Object(rest.into_iter().collect()));
            }
            if depth < DEPTH_MAX {
                for (name, field) in fields {
                    shrink_json(field, depth + 1, &mut |smaller| {
                        let mut changed = fields.clone();
                        changed.insert(name.clone(), smaller);
                        found(Value::Object(changed));
                    });
                }
            }
        }
    }
}

fn shrink_number(number: &Number) -> Vec<Number> {
    if let Some(n) = number.as_u64() {
        let smaller = [0, 1, n / 2, n.saturating_sub(1)];
        return distinct(smaller.into_iter().filter(|s| *s < n)).map(Number::from).collect();
    }
    if let Some(n) = number.as_i64() {
        let smaller = [0, -1, n / 2, n + 1];
        return distinct(smaller.into_iter().filter(|s| *s > n)).map(Number::from).collect();
    }
    // A fraction; its whole part has an end.
    let whole = number.as_f64().map(|n| n.trunc() as i64);
    whole.into_iter().map(Number::from).collect()
}

fn distinct<T: PartialEq + Copy>(numbers: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    let mut seen: Vec<T> = Vec::new();
    for number in numbers {
        if !seen.contains(&number) {
            seen.push(number);
        }
    }
    seen.into_iter()
}

fn shrink_text(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    without_chunks(&characters).into_iter().map(|rest| rest.into_iter().collect()).collect()
}

fn shrink_bytes(value: &[u8]) -> Vec<Vec<u8>> {
    match std::str::from_utf8(value) {
        Ok(text) => shrink_text(text).into_iter().map(String::into_bytes).collect(),
        Err(_) => without_chunks(value),
    }
}

/// `items` without each of its halves, quarters and so on, down to single ones (Zeller,
/// Hildebrandt: "Simplifying and isolating failure-inducing input", 2002).
fn without_chunks<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let mut found = Vec::new();
    let mut size = items.len();
    while size > 0 && found.len() < CANDIDATES_MAX {
        for start in (0..items.len()).step_by(size) {
            let end = (start + size).min(items.len());
            found.push([&items[..start], &items[end..]].concat());
        }
        size /= 2;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows the first candidate for which `keeps` holds, to the end.
    fn shrunk(value: &str, keeps: impl Fn(&str) -> bool) -> String {
        let mut value = Bytes::copy_from_slice(value.as_bytes());
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        while let Some(next) = candidates(&value).into_iter().find(|next| keeps(&text(next))) {
            value = next;
        }
        text(&value)
    }

    #[test]
    fn json_shrinks_to_what_matters() {
        let cart = r#"{"items":{"a":{"sku":"tea","quantity":17},"b":{"sku":"jam"}},"x":[1,2,3]}"#;
        assert_eq!(shrunk(cart, |text| text.contains("sku")), r#"{"items":{"b":{"sku":""}}}"#);
        assert_eq!(shrunk(cart, |text| text.contains('2')), r#"{"x":[2]}"#);
        let quantity = |text: &str| {
            let json: Value = serde_json::from_str(text).unwrap_or_default();
            json["items"]["a"]["quantity"].as_u64().is_some_and(|n| n >= 5)
        };
        assert_eq!(shrunk(cart, quantity), r#"{"items":{"a":{"quantity":5}}}"#);
    }

    #[test]
    fn text_and_bytes_shrink_by_pieces() {
        assert_eq!(shrunk("one two, Größe three", |text| text.contains('ö')), "ö");
        let bytes = Bytes::from_static(&[0xff, 0xfe, 7, 0xfd]);
        assert!(candidates(&bytes).contains(&Bytes::from_static(&[7, 0xfd])));
    }

    #[test]
    fn nothing_is_taken_out_that_is_not_there() {
        let value = Bytes::from_static(br#"{"a":{"b":1},"c":["x","y"]}"#);
        assert_eq!(parts(&[&value, &value]).len(), 5);
        let path = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let without = |part: Part| without(&value, &part).map(|rest| rest.to_vec());
        let rest = without(Part::Field(path(&["a", "b"])));
        assert_eq!(rest.as_deref(), Some(&br#"{"a":{},"c":["x","y"]}"#[..]));
        assert_eq!(without(Part::Field(path(&["a", "z"]))), None);
        let rest = without(Part::Element(path(&["c"]), "x".into()));
        assert_eq!(rest.as_deref(), Some(&br#"{"a":{"b":1},"c":["y"]}"#[..]));
        let text = Bytes::from_static(b"one\ntwo\n");
        let line = |line: &str| super::without(&text, &Part::Line(line.to_owned()));
        assert_eq!(line("one").as_deref(), Some(&b"two\n"[..]));
        assert_eq!(line("on"), None);
    }
}
