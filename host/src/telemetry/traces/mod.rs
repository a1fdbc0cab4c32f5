//! Traces: what a request spent its time on, span by span, told to a collector by OTLP.
//!
//! ```text
//!   client ── traceparent ─▶ request ─▶ quorum ─┬─▶ store        (the coordinator's own copy)
//!                               │               └─▶ replica ── frame ─▶ store   (on the other node)
//!                               └─▶ merge, validate
//! ```
//!
//! Off without `traces_endpoint`: then no span is made and nothing is allocated; what is left is one look
//! at a static ([`is_on`]). Where it is on, a request is *traced* if its client says so (the sampled flag of
//! the W3C header `traceparent`), not if the client says that it is not, and else by chance, a share
//! `traces_sample` of all. Who is not traced has no span either: there are no spans that only pass ids on.
//!
//! A [`Place`] is where a span stands: its trace and itself. It is a small value, and what is below that
//! span is made of it, in whatever task or process it is. Within a task the request is found by a task-local
//! ([`within`]); through the event loop places go beside the events (`driver/traced.rs`), and to other nodes
//! in their frames (`transport/frame.rs`).
//!
//! Spans hold names of methods, keyspaces, nodes and modules, numbers, and words of failures. They never hold
//! a key or a value.
//!
//! Bounds: at most [`SPANS_MAX`] spans are open or wait for the collector, each with a dozen attributes
//! of at most `WORDS_MAX` bytes: 4 MiB. Beyond that no span is made, and counted as lost, so a collector
//! that is slow, stopped or gone costs nobody anything.
//!
//! Left out: a certificate of the node's own for the collector, and a change of what it trusts without a
//! restart; spans of background work (hints, exchanges, transfers: the metrics have them), and events within spans.

mod export;

use std::borrow::Cow;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace as sdk;
use stator_core::wire_structs;

use super::names::TRACE_SPANS;

pub use export::{StartError, start, stop};

/// The most spans that are open or wait for the collector.
pub const SPANS_MAX: usize = 4_096;
/// The most bytes of a text in a span; the rest is cut off.
const WORDS_MAX: usize = 200;

static TRACING: OnceLock<Tracing> = OnceLock::new();

/// What the process's traces are made with.
struct Tracing {
    provider: sdk::SdkTracerProvider,
    tracer: sdk::SdkTracer,
    /// Of the requests whose clients say nothing, so many of 2^64 are traced.
    share: u64,
    /// Requests whose clients said nothing.
    undecided: AtomicU64,
    /// Spans that are open or wait.
    spans: AtomicUsize,
}

/// Whether anything is traced.
pub fn is_on() -> bool {
    TRACING.get().is_some()
}

/// Where a span stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its trace.
    pub trace: [u8; 16],
    /// The span.
    pub span: [u8; 8],
}

wire_structs! {
    Place { trace, span }
}

/// What a client says of tracing a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// It traces it, and this is its span.
    Traced(Place),
    /// It has decided not to.
    Untraced,
}

impl Wish {
    /// Reads the header `traceparent` of <https://www.w3.org/TR/trace-context/>: version, trace, span and
    /// flags. What is not one says nothing.
    fn read(header: &str) -> Option<Wish> {
        let mut parts = header.trim().split('-');
        let (version, trace) = (parts.next()?, parts.next()?);
        let (span, flags) = (parts.next()?, parts.next()?);
        let is_lower = |text: &str| !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let has_more = parts.next().is_some();
        let mut of_version = [0; 1];
        hex::decode_to_slice(version, &mut of_version).ok()?;
        if of_version == [0xff] || (of_version == [0] && has_more) || !is_lower(header) {
            return None;
        }
        let (mut place, mut of_flags) = (Place { trace: [0; 16], span: [0; 8] }, [0; 1]);
        hex::decode_to_slice(trace, &mut place.trace).ok()?;
        hex::decode_to_slice(span, &mut place.span).ok()?;
        hex::decode_to_slice(flags, &mut of_flags).ok()?;
        if place.trace == [0; 16] || place.span == [0; 8] {
            return None;
        }
        Some(if of_flags[0] & 1 == 1 { Wish::Traced(place) } else { Wish::Untraced })
    }
}

