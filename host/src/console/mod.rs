//! The web console of a node: what `stator` commands tell, to look at in a browser.
//!
//! It only reads. One page, its scripts and styles are part of the program (`pages.rs`); what they
//! show they ask of `/api/…`, which calls the services of [`crate::api`] in this process, as clients
//! would, and of the live feed of merges (`feed.rs`). Off unless `console_listen` is set.
//!
//! What stands between a stranger and it:
//! - It listens on loopback, or has certificates (`[tls.console]`), or the operator said `insecure`.
//! - `guard.rs` refuses requests for hosts that this node is not, and those that pages of other
//!   sites make, and tells browsers to run nothing but these scripts.
//! - A connection gets one answer, by a deadline; there are [`CONSOLE_CONNECTIONS_MAX`] of them, of
//!   which [`STREAMS_MAX`] may be live feeds, which end after ten minutes and are asked for anew.
//!
//! | | |
//! |---|---|
//! | `cluster.rs` | this node, the members as it sees them, the ring, what moves and is repaired |
//! | `keyspaces.rs` | keyspaces, modules, what was measured (`measured.rs`) |
//! | `feed.rs`, `record.rs` | merges as they happen, dead letters |
//! | `explain.rs` | how a key's value came to be |
//!
//! Left out: writes, logins, values on any page but the one that explains a key, and what only other
//! nodes know: each node has a console of its own, and none dials another.

mod answer;
mod cluster;
mod explain;
mod feed;
mod guard;
mod keyspaces;
mod measured;
mod pages;
mod record;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::Request;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tower::util::ServiceExt;

use crate::descriptors::CONSOLE_CONNECTIONS_MAX;
use crate::node::Node;
use crate::telemetry::vital::Vital;
use crate::tls::Tls;
use guard::Hosts;

/// Live feeds at a time.
pub const STREAMS_MAX: usize = 8;
/// A connection is closed by then, however slowly its other side sends or reads, unless it carries
/// a live feed. More than two gets of a key may take.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(20);
/// A TLS handshake must be over by then.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 << 10;
/// After an error of `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// A console's listener whose port is taken, before the node starts.
pub struct Listener {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    recorder: PrometheusHandle,
}

/// What every request gets to see. Weak: a request that hangs does not keep the stores open.
#[derive(Clone)]
struct Console {
    node: Weak<Node>,
    recorder: PrometheusHandle,
    hosts: Arc<Hosts>,
    streams: Arc<Semaphore>,
}

/// Of a connection: whether its answer is a live feed.
#[derive(Debug, Clone, Default)]
struct Lasting(Arc<AtomicBool>);

impl Listener {
    /// Takes the port. What `recorder` has measured is shown.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<Arc<Tls>>,
        recorder: PrometheusHandle,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen for browsers at {address}"))?;
        Ok(Listener { listener, tls, recorder })
    }

    /// Where the console is.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves the console of `node` until `stop`.
    pub fn spawn(self, node: &Arc<Node>, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
        let Listener { listener, tls, recorder } = self;
        let addresses = &node.addresses;
        let told = [&addresses.client, &addresses.admin, &addresses.peer];
        let hosts = Arc::new(Hosts::new(told.map(String::as_str), tls.is_some()));
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        let router = router(Console { node: Arc::downgrade(node), recorder, hosts, streams });
        tokio::spawn(async move {
            let _vital = Vital("the console");
            // Dropped at the stop, and with it who is still read to.
            let mut connections = JoinSet::new();
            loop {
                while connections.try_join_next().is_some() {}
                let is_full = connections.len() >= CONSOLE_CONNECTIONS_MAX;
                tokio::select! {
                    _ = async { stop.wait_for(|is_stopped| *is_stopped).await.is_ok() } => return,
                    _ = connections.join_next(), if is_full => {}
                    accepted = listener.accept(), if !is_full => match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(open(stream, tls.clone(), router.clone()));
                        }
                        Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                    },
                }
            }
        })
    }
}

fn router(console: Console) -> Router {
    let pages = pages::ALL.iter().fold(Router::new(), |router, page| {
        router.route(page.path, get(move || async move { page.answer() }))
    });
    pages
        .route("/api/cluster", get(cluster::cluster))
        .route("/api/ring", get(cluster::ring))
        .route("/api/keyspaces", get(keyspaces::keyspaces))
        .route("/api/modules", get(keyspaces::modules))
        .route("/api/conflicts", get(feed::conflicts))
        .route("/api/letters", get(feed::letters))
        .route("/api/explain", get(explain::explain))
        .fallback(answer::unknown)
        .layer(from_fn_with_state(console.clone(), guard::guard))
        .with_state(console)
}

