//! Power cuts: the engine forgets what it was not told to sync, and of the log's last segment any
//! part behind the last sync may be missing, or be anything.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::storage::tests::doubles::Scripted;

/// Small, so that there are many.
const SEGMENT: u64 = 4096;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

struct Lab {
    directory: tempfile::TempDir,
    inner: Arc<Scripted>,
    engine: Option<LoggedEngine>,
}

impl Lab {
    fn new() -> Lab {
        let directory = tempfile::tempdir().expect("a directory");
        let mut lab = Lab { directory, inner: Arc::default(), engine: None };
        lab.open().expect("it opens");
        lab
    }

    fn open(&mut self) -> Result<(), EngineError> {
        let opened = LoggedEngine::open_with(self.directory.path(), self.inner.clone(), SEGMENT)?;
        self.engine = Some(opened);
        Ok(())
    }

    fn engine(&self) -> &LoggedEngine {
        self.engine.as_ref().expect("open")
    }

    /// Up to where the current segment is written, and its number.
    fn end(&self) -> (u64, u64) {
        let writer = self.engine().writer();
        (writer.place.segment, writer.segments.end())
    }

    /// Ends it with nothing handed over, as a power cut does. `noise` is what is found from `at`
    /// on in the segment.
    fn cut(&mut self, (segment, at): (u64, u64), noise: &[u8]) {
        self.engine().writer().failure = Some(damage(&*self.inner, "the power is cut"));
        self.engine = None;
        self.inner.engine.forget_unsynced();
        let path = self.directory.path().join(DIRECTORY).join(format!("{segment:020}"));
        let file = fs::OpenOptions::new().write(true).open(path).expect("the segment");
        file.write_all_at(noise, at).expect("written");
    }

    fn all(&self) -> Map {
        let all = self.engine().scan(&[], &[0xff; 9], usize::MAX).expect("readable");
        all.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }
}

fn put(lab: &Lab, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key.to_vec(), value.to_vec());
    lab.engine().apply(batch).expect("applied");
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<(u8, Option<(u8, usize)>)>),
    Sync,
    Reopen,
    Cut(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let value = proptest::option::of((any::<u8>(), 0..900usize));
    let ops = proptest::collection::vec((0..24u8, value), 0..8);
    let noise = proptest::collection::vec(any::<u8>(), 0..900);
    prop_oneof![
        8 => ops.prop_map(Step::Apply),
        3 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => noise.prop_map(Step::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_synced_survives_and_the_rest_in_order(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut lab = Lab::new();
        // What a reader may see after a cut: what it was at the last sync, or after any batch since.
        let mut states: Vec<Map> = vec![Map::new()];
        let mut synced = lab.end();
        for step in steps {
            match step {
                Step::Apply(ops) => {
                    let mut batch = Batch::new();
                    let mut state = states.last().expect("one").clone();
                    for (key, value) in ops {
                        let key = vec![b'k', key];
                        match value {
                            Some((byte, length)) => {
                                batch.put(key.clone(), vec![byte; length]);
                                state.insert(key, vec![byte; length]);
                            }
                            None => {
                                batch.delete(key.clone());
                                state.remove(&key);
                            }
                        }
                    }
                    lab.engine().apply(batch).expect("applied");
                    states.push(state);
                    // A segment is synced before the next one is begun.
                    if lab.end().0 != synced.0 {
                        synced = (lab.end().0, 0);
                    }
                }
                Step::Sync => {
                    lab.engine().sync().expect("synced");
                    synced = lab.end();
                    states.drain(..states.len() - 1);
                }
                Step::Reopen => {
                    lab.engine = None;
                    lab.open().expect("it opens again");
                    synced = lab.end();
                    states.drain(..states.len() - 1);
                }
                Step::Cut(noise) => {
                    lab.cut(synced, &noise);
                    lab.open().expect("no power cut is damage");
                    synced = lab.end();
                    let found = lab.all();
                    prop_assert!(states.contains(&found), "{found:?} is none of {states:?}");
                    states = vec![found];
                }
            }
            prop_assert_eq!(&lab.all(), states.last().expect("one"));
        }
    }
}

#[test]
fn what_was_synced_and_is_damaged_or_missing_is_noticed() {
    let written = || {
        let lab = Lab::new();
        for number in 0..3 {
            put(&lab, b"key", &[number; 100]);
            lab.engine().sync().expect("synced");
        }
        lab
    };
    let mut lab = written();
    // The second of three frames.
    lab.cut((1, 160), b"noise");
    let error = lab.open().expect_err("it was synced");
    assert_eq!(error.fault, Fault::Damage, "{error}");
    assert!(error.to_string().contains("were synced"), "{error}");

    let mut lab = written();
    lab.cut((1, 0), &[]);
    fs::remove_file(lab.directory.path().join(DIRECTORY).join(format!("{:020}", 1))).expect("gone");
    lab.open().expect("a store that no engine knows of is a new one");
    let mut filler = 0;
    while lab.end().0 < 4 {
        put(&lab, b"key", &[filler; 900]);
        filler = filler.wrapping_add(1);
    }
    // Until the engine has the first segments.
    while read(&lab.engine().pending).is_flushing() {
        thread::yield_now();
    }
    let last = lab.end();
    lab.cut(last, &[]);
    fs::remove_file(lab.directory.path().join(DIRECTORY).join(format!("{:020}", last.0)))
        .expect("gone");
    let error = lab.open().expect_err("one segment is always there");
    assert_eq!(error.fault, Fault::Damage, "{error}");
}

#[test]
fn an_engine_that_takes_nothing_ends_the_writing_and_loses_nothing() {
    let mut lab = Lab::new();
    put(&lab, b"first", b"1");
    lab.engine().sync().expect("synced");
    lab.inner.fails_apply.store(true, Ordering::SeqCst);
    let mut batch = Batch::new();
    batch.put(b"large".to_vec(), vec![7; 900]);
    let refused = (0..1000).find_map(|_| {
        thread::yield_now();
        lab.engine().apply(batch.clone()).err()
    });
    assert!(refused.is_some(), "the log has bounds");
    assert!(lab.engine().sync().is_err(), "until it is opened again");
    assert_eq!(lab.engine().get(b"first").expect("readable").as_deref(), Some(&b"1"[..]));
    lab.engine = None;
    lab.inner.fails_apply.store(false, Ordering::SeqCst);
    lab.open().expect("it opens");
    assert_eq!(lab.engine().get(b"first").expect("readable").as_deref(), Some(&b"1"[..]));
}
