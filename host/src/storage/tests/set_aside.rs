//! Stores that cannot be opened: they get another name, and the node goes on without them.

use std::path::PathBuf;

use super::super::{EngineKind, FjallEngine, OpenError, SledEngine};
use super::*;

const ON_DISK: [EngineKind; 2] = [EngineKind::Sled, EngineKind::Fjall];

/// The file of each engine without which nothing can be opened.
fn vital(kind: EngineKind) -> &'static str {
    if kind == EngineKind::Sled { "conf" } else { "version" }
}

/// What no engine takes for its own.
const NOISE: &[u8] = b"segment_size: none\n";

fn options(engine: EngineKind) -> StoreOptions {
    StoreOptions { engine, cache_bytes: 8 << 20, ..StoreOptions::default() }
}

fn open(path: &Path, options: &StoreOptions) -> Result<Stores, OpenError> {
    Stores::open(Arc::new(Home::open(path).unwrap()), options)
}

/// A data directory of `kind` with the key `k`, stopped cleanly; and its last actor.
fn filled(kind: EngineKind) -> (tempfile::TempDir, WriteDone) {
    let directory = tempfile::tempdir().unwrap();
    let stores = open(directory.path(), &options(kind)).unwrap();
    assert!(stores.set_aside().is_empty());
    let done = put(&stores, "k", "one");
    hint(&stores, "h", "x", &[A]).unwrap();
    stores.close().unwrap();
    (directory, done)
}

#[test]
fn a_store_that_cannot_be_opened_is_set_aside_and_starts_empty_in_another_life() {
    for kind in ON_DISK {
        let (directory, before) = filled(kind);
        let vital_file = directory.path().join("data").join(vital(kind));
        std::fs::write(&vital_file, NOISE).unwrap();

        let stores = open(directory.path(), &options(kind)).unwrap();
        let [aside] = stores.set_aside() else { panic!("{:?}", stores.set_aside()) };
        assert_eq!(aside.area, Area::Data);
        assert_eq!(aside.path, directory.path().join("data.set-aside-1"));
        assert_eq!(std::fs::read(aside.path.join(vital(kind))).unwrap(), NOISE, "it is kept");
        assert!(stores.figures(Area::Data).set_aside.unwrap().contains("data.set-aside-1"));
        assert_eq!(load(&stores, "k"), Ok(None));
        assert_eq!(list(&stores, A, None, 9).len(), 1, "the other store is untouched");
        let after = put(&stores, "k", "two");
        let (old, new) = (before.dot.unwrap().actor, after.dot.unwrap().actor);
        assert_ne!(old.incarnation, new.incarnation);
        stores.close().unwrap();
        drop(stores);

        // It is reported until it was refilled, and only once after that.
        let stores = open(directory.path(), &options(kind)).unwrap();
        assert_eq!(stores.set_aside().len(), 1);
        stores.refilled(Area::Data).unwrap();
        assert_eq!(stores.figures(Area::Data).set_aside, None);
        stores.close().unwrap();
        drop(stores);
        let stores = open(directory.path(), &options(kind)).unwrap();
        assert!(stores.set_aside().is_empty());
        assert_eq!(values(&load(&stores, "k").unwrap().unwrap()), ["two"]);
        drop(stores);

        std::fs::write(&vital_file, NOISE).unwrap();
        let stores = open(directory.path(), &options(kind)).unwrap();
        assert_eq!(stores.set_aside()[0].path, directory.path().join("data.set-aside-2"));
    }
}

