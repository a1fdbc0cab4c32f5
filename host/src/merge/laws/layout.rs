//! The same value in another layout, as another client's library would write it: JSON with other
//! white space, order of names and escapes; text with other line ends and another order of lines.

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::cases::{below, shuffle};
use super::form;

/// Beyond this depth JSON is left as it is.
const DEPTH_MAX: usize = 32;

/// `value` in another layout; `None` if it is no text, or there is none.
pub(super) fn another(value: &Bytes, rng: &mut ChaCha8Rng) -> Option<Bytes> {
    let text = form::text(value)?;
    let other = match serde_json::from_str::<Value>(text) {
        Ok(json @ (Value::Object(_) | Value::Array(_))) => json_layout(&json, rng)?,
        // A number or a word may be no JSON at all.
        _ => text_layout(text, rng),
    };
    (other != text).then(|| other.into())
}

fn text_layout(text: &str, rng: &mut ChaCha8Rng) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let end = if text.ends_with('\n') { "\n" } else { "" };
    match below(rng, 8) {
        0 | 1 => {
            shuffle(rng, &mut lines);
            lines.join("\n") + end
        }
        2 => {
            lines.reverse();
            lines.join("\n") + end
        }
        3 => {
            let n = below(rng, lines.len());
            lines.extend(lines.get(n).copied());
            lines.join("\n") + end
        }
        4 => lines.join("\r\n") + if end.is_empty() { "" } else { "\r\n" },
        5 => lines.join("\n") + if end.is_empty() { "\n" } else { "" },
        6 => lines.join("\n\n") + end,
        _ => lines.join(" \n") + " " + end,
    }
}

/// How JSON is laid out.
struct Style<'a> {
    rng: &'a mut ChaCha8Rng,
    reorders: bool,
    spaces: bool,
    lines: bool,
    escapes: bool,
}

fn json_layout(json: &Value, rng: &mut ChaCha8Rng) -> Option<String> {
    let of = below(rng, 16);
    let mut style = Style {
        reorders: of & 1 == 0,
        spaces: of & 2 == 0,
        lines: of & 12 == 0,
        escapes: of & 12 == 4,
        rng,
    };
    let mut text = String::new();
    style.write(json, 0, &mut text)?;
    if style.lines {
        text.push('\n');
    }
    Some(text)
}

impl Style<'_> {
    fn write(&mut self, json: &Value, depth: usize, text: &mut String) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match json {
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                if self.reorders {
                    shuffle(self.rng, &mut fields);
                }
                text.push('{');
                for (n, (name, field)) in fields.into_iter().enumerate() {
                    self.separate(n, depth, text);
                    self.string(name, text);
                    text.push_str(if self.spaces { " : " } else { ":" });
                    self.write(field, depth + 1, text)?;
                }
                self.end('}', depth, text);
            }
            Value::Array(items) => {
                text.push('[');
                for (n, item) in items.iter().enumerate() {
                    self.separate(n, depth, text);
                    self.write(item, depth + 1, text)?;
                }
                self.end(']', depth, text);
            }
            Value::String(string) => self.string(string, text),
            scalar => text.push_str(&scalar.to_string()),
        }
        Some(())
    }

    fn separate(&mut self, n: usize, depth: usize, text: &mut String) {
        if n > 0 {
            text.push(',');
        }
        if self.lines {
            text.push('\n');
            text.push_str(&"  ".repeat(depth + 1));
        } else if self.spaces && n > 0 {
            text.push(' ');
        }
    }

    fn end(&mut self, bracket: char, depth: usize, text: &mut String) {
        if self.lines {
            text.push('\n');
            text.push_str(&"  ".repeat(depth));
        }
        text.push(bracket);
    }

    fn string(&mut self, string: &str, text: &mut String) {
        if !self.escapes {
            text.push_str(&Value::from(string).to_string());
            return;
        }
        text.push('"');
        for unit in string.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii_digit() => text.push(byte.into()),
                _ => text.push_str(&format!("\\u{unit:04x}")),
            }
        }
        text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn json_stays_the_same_json() {
        let json = r#"{"a":[1,2.5,{"b":null}],"größe \"\n":"x"}"#;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let parsed: Value = serde_json::from_str(json).expect("JSON");
        let mut layouts = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let Some(other) = another(&Bytes::from(json), &mut rng) else { continue };
            let text = String::from_utf8(other.to_vec()).expect("UTF-8");
            assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), parsed, "{text}");
            layouts.insert(text);
        }
        assert!(layouts.len() > 6, "{layouts:?}");
    }

    #[test]
    fn lines_come_in_another_order_or_with_other_ends() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let all: std::collections::BTreeSet<_> =
            (0..100).filter_map(|_| another(&Bytes::from("a\nb\n"), &mut rng)).collect();
        for layout in ["b\na\n", "a\r\nb\r\n", "a\nb", "a\n\nb\n"] {
            assert!(all.contains(layout.as_bytes()), "{layout:?} is not among {all:?}");
        }
        assert_eq!(another(&Bytes::from_static(&[0xff]), &mut rng), None);
    }
}
