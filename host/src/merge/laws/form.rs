//! The form of a module's values, learned from samples: what a client may write, as far as one
//! can tell from outside.
//!
//! JSON has at each place certain types, fields that are always there, and numbers from so many on.
//! Text has lines that consist of words and signs in a certain way. A value that is made rather
//! than sampled *fits* if it has all of this; what does not fit may still merge, but nobody should
//! be shown it as if a client had written it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use stator_core::divergence::{Ancestor, Divergence};

/// Fields of an object whose values are told apart; beyond, names are data.
const FIELDS_MAX: usize = 64;
/// Kinds of lines that are told apart.
const LINES_MAX: usize = 256;
/// Beyond this depth everything fits.
const DEPTH_MAX: usize = 6;
/// Samples to learn from.
const SAMPLES_MAX: usize = 300;

/// What the values of the samples have in common.
#[derive(Debug, Default)]
pub(super) struct Form {
    json: Option<Place>,
    lines: BTreeSet<String>,
    is_text: bool,
    has_lines: bool,
    is_binary: bool,
}

impl Form {
    /// Learns from samples.
    pub(super) fn of(samples: &[Divergence]) -> Self {
        let mut form = Form::default();
        for sample in samples.iter().take(SAMPLES_MAX) {
            if let Ancestor::Known(known) = &sample.ancestor {
                form.learn(known.value.as_deref());
            }
            sample.siblings.iter().for_each(|sibling| form.learn(sibling.value.as_deref()));
        }
        form
    }

    fn learn(&mut self, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        match text(value) {
            None => self.is_binary = true,
            Some(text) => match container(text) {
                Some(json) => self.json.get_or_insert_default().learn(&json, 0),
                None => {
                    self.is_text = true;
                    self.has_lines |= text.contains('\n');
                    for line in text.lines().take(LINES_MAX) {
                        if self.lines.len() < LINES_MAX {
                            self.lines.insert(pattern(line));
                        }
                    }
                }
            },
        }
    }

    /// Whether a value has the form of those that were learned.
    pub(super) fn fits(&self, value: &[u8]) -> bool {
        let Some(text) = text(value) else { return self.is_binary };
        match (container(text), &self.json) {
            (Some(json), Some(place)) => place.fits(&json, 0),
            (None, _) if self.is_text => {
                let is_known = |line: &str| self.lines.contains(&pattern(line));
                if self.lines.iter().any(|line| line != NUMBER) {
                    // There may be no words, and white space around them.
                    return text.lines().all(|line| line.is_empty() || is_known(line));
                }
                (self.has_lines || !text.contains('\n'))
                    && !text.is_empty()
                    && text.lines().all(|line| is_plain_number(line) && is_known(line))
            }
            _ => false,
        }
    }
}

/// The value as a text, if people could read it: small numbers in bytes are UTF-8 as well.
pub(super) fn text(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    let is_of_text = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    text.chars().all(is_of_text).then_some(text)
}

/// JSON that is more than a number or a word, which may be none at all.
fn container(text: &str) -> Option<Value> {
    let json = serde_json::from_str(text).ok()?;
    matches!(json, Value::Object(_) | Value::Array(_)).then_some(json)
}

const NUMBER: &str = "9";

/// A number as programs write it.
fn is_plain_number(line: &str) -> bool {
    line.bytes().all(|byte| byte.is_ascii_digit()) && (line == "0" || !line.starts_with('0'))
}

/// A line with every word as `a` and every number as `9`.
fn pattern(line: &str) -> String {
    let mut pattern = String::new();
    for run in line.trim_end().chars() {
        let class = match run {
            c if c.is_ascii_digit() => '9',
            c if c.is_alphanumeric() || !c.is_ascii() => 'a',
            c => c,
        };
        match (pattern.chars().next_back(), class) {
            // Digits behind letters belong to the word.
            (Some('a'), 'a' | '9') | (Some('9'), '9') => {}
            _ => pattern.push(class),
        }
    }
    pattern
}

/// What stands at one place of the JSON.
#[derive(Debug, Default)]
struct Place {
    kinds: BTreeSet<u8>,
    least: Option<f64>,
    has_empty_text: bool,
    always: Option<BTreeSet<String>>,
    fields: BTreeMap<String, Place>,
    other_field: Option<Box<Place>>,
    item: Option<Box<Place>>,
}

