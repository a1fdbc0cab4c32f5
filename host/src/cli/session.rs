//! Connections to nodes, with the global options applied.

use std::time::Duration;

use stator_client::{Admin, Client, Coordination, Options, Token, Traceparent};
use tonic::transport::{Channel, Endpoint, Error};

use super::connection::Connection;
use super::failure::{Failure, Kind};
use super::output::Output;
use crate::address::{BadAddress, HostPort};
use crate::tls::{self, ClientTls};

/// Where the nodes are and how long they may take.
#[derive(Debug, Clone)]
pub(super) struct Session {
    endpoint: String,
    admin: String,
    timeout: Duration,
    attempts_max: u32,
    tls: Option<ClientTls>,
    token: Option<Token>,
    /// How to print results.
    pub(super) output: Output,
}

impl Session {
    pub(super) fn new(connection: &Connection) -> Result<Self, Failure> {
        let tls = connection.tls()?;
        let (endpoint, admin) = check(connection)?;
        Ok(Session {
            endpoint,
            admin,
            timeout: connection.timeout(),
            attempts_max: Options::default().attempts_max,
            tls,
            token: connection.token()?.map(Token),
            output: connection.output(),
        })
    }

    /// The same for requests that take at least this long before they can be given up.
    pub(super) fn patient(&self, timeout_min: Duration) -> Session {
        Session { timeout: self.timeout.max(timeout_min), ..self.clone() }
    }

    /// The same, which asks again until time is up: for long work, which a node that is away for a
    /// moment must not end.
    pub(super) fn persistent(&self) -> Session {
        Session { attempts_max: u32::MAX, ..self.clone() }
    }

    /// The way to the node's client listener, which is there.
    pub(super) async fn client_channel(&self) -> Result<Channel, Failure> {
        self.connect(&self.endpoint, "--endpoint").await
    }

    /// How long a request may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A client of the node's client listener, which is there. It knows no ring: a command is one
    /// request, which is over before a ring would be there, and goes to the node that was named.
    pub(super) async fn kv(&self) -> Result<Client, Failure> {
        let channel = self.client_channel().await?;
        Ok(Client::over(vec![channel], self.options())?)
    }

    /// A client of the node's cluster, with a way to each of its nodes.
    pub(super) async fn cluster(&self) -> Result<Client, Failure> {
        self.client_channel().await?;
        self.ring_client(std::slice::from_ref(&self.endpoint), self.options())
    }

    /// `count` clients of the client listeners at `addresses` in turn (--endpoint if there are none),
    /// which are there. Each has a connection of its own, and goes on by the next ones' should a
    /// request be attempted more than once; one that knows the ring has a connection to each node.
    pub(super) async fn kvs(
        &self,
        addresses: &[String],
        count: usize,
        options: Options,
    ) -> Result<Vec<Client>, Failure> {
        let urls: Vec<String> = match addresses {
            [] => vec![self.endpoint.clone()],
            _ => {
                let urls = addresses.iter().map(|address| url(address, self.tls.is_some()));
                urls.collect::<Result<_, _>>().map_err(|failure| failure.during("--endpoints"))?
            }
        };
        let option = "--endpoint or --endpoints";
        if options.coordination != Coordination::Any {
            for url in &urls {
                self.connect(url, option).await?;
            }
            return (0..count).map(|_| self.ring_client(&urls, options.clone())).collect();
        }
        let mut channels = Vec::new();
        for url in urls.iter().cycle().take(count) {
            channels.push(self.connect(url, option).await?);
        }
        let client = |first: usize| {
            let turn = channels.iter().cycle().skip(first).take(urls.len().min(count));
            Ok(Client::over(turn.cloned().collect(), options.clone())?)
        };
        (0..count).map(client).collect()
    }

    /// A client that knows the ring, and dials its nodes as these endpoints are dialled.
    fn ring_client(&self, urls: &[String], options: Options) -> Result<Client, Failure> {
        let (timeout, tls) = (self.timeout, self.tls.clone());
        let dial = move |address: &str| {
            let scheme = if tls.is_some() { "https" } else { "http" };
            let endpoint = endpoint(format!("{scheme}://{address}"), timeout)?;
            Ok(tls::connect_lazy(&endpoint, tls.as_ref()))
        };
        let host =
            |url: &String| url.split_once("://").map_or(url.clone(), |(_, host)| host.into());
        Ok(Client::connect_with(urls.iter().map(host), options, dial)?)
    }

    /// A client of the node's admin listener, which is there.
    pub(super) async fn admin(&self) -> Result<Admin, Failure> {
        self.admin_of(&self.admin).await
    }

