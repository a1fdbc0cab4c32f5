//! Workloads against a store in memory.

use std::collections::HashMap;

use super::super::choice::Distribution;
use super::super::target::Reading;
use super::*;

/// A map with a version per key. Every seventh read fails.
#[derive(Debug, Default)]
struct Map {
    values: Mutex<HashMap<u64, Bytes>>,
    reads: Mutex<Vec<u64>>,
    fails: bool,
}

impl Target for Arc<Map> {
    type Seen = Option<Bytes>;

    async fn read(&self, key: u64) -> Result<Reading<Self::Seen>, Reason> {
        let mut reads = self.reads.lock().expect("whole");
        reads.push(key);
        if self.fails && reads.len().is_multiple_of(7) {
            return Err(Reason("SEVENTH".to_owned()));
        }
        let seen = self.values.lock().expect("whole").get(&key).cloned();
        Ok(Reading { values: seen.clone().into_iter().collect(), siblings: 1, seen })
    }

    async fn write(
        &self,
        key: u64,
        value: Bytes,
        over: Over<Self::Seen>,
    ) -> Result<Written, Reason> {
        let before = self.values.lock().expect("whole").insert(key, value);
        let has_siblings = match over {
            Over::Nothing => before.is_some(),
            Over::Seen(seen) => seen != before,
            Over::Whatever => false,
        };
        Ok(Written { has_siblings })
    }
}

async fn run(workload: Workload, conflicts: u64, fails: bool) -> (Outcome, Arc<Map>) {
    let map = Arc::new(Map { fails, ..Map::default() });
    let population = Arc::new(Population::of(0));
    let work = |workload: Workload, family| {
        Arc::new(Work {
            workload,
            choice: Choice::new(Distribution::Zipfian, 100),
            population: population.clone(),
            values: Values::new(family, 200, 1),
            conflicts,
            concurrency: 3,
            rate: None,
            seed: 1,
            by_second: false,
        })
    };
    let targets: Arc<[_]> = [map.clone(), map.clone()].into();
    let load = work(Workload::Load, workload.family());
    let loaded = drive(targets.clone(), load, End::Operations(100), Arc::default()).await;
    assert_eq!(loaded.expect("no panic").recorder.latency[&Kind::Insert].count(), 100);
    assert_eq!(population.present(), 100);
    let work = work(workload, workload.family());
    let outcome = drive(targets, work, End::Operations(1_000), Arc::default()).await;
    (outcome.expect("no panic"), map)
}

#[tokio::test]
async fn a_loaded_store_is_read_and_updated() {
    let (outcome, map) = run(Workload::A, 0, false).await;
    let count = |kind| outcome.recorder.latency[&kind].count();
    assert_eq!(count(Kind::Read) + count(Kind::Update), 1_000);
    assert_eq!(outcome.recorder.operations, 1_000);
    assert_eq!(outcome.recorder.siblings.absent, 0, "nothing is read that was not loaded");
    assert!(map.values.lock().expect("whole").values().all(|value| value.len() == 200));
}

#[tokio::test]
async fn inserts_are_new_keys_and_reads_find_them() {
    let (outcome, map) = run(Workload::D, 0, false).await;
    let inserts = outcome.recorder.latency[&Kind::Insert].count();
    assert_eq!(map.values.lock().expect("whole").len() as u64, 100 + inserts);
    assert_eq!((outcome.recorder.siblings.absent, outcome.recorder.siblings.writes), (0, 0));
}

#[tokio::test]
async fn a_share_of_cart_writes_has_a_rival() {
    let (outcome, _) = run(Workload::Cart, 30, false).await;
    let count = |kind| outcome.recorder.latency[&kind].count();
    assert_eq!(count(Kind::ReadModifyWrite), 1_000);
    assert_eq!(count(Kind::Read), 1_000);
    let rivals = count(Kind::Update) - 1_000;
    assert!((250..350).contains(&rivals), "{rivals}");
    assert!(outcome.recorder.siblings.writes >= rivals, "the later of two has not seen the other");
}

#[tokio::test]
async fn errors_are_counted_and_end_nothing() {
    let (outcome, map) = run(Workload::C, 0, true).await;
    let reads = map.reads.lock().expect("whole").len() as u64;
    assert_eq!(reads, 1_000);
    assert_eq!(outcome.recorder.errors["SEVENTH"], 1_000 / 7);
    assert_eq!(outcome.recorder.operations, 1_000 - 1_000 / 7);
}

#[test]
fn a_worker_draws_the_same_for_the_same_seed() {
    let draws = |seed, worker| {
        let mut random = random(seed, worker);
        [random.next_u64(), random.next_u64()]
    };
    assert_eq!(draws(1, 2), draws(1, 2));
    assert_ne!(draws(1, 2), draws(1, 3));
    assert_ne!(draws(1, 2), draws(2, 2));
}
