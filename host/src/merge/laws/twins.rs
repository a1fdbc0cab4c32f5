//! Two or three siblings changed together, so that they are nearly the same in one place.
//!
//! What merges take for equal, though its bytes differ, and what they take for larger, though it is
//! not in every pair, shows only where two siblings come close to each other: `é` beside `e` with
//! an accent of its own, 2^53 beside its successor, `1` beside `1.0`, a field beside one that is
//! `null`. Changing one sibling at a time nearly never makes such pairs.
//!
//! What comes of it may be a value that nobody writes; [`Form`] says so.

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use serde_json::{Map, Value, json};

use super::cases::{below, shuffle};
use super::evaluate::Case;
use super::form::{self, Form};
use super::{mutate, words};

/// How many characters or bytes two words have in common, before or behind what tells them apart.
const COMMON: [usize; 6] = [7, 15, 31, 63, 127, 255];
/// Widths of the numbers of programs, in bits.
const BITS: [u32; 9] = [7, 8, 15, 16, 31, 32, 53, 63, 64];
/// Signs with which formats mark words, and what ends them.
const SIGNS: &[(char, &str)] = &[
    ('#', ""),
    ('-', ""),
    ('+', ""),
    ('!', ""),
    ('~', ""),
    ('@', ""),
    ('*', "*"),
    ('_', "_"),
    ('/', "/"),
    (';', ";"),
    (':', ":"),
    ('.', "."),
    ('\'', "'"),
    ('"', "\""),
    ('[', "]"),
    ('(', ")"),
    ('<', ">"),
];
/// Beyond this depth JSON is left as it is.
const DEPTH_MAX: usize = 8;

/// Changes two or three of the case's inputs in one place.
pub(super) fn twin(case: &mut Case, form: &Form, rng: &mut ChaCha8Rng) {
    let live = |n: &usize| case.inputs[*n].value.is_some();
    let mut chosen: Vec<_> = (0..case.inputs.len()).filter(live).collect();
    shuffle(rng, &mut chosen);
    chosen.truncate(if below(rng, 4) == 0 { 2 } else { 3 });
    let values: Vec<_> = chosen.iter().filter_map(|n| case.inputs[*n].value.clone()).collect();
    let texts: Vec<_> = values.iter().filter_map(|value| form::text(value)).collect();
    if chosen.len() < 2 {
        return;
    }
    let changed = if texts.len() < values.len() {
        numbers_of_bytes(&values, rng)
    } else {
        let of = match below(rng, 4) {
            0 => spellings(&texts, rng),
            1 | 2 => numbers(&texts, rng),
            _ => parts(&texts, rng),
        };
        let of = of.or_else(|| spellings(&texts, rng)).unwrap_or_default();
        of.into_iter().map(Bytes::from).collect()
    };
    for (n, value) in chosen.into_iter().zip(changed) {
        mutate::put(case, form, n, value);
    }
    case.drop_equal_inputs();
}

