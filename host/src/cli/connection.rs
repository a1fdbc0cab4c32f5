//! Where the nodes are and who asks: the options of every command that speaks to nodes.
//!
//! What is not on the command line comes from the environment, then from a profile (`profile`), and else
//! is what the help says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Deserializer};

use super::failure::Failure;
use super::output::Output;
use super::{parse, profile};
use crate::config::Secret;
use crate::tls::ClientTls;

/// Where a node's clients and operators are, unless something else is said.
const ENDPOINT: &str = "127.0.0.1:7101";
const ADMIN: &str = "127.0.0.1:7102";
const TIMEOUT: Duration = Duration::from_secs(10);

/// What holds for every command.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Take what is not given here from this profile [default: that of `stator profile use`]; '' is none
    #[arg(
        long,
        global = true,
        env = "STATOR_PROFILE",
        hide_env_values = true,
        value_name = "NAME",
        help_heading = "Global options"
    )]
    profile: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

impl Global {
    /// How results are written, as far as that is known without a profile.
    pub(super) fn output(&self) -> Output {
        self.connection.output.unwrap_or_default()
    }

    /// What it comes to, with the environment and the profile. `warn` is told of what others can read.
    pub(super) fn resolved(self, warn: impl Fn(String)) -> Result<Connection, Failure> {
        let Global { profile, mut connection } = self;
        if connection.token_file.is_none() {
            let token = std::env::var("STATOR_TOKEN").ok();
            connection.token = token.filter(|token| !token.trim().is_empty()).map(Secret::new);
        }
        Ok(connection.or(profile::chosen(profile.as_deref(), warn)?))
    }

    /// The same without any profile, for what speaks to no node.
    pub(super) fn alone(self) -> Connection {
        self.connection
    }
}

/// What is known of the nodes, on the command line or in a profile.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Connection {
    /// The client address of a node [default: 127.0.0.1:7101]
    #[arg(
        long,
        global = true,
        env = "STATOR_ENDPOINT",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    endpoint: Option<String>,
    /// The admin address of a node [default: 127.0.0.1:7102]
    #[arg(
        long,
        global = true,
        env = "STATOR_ADMIN",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    admin: Option<String>,
    /// Text for people or one JSON document for programs [default: table]
    #[arg(short, long, global = true, value_enum, help_heading = "Global options")]
    output: Option<Output>,
    /// How long a request may take: 500ms, 10s, 2m [default: 10s]
    #[arg(
        long,
        global = true,
        value_parser = parse::duration,
        value_name = "DURATION",
        help_heading = "Global options"
    )]
    #[serde(default, deserialize_with = "duration")]
    timeout: Option<Duration>,
    /// A file with the token of who calls, where the cluster serves only those who have a role; the
    /// variable STATOR_TOKEN may hold the token itself
    #[arg(
        long,
        global = true,
        env = "STATOR_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    token_file: Option<PathBuf>,
    /// The token itself.
    #[arg(skip)]
    token: Option<Secret>,
    /// The authorities of the nodes' certificates (PEM); with it an address without a scheme is
    /// https://
    #[arg(
        long,
        global = true,
        env = "STATOR_TLS_CA",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "TLS options"
    )]
    tls_ca: Option<PathBuf>,
    /// This client's certificate chain (PEM), for nodes that ask for one
    #[arg(
        long,
        global = true,
        env = "STATOR_TLS_CERT",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "TLS options"
    )]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert (PEM)
    #[arg(
        long,
        global = true,
        env = "STATOR_TLS_KEY",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "TLS options"
    )]
    tls_key: Option<PathBuf>,
    /// The name in the nodes' certificates, if it is not the host of their address
    #[arg(
        long,
        global = true,
        env = "STATOR_TLS_DOMAIN",
        hide_env_values = true,
        value_name = "NAME",
        help_heading = "TLS options"
    )]
    tls_domain: Option<String>,
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    parse::duration(&text).map(Some).map_err(serde::de::Error::custom)
}

impl Connection {
    /// This, and of the other what this leaves open.
    pub(super) fn or(self, other: Connection) -> Connection {
        let has_token = self.token.is_some() || self.token_file.is_some();
        let with_token = if has_token { &self } else { &other };
        Connection {
            token: with_token.token.clone(),
            token_file: with_token.token_file.clone(),
            endpoint: self.endpoint.or(other.endpoint),
            admin: self.admin.or(other.admin),
            output: self.output.or(other.output),
            timeout: self.timeout.or(other.timeout),
            tls_ca: self.tls_ca.or(other.tls_ca),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
            tls_domain: self.tls_domain.or(other.tls_domain),
        }
    }

    /// The same with files by their paths from `folder`.
    pub(super) fn rooted(mut self, folder: &Path) -> Connection {
        let files = [&mut self.token_file, &mut self.tls_ca, &mut self.tls_cert, &mut self.tls_key];
        for path in files.into_iter().flatten() {
            *path = folder.join(&path);
        }
        self
    }

    /// The same that waits no longer than this.
    pub(super) fn within(self, timeout_max: Duration) -> Connection {
        Connection { timeout: Some(self.timeout().min(timeout_max)), ..self }
    }

    pub(super) fn endpoint(&self) -> &str {
        self.endpoint.as_deref().unwrap_or(ENDPOINT)
    }

    pub(super) fn admin(&self) -> &str {
        self.admin.as_deref().unwrap_or(ADMIN)
    }

    pub(super) fn output(&self) -> Output {
        self.output.unwrap_or_default()
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    pub(super) fn has_tls(&self) -> bool {
        self.tls_ca.is_some()
    }

    /// The file with a token, and the token itself.
    pub(super) fn tokens(&self) -> (Option<&Path>, Option<&Secret>) {
        (self.token_file.as_deref(), self.token.as_ref())
    }

    /// The token of who calls.
    pub(super) fn token(&self) -> Result<Option<String>, Failure> {
        let text = match &self.token_file {
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("cannot read the token file {}: {error}", path.display()))
            })?),
            None => self.token.as_ref().map(|token| token.reveal().to_owned()),
        };
        Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    /// What the command trusts and what it shows; `None` without `--tls-ca`.
    pub(super) fn tls(&self) -> Result<Option<ClientTls>, Failure> {
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
    fn tls_options_that_mean_nothing_alone_are_refused() {
        let cert = Connection { tls_cert: Some("c".into()), ..Connection::default() };
        assert_eq!(cert.tls().expect_err("no key").kind, Kind::Usage);
        let domain = Connection { tls_domain: Some("d".to_owned()), ..Connection::default() };
        assert_eq!(domain.tls().expect_err("no authority").kind, Kind::Usage);
        assert!(Connection::default().tls().expect("nothing").is_none());
    }

    #[test]
    fn what_is_left_open_comes_from_the_other_and_a_token_is_one_whole() {
        let told = Connection {
            endpoint: Some("a:1".to_owned()),
            token: Some(Secret::new("mine")),
            ..Connection::default()
        };
        let profile = Connection {
            endpoint: Some("b:1".to_owned()),
            admin: Some("b:2".to_owned()),
            token_file: Some("nowhere".into()),
            ..Connection::default()
        };
        let both = told.or(profile);
        assert_eq!((both.endpoint(), both.admin()), ("a:1", "b:2"));
        assert_eq!(both.token().expect("no file is read").as_deref(), Some("mine"));
        assert_eq!(both.timeout(), TIMEOUT);
    }
}
