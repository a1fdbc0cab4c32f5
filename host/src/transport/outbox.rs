//! What waits for one peer on one connection: a bounded queue that never blocks its writers,
//! and the task that empties it into the socket.
//!
//! A message is encoded only when the socket takes it. So what is still in the queue when a
//! connection breaks has certainly not been sent, and its senders are told; what was taken out
//! may have arrived or not. Three lanes share the connection: control frames first, then messages,
//! some at a time, and chunks of modules in turn, so that neither starves the other.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use stator_core::codec::Pieces;
use stator_core::id::NodeId;
use stator_core::message::{Message, RequestId};
use stator_core::wire::measure;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::config::{
    FRAME_BYTES_MAX, MODULE_CHUNK_BYTES, TransportConfig, WRITE_BYTES_FULL, WRITE_MESSAGES_MAX,
};
use super::frame::{Frame, ModuleChunk, Writer};
use super::{Shared, Undelivered, lock};
use crate::telemetry::traces::Place;

/// The most control frames that wait: a peer that asks for more than it reads is cut off.
const CONTROL_MAX: usize = 64;
/// What each message counts for in the queue, beside what it holds.
const PLAIN_BYTES: usize = 128;
/// A buffer for small frames that has become larger is not kept.
const BUFFER_BYTES_MAX: usize = 1 << 20;

/// A module on its way to a peer.
pub(super) struct Upload {
    pub fetch: u64,
    pub size_bytes: u64,
    pub rest: Bytes,
    /// Held so long as the upload counts against the limit.
    pub _permit: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Lanes {
    is_closed: bool,
    is_heartbeat_due: bool,
    control: VecDeque<Frame>,
    messages: VecDeque<(Frame, usize)>,
    messages_bytes: usize,
    uploads: VecDeque<Upload>,
    is_upload_next: bool,
    writer: Option<Waker>,
}

/// The queue. Cheap to share; all calls return at once.
pub(super) struct Outbox {
    peer: NodeId,
    messages_max: usize,
    bytes_max: usize,
    lanes: Mutex<Lanes>,
    closed: Notify,
}

impl Outbox {
    /// A queue for `peer`, with which the handshake is done.
    pub fn new(peer: NodeId, config: &TransportConfig) -> Self {
        Outbox {
            peer,
            messages_max: config.queue_messages_max,
            bytes_max: config.queue_bytes_max,
            lanes: Mutex::default(),
            closed: Notify::new(),
        }
    }

    /// Queues a message, as a part of what is traced.
    pub fn push(&self, message: Message, trace: Option<Place>) -> Result<(), Undelivered> {
        let weight = PLAIN_BYTES + measure(&message);
        let mut lanes = lock(&self.lanes);
        if lanes.is_closed {
            return Err(Undelivered::NotConnected(self.peer));
        }
        let bytes = lanes.messages_bytes.saturating_add(weight);
        if lanes.messages.len() >= self.messages_max || bytes > self.bytes_max {
            return Err(Undelivered::QueueFull {
                to: self.peer,
                messages_max: self.messages_max,
                bytes_max: self.bytes_max,
            });
        }
        lanes.messages_bytes = bytes;
        let frame = match trace {
            Some(place) => Frame::Traced(place, message),
            None => Frame::Message(message),
        };
        lanes.messages.push_back((frame, weight));
        wake(lanes);
        Ok(())
    }

    /// Queues a frame that goes before all messages.
    pub fn push_control(&self, frame: Frame) {
        let mut lanes = lock(&self.lanes);
        if lanes.is_closed {
            return;
        }
        if lanes.control.len() >= CONTROL_MAX {
            drop(lanes);
            tracing::error!(
                limit = CONTROL_MAX,
                "a peer asks for more than it reads; closing its connection"
            );
            return self.closed.notify_one();
        }
        lanes.control.push_back(frame);
        wake(lanes);
    }

    /// Queues a module.
    pub fn push_upload(&self, upload: Upload) {
        let mut lanes = lock(&self.lanes);
        if !lanes.is_closed {
            lanes.uploads.push_back(upload);
            wake(lanes);
        }
    }

    /// Sends a sign of life, unless the last one waits still.
    pub fn beat(&self) {
        let mut lanes = lock(&self.lanes);
        lanes.is_heartbeat_due = true;
        wake(lanes);
    }

    /// Ends the connection at once. Returns the requests that were certainly not sent.
    pub fn close(&self) -> Vec<RequestId> {
        let mut lanes = lock(&self.lanes);
        let Lanes { messages, writer, .. } =
            std::mem::replace(&mut *lanes, Lanes { is_closed: true, ..Lanes::default() });
        lanes.writer = writer;
        wake(lanes);
        self.closed.notify_one();
        messages.iter().filter_map(|(frame, _)| frame.starts_request()).collect()
    }

