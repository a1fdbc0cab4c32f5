//! Stores in a process of their own, which tests may kill, stop or feed with a damaged disk.
//!
//! The child is this test binary, told by the environment to run [`runs_as_a_child`] only. It
//! writes one line per fact to its standard output:
//!
//! | line | says |
//! |---|---|
//! | `life INCARNATION` | the stores are open |
//! | `aside AREA WHY` | a store was set aside |
//! | `refused WHY` | the stores did not open |
//! | `ready` | the check of earlier writes is over |
//! | `missing KEY`, `damaged KEY`, `wrong KEY` | what became of a write that was acknowledged |
//! | `ack KEY DOT .` | a synced write of a new key was acknowledged |
//! | `over KEY DOT .` | one that replaced what was there |
//! | `full ERROR` | a write was refused |
//!
//! A value is made from its key, so that every byte of it can be checked.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::super::{EngineKind, StoreOptions};
use super::*;

/// How long a child may be silent before it counts as hung.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(120);

/// The file that a trial makes which was told to stay, once it has the store open.
pub(super) const STAYS_OPEN: &str = "stays-open";

/// What a child is to do.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    pub(super) engine: EngineKind,
    pub(super) home: PathBuf,
    pub(super) value_bytes: usize,
    /// Threads that put, each key once, until the child is ended. With 0 it stops cleanly.
    pub(super) writers: usize,
    /// With which the keys of this child begin.
    pub(super) prefix: String,
    /// Acknowledged writes to check first.
    pub(super) to_check: Vec<Ack>,
    /// Variables beside those that carry these orders.
    pub(super) environment: Vec<(String, String)>,
}

impl Orders {
    pub(super) fn new(engine: EngineKind, home: &Path, value_bytes: usize) -> Self {
        Orders {
            engine,
            home: home.to_owned(),
            value_bytes,
            writers: 0,
            prefix: "k".to_owned(),
            to_check: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// A write that was acknowledged as synced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ack {
    pub(super) key: String,
    pub(super) dot: String,
    /// `None` for a write that may have been replaced since: only its dot must be known then.
    pub(super) value_bytes: Option<usize>,
}

/// A running child. Dropping it kills it.
pub(super) struct Running {
    child: Child,
    lines: Receiver<String>,
    value_bytes: usize,
}

/// How a child's output ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It exited with success.
    Well,
    /// It was killed, or failed.
    Otherwise(String),
    /// It said nothing for [`SILENCE_MAX`].
    Hung,
}

impl Running {
    pub(super) fn start(orders: &Orders) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "storage::tests::child::runs_as_a_child", "--nocapture"])
            .env("STATOR_CHILD_ENGINE", orders.engine.name())
            .env("STATOR_CHILD_HOME", &orders.home)
            .env("STATOR_CHILD_BYTES", orders.value_bytes.to_string())
            .env("STATOR_CHILD_WRITERS", orders.writers.to_string())
            .env("STATOR_CHILD_PREFIX", &orders.prefix)
            .env_remove("RUST_BACKTRACE")
            .envs(orders.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if std::env::var_os("STATOR_CHILD_LOUD").is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            });
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut to_check = String::new();
        for ack in &orders.to_check {
            let bytes = ack.value_bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
            writeln!(to_check, "{} {} {bytes}", ack.key, ack.dot).unwrap();
        }
        // It may be killed while it reads.
        let _ = std::io::Write::write_all(&mut input, to_check.as_bytes());
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                // A line that the kill cut short has no end, and acknowledges nothing.
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        drop(input);
        Running { child, lines, value_bytes: orders.value_bytes }
    }

    pub(super) fn id(&self) -> i32 {
        self.child.id() as i32
    }

    /// Hands lines to `take` until it answers false, the output ends, or `until` comes.
    pub(super) fn read(
        &mut self,
        until: Option<Instant>,
        mut take: impl FnMut(&str) -> bool,
    ) -> Option<Ended> {
        loop {
            let wait = until.map_or(SILENCE_MAX, |at| at.saturating_duration_since(Instant::now()));
            match self.lines.recv_timeout(wait) {
                Ok(line) => {
                    if !take(&line) {
                        return None;
                    }
                }
                Err(RecvTimeoutError::Timeout) if until.is_some() => return None,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    return Some(Ended::Hung);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().unwrap();
                    let well = status.success();
                    return Some(if well {
                        Ended::Well
                    } else {
                        Ended::Otherwise(status.to_string())
                    });
                }
            }
        }
    }

    /// The acknowledgement that `line` is, if it is one.
    pub(super) fn ack(&self, line: &str) -> Option<Ack> {
        // A whole line ends in a mark.
        let mut words = line.strip_suffix(" .")?.split(' ');
        let value_bytes = match words.next()? {
            "ack" => Some(self.value_bytes),
            "over" => None,
            _ => return None,
        };
        let (key, dot) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Ack { key, dot, value_bytes })
    }

    /// SIGKILL; then everything that it still said.
    pub(super) fn kill(&mut self, take: impl FnMut(&str) -> bool) {
        let _ = self.child.kill();
        self.read(None, take);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bytes under `key`: of no pattern, so that nothing compresses them away.
pub(super) fn value(key: &str, value_bytes: usize) -> Vec<u8> {
    let mut out = vec![0; value_bytes];
    blake3::Hasher::new().update(key.as_bytes()).finalize_xof().fill(&mut out);
    out
}

fn say(line: String) {
    // One call, so that a kill cuts between lines or within the last one.
    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), (line + "\n").as_bytes());
}