/// A word of each, spelled nearly alike.
fn spellings(texts: &[&str], rng: &mut ChaCha8Rng) -> Option<Vec<String>> {
    let found: Vec<_> = texts.iter().map(|text| words::tokens(text)).collect();
    let same = below(rng, found.iter().map(Vec::len).min().filter(|n| *n > 0)?);
    let any = below(rng, 2) == 0;
    let mut at = Vec::new();
    for tokens in &found {
        let n = if any { below(rng, tokens.len()) } else { same };
        at.push(tokens[n].clone());
    }
    let stem = &texts[0][at[0].clone()];
    let (of, common) = (below(rng, 13), COMMON[below(rng, COMMON.len())]);
    let (open, close) = SIGNS[below(rng, SIGNS.len())];
    let spelled = |n: usize, own: &str| match of {
        0 => [stem.to_owned(), stem.to_uppercase(), capital(stem)][n].clone(),
        1 => format!("{stem}{}", ["é", "e\u{301}", "e"][n]),
        2 => format!("{stem}{}", ["ß", "ss", "SS"][n]),
        3 => format!("{stem}{}", ["", "s", "es"][n]),
        4 => format!("{stem}{}", [" ", "", "\u{a0}"][n]),
        5 => format!("{stem}{}x", [" ", "\u{a0}", "  "][n]),
        6 => format!("{stem}{}{}", "x".repeat(common), ["a", "b", "c"][n]),
        7 => format!("{}{}{stem}", ["a", "b", "c"][n], "x".repeat(common)),
        8 => format!("{}7", ["", "0", "00"][n]),
        9 => stem.to_owned(),
        10 => format!("{open}{own}"),
        11 => format!("{own}{open}"),
        _ => format!("{open}{own}{close}"),
    };
    let spelled = |(n, (text, at)): (usize, (&&str, std::ops::Range<usize>))| {
        let mut word = spelled(n, &text[at.clone()]);
        if word.contains('"') && words::is_json(text) {
            word = word.replace('"', "\\\"");
        }
        [&text[..at.start], &word, &text[at.end..]].concat()
    };
    Some(texts.iter().zip(at).enumerate().map(spelled).collect())
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The number in one place of each: equal, next to each other, or wide apart.
fn numbers(texts: &[&str], rng: &mut ChaCha8Rng) -> Option<Vec<String>> {
    let found: Vec<_> = texts.iter().map(|text| words::figures(text)).collect();
    let at = below(rng, found.iter().map(Vec::len).min().filter(|n| *n > 0)?);
    let first = texts[0][found[0][at].clone()].parse::<f64>().unwrap_or_default().abs() as u64;
    // Whatever is taken for near, one of these steps is nearer than that, and two of them are not.
    // Small ones more often, for so are what merges round by.
    let step = 1 << below(rng, 17).min(below(rng, 17));
    let (of, bits) = (below(rng, 13), BITS[below(rng, BITS.len())]);
    let is_json = texts.iter().all(|text| words::is_json(text));
    let mut number = |n: usize| match of {
        0 => first.to_string(),
        1..4 | 11 => (u128::from(first) + n as u128 * step).to_string(),
        4..7 => (rng.next_u64() >> (64 - bits)).to_string(),
        7 => ((1u128 << bits) - 1 + n as u128).to_string(),
        8 => (u128::from(first) + ((n as u128) << bits)).to_string(),
        9 if is_json => [format!("{first}"), format!("{first}.0"), format!("{first}e0")][n].clone(),
        9 => format!("{}{first}", ["", "0", "+"][n]),
        10 => ["0", "-0", "-1"][n].to_owned(),
        _ => format!("{first}.{}", ["004", "005", "5"][n]),
    };
    let put = |(n, (text, found)): (usize, (&&str, &Vec<std::ops::Range<usize>>))| {
        let at = found[at].clone();
        [&text[..at.start], &number(n), &text[at.end..]].concat()
    };
    Some(texts.iter().zip(&found).enumerate().map(put).collect())
}

/// A place in the JSON of each: another kind, none, or one more beside it.
fn parts(texts: &[&str], rng: &mut ChaCha8Rng) -> Option<Vec<String>> {
    let parsed: Result<Vec<Value>, _> =
        texts.iter().map(|text| serde_json::from_str(text)).collect();
    let mut parsed = parsed.ok().filter(|all| all.iter().all(|json| !json.is_number()))?;
    let mut places = Vec::new();
    collect(&parsed[0], &mut Vec::new(), &mut places);
    let flags: Vec<_> = places.iter().filter(|place| place.1).cloned().collect();
    let of = below(rng, 9);
    let among = if of < 2 && !flags.is_empty() { &flags } else { &places };
    let path = among.get(below(rng, among.len()))?.0.clone();
    let spread = below(rng, 2);
    for (n, json) in parsed.iter_mut().enumerate() {
        match of {
            // One or all of them.
            0 | 1 if n <= spread * 2 => flip(at(json, &path)),
            2 => match n {
                0 => set(at(json, &path), |_| Value::Null),
                _ if spread == 1 => remove(json, &path),
                _ => {}
            },
            3 => match n {
                0 => set(at(json, &path), empty),
                _ if spread == 1 => remove(json, &path),
                _ => {}
            },
            4 | 5 => add(json, &path, &[json!("one"), json!(2), json!("three")][n]),
            6 => set(at(json, &path), |old| json!({ "inner": old, "other": n })),
            7 if n <= spread => set(at(json, &path), |old| json!([old])),
            8 if n == 0 => set(at(json, &path), other_kind),
            _ => {}
        }
    }
    Some(parsed.iter().map(Value::to_string).collect())
}

/// All places but the root, and whether each is a flag.
fn collect(json: &Value, path: &mut Vec<String>, places: &mut Vec<(Vec<String>, bool)>) {
    let children: Vec<(String, &Value)> = match json {
        _ if path.len() >= DEPTH_MAX || places.len() > 1_000 => return,
        Value::Object(fields) => fields.iter().map(|(name, child)| (name.clone(), child)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(n, child)| (n.to_string(), child)).collect()
        }
        _ => return,
    };
    for (name, child) in children {
        path.push(name);
        places.push((path.clone(), child.is_boolean()));
        collect(child, path, places);
        path.pop();
    }
}

