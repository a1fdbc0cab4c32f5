//! A union of words with a validator and a migration: since schema 2, words are lower case. The
//! validator refuses spaces and traps on `!`; it has neither sampler nor invariant.

use std::collections::BTreeSet;

use stator_guest::{Divergence, Failure, Merge, Migrate, Resolution, Subject, Validate, Version};

struct Words;

impl Merge for Words {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        let mut words = BTreeSet::new();
        for (sibling, version) in divergence.live() {
            if version.schema != Self::SCHEMA {
                return Err(Failure::unknown_schema(sibling, "not migrated"));
            }
            words.extend(guests::words(version.value.as_deref().unwrap_or_default()));
        }
        let text = words.into_iter().collect::<Vec<_>>().join(&b'\n');
        let note = format!("{} siblings", divergence.siblings.len());
        Ok(Resolution::value(text).with_note(note))
    }
}

impl Validate for Words {
    fn validate(subject: &Subject, candidate: &Version) -> Result<(), Failure> {
        let text = candidate.value.as_deref().unwrap_or_default();
        assert!(!text.contains(&b'!'), "the trap that the test asks for");
        if text.contains(&b' ') {
            let message = format!("no spaces in {}", subject.keyspace);
            return Err(Failure::malformed(0, message));
        }
        Ok(())
    }
}

impl Migrate for Words {
    const SCHEMA: u32 = 2;

    fn migrate(_: &Subject, old: Version) -> Result<Version, Failure> {
        if old.value.as_deref() == Some(b"?") {
            return Err(Failure::malformed(0, "a question"));
        }
        let value = old.value.map(|text| text.to_ascii_lowercase());
        Ok(Version { value, schema: Self::SCHEMA, ..old })
    }
}

stator_guest::export!(Words, validator, migration);
