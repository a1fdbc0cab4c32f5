//! `stator serve`: runs one node until it is told to stop.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use super::failure::Failure;
use super::output::{self, Output};
use super::signals::{self, Stop};
use crate::address::{self, HostPort};
use crate::config::{self, Bootstrap, Config, EngineKind};
use crate::server::{self, RunningNode};
use crate::telemetry::lines::{self, Lines};
use crate::telemetry::vital;

/// A node that is told to stop while it starts is stopped cleanly if it has started by then; one
/// that is still opening its stores has written nothing.
const START_GRACE: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Examples:
  stator serve
  stator serve --config stator.toml --zone a
  stator serve --bootstrap wait         then: stator cluster init
  stator serve --check --config stator.toml

Settings come from the --config file (TOML), then STATOR_* variables, then flags; later ones win.
A file has the names of the flags with _ for -, and the sections [limits], [timings], [listeners],
[tls.client], [tls.admin], [tls.peer] and [tls.console].
Once it answers it prints its addresses; with --output json as one line:
  {\"ready\":true,\"node\":\"…\",\"client\":\"127.0.0.1:7101\",\"admin\":\"…\",\"peer\":\"…\"}
SIGTERM or ctrl-c stops it cleanly, a second ctrl-c at once; SIGHUP reads changed certificates.";

/// Run a node
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    /// A TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read the settings, and the certificates and secrets that they name, and start nothing
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    flags: Flags,
}

/// The settings that have a flag. What is not given is not serialised, so it overrides nothing.
#[derive(Debug, Default, Args, Serialize)]
struct Flags {
    /// Where the node keeps its identity and data [default: ./stator-data]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:7101]; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", value_parser = address::listening)]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_listen: Option<SocketAddr>,
    /// Where operators connect [default: 127.0.0.1:7102]
    #[arg(long, value_name = "ADDRESS", value_parser = address::listening)]
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_listen: Option<SocketAddr>,
    /// Where other nodes connect [default: 127.0.0.1:7103]
    #[arg(long, value_name = "ADDRESS", value_parser = address::listening)]
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_listen: Option<SocketAddr>,
    /// Where Prometheus reads metrics, at /metrics [default: nowhere]
    #[arg(long, value_name = "ADDRESS", value_parser = address::listening)]
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics_listen: Option<SocketAddr>,
    /// Where browsers find the console [default: nowhere]
    #[arg(long, value_name = "ADDRESS", value_parser = address::listening)]
    #[serde(skip_serializing_if = "Option::is_none")]
    console_listen: Option<SocketAddr>,
    /// Where keys are read and written by plain HTTP [default: nowhere]
    #[arg(long, value_name = "ADDRESS", value_parser = address::listening)]
    #[serde(skip_serializing_if = "Option::is_none")]
    http_listen: Option<SocketAddr>,
    /// A collector of OpenTelemetry that takes traces by OTLP over gRPC [default: none]
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    traces_endpoint: Option<HostPort>,
    /// A PEM file of authorities: the collector is told through TLS and must show a certificate of one
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    traces_ca: Option<PathBuf>,
    /// Which share of requests is traced whose clients do not say [default: 0.01]
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    traces_sample: Option<f64>,
    /// What clients are told instead of the address listened on
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise_client: Option<HostPort>,
    /// What operators are told instead of the address listened on
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise_admin: Option<HostPort>,
    /// What other nodes are told instead of the address listened on
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise_peer: Option<HostPort>,
    /// Where other members may be found should they have moved, by their peer addresses
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    seeds: Vec<HostPort>,
    /// What a fresh data directory becomes [default: single]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    bootstrap: Option<Bootstrap>,
    /// Refuse to start with the data of another cluster than this
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// A file with the secret that the cluster's nodes share
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_secret_file: Option<PathBuf>,
    /// The zone: replicas go to distinct zones where there are several
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    /// The region
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    /// The node's share of the partitions relative to others [default: 1]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    /// What keeps the data [default: sled]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<EngineKind>,
    /// Let the admin interface cut this node off, for tests; loopback only
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    enable_faults: bool,
    /// Listen beyond loopback without encryption
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    insecure: bool,
    /// What to log to standard error: a level or directives [default: info]
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Serve {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let config = config::load(self.config.as_deref(), &self.flags)
            .map_err(|error| Failure::usage(error.to_string()))?;
        if self.check {
            return checked(&config);
        }
        start_log(&config)?;
        // Before the node starts: a signal that comes early must not kill it half-way.
        let mut stop = Stop::new()?;
        let hangup = signals::hangup()?;
        let bootstrap = config.bootstrap;
        let tls = &config.tls;
        let has_tls = [&tls.client, &tls.admin, &tls.console].map(Option::is_some);
        let mut starting = Box::pin(server::serve(config));
        let node = tokio::select! {
            node = &mut starting => node?,
            () = stop.requested() => {
                // Peers may have written to it already, as soon as its stores were open.
                let Ok(node) = tokio::time::timeout(START_GRACE, starting).await else {
                    return Ok(());
                };
                return stopped(node?, &mut stop).await;
            }
        };
        announce(&node, bootstrap, has_tls, output)?;
        let renewing = tokio::spawn(signals::renew(hangup, node.certificates()));
        stop.requested().await;
        renewing.abort();
        stopped(node, &mut stop).await
    }
}

