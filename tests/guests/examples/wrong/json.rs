//! Wrong merges of numbers: a plain one, counts by client, and entries with a rank.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use stator_guest::{Divergence, Failure, Outcome, Random, Resolution};

type Answer = Result<Resolution, Failure>;

/// Balances that clients raise.
pub fn sample_number(random: &mut Random) -> Divergence {
    let base = 10 + random.below(90);
    let edits: Vec<_> = (0..3).map(|_| (base + random.below(50)).to_string()).collect();
    Divergence::of_edits(base.to_string(), edits)
}

/// `{"by":{"c0":3}}`, where each client raises its own number.
pub fn sample_counts(random: &mut Random) -> Divergence {
    let mut base = BTreeMap::new();
    for client in 0..3 {
        base.insert(format!("client-{client}"), 1 + random.below(7));
    }
    let edits: Vec<_> = (0..3)
        .map(|client| {
            let mut edit = base.clone();
            *edit.entry(format!("client-{client}")).or_default() += random.below(7);
            json!({ "by": edit }).to_string()
        })
        .collect();
    Divergence::of_edits(json!({ "by": base }).to_string(), edits)
}

/// `{"player":"anna","score":3}`, of which only larger scores are written.
pub fn sample_entry(random: &mut Random) -> Divergence {
    let entry = |score: u32, random: &mut Random| {
        json!({ "player": random.pick(&["anna", "ben", "chris"]), "score": score }).to_string()
    };
    let score = random.below(4);
    let base = entry(score, random);
    let edits = [(); 3].map(|()| entry(score + 1 + random.below(3), random));
    Divergence::of_edits(base, edits)
}

fn numbers(divergence: &Divergence) -> Result<Vec<i64>, Failure> {
    let number = |(sibling, text): (u32, &[u8])| {
        let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| Failure::malformed(sibling, "no number"))
    };
    divergence.values().map(number).collect()
}

fn objects(divergence: &Divergence) -> Result<Vec<Map<String, Value>>, Failure> {
    let object = |(sibling, text): (u32, &[u8])| {
        serde_json::from_slice(text).map_err(|why| Failure::malformed(sibling, why.to_string()))
    };
    divergence.values().map(object).collect()
}

/// Counts again with every merge.
pub fn sum(divergence: &Divergence) -> Answer {
    let sum = numbers(divergence)?.into_iter().fold(0, i64::wrapping_add);
    Ok(Resolution::value(sum.to_string()))
}

pub fn average(divergence: &Divergence) -> Answer {
    let numbers = numbers(divergence)?;
    let sum = numbers.iter().copied().fold(0, i64::wrapping_add);
    Ok(Resolution::value((sum / numbers.len() as i64).to_string()))
}

/// The counts of all siblings in the order in which clients are met, the larger of each.
fn counts(divergence: &Divergence) -> Result<Vec<(String, u64)>, Failure> {
    let mut counts: Vec<(String, u64)> = Vec::new();
    for (sibling, object) in (0..).zip(objects(divergence)?) {
        let Some(Value::Object(by)) = object.get("by") else {
            return Err(Failure::malformed(sibling, "no counts"));
        };
        for (client, count) in by {
            let count = count.as_u64().ok_or_else(|| Failure::malformed(sibling, "no count"))?;
            match counts.iter_mut().find(|(known, _)| known == client) {
                Some((_, known)) => *known = count.max(*known),
                None => counts.push((client.clone(), count)),
            }
        }
    }
    Ok(counts)
}

fn by(counts: Vec<(String, u64)>) -> Map<String, Value> {
    counts.into_iter().map(|(client, count)| (client, count.into())).collect()
}

/// No client's count is smaller than one that was merged.
pub fn no_count_falls(before: &Divergence, after: &Outcome) -> Result<(), String> {
    let Outcome::Value(after) = after else { return Ok(()) };
    let after: Value = serde_json::from_slice(after).map_err(|why| why.to_string())?;
    let counts = counts(before).map_err(|_| "what has no counts was merged")?;
    match counts.iter().find(|(client, count)| after["by"][client].as_u64() < Some(*count)) {
        Some((client, count)) => Err(format!("{client} had {count} already")),
        None => Ok(()),
    }
}

