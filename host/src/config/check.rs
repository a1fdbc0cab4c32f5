//! Settings that must not be used together, refused before anything starts.

use std::net::SocketAddr;

use super::{Config, Secret};
use crate::address::HostPort;

/// Why a node does not start with these settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A listener is reachable from elsewhere, and what it speaks is not encrypted.
    #[error(
        "{setting} = {address} is reachable from other machines, and [tls.{section}] gives it no \
         certificate: give it one, listen on loopback, or say --insecure if the network itself is \
         trusted"
    )]
    Unencrypted {
        /// The listener's setting.
        setting: &'static str,
        /// The section of its certificates.
        section: &'static str,
        /// Where it would listen.
        address: SocketAddr,
    },
    /// Nodes verify each other.
    #[error(
        "[tls.peer] needs client_ca: nodes verify each other's certificates, and this is the \
         authority that both must be of"
    )]
    PeersUnverified,
    /// Only nodes dial.
    #[error("tls.{0}.server_name means nothing: only [tls.peer] dials, so only it may have one")]
    NameOfNobody(&'static str),
    /// The page of metrics is reachable from elsewhere, and is never encrypted.
    #[error(
        "metrics_listen = {0} is reachable from other machines, and metrics are not encrypted: \
         listen on loopback, or say --insecure if the network itself is trusted"
    )]
    MetricsExposed(SocketAddr),
    /// The collector is elsewhere, and is told in plain text.
    #[error(
        "traces_endpoint = {0} may be on another machine, and traces are not encrypted: give the \
         authority of its certificate (traces_ca), run a collector on this machine and name it by a \
         loopback address, or say --insecure if the network itself is trusted"
    )]
    TracesExposed(HostPort),
    /// Nobody is dialled.
    #[error("traces_ca means nothing without traces_endpoint")]
    TrustOfNobody,
    /// A share that is none.
    #[error("traces_sample = {0} is no share: 0 to 1 is allowed")]
    NoShare(String),
    /// Peers could not be told from strangers.
    #[error(
        "peer_listen = {0} is reachable from other machines, so peers must prove a secret: give \
         cluster_secret_file (or cluster_secret)"
    )]
    NoSecret(SocketAddr),
    /// A secret that can be guessed.
    #[error("a secret in {0} is too short: {rule}", rule = Secret::RULE)]
    ShortSecret(&'static str),
    /// A switch for tests on a node that others can reach.
    #[error(
        "enable_faults lets anyone who reaches the admin listener cut the node off, so it needs \
         every listener on loopback; {setting} = {address} is not"
    )]
    FaultsExposed {
        /// The listener's setting.
        setting: &'static str,
        /// Where it would listen.
        address: SocketAddr,
    },
    /// Two listeners on one address.
    #[error("{first} and {second} are both {address}: give each listener a port of its own")]
    SameAddress {
        /// A listener's setting.
        first: &'static str,
        /// The other's.
        second: &'static str,
        /// Where both would listen.
        address: SocketAddr,
    },
    /// Others would be told to dial an address that stands for all of the machine's.
    #[error(
        "{setting} = {address} is where this node listens, and nothing that others can dial: give \
         {advertise} = HOST:PORT, by which they reach it"
    )]
    Undeclared {
        /// The listener's setting.
        setting: &'static str,
        /// Where it would listen.
        address: SocketAddr,
        /// The setting that is missing.
        advertise: &'static str,
    },
    /// Two listeners are told by one address.
    #[error("{first} and {second} are both {address}: each listener is reached by its own")]
    SameAdvertised {
        /// A setting.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// What both are.
        address: HostPort,
    },
    /// A number outside of what makes sense.
    #[error("{setting} = {value} is out of range: {least} to {most} is allowed")]
    OutOfRange {
        /// The setting.
        setting: &'static str,
        /// What it was given.
        value: u64,
        /// The least allowed.
        least: u64,
        /// The most allowed.
        most: u64,
    },
}

