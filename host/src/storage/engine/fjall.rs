//! The second engine on disk: `fjall` 3.1, a log-structured merge tree.
//!
//! One `fjall` keyspace in one database holds everything, so a batch is one entry of its journal.
//!
//! - [`Engine::apply`] hands the batch to the operating system; [`Engine::sync`] is an `fsync` of
//!   the journal. `fjall` holds the journal's lock during it and would stop other writers; there
//!   are none, because the committer is the only one.
//! - `fjall` puts writers to sleep while four memtables wait to be written out, and never wakes
//!   them if the thread that writes them out has died (of a full disk, of damage). So an apply
//!   waits here, one memtable earlier, where such a death is noticed.
//! - `fjall` drops what stands behind some damage of its journal, in silence, as `sled` does. That
//!   is noticed above, by the store's note of its latest commit.

use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode};
use bytes::Bytes;

use super::{Batch, Engine, EngineError, Entries, Fault, panic_text};

const KEYSPACE: &str = "all";

/// Threads that write memtables out and compact. One of two does nothing but the former.
const WORKERS: usize = 2;

/// A memtable is written out at this size, or at the cache's if that is smaller.
/// Files that are kept open for reading: others need descriptors, too.
const FILES_MAX: usize = 100;
const MEMTABLE_BYTES: u64 = 64 << 20;

/// `fjall` blocks at 4. One batch seals one more at most.
const SEALED_MAX: usize = 2;
const SEALED_POLL: Duration = Duration::from_millis(2);

/// A `fjall` database in a directory of its own.
pub struct FjallEngine {
    keyspace: Keyspace,
    db: Database,
    directory: PathBuf,
}

impl FjallEngine {
    /// Opens the database in `directory`, which is made if it is missing. `cache_bytes` is for
    /// blocks that were read; memtables of up to 64 MiB come on top.
    ///
    /// # Errors
    /// The directory is in use, cannot be read or written, or its content is damaged.
    pub fn open(directory: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let builder = Database::builder(directory).max_cached_files(Some(FILES_MAX));
            let db = builder.cache_size(cache_bytes).worker_threads(WORKERS).open()?;
            let keyspace = db.keyspace(KEYSPACE, || {
                let memtable_bytes = MEMTABLE_BYTES.min(cache_bytes.max(1 << 20));
                KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes)
            })?;
            // `fjall` syncs its files and most of its directories, but not all names of those.
            sync_directories(directory)?;
            if let Some(parent) = directory.parent() {
                File::open(parent)?.sync_all()?;
            }
            Ok((db, keyspace))
        }));
        let (db, keyspace) = judge(directory, "open", opened)?;
        Ok(FjallEngine { keyspace, db, directory: directory.to_owned() })
    }

    fn run<T>(
        &self,
        doing: &'static str,
        call: impl FnOnce() -> ::fjall::Result<T>,
    ) -> Result<T, EngineError> {
        judge(&self.directory, doing, catch_unwind(AssertUnwindSafe(call)))
    }

    /// Waits until so few memtables are to be written out that `fjall` will not block.
    fn await_workers(&self) -> ::fjall::Result<()> {
        while self.keyspace.sealed_memtable_count() > SEALED_MAX {
            // Fails once a worker has died.
            self.db.persist(PersistMode::Buffer)?;
            thread::sleep(SEALED_POLL);
        }
        Ok(())
    }
}

impl Engine for FjallEngine {
    fn describe(&self) -> String {
        describe(&self.directory)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.run("get", || self.keyspace.get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn apply(&self, batch: Batch) -> Result<(), EngineError> {
        self.run("apply", || {
            self.await_workers()?;
            // Operations of a batch share a number in its history, so one of each key.
            let last: std::collections::BTreeMap<_, _> = batch.into_ops().collect();
            let mut ops = self.db.batch().durability(Some(PersistMode::Buffer));
            for (key, value) in last {
                match value {
                    Some(value) => ops.insert(&self.keyspace, key, &value[..]),
                    None => ops.remove(&self.keyspace, key),
                }
            }
            ops.commit()
        })
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.run("sync", || self.db.persist(PersistMode::SyncAll))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Entries, EngineError> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.run("scan", || {
            let range: Range<&[u8]> = from..to;
            let entries = self.keyspace.range(range).take(limit);
            entries
                .map(|entry| {
                    let (key, value) = entry.into_inner()?;
                    Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
                })
                .collect()
        })
    }
}

/// Makes of a call's outcome what the trait promises; a panic is damage that `fjall` met.
fn judge<T>(
    directory: &Path,
    doing: &'static str,
    outcome: thread::Result<::fjall::Result<T>>,
) -> Result<T, EngineError> {
    let (fault, why) = match outcome {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => (fault(&error), words(&error)),
        Err(panic) => (Fault::Damage, format!("fjall panicked: {}", panic_text(&*panic))),
    };
    Err(EngineError { engine: describe(directory), doing, fault, why })
}

fn fault(error: &::fjall::Error) -> Fault {
    match error {
        ::fjall::Error::Io(error) | ::fjall::Error::Storage(LsmError::Io(error)) => {
            Fault::of(error)
        }
        ::fjall::Error::Locked => Fault::Refused,
        // An earlier failure that only `fjall` saw.
        ::fjall::Error::Poisoned => Fault::Medium,
        _ => Fault::Damage,
    }
}

fn words(error: &::fjall::Error) -> String {
    match error {
        ::fjall::Error::Io(error) | ::fjall::Error::Storage(LsmError::Io(error)) => {
            error.to_string()
        }
        ::fjall::Error::Locked => "it is in use".to_owned(),
        ::fjall::Error::Poisoned => {
            "an earlier write or a write in the background failed".to_owned()
        }
        error => error.to_string(),
    }
}

fn sync_directories(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_directories(&entry.path())?;
        }
    }
    File::open(directory)?.sync_all()
}

fn describe(directory: &Path) -> String {
    format!("fjall in {}", directory.display())
}
