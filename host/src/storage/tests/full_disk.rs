//! A disk that is full, or fails: the store takes no writes, serves reads, says so, and comes back
//! by itself.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use stator_core::id::Dot;

use super::super::engine::{Batch, EngineError, Entries};
use super::super::{EngineKind, Fault};
use super::disks::{Mounted, skip};
use super::*;

const ROOM_BYTES: u64 = 192 << 20;
const VALUE_BYTES: usize = 32 << 10;

fn options(engine: EngineKind) -> StoreOptions {
    StoreOptions {
        engine,
        cache_bytes: 2 << 20,
        reopen_after: Duration::from_millis(20),
        ..StoreOptions::default()
    }
}

fn open(home: &Path, options: &StoreOptions) -> Stores {
    Stores::open(Arc::new(Home::open(home).unwrap()), options).unwrap()
}

/// Waits until `is_so`.
fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < give_up_at, "{what} never happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Writes until nothing more fits.
fn fill_up(path: &Path) {
    let mut file = File::create(path).unwrap();
    for block in [1 << 20, 64 << 10, 4 << 10] {
        while file.write_all(&vec![1; block]).is_ok() {}
    }
}

fn put_bytes(stores: &Stores, name: &str) -> Result<WriteDone, StoreError> {
    let (done, reply) = reply();
    let change = mint(Context::default(), child::value(name, VALUE_BYTES));
    stores.write(WriteJob { change, ..put_job(name, "", true, done) });
    reply.get()
}

#[test]
fn a_store_on_a_full_disk_serves_reads_and_comes_back_when_there_is_room() {
    for engine in [EngineKind::Sled, EngineKind::Fjall] {
        let disk = match Mounted::in_memory(ROOM_BYTES) {
            Ok(disk) => disk,
            Err(why) => {
                let test = "a_store_on_a_full_disk_serves_reads_and_comes_back_when_there_is_room";
                return skip(test, &why);
            }
        };
        fill_and_free(engine, disk.path());
    }
}

