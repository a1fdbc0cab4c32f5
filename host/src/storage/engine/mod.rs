//! The port to a storage engine: ordered bytes, batches, and a clear line between visible and
//! durable.
//!
//! An engine keeps byte keys in order. [`Engine::apply`] makes a batch visible at once and as a
//! whole, but promises nothing about a power cut; [`Engine::sync`] makes all that was applied
//! before it survive one. The committer (see [`super`]) is an engine's only writer.
//!
//! Every engine passes the same contract (`contract.rs`), which is the definition of this trait.
//! Left out: transactions and iterators that live longer than a call; neither is needed above.

#[cfg(test)]
mod contract;
mod fjall;
mod log;
mod memory;
mod sled;

use std::io;

use bytes::Bytes;

pub use self::fjall::FjallEngine;
pub(super) use self::log::DIRECTORY as LOG_DIRECTORY;
pub use self::log::LoggedEngine;
pub use self::memory::MemoryEngine;
pub use self::sled::SledEngine;

/// Whether logs do without their `fdatasync` from now on, in all of this process.
#[cfg(test)]
pub(super) fn forget_to_sync(forgets: bool) {
    log::FORGETS_TO_SYNC.store(forgets, std::sync::atomic::Ordering::Relaxed);
}

/// Ordered bytes on some medium. All calls block.
pub trait Engine: Send + Sync + 'static {
    /// What this is, for messages: the engine's name and its directory, if it has one.
    fn describe(&self) -> String;

    /// The value of `key`.
    ///
    /// # Errors
    /// The medium could not be read; nothing changed.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Makes all of `batch` visible, or none of it. Not yet durable.
    ///
    /// # Errors
    /// It is unknown whether the batch is visible; the engine must be reopened to find out.
    fn apply(&self, batch: Batch) -> Result<(), EngineError>;

    /// Makes everything that was applied before this call survive a power cut.
    ///
    /// # Errors
    /// It is unknown how much is durable; the engine must be reopened to find out.
    fn sync(&self) -> Result<(), EngineError>;

    /// The first `limit` entries with `from <= key < to`, in key order.
    ///
    /// # Errors
    /// The medium could not be read; nothing changed.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Entries, EngineError>;
}

/// Keys with their values, in key order.
pub type Entries = Vec<(Bytes, Bytes)>;

/// Puts and deletes that become visible together. The last one of a key counts.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    ops: Vec<(Vec<u8>, Option<Bytes>)>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: Vec<u8>, value: impl Into<Bytes>) {
        self.ops.push((key, Some(value.into())));
    }

    /// Removes `key`; one that is not there is no error.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.ops.push((key, None));
    }

    /// The operations in the order they were added; `None` is a delete.
    pub fn into_ops(self) -> impl Iterator<Item = (Vec<u8>, Option<Bytes>)> {
        self.ops.into_iter()
    }
}

/// An engine did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{engine}: {doing} failed: {why}")]
pub struct EngineError {
    /// Which engine, as [`Engine::describe`] says.
    pub engine: String,
    /// The call that failed.
    pub doing: &'static str,
    /// What kind of failure it is.
    pub fault: Fault,
    /// What the engine or the operating system reported.
    pub why: String,
}

impl EngineError {
    /// What a person can do about it.
    pub fn cure(&self) -> &'static str {
        match self.fault {
            Fault::Damage => {
                "if the store does not come back by itself, restart the node: it is set aside, \
                 starts empty and is refilled by its peers"
            }
            Fault::Full => "free space on the disk, and the store goes on by itself",
            Fault::Medium | Fault::Refused => {
                "the store goes on by itself once the disk does; look at the disk and its mount"
            }
        }
    }
}

/// What a failure says about the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What is stored is not what was written.
    Damage,
    /// The medium failed. What it holds may be whole.
    Medium,
    /// There is no room.
    Full,
    /// The operating system refuses for a reason that is not in the data: rights, locks, limits.
    Refused,
}

impl Fault {
    /// The kind of an error of the operating system.
    pub(super) fn of(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Fault::Full,
            Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::OutOfMemory
            | Kind::ResourceBusy
            | Kind::WouldBlock => Fault::Refused,
            // The engine's own files are there and long enough unless they were damaged.
            Kind::UnexpectedEof | Kind::InvalidData | Kind::InvalidInput | Kind::NotFound => {
                Fault::Damage
            }
            _ => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE) => Fault::Refused,
                _ => Fault::Medium,
            },
        }
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}
