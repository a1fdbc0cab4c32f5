//! What the clients know: which writes were acknowledged, and what they replaced.
//!
//! The truth of this test, made of answers alone. A value is unique, so it names its write.
//!
//! - *Acknowledged* and replaced by nobody: it must be read at the end, alone or as a sibling.
//! - Replaced by an acknowledged put or delete whose writer had read it: it must be gone for good.
//! - Written or replaced with an unknown outcome: it may be there or not, but nothing else may.

use std::collections::{BTreeMap, BTreeSet};

/// What is known of one key.
#[derive(Debug, Clone, Default)]
struct Key {
    acknowledged: BTreeSet<String>,
    unknown: BTreeSet<String>,
    gone: BTreeSet<String>,
    perhaps_gone: BTreeSet<String>,
}

/// How an attempt to write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged.
    Done,
    /// Certainly not done.
    Nothing,
    /// Perhaps done.
    Unknown,
}

/// What is wrong with a key, as it was read at the end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    /// Acknowledged, replaced by nobody, and not there.
    pub lost: Vec<String>,
    /// Replaced or deleted with an acknowledgement, and there.
    pub revived: Vec<String>,
    /// Never written.
    pub invented: Vec<String>,
}

/// All keys.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    keys: BTreeMap<String, Key>,
}

impl Ledger {
    /// Somebody wrote `value` (`None`: deleted) under `key` in place of `replaced`.
    pub fn note(
        &mut self,
        key: &str,
        value: Option<&str>,
        replaced: &BTreeSet<String>,
        outcome: Outcome,
    ) {
        let known = self.keys.entry(key.to_owned()).or_default();
        let value = value.map(str::to_owned);
        match outcome {
            Outcome::Done => {
                known.acknowledged.extend(value);
                known.gone.extend(replaced.iter().cloned());
            }
            Outcome::Unknown => {
                known.unknown.extend(value);
                known.perhaps_gone.extend(replaced.iter().cloned());
            }
            Outcome::Nothing => {}
        }
    }

    /// The keys that begin with `prefix`.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.keys.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// What is wrong if `key` reads as `found`.
    pub fn judge(&self, key: &str, found: &BTreeSet<String>) -> Faults {
        let Some(known) = self.keys.get(key) else {
            return Faults { invented: found.iter().cloned().collect(), ..Faults::default() };
        };
        let may_miss =
            |value: &&String| known.gone.contains(*value) || known.perhaps_gone.contains(*value);
        let is_known =
            |value: &String| known.acknowledged.contains(value) || known.unknown.contains(value);
        let missing = known.acknowledged.difference(found).filter(|value| !may_miss(value));
        Faults {
            lost: missing.cloned().collect(),
            revived: found.intersection(&known.gone).cloned().collect(),
            invented: found.iter().filter(|value| !is_known(value)).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn a_ledger_tells_lost_revived_and_invented() {
        let mut ledger = Ledger::default();
        ledger.note("k", Some("a"), &set(&[]), Outcome::Done);
        ledger.note("k", Some("b"), &set(&[]), Outcome::Unknown);
        ledger.note("k", Some("c"), &set(&["a"]), Outcome::Done);
        ledger.note("k", None, &set(&["c"]), Outcome::Nothing);
        assert_eq!(ledger.judge("k", &set(&["c"])), Faults::default());
        assert_eq!(ledger.judge("k", &set(&["b", "c"])), Faults::default(), "perhaps written");
        assert_eq!(ledger.judge("k", &set(&["b"])).lost, ["c"]);
        assert_eq!(ledger.judge("k", &set(&["a", "c"])).revived, ["a"]);
        assert_eq!(ledger.judge("k", &set(&["c", "x"])).invented, ["x"]);
        ledger.note("k", None, &set(&["c"]), Outcome::Unknown);
        assert_eq!(ledger.judge("k", &set(&[])), Faults::default(), "perhaps deleted");
        ledger.note("k", None, &set(&["c"]), Outcome::Done);
        assert_eq!(ledger.judge("k", &set(&["c"])).revived, ["c"]);
    }
}
