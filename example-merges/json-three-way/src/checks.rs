//! What the checks of the merge laws need: samples, and what a merge must not lose.

use serde_json::Number;
use stator_guest::{Divergence, Invariant, Outcome, Random, Sample};

use crate::json::{self, Json};
use crate::{JsonThreeWay, ancestor};

/// Few names, so that edits meet.
const NAMES: [&str; 3] = ["price", "tags", "title"];

impl Sample for JsonThreeWay {
    /// People who have read the same document, each with a few edits.
    fn sample(random: &mut Random) -> Divergence {
        let mut base = Json::empty();
        edit(&mut base, random);
        let edits: Vec<_> = (0..2 + random.below(2))
            .map(|_| {
                let mut document = base.clone();
                edit(&mut document, random);
                strict_json::text(&document)
            })
            .collect();
        Divergence::of_edits(strict_json::text(&base), edits)
    }
}

/// Sets and removes fields at the top and one level below.
fn edit(document: &mut Json, random: &mut Random) {
    for _ in 0..random.below(4) {
        let mut place = &mut *document;
        if random.chance(1, 2) {
            let Json::Object(fields) = place else { return };
            place = fields.entry("more".to_owned()).or_insert_with(Json::empty);
        }
        let Json::Object(fields) = place else { return };
        let name = *random.pick(&NAMES);
        if random.chance(1, 4) {
            fields.remove(name);
        } else {
            fields.insert(name.to_owned(), Json::Number(Number::from(random.below(20))));
        }
    }
}

impl Invariant for JsonThreeWay {
    /// No new field of the document is lost. With an unknown ancestor every field is new.
    fn preserves(before: &Divergence, after: &Outcome) -> Result<(), String> {
        let documents: Vec<Json> = before
            .live()
            .filter_map(|(sibling, version)| json::read(sibling, version).ok())
            .collect();
        let after: Json = match after {
            Outcome::Value(json) => strict_json::parse(json)?,
            Outcome::Delete if documents.is_empty() => return Ok(()),
            _ => return Err("there is no document any more".to_owned()),
        };
        let base = ancestor(&before.ancestor).map_err(|why| why.message)?;
        let has = |document: Option<&Json>, name: &str| {
            document.and_then(Json::fields).is_some_and(|fields| fields.contains_key(name))
        };
        let names = documents.iter().filter_map(Json::fields).flat_map(|fields| fields.keys());
        let mut new = names.filter(|name| !has(base.as_ref(), name));
        match new.find(|name| !has(Some(&after), name)) {
            Some(name) => Err(format!("the new field `{name}` is lost")),
            None => Ok(()),
        }
    }
}
