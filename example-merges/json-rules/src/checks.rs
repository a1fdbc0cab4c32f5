//! What the checks of the merge laws need: documents as clients write them who keep to the rules,
//! and what a merge by the rules must not lose.

use std::collections::BTreeMap;

use merge_rules::{Choice, Listed, Place, Rule, Rules, Step};
use stator_guest::{Divergence, Outcome, Random};

use crate::decimal::Decimal;
use crate::json::Json;
use crate::parse::parse;

/// Few names, so that edits meet.
const NAMES: [&str; 3] = ["ant", "bee", "cat"];
/// Where numbers begin that only sink.
const TOP: u64 = 10_000;

/// What is the same all over a history, as no client mixes kinds at one place.
#[derive(Clone, Copy)]
struct Style {
    /// Whether values are texts, or else numbers.
    texts: bool,
    /// Whether they stand in objects where a rule goes on below.
    deep: bool,
}

/// Clients that have read the same document, each with a few edits.
pub fn sample(rules: &Rules, random: &mut Random) -> Divergence {
    let style = Style { texts: random.chance(1, 4), deep: random.chance(1, 4) };
    let mut base = Json::Object(BTreeMap::new());
    edit(rules, &mut base, "base", style, random);
    let writers: Vec<_> = (0..2 + random.below(2)).map(|n| format!("writer-{n}")).collect();
    let edits = writers.iter().map(|writer| {
        let mut document = base.clone();
        edit(rules, &mut document, writer, style, random);
        document.text()
    });
    let edits: Vec<_> = edits.collect();
    Divergence::of_edits(base.text(), edits)
}

fn edit(rules: &Rules, document: &mut Json, writer: &str, style: Style, random: &mut Random) {
    let Style { texts, deep } = style;
    if rules.listed().is_empty() {
        return;
    }
    for _ in 0..1 + random.below(5) {
        let listed = random.pick(rules.listed());
        let mut path = path(listed, deep, random);
        if !holds(rules, listed, &path) {
            continue;
        }
        let Some(last) = path.pop() else { continue };
        let Some(members) = reach(document, &path) else { continue };
        if matches!(listed.rule, Rule::ThreeWay(_)) && random.chance(1, 4) {
            members.remove(&last);
            continue;
        }
        let known = members.get(&last);
        let kept = match listed.rule {
            Rule::Plain(Choice::Union) => added(known, texts, random),
            Rule::Plain(Choice::Max) => raised(known, texts, random),
            Rule::Plain(Choice::Min) => lowered(known, texts, random),
            Rule::Sum => counted(known, writer, random),
            Rule::Plain(Choice::LastWrite) => value(random.chance(1, 2), random),
            // What the rule behind it takes in any case.
            Rule::ThreeWay(Choice::Union) => added(None, texts, random),
            Rule::ThreeWay(_) => value(texts, random),
        };
        members.insert(last, kept);
    }
}

/// Whether it is this rule that holds there: another may be the more specific one, take whole what
/// is above, or want an object here.
fn holds(rules: &Rules, listed: &Listed, path: &[String]) -> bool {
    let mut place = rules.top();
    for name in path {
        if place.takes_whole() {
            return false;
        }
        place = place.enter(name);
    }
    place.rule().is_none_or(|rule| rule == listed.rule) && place.is_lowest()
}

/// A place where this rule may hold. That of the default is at the top or below.
fn path(listed: &Listed, deep: bool, random: &mut Random) -> Vec<String> {
    let mut name = || (*random.pick(&NAMES)).to_owned();
    let named = listed.steps().iter().map(|step| match step {
        Step::Name(name) => name.clone(),
        Step::Any => name(),
    });
    let mut path: Vec<_> = named.collect();
    let goes_on = deep && (!listed.rule.takes_whole() || path.is_empty());
    for _ in 0..usize::from(path.is_empty()) + usize::from(goes_on) {
        path.push((*random.pick(&NAMES)).to_owned());
    }
    path
}

/// The members of the object at `path`, which is made where nothing is.
fn reach<'a>(document: &'a mut Json, path: &[String]) -> Option<&'a mut BTreeMap<String, Json>> {
    let Json::Object(members) = document else { return None };
    match path.split_first() {
        None => Some(members),
        Some((name, rest)) => {
            let below = members.entry(name.clone()).or_insert(Json::Object(BTreeMap::new()));
            reach(below, rest)
        }
    }
}

fn number(number: u64) -> Json {
    Json::Number(Decimal::from(number))
}