async fn open(stream: TcpStream, tls: Option<Arc<Tls>>, router: Router) {
    // Without it an answer's end may wait for an acknowledgement, up to 40 ms.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, router).await,
        Some(tls) => {
            let opened = timeout(HANDSHAKE_DEADLINE, tls.acceptor().accept(stream)).await;
            // Whoever speaks no TLS is told so by its end.
            if let Ok(Ok(stream)) = opened {
                serve(stream, router).await;
            }
        }
    }
}

/// Answers one request on a connection, and closes it.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send, router: Router) {
    let lasting = Lasting::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(lasting.clone());
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_headers(HEADERS_MAX).max_buf_size(HEADER_BYTES_MAX);
    let mut served = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let is_over = timeout(CONNECTION_DEADLINE, &mut served).await.is_ok();
    if !is_over && lasting.0.load(Ordering::Relaxed) {
        // A feed ends by itself; who does not read it to its end is not waited for.
        let _ = timeout(feed::LIFE, served).await;
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{HeaderMap, StatusCode};
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    /// A console whose node has stopped.
    fn console() -> Router {
        let hosts = Hosts::new(["node-1.example:7101", "127.0.0.1:7102"], false);
        router(Console {
            node: Weak::new(),
            recorder: PrometheusBuilder::new().build_recorder().handle(),
            hosts: Arc::new(hosts),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        })
    }

    async fn ask(path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
        let request =
            headers.iter().fold(Request::get(path), |all, (name, value)| all.header(*name, *value));
        let request = request.body(Body::empty()).expect("a request");
        let response = console().oneshot(request).await.expect("answers never fail");
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        (head.status, head.headers, String::from_utf8_lossy(&body).into_owned())
    }

    const HERE: (&str, &str) = ("host", "127.0.0.1:7105");

    #[tokio::test]
    async fn every_part_of_the_page_is_there_and_may_run_nothing_else() {
        for page in pages::ALL {
            let (status, headers, body) = ask(page.path, &[HERE]).await;
            assert_eq!((status, body.as_str()), (StatusCode::OK, page.text), "{}", page.path);
            assert_eq!(headers["content-type"], page.kind);
            let policy = headers["content-security-policy"].to_str().expect("text");
            for rule in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
                assert!(policy.contains(rule), "{rule} is not in: {policy}");
            }
            assert!(!policy.contains("unsafe"), "{policy}");
            assert_eq!(headers["x-content-type-options"], "nosniff");
        }
        let (_, _, page) = ask("/", &[HERE]).await;
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" on"));
        assert!(page.matches("<script").all(|_| page.contains("<script type=\"module\" src=")));
    }

    #[tokio::test]
    async fn only_who_asks_for_this_node_is_answered() {
        for host in ["127.0.0.1:7105", "localhost:1", "[::1]:7105", "NODE-1.example:7105"] {
            assert_eq!(ask("/", &[("host", host)]).await.0, StatusCode::OK, "{host}");
        }
        for host in ["evil.example:7105", "127.0.0.1.evil.example", "localhost.evil", "", "[::1"] {
            let (status, headers, words) = ask("/", &[("host", host)]).await;
            assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{host}");
            assert!(words.contains("advertise_admin"), "{words}");
            assert!(headers.contains_key("content-security-policy"));
        }
        assert_eq!(ask("/", &[]).await.0, StatusCode::MISDIRECTED_REQUEST, "no host at all");
        let (status, ..) = ask("http://evil.example/", &[HERE]).await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "what the request line says counts");
    }

    #[tokio::test]
    async fn pages_of_other_sites_cause_nothing() {
        for site in ["cross-site", "same-site"] {
            let (status, ..) =
                ask("/api/explain?keyspace=a&key=b", &[HERE, ("sec-fetch-site", site)]).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{site}");
        }
        let (status, ..) = ask("/", &[HERE, ("sec-fetch-site", "cross-site")]).await;
        assert_eq!(status, StatusCode::OK, "a link to the console is followed");
    }

    #[tokio::test]
    async fn what_is_not_there_and_a_stopped_node_are_told_in_words() {
        let (status, headers, words) = ask("/api/nothing", &[HERE]).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(headers.contains_key("content-security-policy") && words.contains("NO_SUCH_PAGE"));
        for path in ["/api/cluster", "/api/conflicts", "/api/explain?keyspace=a&key=b"] {
            let (status, _, words) = ask(path, &[HERE]).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {words}");
        }
        let written = Request::post("/api/cluster").header(HERE.0, HERE.1).body(Body::empty());
        let answer = console().oneshot(written.expect("a request")).await.expect("answered");
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "it only reads");
    }
}
