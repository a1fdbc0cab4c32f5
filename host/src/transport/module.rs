//! Module bytes by digest: fetched from a peer and served to peers, in chunks between messages.
//!
//! The catalogue says which modules there are; their bytes are fetched by whoever lacks them.
//! The receiver believes nothing but the digest: it bounds the length, and takes no bytes whose
//! hash is another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use stator_core::id::{ModuleDigest, NodeId};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::config::{MODULE_BYTES_MAX, MODULE_CHUNK_BYTES, MODULE_STALL};
use super::frame::{Frame, ModuleChunk, ModuleFailure};
use super::outbox::Upload;
use super::session::Session;
use super::{Shared, lock};

/// A module did not come. Ask another peer, or again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// There is no connection to the peer, or it broke.
    #[error("there is no connection to node {0}")]
    NotConnected(NodeId),
    /// The peer does not hold the module.
    #[error("node {0} does not hold the module")]
    NotHeld(NodeId),
    /// The peer serves this node's other fetches first.
    #[error("node {0} serves as many fetches as it may already")]
    Busy(NodeId),
    /// No chunk came in time.
    #[error("node {0} sent nothing for {wait} s", wait = MODULE_STALL.as_secs())]
    Stalled(NodeId),
    /// The module is larger than what is fetched.
    #[error("the module has {found} bytes; the limit is {MODULE_BYTES_MAX}")]
    TooLarge {
        /// Its length.
        found: u64,
    },
    /// The bytes are not those that were asked for.
    #[error("node {from} sent bytes with another digest than {expected}; they were dropped")]
    WrongBytes {
        /// The peer.
        from: NodeId,
        /// The digest that was asked for.
        expected: ModuleDigest,
    },
}

/// More chunks than a module of the largest size has: only a peer that floods fills it.
const CHUNKS_MAX: usize = MODULE_BYTES_MAX as usize / MODULE_CHUNK_BYTES + 1;

/// The fetches of a session that wait for chunks.
pub(super) struct Fetches(Mutex<Waiting>);

struct Waiting {
    is_closed: bool,
    next: u64,
    chunks: HashMap<u64, mpsc::Sender<ModuleChunk>>,
}

impl Fetches {
    pub fn new() -> Self {
        Fetches(Mutex::new(Waiting { is_closed: false, next: 1, chunks: HashMap::new() }))
    }

    /// Hands a chunk to its fetch. A fetch that was given up is none.
    pub fn deliver(&self, chunk: ModuleChunk) {
        let mut waiting = lock(&self.0);
        let fetch = chunk.fetch;
        let is_lost = (waiting.chunks.get(&fetch)).is_some_and(|to| to.try_send(chunk).is_err());
        if is_lost {
            waiting.chunks.remove(&fetch);
        }
    }

    /// Ends all fetches, those to come too.
    pub fn close(&self) {
        let mut waiting = lock(&self.0);
        waiting.is_closed = true;
        waiting.chunks.clear();
    }

    fn begin(&self) -> Fetch<'_> {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let mut waiting = lock(&self.0);
        let id = waiting.next;
        waiting.next += 1;
        if !waiting.is_closed {
            waiting.chunks.insert(id, sender);
        }
        drop(waiting);
        Fetch { fetches: self, id, chunks }
    }
}

/// A fetch that is waited for.
struct Fetch<'a> {
    fetches: &'a Fetches,
    id: u64,
    chunks: mpsc::Receiver<ModuleChunk>,
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        lock(&self.fetches.0).chunks.remove(&self.id);
    }
}

/// Gets the module with this digest from the peer of `session`.
pub(super) async fn fetch(session: &Session, digest: ModuleDigest) -> Result<Bytes, FetchError> {
    let from = session.peer;
    let mut fetch = session.fetches.begin();
    session.outbox.push_control(Frame::ModuleFetch { fetch: fetch.id, digest });
    let mut bytes = BytesMut::new();
    let mut hasher = blake3::Hasher::new();
    loop {
        let chunk = timeout(MODULE_STALL, fetch.chunks.recv())
            .await
            .map_err(|_| FetchError::Stalled(from))?
            .ok_or(FetchError::NotConnected(from))?;
        let found = match chunk.size_bytes {
            Ok(size_bytes) => size_bytes,
            Err(ModuleFailure::NotHeld) => return Err(FetchError::NotHeld(from)),
            Err(ModuleFailure::Busy) => return Err(FetchError::Busy(from)),
        };
        if found > MODULE_BYTES_MAX {
            return Err(FetchError::TooLarge { found });
        }
        hasher.update(&chunk.data);
        bytes.extend_from_slice(&chunk.data);
        let length = bytes.len() as u64;
        let is_whole = length == found;
        if is_whole && hasher.finalize() == blake3::Hash::from_bytes(digest.0) {
            return Ok(bytes.freeze());
        }
        // A chunk without data would put the end off for ever.
        if length >= found || chunk.data.is_empty() {
            let expected = digest;
            return Err(FetchError::WrongBytes { from, expected });
        }
    }
}

/// Serves a module to the peer of `session`.
pub(super) fn serve(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    fetch: u64,
    digest: ModuleDigest,
) {
    let Ok(permit) = session.serving.clone().try_acquire_owned() else {
        return fail(session, fetch, ModuleFailure::Busy);
    };
    let sink = shared.sink.clone();
    let session = session.clone();
    shared.spawn(async move {
        let found = tokio::task::spawn_blocking(move || sink.module(&digest)).await;
        match found.ok().flatten() {
            Some(bytes) => session.outbox.push_upload(Upload {
                fetch,
                size_bytes: bytes.len() as u64,
                rest: bytes,
                _permit: permit,
            }),
            None => fail(&session, fetch, ModuleFailure::NotHeld),
        }
    });
}

fn fail(session: &Session, fetch: u64, failure: ModuleFailure) {
    let chunk = ModuleChunk { fetch, size_bytes: Err(failure), data: Bytes::new() };
    session.outbox.push_control(Frame::ModuleChunk(chunk));
}
