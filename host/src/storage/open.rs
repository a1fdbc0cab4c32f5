//! Opening a store's engine: on a thread of its own, with a deadline, and looked through once.
//!
//! Damage makes engines fail, panic or hang. What cannot be opened, or read through once it is
//! open, is set aside ([`super::aside`]), and the store starts empty. What the operating system
//! refuses for another reason (rights, limits, a full disk) is no damage: then the node does not
//! start, and nothing was changed.
//!
//! An engine that is overdue may still be at work in its directory by name, so it is not replaced
//! under its feet: the node notes that the store is to be set aside and does not start; the next
//! start does the rest. Nor can damage be caught that ends the whole process: [`super::trial`].

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::aside;
use super::engine::{
    Engine, EngineError, Fault, FjallEngine, LOG_DIRECTORY, LoggedEngine, MemoryEngine, SledEngine,
    panic_text,
};
use super::error::OpenError;
use super::home::Home;
use super::job::Area;
use super::options::{EngineKind, StoreOptions};
use super::trial;

/// The name of the note in the data directory that tells the engine.
const ENGINE: &str = "engine";

/// A store that is read at this rate while it opens is not overdue.
const OPEN_BYTES_PER_SECOND: u64 = 8 << 20;

/// Makes an engine of what is on disk.
pub(super) type Make = Arc<dyn Fn() -> Result<Arc<dyn Engine>, EngineError> + Send + Sync>;

/// How to open one store's engine; again, too.
#[derive(Clone)]
pub(super) struct Opener {
    pub(super) kind: EngineKind,
    pub(super) area: Area,
    pub(super) directory: PathBuf,
    pub(super) make: Make,
    pub(super) open_within: Duration,
    /// See [`StoreOptions::trial`].
    pub(super) trial: Option<Vec<OsString>>,
}

/// Why an engine is not open.
#[derive(Debug)]
pub(super) enum Unopened {
    Failed(EngineError),
    Overdue(EngineError),
}

impl Unopened {
    pub(super) fn error(self) -> EngineError {
        match self {
            Unopened::Failed(error) | Unopened::Overdue(error) => error,
        }
    }
}

impl Opener {
    pub(super) fn new(home: &Home, area: Area, options: &StoreOptions) -> Self {
        let cache_bytes = match area {
            Area::Data => options.cache_bytes,
            // Hints are written once and read once: a cache would only hold what is leaving.
            Area::Hints => options.cache_bytes.min(8 << 20),
        };
        let (kind, directory) = (options.engine, home.path().join(area.name()));
        let at = directory.clone();
        let make: Make = Arc::new(move || open(kind, &at, cache_bytes));
        let trial = options.trial.clone();
        Opener { kind, area, directory, make, open_within: options.open_within, trial }
    }

    /// Opens the engine and has `look` read it, both before the deadline.
    pub(super) fn open<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Arc<dyn Engine>) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<(Arc<dyn Engine>, T), Unopened> {
        let make = self.make.clone();
        let work = move || {
            let engine = make()?;
            let seen = look(&engine)?;
            Ok((engine, seen))
        };
        let deadline = self.deadline();
        let (fault, why) = match within(deadline, work) {
            Ok(ended) => return ended.map_err(Unopened::Failed),
            Err(Late::Panicked(text)) => (Fault::Damage, format!("it panicked: {text}")),
            Err(Late::Unstarted(error)) => (Fault::Refused, error.to_string()),
            Err(Late::Overdue) => {
                let why = format!(
                    "it took longer than {:.1} s (timings.store_open_timeout_ms = {} and 1 s for \
                     each {} MiB on disk)",
                    deadline.as_secs_f64(),
                    self.open_within.as_millis(),
                    OPEN_BYTES_PER_SECOND >> 20
                );
                return Err(Unopened::Overdue(self.failure(Fault::Damage, why)));
            }
        };
        Err(Unopened::Failed(self.failure(fault, why)))
    }

    pub(super) fn deadline(&self) -> Duration {
        let size = size_bytes(&self.directory);
        self.open_within + Duration::from_secs(size / OPEN_BYTES_PER_SECOND)
    }

    pub(super) fn failure(&self, fault: Fault, why: String) -> EngineError {
        let engine = format!("{} in {}", self.kind.name(), self.directory.display());
        EngineError { engine, doing: "open", fault, why }
    }
}

