//! What is noted of every request: its id, how it ended, how long it took.
//!
//! A client may name its request by the header `x-request-id`; else the node makes a name up. The
//! log lines of the request carry it, and so does the answer, so that a client's complaint can
//! be found in the node's log. Of a request that is traced ([`traces`]) the lines carry the trace too,
//! and its span carries the id.

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
use crate::telemetry::traces;

/// The header that names a request.
const REQUEST_ID: &str = "x-request-id";
/// The header by which a client says what a request is a part of: see [`traces`].
const TRACEPARENT: &str = "traceparent";
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
        let empty = tracing::field::Empty;
        let span = tracing::info_span!("request", id = name, method, trace = empty);
        let traced = trace(&request, &method, name);
        let answer = self.inner.call(request);
        let noted = async move {
            let _running = running;
            let mut response = answer.await?;
            note(method, code_of(&response), started);
            traces::note(|span| end(span, code_of(&response)));
            response.headers_mut().insert(REQUEST_ID, id);
            Ok(response)
        };
        match traced {
            Some(traced) => {
                span.record("trace", traced.trace());
                Box::pin(traces::within_request(traced, noted.instrument(span)))
            }
            None => Box::pin(noted.instrument(span)),
        }
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

/// The span of a request that is to be traced.
fn trace<B>(request: &Request<B>, method: &str, id: &str) -> Option<traces::Traced> {
    if !traces::is_on() {
        return None;
    }
    let parent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let traced = traces::request(method, parent)?;
    traced.with(|span| {
        // The names that OpenTelemetry has agreed on for calls.
        span.set("rpc.system", "grpc");
        if let Some((service, method)) = method.split_once('/') {
            span.set("rpc.service", service.to_owned());
            span.set("rpc.method", method.to_owned());
        }
        span.set("stator.request_id", id.to_owned());
    });
    Some(traced)
}

fn end(span: &mut traces::Span, code: Code) {
    span.set("rpc.grpc.status_code", code as i64);
    // Who asked wrongly was served: by the same agreement that is no failure of the server.
    let is_failure = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if is_failure {
        span.fail(format_args!("{code:?}"));
    }
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
