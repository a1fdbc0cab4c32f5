//! What exported keys look like.
//!
//! *JSON lines*, for people and other stores: one object a line,
//! `{"key":…,"values":[{"value":…,"schema":…,"labels":…,…}],"object":…}`. Keys and values that are no
//! text stand as `key_base64`, `value_base64`. `object` is the whole object in base64, every version
//! with its dots: what is imported with it is exactly what was exported. A line without it is
//! imported as a plain put, so files that were made elsewhere can be imported.
//!
//! *Binary*: the line `stator objects 1`, then records: length of the key and of the object (4 bytes
//! each, big-endian), key, object. A record with a key of no bytes ends the file; its object is the
//! number of records (8 bytes, big-endian), so that a file which was cut is found out.

use std::io::{self, BufRead, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stator_core::causality::Siblings;
use stator_core::version::Payload;

use crate::cli::failure::Failure;
use crate::cli::parse;

const MAGIC: &[u8] = b"stator objects 1\n";
/// The largest object: more than a node keeps.
const OBJECT_BYTES_MAX: usize = 64 << 20;
/// The largest key that is read.
const KEY_BYTES_MAX: usize = 1 << 20;

/// How keys are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum Format {
    /// JSON lines
    #[default]
    Jsonl,
    /// Whole objects, less than half as large
    Binary,
}

/// A key with what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Record {
    /// An object in its stored encoding.
    Object(Bytes, Bytes),
    /// A value for a key.
    Plain(Bytes, PlainValue),
}

/// A value as a line gives it that has no object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct PlainValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) value: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) value_base64: Option<String>,
    #[serde(default)]
    pub(in crate::cli) schema: u32,
    #[serde(default)]
    pub(in crate::cli) labels: std::collections::BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) written_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) expires_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli) dots: Vec<String>,
}

