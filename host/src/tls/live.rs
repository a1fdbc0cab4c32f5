//! A listener's certificates while the node runs.

use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoClientAuth, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::dial::ClientTls;
use super::files::{Named, authorities, identity};
use super::{ALPN_BROWSER, ALPN_GRPC, ALPN_PEER, TlsError, TlsFiles, provider};

pub use tokio_rustls::TlsAcceptor;

/// The section of the settings that is for other nodes.
const PEERS: &str = "tls.peer";
/// That for browsers.
const CONSOLE: &str = "tls.console";

/// The certificates of one listener. New connections use what was loaded last, those that are
/// open stay as they began.
pub struct Tls {
    section: &'static str,
    files: TlsFiles,
    loaded: RwLock<Loaded>,
}

struct Loaded {
    /// Over the contents of all files.
    digest: blake3::Hash,
    server: Arc<ServerConfig>,
    /// For a node that dials others: it shows the same certificate as it does to who connects.
    client: Option<Arc<ClientConfig>>,
}

impl Tls {
    /// Loads the files of the settings in `section`, such as `tls.client`.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(section: &'static str, files: &TlsFiles) -> Result<Arc<Tls>, TlsError> {
        let loaded = RwLock::new(Contents::read(section, files)?.loaded()?);
        Ok(Arc::new(Tls { section, files: files.clone(), loaded }))
    }

    /// What makes TLS of a connection that was accepted now.
    pub fn acceptor(&self) -> TlsAcceptor {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(loaded.server.clone())
    }

    /// What makes TLS of a connection that this node dials now, to a node whose certificate is
    /// of the same authority. Without an authority nobody is dialled.
    pub fn dialler(&self) -> Option<ClientTls> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let config = loaded.client.clone()?;
        Some(ClientTls::of(config, self.files.server_name.clone()))
    }

    /// Reads the files again, and takes what is in them if it changed; tells whether it did.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// Names the file and what is wrong with it; the certificates of before stay in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let contents = Contents::read(self.section, &self.files)?;
        let is_known = {
            let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
            loaded.digest == contents.digest()
        };
        if is_known {
            return Ok(false);
        }
        let fresh = contents.loaded()?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(true)
    }

    /// The settings' section, such as `tls.client`.
    pub fn section(&self) -> &'static str {
        self.section
    }
}

/// All files of a listener, read at one time.
struct Contents {
    cert: (Named, Vec<u8>),
    key: (Named, Vec<u8>),
    client_ca: Option<(Named, Vec<u8>)>,
    /// What is spoken inside.
    alpn: &'static [u8],
}

impl Contents {
    fn read(section: &str, files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |setting: &str, path| {
            let file = Named::new(format!("{section}.{setting}"), path);
            file.read().map(|contents| (file, contents))
        };
        Ok(Contents {
            alpn: match section {
                PEERS => ALPN_PEER,
                CONSOLE => ALPN_BROWSER,
                _ => ALPN_GRPC,
            },
            cert: read("cert", &files.cert)?,
            key: read("key", &files.key)?,
            client_ca: files
                .client_ca
                .as_deref()
                .map(|path| read("client_ca", path))
                .transpose()?,
        })
    }

    fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let files = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        for (_, contents) in files.into_iter().flatten() {
            hasher.update(blake3::hash(contents).as_bytes());
        }
        hasher.finalize()
    }

    fn loaded(&self) -> Result<Loaded, TlsError> {
        let (cert, key) = (&self.cert, &self.key);
        let identity = identity((&cert.0, &cert.1), (&key.0, &key.1))?;
        let authorities = match &self.client_ca {
            Some((file, pem)) => Some((file, authorities(file, pem)?)),
            None => None,
        };
        let verifier: Arc<dyn ClientCertVerifier> = match &authorities {
            Some((file, roots)) => {
                WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
                    .build()
                    .map_err(|error| file.wrong(error.to_string()))?
            }
            None => Arc::new(NoClientAuth),
        };
        let unusable = |error: tokio_rustls::rustls::Error| self.cert.0.wrong(error.to_string());
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.clone())));
        server.alpn_protocols = vec![self.alpn.to_vec()];
        let client = match authorities {
            Some((_, roots)) => Some(client(roots, Some(identity), self.alpn).map_err(unusable)?),
            None => None,
        };
        Ok(Loaded { digest: self.digest(), server: Arc::new(server), client })
    }
}

/// The dialling side: who connects must show a certificate of `roots`; `identity` is shown.
pub(super) fn client(
    roots: Arc<RootCertStore>,
    identity: Option<Arc<CertifiedKey>>,
    alpn: &[u8],
) -> Result<Arc<ClientConfig>, tokio_rustls::rustls::Error> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => {
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}
