//! What a workload is driven against.
//!
//! The loop, the choice of keys and the recorder know only this: a store of keys by number that
//! reads and writes. Stator is one ([`super::stator`]); a store without causal contexts
//! ([`super::etcd`], [`super::redis`]) has `()` for what a reader has seen.

use std::future::Future;

use bytes::Bytes;

/// A connection to a store.
pub(super) trait Target: Send + Sync + 'static {
    /// What a reader hands to the write that replaces what was read.
    type Seen: Clone + Send + Sync + 'static;

    /// Reads the key with this number.
    fn read(&self, key: u64) -> impl Future<Output = Result<Reading<Self::Seen>, Reason>> + Send;

    /// Writes the key with this number.
    fn write(
        &self,
        key: u64,
        value: Bytes,
        over: Over<Self::Seen>,
    ) -> impl Future<Output = Result<Written, Reason>> + Send;
}

/// What a read came to.
#[derive(Debug)]
pub(super) struct Reading<S> {
    /// The value; none for an absent key, several if the store leaves siblings to its clients.
    pub(super) values: Vec<Bytes>,
    /// How many concurrent versions the store had of it.
    pub(super) siblings: u32,
    /// What was seen.
    pub(super) seen: S,
}

/// What a write is to replace.
#[derive(Debug)]
pub(super) enum Over<S> {
    /// Nothing: the key is new.
    Nothing,
    /// What a reader has seen.
    Seen(S),
    /// Whatever there is, in the way of the store.
    Whatever,
}

/// A write that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// Whether other versions are left beside it.
    pub(super) has_siblings: bool,
}

/// Why a request failed: a word to count by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason(pub(super) String);
