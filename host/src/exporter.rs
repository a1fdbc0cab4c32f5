//! The page of metrics, in Prometheus' text format, at `/metrics` of the metrics listener.
//!
//! What happens is recorded where it happens; what *is* (hints held, queue depths, memory) is
//! looked at here, when somebody asks.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::api::resizes;
use crate::descriptors::METRICS_CONNECTIONS_MAX;
use crate::driver::VERSIONS;
use crate::node::Node;
use crate::storage::Area;
use crate::telemetry::names::*;
use crate::telemetry::vital::Vital;

/// A connection is closed by then, however slowly its other side sends or reads.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 << 10;
/// After an error of `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metrics listener whose port is taken, before the node starts.
pub struct Exporter {
    listener: TcpListener,
    handle: PrometheusHandle,
}

impl Exporter {
    /// Takes the port and starts recording.
    ///
    /// # Errors
    /// The port is taken, or another node of this process records already.
    pub async fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen for metrics at {address}"))?;
        Ok(Exporter { listener, handle: crate::telemetry::install()? })
    }

    /// What has been recorded, for whoever else shows it.
    pub fn recorder(&self) -> PrometheusHandle {
        self.handle.clone()
    }

    /// Where the page is.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves the page of `node` until `stop`. A connection gets one answer, and a few seconds.
    pub fn spawn(self, node: &Arc<Node>, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
        // Weak: a scrape that hangs does not keep the stores open.
        let node = Arc::downgrade(node);
        let Exporter { listener, handle } = self;
        tokio::spawn(async move {
            let _vital = Vital("the page of metrics");
            // Dropped at the stop, and with it who is still read to.
            let mut connections = JoinSet::new();
            loop {
                while connections.try_join_next().is_some() {}
                let is_full = connections.len() >= METRICS_CONNECTIONS_MAX;
                tokio::select! {
                    _ = async { stop.wait_for(|is_stopped| *is_stopped).await.is_ok() } => return,
                    _ = connections.join_next(), if is_full => {}
                    accepted = listener.accept(), if !is_full => match accepted {
                        Ok((stream, _)) => {
                            let page = page(node.clone(), handle.clone());
                            connections.spawn(timeout(CONNECTION_DEADLINE, answer(stream, page)));
                        }
                        // No descriptors: what is sampled tells.
                        Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                    },
                }
            }
        })
    }
}

/// Answers one request on a connection, and closes it.
async fn answer(stream: TcpStream, page: impl Fn() -> String) {
    let service = service_fn(|request: Request<Incoming>| {
        let (status, text) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, page()),
            _ => (StatusCode::NOT_FOUND, "metrics are at /metrics\n".to_owned()),
        };
        let response = Response::builder().status(status).header(CONTENT_TYPE, TEXT);
        std::future::ready(response.body(Body::from(text)))
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_headers(HEADERS_MAX).max_buf_size(HEADER_BYTES_MAX);
    // Whoever leaves, or speaks no HTTP, gets no page.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn page(node: Weak<Node>, handle: PrometheusHandle) -> impl Fn() -> String {
    move || {
        if let Some(node) = node.upgrade() {
            sample(&node);
        }
        handle.render()
    }
}

fn sample(node: &Node) {
    process(node);
    merges(node);
    hints(node);
    trees(node);
    keyspaces(node);
    members(node);
    store(node, Area::Data);
    store(node, Area::Hints);
    set(STORE_JOBS_WAITING, [("store", "reads".to_owned())], node.stores.reads_waiting() as f64);
}

