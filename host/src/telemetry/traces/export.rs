//! The way of spans to the collector: gRPC, in batches, behind everybody's back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData,
    SpanExporter as Exporter,
};
use tokio::runtime::Handle;
use tonic::transport::Endpoint;

use super::{SPANS_MAX, TRACING, Tracing};
use crate::address::HostPort;
use crate::telemetry::names::TRACE_SPANS;
use crate::tls::{self, ClientTls};

/// Spans that are sent at once, at most.
const BATCH_MAX: usize = 512;
/// How long a span waits for others.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// How long the collector may take for a batch. What is not taken by then is lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of the process waits for the last spans.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// There are no traces.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is none that can be dialled.
    #[error("traces_endpoint = {0} cannot be dialled: {1}")]
    Endpoint(HostPort, String),
    /// The process has a collector already.
    #[error("traces are sent already in this process: one node per process may send them")]
    Taken,
}

/// Has a share of all requests traced from now on, and their spans sent to `endpoint`, which need not
/// be there, through TLS if that is given. `resource` says whose spans they are. To be called in a tokio runtime.
///
/// # Errors
/// Nothing is traced.
pub fn start(
    (endpoint, tls): (&HostPort, Option<&ClientTls>),
    share: f64,
    resource: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<(), StartError> {
    let failed = |error: String| StartError::Endpoint(endpoint.clone(), error);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let dialled = Endpoint::from_shared(format!("{scheme}://{endpoint}"))
        .map_err(|error| failed(error.to_string()))?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE);
    let channel = tls::connect_lazy(&dialled, tls);
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_channel(channel)
        .with_timeout(PATIENCE)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let exporter = Told {
        inner: Arc::new(exporter),
        runtime: Handle::current(),
        is_failing: AtomicBool::new(false),
        endpoint: endpoint.to_string(),
    };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(SPANS_MAX)
        .with_max_export_batch_size(BATCH_MAX)
        .with_scheduled_delay(BATCH_DELAY)
        .build();
    let attributes = resource.into_iter().map(|(name, value)| KeyValue::new(name, value));
    let provider = SdkTracerProvider::builder()
        .with_span_processor(
            BatchSpanProcessor::builder(exporter).with_batch_config(batches).build(),
        )
        // Whoever is not traced gets no span at all.
        .with_sampler(Sampler::AlwaysOn)
        .with_resource(
            Resource::builder().with_service_name("stator").with_attributes(attributes).build(),
        )
        .build();
    let tracing = Tracing {
        tracer: provider.tracer("stator"),
        provider,
        share: (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64,
        // Nodes of a cluster need not choose alike.
        undecided: AtomicU64::new(getrandom::u64().unwrap_or_default()),
        spans: AtomicUsize::new(0),
    };
    TRACING.set(tracing).map_err(|_| StartError::Taken)
}

/// Sends what waits, for a moment at most, and makes no more spans. Blocks.
pub fn stop() {
    if let Some(tracing) = TRACING.get() {
        let _ = tracing.provider.shutdown_with_timeout(STOP_PATIENCE);
    }
}

/// Sends batches within the node's runtime, counts what becomes of them, and says when the collector
/// does not take them.
#[derive(Debug)]
struct Told {
    inner: Arc<SpanExporter>,
    runtime: Handle,
    is_failing: AtomicBool,
    endpoint: String,
}

impl Exporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (count, inner) = (batch.len(), self.inner.clone());
        let sending = self.runtime.spawn(async move { inner.export(batch).await });
        let sent = match sending.await {
            Ok(sent) => sent,
            Err(error) => Err(OTelSdkError::InternalFailure(error.to_string())),
        };
        if let Some(tracing) = TRACING.get() {
            let left = |spans: usize| Some(spans.saturating_sub(count));
            let _ = tracing.spans.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        }
        let outcome = if sent.is_ok() { "sent" } else { "lost" };
        metrics::counter!(TRACE_SPANS.name, "outcome" => outcome).increment(count as u64);
        let was_failing = self.is_failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !was_failing => tracing::warn!(
                collector = self.endpoint, %error,
                "the collector takes no traces; spans are lost until it does, requests are served"
            ),
            Ok(()) if was_failing => {
                tracing::info!(collector = self.endpoint, "the collector takes traces again");
            }
            _ => {}
        }
        sent
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Before the first batch nobody else has it.
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.set_resource(resource);
        }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }
}