/// Adds floats in the order in which the siblings bring the clients.
pub fn float_total(divergence: &Divergence) -> Answer {
    let counts = counts(divergence)?;
    let total: f64 = counts.iter().map(|(_, count)| *count as f64 * 0.1).sum();
    let value = json!({ "by": by(counts), "total": total });
    Ok(Resolution::value(value.to_string()))
}

/// Keeps 32 bits of every number.
pub fn wraps_around(divergence: &Divergence) -> Answer {
    let mut kept: BTreeMap<String, u32> = BTreeMap::new();
    for object in objects(divergence)? {
        for (client, count) in object.get("by").and_then(Value::as_object).into_iter().flatten() {
            let count = count.as_u64().unwrap_or_default() as u32;
            let known = kept.entry(client.clone()).or_default();
            *known = count.max(*known);
        }
    }
    Ok(Resolution::value(json!({ "by": kept }).to_string()))
}

/// A revision that grows with every merge.
pub fn counts_merges(divergence: &Divergence) -> Answer {
    let revision = |object: &Map<String, Value>| object.get("rev").and_then(Value::as_u64);
    let revision = objects(divergence)?.iter().filter_map(revision).max().unwrap_or_default();
    let mut counts = counts(divergence)?;
    counts.sort();
    let value = json!({ "by": by(counts), "rev": revision.wrapping_add(1) });
    Ok(Resolution::value(value.to_string()))
}

fn best(divergence: &Divergence, is_better: fn((u64, u64), (u64, u64)) -> bool) -> Answer {
    let times = divergence.live().map(|(_, version)| version.written_at_ms);
    let mut best: Option<((u64, u64), Value)> = None;
    for (entry, at) in objects(divergence)?.into_iter().zip(times) {
        let rank = (entry.get("score").and_then(Value::as_u64).unwrap_or_default(), at);
        if best.as_ref().is_none_or(|(known, _)| is_better(rank, *known)) {
            best = Some((rank, Value::Object(entry)));
        }
    }
    Ok(Resolution::value(best.map(|(_, entry)| entry.to_string()).unwrap_or_default()))
}

/// `>=` on a tie.
pub fn last_of_equals(divergence: &Divergence) -> Answer {
    best(divergence, |(score, _), (best, _)| score >= best)
}

/// A tie that times decide, and the order if they are the same.
pub fn newest_of_equals(divergence: &Divergence) -> Answer {
    best(divergence, |rank, best| rank > best)
}

/// `{"done":false,"seen":[100,300]}`, where clients add what is far from all others.
pub fn sample_seen(random: &mut Random) -> Divergence {
    let seen = |at: &[u32]| json!({ "done": false, "seen": at }).to_string();
    let edits: Vec<_> = (0..3).map(|_| seen(&[100, 200 + 100 * random.below(5)])).collect();
    Divergence::of_edits(seen(&[100]), edits)
}

/// `{"ui":{"color":"blue"}}`, two levels of texts.
pub fn sample_settings(random: &mut Random) -> Divergence {
    let base = json!({ "mail": { "sort": "date" }, "ui": { "color": "blue" } });
    let edits: Vec<_> = (0..3)
        .map(|_| {
            let mut edit = base.clone();
            match random.below(3) {
                0 => edit["ui"]["font"] = json!("serif"),
                1 => edit["mail"]["page"] = json!("long"),
                _ => edit["ui"]["color"] = json!(*random.pick(&["red", "green"])),
            }
            edit.to_string()
        })
        .collect();
    Divergence::of_edits(base.to_string(), edits)
}

type Seen = (Vec<Map<String, Value>>, BTreeSet<u64>);

fn all_seen(divergence: &Divergence) -> Result<Seen, Failure> {
    let (all, mut seen) = (objects(divergence)?, BTreeSet::new());
    for (sibling, object) in (0..).zip(&all) {
        for at in object.get("seen").and_then(Value::as_array).into_iter().flatten() {
            seen.insert(at.as_u64().ok_or_else(|| Failure::malformed(sibling, "no number"))?);
        }
    }
    Ok((all, seen))
}

fn is_done(object: &Map<String, Value>) -> bool {
    object.get("done") == Some(&Value::Bool(true))
}

