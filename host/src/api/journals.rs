//! Journals of a node as streams: the conflict feed, recordings, superseded versions.

use std::pin::Pin;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::Stream;
use stator_proto::v1;
use tonic::{Code, Status};

use super::errors;
use crate::conflicts::Recording;
use crate::journal::{Cursor, Entry, Journal};
use crate::node::Node;
use crate::storage::Superseded;

/// How much of a journal is read at a time, in bytes.
const READ_BYTES: u64 = 256 << 10;
/// How much is passed over at a time on the way to lines that are wanted.
const PASSED_BYTES: u64 = 2 << 20;

pub(super) type Listed<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// Where a node has a journal, if it keeps it.
pub(super) type Of<T> = fn(&Node) -> Option<&Journal<T>>;

/// What the JSON of a line must have in it to be wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Vec<Vec<u8>>);

impl Marks {
    /// Of a keyspace and a key, where they are given.
    pub(super) fn of(keyspace: &str, key: &[u8]) -> Self {
        let mut marks = Marks::default();
        if !keyspace.is_empty() {
            marks = marks.and("keyspace", keyspace);
        }
        if !key.is_empty() {
            marks = marks.and("key", &STANDARD.encode(key));
        }
        marks
    }

    /// Of a field with a text that is written as it is.
    fn and(mut self, field: &str, text: &str) -> Self {
        self.0.push(format!("\"{field}\":\"{text}\"").into_bytes());
        self
    }

    fn are_in(&self, line: &[u8]) -> bool {
        self.0.iter().all(|mark| memchr::memmem::find(line, mark).is_some())
    }
}

/// A node does not keep the journal.
pub(super) fn off(journal: &str, limit: &str) -> Status {
    let message = format!("this node keeps no {journal}: {limit} is 0");
    errors::status(Code::FailedPrecondition, "JOURNAL_OFF", message, &[])
}

/// The next records that have the marks.
pub(super) async fn page<T: Entry + Send + 'static>(
    node: &Arc<Node>,
    of: Of<T>,
    mut cursor: Cursor,
    marks: Marks,
) -> Result<(Cursor, Vec<T>), Status> {
    let node = node.clone();
    let bytes = if marks.0.is_empty() { READ_BYTES } else { PASSED_BYTES };
    let read = tokio::task::spawn_blocking(move || {
        let Some(journal) = of(&node) else { return Ok((cursor, Vec::new())) };
        let read = journal.read(&mut cursor, bytes, |line| marks.are_in(line))?;
        Ok::<_, std::io::Error>((cursor, read))
    });
    let unread = |why: String| {
        let message = format!("the journal cannot be read: {why}; go on after the last one");
        errors::status(Code::Unavailable, "JOURNAL_UNREADABLE", message, &[])
    };
    let read = read.await.map_err(|error| unread(error.to_string()))?;
    read.map_err(|error| unread(error.to_string()))
}

/// What a journal has now, as messages.
pub(super) fn listed<T: Entry + Send + 'static, M: Send + 'static>(
    node: &Arc<Node>,
    (of, marks): (Of<T>, Marks),
    message: impl Fn(&Node, T) -> Option<M> + Send + 'static,
) -> Listed<M> {
    let node = node.clone();
    Box::pin(async_stream::try_stream! {
        let mut cursor = Cursor::default();
        loop {
            let before = cursor.after;
            let read;
            (cursor, read) = page(&node, of, cursor, marks.clone()).await?;
            for entry in read {
                if let Some(message) = message(&node, entry) {
                    yield message;
                }
            }
            if cursor.after == before {
                break;
            }
        }
    })
}

/// The keyspace must be there: an empty answer would look like one without any.
fn known(node: &Node, keyspace: &str) -> Result<(), Status> {
    let catalogue = node.catalogue().ok_or_else(errors::no_cluster)?;
    catalogue.keyspace(keyspace).map(drop).ok_or_else(|| errors::no_keyspace(keyspace))
}

/// The recordings of a keyspace.
pub(super) fn recordings(
    node: &Arc<Node>,
    request: &v1::ListRecordingsRequest,
) -> Result<Listed<v1::Recording>, Status> {
    known(node, &request.keyspace)?;
    let of: Of<Recording> = |node| node.conflicts.recordings();
    if of(node).is_none() {
        return Err(off("recordings", "limits.recordings_bytes_max"));
    }
    let message = |_: &Node, recording: Recording| {
        Some(v1::Recording {
            id: recording.id,
            at_ms: recording.at_ms,
            module_digest: recording.module,
            sample: recording.sample.to_string(),
        })
    };
    Ok(listed(node, (of, Marks::of(&request.keyspace, &[])), message))
}

/// The superseded versions of a keyspace, or of one key.
pub(super) fn superseded(
    node: &Arc<Node>,
    request: &v1::ListSupersededRequest,
) -> Result<Listed<v1::Superseded>, Status> {
    known(node, &request.keyspace)?;
    let of: Of<Superseded> = |node| node.stores.history().map(|history| history.journal());
    if of(node).is_none() {
        return Err(off("history", "limits.history_bytes_max"));
    }
    let mut marks = Marks::of(&request.keyspace, &request.key);
    if !request.folded_by_digest.is_empty() {
        errors::digest("folded_by_digest", &request.folded_by_digest)?;
        marks = marks.and("folded_by", &request.folded_by_digest);
    }
    let message = |node: &Node, entry: Superseded| {
        let history = node.stores.history()?;
        history.is_kept(&entry, node.clock.now().wall_ms).then(|| v1::Superseded {
            key: entry.key.into(),
            at_ms: entry.at_ms,
            dots: entry.dots,
            value: entry.value.map(Into::into),
            schema: entry.schema,
            written_at_ms: entry.written_at_ms,
            made_by_digest: entry.made_by.unwrap_or_default(),
            folded_by_digest: entry.folded_by.unwrap_or_default(),
            by: entry.by,
        })
    };
    Ok(listed(node, (of, marks), message))
}
