//! What every engine must do: one suite, run on each of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    Batch, Engine, EngineError, Entries, Fault, FjallEngine, LoggedEngine, MemoryEngine, SledEngine,
};

const CACHE_BYTES: u64 = 8 << 20;

fn sled(directory: &tempfile::TempDir) -> SledEngine {
    SledEngine::open(directory.path(), CACHE_BYTES).unwrap()
}

fn fjall(directory: &tempfile::TempDir) -> FjallEngine {
    FjallEngine::open(directory.path(), CACHE_BYTES).unwrap()
}

fn logged(directory: &tempfile::TempDir) -> LoggedEngine {
    LoggedEngine::open(directory.path(), Arc::new(sled(directory))).unwrap()
}

/// Runs `check` on an engine of every kind, each empty.
fn on_every_engine(check: impl Fn(&dyn Engine)) {
    check(&MemoryEngine::new());
    let directory = tempfile::tempdir().unwrap();
    check(&sled(&directory));
    let directory = tempfile::tempdir().unwrap();
    check(&fjall(&directory));
    let directory = tempfile::tempdir().unwrap();
    check(&logged(&directory));
}

fn batch(ops: &[(&[u8], Option<&[u8]>)]) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in ops {
        match value {
            Some(value) => batch.put(key.to_vec(), value.to_vec()),
            None => batch.delete(key.to_vec()),
        }
    }
    batch
}

fn all(engine: &dyn Engine) -> Entries {
    engine.scan(&[], &[0xff; 9], usize::MAX).unwrap()
}

#[test]
fn a_batch_is_visible_once_applied_and_its_last_operation_counts() {
    on_every_engine(|engine| {
        let first = batch(&[
            (b"a", Some(b"1")),
            (b"b", Some(b"2")),
            (b"a", Some(b"3")),
            (b"gone", Some(b"4")),
            (b"gone", None),
        ]);
        engine.apply(first).unwrap();
        assert_eq!(engine.get(b"a").unwrap().unwrap(), "3");
        assert_eq!(engine.get(b"b").unwrap().unwrap(), "2");
        assert_eq!(engine.get(b"gone").unwrap(), None);
        engine.apply(batch(&[(b"b", None), (b"never", None)])).unwrap();
        engine.sync().unwrap();
        assert_eq!(engine.get(b"b").unwrap(), None);
        assert_eq!(all(engine).len(), 1);
    });
}

#[test]
fn an_empty_value_is_a_value() {
    on_every_engine(|engine| {
        engine.apply(batch(&[(b"k", Some(b""))])).unwrap();
        assert_eq!(engine.get(b"k").unwrap(), Some(Bytes::new()));
    });
}

#[test]
fn a_scan_is_ordered_half_open_and_limited() {
    on_every_engine(|engine| {
        for key in [&b"b"[..], b"a", b"c\xff", b"c", b"d"] {
            engine.apply(batch(&[(key, Some(key))])).unwrap();
        }
        let keys = |from: &[u8], to: &[u8], limit| -> Vec<Bytes> {
            let entries = engine.scan(from, to, limit).unwrap();
            entries.into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(b"b", b"d", 9), [&b"b"[..], b"c", b"c\xff"]);
        assert_eq!(keys(b"", b"\xff", 2), [&b"a"[..], b"b"]);
        assert!(keys(b"d", b"b", 9).is_empty());
        assert!(keys(b"b", b"b", 9).is_empty());
        assert!(keys(b"a", b"d", 0).is_empty());
    });
}

#[test]
fn memory_forgets_what_was_not_synced() {
    let engine = MemoryEngine::new();
    engine.apply(batch(&[(b"a", Some(b"1"))])).unwrap();
    engine.sync().unwrap();
    engine.apply(batch(&[(b"a", Some(b"2")), (b"b", Some(b"2"))])).unwrap();
    engine.apply(batch(&[(b"a", None)])).unwrap();
    engine.forget_unsynced();
    assert_eq!(all(&engine), [(Bytes::from("a"), Bytes::from("1"))]);
}