fn at<'a>(json: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(json, |at, name| match at {
        Value::Array(items) => items.get_mut(name.parse::<usize>().ok()?),
        other => other.get_mut(name),
    })
}

fn set(place: Option<&mut Value>, change: impl FnOnce(Value) -> Value) {
    if let Some(place) = place {
        *place = change(place.take());
    }
}

fn flip(place: Option<&mut Value>) {
    if let Some(Value::Bool(flag)) = place {
        *flag = !*flag;
    }
}

fn empty(old: Value) -> Value {
    match old {
        Value::Null | Value::Bool(_) => Value::Null,
        Value::Number(_) => 0.into(),
        Value::String(_) => "".into(),
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Object(_) => Value::Object(Map::new()),
    }
}

fn other_kind(old: Value) -> Value {
    match old {
        Value::String(text) => text.parse::<u64>().map_or_else(|_| json!([text]), Value::from),
        Value::Array(_) => json!({}),
        Value::Object(_) => json!([]),
        scalar => scalar.to_string().into(),
    }
}

fn remove(json: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    if let Some(Value::Object(fields)) = at(json, parents) {
        fields.remove(last);
    }
}

/// A field of a name that no sample has, in the object at the path or the one around it.
fn add(json: &mut Value, path: &[String], value: &Value) {
    for depth in (0..=path.len()).rev() {
        if let Some(Value::Object(fields)) = at(json, &path[..depth]) {
            fields.insert("extra".to_owned(), value.clone());
            return;
        }
    }
}

/// The bytes in one place of each, as numbers of one width.
fn numbers_of_bytes(values: &[Bytes], rng: &mut ChaCha8Rng) -> Vec<Bytes> {
    let width = 1 << below(rng, 4);
    if below(rng, 4) == 0 {
        return values.iter().map(|value| other_case(value, rng)).collect();
    }
    let shortest = values.iter().map(Bytes::len).min().unwrap_or_default();
    let Some(last) = shortest.checked_sub(width) else { return Vec::new() };
    // Rather early ones than late ones: it is there that ranks and lengths stand.
    let at = below(rng, last + 1).min(below(rng, last + 1));
    let (of, is_big) = (below(rng, 6), below(rng, 2) == 0);
    let first = rng.next_u64() >> (64 - 8 * width as u32);
    let mut number = |n: usize| match of {
        0 => first,
        1 => first.wrapping_add(n as u64),
        2 => 1 << (8 * width - 1) | n as u64,
        _ => rng.next_u64(),
    };
    let put = |(n, value): (usize, &Bytes)| {
        let mut bytes = value.to_vec();
        let mut number = number(n).to_le_bytes();
        if is_big {
            number[..width].reverse();
        }
        bytes[at..at + width].copy_from_slice(&number[..width]);
        bytes.into()
    };
    values.iter().enumerate().map(put).collect()
}

