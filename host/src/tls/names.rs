//! Who has shown a certificate.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The DNS names of the first of the certificates that the other side has shown, which is its own.
/// They were verified before: none are there where none were asked for.
pub(crate) fn names(shown: Option<&[CertificateDer<'_>]>) -> Arc<[String]> {
    let own = shown.and_then(<[_]>::first);
    let parsed = own.and_then(|own| EndEntityCert::try_from(own).ok());
    let names = parsed.iter().flat_map(|certificate| certificate.valid_dns_names());
    names.map(ToOwned::to_owned).collect()
}
