//! The engine on disk: `sled` 0.34.7, with what it lacks added.
//!
//! - `sled`'s `flush()` is not durable on Linux (it calls `sync_file_range`), so [`SledEngine`]
//!   calls `fdatasync` on the log, the file named `db`, after every flush.
//! - `sled` writes items above a quarter of its segment size to files under `blobs/` and never
//!   syncs those. With segments of 16 MiB and values cut into chunks (see [`super::super`]) there
//!   are none; the tests check it.
//! - At an open `sled` writes a snapshot of its index as `snap.N.generating` and renames it. A
//!   process that is killed meanwhile leaves a part of one, which the next open takes for the latest
//!   snapshot and finds damaged. It is only a short cut through the log, so it is removed before.
//! - `sled` panics on some damage. Every call is caught, and a panic becomes an error.
//! - `sled` drops what stands behind some other damage, in silence. That is noticed above, by the
//!   store's note of its latest commit.
//!
//! A damaged directory is set aside by who opens it (`open.rs`).

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Batch, Engine, EngineError, Entries, Fault, panic_text};

/// Segments as large as `sled` lets them be: items up to a quarter of it stay in the log.
const SEGMENT_BYTES: usize = 16 << 20;

/// The log is collected on the flush thread, so this stays on though durability does not need it.
const FLUSH_EVERY_MS: u64 = 500;

/// How long an open waits for the lock. A database that was dropped in this process keeps it
/// until the last of `sled`'s background tasks is done.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// A `sled` database in a directory of its own.
pub struct SledEngine {
    db: ::sled::Db,
    log: File,
    directory: PathBuf,
}

impl SledEngine {
    /// Opens the database in `directory`, which is made if it is missing.
    ///
    /// `cache_bytes` is what `sled` is told; it takes about five times as much.
    ///
    /// # Errors
    /// The directory is in use, cannot be read or written, or its content is damaged. Nothing
    /// that was in it is removed but a snapshot that was not written to its end: nobody else may be
    /// opening the directory.
    pub fn open(directory: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        let config = ::sled::Config::new()
            .path(directory)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(Some(FLUSH_EVERY_MS));
        remove_unfinished(directory).map_err(|error| io_failure(directory, "open", &error))?;
        let opened = catch_unwind(AssertUnwindSafe(|| open_locked(&config)));
        let db = judge(directory, "open", opened)?;
        let log = sync_files(directory).map_err(|error| io_failure(directory, "open", &error))?;
        Ok(SledEngine { db, log, directory: directory.to_owned() })
    }

    fn run<T>(
        &self,
        doing: &'static str,
        call: impl FnOnce() -> ::sled::Result<T>,
    ) -> Result<T, EngineError> {
        judge(&self.directory, doing, catch_unwind(AssertUnwindSafe(call)))
    }
}

impl Engine for SledEngine {
    fn describe(&self) -> String {
        describe(&self.directory)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.run("get", || self.db.get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn apply(&self, batch: Batch) -> Result<(), EngineError> {
        let mut ops = ::sled::Batch::default();
        for (key, value) in batch.into_ops() {
            match value {
                Some(value) => ops.insert(key, &value[..]),
                None => ops.remove(key),
            }
        }
        self.run("apply", || self.db.apply_batch(ops))
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.run("flush", || self.db.flush())?;
        self.log.sync_data().map_err(|error| io_failure(&self.directory, "sync", &error))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Entries, EngineError> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.run("scan", || {
            let copied = |(key, value): (::sled::IVec, ::sled::IVec)| {
                (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value))
            };
            let entries = self.db.range(from..to).take(limit);
            entries.map(|entry| entry.map(copied)).collect()
        })
    }
}

/// Removes snapshots that an open has begun to write and not finished.
fn remove_unfinished(directory: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let is_unfinished = |name: &str| name.starts_with("snap.") && name.ends_with(".generating");
        if entry.file_name().to_str().is_some_and(is_unfinished) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn open_locked(config: &::sled::Config) -> ::sled::Result<::sled::Db> {
    let give_up_at = Instant::now() + LOCK_WAIT;
    loop {
        match config.open() {
            Err(error) if is_locked(&error) && Instant::now() < give_up_at => {
                thread::sleep(Duration::from_millis(5));
            }
            ended => return ended,
        }
    }
}

/// Whether another user of the directory is the trouble. Only the text tells.
fn is_locked(error: &::sled::Error) -> bool {
    matches!(error, ::sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

/// Makes of a call's outcome what the trait promises; a panic is damage that `sled` met.
fn judge<T>(
    directory: &Path,
    doing: &'static str,
    outcome: thread::Result<::sled::Result<T>>,
) -> Result<T, EngineError> {
    let (fault, why) = match outcome {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => (fault(&error), error.to_string()),
        Err(panic) => (Fault::Damage, format!("sled panicked: {}", panic_text(&*panic))),
    };
    Err(EngineError { engine: describe(directory), doing, fault, why })
}

fn fault(error: &::sled::Error) -> Fault {
    match error {
        error if is_locked(error) => Fault::Refused,
        ::sled::Error::Io(error) => Fault::of(error),
        _ => Fault::Damage,
    }
}

/// Makes the database's files and their names durable; the answer is the log, for later syncs.
fn sync_files(directory: &Path) -> std::io::Result<File> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(directory)?.sync_all()?;
    if let Some(parent) = directory.parent() {
        File::open(parent)?.sync_all()?;
    }
    File::open(directory.join("db"))
}

fn describe(directory: &Path) -> String {
    format!("sled in {}", directory.display())
}

fn io_failure(directory: &Path, doing: &'static str, error: &std::io::Error) -> EngineError {
    let (fault, why) = (Fault::of(error), error.to_string());
    EngineError { engine: describe(directory), doing, fault, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_that_was_killed_while_it_wrote_a_snapshot_costs_nothing() {
        let directory = tempfile::tempdir().unwrap();
        for n in 0..3 {
            let engine = SledEngine::open(directory.path(), 8 << 20).unwrap();
            for earlier in 0..n {
                assert_eq!(engine.get(&[earlier]).unwrap().as_deref(), Some(&[earlier][..]));
            }
            let mut batch = Batch::new();
            batch.put(vec![n], vec![n]);
            engine.apply(batch).unwrap();
            engine.sync().unwrap();
            drop(engine);
            for (lsn, part) in [("0000000000000000", &b""[..]), ("FFFFFFFFFFFFFFFF", &[7; 40])] {
                let path = directory.path().join(format!("snap.{lsn}.generating"));
                std::fs::write(path, part).unwrap();
            }
        }
    }

    #[test]
    fn a_panic_of_sled_is_an_error_that_says_where() {
        let directory = tempfile::tempdir().unwrap();
        let engine = SledEngine::open(directory.path(), 8 << 20).unwrap();
        let error = engine.run::<()>("get", || panic!("corrupted page 9")).unwrap_err();
        assert_eq!(error.fault, Fault::Damage);
        for part in [&directory.path().display().to_string(), "corrupted page 9"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(engine.get(b"k"), Ok(None), "the engine goes on");
    }
}
