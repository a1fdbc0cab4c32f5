//! The merge of one place, and of all below it.

use std::collections::{BTreeMap, BTreeSet};

use merge_rules::{Choice, Place, Rule};
use stator_guest::Failure;

use crate::choose::{self, refuse};
use crate::json::Json;

/// What stands at a place in a sibling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written<'a> {
    pub(crate) json: &'a Json,
    pub(crate) at_ms: u64,
}

impl<'a> Written<'a> {
    fn member(self, name: &str) -> Option<Written<'a>> {
        self.json.member(name).map(|json| Written { json, ..self })
    }
}

/// What stood at a place in the common ancestor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Base<'a> {
    Unknown,
    Known(Option<&'a Json>),
}

/// Merges one place. `above` is the rule that comes down to it, should it have none of its own;
/// `siblings` are those whose object has this place, with nothing for one that lacks it.
pub(crate) fn merge(
    place: &Place<'_>,
    above: Option<Rule>,
    path: &mut String,
    base: Base<'_>,
    siblings: &[Option<Written<'_>>],
) -> Result<Option<Json>, Failure> {
    let rule = place.rule().or(above);
    let present: Vec<Written<'_>> = siblings.iter().flatten().copied().collect();
    if present.is_empty() || is_removed(rule, base, siblings.len(), &present) {
        return Ok(None);
    }
    if !place.takes_whole() && present.iter().all(|written| written.json.members().is_some()) {
        return merge_members(place, rule, path, base, &present).map(Some);
    }
    let choose = |choice, of: &[Written<'_>]| choose::by(choice, path, of);
    let merged = match (rule, base) {
        (Some(Rule::Plain(choice)), _) => choose(choice, &present),
        (Some(Rule::Sum), _) => choose::sum(path, &present),
        (Some(Rule::ThreeWay(choice)), Base::Unknown) => choose(choice, &present),
        (Some(Rule::ThreeWay(choice)), Base::Known(base)) => {
            let is_changed = |written: &Written<'_>| Some(written.json) != base;
            let changed: Vec<_> = present.iter().copied().filter(is_changed).collect();
            choose(choice, if changed.is_empty() { &present } else { &changed })
        }
        (None, _) => undecided(path, &present),
    };
    merged.map(Some)
}

/// Removals are seen by `three-way` alone: some have taken it out, and no one has changed it.
fn is_removed(
    rule: Option<Rule>,
    base: Base<'_>,
    siblings: usize,
    present: &[Written<'_>],
) -> bool {
    let (Some(Rule::ThreeWay(_)), Base::Known(Some(base))) = (rule, base) else { return false };
    present.len() < siblings && present.iter().all(|written| written.json == base)
}

fn merge_members(
    place: &Place<'_>,
    rule: Option<Rule>,
    path: &mut String,
    base: Base<'_>,
    present: &[Written<'_>],
) -> Result<Json, Failure> {
    let objects = present.iter().filter_map(|written| written.json.members());
    let names: BTreeSet<&String> = objects.flat_map(BTreeMap::keys).collect();
    let mut merged = BTreeMap::new();
    for name in names {
        let base = match base {
            Base::Unknown => Base::Unknown,
            Base::Known(base) => Base::Known(base.and_then(|base| base.member(name))),
        };
        let siblings: Vec<_> = present.iter().map(|written| written.member(name)).collect();
        let above = path.len();
        path.push('/');
        path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        if let Some(value) = merge(&place.enter(name), rule, path, base, &siblings)? {
            merged.insert(name.clone(), value);
        }
        path.truncate(above);
    }
    Ok(Json::Object(merged))
}

/// Without a rule only what is the same everywhere is known.
fn undecided(path: &str, present: &[Written<'_>]) -> Result<Json, Failure> {
    let first = present[0].json;
    if present.iter().all(|written| written.json == first) {
        return Ok(first.clone());
    }
    let why = format!(
        "differs, and has no rule: add one for it, or one for all that has none, such as `={}`",
        Choice::LastWrite.word()
    );
    Err(refuse(path, &why))
}