    /// Waits until the connection is to end. One caller at a time.
    pub async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Takes out what is to be written next, once there is something; `None` at the end.
    fn poll_next(&self, context: &Context<'_>) -> Poll<Option<Vec<Frame>>> {
        let mut lanes = lock(&self.lanes);
        let frames = lanes.next();
        if frames.is_empty() && !lanes.is_closed {
            lanes.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready((!frames.is_empty()).then_some(frames))
    }

    /// Writes what is queued until the outbox is closed.
    pub async fn empty_into(&self, writer: &mut Writer, shared: &Shared) -> std::io::Result<()> {
        let mut out = Pieces::new();
        while let Some(frames) = poll_fn(|context| self.poll_next(context)).await {
            out.clear(BUFFER_BYTES_MAX);
            frames.into_iter().for_each(|frame| self.append(frame, &mut out, shared));
            writer.write(&out).await?;
        }
        Ok(())
    }

    /// Encodes a frame, unless it is too large to travel at all or the node is cut off.
    fn append(&self, frame: Frame, out: &mut Pieces, shared: &Shared) {
        if shared.is_isolated() && frame != Frame::Heartbeat {
            return shared.count_dropped();
        }
        let Err(found) = frame.append_to(out) else { return };
        tracing::error!(
            found,
            limit = FRAME_BYTES_MAX,
            "a message is too large for a peer; it was not sent"
        );
        if let Some(request) = frame.starts_request() {
            shared.sink.undelivered(self.peer, request);
        }
    }
}

fn wake(mut lanes: MutexGuard<'_, Lanes>) {
    let writer = lanes.writer.take();
    drop(lanes);
    if let Some(writer) = writer {
        writer.wake();
    }
}

impl Lanes {
    /// What is written at once: what is short and urgent, and then messages or a chunk of a module.
    fn next(&mut self) -> Vec<Frame> {
        let mut frames: Vec<Frame> = self.control.drain(..).collect();
        if std::mem::take(&mut self.is_heartbeat_due) {
            frames.push(Frame::Heartbeat);
        }
        let is_upload_due = self.is_upload_next || self.messages.is_empty();
        match self.next_chunk(is_upload_due) {
            Some(chunk) => frames.push(Frame::ModuleChunk(chunk)),
            None => self.take_messages(&mut frames),
        }
        frames
    }

    fn take_messages(&mut self, frames: &mut Vec<Frame>) {
        self.is_upload_next = true;
        let count = self.messages.len().min(WRITE_MESSAGES_MAX);
        frames.reserve(count);
        let mut taken_bytes = 0;
        for _ in 0..count {
            if taken_bytes >= WRITE_BYTES_FULL {
                break;
            }
            let Some((frame, weight)) = self.messages.pop_front() else { break };
            taken_bytes += weight;
            frames.push(frame);
        }
        self.messages_bytes = self.messages_bytes.saturating_sub(taken_bytes);
    }

    fn next_chunk(&mut self, is_due: bool) -> Option<ModuleChunk> {
        let mut upload = self.uploads.pop_front_if(|_| is_due)?;
        self.is_upload_next = false;
        let length = upload.rest.len().min(MODULE_CHUNK_BYTES);
        let data = upload.rest.split_to(length);
        let chunk = ModuleChunk { fetch: upload.fetch, size_bytes: Ok(upload.size_bytes), data };
        if !upload.rest.is_empty() {
            self.uploads.push_back(upload);
        }
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use stator_core::id::{Incarnation, KeyspaceId};

    use std::sync::Arc;

    use super::*;
    use crate::transport::PeerIdentity;

    const PEER: NodeId = NodeId(2);

    fn outbox(messages_max: usize) -> Outbox {
        let me = PeerIdentity { node: NodeId(1), incarnation: Incarnation(1) };
        Outbox::new(
            PEER,
            &TransportConfig {
                queue_messages_max: messages_max,
                ..TransportConfig::new(me, [0; 32])
            },
        )
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

    /// What is written next: `c`ontrol frames, `m`essages, each with their count, or `u`pload.
    fn next(outbox: &Outbox) -> Vec<String> {
        let mut found: Vec<(String, usize)> = Vec::new();
        for frame in lock(&outbox.lanes).next() {
            let kind = match frame {
                Frame::ModuleChunk(chunk) => format!("u{}", chunk.fetch),
                Frame::Message(_) => "m".to_owned(),
                _ => "c".to_owned(),
            };
            match found.last_mut().filter(|(last, _)| *last == kind) {
                Some((_, count)) => *count += 1,
                None => found.push((kind, 1)),
            }
        }
        let name = |(kind, count): (String, usize)| match kind.starts_with('u') {
            true => kind,
            false => format!("{kind}{count}"),
        };
        found.into_iter().map(name).collect()
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
        (1..=3).for_each(|n| outbox.push(read(n), None).unwrap());
        let full = outbox.push(read(4), None);
        assert!(matches!(full, Err(Undelivered::QueueFull { .. })));
        assert_eq!(outbox.close(), [1, 2, 3]);
        assert_eq!(outbox.push(read(5), None), Err(Undelivered::NotConnected(PEER)));
        assert!(outbox.close().is_empty());
    }

    #[test]
    fn what_was_taken_out_makes_room_and_is_not_told() {
        let outbox = outbox(2);
        (1..=2).for_each(|n| outbox.push(read(n), None).unwrap());
        assert_eq!(next(&outbox), ["m2"]);
        outbox.push(read(3), None).unwrap();
        assert_eq!(outbox.close(), [3]);
    }

    #[test]
    fn messages_and_modules_take_turns() {
        let outbox = outbox(1000);
        (0..150).for_each(|n| outbox.push(read(n), None).unwrap());
        outbox.push_upload(upload(7, 2));
        outbox.push_upload(upload(8, 2));
        outbox.push_control(Frame::Welcome);
        outbox.beat();
        let frames = std::iter::from_fn(|| Some(next(&outbox)).filter(|next| !next.is_empty()));
        let expected = ["c2", "m64", "u7", "m64", "u8", "m22", "u7", "u8"];
        assert_eq!(frames.flatten().collect::<Vec<_>>(), expected);
    }
}
