//! `stator tls init`: an authority and certificates for a cluster to start with.
//!
//! One authority signs one certificate for each node, and one for each client that is named. They are
//! files like those that any authority makes: a cluster can go on with another one at any time
//! (docs/security.md). Keys are ECDSA on P-256. The authority's key is needed for further
//! certificates only: keep it elsewhere.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use super::failure::Failure;
use super::output::{self, Output};

const EXAMPLES: &str = "\
Examples:
  stator tls init --to certs --node n1.example.com --node n2.example.com --node n3.example.com
  stator tls init --to certs --node node1,127.0.0.1 --client root --client shop
  stator tls issue --to certs --client nightly-backup

A node's certificate is good for the names and addresses that are given, for `localhost` and
127.0.0.1, and for `stator-peer`, which nodes demand of one another (tls.peer.server_name). A client's
name is whom `stator access` gives roles. Certificates are good for a year (--days), the authority for
ten.";

/// The name that all nodes' certificates carry.
const PEER_NAME: &str = "stator-peer";

/// Make certificates
#[derive(Debug, Subcommand)]
pub(super) enum Tls {
    /// Make an authority, and certificates by it
    Init(Make),
    /// Make further certificates by an authority that `init` made
    Issue(Make),
}

/// Which certificates.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Make {
    /// The directory of the files
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// A node: its name or address, and others after commas; may be given several times
    #[arg(long = "node", value_name = "NAME[,NAME...]")]
    nodes: Vec<String>,
    /// A client; may be given several times
    #[arg(long = "client", value_name = "NAME")]
    clients: Vec<String>,
    /// For how many days the certificates are good
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Tls {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Tls::Init(make) => {
                fs::create_dir_all(&make.to).map_err(|error| unwritable(&make.to, &error))?;
                make.authority()?;
                make.issue(output)
            }
            Tls::Issue(make) => make.issue(output),
        }
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::refused(format!("cannot write {}: {error}", path.display()))
        .hint("no file that was there is ever replaced: choose another directory, or remove it")
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::refused(format!("no certificate can be made: {error}"))
}

/// Writes a file that must not be there yet.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = made.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| unwritable(path, &error))
}

impl Make {
    fn params(&self, names: Vec<String>, days: u64) -> Result<CertificateParams, Failure> {
        let mut params = CertificateParams::new(names).map_err(failed)?;
        // A day of slack for clocks that are behind.
        let now = SystemTime::now();
        params.not_before = (now - DAY).into();
        params.not_after = (now + DAY * u32::try_from(days).unwrap_or(3650)).into();
        Ok(params)
    }

    /// What the authority is: the same whenever it signs.
    fn authority_params(&self) -> Result<CertificateParams, Failure> {
        let mut params = self.params(Vec::new(), 3650)?;
        params.distinguished_name.push(DnType::CommonName, "Stator cluster authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(params)
    }

    fn authority(&self) -> Result<(), Failure> {
        let params = self.authority_params()?;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        write(&self.to.join("ca.key"), &key.serialize_pem(), 0o600)?;
        write(&self.to.join("ca.pem"), &certificate.pem(), 0o644)
    }

    fn issue(self, output: Output) -> Result<(), Failure> {
        let read = |name: &str| {
            let path = self.to.join(name);
            fs::read_to_string(&path).map_err(|error| {
                Failure::usage(format!("cannot read {}: {error}", path.display()))
                    .hint("`stator tls init` makes an authority")
            })
        };
        let key = KeyPair::from_pem(&read("ca.key")?).map_err(failed)?;
        let issuer = Issuer::new(self.authority_params()?, key);
        let mut made = Vec::new();
        for node in &self.nodes {
            let mut names: Vec<String> = node.split(',').map(ToOwned::to_owned).collect();
            let file = names[0].clone();
            names.extend(["localhost", "127.0.0.1", PEER_NAME].map(ToOwned::to_owned));
            names.sort();
            names.dedup();
            let uses = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            made.push(self.certificate(&issuer, &file, names, &uses)?);
        }
        for client in &self.clients {
            let uses = [ExtendedKeyUsagePurpose::ClientAuth];
            made.push(self.certificate(&issuer, client, vec![client.clone()], &uses)?);
        }
        match output {
            Output::Json => {
                output::json(&json!({ "authority": self.to.join("ca.pem"), "made": made }))
            }
            Output::Table => {
                made.iter().try_for_each(|path| output::line(path.display().to_string()))
            }
        }
    }

    /// Makes NAME.pem and NAME.key; gives the first.
    fn certificate(
        &self,
        issuer: &Issuer<'_, KeyPair>,
        file: &str,
        names: Vec<String>,
        uses: &[ExtendedKeyUsagePurpose],
    ) -> Result<PathBuf, Failure> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if file.is_empty() || file.starts_with('.') || !file.chars().all(is_plain) {
            return Err(Failure::usage(format!("{file:?} is no name of a node or a client")));
        }
        let mut params = self.params(names, self.days)?;
        params.distinguished_name.push(DnType::CommonName, file);
        params.extended_key_usages = uses.to_vec();
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, issuer).map_err(failed)?;
        let path = self.to.join(format!("{file}.pem"));
        write(&path, &certificate.pem(), 0o644)?;
        write(&self.to.join(format!("{file}.key")), &key.serialize_pem(), 0o600)?;
        Ok(path)
    }
}
