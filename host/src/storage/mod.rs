//! Storage: what a node keeps, on its own disk, and how it gets there.
//!
//! ```text
//!   Home      the data directory: lock, node id, incarnation, note of a clean stop
//!   Stores    the two stores of a node: data (as an owner) and hints (for absent nodes)
//!     committer   one thread a store: runs the core's write path, group commit
//!     readers     a few threads: single keys, pages of hints and of partitions
//!     records     the core's record format, with damage found by its checksum
//!     trees       hash trees over the data store, for anti-entropy
//!     history     a journal of the versions that made way for others, where a keyspace wants one
//!     changes     what was changed lately, for those who watch keys
//!     chunks      values of any size over an engine that wants small ones
//!     open, slot  opening an engine with a deadline; setting a damaged one aside; its place
//!     trial       opening it in another process first, if the last start may have died of it
//!     Engine      the port: sled or fjall on disk, or memory
//! ```
//!
//! Storage runs the one write path of a key (`stator_core::write`) and decides nothing of its
//! own about causality. It knows keys, records and node ids; it knows no ring, quorum or peer.
//!
//! A write is *applied* when readers see it and *synced* when a power cut cannot take it back.
//! [`WriteJob::sync`] says which of the two its caller waits for. Hints are always synced.
//!
//! Damage is met record by record: a record that fails its checksum, or that the engine cannot
//! read, counts as missing, for a reader as an error, for a writer as a key to be written under a
//! fresh epoch. An engine that cannot be opened is set aside. One that fails at a write takes its
//! store out of service for writes until it was reopened; reads go on.
//!
//! Left out, for later issues: setting a store aside while the node runs, backup by range.

mod aside;
mod cache;
mod changes;
mod chunks;
mod collect;
mod committer;
mod drops;
mod engine;
mod error;
mod group;
mod hints;
mod history;
mod home;
mod index;
mod job;
mod meta;
mod open;
mod options;
mod queue;
mod readers;
mod records;
mod reopen;
mod scan;
mod slot;
mod stores;
mod trees;
mod trial;

#[cfg(test)]
mod tests;

pub use aside::SetAside;
pub use changes::{BadPosition, Changed, Position, Since, Watcher};
pub use engine::{
    Batch, Engine, EngineError, Entries, Fault, FjallEngine, MemoryEngine, SledEngine,
};
pub use error::{CloseError, Effect, OpenError, StoreError};
pub use history::{History, Superseded};
pub use home::{Home, HomeError};
pub use job::{
    Applied, Area, Done, FindAnyJob, HeldHint, HintFigures, IndexJob, ListHintsJob, LoadJob,
    ScanJob, ScanPage, StoreFigures, TreeJob, WriteDone, WriteJob,
};
pub use options::{EngineKind, StoreOptions};
pub use stores::Stores;
pub use trial::{OPEN_STORE, open_store_main};
