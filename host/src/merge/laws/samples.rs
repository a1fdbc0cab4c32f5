//! Samples from a file: JSON lines, a divergence each.
//!
//! ```json
//! {"siblings": [{"utf8": "{\"a\":1}"}, {"json": {"a": 2}}, {"base64": "AAE="}, null]}
//! {"siblings": ["text", "other"], "ancestor": "base", "keyspace": "carts", "key": "k"}
//! {"siblings": [{"utf8": "x", "schema": 2, "written_at_ms": 5}, "y"], "ancestor": {"absent": true}}
//! ```
//!
//! A version is `null` (a delete), a text, or an object with one of `utf8`, `base64`, `json` (its
//! compact form) and `"deleted": true` and, if wanted, `schema` and `written_at_ms`. `ancestor` is a
//! version, `{"absent": true}` if the key did not exist, or missing if nothing is known. A key that is
//! no text stands as `key_base64`. Empty lines and lines
//! that start with `#` are passed over. All versions of a line must come from one history.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion};

/// Why a file of samples cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct SampleFileError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// Reads the samples in `text`.
pub fn read_samples(text: &str) -> Result<Vec<Divergence>, SampleFileError> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, text)| sample(text).map_err(|why| SampleFileError { line, why }))
        .collect()
}

fn sample(text: &str) -> Result<Divergence, String> {
    let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(fields) = json else { return Err("an object is expected".to_owned()) };
    known(&fields, &["siblings", "ancestor", "keyspace", "key", "key_base64"])?;
    let Some(Value::Array(siblings)) = fields.get("siblings") else {
        return Err("`siblings` must be an array of versions".to_owned());
    };
    let siblings: Vec<_> = siblings.iter().map(version).collect::<Result<_, _>>()?;
    if siblings.is_empty() {
        return Err("`siblings` is empty".to_owned());
    }
    let name = |field: &str| match fields.get(field) {
        None => Ok("test".to_owned()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("`{field}` must be a text")),
    };
    Ok(Divergence {
        keyspace: name("keyspace")?,
        key: match fields.get("key_base64") {
            Some(Value::String(text)) => decoded("key_base64", text)?,
            Some(_) => return Err("`key_base64` must be a text".to_owned()),
            None => name("key")?.into(),
        },
        siblings,
        ancestor: ancestor(fields.get("ancestor"))?,
        fingerprint: [0; 32], // not used: the laws pass the memo by
    })
}

fn ancestor(json: Option<&Value>) -> Result<Ancestor, String> {
    match json {
        None => Ok(Ancestor::Unknown),
        Some(Value::Object(fields)) if fields.get("absent") == Some(&Value::Bool(true)) => {
            Ok(Ancestor::Absent)
        }
        Some(json) => version(json).map(Ancestor::Known),
    }
}

fn version(json: &Value) -> Result<DivergentVersion, String> {
    let of = |value| DivergentVersion { value, schema: 0, written_at_ms: 0 };
    let fields = match json {
        Value::Null => return Ok(of(None)),
        Value::String(text) => return Ok(of(Some(text.clone().into()))),
        Value::Object(fields) => fields,
        _ => return Err("a version is null, a text or an object".to_owned()),
    };
    known(fields, &["utf8", "base64", "json", "deleted", "schema", "written_at_ms"])?;
    let number = |field: &str| match fields.get(field) {
        None => Ok(0),
        Some(json) => json.as_u64().ok_or_else(|| format!("`{field}` must be a number from 0")),
    };
    let schema = u32::try_from(number("schema")?).map_err(|_| "`schema` is too large")?;
    Ok(DivergentVersion { value: value(fields)?, schema, written_at_ms: number("written_at_ms")? })
}

fn value(fields: &Map<String, Value>) -> Result<Option<Bytes>, String> {
    let forms = ["utf8", "base64", "json", "deleted"].map(|form| fields.get(form));
    match forms {
        [Some(Value::String(text)), None, None, None] => Ok(Some(text.clone().into())),
        [None, Some(Value::String(text)), None, None] => decoded("base64", text).map(Some),
        [None, None, Some(json), None] => Ok(Some(json.to_string().into())),
        [None, None, None, Some(Value::Bool(true))] => Ok(None),
        _ => {
            Err("a version has one of `utf8`, `base64` (texts), `json` and `deleted` (true)".into())
        }
    }
}