impl PlainValue {
    /// The value's bytes.
    pub(in crate::cli) fn bytes(&self) -> Result<Bytes, String> {
        match (&self.value, &self.value_base64) {
            (Some(Value::String(text)), None) => Ok(text.clone().into()),
            (Some(json), None) => Ok(json.to_string().into()),
            (None, Some(text)) => {
                let bytes =
                    BASE64.decode(text).map_err(|error| format!("value_base64: {error}"))?;
                Ok(bytes.into())
            }
            _ => Err("give one of value and value_base64".to_owned()),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: Option<String>,
    key_base64: Option<String>,
    #[serde(default)]
    values: Vec<PlainValue>,
    object: Option<String>,
    /// A value may stand in the line itself.
    value: Option<Value>,
    value_base64: Option<String>,
    #[serde(default)]
    schema: u32,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

/// Writes records.
pub(in crate::cli) struct Writer<W> {
    out: W,
    format: Format,
    count: u64,
}

impl<W: Write> Writer<W> {
    pub(in crate::cli) fn new(mut out: W, format: Format) -> io::Result<Self> {
        if format == Format::Binary {
            out.write_all(MAGIC)?;
        }
        Ok(Writer { out, format, count: 0 })
    }

    pub(in crate::cli) fn object(&mut self, key: &[u8], object: &Bytes) -> io::Result<()> {
        self.count += 1;
        match self.format {
            Format::Binary => record(&mut self.out, key, object),
            Format::Jsonl => {
                serde_json::to_writer(&mut self.out, &line(key, object)?)?;
                self.out.write_all(b"\n")
            }
        }
    }

    pub(in crate::cli) fn end(mut self) -> io::Result<u64> {
        if self.format == Format::Binary {
            record(&mut self.out, &[], &self.count.to_be_bytes())?;
        }
        self.out.flush()?;
        Ok(self.count)
    }
}

/// Writes one record of the binary form.
pub(in crate::cli) fn record(out: &mut impl Write, key: &[u8], object: &[u8]) -> io::Result<()> {
    let length =
        |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| bad("a record is too large"));
    out.write_all(&length(key)?.to_be_bytes())?;
    out.write_all(&length(object)?.to_be_bytes())?;
    out.write_all(key)?;
    out.write_all(object)
}

/// Reads one record of the binary form; `None` at the end of the input.
pub(in crate::cli) fn read_record(from: &mut impl BufRead) -> io::Result<Option<(Bytes, Bytes)>> {
    if from.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut length = |bytes_max: usize| {
        let mut bytes = [0; 4];
        from.read_exact(&mut bytes)?;
        let length = u32::from_be_bytes(bytes) as usize;
        if length > bytes_max { Err(bad("a record is too large")) } else { Ok(length) }
    };
    let (key, object) = (length(KEY_BYTES_MAX)?, length(OBJECT_BYTES_MAX)?);
    let mut bytes = vec![0; key + object];
    from.read_exact(&mut bytes)?;
    let mut bytes = Bytes::from(bytes);
    let key = bytes.split_to(key);
    Ok(Some((key, bytes)))
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// An object as a line, in this order of fields.
fn line(key: &[u8], object: &Bytes) -> io::Result<Value> {
    let siblings = Siblings::decode(object.clone()).map_err(|error| bad(&error.to_string()))?;
    let mut line = parse::key_json(key);
    let values = siblings.versions().into_iter().filter_map(|live| {
        let Payload::Value(value) = &live.version.payload else { return None };
        let text = std::str::from_utf8(value).ok();
        let plain = PlainValue {
            value: text.map(|text| text.into()),
            value_base64: text.is_none().then(|| BASE64.encode(value)),
            schema: live.version.schema,
            labels: live.version.labels.clone(),
            written_at_ms: Some(live.version.written_at_ms),
            expires_at_ms: live.version.expires_at_ms,
            dots: live.dots.iter().map(ToString::to_string).collect(),
        };
        serde_json::to_value(plain).ok()
    });
    line.insert("values".into(), values.collect());
    line.insert("object".into(), BASE64.encode(object).into());
    Ok(Map::into(line))
}

/// Reads records of either form.
pub(in crate::cli) struct Reader<R> {
    from: R,
    format: Format,
    /// The line, or record, that was read last.
    number: u64,
    is_over: bool,
}

impl<R: BufRead> Reader<R> {
    pub(in crate::cli) fn new(mut from: R) -> Result<Self, Failure> {
        let is_binary = from.fill_buf()?.starts_with(b"stator objects ");
        let format = if is_binary { Format::Binary } else { Format::Jsonl };
        if is_binary {
            let mut magic = [0; MAGIC.len()];
            from.read_exact(&mut magic)?;
            if magic != MAGIC {
                return Err(Failure::usage("the file is of a later form of exports: upgrade"));
            }
        }
        Ok(Reader { from, format, number: 0, is_over: false })
    }

    /// The next record.
    pub(in crate::cli) fn next(&mut self) -> Result<Option<Record>, Failure> {
        if self.is_over {
            return Ok(None);
        }
        self.number += 1;
        match self.format {
            Format::Binary => self.next_binary(),
            Format::Jsonl => self.next_line(),
        }
    }

    fn fail(&self, what: &str, why: &str) -> Failure {
        Failure::usage(format!("{what} {}: {why}", self.number))
            .hint("what came before it is imported; to import a file again does no harm")
    }

    fn next_binary(&mut self) -> Result<Option<Record>, Failure> {
        let read = read_record(&mut self.from);
        let read = read.map_err(|error| self.fail("record", &error.to_string()))?;
        match read {
            Some((key, object)) if key.is_empty() => {
                self.is_over = true;
                let count = self.number - 1;
                match object[..] == count.to_be_bytes() {
                    true => Ok(None),
                    false => Err(self.fail("record", "the file has another number of records")),
                }
            }
            Some((key, object)) => Ok(Some(Record::Object(key, object))),
            None => Err(self.fail("record", "the file is cut: its end is missing")),
        }
    }

    fn next_line(&mut self) -> Result<Option<Record>, Failure> {
        // Base64, and the values once more.
        let bytes_max = 8 * OBJECT_BYTES_MAX as u64;
        let mut text = String::new();
        let read = (&mut self.from).take(bytes_max).read_line(&mut text);
        match read.map_err(|error| self.fail("line", &error.to_string()))? {
            0 => {
                self.is_over = true;
                Ok(None)
            }
            _ if text.trim().is_empty() => self.next(),
            _ => parse_line(&text).map(Some).map_err(|why| self.fail("line", &why)),
        }
    }
}

fn parse_line(text: &str) -> Result<Record, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let base64 = |text: &String, name: &str| {
        BASE64.decode(text).map(Bytes::from).map_err(|error| format!("{name}: {error}"))
    };
    let key = match (&line.key, &line.key_base64) {
        (Some(key), None) => Bytes::from(key.clone()),
        (None, Some(key)) => base64(key, "key_base64")?,
        _ => return Err("give one of key and key_base64".to_owned()),
    };
    if let Some(object) = &line.object {
        return Ok(Record::Object(key, base64(object, "object")?));
    }
    let has_own = line.value.is_some() || line.value_base64.is_some();
    let mut values = line.values;
    if has_own {
        let (value, value_base64) = (line.value, line.value_base64);
        let (schema, labels) = (line.schema, line.labels);
        values.push(PlainValue { value, value_base64, schema, labels, ..Default::default() });
    }
    match <[PlainValue; 1]>::try_from(values) {
        Ok([value]) => {
            value.bytes()?;
            Ok(Record::Plain(key, value))
        }
        Err(values) => Err(format!("it has {} values and no object: one can be put", values.len())),
    }
}