impl Config {
    /// Checks what no single setting shows.
    ///
    /// # Errors
    /// The first rule broken, in words.
    pub fn check(&self) -> Result<(), Refusal> {
        let listeners = self.listeners();
        let sections = [("client", &self.tls.client), ("admin", &self.tls.admin)];
        for ((setting, address), (section, tls)) in
            listeners.into_iter().zip(sections.into_iter().chain([("peer", &self.tls.peer)]))
        {
            let exposed = !address.ip().is_loopback();
            if exposed && self.enable_faults {
                return Err(Refusal::FaultsExposed { setting, address });
            }
            if exposed && !self.insecure && tls.is_none() {
                return Err(Refusal::Unencrypted { setting, section, address });
            }
        }
        for (setting, listen) in
            [("console_listen", self.console_listen), ("http_listen", self.http_listen)]
        {
            let exposed = listen.filter(|address| !address.ip().is_loopback());
            if let Some(address) = exposed
                && !self.insecure
                && self.tls.console.is_none()
            {
                return Err(Refusal::Unencrypted { setting, section: "console", address });
            }
        }
        let metrics = self.metrics_listen.filter(|address| !address.ip().is_loopback());
        if let Some(address) = metrics
            && !self.insecure
        {
            return Err(Refusal::MetricsExposed(address));
        }
        let is_here =
            |collector: &HostPort| collector.socket_addr().is_some_and(|at| at.ip().is_loopback());
        match (&self.traces_endpoint, &self.traces_ca) {
            (None, Some(_)) => return Err(Refusal::TrustOfNobody),
            (Some(collector), None) if !is_here(collector) && !self.insecure => {
                return Err(Refusal::TracesExposed(collector.clone()));
            }
            _ => {}
        }
        if !(0.0..=1.0).contains(&self.traces_sample) {
            return Err(Refusal::NoShare(self.traces_sample.to_string()));
        }
        for (section, tls) in sections.into_iter().chain([("console", &self.tls.console)]) {
            if tls.as_ref().is_some_and(|tls| tls.server_name.is_some()) {
                return Err(Refusal::NameOfNobody(section));
            }
        }
        if self.tls.peer.as_ref().is_some_and(|tls| tls.client_ca.is_none()) {
            return Err(Refusal::PeersUnverified);
        }
        if !self.peer_listen.ip().is_loopback() && self.cluster_secret.is_none() {
            return Err(Refusal::NoSecret(self.peer_listen));
        }
        if self.cluster_secret.as_ref().is_some_and(Secret::is_short) {
            return Err(Refusal::ShortSecret("cluster_secret"));
        }
        if self.previous_secrets.iter().any(Secret::is_short) {
            return Err(Refusal::ShortSecret("previous_secrets"));
        }
        for (index, (first, address)) in listeners.into_iter().enumerate() {
            let same = listeners[index + 1..].iter().find(|(_, other)| *other == address);
            if let Some((second, _)) = same.filter(|_| address.port() != 0) {
                return Err(Refusal::SameAddress { first, second, address });
            }
        }
        self.check_advertised()?;
        self.check_ranges()
    }

    fn check_advertised(&self) -> Result<(), Refusal> {
        let advertised = [
            ("advertise_client", &self.advertise_client),
            ("advertise_admin", &self.advertise_admin),
            ("advertise_peer", &self.advertise_peer),
        ];
        for ((setting, address), (advertise, told)) in self.listeners().into_iter().zip(advertised)
        {
            if address.ip().to_canonical().is_unspecified() && told.is_none() {
                return Err(Refusal::Undeclared { setting, address, advertise });
            }
        }
        for (index, (first, told)) in advertised.into_iter().enumerate() {
            let Some(address) = told else { continue };
            let others = &advertised[index + 1..];
            if let Some((second, _)) = others.iter().find(|(_, other)| *other == told) {
                return Err(Refusal::SameAdvertised { first, second, address: address.clone() });
            }
        }
        Ok(())
    }

