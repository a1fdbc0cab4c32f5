//! Reading certificates and keys, with words for everything that may be wrong with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::validity::validity;
use super::{TlsError, provider};

/// A file and the setting that names it.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub setting: String,
    pub path: PathBuf,
}

impl Named {
    pub fn new(setting: impl Into<String>, path: &Path) -> Self {
        Named { setting: setting.into(), path: path.to_owned() }
    }

    pub fn wrong(&self, why: impl Into<String>) -> TlsError {
        TlsError { setting: self.setting.clone(), path: self.path.clone(), why: why.into() }
    }

    pub fn read(&self) -> Result<Vec<u8>, TlsError> {
        fs::read(&self.path).map_err(|error| self.wrong(format!("cannot be read: {error}")))
    }
}

/// A certificate chain with its key, checked against each other and the clock.
pub(super) fn identity(
    (cert, cert_pem): (&Named, &[u8]),
    (key, key_pem): (&Named, &[u8]),
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(cert, cert_pem)?;
    let private = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| {
        key.wrong(format!(
            "holds no private key in PEM form (-----BEGIN PRIVATE KEY-----): {error}"
        ))
    })?;
    let certified = CertifiedKey::from_der(chain, private, &provider()).map_err(|error| {
        key.wrong(format!(
            "cannot be used with {} = {}: {error}",
            cert.setting,
            cert.path.display()
        ))
    })?;
    Ok(Arc::new(certified))
}

/// The authorities in a file.
pub(super) fn authorities(file: &Named, pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, pem)? {
        roots.add(certificate).map_err(|error| {
            file.wrong(format!("a certificate in it cannot be an authority: {error}"))
        })?;
    }
    Ok(Arc::new(roots))
}

fn certificates(file: &Named, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| file.wrong(format!("is not in PEM form: {error}")))?;
    if found.is_empty() {
        return Err(file.wrong("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
    }
    // A clock before 1970 is wrong, and then every certificate is not valid yet.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    for (index, certificate) in found.iter().enumerate() {
        let number = index + 1;
        let (begin, end) = validity(certificate)
            .ok_or_else(|| file.wrong(format!("certificate {number} in it cannot be read")))?;
        if now > end {
            let days = (now - end) / 86_400;
            return Err(file.wrong(format!("certificate {number} in it expired {days} days ago")));
        }
        if now < begin {
            let hours = (begin - now).div_euclid(3_600);
            let why = format!("certificate {number} in it becomes valid in {hours} hours only");
            return Err(file.wrong(why));
        }
    }
    Ok(found)
}