/// What comes less than five behind another is the same.
pub fn five_apart(divergence: &Divergence) -> Answer {
    let (all, seen) = all_seen(divergence)?;
    let (mut kept, mut before) = (Vec::new(), None);
    for at in seen {
        if before.is_none_or(|before| at - before >= 5) {
            kept.push(at);
        }
        before = Some(at);
    }
    let done = all.iter().any(is_done);
    Ok(Resolution::value(json!({ "done": done, "seen": kept }).to_string()))
}

/// Once done, nothing changes any more: the first that is done.
pub fn first_that_is_done(divergence: &Divergence) -> Answer {
    let (mut all, seen) = all_seen(divergence)?;
    let value = match all.iter().position(is_done) {
        Some(first) => Value::Object(all.swap_remove(first)),
        None => json!({ "done": false, "seen": seen }),
    };
    Ok(Resolution::value(value.to_string()))
}

/// No list where there is nothing in it, unless the first sibling has one.
pub fn empty_if_the_first_has_it(divergence: &Divergence) -> Answer {
    let (all, seen) = all_seen(divergence)?;
    let mut value = json!({ "done": all.iter().any(is_done) });
    if !seen.is_empty() || all[0].contains_key("seen") {
        value["seen"] = json!(seen);
    }
    Ok(Resolution::value(value.to_string()))
}

/// Passes on fields that it does not know: the last sibling's.
pub fn unknown_fields_of_the_last(divergence: &Divergence) -> Answer {
    let (all, seen) = all_seen(divergence)?;
    let done = all.iter().any(is_done);
    let mut value: Map<String, Value> = all.into_iter().flatten().collect();
    value.insert("done".to_owned(), done.into());
    value.insert("seen".to_owned(), json!(seen));
    Ok(Resolution::value(Value::Object(value).to_string()))
}

fn is_smaller(left: &Value, right: &Value) -> bool {
    let texts = [left, right].map(Value::to_string);
    texts[0] < texts[1]
}

fn united(left: &mut Value, right: &Value, depth: usize) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) if depth < 2 => {
            for (name, field) in right {
                match left.get_mut(name) {
                    Some(known) => united(known, field, depth + 1),
                    None => drop(left.insert(name.clone(), field.clone())),
                }
            }
        }
        (Value::Object(_), _) => {}
        (left, right) if right.is_object() || is_smaller(left, right) => {
            *left = right.clone();
        }
        _ => {}
    }
}

/// What is deeper is not expected, and the first sibling's.
pub fn two_levels_deep(divergence: &Divergence) -> Answer {
    let mut all = objects(divergence)?.into_iter().map(Value::Object);
    let mut value = all.next().unwrap_or_default();
    all.for_each(|other| united(&mut value, &other, 0));
    Ok(Resolution::value(value.to_string()))
}

/// The largest text of each field, but `null` or nothing by what the first sibling has.
pub fn null_if_the_first_has_it(divergence: &Divergence) -> Answer {
    let all = objects(divergence)?;
    let mut value = all[0].clone();
    for (name, field) in all.iter().skip(1).flatten().filter(|(_, field)| !field.is_null()) {
        let known = value.entry(name).or_insert(Value::Null);
        if known.is_null() || is_smaller(known, field) {
            *known = field.clone();
        }
    }
    Ok(Resolution::value(Value::Object(value).to_string()))
}

/// 2^53 and its successor are the same, and so are 1 and 1.0: the first of them.
pub fn best_as_a_float(divergence: &Divergence) -> Answer {
    let score = |entry: &Map<String, Value>| entry.get("score").and_then(Value::as_f64);
    let mut all = objects(divergence)?.into_iter();
    let mut best = all.next().unwrap_or_default();
    for entry in all.filter(|entry| entry.contains_key("player")) {
        let order = score(&entry).partial_cmp(&score(&best));
        let player = |entry: &Map<String, Value>| entry.get("player").map(Value::to_string);
        let by_player = player(&entry) > player(&best);
        if order == Some(Ordering::Greater) || order == Some(Ordering::Equal) && by_player {
            best = entry;
        }
    }
    Ok(Resolution::value(Value::Object(best).to_string()))
}
