//! A merge module that is tried beside the one that a keyspace is pinned to.
//!
//! As a *shadow* it merges what the pinned module merges, and what it makes is only compared. As a
//! *canary* it merges in place of the pinned module, for a share of the keys; the pinned one runs
//! beside it, for comparison. Which keys is decided by a hash of key and candidate, alike on every
//! node: a key is in the share or not, whoever merges it, and a larger share holds all of a
//! smaller one.
//!
//! A trial is part of the catalogue, so that it reaches every node as a keyspace does, and ends at
//! every node when one of them finds it beyond its limits. Two that are begun at the same time join
//! like other changes: one stands.
//!
//! Left out: several trials of a keyspace at a time.

use serde::{Deserialize, Serialize};

use crate::id::ModuleDigest;

/// How many shares of the keys are told apart.
const SHARES: u64 = 100;

/// A module on trial.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Trial {
    /// The candidate.
    pub module: ModuleDigest,
    /// What is done with what it makes.
    pub kind: TrialKind,
    /// When it began: milliseconds since 1970 (UTC).
    pub began_at_ms: u64,
}

/// What is done with what a candidate makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialKind {
    /// It is compared.
    Shadow,
    /// For a share of the keys it is what counts.
    Canary {
        /// Of a hundred keys, how many: 1 to 100.
        percent: u32,
        /// When to end it.
        limits: CanaryLimits,
    },
}

/// When a canary is rolled back. Each node judges by what it has merged itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CanaryLimits {
    /// Merges at which it failed and the pinned module did not.
    pub failures: u64,
    /// Of a hundred merges, at how many the two may differ.
    pub differing_percent: u64,
    /// Its fuel, in percent of the pinned module's.
    pub fuel_percent: u64,
    /// The bytes that it makes, in percent of the pinned module's.
    pub bytes_percent: u64,
}

impl Default for CanaryLimits {
    fn default() -> Self {
        CanaryLimits { failures: 0, differing_percent: 100, fuel_percent: 400, bytes_percent: 200 }
    }
}

impl Trial {
    /// The candidate, if `key` is in the share in which it counts.
    pub fn module_of(&self, key: &[u8]) -> Option<ModuleDigest> {
        match self.kind {
            TrialKind::Shadow => None,
            TrialKind::Canary { percent, .. } => {
                (self.share_of(key) < u64::from(percent)).then_some(self.module)
            }
        }
    }

    /// Whether both modules are to merge `key`, so that they can be compared.
    pub fn compares(&self, key: &[u8]) -> bool {
        self.kind == TrialKind::Shadow || self.module_of(key).is_some()
    }

    fn share_of(&self, key: &[u8]) -> u64 {
        let mut hasher = blake3::Hasher::new_derive_key("stator canary v1");
        hasher.update(&self.module.0).update(key);
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_be_bytes(first) % SHARES
    }
}

/// What a node has seen of a trial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrialFigures {
    /// Merges that both have made.
    pub merges: u64,
    /// Those at which the candidate failed and the pinned module did not.
    pub failures: u64,
    /// Those at which the pinned module failed and the candidate did not.
    pub mended: u64,
    /// Those of which they made different things.
    pub differing: u64,
    /// Fuel of the candidate and of the pinned module, where neither failed.
    pub fuel: [u64; 2],
    /// Bytes that they made, likewise.
    pub bytes: [u64; 2],
}

/// How many merges there must be before a share or a ratio is judged.
pub const JUDGED_FROM: u64 = 20;

impl TrialFigures {
    /// What is beyond the limits, in words.
    pub fn beyond(&self, limits: &CanaryLimits) -> Option<String> {
        if self.failures > limits.failures {
            return Some(format!(
                "it failed at {} of {} merges at which the pinned module did not; the limit is {}",
                self.failures, self.merges, limits.failures
            ));
        }
        if self.merges < JUDGED_FROM {
            return None;
        }
        let percent = |part: u64, whole: u64| part.saturating_mul(100) / whole.max(1);
        let differing = percent(self.differing, self.merges);
        if differing > limits.differing_percent {
            return Some(format!(
                "{differing} % of {} merges came out other than the pinned module's; the limit is {} %",
                self.merges, limits.differing_percent
            ));
        }
        let measures =
            [("fuel", self.fuel, limits.fuel_percent), ("bytes", self.bytes, limits.bytes_percent)];
        measures.into_iter().find_map(|(name, [candidate, pinned], limit)| {
            let found = percent(candidate, pinned);
            (found > limit).then(|| {
                format!("its {name} are {found} % of the pinned module's; the limit is {limit} %")
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(percent: u32) -> Trial {
        let kind = TrialKind::Canary { percent, limits: CanaryLimits::default() };
        Trial { module: ModuleDigest([3; 32]), kind, began_at_ms: 0 }
    }

    #[test]
    fn a_share_is_about_as_large_as_it_says_and_holds_smaller_ones() {
        let keys: Vec<_> = (0..10_000).map(|n: u32| n.to_be_bytes()).collect();
        let share = |percent| {
            let trial = canary(percent);
            keys.iter().filter(|key| trial.module_of(*key).is_some()).collect::<Vec<_>>()
        };
        let (five, twenty) = (share(5), share(20));
        assert!((400..600).contains(&five.len()) && (1_800..2_200).contains(&twenty.len()));
        assert!(five.iter().all(|key| twenty.contains(key)));
        assert_eq!(share(100).len(), keys.len());
        let shadow = Trial { kind: TrialKind::Shadow, ..canary(1) };
        assert_eq!(shadow.module_of(b"key"), None);
    }

    #[test]
    fn a_failure_is_judged_at_once_and_a_ratio_after_some_merges() {
        let limits = CanaryLimits { differing_percent: 10, ..CanaryLimits::default() };
        let failed = TrialFigures { merges: 1, failures: 1, ..TrialFigures::default() };
        assert!(failed.beyond(&limits).is_some_and(|why| why.contains("failed at 1 of 1")));
        let differing =
            |merges| TrialFigures { merges, differing: merges / 2, ..Default::default() };
        assert_eq!(differing(19).beyond(&limits), None);
        assert!(differing(20).beyond(&limits).is_some_and(|why| why.starts_with("50 %")));
        let fuel =
            TrialFigures { merges: 20, fuel: [401, 100], bytes: [1, 1], ..Default::default() };
        assert!(fuel.beyond(&limits).is_some_and(|why| why.contains("fuel are 401 %")));
        let alike = TrialFigures { merges: 20, fuel: [1, 1], bytes: [1, 1], ..Default::default() };
        assert_eq!(alike.beyond(&limits), None);
    }
}