/// Opens the store of `opener`, or an empty one in its place. `look` reads what is opened.
pub(super) fn open_or_set_aside<T: Send + 'static>(
    home: &Home,
    opener: &Opener,
    look: impl Fn(&Arc<dyn Engine>) -> Result<T, EngineError> + Clone + Send + 'static,
) -> Result<(Arc<dyn Engine>, T), OpenError> {
    let error = match trial::begin(home, opener)? {
        Some(error) => error,
        None => match opener.open(look.clone()) {
            Ok(opened) => return Ok(opened),
            Err(Unopened::Overdue(error)) => {
                let to = aside::intend(home, opener.area, &error.to_string())?;
                return Err(OpenError::Overdue { why: error, to });
            }
            Err(Unopened::Failed(error)) => error,
        },
    };
    if matches!(error.fault, Fault::Full | Fault::Refused) || !opener.kind.is_kept() {
        return Err(OpenError::Engine(error));
    }
    aside::intend(home, opener.area, &error.to_string())?;
    aside::finish(home)?;
    // If this fails, what was set aside is on the list, so that the next start knows of it.
    opener.open(look).map_err(|unopened| OpenError::Engine(unopened.error()))
}

/// Notes in the data directory which engine made it.
///
/// # Errors
/// Another one did. Nothing was changed.
pub(super) fn claim(home: &Home, kind: EngineKind) -> Result<(), OpenError> {
    let found = match home.load(ENGINE)? {
        Some(content) => String::from_utf8_lossy(&content).trim().to_owned(),
        // Directories of before this note were all of `sled`, or of `memory` and without stores.
        None if home.path().join(Area::Data.name()).join("db").exists() => {
            EngineKind::Sled.name().to_owned()
        }
        None => kind.name().to_owned(),
    };
    if found != kind.name() {
        let path = home.path().display().to_string();
        return Err(OpenError::OtherEngine { path, found, asked: kind.name() });
    }
    Ok(home.save(ENGINE, format!("{found}\n").as_bytes())?)
}

pub(super) fn open(
    kind: EngineKind,
    directory: &Path,
    cache_bytes: u64,
) -> Result<Arc<dyn Engine>, EngineError> {
    let engine: Arc<dyn Engine> = match kind {
        EngineKind::Memory => return Ok(Arc::new(MemoryEngine::new())),
        EngineKind::Sled => Arc::new(SledEngine::open(directory, cache_bytes)?),
        EngineKind::Fjall => Arc::new(FjallEngine::open(directory, cache_bytes)?),
    };
    Ok(Arc::new(LoggedEngine::open(directory, engine)?))
}

enum Late {
    Panicked(String),
    Unstarted(std::io::Error),
    Overdue,
}

/// Runs `work` on a thread of its own, which is left to itself if it is late.
fn within<T: Send + 'static>(
    deadline: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Late> {
    let (sender, receiver) = mpsc::channel();
    let apart = move || {
        let ended = catch_unwind(AssertUnwindSafe(work));
        // Nobody waits any more for what is late: it is dropped, and its files are closed.
        let _ = sender.send(ended.map_err(|panic| panic_text(&*panic).to_owned()));
    };
    thread::Builder::new().name("store-open".to_owned()).spawn(apart).map_err(Late::Unstarted)?;
    match receiver.recv_timeout(deadline) {
        Ok(ended) => ended.map_err(Late::Panicked),
        Err(_) => Err(Late::Overdue),
    }
}

/// About how much is stored under `directory`; what cannot be read counts as nothing.
fn size_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        // It has its room from the start, and is read in no time.
        _ if entry.file_name() == LOG_DIRECTORY => 0,
        Ok(metadata) if metadata.is_dir() => size_bytes(&entry.path()),
        // Not its length: engines make files of holes.
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_is_late_is_left_and_work_that_panics_is_told() {
        let (let_go, held) = mpsc::channel::<()>();
        let late = within(Duration::from_millis(5), move || held.recv().ok());
        assert!(matches!(late, Err(Late::Overdue)));
        drop(let_go);
        let panicked = within(Duration::from_secs(60), || panic!("segment 7"));
        assert!(matches!(panicked, Err::<(), _>(Late::Panicked(text)) if text == "segment 7"));
    }
}