/// A span, which ends when it is dropped.
pub struct Span {
    inner: sdk::Span,
}

impl Span {
    /// Where it stands.
    pub fn place(&self) -> Place {
        let context = self.inner.span_context();
        Place { trace: context.trace_id().to_bytes(), span: context.span_id().to_bytes() }
    }

    /// Notes something of it. What is no number or switch is cut at `WORDS_MAX`.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        let value = match value.into() {
            Value::String(text) if text.as_str().len() > WORDS_MAX => {
                let text = text.as_str();
                Value::from(text[..text.floor_char_boundary(WORDS_MAX)].to_owned())
            }
            value => value,
        };
        self.inner.set_attribute(KeyValue::new(name, value));
    }

    /// Says that what it is of failed.
    pub fn fail(&mut self, why: impl std::fmt::Display) {
        let mut words = why.to_string();
        words.truncate(words.floor_char_boundary(WORDS_MAX));
        self.inner.set_status(Status::error(words));
    }
}

impl Tracing {
    /// A span below `parent`, or the first of its trace; none if there are too many.
    fn span(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        parent: Option<Place>,
    ) -> Option<Span> {
        let room = |spans| (spans < SPANS_MAX).then_some(spans + 1);
        if self.spans.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            metrics::counter!(TRACE_SPANS.name, "outcome" => "lost").increment(1);
            return None;
        }
        let mut context = Context::new();
        if let Some(Place { trace, span }) = parent {
            context = context.with_remote_span_context(SpanContext::new(
                TraceId::from_bytes(trace),
                SpanId::from_bytes(span),
                TraceFlags::SAMPLED,
                true,
                TraceState::NONE,
            ));
        }
        let builder = self.tracer.span_builder(name).with_kind(kind);
        Some(Span { inner: self.tracer.build_with_context(builder, &context) })
    }

    /// Whether a request is traced whose client says nothing. A counter that is scrambled (SplitMix64, Steele
    /// and others 2014) is as even as chance and costs no lock.
    fn chooses(&self) -> bool {
        let count = self.undecided.fetch_add(1, Ordering::Relaxed);
        let mut mixed = count.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.share == u64::MAX || (mixed ^ (mixed >> 31)) < self.share
    }
}

/// A request that is traced. Clones are one; its span ends with the last.
#[derive(Clone)]
pub struct Traced {
    place: Place,
    span: Arc<Mutex<Span>>,
}

impl Traced {
    /// The trace's name, as log lines have it.
    pub fn trace(&self) -> String {
        hex::encode(self.place.trace)
    }

