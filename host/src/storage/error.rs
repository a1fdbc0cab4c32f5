//! What the stores answer when they do not do what they were asked to.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use stator_core::codec::DecodeError;
use stator_core::write::WriteRefused;

use super::engine::EngineError;
use super::home::HomeError;

/// A job was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// More jobs wait than may. Nothing was changed; try again later.
    #[error(
        "the {store} store is overloaded: {jobs_max} jobs wait, or {mib} MiB of them, which are the \
         limits; nothing was changed, try again later", mib = super::queue::BYTES_MAX >> 20
    )]
    Overloaded {
        /// Which store.
        store: &'static str,
        /// The limit on waiting jobs.
        jobs_max: usize,
    },
    /// The value does not fit what values that are being read may take together.
    #[error("values that are being read take {bytes_max} bytes already")]
    NoRoom {
        /// What they may take.
        bytes_max: u64,
    },
    /// The write breaks a rule of its keyspace. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
    /// Its time was over before its turn came. Nothing was changed.
    #[error("the {store} store came to the write after its deadline; nothing was changed")]
    Expired {
        /// Which store.
        store: &'static str,
    },
    /// The hint would take more room than hints may. Nothing was changed.
    #[error(
        "hints for unreachable nodes take {held_bytes} bytes, and one of {added_bytes} more does \
         not fit the limit hints_bytes_max = {bytes_max}; nothing was changed; bring the nodes \
         back or raise the limit"
    )]
    HintBudget {
        /// Bytes of all hints now.
        held_bytes: usize,
        /// Bytes that this one would add.
        added_bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A hint must name who it is for. Nothing was changed.
    #[error("a hint without a target would never be delivered; nothing was changed")]
    HintWithoutTarget,
    /// The key's record is there and cannot be read.
    #[error(
        "the {store} store's record of the key is damaged ({why}) and counts as missing; reading \
         the key from the other replicas repairs it"
    )]
    Damaged {
        /// Which store.
        store: &'static str,
        /// What is wrong with it.
        why: DecodeError,
    },
    /// The engine failed at this read.
    #[error("the {store} store could not read: {why}")]
    Engine {
        /// Which store.
        store: &'static str,
        /// What the engine reported.
        why: Arc<EngineError>,
    },
    /// The engine failed at a write, of this job or an earlier one.
    #[error(
        "the {store} store takes no writes since its engine failed ({why}); {effect}; what can be \
         read is still served; {}",
        why.cure()
    )]
    OutOfService {
        /// Which store.
        store: &'static str,
        /// What the engine reported.
        why: Arc<EngineError>,
        /// What became of this job.
        effect: Effect,
    },
    /// The node is stopping. Nothing was changed.
    #[error("the {store} store is closed, the node is stopping; nothing was changed")]
    Closed {
        /// Which store.
        store: &'static str,
    },
}

/// What a job that failed has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Its write may be stored, now or after a restart, or may not.
    Maybe,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Effect::None => "nothing was changed",
            Effect::Maybe => "this write may or may not be stored",
        })
    }
}

/// The stores could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// An engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The data directory was made by another engine.
    #[error(
        "the data directory {path} was made by the engine {found}, and {asked} cannot read it: \
         start with --engine {found}, or give this node a fresh directory to be refilled by its \
         peers; nothing was changed"
    )]
    OtherEngine {
        /// The data directory.
        path: String,
        /// The engine that made it.
        found: String,
        /// The engine that was asked for.
        asked: &'static str,
    },
    /// An engine was not open in time.
    #[error(
        "{why}; start the node again: the store is then set aside as {} (nothing of it is \
         deleted), starts empty and is refilled by its peers; to give it more time instead, \
         remove the file `set-aside` from the data directory and raise the limit",
        to.display()
    )]
    Overdue {
        /// The limit, and what exceeded it.
        why: EngineError,
        /// Where the store is put by the next start.
        to: PathBuf,
    },
    /// The history of superseded versions cannot be read.
    #[error(
        "cannot read the history in {}: {error}; nothing was changed. To start without it, set \
         limits.history_bytes_max to 0, or move the folder away",
        path.display()
    )]
    History {
        /// Its folder.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread of the stores: {0}; nothing was changed")]
    Thread(std::io::Error),
}

/// The stores were not closed cleanly. Synced writes are safe; the next start draws a new
/// incarnation.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// A store was out of service or failed at its last sync.
    #[error("the stores were not closed cleanly, synced writes are safe: {0}")]
    Store(#[from] StoreError),
    /// The note of the clean stop could not be written.
    #[error("the clean stop could not be noted, synced writes are safe: {0}")]
    Home(#[from] HomeError),
    /// A thread of the stores panicked.
    #[error("a thread of the {store} store panicked, synced writes are safe")]
    Panicked {
        /// Which store.
        store: &'static str,
    },
    /// The engine's files could not be synced after the engine was let go.
    #[error("the stores' files could not be synced, synced writes are safe: {0}")]
    Files(std::io::Error),
}
