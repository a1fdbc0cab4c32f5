//! Reads JSON strictly (RFC 8259): a name that an object has twice is refused, since every library
//! decides it differently, and so are halves of surrogate pairs.

use std::collections::BTreeMap;

use merge_rules::DEPTH_MAX;

use crate::decimal::Decimal;
use crate::json::Json;

/// Reads a document.
///
/// # Errors
/// What is wrong, and at which byte.
pub fn parse(json: &[u8]) -> Result<Json, String> {
    let text = str::from_utf8(json).map_err(|why| format!("not UTF-8: {why}"))?;
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err(reader.wrong("more behind the value"));
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    /// Always at the border of a character.
    at: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, what: &str) -> String {
        format!("no JSON that can be merged: {what}, at byte {}", self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_while(&mut self, is_skipped: impl Fn(u8) -> bool) -> &'a str {
        let rest = &self.text.as_bytes()[self.at..];
        let length = rest.iter().position(|byte| !is_skipped(*byte)).unwrap_or(rest.len());
        let skipped = &self.text[self.at..self.at + length];
        self.at += length;
        skipped
    }

    fn skip_space(&mut self) {
        self.skip_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t'));
    }

    /// Takes `byte` if it comes next.
    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: usize) -> Result<Json, String> {
        self.skip_space();
        match self.peek() {
            Some(b'{' | b'[') if depth == DEPTH_MAX => {
                Err(self.wrong(&format!("nested deeper than {DEPTH_MAX}")))
            }
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Json, String> {
        let words =
            [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))];
        let rest = &self.text[self.at..];
        let Some((word, value)) = words.into_iter().find(|(word, _)| rest.starts_with(word)) else {
            return Err(self.wrong("a value is missing"));
        };
        self.at += word.len();
        Ok(value)
    }

    fn object(&mut self, depth: usize) -> Result<Json, String> {
        let mut members = BTreeMap::new();
        self.at += 1;
        self.skip_space();
        if self.takes(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong("a name is missing"));
            }
            let name = self.string()?;
            self.skip_space();
            if !self.takes(b':') {
                return Err(self.wrong("`:` is missing"));
            }
            let value = self.value(depth)?;
            if members.contains_key(&name) {
                return Err(self.wrong(&format!("`{name}` is there twice")));
            }
            members.insert(name, value);
            if self.ends(b'}')? {
                return Ok(Json::Object(members));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, String> {
        let mut items = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.takes(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            if self.ends(b']')? {
                return Ok(Json::Array(items));
            }
        }
    }

    /// Whether the object or array ends here, or goes on.
    fn ends(&mut self, bracket: u8) -> Result<bool, String> {
        self.skip_space();
        if self.takes(b',') {
            return Ok(false);
        }
        if self.takes(bracket) {
            return Ok(true);
        }
        Err(self.wrong(&format!("`,` or `{}` is missing", char::from(bracket))))
    }

    fn number(&mut self) -> Result<Decimal, String> {
        let is_digit = |byte: u8| byte.is_ascii_digit();
        let negative = self.takes(b'-');
        let whole = self.skip_while(is_digit);
        let part = if self.takes(b'.') { Some(self.skip_while(is_digit)) } else { None };
        let mut exponent = None;
        if self.takes(b'e') || self.takes(b'E') {
            let from = self.at;
            let _signed = self.takes(b'-') || self.takes(b'+');
            let digits = self.skip_while(is_digit);
            exponent = Some(if digits.is_empty() { "" } else { &self.text[from..self.at] });
        }
        let has_zeros = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || has_zeros || part == Some("") || exponent == Some("") {
            return Err(self.wrong("a number is not written as JSON writes it"));
        }
        Decimal::of(negative, whole, part.unwrap_or_default(), exponent.unwrap_or_default())
            .ok_or_else(|| self.wrong("a number has an exponent of more than 1,000,000"))
    }

    fn string(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut string = String::new();
        loop {
            string.push_str(self.skip_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)));
            if self.takes(b'"') {
                return Ok(string);
            }
            if !self.takes(b'\\') {
                return Err(self.wrong("a text has no end, or a control character inside"));
            }
            string.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let letter = self.peek();
        let simple = match letter {
            Some(b'"' | b'\\' | b'/') => letter.map(char::from),
            Some(b'n') => Some('\n'),
            Some(b'r') => Some('\r'),
            Some(b't') => Some('\t'),
            Some(b'b') => Some('\u{8}'),
            Some(b'f') => Some('\u{c}'),
            Some(b'u') => None,
            _ => return Err(self.wrong("an escape that JSON does not know")),
        };
        self.at += 1;
        if let Some(character) = simple {
            return Ok(character);
        }
        let mut units = vec![self.unit()?];
        if matches!(units[0], 0xd800..0xdc00) && self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            units.push(self.unit()?);
        }
        match char::decode_utf16(units).collect::<Result<Vec<_>, _>>().as_deref() {
            Ok([character]) => Ok(*character),
            _ => Err(self.wrong("half of a surrogate pair")),
        }
    }

    /// Four digits of an escape.
    fn unit(&mut self) -> Result<u16, String> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits.and_then(|digits| str::from_utf8(digits).ok()) else {
            return Err(self.wrong("`\\u` without four digits"));
        };
        self.at += 4;
        u16::from_str_radix(digits, 16).map_err(|_| self.wrong("`\\u` without four digits"))
    }
}