    /// Notes something of the request's span.
    pub fn with(&self, note: impl FnOnce(&mut Span)) {
        note(&mut self.span.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

tokio::task_local! {
    /// The request that the task is about, and the span that stands above what it does now.
    static NOW: (Place, Option<Traced>);
}

/// The span of a request that arrives with this `traceparent`, if it is to be traced.
pub fn request(name: &str, traceparent: Option<&str>) -> Option<Traced> {
    let tracing = TRACING.get()?;
    let parent = match traceparent.and_then(Wish::read) {
        Some(Wish::Traced(place)) => Some(place),
        Some(Wish::Untraced) => return None,
        None if tracing.chooses() => None,
        None => return None,
    };
    let name = name[..name.floor_char_boundary(WORDS_MAX)].to_owned();
    let span = tracing.span(name, SpanKind::Server, parent)?;
    Some(Traced { place: span.place(), span: Arc::new(Mutex::new(span)) })
}

/// Does something as a part of a traced request.
pub fn within_request<F: Future>(traced: Traced, work: F) -> impl Future<Output = F::Output> {
    NOW.scope((traced.place, Some(traced)), work)
}

/// Does something below a span, if there is one.
pub async fn within<F: Future>(place: Option<Place>, work: F) -> F::Output {
    match place {
        Some(place) => NOW.scope((place, None), work).await,
        None => work.await,
    }
}

/// Where the task stands, if it is traced.
pub fn here() -> Option<Place> {
    if !is_on() {
        return None;
    }
    NOW.try_with(|(place, _)| *place).ok()
}

/// Notes something of the span of the request that the task is about, if it is traced.
pub fn note(note: impl FnOnce(&mut Span)) {
    if !is_on() {
        return;
    }
    let _ = NOW.try_with(|(_, traced)| {
        if let Some(traced) = traced {
            traced.with(note);
        }
    });
}

/// A span below `parent`, if there is one: none where nothing is traced.
pub fn below(parent: Option<Place>, name: &'static str) -> Option<Span> {
    TRACING.get()?.span(name, SpanKind::Internal, Some(parent?))
}

/// As [`below`], of a question to another node.
pub fn asking(parent: Option<Place>, name: &'static str) -> Option<Span> {
    TRACING.get()?.span(name, SpanKind::Client, Some(parent?))
}

#[cfg(test)]
mod tests {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_standard_says_or_says_nothing() {
        let read = |header: &str| Wish::read(header);
        let header =
            |flags| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        let Some(Wish::Traced(place)) = read(&header("01")) else { panic!("it is traced") };
        assert_eq!(hex::encode(place.trace), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(hex::encode(place.span), "b7ad6b7169203331");
        assert_eq!(read(&header("00")), Some(Wish::Untraced));
        assert_eq!(read(&header("03")), Some(Wish::Traced(place)), "flags of later versions");
        assert_eq!(read(&header("01").replace("00-0", "cc-0")), Some(Wish::Traced(place)));
        assert_eq!(
            read(&(header("01").replace("00-0", "cc-0") + "-more")),
            Some(Wish::Traced(place))
        );
        let nothing = [
            String::new(),
            "00".to_owned(),
            header("0g"),
            header("1"),
            header("01") + "-more",
            header("01").replace("00-0", "ff-0"),
            header("01").to_uppercase(),
            header("01").replace("b7ad6b7169203331", "0000000000000000"),
            header("01").replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            header("01").replace("b7ad", "b7"),
        ];
        for header in nothing {
            assert_eq!(read(&header), None, "{header}");
        }
    }

    /// Counts what each thread allocates.
    struct Counting;

    thread_local! {
        static ALLOCATED: Cell<usize> = const { Cell::new(0) };
    }

    // SAFETY: all is the system's doing; a counter without a destructor is touched beside it.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            ALLOCATED.set(ALLOCATED.get() + 1);
            // SAFETY: the caller's promise, handed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            ALLOCATED.set(ALLOCATED.get() + 1);
            // SAFETY: the caller's promise, handed on.
            unsafe { System.alloc_zeroed(layout) }
        }

        unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            ALLOCATED.set(ALLOCATED.get() + 1);
            // SAFETY: the caller's promise, handed on.
            unsafe { System.realloc(at, layout, size) }
        }

        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            // SAFETY: the caller's promise, handed on.
            unsafe { System.dealloc(at, layout) }
        }
    }

    #[global_allocator]
    static COUNTING: Counting = Counting;

    #[test]
    fn where_nothing_is_traced_nothing_is_allocated() {
        let always = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let before = ALLOCATED.get();
        let found = (0..1_000).find(|_| {
            let request = request("stator.v1.Kv/Get", Some(always));
            note(|span| span.set("stator.keyspace", "carts".to_owned()));
            request.is_some() || below(here(), "quorum").is_some() || asking(here(), "x").is_some()
        });
        assert_eq!((found, ALLOCATED.get() - before), (None, 0));
        drop(std::hint::black_box(Box::new(1)));
        assert_eq!(ALLOCATED.get() - before, 1, "it does count");
    }

    #[tokio::test]
    async fn where_nothing_is_traced_there_is_no_span_and_work_goes_on() {
        assert!(!is_on(), "no test of this program starts it");
        let always = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(request("get", Some(always)).is_none());
        let place = Place { trace: [1; 16], span: [2; 8] };
        let here = within(Some(place), async { here() }).await;
        assert_eq!(here, None);
        assert!(below(Some(place), "store").is_none());
        note(|_| panic!("there is none"));
    }
}
