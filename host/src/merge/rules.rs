//! Merges without code: the component that merges JSON by rules, with the rules of whoever asks.
//!
//! The component is built of `example-merges/json-rules` by `make rules` and comes with the program.
//! A static in it has room for a list of rules (`merge_rules::slot`). Here that is found by its head
//! and written, in a copy, so no compiler is needed where Stator runs. What comes of it is a module
//! like any other: it has a digest of its own, equal lists have equal digests, and it is checked,
//! compiled and tried as every module is.
//!
//! The committed file must be what its sources make. That would take a compiler to find out, so
//! beside it stands a hash over the sources, which a test compares.

use merge_rules::slot::{self, MAGIC, SLOT_BYTES};

pub use merge_rules::{BadRules, Rules};

/// The component, with room for rules.
const COMPONENT: &[u8] = include_bytes!("rules/json-rules.wasm");

/// What modules of rules are called, if nobody says otherwise.
pub const RULES_NAME: &str = "json-rules";
/// What each component of rules measures.
pub const RULES_COMPONENT_BYTES: usize = COMPONENT.len();

/// The component that merges by these rules.
pub fn component_of(rules: &Rules) -> Vec<u8> {
    let mut component = COMPONENT.to_vec();
    // A test sees to it that it has a place.
    if let Some(at) = place(&component) {
        component[at..at + SLOT_BYTES].copy_from_slice(&slot::filled(rules));
    }
    component
}

/// The rules by which a component merges; `None` if it is another module.
pub fn rules_of(component: &[u8]) -> Option<Rules> {
    let at = place(component)?;
    slot::read(|n| component[at + n]).ok()
}

/// Where the place for rules begins.
fn place(component: &[u8]) -> Option<usize> {
    let at = component.windows(MAGIC.len()).position(|bytes| bytes == MAGIC)?;
    (component.len() - at >= SLOT_BYTES).then_some(at)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_component_has_one_place_for_rules() {
        let heads = COMPONENT.windows(MAGIC.len()).filter(|bytes| *bytes == MAGIC);
        assert_eq!(heads.count(), 1);
        assert_eq!(rules_of(COMPONENT), Some(Rules::default()), "it comes without any");
        assert_eq!(rules_of(b"\0asm"), None);
    }

    #[test]
    fn what_is_written_is_read_back_and_all_else_stays() {
        let rules = Rules::read(["/qty=max", "/items=union"]).expect("rules");
        let component = component_of(&rules);
        assert_eq!(rules_of(&component), Some(rules.clone()));
        assert_eq!(component.len(), RULES_COMPONENT_BYTES);
        let differ = component.iter().zip(COMPONENT).filter(|(one, other)| one != other).count();
        assert!(differ <= rules.text().len() + 4, "{differ} bytes differ");
        let same = Rules::read(["/items=union", "/qty=max"]).expect("rules");
        assert_eq!(component_of(&same), component);
    }

    #[test]
    fn the_component_is_of_the_sources_that_are_here() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/merge/rules");
        let hash = Command::new(folder.join("sources")).output().expect("a shell");
        assert!(hash.status.success(), "{}", String::from_utf8_lossy(&hash.stderr));
        let noted = std::fs::read(folder.join("json-rules.sources")).expect("the noted hash");
        assert_eq!(
            String::from_utf8_lossy(&hash.stdout),
            String::from_utf8_lossy(&noted),
            "the sources of json-rules are not those of the committed component: run `make rules`"
        );
    }
}
