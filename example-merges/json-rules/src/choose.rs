//! How different values of one place become one, or why they do not.
//!
//! Where all siblings have the same value there is nothing to decide, whatever its kind. Else a
//! value of a kind that the rule is not made for is refused, with its path: to pass it over would
//! lose it.

use std::collections::{BTreeMap, BTreeSet};

use merge_rules::{Choice, Rule};
use stator_guest::Failure;

use crate::decimal::Decimal;
use crate::json::Json;
use crate::merge::Written;

/// The longest path that a refusal repeats.
const PATH_CHARS_MAX: usize = 200;

/// Decides by the values alone.
pub(crate) fn by(choice: Choice, path: &str, present: &[Written<'_>]) -> Result<Json, Failure> {
    match choice {
        Choice::Union => union(path, present),
        Choice::Max => of_one_kind(choice, path, present, |values| values.max()),
        Choice::Min => of_one_kind(choice, path, present, |values| values.min()),
        Choice::LastWrite => {
            let last = present.iter().max_by(|one, other| {
                let texts = || one.json.text().cmp(&other.json.text());
                one.at_ms.cmp(&other.at_ms).then_with(texts)
            });
            Ok(last.map_or(Json::Null, |written| written.json.clone()))
        }
    }
}

fn union(path: &str, present: &[Written<'_>]) -> Result<Json, Failure> {
    let arrays = present.iter().map(|written| match written.json {
        Json::Array(items) => Some(items),
        _ => None,
    });
    let Some(arrays) = arrays.collect::<Option<Vec<_>>>() else {
        let rule = Rule::Plain(Choice::Union);
        return same(present).ok_or_else(|| wrong_kind(rule, "of arrays", path, present));
    };
    let set: BTreeSet<&Json> = arrays.into_iter().flatten().collect();
    Ok(Json::Array(set.into_iter().cloned().collect()))
}

/// One of the values, which must be numbers all or texts all.
fn of_one_kind<'a>(
    choice: Choice,
    path: &str,
    present: &[Written<'a>],
    choose: impl Fn(&mut dyn Iterator<Item = &'a Json>) -> Option<&'a Json>,
) -> Result<Json, Failure> {
    let are = |is: fn(&Json) -> bool| present.iter().all(|written| is(written.json));
    let fits =
        are(|json| matches!(json, Json::Number(_))) || are(|json| matches!(json, Json::String(_)));
    let chosen = choose(&mut present.iter().map(|written| written.json));
    match chosen.filter(|_| fits) {
        Some(chosen) => Ok(chosen.clone()),
        None => same(present).ok_or_else(|| {
            wrong_kind(Rule::Plain(choice), "of numbers, or of texts", path, present)
        }),
    }
}

/// The largest number of each writer.
pub(crate) fn sum(path: &str, present: &[Written<'_>]) -> Result<Json, Failure> {
    let mut largest: BTreeMap<&String, &Decimal> = BTreeMap::new();
    for written in present {
        let members = written.json.members().map(|members| members.iter());
        let Some(members) = members else {
            return same(present).ok_or_else(|| wrong_kind(Rule::Sum, SUM_OF, path, present));
        };
        for (writer, number) in members {
            match number {
                Json::Number(number) if !number.is_negative() => {
                    let known = largest.entry(writer).or_insert(number);
                    *known = number.max(*known);
                }
                other => {
                    let why = format!("sum is {SUM_OF}, and `{writer}` has {}", other.text());
                    return same(present).ok_or_else(|| refuse(path, &why));
                }
            }
        }
    }
    let entry =
        |(writer, number): (&String, &Decimal)| (writer.clone(), Json::Number(number.clone()));
    Ok(Json::Object(largest.into_iter().map(entry).collect()))
}

const SUM_OF: &str = "of an object that has for each writer a number from 0";

/// The value, if all have the same.
fn same(present: &[Written<'_>]) -> Option<Json> {
    let first = present.first()?.json;
    present.iter().all(|written| written.json == first).then(|| first.clone())
}

fn wrong_kind(rule: Rule, of: &str, path: &str, present: &[Written<'_>]) -> Failure {
    let kinds: BTreeSet<_> = present.iter().map(|written| written.json.kind()).collect();
    let kinds = kinds.into_iter().collect::<Vec<_>>().join(" and ");
    refuse(path, &format!("{rule} is {of}, and there is {kinds}"))
}

/// What is said of a place that cannot be merged.
pub(crate) fn refuse(path: &str, why: &str) -> Failure {
    let (shown, more) = match path.char_indices().nth(PATH_CHARS_MAX) {
        Some((end, _)) => (&path[..end], "…"),
        None => (path, ""),
    };
    Failure::unresolvable(format!("`{shown}{more}`: {why}"))
}
