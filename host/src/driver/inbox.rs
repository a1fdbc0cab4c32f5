//! Where the transport and the stores deliver to the event loop.

use std::sync::Arc;

use bytes::Bytes;
use stator_core::event::Event;
use stator_core::id::NodeId;
use stator_core::message::Message;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::handle::Input;
use crate::telemetry::traces::Place;

/// A sender of events. Delivering never blocks, and does nothing once the loop has ended.
///
/// What clients put into the queue behind it is bounded by the requests that the API admits, until
/// their work is done. What peers do finds [room](Self::room) first: until then it stays on its
/// connection.
#[derive(Clone)]
pub struct Inbox {
    sender: UnboundedSender<Input>,
    room: Arc<Semaphore>,
}

/// Bytes of peers' messages that wait for the loop: a few of the largest frames.
const ROOM_BYTES: usize = 192 << 20;

impl Inbox {
    pub(super) fn new(sender: UnboundedSender<Input>) -> Self {
        Inbox { sender, room: Arc::new(Semaphore::new(ROOM_BYTES)) }
    }

    /// Room for messages of so many bytes, once there is some.
    pub async fn room(&self, bytes: usize) -> Option<Arc<OwnedSemaphorePermit>> {
        let wanted = u32::try_from(bytes.min(ROOM_BYTES)).ok()?;
        self.room.clone().acquire_many_owned(wanted).await.ok().map(Arc::new)
    }

    /// Delivers an event.
    pub fn deliver(&self, event: Event) {
        let _ = self.sender.send(Input::Event(event));
    }

    /// A peer's message arrived, for which there was room, as a part of what is traced.
    pub fn received(
        &self,
        from: NodeId,
        message: Message,
        room: Option<Arc<OwnedSemaphorePermit>>,
        trace: Option<Place>,
    ) {
        let event = Event::Received(from, message);
        let _ = self.sender.send(Input::Received(event, room, trace));
    }

    /// A peer's probe arrived.
    pub fn probed(&self, bytes: Bytes) {
        self.deliver(Event::Probed(bytes));
    }

    /// A message that starts a request did not leave this node.
    pub fn undelivered(&self, to: NodeId, request: u64) {
        self.deliver(Event::Undelivered(to, request));
    }
}
