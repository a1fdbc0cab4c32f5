//! What is noted of every request: its id, how it ended, how long it took.
//!
//! A client may name its request by the header `x-request-id`; else the node makes a name up. The
//! log lines of the request carry it, and so does the answer, so that a client's complaint can
//! be found in the node's log.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use metrics::Gauge;
use tonic::Code;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tower::{Layer, Service};
use tracing::Instrument;

use crate::listen::Peer;
use crate::pause;
use crate::telemetry;
use crate::telemetry::names::{REQUEST_SECONDS, REQUESTS, REQUESTS_RUNNING};

/// The header that names a request.
const REQUEST_ID: &str = "x-request-id";
/// The longest name that is taken from a client.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// Requests that are unknown here share a label: a stranger must not fill the metrics.
const UNKNOWN_METHOD: &str = "unknown";

/// Wraps a listener's services.
#[derive(Debug, Clone, Copy)]
pub struct RequestLayer;

impl<S> Layer<S> for RequestLayer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner }
    }
}

/// A service whose requests are noted.
#[derive(Debug, Clone)]
pub struct Observed<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Observed<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let started = Instant::now();
        let began = request.extensions().get::<Peer>().map_or(0, |peer| peer.began);
        request.extensions_mut().insert(Arrival(pause::arrival(began)));
        let running = Running::start();
        let id = id_of(&request);
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let name = id.to_str().unwrap_or_default();
        let span = tracing::info_span!("request", id = name, method);
        let answer = self.inner.call(request);
        let noted = async move {
            let _running = running;
            let mut response = answer.await?;
            note(method, code_of(&response), started);
            response.headers_mut().insert(REQUEST_ID, id);
            Ok(response)
        };
        Box::pin(noted.instrument(span))
    }
}

/// When a request arrived. Its deadline counts from then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival(pub Instant);

/// Counted as long as it lives, so that a request whose client leaves is not counted for ever.
struct Running(Gauge);

impl Running {
    fn start() -> Self {
        let gauge = metrics::gauge!(REQUESTS_RUNNING.name);
        gauge.increment(1.0);
        Running(gauge)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The client's name for the request, if it can stand in a log, or a new one.
fn id_of<B>(request: &Request<B>) -> HeaderValue {
    let is_printable = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    match request.headers().get(REQUEST_ID).filter(is_printable) {
        Some(value) => value.clone(),
        None => {
            // Random once for a thread, then another each time: no call of the system for each request.
            let made_up = format!("{:016x}", RandomState::new().build_hasher().finish());
            HeaderValue::try_from(made_up).unwrap_or(HeaderValue::from_static("-"))
        }
    }
}

/// How it ended: an error is in the head of the answer, success only at its end.
pub(super) fn code_of<R>(response: &Response<R>) -> Code {
    let status = response.headers().get("grpc-status");
    status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}

fn note(method: String, code: Code, started: Instant) {
    let elapsed = started.elapsed();
    match code {
        Code::Internal | Code::Unknown | Code::DataLoss => {
            tracing::error!(?code, ?elapsed, "a request failed");
        }
        _ => tracing::debug!(?code, ?elapsed, "answered"),
    }
    if !telemetry::is_recording() {
        return;
    }
    let method = if code == Code::Unimplemented { UNKNOWN_METHOD.to_owned() } else { method };
    let labels = [("method", method.clone()), ("code", format!("{code:?}"))];
    metrics::counter!(REQUESTS.name, &labels).increment(1);
    metrics::histogram!(REQUEST_SECONDS.name, "method" => method).record(elapsed);
}