fn fill_and_free(engine: EngineKind, disk: &Path) {
    let (home, filler) = (disk.join("home"), disk.join("filler"));
    let stores = open(&home, &options(engine));
    let mut dots: BTreeSet<(String, Dot)> = BTreeSet::new();
    let mut acknowledged = Vec::new();
    for n in 0..20 {
        let name = format!("early-{n}");
        dots.insert((name.clone(), put_bytes(&stores, &name).unwrap().dot.unwrap()));
        acknowledged.push(name);
    }
    let hot = put(&stores, "hot", "0");
    dots.insert(("hot".to_owned(), hot.dot.unwrap()));
    fill_up(&filler);

    // Engines have some room in hand, so not the first write fails.
    let mut refused = None;
    for n in 0..4000 {
        let name = format!("late-{n}");
        match put_bytes(&stores, &name) {
            Ok(done) => {
                assert!(dots.insert((name.clone(), done.dot.unwrap())));
                acknowledged.push(name);
            }
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let error = refused.expect("the disk never got full");
    assert!(matches!(error, StoreError::OutOfService { store: "data", .. }), "{error}");
    let words = stores.figures(Area::Data).out_of_service.expect("the figures say nothing");
    assert!(words.contains("by itself"), "{engine:?}: {words}");
    for name in &acknowledged {
        assert!(matches!(load(&stores, name), Ok(Some(_))), "{engine:?}: {name} is not served");
    }
    let refused = queue_put(&stores, "hot", "1", true).get();
    let effect = match refused {
        Err(StoreError::OutOfService { effect, .. }) => effect,
        other => panic!("{other:?}"),
    };
    assert_eq!(effect, Effect::None);

    std::fs::remove_file(&filler).unwrap();
    await_that("the return of the store", || stores.figures(Area::Data).out_of_service.is_none());
    assert_eq!(stores.figures(Area::Data).reopened, 1);
    for name in &acknowledged {
        let found = load(&stores, name).unwrap().unwrap();
        let versions = found.versions();
        assert_eq!(versions[0].version.payload.value().unwrap(), &child::value(name, VALUE_BYTES));
    }
    let after = put(&stores, "hot", "2");
    assert_ne!(after.dot.unwrap().actor, hot.dot.unwrap().actor, "the old actors are retired");
    assert!(dots.insert(("hot".to_owned(), after.dot.unwrap())));
    assert_eq!(values(&after.siblings), ["0", "2"]);

    // What was not synced is compared with peers.
    stores.close().unwrap();
    drop(stores);
    let stores = open(&home, &options(engine));
    assert!(stores.is_after_unclean_stop());
    assert!(stores.set_aside().is_empty());
    for name in &acknowledged {
        assert!(matches!(load(&stores, name), Ok(Some(_))), "{engine:?}: {name} is gone");
    }
}

/// An engine over memory whose writes fail on demand, and lose what they had not synced.
struct Failing {
    engine: MemoryEngine,
    fails: Arc<AtomicBool>,
    fault: Fault,
}

impl Failing {
    fn check(&self, doing: &'static str) -> Result<(), EngineError> {
        if !self.fails.load(SeqCst) {
            return Ok(());
        }
        let why = "input/output error".to_owned();
        Err(EngineError { engine: self.describe(), doing, fault: self.fault, why })
    }
}

impl Engine for Failing {
    fn describe(&self) -> String {
        "failing engine".to_owned()
    }
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.engine.get(key)
    }
    fn apply(&self, batch: Batch) -> Result<(), EngineError> {
        self.check("apply")?;
        self.engine.apply(batch)
    }
    fn sync(&self) -> Result<(), EngineError> {
        self.check("sync")?;
        self.engine.sync()
    }
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Entries, EngineError> {
        self.engine.scan(from, to, limit)
    }
}

#[test]
fn damage_that_comes_back_is_set_aside_by_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(EngineKind::Sled);
    let fails: Arc<AtomicBool> = Arc::default();
    let (engine, shared) = (MemoryEngine::new(), fails.clone());
    let make = Arc::new(move || {
        let fault = Fault::Damage;
        let failing = Failing { engine: engine.clone(), fails: shared.clone(), fault };
        Ok::<Arc<dyn Engine>, EngineError>(Arc::new(failing))
    });
    std::fs::create_dir_all(directory.path().join("data")).unwrap();
    let home = Arc::new(Home::open(directory.path()).unwrap());
    let hints = Arc::new(MemoryEngine::new());
    let stores = Stores::on_reopened(home, &options, make, hints).unwrap();
    put(&stores, "k", "x");
    for is_first in [true, false] {
        fails.store(true, SeqCst);
        queue_put(&stores, "k", "y", true).get().unwrap_err();
        fails.store(false, SeqCst);
        let list = || std::fs::read_to_string(directory.path().join("set-aside"));
        if is_first {
            await_that("the return of the store", || {
                stores.figures(Area::Data).out_of_service.is_none()
            });
            assert!(list().is_err(), "once is no reason");
        } else {
            assert!(list().unwrap().contains("data due data.set-aside-1"));
        }
    }
    assert!(matches!(load(&stores, "k"), Ok(Some(_))), "reads go on");
    drop(stores);
    let stores = open(directory.path(), &options);
    assert_eq!(stores.set_aside()[0].path, directory.path().join("data.set-aside-1"));
}

/// The case for which actors are retired: a dot that was told and then lost.
#[test]
fn a_dot_that_was_told_and_lost_is_not_minted_again_after_a_reopening() {
    let rig = Rig::new();
    let mut options = rig.options.clone();
    options.reopen_after = Duration::from_millis(5);
    let fails: Arc<AtomicBool> = Arc::default();
    let home = Arc::new(Home::open(rig.path()).unwrap());
    let (engine, shared) = (rig.data.clone(), fails.clone());
    let make = Arc::new(move || {
        engine.forget_unsynced();
        let fault = Fault::Medium;
        let failing = Failing { engine: engine.clone(), fails: shared.clone(), fault };
        Ok::<Arc<dyn Engine>, EngineError>(Arc::new(failing))
    });
    let hints = Arc::new(rig.hints.clone());
    let stores = Stores::on_reopened(home, &options, make, hints).unwrap();
    let first = put(&stores, "k", "one").dot.unwrap();
    let told = queue_put(&stores, "k", "lost", false).get().unwrap().dot.unwrap();
    assert_eq!((told.actor, told.counter), (first.actor, 2));
    fails.store(true, SeqCst);
    let refused = queue_put(&stores, "other", "x", true).get();
    assert!(matches!(refused, Err(StoreError::OutOfService { effect: Effect::Maybe, .. })));
    fails.store(false, SeqCst);
    await_that("the return of the store", || stores.figures(Area::Data).out_of_service.is_none());
    let found = load(&stores, "k").unwrap().unwrap();
    assert_eq!(values(&found), ["one"], "what was not synced is lost");
    let next = put(&stores, "k", "three").dot.unwrap();
    assert_ne!(next, told, "one dot would name two writes");
    assert_ne!(next.actor, told.actor);
}
