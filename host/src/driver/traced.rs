//! Traces through the event loop: what follows from what, told by the numbers that the core gives its
//! effects anyway. The core knows nothing of it.
//!
//! While the loop takes in an event it has a *cause*, the span that the event is a part of, if it is part of
//! one. What the core wants then is a part of it too. A read, write or dot that it asks another node for
//! becomes a span `replica` from there to the answer, whose place travels with the message; a load or a
//! write of this node's stores becomes a span `store`, by its token. When the answer comes, the span ends, and
//! its parent is the cause of what the answer leads to. What a timer does for a request, a hedge or a fallback,
//! is known by the request's number.
//!
//! Background writes (hints, repairs) have no span. What has no answer after [`FOLLOWED`] ends without
//! one; of more than [`SPANS_MAX`] requests in that time the rest is not followed. Nothing is kept, looked up or allocated where nothing is traced.

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::time::{Duration, Instant};

use stator_core::event::{Action, Area, Event, Token};
use stator_core::id::{NodeId, RequestId};
use stator_core::message::Message;

use crate::telemetry::traces::{self, Place, SPANS_MAX, Span};

/// How long a request to other nodes is followed.
const FOLLOWED: Duration = Duration::from_secs(10);

/// The spans of one node's loop that are open.
#[derive(Default)]
pub(super) struct Traces {
    /// What this node asks others, by the number of the request: the span above, and from when on.
    requests: HashMap<RequestId, Place>,
    ages: VecDeque<(Instant, RequestId)>,
    asked: HashMap<(RequestId, NodeId), (Span, Place)>,
    stores: HashMap<Token, (Span, Place)>,
}

impl Traces {
    /// Something happens, of which the driver knows that it is a part of `trace`, or knows nothing. What it
    /// is a part of.
    pub(super) fn happens(&mut self, event: &Event, trace: Option<Place>) -> Option<Place> {
        if trace.is_some() || (self.requests.is_empty() && self.stores.is_empty()) {
            return trace;
        }
        self.forget();
        match event {
            // It goes on, and others are asked meanwhile.
            Event::Applied(token, _) => self.stores.get(token).map(|(_, above)| *above),
            Event::Loaded(token, result) => self.stored(*token, result.as_ref().err()),
            Event::Written(token, result) => self.stored(*token, result.as_ref().err()),
            Event::Undelivered(to, request) => {
                self.answered(*to, *request, Some(&"it could not be sent"))
            }
            Event::Received(from, message) => match message {
                Message::ReadReply { request, result } => {
                    self.answered(*from, *request, result.as_ref().err())
                }
                Message::WriteReply { request, result } => {
                    self.answered(*from, *request, result.as_ref().err())
                }
                Message::ForwardReply { request, result } => {
                    self.answered(*from, *request, result.as_ref().err())
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The core wants this done because of what is a part of `cause`. The span that it is below.
    pub(super) fn follows(&mut self, cause: Option<Place>, action: &Action) -> Option<Place> {
        if cause.is_none() && self.requests.is_empty() {
            return None;
        }
        match action {
            Action::Send(to, message) => self.sends(cause, *to, message),
            Action::Load { token, .. } => self.stores(cause?, *token, "read", None),
            Action::Write { token, area, is_sync, .. } => {
                self.stores(cause?, *token, "write", Some((*area, *is_sync)))
            }
            Action::Merge { .. } => cause,
            _ => None,
        }
    }

    fn sends(&mut self, cause: Option<Place>, to: NodeId, message: &Message) -> Option<Place> {
        let (request, what) = match message {
            Message::Read { request, is_fallback: false, .. } => (*request, "read"),
            Message::Read { request, .. } => (*request, "read as a fallback"),
            Message::Forward { request, .. } => (*request, "dot"),
            Message::Write(write) if write.is_background => return None,
            Message::Write(write) if write.hint_for.is_empty() => (write.request, "write"),
            Message::Write(write) => (write.request, "hint"),
            _ => return None,
        };
        let known = self.requests.get(&request).copied();
        let above = known.or(cause)?;
        if known.is_none() && self.ages.len() >= SPANS_MAX {
            return None;
        }
        let mut span = traces::asking(Some(above), "replica")?;
        span.set("stator.peer", to.to_string());
        span.set("stator.wanted", what);
        let place = span.place();
        if known.is_none() {
            self.requests.insert(request, above);
            self.ages.push_back((Instant::now(), request));
        }
        self.asked.insert((request, to), (span, above));
        Some(place)
    }

    fn stores(
        &mut self,
        cause: Place,
        token: Token,
        what: &'static str,
        write: Option<(Area, bool)>,
    ) -> Option<Place> {
        let mut span = traces::below(Some(cause), "store")?;
        span.set("stator.wanted", what);
        if let Some((area, is_sync)) = write {
            span.set("stator.hint", area == Area::Hints);
            span.set("stator.synced", is_sync);
        }
        let place = span.place();
        self.stores.insert(token, (span, cause));
        Some(place)
    }

    fn stored(&mut self, token: Token, failure: Option<&impl Display>) -> Option<Place> {
        ended(self.stores.remove(&token)?, failure)
    }

    fn answered(
        &mut self,
        from: NodeId,
        request: RequestId,
        failure: Option<&impl Display>,
    ) -> Option<Place> {
        match self.asked.remove(&(request, from)) {
            Some(asked) => ended(asked, failure),
            // Late, or of a request whose own copy was all that was asked.
            None => self.requests.get(&request).copied(),
        }
    }

    /// Ends what nobody has answered.
    fn forget(&mut self) {
        let Some(before) = Instant::now().checked_sub(FOLLOWED) else { return };
        while let Some((_, request)) = self.ages.pop_front_if(|(since, _)| *since <= before) {
            self.requests.remove(&request);
            for (_, (mut span, _)) in self.asked.extract_if(|(number, _), _| *number == request) {
                span.fail("no answer");
            }
        }
    }
}

fn ended((mut span, above): (Span, Place), failure: Option<&impl Display>) -> Option<Place> {
    if let Some(failure) = failure {
        span.fail(failure);
    }
    Some(above)
}
