//! TLS for every connection of a node: certificates from files, mutual where an authority for
//! the other side is given, and replaced while the node runs.
//!
//! [`TlsFiles`] says where the certificates are, [`Tls`] is what a listener (and, between nodes,
//! a dialler) makes of them, [`ClientTls`] what a client does. Only TLS 1.3 is spoken, with ring
//! as its cryptography, and inside it only HTTP/2, with browsers HTTP/1.1, or between nodes their own protocol. Roots come from the given authority alone:
//! what the system trusts is not asked, because a public authority has no say about the members
//! of a cluster.
//!
//! Files are checked whole before they are used: a certificate that cannot be read, has expired
//! or does not fit its key ends a start, and leaves a running node with what it has.
//!
//! Left out: lists of revoked certificates. Short lives and a change of the authority are the way
//! to be rid of a stolen key.

mod dial;
mod files;
mod live;
mod names;
mod validity;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

pub use dial::{ClientTls, connect, connect_lazy, connect_tcp};
pub use live::{Tls, TlsAcceptor};
pub(crate) use names::names;

/// Where a listener's certificates are, all in PEM form.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFiles {
    /// The certificate chain, the node's own certificate first.
    pub cert: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
    /// The authorities whose certificates the other side must show. Without it everyone may
    /// connect; between nodes it is needed, because each verifies the other.
    pub client_ca: Option<PathBuf>,
    /// Between nodes: the name that every node's certificate carries, instead of the host in the
    /// node's address.
    pub server_name: Option<String>,
}

/// A file that TLS needs cannot be used. What was in use before still is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} = {}: {why}", path.display())]
pub struct TlsError {
    /// The setting or option that names the file.
    pub setting: String,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// What is spoken inside TLS with clients and operators.
const ALPN_GRPC: &[u8] = b"h2";
/// What is spoken with browsers.
const ALPN_BROWSER: &[u8] = b"http/1.1";
/// What is spoken between nodes.
const ALPN_PEER: &[u8] = b"stator-peer";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