fn value(text: bool, random: &mut Random) -> Json {
    if text {
        Json::String((*random.pick(&NAMES)).to_owned())
    } else {
        number(random.below(1_000).into())
    }
}

fn added(known: Option<&Json>, texts: bool, random: &mut Random) -> Json {
    let mut items = match known {
        Some(Json::Array(items)) => items.clone(),
        Some(other) => return other.clone(),
        None => Vec::new(),
    };
    let item = value(texts, random);
    if !items.contains(&item) {
        items.push(item);
    }
    Json::Array(items)
}

fn small(known: &Decimal) -> u64 {
    known.to_string().parse().unwrap_or_default()
}

fn raised(known: Option<&Json>, texts: bool, random: &mut Random) -> Json {
    match known {
        Some(Json::Number(known)) => number(small(known) + 1 + u64::from(random.below(1_000))),
        Some(Json::String(text)) => Json::String(format!("{text}{}", random.pick(&NAMES))),
        Some(other) => other.clone(),
        None => value(texts, random),
    }
}

fn lowered(known: Option<&Json>, texts: bool, random: &mut Random) -> Json {
    match known {
        Some(Json::Number(known)) => {
            number(small(known).saturating_sub(1 + u64::from(random.below(1_000))))
        }
        Some(Json::String(text)) => {
            let mut text = text.clone();
            text.pop();
            Json::String(text)
        }
        Some(other) => other.clone(),
        None if texts => Json::String([(); 4].map(|()| *random.pick(&NAMES)).concat()),
        None => number(TOP + u64::from(random.below(1_000))),
    }
}

fn counted(known: Option<&Json>, writer: &str, random: &mut Random) -> Json {
    let mut counts = known.and_then(Json::members).cloned().unwrap_or_default();
    let count = match counts.get(writer) {
        Some(Json::Number(known)) => small(known),
        _ => 0,
    };
    counts.insert(writer.to_owned(), number(count + 1 + u64::from(random.below(5))));
    Json::Object(counts)
}

/// Whether what the siblings hold is in the merged document, as far as the rules promise it.
///
/// # Errors
/// What is lost.
pub fn preserves(rules: &Rules, before: &Divergence, after: &Outcome) -> Result<(), String> {
    let documents: Vec<Json> = before.values().filter_map(|(_, json)| parse(json).ok()).collect();
    let after = match after {
        Outcome::Value(json) => parse(json)?,
        Outcome::Delete if documents.is_empty() => return Ok(()),
        _ => return Err("there is no document any more".to_owned()),
    };
    let mut documents = documents.iter();
    documents
        .try_for_each(|before| kept(&rules.top(), None, &mut String::new(), before, Some(&after)))
}

fn kept(
    place: &Place<'_>,
    above: Option<Rule>,
    path: &mut String,
    before: &Json,
    after: Option<&Json>,
) -> Result<(), String> {
    let rule = place.rule().or(above);
    // What was changed counts, and that may be a removal.
    if matches!(rule, Some(Rule::ThreeWay(_))) {
        return Ok(());
    }
    let Some(after) = after else { return Err(format!("`{path}` is lost")) };
    let whole = place.takes_whole();
    let (Some(members), Some(found), false) = (before.members(), after.members(), whole) else {
        return if keeps(rule, before, after) {
            Ok(())
        } else {
            Err(format!("`{path}`: of {} there is {}", before.text(), after.text()))
        };
    };
    members.iter().try_for_each(|(name, member)| {
        let above = path.len();
        path.push('/');
        path.push_str(name);
        kept(&place.enter(name), rule, path, member, found.get(name))?;
        path.truncate(above);
        Ok(())
    })
}

/// Whether the outcome of a rule has in it what it was made of.
fn keeps(rule: Option<Rule>, before: &Json, after: &Json) -> bool {
    match (rule, before, after) {
        (Some(Rule::Plain(Choice::Union)), Json::Array(before), Json::Array(after)) => {
            before.iter().all(|item| after.contains(item))
        }
        (Some(Rule::Plain(Choice::Max)), _, _) => after >= before,
        (Some(Rule::Plain(Choice::Min)), _, _) => after <= before,
        (Some(Rule::Sum), Json::Object(before), Json::Object(after)) => {
            let reaches = |(writer, count)| after.get(writer).is_some_and(|after| after >= count);
            before.iter().all(reaches)
        }
        (None | Some(Rule::Plain(Choice::Union) | Rule::Sum), _, _) => before == after,
        (Some(Rule::Plain(Choice::LastWrite) | Rule::ThreeWay(_)), _, _) => true,
    }
}
