//! The dialling side: a gRPC channel through TLS.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint, Error};
use tower::service_fn;

use super::TlsError;
use super::files::{Named, authorities, identity};
use super::live::client;

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
        let config = client(roots, identity).map_err(|error| file.wrong(error.to_string()))?;
        Ok(ClientTls { config, name: domain.map(str::to_owned) })
    }

    async fn dial(self, uri: Uri) -> io::Result<TlsStream<TcpStream>> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let host = uri.host().ok_or_else(|| invalid("the address has no host"))?;
        // An IPv6 address stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = self.name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name)
            .map_err(|_| invalid("the name of the server is neither a DNS name nor an address"))?;
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
        // Without it small frames wait for acknowledgements, up to 40 ms each.
        stream.set_nodelay(true)?;
        TlsConnector::from(self.config).connect(name, stream).await
    }
}

/// Connects `endpoint`, through TLS if it is given. The endpoint's deadline for connecting covers
/// the TLS handshake.
///
/// # Errors
/// Nobody answers, or one side does not accept the other's certificate.
pub async fn connect(endpoint: &Endpoint, tls: Option<&ClientTls>) -> Result<Channel, Error> {
    let Some(tls) = tls.cloned() else {
        return endpoint.connect().await;
    };
    let connector = service_fn(move |uri: Uri| {
        let tls = tls.clone();
        async move { tls.dial(uri).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await
}
