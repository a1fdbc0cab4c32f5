//! The dialling side: a connection to another node, and a gRPC channel, through TLS.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint, Error};
use tower::service_fn;

use super::files::{Named, authorities, identity};
use super::live::client;
use super::{ALPN_GRPC, TlsError};

/// How long a server's word on the client's certificate is waited for.
const VERDICT_WAIT: Duration = Duration::from_millis(300);

/// How long one address of a name is tried alone before the next is tried too.
const NEXT_ADDRESS_WAIT: Duration = Duration::from_millis(200);

/// How a client makes TLS of its connections.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    /// What the server's certificate must name, if not the host that is dialled.
    name: Option<String>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ClientTls {
    pub(super) fn of(config: Arc<ClientConfig>, name: Option<String>) -> Self {
        ClientTls { config, name }
    }

    /// From files in PEM form, as the options `--tls-ca`, `--tls-cert` with `--tls-key`, and
    /// `--tls-domain` give them. Blocks on the disk.
    ///
    /// # Errors
    /// Names the option and what is wrong with its file.
    pub fn load(
        ca: &Path,
        own: Option<(&Path, &Path)>,
        domain: Option<&str>,
    ) -> Result<Self, TlsError> {
        let file = Named::new("--tls-ca", ca);
        let roots = authorities(&file, &file.read()?)?;
        let identity = match own {
            Some((cert, key)) => {
                let (cert, key) = (Named::new("--tls-cert", cert), Named::new("--tls-key", key));
                Some(identity((&cert, &cert.read()?), (&key, &key.read()?))?)
            }
            None => None,
        };
        let config =
            client(roots, identity, ALPN_GRPC).map_err(|error| file.wrong(error.to_string()))?;
        Ok(ClientTls { config, name: domain.map(str::to_owned) })
    }

    /// One that shows no certificate, and trusts the authorities of a file that a setting names. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// Names the setting and what is wrong with its file.
    pub fn trusting(setting: &str, ca: &Path) -> Result<Self, TlsError> {
        let file = Named::new(setting, ca);
        let roots = authorities(&file, &file.read()?)?;
        let config =
            client(roots, None, ALPN_GRPC).map_err(|error| file.wrong(error.to_string()))?;
        Ok(ClientTls { config, name: None })
    }

    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    /// Nobody answers, or one side does not accept the other's certificate.
    pub async fn connect(&self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        // An IPv6 address stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = self.name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|_| {
            let what = "the name of the server is neither a DNS name nor an address";
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })?;
        let stream = connect_tcp(address).await?;
        let mut stream = TlsConnector::from(self.config.clone()).connect(name, stream).await?;
        hear_verdict(&mut stream).await?;
        Ok(stream)
    }
}

/// Connects to the first of the addresses of `HOST:PORT` that answers. One of a family that leads
/// nowhere holds the others up for 200 ms only.
///
/// # Errors
/// The name is unknown, or nobody answers.
pub async fn connect_tcp(address: &str) -> io::Result<TcpStream> {
    let addresses = tokio::net::lookup_host(address).await?;
    let attempt = |(index, address)| async move {
        tokio::time::sleep(NEXT_ADDRESS_WAIT * index).await;
        TcpStream::connect(address).await
    };
    let mut attempts: FuturesUnordered<_> = (0_u32..).zip(addresses).map(attempt).collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    while let Some(connected) = attempts.next().await {
        match connected {
            Ok(stream) => {
                // Without it small frames wait for acknowledgements, up to 40 ms each.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// In TLS 1.3 a client's handshake ends before the server has looked at its certificate. What the
/// server sends next is an alert, or tickets for later connections if all is well. Whoever goes
/// on without waiting for it learns no more than that the connection was closed.
async fn hear_verdict(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    let (tcp, session) = stream.get_mut();
    let arrives = async {
        loop {
            tcp.readable().await?;
            match session.read_tls(&mut Arrived(tcp)) {
                // What was read before may have left the connection marked as readable.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    };
    match timeout(VERDICT_WAIT, arrives).await {
        Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(error),
        // A server without tickets; a bad verdict will come as the end of the connection.
        Err(_) => return Ok(()),
    }
    let verdict = session.process_new_packets();
    verdict.map(drop).map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))
}

/// What of a connection can be read without waiting.
struct Arrived<'a>(&'a TcpStream);

impl io::Read for Arrived<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

/// Connects `endpoint`, through TLS if it is given. The endpoint's deadline for connecting covers
/// the TLS handshake.
///
/// # Errors
/// Nobody answers, or one side does not accept the other's certificate.
pub async fn connect(endpoint: &Endpoint, tls: Option<&ClientTls>) -> Result<Channel, Error> {
    match tls {
        Some(tls) => endpoint.connect_with_connector(service_fn(connector(tls))).await,
        None => endpoint.connect().await,
    }
}

/// As [`connect`], once the channel is used.
pub fn connect_lazy(endpoint: &Endpoint, tls: Option<&ClientTls>) -> Channel {
    match tls {
        Some(tls) => endpoint.connect_with_connector_lazy(service_fn(connector(tls))),
        None => endpoint.connect_lazy(),
    }
}

/// Makes the connections of a channel.
fn connector(tls: &ClientTls) -> impl Fn(Uri) -> Connecting + Clone + use<> {
    let tls = tls.clone();
    move |uri| {
        let tls = tls.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let address = format!("{host}:{}", uri.port_u16().unwrap_or(443));
            tls.connect(&address).await.map(TokioIo::new)
        })
    }
}

type Connecting = BoxFuture<'static, io::Result<TokioIo<TlsStream<TcpStream>>>>;
