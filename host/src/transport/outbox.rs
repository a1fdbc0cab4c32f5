//! What waits for one peer on one connection: a bounded queue that never blocks its writers,
//! and the stream of frames that empties it.
//!
//! A frame is made only when HTTP/2 asks for one. So what is still in the queue when a
//! connection breaks has certainly not been sent, and its senders are told; what was taken out
//! may have arrived or not. Three lanes share the stream: control frames first, then batches of
//! messages and chunks of modules in turn, so that neither starves the other.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::Stream;
use prost::Message as _;
use stator_core::id::NodeId;
use stator_core::message::{Message, RequestId};
use stator_proto::peer::v1 as proto;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::config::{
    FRAME_BYTES_FULL, FRAME_MESSAGES_MAX, MESSAGE_BYTES_MAX, MODULE_CHUNK_BYTES, TransportConfig,
};
use super::wire::{to_wire, weight_bytes};
use super::{Shared, Undelivered, lock};
use proto::frame::Content;

/// The most control frames that wait: a peer that asks for more than it reads is cut off.
const CONTROL_MAX: usize = 64;

/// A module on its way to a peer.
pub(super) struct Upload {
    pub fetch: u64,
    pub size_bytes: u64,
    pub rest: Bytes,
    /// Held so long as the upload counts against the limit.
    pub _permit: OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Control frames only.
    Handshake,
    /// Everything.
    Open,
    /// The control frames that wait are sent, then the stream ends.
    Ending,
    /// Nothing is sent any more.
    Closed,
}

struct Lanes {
    phase: Phase,
    control: VecDeque<Content>,
    messages: VecDeque<(Message, usize)>,
    messages_bytes: usize,
    uploads: VecDeque<Upload>,
    is_upload_next: bool,
    reader: Option<Waker>,
}

/// The queue. Cheap to share; all calls return at once.
pub(super) struct Outbox {
    messages_max: usize,
    bytes_max: usize,
    peer: OnceLock<NodeId>,
    lanes: Mutex<Lanes>,
    closed: Notify,
}

impl Outbox {
    pub fn new(config: &TransportConfig) -> Self {
        Outbox {
            messages_max: config.queue_messages_max,
            bytes_max: config.queue_bytes_max,
            peer: OnceLock::new(),
            lanes: Mutex::new(Lanes {
                phase: Phase::Handshake,
                control: VecDeque::new(),
                messages: VecDeque::new(),
                messages_bytes: 0,
                uploads: VecDeque::new(),
                is_upload_next: false,
                reader: None,
            }),
            closed: Notify::new(),
        }
    }

    /// Lets messages in: the handshake with `peer` is done.
    pub fn open(&self, peer: NodeId) {
        let _ = self.peer.set(peer);
        let mut lanes = lock(&self.lanes);
        if lanes.phase == Phase::Handshake {
            lanes.phase = Phase::Open;
        }
    }

    /// Queues a message for `to`, the peer at the other end.
    pub fn push(&self, to: NodeId, message: Message) -> Result<(), Undelivered> {
        let weight = weight_bytes(&message);
        let mut lanes = lock(&self.lanes);
        if lanes.phase != Phase::Open {
            return Err(Undelivered::NotConnected(to));
        }
        let bytes = lanes.messages_bytes + weight;
        if lanes.messages.len() >= self.messages_max || bytes > self.bytes_max {
            return Err(Undelivered::QueueFull {
                to,
                messages_max: self.messages_max,
                bytes_max: self.bytes_max,
            });
        }
        lanes.messages_bytes = bytes;
        lanes.messages.push_back((message, weight));
        wake(lanes);
        Ok(())
    }

    /// Queues a frame that goes before all messages.
    pub fn push_control(&self, content: Content) {
        let mut lanes = lock(&self.lanes);
        if matches!(lanes.phase, Phase::Closed | Phase::Ending) {
            return;
        }
        if lanes.control.len() >= CONTROL_MAX {
            drop(lanes);
            tracing::error!(
                limit = CONTROL_MAX,
                "a peer asks for more than it reads; closing its stream"
            );
            return self.closed.notify_one();
        }
        lanes.control.push_back(content);
        wake(lanes);
    }

