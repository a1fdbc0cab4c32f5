//! Listeners for browsers and `curl`: HTTP/1.1, one answer on each connection.
//!
//! The console and the gateway have one each. There are so many connections at a time, and each is closed
//! by a deadline, however slowly its other side sends or reads, unless its answer lasts ([`Lasting`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tower::util::ServiceExt;

use crate::descriptors::CONSOLE_CONNECTIONS_MAX;
use crate::telemetry::vital::Vital;
use crate::tls::{self, Tls};

/// A connection is closed by then. More than two gets of a key may take.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(20);
/// A TLS handshake must be over by then.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 << 10;
/// After an error of `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// A listener whose port is taken, before the node starts.
pub struct Listener {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    /// How long an answer may last that does.
    life: Duration,
}

/// Of a connection: whether its answer lasts beyond the deadline.
#[derive(Debug, Clone, Default)]
pub struct Lasting(pub Arc<AtomicBool>);

/// Of a connection: the names of the certificate that the other side has shown.
#[derive(Debug, Clone, Default)]
pub struct Shown(pub Arc<[String]>);

impl Listener {
    /// Takes the port, for `whom`. Answers that last may do so for `life`.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn bind(
        (whom, address): (&str, SocketAddr),
        tls: Option<Arc<Tls>>,
        life: Duration,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen for {whom} at {address}"))?;
        Ok(Listener { listener, tls, life })
    }

    /// Where it is.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Whether it has certificates.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves `router` until `stop`.
    pub fn spawn(
        self,
        name: &'static str,
        router: Router,
        mut stop: watch::Receiver<bool>,
    ) -> JoinHandle<()> {
        let Listener { listener, tls, life } = self;
        tokio::spawn(async move {
            let _vital = Vital(name);
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
                            connections.spawn(open(stream, tls.clone(), router.clone(), life));
                        }
                        Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                    },
                }
            }
        })
    }
}

async fn open(stream: TcpStream, tls: Option<Arc<Tls>>, router: Router, life: Duration) {
    // Without it an answer's end may wait for an acknowledgement, up to 40 ms.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, router, (Shown::default(), life)).await,
        Some(tls) => {
            let opened = timeout(HANDSHAKE_DEADLINE, tls.acceptor().accept(stream)).await;
            // Whoever speaks no TLS is told so by its end.
            if let Ok(Ok(stream)) = opened {
                let shown = Shown(tls::names(stream.get_ref().1.peer_certificates()));
                serve(stream, router, (shown, life)).await;
            }
        }
    }
}

/// Answers one request on a connection, and closes it.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    router: Router,
    (shown, life): (Shown, Duration),
) {
    let lasting = Lasting::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(lasting.clone());
        request.extensions_mut().insert(shown.clone());
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_headers(HEADERS_MAX).max_buf_size(HEADER_BYTES_MAX);
    let mut served = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let is_over = timeout(CONNECTION_DEADLINE, &mut served).await.is_ok();
    if !is_over && lasting.0.load(Ordering::Relaxed) {
        // A feed ends by itself; who does not read it to its end is not waited for.
        let _ = timeout(life, served).await;
    }
}