/// The kind of a value: whole numbers are a kind of their own.
fn kind(json: &Value) -> u8 {
    match json {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(number) if number.is_f64() => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
    }
}

impl Place {
    fn learn(&mut self, json: &Value, depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        self.kinds.insert(kind(json));
        match json {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or_default();
                self.least = Some(self.least.map_or(number, |least| least.min(number)));
            }
            Value::String(text) => self.has_empty_text |= text.is_empty(),
            Value::Array(items) => {
                for item in items {
                    self.item.get_or_insert_default().learn(item, depth + 1);
                }
            }
            Value::Object(fields) => {
                let names = fields.keys().cloned();
                self.always = Some(match self.always.take() {
                    None => names.collect(),
                    Some(always) => {
                        always.into_iter().filter(|name| fields.contains_key(name)).collect()
                    }
                });
                for (name, field) in fields {
                    self.other_field.get_or_insert_default().learn(field, depth + 1);
                    if self.fields.len() < FIELDS_MAX || self.fields.contains_key(name) {
                        self.fields.entry(name.clone()).or_default().learn(field, depth + 1);
                    }
                }
            }
        }
    }

    fn fits(&self, json: &Value, depth: usize) -> bool {
        if depth > DEPTH_MAX {
            return true;
        }
        if !self.kinds.contains(&kind(json)) {
            return false;
        }
        match json {
            Value::Null | Value::Bool(_) => true,
            // Down to 1, whatever the samples have: smaller ones are what a client begins with.
            Value::Number(number) => self
                .least
                .is_some_and(|least| number.as_f64().unwrap_or_default() >= least.min(1.0)),
            Value::String(text) => self.has_empty_text || !text.is_empty(),
            Value::Array(items) => items
                .iter()
                .all(|item| self.item.as_ref().is_some_and(|place| place.fits(item, depth + 1))),
            Value::Object(fields) => {
                let always = self.always.iter().flatten();
                always.into_iter().all(|name| fields.contains_key(name))
                    && fields.iter().all(|(name, field)| {
                        let place = self.fields.get(name).or(self.other_field.as_deref());
                        place.is_some_and(|place| place.fits(field, depth + 1))
                    })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use stator_core::divergence::DivergentVersion;

    use super::*;

    fn form(values: &[&str]) -> Form {
        let version = |value: &&str| DivergentVersion {
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            schema: 0,
            written_at_ms: 0,
        };
        Form::of(&[Divergence {
            keyspace: "test".to_owned(),
            key: Bytes::new(),
            siblings: values.iter().map(version).collect(),
            ancestor: Ancestor::Unknown,
            fingerprint: [0; 32],
        }])
    }

    #[test]
    fn json_has_its_fields_types_and_least_numbers() {
        let form = form(&[
            r#"{"items":{"a:1":{"n":2}},"gone":[]}"#,
            r#"{"items":{"b:7":{"n":3}},"gone":["c"]}"#,
        ]);
        for fits in [
            r#"{"items":{},"gone":[]}"#,
            r#"{ "gone":["x","y"], "items":{"z":{"n":1}} }"#,
            r#"{"items":{"a:1":{"n":99999}},"gone":[]}"#,
        ] {
            assert!(form.fits(fits.as_bytes()), "{fits}");
        }
        for odd in [
            r#"{"items":{}}"#,
            r#"{"items":{"a:1":{}},"gone":[]}"#,
            r#"{"items":{"a:1":{"n":0}},"gone":[]}"#,
            r#"{"items":{"a:1":{"n":2.5}},"gone":[]}"#,
            r#"{"items":{},"gone":[""]}"#,
            "[]",
            "",
        ] {
            assert!(!form.fits(odd.as_bytes()), "{odd}");
        }
    }

    #[test]
    fn text_has_lines_of_words_and_signs() {
        let words = form(&["ant\n-bee\n", "cat"]);
        assert!(["", "x", "x07\n\n-yy", "größe"].iter().all(|text| words.fits(text.as_bytes())));
        assert!(["--x", "17", "x y", "{}"].iter().all(|text| !words.fits(text.as_bytes())));
        let numbers = form(&["100", "7"]);
        assert!(numbers.fits(b"3"));
        assert!(["", "x", "17\n", "17 ", "007"].iter().all(|text| !numbers.fits(text.as_bytes())));
    }
}
