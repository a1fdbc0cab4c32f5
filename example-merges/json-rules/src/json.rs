//! JSON as a value that has one text only.
//!
//! The reader is an own one, because none of the libraries keeps a number as it was written, and a
//! merge must not lose what it does not change.

use std::collections::BTreeMap;

use crate::decimal::Decimal;

/// A JSON value. Objects have their names in order and numbers one form, so equal values are equal
/// texts. The order of values is that of their kinds, then that of the kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Json {
    /// Nothing, said.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number.
    Number(Decimal),
    /// A text.
    String(String),
    /// Values in an order.
    Array(Vec<Json>),
    /// Values by name.
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// Its members, if it is an object.
    pub fn members(&self) -> Option<&BTreeMap<String, Json>> {
        match self {
            Json::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The member of this name, if it is an object that has it.
    pub(crate) fn member(&self, name: &str) -> Option<&Json> {
        self.members()?.get(name)
    }

    /// What it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "a truth value",
            Json::Number(_) => "a number",
            Json::String(_) => "a text",
            Json::Array(_) => "an array",
            Json::Object(_) => "an object",
        }
    }

    /// Its text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) {
        match self {
            Json::Null => text.push_str("null"),
            Json::Bool(yes) => text.push_str(if *yes { "true" } else { "false" }),
            Json::Number(number) => text.push_str(&number.to_string()),
            Json::String(string) => write_string(string, text),
            Json::Array(items) => {
                text.push('[');
                for (n, item) in items.iter().enumerate() {
                    text.push_str(if n > 0 { "," } else { "" });
                    item.write(text);
                }
                text.push(']');
            }
            Json::Object(members) => {
                text.push('{');
                for (n, (name, member)) in members.iter().enumerate() {
                    text.push_str(if n > 0 { "," } else { "" });
                    write_string(name, text);
                    text.push(':');
                    member.write(text);
                }
                text.push('}');
            }
        }
    }
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    let mut done = 0;
    // What is escaped is ASCII, so all borders are those of characters.
    for (at, byte) in string.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..0x20 => "",
            _ => continue,
        };
        text.push_str(&string[done..at]);
        text.push_str(escape);
        if escape.is_empty() {
            text.push_str(&format!("\\u{byte:04x}"));
        }
        done = at + 1;
    }
    text.push_str(&string[done..]);
    text.push('"');
}