    /// Whether `address` is one of a node.
    pub(super) fn check(&self, address: &str, option: &str) -> Result<(), Failure> {
        url(address, self.tls.is_some()).map(drop).map_err(|failure| failure.during(option))
    }

    /// A client of the admin listener at `address`, which is there.
    pub(super) async fn admin_of(&self, address: &str) -> Result<Admin, Failure> {
        let channel = self.connect(&url(address, self.tls.is_some())?, "--admin").await?;
        Ok(Admin::over(vec![channel], self.options())?)
    }

    async fn connect(&self, url: &str, option: &str) -> Result<Channel, Failure> {
        connect(url, option, self.timeout, self.tls.as_ref()).await
    }

    /// How clients go about their calls as this command was told to.
    pub(super) fn options(&self) -> Options {
        let mut options = Options::default();
        options.timeout = self.timeout;
        options.attempts_max = self.attempts_max;
        options.token = self.token.clone();
        // What runs the command may trace it: <https://opentelemetry.io/docs/specs/otel/context/env-carriers/>.
        let trace = std::env::var("TRACEPARENT").ok();
        options.trace = trace.map(|trace| Traceparent::from(move || Some(trace.clone())));
        options
    }
}

/// The URLs of a connection's client and admin listener.
pub(super) fn check(connection: &Connection) -> Result<(String, String), Failure> {
    let has_tls = connection.has_tls();
    let endpoint = url(connection.endpoint(), has_tls).map_err(|f| f.during("--endpoint"))?;
    Ok((endpoint, url(connection.admin(), has_tls).map_err(|f| f.during("--admin"))?))
}

/// `address` as a URL; `HOST:PORT` will do.
fn url(address: &str, has_tls: bool) -> Result<String, Failure> {
    let (scheme, host) = match address.split_once("://") {
        Some(("https", _)) if !has_tls => {
            return Err(Failure::usage(format!(
                "{address}: TLS needs --tls-ca FILE, the authority of the nodes' certificates"
            )));
        }
        Some((scheme @ ("http" | "https"), host)) => {
            (scheme, host.strip_suffix('/').unwrap_or(host))
        }
        Some(_) => {
            return Err(Failure::usage(format!("{address} is no http:// or https:// address")));
        }
        None if has_tls => ("https", address),
        None => ("http", address),
    };
    let host: HostPort = host.parse().map_err(|bad: BadAddress| Failure::usage(bad.to_string()))?;
    Ok(format!("{scheme}://{host}"))
}

/// What a URL is dialled with: a request takes `timeout` at most.
fn endpoint(url: String, timeout: Duration) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(url)?;
    Ok(endpoint.connect_timeout(timeout.min(Duration::from_secs(5))).timeout(timeout))
}

async fn connect(
    url: &str,
    option: &str,
    timeout: Duration,
    tls: Option<&ClientTls>,
) -> Result<Channel, Failure> {
    let endpoint = endpoint(url.to_owned(), timeout)
        .map_err(|error| Failure::usage(format!("{url} is not an address: {error}")))?;
    let tls = tls.filter(|_| url.starts_with("https://"));
    tls::connect(&endpoint, tls).await.map_err(|error| {
        let message = format!("no node answers at {url} ({})", root_cause(&error));
        Failure::new(Kind::Unavailable, message)
            .hint(format!("start one with `stator serve`, or say where it is with {option}"))
    })
}

/// The system's word for what went wrong, without the layers around it.
fn root_cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_lack_its_scheme() {
        assert_eq!(url("127.0.0.1:1", false).ok().as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(url("127.0.0.1:1", true).ok().as_deref(), Some("https://127.0.0.1:1"));
        assert_eq!(url("http://a:1", false).ok().as_deref(), Some("http://a:1"));
        assert_eq!(url("https://a:1", true).ok().as_deref(), Some("https://a:1"));
        assert_eq!(url("https://a:1", false).expect_err("no authority").kind, Kind::Usage);
        assert_eq!(url("ftp://a:1", true).expect_err("no gRPC").kind, Kind::Usage);
        assert_eq!(url("http://a:1/", false).ok().as_deref(), Some("http://a:1"));
        for wrong in ["", "a", "http://a", "a:0", "a:99999", "0.0.0.0:1", "me@a:1", "a:1/b"] {
            assert_eq!(url(wrong, false).expect_err(wrong).kind, Kind::Usage);
        }
    }

    #[tokio::test]
    async fn a_missing_node_is_named_with_a_way_out() {
        // Port 1 is reserved and nothing listens on it.
        let failure =
            connect("http://127.0.0.1:1", "--endpoint", Duration::from_secs(1), None).await;
        assert_eq!(failure.expect_err("nobody there").kind, Kind::Unavailable);
    }
}