    /// Queues a module.
    pub fn push_upload(&self, upload: Upload) {
        let mut lanes = lock(&self.lanes);
        if lanes.phase == Phase::Open {
            lanes.uploads.push_back(upload);
            wake(lanes);
        }
    }

    /// Ends the stream once `content` and the control frames before it are sent.
    pub fn end_with(&self, content: Content) {
        let mut lanes = lock(&self.lanes);
        if lanes.phase != Phase::Closed {
            lanes.control.push_back(content);
            lanes.phase = Phase::Ending;
            wake(lanes);
        }
    }

    /// Ends the stream at once. Returns the requests that were certainly not sent.
    pub fn close(&self) -> Vec<RequestId> {
        let mut lanes = lock(&self.lanes);
        if lanes.phase != Phase::Ending {
            lanes.phase = Phase::Closed;
            lanes.control.clear();
        }
        lanes.uploads.clear();
        lanes.messages_bytes = 0;
        let unsent = std::mem::take(&mut lanes.messages);
        wake(lanes);
        self.closed.notify_one();
        unsent.iter().filter_map(|(message, _)| message.starts_request()).collect()
    }

    /// Waits until the stream is closed. One caller at a time.
    pub async fn closed(&self) {
        self.closed.notified().await;
    }
}

fn wake(mut lanes: MutexGuard<'_, Lanes>) {
    let reader = lanes.reader.take();
    drop(lanes);
    if let Some(reader) = reader {
        reader.wake();
    }
}

/// What the lanes hold for the next frame.
enum Next {
    Frame(Content),
    Messages(Vec<Message>),
}

impl Lanes {
    fn next(&mut self) -> Option<Next> {
        if let Some(content) = self.control.pop_front() {
            return Some(Next::Frame(content));
        }
        let is_upload_due = self.is_upload_next || self.messages.is_empty();
        if is_upload_due && let Some(chunk) = self.next_chunk() {
            self.is_upload_next = false;
            return Some(Next::Frame(Content::ModuleChunk(chunk)));
        }
        self.is_upload_next = true;
        let messages = self.next_messages();
        (!messages.is_empty()).then_some(Next::Messages(messages))
    }

    fn next_messages(&mut self) -> Vec<Message> {
        let count = self.messages.len().min(FRAME_MESSAGES_MAX);
        let mut taken = Vec::with_capacity(count);
        let mut taken_bytes = 0;
        while taken.len() < count && taken_bytes < FRAME_BYTES_FULL {
            let Some((message, weight)) = self.messages.pop_front() else {
                break;
            };
            taken_bytes += weight;
            taken.push(message);
        }
        self.messages_bytes = self.messages_bytes.saturating_sub(taken_bytes);
        taken
    }

    fn next_chunk(&mut self) -> Option<proto::ModuleChunk> {
        let mut upload = self.uploads.pop_front()?;
        let length = upload.rest.len().min(MODULE_CHUNK_BYTES);
        let chunk = proto::ModuleChunk {
            fetch: upload.fetch,
            size_bytes: upload.size_bytes,
            data: upload.rest.split_to(length),
            failure: proto::ModuleFailure::Unspecified.into(),
        };
        if !upload.rest.is_empty() {
            self.uploads.push_back(upload);
        }
        Some(chunk)
    }
}

/// The frames of an outbox, as HTTP/2 takes them. Dropping it closes the outbox.
pub(super) struct Frames {
    pub shared: Arc<Shared>,
    pub outbox: Arc<Outbox>,
}

impl Stream for Frames {
    type Item = proto::Frame;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<proto::Frame>> {
        self.poll_frame(context)
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.outbox.closed.notify_one();
    }
}

impl Frames {
    fn poll_frame(&self, context: &mut Context<'_>) -> Poll<Option<proto::Frame>> {
        loop {
            let next = {
                let mut lanes = lock(&self.outbox.lanes);
                match lanes.next() {
                    Some(next) => next,
                    None if matches!(lanes.phase, Phase::Ending | Phase::Closed) => {
                        return Poll::Ready(None);
                    }
                    None => {
                        lanes.reader = Some(context.waker().clone());
                        return Poll::Pending;
                    }
                }
            };
            if self.shared.is_isolated() {
                self.shared.count_dropped(match next {
                    Next::Frame(_) => 1,
                    Next::Messages(messages) => messages.len(),
                });
                continue;
            }
            let content = match next {
                Next::Frame(content) => content,
                Next::Messages(messages) => match self.batch(messages) {
                    Some(batch) => Content::Batch(batch),
                    None => continue,
                },
            };
            let content = Some(content);
            return Poll::Ready(Some(proto::Frame { content }));
        }
    }

