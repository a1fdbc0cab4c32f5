//! JSON documents, merged by a rule per path, for those who write no code.
//!
//! The rules are data of the component: `stator keyspace create --reconcile json --rule …` takes
//! this module out of the program, writes the rules into it, and pushes what comes of it, a module
//! like any other with a digest of its own. Which rules there are, how they are written and which
//! one holds where is told in `merge-rules`.
//!
//! # What the merge does
//! It begins with the whole documents and goes down by name, as long as all siblings that have
//! something at a place have objects there. So what is in any sibling is in the result: objects
//! are merged member by member. Where there is no object, or a rule takes what is there whole, the
//! rule decides; without one, siblings that differ are refused with the path. A refusal keeps the
//! siblings, and is tried again when the keyspace gets other rules.
//!
//! | rule | two siblings | result |
//! |---|---|---|
//! | `union` | `[2,1]`, `[3,2]` | `[1,2,3]` |
//! | `max` | `7`, `12` | `12`; texts by their UTF-8 bytes |
//! | `sum` | `{"phone":3}`, `{"phone":2,"web":4}` | `{"phone":3,"web":4}` |
//! | `last-write` | `"a"` at 5, `"b"` at 4 | `"a"`; of the same time the larger JSON text |
//! | `three-way:max` | `7`, `9`, made of `7` | `9`, the one that was changed |
//!
//! **sum** is a grow-only counter: each writer raises its own number, and nobody else's. Readers add
//! the numbers up; the merge does not, for what it counted once it would count again with the next.
//! Two devices need two names: under one name, of two increments at once only the larger counts.
//!
//! **three-way** compares with the common ancestor, where the keyspace keeps it (`--ancestor`). Who
//! has what the ancestor had did not change it. If one did, that counts; if several did and differ,
//! or the ancestor is not known, the rule behind it decides. It is the only rule under which a
//! member goes: it is left out if a sibling left it out and none changed it.
//!
//! # What may fold
//! `union`, `max`, `min` and `sum` are joins, as long as clients keep to them: elements are added,
//! numbers raised, or lowered under `min`. What a client takes back comes back from a sibling that
//! has it still. `last-write` breaks the derived law, for the clocks of nodes differ, and
//! `three-way` needs what a fold no longer has: with them the merge stays a view.
//!
//! # Deletes
//! A deleted key (a tombstone among the siblings) removes nothing from a document that was written
//! at the same time: that document stays whole.
//!
//! # Limits
//! Documents are nested at most [`merge_rules::DEPTH_MAX`] deep. Numbers are kept to the last
//! digit; equal ones get one form, so `1.0` becomes `1`. Names that an object has twice are
//! refused. Schema numbers are the clients' own and not looked at.
//!
//! # Left out
//! Rules for places in arrays, and arrays whose elements are merged by an id: give such elements
//! names instead. Events that tell of conflicts, as `json-three-way` has them.

mod checks;
mod choose;
mod decimal;
mod json;
mod merge;
mod parse;

use merge_rules::{BadRules, Rules, slot};
use stator_guest::{Ancestor, Divergence, Failure, Invariant, Merge, Outcome, Random, Resolution};
use stator_guest::{Sample, Version};

pub use checks::{preserves, sample};
pub use decimal::Decimal;
pub use json::Json;
pub use parse::parse;

use merge::{Base, Written};

/// The place of the rules in the component. The command line writes them into a copy.
#[used]
static SLOT: [u8; slot::SLOT_BYTES] = slot::empty();

/// The rules of this component.
fn rules() -> Result<Rules, BadRules> {
    // SAFETY: the pointer is that of a byte of the static, or the index would have panicked. The
    // read is volatile because the bytes are others than those that the compiler has seen.
    slot::read(|at| unsafe { (&raw const SLOT[at]).read_volatile() })
}

/// The module.
pub struct JsonRules;

impl Merge for JsonRules {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let rules = rules().map_err(|why| {
            Failure::unresolvable(format!("the rules in this component cannot be read: {why}"))
        })?;
        merge(&rules, divergence)
    }
}

impl Sample for JsonRules {
    fn sample(random: &mut Random) -> Divergence {
        sample(&rules().unwrap_or_default(), random)
    }
}

impl Invariant for JsonRules {
    fn preserves(before: &Divergence, after: &Outcome) -> Result<(), String> {
        preserves(&rules().unwrap_or_default(), before, after)
    }
}

/// Merges by these rules.
///
/// # Errors
/// A sibling or the ancestor cannot be read, or a place has no merge: which one, and why.
pub fn merge(rules: &Rules, divergence: &Divergence) -> Result<Resolution, Failure> {
    let documents = divergence
        .live()
        .map(|(sibling, version)| {
            let json = parse(version.value.as_deref().unwrap_or_default());
            let json = json.map_err(|why| Failure::malformed(sibling, why))?;
            Ok((json, version.written_at_ms))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let ancestor = ancestor(rules, &divergence.ancestor)?;
    let base = match &ancestor {
        None => Base::Unknown,
        Some(known) => Base::Known(known.as_ref()),
    };
    let siblings: Vec<_> =
        documents.iter().map(|(json, at_ms)| Some(Written { json, at_ms: *at_ms })).collect();
    let merged = merge::merge(&rules.top(), None, &mut String::new(), base, &siblings)?;
    Ok(merged.map_or_else(Resolution::delete, |json| Resolution::value(json.text())))
}

/// What the siblings were made of: `None` if that is not known, or no rule asks.
fn ancestor(rules: &Rules, ancestor: &Ancestor) -> Result<Option<Option<Json>>, Failure> {
    match ancestor {
        _ if !rules.use_ancestor() => Ok(None),
        Ancestor::Unknown => Ok(None),
        Ancestor::Absent | Ancestor::Known(Version { value: None, .. }) => Ok(Some(None)),
        Ancestor::Known(Version { value: Some(value), .. }) => match parse(value) {
            Ok(json) => Ok(Some(Some(json))),
            Err(why) => Err(Failure::unresolvable(format!("the ancestor cannot be read: {why}"))),
        },
    }
}

stator_guest::export!(JsonRules, sampler, invariant);