fn decoded(field: &str, text: &str) -> Result<Bytes, String> {
    STANDARD.decode(text).map(Bytes::from).map_err(|error| format!("`{field}`: {error}"))
}

/// A divergence as a line of such a file, which [`read_samples`] reads as the same.
pub fn sample_json(divergence: &Divergence) -> Value {
    let mut sample = json!({
        "keyspace": divergence.keyspace,
        "siblings": divergence.siblings.iter().map(version_json).collect::<Vec<_>>(),
    });
    match std::str::from_utf8(&divergence.key) {
        Ok(key) => sample["key"] = key.into(),
        Err(_) => sample["key_base64"] = STANDARD.encode(&divergence.key).into(),
    }
    match &divergence.ancestor {
        Ancestor::Unknown => {}
        Ancestor::Absent => sample["ancestor"] = json!({ "absent": true }),
        Ancestor::Known(known) => sample["ancestor"] = version_json(known),
    }
    sample
}

fn version_json(version: &DivergentVersion) -> Value {
    let mut json = match version.value.as_deref().map(|value| (value, std::str::from_utf8(value))) {
        None => json!({ "deleted": true }),
        Some((_, Ok(text))) => json!({ "utf8": text }),
        Some((value, Err(_))) => json!({ "base64": STANDARD.encode(value) }),
    };
    if version.schema != 0 {
        json["schema"] = version.schema.into();
    }
    if version.written_at_ms != 0 {
        json["written_at_ms"] = version.written_at_ms.into();
    }
    json
}

fn known(fields: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    match fields.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(format!("`{name}` is not known; known are {}", names.join(", "))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_in_several_ways() {
        let text = r#"
            # the first is a text
            {"siblings": ["a", {"utf8": "b", "schema": 2, "written_at_ms": 5}, null]}
            {"siblings": [{"base64": "AAE="}, {"json": {"x": 1}}], "ancestor": {"absent": true}}
            {"siblings": ["a"], "ancestor": "base", "keyspace": "carts", "key": "k"}
        "#;
        let samples = read_samples(text).expect("reads");
        let value = |version: &DivergentVersion| version.value.clone();
        assert_eq!(value(&samples[0].siblings[0]).as_deref(), Some(&b"a"[..]));
        let second = &samples[0].siblings[1];
        assert_eq!((second.schema, second.written_at_ms), (2, 5));
        assert_eq!(samples[0].siblings[2].value, None);
        assert_eq!(value(&samples[1].siblings[0]).as_deref(), Some(&[0, 1][..]));
        assert_eq!(value(&samples[1].siblings[1]).as_deref(), Some(&br#"{"x":1}"#[..]));
        assert_eq!(samples[1].ancestor, Ancestor::Absent);
        assert!(matches!(&samples[2].ancestor, Ancestor::Known(known)
            if known.value.as_deref() == Some(b"base")));
        assert_eq!((samples[2].keyspace.as_str(), &samples[2].key[..]), ("carts", &b"k"[..]));
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        let text = r#"
            {"siblings": ["a", {"base64": "/wE=", "schema": 2, "written_at_ms": 5}, null]}
            {"siblings": [{"deleted": true, "written_at_ms": 7}], "ancestor": {"absent": true}}
            {"siblings": ["a"], "ancestor": "base", "keyspace": "carts", "key_base64": "AP8="}
        "#;
        let samples = read_samples(text).expect("reads");
        let lines: String = samples.iter().map(|s| format!("{}\n", sample_json(s))).collect();
        assert_eq!(read_samples(&lines).expect("reads"), samples);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, why) in [
            ("{}", "siblings"),
            ("{\"siblings\": []}", "empty"),
            ("{\"siblings\": [1]}", "a version is"),
            ("{\"siblings\": [{\"base64\": \"?\"}]}", "base64"),
            ("{\"siblings\": [{\"utf8\": \"a\", \"json\": 1}]}", "one of"),
            ("{\"siblings\": [{\"utf8\": \"a\", \"shema\": 1}]}", "shema"),
            ("no json", "expected"),
        ] {
            let error = read_samples(&format!("\n{text}")).expect_err(text);
            assert_eq!(error.line, 2);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
