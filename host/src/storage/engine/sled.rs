//! The engine on disk: `sled` 0.34.7, with what it lacks added.
//!
//! - `sled`'s `flush()` is not durable on Linux (it calls `sync_file_range`), so [`SledEngine`]
//!   calls `fdatasync` on the log, the file named `db`, after every flush.
//! - `sled` writes items above a quarter of its segment size to files under `blobs/` and never
//!   syncs those. With segments of 16 MiB and values cut into chunks (see [`super::super`]) there
//!   are none; the tests check it.
//! - `sled` panics on some damage. Every call is caught, and a panic becomes an error.
//! - `sled` drops what stands behind some other damage, in silence. That is noticed above, by the
//!   store's note of its latest commit.
//!
//! Left out: setting a damaged directory aside and refilling it from peers.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Batch, Engine, EngineError, Entries};

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
    /// that was in it is removed.
    pub fn open(directory: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        let config = ::sled::Config::new()
            .path(directory)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(Some(FLUSH_EVERY_MS));
        let db = open_apart(directory, move || open_locked(&config))?;
        let log = sync_files(directory).map_err(|error| failure(directory, "open", error))?;
        Ok(SledEngine { db, log, directory: directory.to_owned() })
    }

    fn run<T>(
        &self,
        doing: &'static str,
        call: impl FnOnce() -> ::sled::Result<T>,
    ) -> Result<T, EngineError> {
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(result) => result.map_err(|error| failure(&self.directory, doing, error)),
            Err(panic) => {
                let why = format!("sled panicked: {}", panic_text(&*panic));
                Err(failure(&self.directory, doing, why))
            }
        }
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
                Some(value) => ops.insert(key, value),
                None => ops.remove(key),
            }
        }
        self.run("apply", || self.db.apply_batch(ops))
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.run("flush", || self.db.flush())?;
        self.log.sync_data().map_err(|error| failure(&self.directory, "sync", error))
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

fn open_locked(config: &::sled::Config) -> ::sled::Result<::sled::Db> {
    let give_up_at = Instant::now() + LOCK_WAIT;
    loop {
        match config.open() {
            // Only the text tells this error from others.
            Err(::sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && Instant::now() < give_up_at =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            ended => return ended,
        }
    }
}

/// Runs `open` on a thread of its own: damage makes it panic, in the middle of its recovery.
fn open_apart(
    directory: &Path,
    open: impl FnOnce() -> ::sled::Result<::sled::Db> + Send + 'static,
) -> Result<::sled::Db, EngineError> {
    let apart = thread::Builder::new().name("sled-open".to_owned()).spawn(open);
    let ended = apart.map_err(|error| failure(directory, "open", error))?.join();
    match ended {
        Ok(opened) => opened.map_err(|error| failure(directory, "open", error)),
        Err(panic) => {
            let why = format!(
                "its files are damaged ({}); move the directory away and start the node again: \
                 it starts empty and is refilled by its peers",
                panic_text(&*panic)
            );
            Err(failure(directory, "open", why))
        }
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

fn failure(directory: &Path, doing: &'static str, why: impl ToString) -> EngineError {
    EngineError { engine: describe(directory), doing, why: why.to_string() }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_sled_is_an_error_that_says_where_and_what_to_do() {
        let directory = Path::new("/data/node-1/data");
        let error = open_apart(directory, || panic!("corrupted segment 7")).err();
        let text = error.unwrap().to_string();
        for part in ["/data/node-1/data", "corrupted segment 7", "move the directory away"] {
            assert!(text.contains(part), "{text}");
        }

        let directory = tempfile::tempdir().unwrap();
        let engine = SledEngine::open(directory.path(), 8 << 20).unwrap();
        let error = engine.run::<()>("get", || panic!("corrupted page 9")).unwrap_err();
        assert!(error.to_string().contains("corrupted page 9"), "{error}");
        assert_eq!(engine.get(b"k"), Ok(None), "the engine goes on");
    }
}