/// With a capital for one of the small letters, or the other way round.
fn other_case(value: &Bytes, rng: &mut ChaCha8Rng) -> Bytes {
    let letters: Vec<_> = (0..value.len()).filter(|n| value[*n].is_ascii_alphabetic()).collect();
    let mut bytes = value.to_vec();
    if let Some(n) = letters.get(below(rng, letters.len())) {
        bytes[*n] ^= b'a' - b'A';
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    type Change = fn(&[&str], &mut ChaCha8Rng) -> Option<Vec<String>>;

    /// What comes of many tries.
    fn made(change: Change, texts: &[&str]) -> BTreeSet<Vec<String>> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        (0..2_000).filter_map(|_| change(texts, &mut rng)).collect()
    }

    fn has(made: &BTreeSet<Vec<String>>, pair: [&str; 2]) {
        assert!(made.contains(&pair.map(str::to_owned).to_vec()), "{pair:?} is not among {made:?}");
    }

    #[test]
    fn words_come_close_to_each_other() {
        let made = made(spellings, &["tea", "milk"]);
        has(&made, ["teaé", "teae\u{301}"]);
        has(&made, ["tea", "TEA"]);
        has(&made, ["#tea", "#milk"]);
        has(&made, ["[tea]", "[milk]"]);
        has(&made, ["teaxxxxxxxxxxxxxxxa", "teaxxxxxxxxxxxxxxxb"]);
        let escaped = made_json(spellings, r#"{"a":"tea"}"#);
        assert!(escaped.iter().flatten().any(|text| text.contains("\\\"")), "{escaped:?}");
    }

    fn made_json(change: Change, text: &str) -> BTreeSet<Vec<String>> {
        let made = made(change, &[text, text]);
        let is_json = |text: &String| serde_json::from_str::<Value>(text).is_ok();
        assert!(made.iter().flatten().all(is_json), "{made:?}");
        made
    }

    #[test]
    fn numbers_are_equal_or_next_to_each_other() {
        let made = made_json(numbers, r#"{"n":7}"#);
        has(&made, [r#"{"n":7}"#, r#"{"n":7.0}"#]);
        has(&made, [r#"{"n":7}"#, r#"{"n":8}"#]);
        has(&made, [r#"{"n":9007199254740991}"#, r#"{"n":9007199254740992}"#]);
        has(&made, [r#"{"n":0}"#, r#"{"n":-0}"#]);
    }

    #[test]
    fn places_get_another_kind_or_none() {
        let made = made_json(parts, r#"{"a":{"b":true},"c":["x"]}"#);
        has(&made, [r#"{"a":{"b":false},"c":["x"]}"#, r#"{"a":{"b":true},"c":["x"]}"#]);
        has(&made, [r#"{"a":{"b":null},"c":["x"]}"#, r#"{"a":{},"c":["x"]}"#]);
        has(&made, [r#"{"a":{"b":true},"c":[]}"#, r#"{"a":{"b":true}}"#]);
        has(
            &made,
            [
                r#"{"a":{"b":true},"c":["x"],"extra":"one"}"#,
                r#"{"a":{"b":true},"c":["x"],"extra":2}"#,
            ],
        );
    }

    #[test]
    fn bytes_are_numbers_too() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let values = [Bytes::from_static(&[0xff, 0, 0, 1]), Bytes::from_static(&[0xff, 2])];
        let made: BTreeSet<_> = (0..500).map(|_| numbers_of_bytes(&values, &mut rng)).collect();
        assert!(made.len() > 100);
        assert!(made.iter().all(|pair| pair.iter().zip(&values).all(|(l, r)| l.len() == r.len())));
    }
}
