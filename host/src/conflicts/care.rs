//! The care for a keyspace's merges: budgets and pauses.
//!
//! *Budget.* A keyspace may bound the merges and the fuel of each second, and the memory that its
//! merges have at a time ([`stator_core::catalogue::Merging`]). What is not used of a second is saved
//! for one more at most, and the fuel of a merge is taken when it is known, so that one large merge
//! delays those after it. Of memory a merge is counted with the most that its module has needed so
//! far ([`Held`]); the host stops one that wants more than the whole budget. A merge beyond the
//! budget is not refused for good: its reader gets the siblings, and it is made behind when its turn
//! comes, so that the next reader finds it remembered.
//!
//! *Pause.* A module that fails so many times in a row rests in that keyspace on this node, until
//! another module is activated or [`REST`] has passed; then one merge tries it again. What is
//! remembered is answered meanwhile. Failures in which the node is at fault are not counted.
//!
//! Each node judges by itself, in memory: a restart begins anew.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stator_core::catalogue::{Catalogue, Keyspace, Merging};
use stator_core::divergence::MergeFailure;
use stator_core::id::{KeyspaceId, ModuleDigest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a module rests.
pub const REST: Duration = Duration::from_secs(30);
/// Merges beyond a budget that wait to be made behind, on a node; of more the next reader asks again.
const BEHIND_MAX: usize = 64;

/// What the keyspaces of a node have used.
pub(super) struct Care {
    used: Mutex<HashMap<KeyspaceId, Used>>,
    behind: Arc<Semaphore>,
}

struct Used {
    merges: Bucket,
    fuel: Bucket,
    /// Bytes that merges hold which run now.
    memory: Arc<AtomicU64>,
    failing: HashMap<ModuleDigest, Failing>,
}

/// What a merge is counted with while it runs.
#[derive(Debug)]
pub(super) struct Held {
    memory: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.fetch_sub(self.bytes, Relaxed);
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Failing {
    in_a_row: u32,
    rests_until: Option<Instant>,
}

impl Care {
    pub(super) fn new() -> Self {
        Care { used: Mutex::default(), behind: Arc::new(Semaphore::new(BEHIND_MAX)) }
    }

    fn used(&self) -> MutexGuard<'_, HashMap<KeyspaceId, Used>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `module`, which may need so many bytes, may be called for `keyspace` now.
    pub(super) fn admit(
        &self,
        keyspace: &Keyspace,
        (module, needed_bytes): (&ModuleDigest, u64),
        now: Instant,
    ) -> Result<Held, MergeFailure> {
        let merging = &keyspace.merging.value;
        if merging.paused && keyspace.previous_module() != Some(*module) {
            return Err(MergeFailure::PausedByOperator);
        }
        let mut all = self.used();
        let used = all.entry(keyspace.id).or_insert_with(|| Used::new(now));
        used.rests(module, merging, now)?;
        used.within(merging, needed_bytes, now)
    }

    /// A merge has ended: with its fuel, and whether the module failed.
    pub(super) fn ended(
        &self,
        keyspace: &Keyspace,
        module: &ModuleDigest,
        (fuel, failed): (u64, bool),
        now: Instant,
    ) {
        let pause_after = keyspace.merging.value.pause_after;
        let mut all = self.used();
        let Some(used) = all.get_mut(&keyspace.id) else { return };
        used.fuel.take(fuel);
        if !failed {
            used.failing.remove(module);
            return;
        }
        let failing = used.failing.entry(*module).or_default();
        failing.in_a_row = failing.in_a_row.saturating_add(1);
        if pause_after > 0 && failing.in_a_row >= pause_after {
            let (keyspace, failures) = (&keyspace.name, failing.in_a_row);
            let seconds = REST.as_secs();
            tracing::warn!(keyspace, %module, failures, seconds, "the module is paused here: it failed too often in a row");
            failing.rests_until = Some(now + REST);
        }
    }

    /// Room for a merge that is made behind, if there is some.
    pub(super) fn behind(&self) -> Option<OwnedSemaphorePermit> {
        self.behind.clone().try_acquire_owned().ok()
    }

    /// The modules that rest now, with their failures in a row.
    pub(super) fn resting(&self, now: Instant) -> Vec<(KeyspaceId, ModuleDigest, u32)> {
        let all = self.used();
        let of = |(id, used): (&KeyspaceId, &Used)| {
            let resting = used.failing.iter().filter(|(_, f)| f.rests_until > Some(now));
            resting.map(|(module, f)| (*id, *module, f.in_a_row)).collect::<Vec<_>>()
        };
        all.iter().flat_map(of).collect()
    }

    /// Forgets keyspaces that are gone and modules that no keyspace needs any more.
    pub(super) fn keep(&self, catalogue: &Catalogue) {
        self.used().retain(|id, used| {
            let Some(keyspace) = catalogue.keyspace_by_id(*id) else { return false };
            used.failing.retain(|module, _| keyspace.modules().any(|needed| needed == *module));
            true
        });
    }
}

impl Used {
    fn new(now: Instant) -> Self {
        let (merges, fuel) = (Bucket::new(now), Bucket::new(now));
        Used { merges, fuel, memory: Arc::default(), failing: HashMap::new() }
    }

    fn rests(
        &mut self,
        module: &ModuleDigest,
        merging: &Merging,
        now: Instant,
    ) -> Result<(), MergeFailure> {
        let Some(failing) = self.failing.get_mut(module) else { return Ok(()) };
        match failing.rests_until {
            Some(until) if until > now && merging.pause_after > 0 => {
                let seconds = until.duration_since(now).as_secs() + 1;
                Err(MergeFailure::Paused { failures: failing.in_a_row, seconds })
            }
            // This one tries it; the others go on resting until it has.
            Some(_) => {
                failing.rests_until = Some(now + REST);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn within(
        &mut self,
        merging: &Merging,
        needed_bytes: u64,
        now: Instant,
    ) -> Result<Held, MergeFailure> {
        let of = |what, limit| Err(MergeFailure::OverBudget { what, limit });
        let merges = u64::from(merging.merges_per_second);
        if !self.fuel.has_any(merging.fuel_per_second, now) {
            return of("units of fuel a second", merging.fuel_per_second);
        }
        let (memory, held) = (merging.memory_bytes, self.memory.load(Relaxed));
        let bytes = if memory == 0 { needed_bytes } else { needed_bytes.min(memory) };
        // One fits always: the host sees to it that it does not take more.
        if memory > 0 && held > 0 && held.saturating_add(bytes) > memory {
            return of("bytes of memory", memory);
        }
        if !self.merges.has_any(merges, now) {
            return of("merges a second", merges);
        }
        self.merges.take(1);
        self.memory.fetch_add(bytes, Relaxed);
        Ok(Held { memory: self.memory.clone(), bytes })
    }
}

/// What may still be used, in millionths: it fills with time, up to what one second gives, and may
/// be overdrawn once.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// `None` until it is asked for with a limit.
    left: Option<i128>,
    at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Bucket { left: None, at: now }
    }

    fn has_any(&mut self, per_second: u64, now: Instant) -> bool {
        if per_second == 0 {
            self.left = None;
            return true;
        }
        let full = i128::from(per_second) * 1_000_000;
        let passed = now.saturating_duration_since(self.at).as_micros();
        let back = i128::try_from(passed).unwrap_or(i128::MAX).saturating_mul(per_second.into());
        self.at = now;
        let left = self.left.map_or(full, |left| left.saturating_add(back).min(full));
        self.left = Some(left);
        left >= 1_000_000
    }

    fn take(&mut self, amount: u64) {
        if let Some(left) = &mut self.left {
            *left -= i128::from(amount) * 1_000_000;
        }
    }
}

#[cfg(test)]
mod tests {
    use stator_core::catalogue::{Durability, KeyspaceSpec, Quorums, Reconcile};

    use super::*;

    const MODULE: ModuleDigest = ModuleDigest([7; 32]);

    fn keyspace(merging: Merging) -> Keyspace {
        let spec = KeyspaceSpec {
            name: "carts".to_owned(),
            quorums: Quorums { n: 3, r: 2, w: 2 },
            durability: Durability::All,
            reconcile: Reconcile::Module(MODULE),
            read_repair_percent: 10,
            merging,
            signed_by: Default::default(),
            quota: Default::default(),
        };
        Keyspace::new(&spec, 1)
    }

    #[test]
    fn failures_in_a_row_pause_a_module_until_one_try_succeeds() {
        let (care, carts) =
            (Care::new(), keyspace(Merging { pause_after: 3, ..Merging::default() }));
        let begun = Instant::now();
        let fails = |at: Instant| {
            assert!(care.admit(&carts, (&MODULE, 0), at).is_ok());
            care.ended(&carts, &MODULE, (1, true), at);
        };
        fails(begun);
        fails(begun);
        assert!(care.resting(begun).is_empty());
        fails(begun);
        assert_eq!(care.resting(begun), [(carts.id, MODULE, 3)]);
        let paused = care.admit(&carts, (&MODULE, 0), begun + REST / 2);
        assert!(matches!(paused, Err(MergeFailure::Paused { failures: 3, .. })), "{paused:?}");
        let later = begun + REST;
        assert!(care.admit(&carts, (&MODULE, 0), later).is_ok(), "one tries");
        assert!(care.admit(&carts, (&MODULE, 0), later).is_err(), "the others wait for it");
        care.ended(&carts, &MODULE, (1, false), later);
        assert!(care.admit(&carts, (&MODULE, 0), later).is_ok() && care.resting(later).is_empty());
    }

    #[test]
    fn a_budget_is_what_a_second_gives() {
        let merging = Merging { merges_per_second: 2, fuel_per_second: 100, ..Merging::default() };
        let (care, carts, now) = (Care::new(), keyspace(merging), Instant::now());
        let admit = |at: Instant| care.admit(&carts, (&MODULE, 0), at);
        assert!(admit(now).is_ok() && admit(now).is_ok());
        assert!(matches!(
            admit(now),
            Err(MergeFailure::OverBudget { what: "merges a second", limit: 2 })
        ));
        assert!(admit(now + Duration::from_millis(500)).is_ok());
        care.ended(&carts, &MODULE, (250, false), now + Duration::from_millis(500));
        let later = |ms| admit(now + Duration::from_millis(ms));
        assert!(matches!(
            later(1_900),
            Err(MergeFailure::OverBudget { what: "units of fuel a second", .. })
        ));
        assert!(later(2_100).is_ok(), "what was overdrawn is paid for by time");
    }

    #[test]
    fn merges_that_run_share_a_budget_of_memory_and_one_always_fits() {
        let (care, now) = (Care::new(), Instant::now());
        let carts = keyspace(Merging { memory_bytes: 1_000, ..Merging::default() });
        let admit = |bytes| care.admit(&carts, (&MODULE, bytes), now);
        let beyond = |held: Result<Held, _>| {
            matches!(held, Err(MergeFailure::OverBudget { what: "bytes of memory", limit: 1_000 }))
        };
        let large = admit(5_000).ok();
        assert!(large.is_some() && beyond(admit(1)), "it is counted with all there is");
        drop(large);
        let both = [admit(400).ok(), admit(600).ok()];
        assert!(both.iter().all(Option::is_some) && beyond(admit(1)));
        drop(both);
        assert!(admit(1).is_ok(), "what has ended is not counted");
        let free = keyspace(Merging::default());
        let all: Vec<_> = (0..9).map(|_| care.admit(&free, (&MODULE, 1 << 30), now)).collect();
        assert!(all.iter().all(Result::is_ok));
    }
}
