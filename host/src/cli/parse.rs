//! Arguments that are more than text or a number.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use stator_core::catalogue::HISTORY_MS_MAX;

use super::failure::Failure;

/// A duration as `500ms`, `10s` or `2m`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    within(text, 1..=86_400_000, "1ms to 24h is allowed")
}

/// A number of bytes, as `1048576`, `64MiB` or `10GiB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(format!("{text:?} is no number of bytes: write 1000, 64MiB or 10GiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no number of bytes"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is more than can be counted"))
}

/// How long something is kept, as `0s`, `12h` or `7d`; a bare number is seconds.
pub(super) fn keeping(text: &str) -> Result<Duration, String> {
    within(text, 0..=HISTORY_MS_MAX, "0s to 366d is allowed")
}

fn within(text: &str, range: RangeInclusive<u64>, allowed: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("{text:?} is no duration: write 500ms, 10s or 2m");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let ms = number.checked_mul(unit_ms).filter(|ms| range.contains(ms));
    ms.map(Duration::from_millis).ok_or_else(|| format!("{text} is out of range: {allowed}"))
}

/// A causal context as `kv get --output json` prints it: base64.
pub(super) fn context(text: &str) -> Result<Bytes, String> {
    match BASE64.decode(text.trim()) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes.into()),
        Ok(_) => Err("a context is not empty; leave it out for a blind put".to_owned()),
        Err(error) => Err(format!("a context is base64, as `stator kv get` prints it: {error}")),
    }
}

/// The text that [`context`] reads.
pub(super) fn print_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Bytes for people: as text where they are some, without what a terminal would obey, and shortened.
pub(super) fn shown(bytes: &[u8]) -> String {
    const CHARS_MAX: usize = 200;
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String = text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown.replace("\\\"", "\"").replace("\\'", "'")
}

/// A key as it stands on the command line.
pub(super) fn key(text: &str, is_base64: bool) -> Result<Bytes, Failure> {
    if !is_base64 {
        return Ok(Bytes::copy_from_slice(text.as_bytes()));
    }
    let decoded = BASE64.decode(text);
    decoded
        .map(Bytes::from)
        .map_err(|error| Failure::usage(format!("{text} is no base64: {error}")))
}

/// A key for people: as it is where it is plain text, else in base64.
pub(super) fn shown_key(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("base64:{}", print_base64(key)),
    }
}

/// A key for programs: as text if it is some, else in base64.
pub(super) fn key_json(key: &[u8]) -> serde_json::Map<String, serde_json::Value> {
    let (name, text) = match std::str::from_utf8(key) {
        Ok(text) => ("key", text.to_owned()),
        Err(_) => ("key_base64", print_base64(key)),
    };
    [(name.to_owned(), text.into())].into_iter().collect()
}

/// The lines of a file, or of standard input for `-`, without those that are empty.
pub(super) fn lines(path: &Path) -> Result<Vec<String>, Failure> {
    let text = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(path),
    };
    let unread = |error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let text = text.map_err(unread)?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect())
}

/// A label as `NAME=VALUE`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no label: write NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_without_what_a_terminal_obeys() {
        assert_eq!(shown(br#"{"a":'b'}"#), r#"{"a":'b'}"#);
        assert_eq!(shown(b"\x1b[2J\n\xff"), "\\u{1b}[2J\\n\u{fffd}");
        assert_eq!(shown(&[b'x'; 300]).chars().count(), 201);
    }

    #[test]
    fn sizes_have_units() {
        let sizes = ["0", "65536", "64KiB", "1GiB", "3B"].map(bytes);
        assert_eq!(sizes, [Ok(0), Ok(65_536), Ok(65_536), Ok(1 << 30), Ok(3)]);
        for wrong in ["", "KiB", "-1", "1 KiB", "1kb", "99999999999TiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "-1s", "0s", "5 s", "2d", "99999999999999999999s", "25h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn contexts_read_back_what_is_printed() {
        let bytes = [0, 255, 7];
        assert_eq!(context(&print_base64(&bytes)), Ok(Bytes::copy_from_slice(&bytes)));
        assert!(context("").is_err());
        assert!(context("not base64!").is_err());
    }

    #[test]
    fn labels_have_a_name() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(label("=b").is_err());
        assert!(label("a").is_err());
    }
}
