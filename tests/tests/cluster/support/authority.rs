//! Certificates for tests, made by authorities of their own.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Who is trusted.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    name: String,
}

/// Where a certificate and its key are.
#[derive(Debug, Clone)]
pub struct Identity {
    pub cert: String,
    pub key: String,
}

impl Authority {
    /// Makes one that keeps its files in `folder`, named after it.
    pub fn new(folder: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::default();
        // Of two authorities of one name a verifier would try the wrong one's key.
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("signed");
        let authority = Authority { issuer, folder: folder.to_owned(), name: name.to_owned() };
        fs::write(authority.ca(), authority.issuer.pem()).expect("written");
        authority
    }

    /// The file with its own certificate.
    pub fn ca(&self) -> String {
        self.folder.join(format!("{}-ca.pem", self.name)).display().to_string()
    }

    /// A certificate for `host`, in files called `name`; an older one of that name is replaced.
    pub fn issue(&self, name: &str, host: &str) -> Identity {
        self.issue_with(name, host, |_| {})
    }

    /// The same, changed before it is signed.
    pub fn issue_with(
        &self,
        name: &str,
        host: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed");
        let path = |kind| self.folder.join(format!("{name}-{kind}.pem"));
        fs::write(path("cert"), cert.pem()).expect("written");
        fs::write(path("key"), key.serialize_pem()).expect("written");
        let text = |kind| path(kind).display().to_string();
        Identity { cert: text("cert"), key: text("key") }
    }
}

impl Identity {
    /// The section of a configuration that uses it; with an authority, both sides show
    /// certificates.
    pub fn section(&self, name: &str, client_ca: Option<&Authority>) -> String {
        let Identity { cert, key } = self;
        let client_ca = client_ca.map(|ca| format!("client_ca = {:?}\n", ca.ca()));
        let client_ca = client_ca.unwrap_or_default();
        format!("[tls.{name}]\ncert = {cert:?}\nkey = {key:?}\n{client_ca}")
    }
}
