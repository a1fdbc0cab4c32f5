//! The guard of request bodies: against those that come too slowly, and against too many at once.
//!
//! The gRPC library collects a message before it calls a service, so a body that never ends holds
//! memory outside of every budget of the services. Here each body is charged for what of it is in
//! memory, and must keep up with a slow line's speed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::Request;

use super::hold::BYTES_PER_SECOND_MIN;

/// How much request bodies may hold, and how long they may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyLimits {
    /// The most bytes of all bodies of a listener together that are in memory.
    pub bytes_max: usize,
    /// A body must be there by then; each 16 KiB of it that came give a second more.
    pub deadline: Duration,
}

/// Guards the bodies of one listener.
#[derive(Clone)]
pub struct BodyBudget {
    limits: BodyLimits,
    bytes: Arc<Semaphore>,
    refuse: Refuse,
}

/// Makes the words of a service of [`BodyTrouble`].
pub type Refuse = fn(BodyTrouble) -> Status;

/// Why a request's body was not read to its end. The service was not called with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyTrouble {
    /// It came too slowly.
    #[error(
        "the request was not there by listeners.body_ms = {deadline_ms} ms and came slower than {BYTES_PER_SECOND_MIN} bytes a second"
    )]
    TooSlow {
        /// The setting.
        deadline_ms: u64,
    },
    /// The bodies of all clients together are too large.
    #[error(
        "requests that are being read hold listeners.body_bytes_max = {bytes_max} bytes already"
    )]
    Full {
        /// The setting.
        bytes_max: usize,
    },
}

impl BodyBudget {
    /// The budget of one listener. `refuse` makes the answers.
    pub fn new(limits: BodyLimits, refuse: Refuse) -> Self {
        let bytes = limits.bytes_max.min(Semaphore::MAX_PERMITS);
        BodyBudget { limits, bytes: Arc::new(Semaphore::new(bytes)), refuse }
    }

    /// Puts the body of `request` under guard.
    pub fn guard(&self, request: Request<Body>) -> Request<Body> {
        request.map(|body| {
            if body.is_end_stream() {
                return body;
            }
            Body::new(Guarded {
                body,
                began: Instant::now(),
                received: 0,
                timer: None,
                budget: self.clone(),
                held: None,
                is_over: false,
            })
        })
    }
}

struct Guarded {
    body: Body,
    began: Instant,
    received: u64,
    /// Set only once the body is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    budget: BodyBudget,
    held: Option<OwnedSemaphorePermit>,
    is_over: bool,
}

impl Guarded {
    fn charge(&mut self, bytes: usize) -> Result<(), BodyTrouble> {
        self.received += bytes as u64;
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX);
        let bytes_max = self.budget.limits.bytes_max;
        let taken = self.budget.bytes.clone().try_acquire_many_owned(wanted);
        let taken = taken.map_err(|_| BodyTrouble::Full { bytes_max })?;
        match &mut self.held {
            Some(held) => held.merge(taken),
            None => self.held = Some(taken),
        }
        Ok(())
    }

    fn deadline(&self) -> Instant {
        let more_ms = self.received.saturating_mul(1_000) / BYTES_PER_SECOND_MIN;
        self.began + self.budget.limits.deadline + Duration::from_millis(more_ms)
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }

    fn fail(&mut self, trouble: BodyTrouble) -> Status {
        self.is_over = true;
        self.held = None;
        (self.budget.refuse)(trouble)
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                match this.charge(bytes) {
                    Ok(()) => Poll::Ready(Some(Ok(frame))),
                    Err(trouble) => Poll::Ready(Some(Err(this.fail(trouble)))),
                }
            }
            Poll::Pending => {
                std::task::ready!(this.poll_late(cx));
                let deadline_ms = this.budget.limits.deadline.as_millis() as u64;
                Poll::Ready(Some(Err(this.fail(BodyTrouble::TooSlow { deadline_ms }))))
            }
            end => end,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
