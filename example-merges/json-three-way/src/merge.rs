//! The three-way merge of one path, and of all below it.

use std::collections::{BTreeMap, BTreeSet};

use crate::json::Json;
use crate::{CONFLICTS_MAX, PATH_BYTES_MAX};

/// Where no change could be told to be the right one.
#[derive(Debug, Default)]
pub(crate) struct Conflicts {
    /// How many there were.
    pub(crate) count: usize,
    /// Their paths, as JSON pointers, in order: as many and as long as can be told.
    pub(crate) paths: Vec<String>,
    /// The path that is being merged.
    path: String,
}

/// Merges documents against `base`; without one, everything counts as changed and nothing as
/// removed.
pub(crate) fn merge(
    base: Option<&Json>,
    siblings: &[Option<&Json>],
    conflicts: &mut Conflicts,
) -> Json {
    let known = base.is_some();
    merge_path(known, base, siblings, conflicts).unwrap_or_else(Json::empty)
}

/// Merges one path. `None` is that there is nothing at it; `known` says whether the lack of
/// something in `base` means anything.
fn merge_path(
    known: bool,
    base: Option<&Json>,
    siblings: &[Option<&Json>],
    conflicts: &mut Conflicts,
) -> Option<Json> {
    let mut changed: Vec<Option<&Json>> = Vec::new();
    for sibling in siblings {
        let is_change = if known { *sibling != base } else { sibling.is_some() };
        if is_change && !changed.contains(sibling) {
            changed.push(*sibling);
        }
    }
    let present: Vec<&Json> = changed.iter().copied().flatten().collect();
    let objects: Vec<_> = present.iter().filter_map(|json| json.fields()).collect();
    match (changed.as_slice(), objects.as_slice()) {
        ([], _) => base.cloned(),
        ([only], _) => only.cloned(),
        (several, []) => {
            conflicts.add();
            debug_assert!(several.len() > 1);
            present.into_iter().max_by_key(strict_json::text).cloned()
        }
        (several, objects) => {
            if objects.len() < several.len() {
                conflicts.add();
            }
            let base = base.and_then(Json::fields);
            Some(Json::Object(merge_fields(known, base, objects, conflicts)))
        }
    }
}

fn merge_fields(
    known: bool,
    base: Option<&BTreeMap<String, Json>>,
    objects: &[&BTreeMap<String, Json>],
    conflicts: &mut Conflicts,
) -> BTreeMap<String, Json> {
    // A field of the base that no sibling has is removed by all of them.
    let names: BTreeSet<&String> = objects.iter().flat_map(|object| object.keys()).collect();
    let mut merged = BTreeMap::new();
    for name in names {
        let base = base.and_then(|fields| fields.get(name));
        let siblings: Vec<_> = objects.iter().map(|object| object.get(name)).collect();
        let above = conflicts.enter(name);
        if let Some(value) = merge_path(known, base, &siblings, conflicts) {
            merged.insert(name.clone(), value);
        }
        conflicts.path.truncate(above);
    }
    merged
}

impl Conflicts {
    fn add(&mut self) {
        self.count += 1;
        if self.paths.len() < CONFLICTS_MAX && self.path.len() <= PATH_BYTES_MAX {
            self.paths.push(self.path.clone());
        }
    }

    /// Goes down to a field and returns how long the path was.
    fn enter(&mut self, name: &str) -> usize {
        let above = self.path.len();
        self.path.push('/');
        self.path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        above
    }
}
