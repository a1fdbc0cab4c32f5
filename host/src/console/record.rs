//! Merges on record, and bytes of users, as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::conflicts::{Came, Comparison, Conflict};

/// Bytes of a value that are shown.
pub(super) const VALUE_BYTES_MAX: usize = 4 << 10;
/// Bytes of a key that are shown; what asks for it again has all of it.
const KEY_BYTES_MAX: usize = 256;

/// Bytes as text, if they are some, or in hexadecimal digits; no more than `bytes_max` of them.
pub(super) fn shown(bytes: &[u8], bytes_max: usize) -> Value {
    let part = &bytes[..bytes.len().min(bytes_max)];
    let is_cut = part.len() < bytes.len();
    let text = match std::str::from_utf8(part) {
        Ok(text) => Some(text),
        // Cut within a character.
        Err(error) if is_cut && error.error_len().is_none() => {
            std::str::from_utf8(&part[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match text {
        Some(text) => json!({ "text": text, "is_cut": is_cut, "bytes": bytes.len() }),
        None => json!({ "hex": hex::encode(part), "is_cut": is_cut, "bytes": bytes.len() }),
    }
}

/// A key, to be shown and to be asked for.
pub(super) fn key(key: &[u8]) -> Value {
    json!({ "shown": shown(key, KEY_BYTES_MAX), "base64": STANDARD.encode(key) })
}

/// A merge. What a module wants noticed is told by its kind: its content may be of values.
pub(super) fn conflict(conflict: &Conflict) -> Value {
    let (came, failure) = match &conflict.came {
        Came::Value => ("value", None),
        Came::Delete => ("delete", None),
        Came::KeptSiblings => ("kept-siblings", None),
        Came::Failed(why) => ("failed", Some(why)),
    };
    let comparison = match conflict.comparison {
        None | Some(Comparison::Same) => None,
        Some(Comparison::Differs) => Some("differs"),
        Some(Comparison::CandidateFailed) => Some("candidate-failed"),
        Some(Comparison::PinnedFailed) => Some("pinned-failed"),
    };
    json!({
        "sequence": conflict.sequence,
        "id": conflict.id,
        "at_ms": conflict.at_ms,
        "keyspace": conflict.keyspace,
        "key": key(&conflict.key),
        "cause": conflict.cause.word(),
        "module_digest": conflict.module,
        "came": came,
        "failure": failure,
        "siblings": conflict.siblings,
        "bytes_in": conflict.bytes_in,
        "bytes_out": conflict.bytes_out,
        "fuel": conflict.fuel,
        "micros": conflict.micros,
        "note": Some(&conflict.note).filter(|note| !note.is_empty()),
        "topics": conflict.events.iter().map(|event| &event.topic).collect::<Vec<_>>(),
        "comparison": comparison,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_they_are_some_and_never_too_many() {
        assert_eq!(shown(b"tea", 9), json!({ "text": "tea", "is_cut": false, "bytes": 3 }));
        assert_eq!(shown(b"\xff\0", 9), json!({ "hex": "ff00", "is_cut": false, "bytes": 2 }));
        let cut = shown("aä".as_bytes(), 2);
        assert_eq!(cut, json!({ "text": "a", "is_cut": true, "bytes": 3 }));
        assert_eq!(shown(b"a\xffb", 2), json!({ "hex": "61ff", "is_cut": true, "bytes": 3 }));
        assert_eq!(shown(b"\xe4", 9)["hex"], "e4", "the beginning of a character is none");
    }
}