    /// The messages as they travel, but for those too large to travel at all.
    fn batch(&self, messages: Vec<Message>) -> Option<proto::Batch> {
        let mut batch = proto::Batch { messages: Vec::with_capacity(messages.len()) };
        for message in messages {
            let request = message.starts_request();
            let message = to_wire(message);
            let found = message.encoded_len();
            if found <= MESSAGE_BYTES_MAX {
                batch.messages.push(message);
            } else {
                tracing::error!(
                    found,
                    limit = MESSAGE_BYTES_MAX,
                    "a message is too large for a peer; it was not sent"
                );
                if let (Some(request), Some(peer)) = (request, self.outbox.peer.get()) {
                    self.shared.sink.undelivered(*peer, request);
                }
            }
        }
        (!batch.messages.is_empty()).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use stator_core::id::{Incarnation, KeyspaceId};

    use super::*;
    use crate::transport::PeerIdentity;

    const PEER: NodeId = NodeId(2);

    fn outbox(messages_max: usize) -> Outbox {
        let me = PeerIdentity { node: NodeId(1), incarnation: Incarnation(1) };
        Outbox::new(&TransportConfig {
            queue_messages_max: messages_max,
            ..TransportConfig::new(me, [0; 32])
        })
    }

    fn read(request: u64) -> Message {
        Message::Read {
            request,
            keyspace: KeyspaceId(1),
            key: Bytes::from_static(b"key"),
            ring_version: 1,
            is_fallback: false,
        }
    }

    /// The next frame: `c`ontrol, `m`essages with their count, or `u`pload.
    fn next(outbox: &Outbox) -> Option<String> {
        lock(&outbox.lanes).next().map(|next| match next {
            Next::Frame(Content::ModuleChunk(chunk)) => format!("u{}", chunk.fetch),
            Next::Frame(_) => "c".to_owned(),
            Next::Messages(messages) => format!("m{}", messages.len()),
        })
    }

    fn upload(fetch: u64, chunks: usize) -> Upload {
        let slots = Arc::new(tokio::sync::Semaphore::new(1));
        Upload {
            fetch,
            size_bytes: 0,
            rest: vec![0; chunks * MODULE_CHUNK_BYTES].into(),
            _permit: slots.try_acquire_owned().expect("a permit"),
        }
    }

    #[test]
    fn what_is_left_at_the_end_is_told_exactly() {
        let outbox = outbox(3);
        assert_eq!(outbox.push(PEER, read(0)), Err(Undelivered::NotConnected(PEER)));
        outbox.open(PEER);
        (1..=3).for_each(|n| outbox.push(PEER, read(n)).unwrap());
        let full = outbox.push(PEER, read(4));
        assert!(matches!(full, Err(Undelivered::QueueFull { .. })));
        assert_eq!(outbox.close(), [1, 2, 3]);
        assert_eq!(outbox.push(PEER, read(5)), Err(Undelivered::NotConnected(PEER)));
        assert!(outbox.close().is_empty());
    }

    #[test]
    fn what_was_taken_out_makes_room_and_is_not_told() {
        let outbox = outbox(2);
        outbox.open(PEER);
        (1..=2).for_each(|n| outbox.push(PEER, read(n)).unwrap());
        assert_eq!(next(&outbox).as_deref(), Some("m2"));
        outbox.push(PEER, read(3)).unwrap();
        assert_eq!(outbox.close(), [3]);
    }

    #[test]
    fn messages_and_modules_take_turns() {
        let outbox = outbox(1000);
        outbox.open(PEER);
        (0..150).for_each(|n| outbox.push(PEER, read(n)).unwrap());
        outbox.push_upload(upload(7, 2));
        outbox.push_upload(upload(8, 2));
        outbox.push_control(Content::Proof(Bytes::new()));
        let frames: Vec<_> = std::iter::from_fn(|| next(&outbox)).collect();
        let expected = ["c", "m64", "u7", "m64", "u8", "m22", "u7", "u8"];
        assert_eq!(frames, expected);
    }
}