#[test]
fn a_store_that_is_overdue_is_set_aside_by_the_next_start() {
    let (directory, _) = filled(EngineKind::Sled);
    let hurried = StoreOptions { open_within: Duration::ZERO, ..options(EngineKind::Sled) };
    let error = open(directory.path(), &hurried).err().expect("it was in time");
    let OpenError::Overdue { to, .. } = &error else { panic!("{error}") };
    for part in ["timings.store_open_timeout_ms = 0", "data.set-aside-1", "start the node again"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(!to.exists(), "it may be in use still");
    // The engine that was late has closed its files when it can be opened elsewhere.
    let data = directory.path().join("data");
    drop(SledEngine::open(&data, 8 << 20).unwrap());

    let stores = open(directory.path(), &options(EngineKind::Sled)).unwrap();
    assert!(to.join("db").exists());
    assert_eq!(stores.set_aside()[0].path, *to);
    assert_eq!(load(&stores, "k"), Ok(None));
}

#[test]
fn what_the_operating_system_refuses_is_no_damage() {
    let (directory, _) = filled(EngineKind::Fjall);
    let held = FjallEngine::open(&directory.path().join("data"), 8 << 20).unwrap();
    let refused = open(directory.path(), &options(EngineKind::Fjall));
    assert!(matches!(refused, Err(OpenError::Engine(_))));
    drop(held);
    let stores = open(directory.path(), &options(EngineKind::Fjall)).unwrap();
    assert!(stores.set_aside().is_empty());
    assert!(load(&stores, "k").unwrap().is_some());
}

#[test]
fn another_engine_than_the_directorys_is_refused() {
    for (kind, other) in [
        (EngineKind::Sled, EngineKind::Fjall),
        (EngineKind::Fjall, EngineKind::Sled),
        (EngineKind::Sled, EngineKind::Memory),
    ] {
        let (directory, _) = filled(kind);
        let error = open(directory.path(), &options(other)).err().expect("it was opened");
        let hint = format!("--engine {}", kind.name());
        assert!(error.to_string().contains(&hint), "{error}");
        let stores = open(directory.path(), &options(kind)).unwrap();
        assert!(load(&stores, "k").unwrap().is_some());
        stores.close().unwrap();
        drop(stores);
        // A directory of before the note of its engine.
        std::fs::remove_file(directory.path().join("engine")).unwrap();
        if kind == EngineKind::Sled {
            assert!(open(directory.path(), &options(other)).is_err());
        }
    }
}

#[test]
fn a_store_that_lost_everything_in_silence_is_reported() {
    for kind in ON_DISK {
        let (directory, _) = filled(kind);
        let data: PathBuf = directory.path().join("data");
        std::fs::remove_dir_all(&data).unwrap();
        let stores = open(directory.path(), &options(kind)).unwrap();
        let [aside] = stores.set_aside() else { panic!("{:?}", stores.set_aside()) };
        assert_eq!((aside.area, &aside.path), (Area::Data, &data));
        assert!(aside.why.contains("empty"), "{}", aside.why);
    }
}

/// Options with a program in place of `stator open-store`.
fn with_trial(script: &str) -> StoreOptions {
    let trial = ["sh", "-c", script].map(Into::into).to_vec();
    StoreOptions { trial: Some(trial), ..options(EngineKind::Sled) }
}

#[test]
fn a_store_that_ended_a_start_is_tried_apart_and_set_aside_if_it_ends_that_process_too() {
    let (directory, _) = filled(EngineKind::Sled);
    let set_aside = |script: &str, last_start: &str| {
        if !last_start.is_empty() {
            Home::open(directory.path()).unwrap().save(last_start, b"").unwrap();
        }
        let stores = open(directory.path(), &with_trial(script)).unwrap();
        assert!(!directory.path().join("opening-hints").exists());
        let out = stores.set_aside().to_vec();
        stores.close().unwrap();
        out
    };
    assert_eq!(set_aside("kill -ABRT $$", ""), [], "the last start got further");
    assert_eq!(set_aside("kill -ABRT $$", "opening-hints")[0].area, Area::Hints);
    let stores = open(directory.path(), &options(EngineKind::Sled)).unwrap();
    stores.refilled(Area::Hints).unwrap();
    stores.close().unwrap();
    drop(stores);
    assert_eq!(
        set_aside("kill -KILL $$", "opening-data"),
        [],
        "killed from outside: that says nothing"
    );
    assert_eq!(
        set_aside("exit 1", "opening-data"),
        [],
        "what is only refused is met by the start itself"
    );
    let [aside] = &set_aside("kill -SEGV $$", "opening-data")[..] else { panic!() };
    assert_eq!(aside.area, Area::Data);
    assert!(aside.why.contains("signal 11"), "{}", aside.why);
}