fn variable(name: &str) -> String {
    std::env::var(format!("STATOR_CHILD_{name}")).unwrap_or_default()
}

/// Not a test by itself: see the head of this file.
#[test]
fn runs_as_a_child() {
    let home = variable("HOME");
    if home.is_empty() {
        return;
    }
    let engine = match variable("ENGINE").as_str() {
        "fjall" => EngineKind::Fjall,
        _ => EngineKind::Sled,
    };
    super::super::engine::forget_to_sync(variable("FORGETS_TO_SYNC") == "1");
    let mut to_check = String::new();
    std::io::stdin().read_to_string(&mut to_check).unwrap();
    let apart = ["--exact", "storage::tests::child::opens_a_store_apart"].map(Into::into);
    let program = std::env::current_exe().unwrap().into();
    let trial = Some([program].into_iter().chain(apart).collect());
    let options = StoreOptions { engine, cache_bytes: 8 << 20, trial, ..StoreOptions::default() };
    let home = Arc::new(Home::open(Path::new(&home)).unwrap());
    let stores = match Stores::open(home, &options) {
        Ok(stores) => stores,
        Err(error) => return say(format!("\nrefused {error}")),
    };
    say(format!("\nlife {}", stores.incarnation()));
    for aside in stores.set_aside() {
        say(format!("aside {} {}", aside.area.name(), aside.why));
    }
    to_check.lines().for_each(|line| check(&stores, line));
    say("ready".to_owned());
    let value_bytes = variable("BYTES").parse().unwrap();
    let writers: usize = variable("WRITERS").parse().unwrap();
    let (next, prefix) = (AtomicUsize::new(0), variable("PREFIX"));
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (stores, next, prefix) = (&stores, &next, &prefix);
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    match n % 8 {
                        7 => replace(stores, &format!("own-{writer}"), &format!("{prefix}/{n}")),
                        _ => write(stores, &format!("{prefix}-{n}"), value_bytes),
                    }
                }
            });
        }
    });
    if variable("WRITES_ONE") == "1" {
        write(&stores, &format!("{prefix}-one"), value_bytes);
    }
    if let Err(error) = stores.close() {
        say(format!("unclean {error}"));
    }
}

/// What `stator open-store` is for a node; not a test by itself.
#[test]
fn opens_a_store_apart() {
    let Some(directory) = std::env::var_os("STATOR_OPEN_DIRECTORY") else { return };
    if variable("STAYS_OPEN") == "1" {
        let engine = super::super::open::open(EngineKind::Fjall, directory.as_ref(), 8 << 20);
        std::fs::write(Path::new(&variable("HOME")).join(STAYS_OPEN), "").unwrap();
        loop {
            std::hint::black_box(&engine);
            std::thread::park();
        }
    }
    super::super::open_store_main();
}

fn write(stores: &Stores, key: &str, value_bytes: usize) {
    let (done, reply) = reply();
    let change = mint(Context::default(), value(key, value_bytes));
    stores.write(WriteJob { change, ..put_job(key, "", true, done) });
    match reply.get() {
        Ok(done) => say(format!("ack {key} {} .", done.dot.unwrap())),
        Err(error) => say(format!("full {error}")),
    }
}

/// Replaces what is under `key`, also what an earlier life left there.
fn replace(stores: &Stores, key: &str, text: &str) {
    let context = match load(stores, key) {
        Ok(Some(siblings)) => Context::of(&siblings),
        Ok(None) => Context::default(),
        Err(error) => return say(format!("unread {key} {error}")),
    };
    let (done, reply) = reply();
    stores
        .write(WriteJob { change: mint(context, text.to_owned()), ..put_job(key, "", true, done) });
    match reply.get() {
        Ok(done) => say(format!("over {key} {} .", done.dot.unwrap())),
        Err(error) => say(format!("full {error}")),
    }
}

/// Says what became of an acknowledged write, unless it is as it was.
fn check(stores: &Stores, line: &str) {
    let mut words = line.split(' ');
    let (key, dot) = (words.next().unwrap(), words.next().unwrap());
    let value_bytes: Option<usize> = words.next().unwrap().parse().ok();
    let siblings = match load(stores, key) {
        Ok(Some(siblings)) => siblings,
        Ok(None) => return say(format!("missing {key}")),
        Err(StoreError::Damaged { .. }) => return say(format!("damaged {key}")),
        Err(error) => return say(format!("unread {key} {error}")),
    };
    let is_there = match value_bytes {
        Some(value_bytes) => {
            let expected = value(key, value_bytes);
            siblings.versions().iter().any(|live| {
                live.dots.iter().any(|found| found.to_string() == dot)
                    && live.version.payload.value().is_some_and(|found| *found == expected)
            })
        }
        None => {
            let (actor, counter) = dot.split_once(':').unwrap();
            let counter: u64 = counter.parse().unwrap();
            let mut known = siblings.vector().iter();
            known.any(|top| top.actor.to_string() == actor && top.counter >= counter)
        }
    };
    if !is_there {
        say(format!("wrong {key}"));
    }
}
