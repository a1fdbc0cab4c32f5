//! The guard of answers: against readers that do not read, and against too much at once.
//!
//! The gRPC library hands a whole message over to HTTP/2, which keeps it until its reader opens a
//! window for it, for as long as the connection lives: outside of every budget of the services.
//! Here each message is charged, before its answer begins, to a budget of the listener and of its
//! connection, and goes out in pieces, each of which gives its charge back when it was written or
//! given up. What does not fit is answered RESOURCE_EXHAUSTED, and a connection whose answers are
//! not read in time is ended ([`Hold::is_stalled`]).
//!
//! It also bounds how many requests of a listener are open, from their first byte until their
//! answer is written: health watches too. What is too small to be refused is bounded by this.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

use super::connection::Peer;
use super::hold::Hold;

/// What of a message is handed over at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Requests of one listener that are open.
const REQUESTS_MAX: usize = 16 << 10;
/// Answers to this size are always given: a write's is one, and must not be lost for want of room.
const SMALL_BYTES: usize = 4 << 10;
/// The part of the budget that one connection may have.
const SHARE: usize = 2;

/// Why an answer was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerTrouble {
    /// The answers of all clients together are too large.
    #[error(
        "answers that are not read yet hold listeners.answer_bytes_max = {bytes_max} bytes, or those of this connection half of it"
    )]
    Full {
        /// The setting.
        bytes_max: usize,
    },
    /// Too many requests are open.
    #[error("{requests_max} requests are open at this listener, the most it takes")]
    Requests {
        /// The limit.
        requests_max: usize,
    },
}

/// Guards the answers of one listener.
#[derive(Clone)]
pub struct AnswerBudget {
    bytes_max: usize,
    bytes: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    refuse: Refuse,
}

/// Makes the answer in the place of that of the method at a path.
type Refuse = fn(AnswerTrouble, &str) -> Status;

/// Whose answer it is.
#[derive(Clone)]
struct Asker {
    hold: Arc<Hold>,
    path: Arc<str>,
    /// Of its open request.
    _place: Arc<OwnedSemaphorePermit>,
}

impl AnswerBudget {
    /// The budget of one listener, in bytes of answers that are not read yet. `refuse` makes the
    /// answers in the place of others.
    pub fn new(bytes_max: usize, refuse: Refuse) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        let bytes = Arc::new(Semaphore::new(bytes_max));
        let requests = Arc::new(Semaphore::new(REQUESTS_MAX));
        AnswerBudget { bytes_max, bytes, requests, refuse }
    }

    fn charge(&self, bytes: Bytes, asker: &Asker) -> Result<Charged, AnswerTrouble> {
        let full = AnswerTrouble::Full { bytes_max: self.bytes_max };
        let is_small = bytes.len() <= SMALL_BYTES;
        let share = if is_small { usize::MAX } else { self.bytes_max / SHARE };
        let budget = match is_small {
            true => None,
            false => {
                let wanted = u32::try_from(bytes.len()).map_err(|_| full)?;
                self.bytes.try_acquire_many(wanted).map_err(|_| full)?.forget();
                Some(self.bytes.clone())
            }
        };
        let is_owed = asker.hold.owe(bytes.len(), share);
        let charged = Charged { bytes, budget, is_owed, asker: asker.clone() };
        if is_owed { Ok(charged) } else { Err(full) }
    }

    async fn guard(&self, response: Response<Body>, asker: Asker) -> Response<Body> {
        let (parts, mut body) = response.into_parts();
        if body.is_end_stream() {
            return Response::from_parts(parts, body);
        }
        // A lone answer is there at once; a stream's first message may take its time.
        let first = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => Poll::Ready(None),
        });
        let first = first.await;
        let mut guarded =
            Guarded { body, budget: self.clone(), asker, rest: None, early: None, is_over: false };
        match first {
            None => {}
            Some(None) => guarded.is_over = true,
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => match self.charge(data, &guarded.asker) {
                    Ok(charged) => guarded.rest = Some(charged),
                    Err(trouble) => return (self.refuse)(trouble, &guarded.asker.path).into_http(),
                },
                Err(frame) => guarded.early = Some(frame),
            },
            Some(Some(Err(status))) => return status.into_http(),
        }
        Response::from_parts(parts, Body::new(guarded))
    }
}

/// Bytes that are charged until they are dropped.
struct Charged {
    bytes: Bytes,
    budget: Option<Arc<Semaphore>>,
    is_owed: bool,
    asker: Asker,
}

impl Charged {
    fn split_to(&mut self, at: usize) -> Charged {
        let (budget, is_owed, asker) = (self.budget.clone(), self.is_owed, self.asker.clone());
        Charged { bytes: self.bytes.split_to(at), budget, is_owed, asker }
    }
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        let bytes = self.bytes.len();
        if let Some(budget) = &self.budget {
            budget.add_permits(bytes);
        }
        if self.is_owed {
            self.asker.hold.settle(bytes);
        }
    }
}

struct Guarded {
    body: Body,
    budget: AnswerBudget,
    asker: Asker,
    /// What of the last message was not handed over yet.
    rest: Option<Charged>,
    /// What came first and was no message.
    early: Option<Frame<Bytes>>,
    is_over: bool,
}

impl Guarded {
    fn next_piece(&mut self) -> Option<Frame<Bytes>> {
        let rest = self.rest.as_mut()?;
        let piece = match rest.bytes.len() > PIECE_BYTES {
            true => rest.split_to(PIECE_BYTES),
            false => self.rest.take()?,
        };
        Some(Frame::data(Bytes::from_owner(piece)))
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
        loop {
            if let Some(frame) = this.next_piece().or_else(|| this.early.take()) {
                return Poll::Ready(Some(Ok(frame)));
            }
            if this.is_over {
                return Poll::Ready(None);
            }
            let frame = match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => match this.budget.charge(data, &this.asker) {
                    Ok(charged) => this.rest = Some(charged),
                    // The answer has begun: its status is at its end.
                    Err(trouble) => {
                        this.is_over = true;
                        let status = (this.budget.refuse)(trouble, &this.asker.path);
                        let mut trailers = HeaderMap::new();
                        // It fails for messages that no header can hold; these are ours.
                        let _ = status.add_header(&mut trailers);
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                },
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.early.is_none() && (self.is_over || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl<S> Layer<S> for AnswerBudget {
    type Service = GuardedAnswers<S>;

    fn layer(&self, inner: S) -> GuardedAnswers<S> {
        GuardedAnswers { inner, budget: self.clone() }
    }
}

/// A service whose answers are under guard.
#[derive(Clone)]
pub struct GuardedAnswers<S> {
    inner: S,
    budget: AnswerBudget,
}

impl<S> Service<Request<Body>> for GuardedAnswers<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let budget = self.budget.clone();
        let path = request.uri().path();
        let Ok(place) = budget.requests.clone().try_acquire_owned() else {
            let trouble = AnswerTrouble::Requests { requests_max: REQUESTS_MAX };
            let status = (budget.refuse)(trouble, path);
            return Box::pin(async move { Ok(status.into_http()) });
        };
        let (path, place) = (Arc::from(path), Arc::new(place));
        let peer = request.extensions().get::<Peer>();
        let hold = peer.map_or_else(|| Hold::new(usize::MAX), |peer| peer.hold.clone());
        let asker = Asker { hold, path, _place: place };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(budget.guard(response, asker).await)
        })
    }
}