/// Opens what a test made unopenable; the error names the directory.
fn refused<E>(directory: &tempfile::TempDir, opened: Result<E, EngineError>) -> EngineError {
    let error = opened.err().expect("opened all the same");
    let path = directory.path().display().to_string();
    assert!(error.to_string().contains(&path), "{error}");
    error
}

#[test]
fn a_second_open_of_a_directory_is_refused_and_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let _first = sled(&directory);
    let error = refused(&directory, SledEngine::open(directory.path(), CACHE_BYTES));
    assert_eq!(error.fault, Fault::Refused, "{error}");
    let directory = tempfile::tempdir().unwrap();
    let _first = fjall(&directory);
    let error = refused(&directory, FjallEngine::open(directory.path(), CACHE_BYTES));
    assert_eq!(error.fault, Fault::Refused, "{error}");
}

fn fill(engine: &dyn Engine) {
    engine.apply(batch(&[(b"key", Some(&[7; 4096]))])).unwrap();
    engine.sync().unwrap();
}

#[test]
fn a_directory_that_an_engine_cannot_read_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    fill(&sled(&directory));
    // Its own description of itself, which it cannot do without.
    std::fs::write(directory.path().join("conf"), b"segment_size: none\n").unwrap();
    let error = refused(&directory, SledEngine::open(directory.path(), CACHE_BYTES));
    assert_eq!(error.fault, Fault::Damage, "{error}");

    let directory = tempfile::tempdir().unwrap();
    fill(&fjall(&directory));
    std::fs::write(directory.path().join("version"), b"none").unwrap();
    let error = refused(&directory, FjallEngine::open(directory.path(), CACHE_BYTES));
    assert_eq!(error.fault, Fault::Damage, "{error}");
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<(u8, Option<(u8, usize)>)>),
    Sync,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let value = proptest::option::of((any::<u8>(), 0..5000usize));
    let ops = proptest::collection::vec((0..24u8, value), 0..12);
    prop_oneof![6 => ops.prop_map(Step::Apply), 2 => Just(Step::Sync), 1 => Just(Step::Reopen)]
}

/// Does `steps` on an engine and on a map; they must agree after each.
fn agrees_with_a_map<E: Engine>(steps: Vec<Step>, open: impl Fn(Option<E>) -> E) {
    let mut engine = open(None);
    let mut model: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Apply(ops) => {
                let mut batch = Batch::new();
                for (key, value) in ops {
                    let key = vec![b'k', key];
                    if let Some((byte, length)) = value {
                        let value = vec![byte; length];
                        batch.put(key.clone(), value.clone());
                        model.insert(key.into(), value.into());
                    } else {
                        batch.delete(key.clone());
                        model.remove(&key[..]);
                    }
                }
                engine.apply(batch).unwrap();
            }
            Step::Sync => engine.sync().unwrap(),
            Step::Reopen => engine = open(Some(engine)),
        }
        let expected: Entries = model.clone().into_iter().collect();
        assert_eq!(all(&engine), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn memory_is_an_ordered_map(steps in proptest::collection::vec(step(), 1..30)) {
        agrees_with_a_map(steps, |before: Option<MemoryEngine>| before.unwrap_or_default());
    }

    #[test]
    fn sled_is_an_ordered_map_across_reopening(steps in proptest::collection::vec(step(), 1..20)) {
        let directory = tempfile::tempdir().unwrap();
        agrees_with_a_map(steps, |before: Option<SledEngine>| {
            drop(before);
            sled(&directory)
        });
    }

    #[test]
    fn fjall_is_an_ordered_map_across_reopening(steps in proptest::collection::vec(step(), 1..20)) {
        let directory = tempfile::tempdir().unwrap();
        agrees_with_a_map(steps, |before: Option<FjallEngine>| {
            drop(before);
            fjall(&directory)
        });
    }

    #[test]
    fn a_log_before_one_is_an_ordered_map_across_reopening(
        steps in proptest::collection::vec(step(), 1..20),
    ) {
        let directory = tempfile::tempdir().unwrap();
        agrees_with_a_map(steps, |before: Option<LoggedEngine>| {
            drop(before);
            logged(&directory)
        });
    }
}
