//! The options of TLS, for every command that speaks to nodes.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use crate::tls::ClientTls;

/// What the command trusts and what it shows.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "TLS options")]
pub(super) struct TlsOptions {
    /// The authorities of the nodes' certificates (PEM); with it an address without a scheme is
    /// https://
    #[arg(long, global = true, env = "STATOR_TLS_CA", hide_env_values = true, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// This client's certificate chain (PEM), for nodes that ask for one
    #[arg(
        long,
        global = true,
        env = "STATOR_TLS_CERT",
        hide_env_values = true,
        value_name = "FILE"
    )]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert (PEM)
    #[arg(
        long,
        global = true,
        env = "STATOR_TLS_KEY",
        hide_env_values = true,
        value_name = "FILE"
    )]
    tls_key: Option<PathBuf>,
    /// The name in the nodes' certificates, if it is not the host of their address
    #[arg(
        long,
        global = true,
        env = "STATOR_TLS_DOMAIN",
        hide_env_values = true,
        value_name = "NAME"
    )]
    tls_domain: Option<String>,
}

impl TlsOptions {
    /// What they come to; `None` without `--tls-ca`.
    pub(super) fn load(&self) -> Result<Option<ClientTls>, Failure> {
        let own = match (&self.tls_cert, &self.tls_key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert.as_path(), key.as_path())),
            _ => return Err(Failure::usage("--tls-cert and --tls-key need each other")),
        };
        let Some(ca) = &self.tls_ca else {
            if own.is_some() || self.tls_domain.is_some() {
                let words = "--tls-cert, --tls-key and --tls-domain need --tls-ca: the authority \
                             of the nodes' certificates";
                return Err(Failure::usage(words));
            }
            return Ok(None);
        };
        let loaded = ClientTls::load(ca, own, self.tls_domain.as_deref());
        loaded.map(Some).map_err(|error| Failure::usage(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Kind;

    #[test]
    fn options_that_mean_nothing_alone_are_refused() {
        let cert = TlsOptions { tls_cert: Some("c".into()), ..TlsOptions::default() };
        assert_eq!(cert.load().expect_err("no key").kind, Kind::Usage);
        let domain = TlsOptions { tls_domain: Some("d".to_owned()), ..TlsOptions::default() };
        assert_eq!(domain.load().expect_err("no authority").kind, Kind::Usage);
        assert!(TlsOptions::default().load().expect("nothing").is_none());
    }
}
