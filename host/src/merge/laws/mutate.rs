//! Values a little beside those of a case: look-alikes of a word, another number, something less.
//!
//! Unlike in `words.rs` one sibling changes and the others do not. Whether a client could write
//! what comes of it is for [`Form`] to say.

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use serde_json::Value;
use stator_core::divergence::DivergentVersion;

use super::cases::below;
use super::counterexample::Origin;
use super::evaluate::Case;
use super::form::{self, Form};
use super::{layout, shrink, words};

/// Changes one to three of the case's inputs.
pub(super) fn mutate(case: &mut Case, form: &Form, rng: &mut ChaCha8Rng) {
    for _ in 0..1 + below(rng, 3) {
        replace(case, form, rng, &mut |value, rng| mutated(value, form, rng));
    }
}

/// Lays out some of the case's inputs anew; sometimes one of them beside itself, so that two
/// siblings say the same in two ways.
pub(super) fn lay_out(case: &mut Case, form: &Form, rng: &mut ChaCha8Rng) {
    if below(rng, 3) == 0
        && let Some(twin) = case.inputs.get(below(rng, case.inputs.len())).cloned()
    {
        case.inputs.push(twin);
        case.name_inputs();
    }
    for _ in 0..1 + below(rng, case.inputs.len()) {
        replace(case, form, rng, &mut |value, rng| layout::another(value, rng));
    }
    case.drop_equal_inputs();
}

/// Replaces the value of one input.
fn replace(
    case: &mut Case,
    form: &Form,
    rng: &mut ChaCha8Rng,
    change: &mut dyn FnMut(&Bytes, &mut ChaCha8Rng) -> Option<Bytes>,
) {
    let n = below(rng, case.inputs.len());
    let Some(DivergentVersion { value: Some(value), .. }) = case.inputs.get(n) else { return };
    let Some(mutated) = change(value, rng) else { return };
    put(case, form, n, mutated);
}

/// Puts a changed value in the place of one input's, unless another has it: equal payloads would be
/// one version.
pub(super) fn put(case: &mut Case, form: &Form, n: usize, mutated: Bytes) {
    if case.inputs.iter().any(|known| known.value.as_ref() == Some(&mutated)) {
        return;
    }
    let origin = if form.fits(&mutated) { Origin::Alike } else { Origin::Mutated };
    case.origin = case.origin.max(origin);
    case.inputs[n].value = Some(mutated);
}

fn mutated(value: &Bytes, form: &Form, rng: &mut ChaCha8Rng) -> Option<Bytes> {
    match below(rng, 8) {
        0..3 => look_alike(value, rng),
        3 | 4 => {
            let smaller = shrink::candidates(value);
            let fitting: Vec<_> =
                smaller.iter().take(24).filter(|candidate| form.fits(candidate)).collect();
            let all: Vec<_> = smaller.iter().take(24).collect();
            let of = if fitting.is_empty() { &all } else { &fitting };
            of.get(below(rng, of.len())).map(|candidate| Bytes::clone(candidate))
        }
        5 | 6 => {
            let mut json = serde_json::from_slice::<Value>(value).ok()?;
            grow(&mut json, rng).then(|| json.to_string().into())
        }
        _ => match below(rng, 4) {
            0 => Some(Bytes::new()),
            _ => Some(flipped(value, rng)),
        },
    }
}

/// A word that looks like another one, or comes before or after it in some order.
fn look_alike(value: &Bytes, rng: &mut ChaCha8Rng) -> Option<Bytes> {
    let text = form::text(value)?;
    let found = words::words(text);
    let word = found.get(below(rng, found.len()))?.clone();
    let old = &text[word.clone()];
    let new = match below(rng, 8) {
        0 => old.to_uppercase(),
        1 => old.to_lowercase(),
        2 => {
            let mut letters = old.chars();
            let first = letters.next()?;
            first.to_uppercase().chain(letters).collect()
        }
        3 => format!("{old}é"),
        4 => format!("{old}e\u{301}"),
        5 => format!("{old} "),
        6 => format!("{old}\u{1f375}"),
        _ => format!("{old}{}", char::from(b'a' + below(rng, 26) as u8)),
    };
    Some([&text[..word.start], &new, &text[word.end..]].concat().into())
}

fn flipped(value: &Bytes, rng: &mut ChaCha8Rng) -> Bytes {
    let mut bytes = value.to_vec();
    match below(rng, bytes.len() + 1) {
        at if at < bytes.len() => bytes[at] ^= 1 << below(rng, 8),
        _ => bytes.push(b' '),
    }
    bytes.into()
}

/// Changes a number or a text somewhere inside; whether there was one.
fn grow(json: &mut Value, rng: &mut ChaCha8Rng) -> bool {
    match json {
        Value::Null | Value::Bool(_) => false,
        Value::Number(number) => {
            let n = number.as_u64().unwrap_or_default();
            let large = [u64::from(u32::MAX), (1 << 53) - 1, i64::MAX as u64, rng.next_u64() >> 40];
            *json = match below(rng, 8) {
                0 => n.wrapping_add(1).into(),
                1 => (n / 2).into(),
                2 => 0.into(),
                3 => (-1).into(),
                4 => (n as f64 + 0.1).into(),
                _ => large[below(rng, 4)].into(),
            };
            true
        }
        Value::String(text) => {
            text.push(char::from(b'a' + below(rng, 26) as u8));
            true
        }
        Value::Array(items) => {
            let n = below(rng, items.len());
            items.get_mut(n).is_some_and(|item| grow(item, rng))
        }
        Value::Object(fields) => {
            let n = below(rng, fields.len());
            fields.values_mut().nth(n).is_some_and(|field| grow(field, rng))
        }
    }
}
