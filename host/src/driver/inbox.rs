//! Where the transport and the stores deliver to the event loop.

use bytes::Bytes;
use stator_core::event::Event;
use stator_core::id::NodeId;
use stator_core::message::Message;
use tokio::sync::mpsc::UnboundedSender;

use super::handle::Input;

/// A sender of events. Delivering never blocks, and does nothing once the loop has ended.
///
/// The queue behind it has no bound of its own. What clients put into it is bounded by the
/// requests that the API admits; what peers do, only by what their clients may ask of them.
#[derive(Clone)]
pub struct Inbox(UnboundedSender<Input>);

impl Inbox {
    pub(super) fn new(sender: UnboundedSender<Input>) -> Self {
        Inbox(sender)
    }

    /// Delivers an event.
    pub fn deliver(&self, event: Event) {
        let _ = self.0.send(Input::Event(event));
    }

    /// A peer's message arrived.
    pub fn received(&self, from: NodeId, message: Message) {
        self.deliver(Event::Received(from, message));
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
