//! Bringing a store back that failed at a write.
//!
//! What such a store holds on disk is unknown: some of what was applied may be missing, and after
//! a failed `fsync` the operating system may still show what the disk does not have. So the store
//! is not simply used again. Once a probe shows that the disk takes writes, its engine is closed,
//! what the operating system has in memory of its files is dropped, and the engine is opened anew
//! and says what it holds.
//!
//! - Dots that were minted and lost must never be minted again: all actors of before are retired
//!   (`Minter::retire_actors`), and the next stop does not count as a clean one.
//! - Sequences go on from the highest ever given out.
//! - A store that holds less than was synced has lost what was acknowledged. It stays out of
//!   service, and the next start sets it aside. So does one that meets damage again soon after it
//!   came back.
//!
//! Until the probe succeeds the old engine serves reads; while the engine is changed they fail and
//! are answered by other replicas.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::aside;
use super::committer::Committer;
use super::engine::{EngineError, Fault};
use super::home::Home;
use super::open::{Opener, Unopened};
use super::slot::Slot;

/// A disk that takes this much is taken to have room again.
const PROBE_BYTES: usize = 4 << 20;

/// The wait between two tries doubles up to this.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// Damage that is met so soon after a store came back is not the disk's mood.
const SOON: Duration = Duration::from_secs(60);

/// How long a failed engine may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(60);

/// What reopening a store takes.
pub(super) struct Reopening {
    pub(super) home: Arc<Home>,
    pub(super) slot: Arc<Slot>,
    pub(super) opener: Opener,
    pub(super) first_wait: Duration,
    /// How long to wait after the next failed try, and when that try is.
    pub(super) wait: Duration,
    pub(super) at: Option<Instant>,
    pub(super) came_back: Option<Instant>,
    /// Whether only the next start can help.
    pub(super) is_given_up: bool,
}

impl Reopening {
    pub(super) fn new(home: Arc<Home>, slot: Arc<Slot>, opener: Opener, wait: Duration) -> Self {
        Reopening {
            home,
            slot,
            opener,
            first_wait: wait,
            wait,
            at: None,
            came_back: None,
            is_given_up: false,
        }
    }
}

impl Committer {
    /// When the store is to be tried again, if it is out of service and can come back.
    pub(super) fn reopen_at(&mut self) -> Option<Instant> {
        self.records.health.failure()?;
        let reopening = self.reopening.as_mut().filter(|reopening| !reopening.is_given_up)?;
        Some(*reopening.at.get_or_insert_with(|| Instant::now() + reopening.wait))
    }

    /// Tries to bring the store back.
    pub(super) fn reopen(&mut self) {
        let Some(mut reopening) = self.reopening.take() else {
            return;
        };
        let store = self.records.area.name();
        match self.try_reopen(&reopening) {
            Ok(()) => {
                tracing::warn!(store, "the store was reopened and takes writes again");
                self.records.health.recover();
                reopening.wait = reopening.first_wait;
                reopening.came_back = Some(Instant::now());
            }
            Err(error) => {
                if error.fault == Fault::Damage {
                    self.give_up(&mut reopening, &error);
                } else {
                    tracing::debug!(store, %error, "the store stays out of service");
                }
                reopening.wait = (reopening.wait * 2).min(WAIT_MAX);
            }
        }
        reopening.at = None;
        self.reopening = Some(reopening);
    }

    /// A write met `error`: if it is damage and the store has just come back from some, only the
    /// next start can help.
    pub(super) fn give_up_if_damaged_again(&mut self, error: &EngineError) {
        let is_soon = |at: &Instant| at.elapsed() < SOON;
        let again = |reopening: &mut Reopening| {
            error.fault == Fault::Damage && reopening.came_back.as_ref().is_some_and(is_soon)
        };
        if let Some(mut reopening) = self.reopening.take_if(again) {
            self.give_up(&mut reopening, error);
            self.reopening = Some(reopening);
        }
    }

    fn give_up(&self, reopening: &mut Reopening, error: &EngineError) {
        reopening.is_given_up = true;
        self.records.health.fail_for(error.clone());
        let noted = aside::intend(&reopening.home, self.records.area, &error.to_string());
        if let Err(error) = noted {
            tracing::error!(%error, "a damaged store could not be noted for being set aside");
        }
    }

    fn try_reopen(&mut self, reopening: &Reopening) -> Result<(), EngineError> {
        let failed = |doing, error: io::Error| EngineError {
            engine: self.records.engine.describe(),
            doing,
            fault: Fault::of(&error),
            why: error.to_string(),
        };
        probe(reopening.home.path()).map_err(|error| failed("probe", error))?;
        // From here on nothing that was minted before may go on.
        self.minter.lock().unwrap_or_else(PoisonError::into_inner).retire_actors();
        reopening.slot.let_go(CLOSE_WITHIN)?;
        forget_cached(&reopening.opener.directory).map_err(|error| failed("sync", error))?;
        let (engine, ()) = reopening.opener.open(|_| Ok(())).map_err(Unopened::error)?;
        drop(reopening.slot.replace(Ok(engine)));
        self.records.forget_kept();
        self.look_again()
    }

    /// Takes up what the engine holds, and has it write once.
    fn look_again(&mut self) -> Result<(), EngineError> {
        let kept = self.records.kept()?.meta();
        if kept.sequence < self.synced_sequence {
            return Err(EngineError {
                engine: self.records.engine.describe(),
                doing: "open",
                fault: Fault::Damage,
                why: format!(
                    "it holds commits up to {}, and {} was synced",
                    kept.sequence, self.synced_sequence
                ),
            });
        }
        if let Some(index) = &self.hints {
            index.rebuild(&self.records)?;
        }
        if let Some(trees) = &self.trees {
            trees.forget();
        }
        self.meta.objects = kept.objects;
        self.meta.sequence = self.meta.sequence.max(kept.sequence) + 1;
        self.records.note(&self.meta)?;
        self.synced_sequence = self.meta.sequence;
        self.unsynced_since = None;
        self.records.health.show(&self.meta);
        self.applied_sequence = self.meta.sequence;
        if let Some(changes) = &self.changes {
            changes.reopened();
        }
        Ok(())
    }
}

/// Writes and syncs a file of some size in `directory`, and removes it.
fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join(".probe");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0x5a; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// Has the operating system forget what it keeps in memory of the files under `directory`, so that
/// they are read from the disk.
fn forget_cached(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            forget_cached(&path)?;
            continue;
        }
        let file = File::open(&path)?;
        file.sync_all()?;
        // SAFETY: the call reads no memory of this process; the descriptor is open.
        let refused =
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        if refused != 0 {
            return Err(io::Error::from_raw_os_error(refused));
        }
    }
    Ok(())
}