    fn listeners(&self) -> [(&'static str, SocketAddr); 3] {
        [
            ("client_listen", self.client_listen),
            ("admin_listen", self.admin_listen),
            ("peer_listen", self.peer_listen),
        ]
    }

    fn check_ranges(&self) -> Result<(), Refusal> {
        let (limits, timings) = (&self.limits, &self.timings);
        let ranges = [
            ("weight", u64::from(self.weight), 1, 1_000),
            ("limits.key_bytes_max", limits.key_bytes_max as u64, 1, 64 << 10),
            ("limits.value_bytes_max", limits.value_bytes_max as u64, 1, 16 << 20),
            ("limits.siblings_max", limits.siblings_max as u64, 1, 10_000),
            // An object must fit a message between nodes, which has at most 65 MiB.
            ("limits.siblings_bytes_max", limits.siblings_bytes_max as u64, 1, 32 << 20),
            ("limits.context_bytes_max", limits.context_bytes_max as u64, 256, 1 << 20),
            // Room for the largest object there is.
            ("limits.reads_bytes_max", limits.reads_bytes_max as u64, 128 << 20, 1 << 40),
            ("limits.conflicts_bytes_max", limits.conflicts_bytes_max, 0, 1 << 40),
            ("limits.recordings_bytes_max", limits.recordings_bytes_max, 0, 1 << 40),
            ("limits.audit_bytes_max", limits.audit_bytes_max, 0, 1 << 40),
            ("limits.history_bytes_max", limits.history_bytes_max, 0, 1 << 40),
            ("limits.hints_bytes_max", limits.hints_bytes_max, 0, u64::MAX),
            ("timings.replica_timeout_ms", timings.replica_timeout_ms, 1, 60_000),
            ("timings.request_timeout_ms", timings.request_timeout_ms, 1, 600_000),
            ("timings.slow_request_ms", timings.slow_request_ms, 0, 600_000),
            ("timings.store_open_timeout_ms", timings.store_open_timeout_ms, 1, 86_400_000),
            ("timings.collect_period_ms", timings.collect_period_ms, 0, 86_400_000),
            ("timings.hint_age_alarm_ms", timings.hint_age_alarm_ms, 1, 30 * 86_400_000),
            ("timings.exchange_cover_ms", timings.exchange_cover_ms, 0, 604_800_000),
        ];
        for (setting, value, least, most) in ranges.into_iter().chain(self.listeners.ranges()) {
            if !(least..=most).contains(&value) {
                return Err(Refusal::OutOfRange { setting, value, least, most });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TlsFiles;

    const ANYWHERE: &str = "0.0.0.0:7103";

    fn exposed() -> Config {
        Config {
            peer_listen: ANYWHERE.parse().expect("an address"),
            advertise_peer: "node-1:7103".parse().ok(),
            ..Config::default()
        }
    }

    #[test]
    fn beyond_loopback_takes_insecure_and_a_secret() {
        let mut config = exposed();
        let refusal = config.check().expect_err("unencrypted");
        assert!(matches!(refusal, Refusal::Unencrypted { setting: "peer_listen", .. }));
        config.insecure = true;
        assert!(matches!(config.check(), Err(Refusal::NoSecret(_))));
        config.cluster_secret = Some(Secret::new("open sesame, open again"));
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn a_listener_with_tls_may_be_reached_and_peers_verify_each_other() {
        let mut config = exposed();
        config.cluster_secret = Some(Secret::new("open sesame, open again"));
        config.tls.client = Some(TlsFiles::default());
        assert!(matches!(config.check(), Err(Refusal::Unencrypted { section: "peer", .. })));
        config.tls.peer = Some(TlsFiles::default());
        assert_eq!(config.check(), Err(Refusal::PeersUnverified));
        let client_ca = Some("ca.pem".into());
        config.tls.peer = Some(TlsFiles { client_ca, ..TlsFiles::default() });
        assert_eq!(config.check(), Ok(()));
        config.tls.admin =
            Some(TlsFiles { server_name: Some("a".to_owned()), ..TlsFiles::default() });
        assert_eq!(config.check(), Err(Refusal::NameOfNobody("admin")));
    }

    #[test]
    fn a_console_that_others_reach_has_certificates_or_is_insecure() {
        let console_listen = "0.0.0.0:7105".parse().ok();
        let mut config = Config { console_listen, ..Config::default() };
        let words = config.check().expect_err("unencrypted").to_string();
        assert!(words.contains("console_listen") && words.contains("[tls.console]"), "{words}");
        config.tls.console = Some(TlsFiles::default());
        assert_eq!(config.check(), Ok(()));
        config.tls.console = None;
        config.insecure = true;
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn who_listens_everywhere_says_where_it_is_and_each_listener_elsewhere() {
        let mut config = exposed();
        config.insecure = true;
        config.cluster_secret = Some(Secret::new("open sesame, open again"));
        config.advertise_peer = None;
        let words = config.check().expect_err("undeclared").to_string();
        assert!(words.contains("peer_listen = 0.0.0.0:7103") && words.contains("advertise_peer"));
        config.peer_listen = "[::]:7103".parse().expect("an address");
        assert!(matches!(config.check(), Err(Refusal::Undeclared { .. })));
        config.advertise_peer = "node-1:7103".parse().ok();
        config.advertise_client = "NODE-1:7103".parse().ok();
        assert!(matches!(config.check(), Err(Refusal::SameAdvertised { .. })));
    }

    #[test]
    fn traces_leave_the_machine_encrypted_or_where_the_network_is_trusted() {
        let at = |text: &str| text.parse::<HostPort>().ok();
        let mut config = Config { traces_endpoint: at("127.0.0.1:4317"), ..Config::default() };
        assert_eq!(config.check(), Ok(()));
        config.traces_endpoint = at("collector:4317");
        let words = config.check().expect_err("in plain text").to_string();
        assert!(words.contains("collector:4317") && words.contains("--insecure"), "{words}");
        config.traces_ca = Some("collector.pem".into());
        assert_eq!(config.check(), Ok(()));
        config.traces_endpoint = None;
        assert_eq!(config.check(), Err(Refusal::TrustOfNobody));
        (config.traces_endpoint, config.traces_ca) = (at("collector:4317"), None);
        config.insecure = true;
        assert_eq!(config.check(), Ok(()));
        for share in [-0.1, 1.1, f64::NAN] {
            config.traces_sample = share;
            assert!(matches!(config.check(), Err(Refusal::NoShare(_))), "{share}");
        }
    }

    #[test]
    fn faults_stay_on_loopback_even_when_insecure() {
        let config = Config {
            insecure: true,
            enable_faults: true,
            cluster_secret: Some(Secret::new("open sesame, open again")),
            ..exposed()
        };
        assert!(matches!(config.check(), Err(Refusal::FaultsExposed { .. })));
    }

    #[test]
    fn listeners_differ_unless_the_port_is_free_to_choose() {
        let mut config = Config::default();
        config.admin_listen = config.client_listen;
        assert!(matches!(config.check(), Err(Refusal::SameAddress { .. })));
        config.admin_listen.set_port(0);
        config.client_listen.set_port(0);
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn numbers_out_of_range_are_named_with_the_range() {
        let mut config = Config::default();
        config.limits.key_bytes_max = 0;
        let words = config.check().expect_err("out of range").to_string();
        assert!(words.contains("limits.key_bytes_max") && words.contains("1 to 65536"), "{words}");
    }
}
