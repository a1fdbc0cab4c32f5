//! Mutated samples, on request: values a little beside those of the sample.

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use stator_core::divergence::DivergentVersion;

use super::cases::below;
use super::evaluate::Case;
use super::shrink;

/// Changes one to three of the case's inputs. What comes of it may be such as no client writes.
pub(super) fn mutate(case: &mut Case, rng: &mut ChaCha8Rng) {
    case.is_reachable = false;
    for _ in 0..1 + below(rng, 3) {
        let n = below(rng, case.inputs.len());
        let Some(input) = case.inputs.get(n) else { return };
        let mutated = DivergentVersion { value: value(input, rng), ..input.clone() };
        // Equal payloads would be one version.
        if case.inputs.iter().all(|known| known.value != mutated.value) {
            case.inputs[n] = mutated;
        }
    }
}

fn value(input: &DivergentVersion, rng: &mut ChaCha8Rng) -> Option<Bytes> {
    let value = input.value.as_ref()?;
    let smaller = shrink::candidates(value);
    if !smaller.is_empty() && below(rng, 3) > 0 {
        return smaller.into_iter().nth(below(rng, 24)).or_else(|| Some(value.clone()));
    }
    if let Ok(mut json) = serde_json::from_slice::<serde_json::Value>(value)
        && grow(&mut json, rng)
    {
        return Some(json.to_string().into());
    }
    let mut bytes = value.to_vec();
    match below(rng, bytes.len() + 1) {
        at if at < bytes.len() => bytes[at] ^= 1 << below(rng, 8),
        _ => bytes.push(b' '),
    }
    Some(bytes.into())
}

/// Changes a number or a text somewhere inside; whether there was one.
fn grow(json: &mut serde_json::Value, rng: &mut ChaCha8Rng) -> bool {
    use serde_json::Value;
    match json {
        Value::Null | Value::Bool(_) => false,
        Value::Number(number) => {
            let n = number.as_u64().unwrap_or_default();
            *json = [n.wrapping_add(1), n / 2, 0, u64::from(u32::MAX), rng.next_u64() >> 40]
                [below(rng, 5)]
            .into();
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