fn checked(config: &Config) -> Result<(), Failure> {
    log_filter(config)?;
    server::check(config).map_err(|error| Failure::usage(format!("{error:#}")))?;
    output::line("the settings can be used; whether ports and data can, a start tells")
}

async fn stopped(node: RunningNode, stop: &mut Stop) -> Result<(), Failure> {
    tracing::info!("stopping");
    tokio::select! {
        () = node.shutdown() => Ok(()),
        () = stop.insisted() => {
            Err(Failure::refused("stopped at once: the next start checks the data first"))
        }
    }
}

fn log_filter(config: &Config) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(&config.log).map_err(|error| {
        Failure::usage(format!("the setting `log` = {:?} cannot be read: {error}", config.log))
    })
}

fn start_log(config: &Config) -> Result<(), Failure> {
    let filter = log_filter(config)?;
    let log = lines::take_over()
        .map_err(|error| Failure::refused(format!("there is no way to log: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(wants_colours())
        .with_writer(log)
        .init();
    vital::log_panics();
    Ok(())
}

/// Whether a person looks at the log: files and pipes get no colours, nor does who sets NO_COLOR
/// (<https://no-color.org>).
fn wants_colours() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !is_refused
}

fn announce(
    node: &RunningNode,
    bootstrap: Bootstrap,
    [client_tls, admin_tls, console_tls]: [bool; 3],
    output: Output,
) -> Result<(), Failure> {
    let RunningNode { client_addr, admin_addr, peer_addr, node_id, .. } = node;
    // Whoever started the node may read neither this nor anything else: it serves all the same.
    let stdout = Lines::to(std::io::stdout())?;
    if output == Output::Json {
        let ready = json!({
            "ready": true,
            "node": node_id,
            "client": client_addr,
            "admin": admin_addr,
            "peer": peer_addr,
            "metrics": node.metrics_addr,
            "console": node.console_addr,
            "http": node.http_addr,
        });
        stdout.push(format!("{ready}\n").as_bytes());
        return Ok(());
    }
    let ready = format!(
        "node {node_id} is ready: clients {client_addr}, admin {admin_addr}, peers {peer_addr}\n"
    );
    stdout.push(ready.as_bytes());
    if let Some(address) = node.console_addr {
        let scheme = if console_tls { "https" } else { "http" };
        output::say(format!("console: {scheme}://{address}/"));
    }
    if let Some(address) = node.http_addr {
        let scheme = if console_tls { "https" } else { "http" };
        output::say(format!("gateway: {scheme}://{address}/v1/KEYSPACE/KEY"));
    }
    if let Some(address) = node.metrics_addr {
        output::say(format!("metrics: http://{address}/metrics"));
    }
    let defaults = Config::default();
    let option = |name: &str, addr: &SocketAddr, default: SocketAddr, has_tls: bool| {
        let address = if *addr == default { String::new() } else { format!(" --{name} {addr}") };
        if has_tls { format!("{address} --tls-ca FILE") } else { address }
    };
    match bootstrap {
        Bootstrap::Single => {
            let endpoint = option("endpoint", client_addr, defaults.client_listen, client_tls);
            output::say(format!(
                "try: stator kv put greeting hello{endpoint}\n     stator kv get greeting{endpoint}"
            ));
        }
        Bootstrap::Wait => {
            let admin = option("admin", admin_addr, defaults.admin_listen, admin_tls);
            output::say(format!(
                "unless it has a cluster: stator cluster init --nodes {admin_addr},…\n\
                 to look at it: stator cluster status{admin}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_are_not_given_override_nothing() {
        assert_eq!(serde_json::to_value(Flags::default()).expect("serialises"), json!({}));
    }

    #[test]
    fn every_flag_is_a_setting() {
        let flags = Flags {
            data_dir: Some("d".into()),
            client_listen: "127.0.0.1:0".parse().ok(),
            admin_listen: "127.0.0.1:0".parse().ok(),
            peer_listen: "127.0.0.1:0".parse().ok(),
            metrics_listen: "127.0.0.1:0".parse().ok(),
            console_listen: "127.0.0.1:0".parse().ok(),
            http_listen: "127.0.0.1:0".parse().ok(),
            traces_endpoint: "127.0.0.1:4317".parse().ok(),
            traces_ca: Some("/ca.pem".into()),
            traces_sample: Some(0.5),
            advertise_client: "a:1".parse().ok(),
            advertise_admin: "a:2".parse().ok(),
            advertise_peer: "a:3".parse().ok(),
            seeds: vec!["a:4".parse().expect("an address")],
            bootstrap: Some(Bootstrap::Wait),
            cluster: Some("c".into()),
            cluster_secret_file: None,
            zone: Some("z".into()),
            region: Some("r".into()),
            weight: Some(2),
            engine: Some(EngineKind::Memory),
            enable_faults: true,
            insecure: true,
            log: Some("debug".into()),
        };
        let config = config::load(None, &flags).expect("all known");
        assert_eq!(config.engine, EngineKind::Memory);
        assert_eq!(config.bootstrap, Bootstrap::Wait);
        assert!(config.enable_faults);
    }
}