fn set<const N: usize>(metric: Metric, labels: [(&'static str, String); N], value: f64) {
    metrics::gauge!(metric.name, labels.as_slice()).set(value);
}

fn count<const N: usize>(metric: Metric, labels: [(&'static str, String); N], value: u64) {
    metrics::counter!(metric.name, labels.as_slice()).absolute(value);
}

fn process(node: &Node) {
    let labels = [
        ("node", node.id.to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("engine", node.config.engine.name().to_owned()),
    ];
    set(NODE, labels, 1.0);
    let up_ms = node.clock.now().wall_ms.saturating_sub(node.started_at_ms);
    set(UPTIME, [], up_ms as f64 / 1000.0);
    // Where there is no /proc these stay away rather than lie.
    if let Some((resident_bytes, cpu_seconds)) = own_stat() {
        set(RESIDENT, [], resident_bytes);
        set(CPU, [], cpu_seconds);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        set(FILES, [], files.count() as f64);
    }
}

/// Resident bytes and processor seconds, from `/proc/self/stat` (see proc(5)).
fn own_stat() -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may hold anything but ends with the last parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |index: usize| fields.get(index)?.parse::<f64>().ok();
    // SAFETY: sysconf only reads a constant of the system.
    let (tick, page) =
        unsafe { (libc::sysconf(libc::_SC_CLK_TCK), libc::sysconf(libc::_SC_PAGESIZE)) };
    Some((field(21)? * page as f64, (field(11)? + field(12)?) / tick as f64))
}

fn merges(node: &Node) {
    let figures = node.merges.figures();
    count(MERGES_TURNED_AWAY, [], figures.overloads);
    count(MEMO_HITS, [], figures.memo_hits);
    count(COMPILATIONS, [], figures.compilations);
    set(MEMO_BYTES, [], figures.memo_bytes as f64);
    set(MODULES, [], figures.modules as f64);
    set(DEAD_LETTERS, [], node.conflicts.letter_count() as f64);
    set(MODULES_PAUSED, [], node.conflicts.paused().len() as f64);
}

fn hints(node: &Node) {
    let held = node.stores.hint_figures();
    set(HINTS_BYTES, [], held.bytes as f64);
    set(HINTS_BYTES_MAX, [], held.bytes_max as f64);
    count(HINTS_REFUSED, [], held.refused);
    let now_ms = node.clock.now().wall_ms;
    let Some(catalogue) = node.catalogue() else { return };
    let shared = node.driver.shared();
    for keyspace in catalogue.live_keyspaces() {
        let figures = shared.keyspace_figures(keyspace.id);
        let label = || [("keyspace", keyspace.name.clone())];
        count(HINTS_STORED, label(), figures.hints_stored);
        count(HINTS_DELIVERED, label(), figures.hints_delivered);
        count(HINTS_LOST, label(), figures.hints_lost);
        count(FOLDS, label(), figures.folds);
        count(FOLD_FAILURES, label(), figures.fold_failures);
        for (versions, gets) in VERSIONS.into_iter().zip(figures.gets) {
            let [keyspace] = label();
            count(GETS, [keyspace, ("versions", versions.to_owned())], gets);
        }
    }
    for member in catalogue.members.keys().filter(|member| **member != node.id) {
        let label = || [("target", member.to_string())];
        let waiting = held.waiting.get(member).copied().unwrap_or_default();
        set(HINTS_HELD, label(), waiting as f64);
        let age_ms = held.oldest_ms.get(member).map_or(0, |since| now_ms.saturating_sub(*since));
        set(HINTS_OLDEST, label(), age_ms as f64 / 1000.0);
        count(READ_REPAIRS, label(), shared.peer_figures(*member).read_repairs);
    }
}

fn trees(node: &Node) {
    let (is_complete, buckets) = node.stores.tree_figures();
    set(TREES_READY, [], if is_complete { 1.0 } else { 0.0 });
    set(TREE_BUCKETS, [], buckets as f64);
}

fn keyspaces(node: &Node) {
    let Some(catalogue) = node.catalogue() else { return };
    let held = node.stores.usage().usages;
    for keyspace in catalogue.live_keyspaces() {
        let usage = held.get(&keyspace.id).copied().unwrap_or_default();
        let label = || [("keyspace", keyspace.name.clone())];
        set(KEYSPACE_KEYS, label(), usage.keys as f64);
        set(KEYSPACE_BYTES, label(), usage.bytes as f64);
        let resize = resizes::under_way(node, &catalogue, keyspace).unwrap_or_default();
        set(RESIZE_WAITING, label(), resize.waiting_node_ids.len() as f64);
        set(RESIZE_LEFT, label(), f64::from(resize.partitions_left));
        // As a put is checked: by what is told or what is here, whichever is more.
        let used = usage.max(node.driver.shared().usage(keyspace.id).one_copy);
        let quota = keyspace.quota.value;
        for (name, max, used) in [
            ("keys", quota.keys, Some(used.keys)),
            ("bytes", quota.bytes, Some(used.bytes)),
            ("requests", quota.requests_per_second, None),
        ] {
            let labels = || [("keyspace", keyspace.name.clone()), ("quota", name.to_owned())];
            set(QUOTA, labels(), max as f64);
            used.into_iter().for_each(|used| set(QUOTA_USED, labels(), used as f64));
        }
    }
}

fn members(node: &Node) {
    let Some(catalogue) = node.catalogue() else { return };
    set(TRANSFERS, [], node.driver.shared().transfers().len() as f64);
    set(SLOTS_PENDING, [], catalogue.ring.moves().len() as f64);
    let down = node.driver.shared().unreachable();
    let unreachable = catalogue.members.keys().filter(|member| down.contains(member)).count();
    let reachable = catalogue.members.len() - unreachable;
    for (name, value) in [("reachable", reachable), ("unreachable", unreachable)] {
        set(MEMBERS, [("reachability", name.to_owned())], value as f64);
    }
}

fn store(node: &Node, area: Area) {
    let figures = node.stores.figures(area);
    let label = || [("store", area.name().to_owned())];
    let is_serving = figures.out_of_service.is_none();
    set(STORE_OBJECTS, label(), figures.objects as f64);
    set(STORE_SERVING, label(), if is_serving { 1.0 } else { 0.0 });
    set(STORE_JOBS_WAITING, label(), node.stores.jobs_waiting(area) as f64);
    count(STORE_COMMITS, label(), figures.commits);
    count(STORE_SYNCS, label(), figures.syncs);
    count(STORE_DAMAGED, label(), figures.damaged_records);
}
