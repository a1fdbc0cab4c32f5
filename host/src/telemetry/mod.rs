//! What a node measures of itself, by name.
//!
//! Code everywhere counts through the `metrics` facade, as it logs through `tracing`; this module
//! owns the [names] and the recorder behind the facade. Two kinds of figures meet in the
//! page that Prometheus reads:
//! - what happens (requests, merges, syncs) is recorded where it happens, histograms as
//!   summaries with p50, p99 and p99.9 over the last minutes, and those of keyspaces by bounds, so
//!   that they add up over nodes;
//! - what is (hints held, queue depths, memory) is looked at only when the page is asked for,
//!   by [`crate::exporter`].
//!
//! Without a metrics listener or a console no recorder is installed and counting costs next to nothing.
//!
//! Beside the figures: [traces] of requests, the way of log [lines] out of the process, and which parts of
//! it are [vital].

pub mod lines;
pub mod names;
pub mod traces;
pub mod vital;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use names::{ALL, Kind, STALENESS_SECONDS};

/// The quantiles of every summary.
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];
/// The bounds of ages, in seconds: up to ten days.
const AGES: [f64; 14] = [
    0.001, 0.01, 0.1, 1.0, 4.0, 15.0, 60.0, 300.0, 1_200.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0,
    864_000.0,
];
/// The bounds of every other histogram, in seconds: each about twice the one before.
const SECONDS: [f64; 16] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0,
    4.0, 8.0,
];
static IS_RECORDING: AtomicBool = AtomicBool::new(false);
/// How often samples are drained into summaries, so that they do not pile up unread.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// The recorder could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The quantiles are not what the exporter takes.
    #[error("metrics cannot be recorded: {0}")]
    Build(#[from] BuildError),
    /// The process has a recorder already, so its metrics are read elsewhere.
    #[error("metrics are recorded already in this process: one node per process may have them")]
    Taken,
}

/// Starts recording for the whole process, and the task that keeps summaries small.
///
/// # Errors
/// Nothing is recorded, or something else records already.
pub fn install() -> Result<PrometheusHandle, InstallError> {
    let histograms = ALL.iter().filter(|metric| metric.kind == Kind::Histogram);
    let mut builder = PrometheusBuilder::new().set_quantiles(&QUANTILES)?;
    for metric in histograms {
        let matcher = Matcher::Full(metric.name.to_owned());
        let bounds = if *metric == STALENESS_SECONDS { &AGES[..] } else { &SECONDS[..] };
        builder = builder.set_buckets_for_metric(matcher, bounds)?;
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| InstallError::Taken)?;
    IS_RECORDING.store(true, Ordering::Relaxed);
    describe();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut period = tokio::time::interval(UPKEEP_PERIOD);
        loop {
            period.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Whether anybody records: what costs something to count need not be counted else.
pub fn is_recording() -> bool {
    IS_RECORDING.load(Ordering::Relaxed)
}

fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Summary | Kind::Histogram => {
                metrics::describe_histogram!(metric.name, metric.help)
            }
        }
    }
}
