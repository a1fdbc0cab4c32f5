//! Settings that must not be used together, refused before anything starts.

use std::net::SocketAddr;

use super::Config;

/// Why a node does not start with these settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A listener is reachable from elsewhere, and nothing is encrypted yet.
    #[error(
        "{setting} = {address} is reachable from other machines, and this version has no TLS yet: \
         listen on loopback, or say --insecure if the network itself is trusted"
    )]
    Unencrypted {
        /// The listener's setting.
        setting: &'static str,
        /// Where it would listen.
        address: SocketAddr,
    },
    /// Peers could not be told from strangers.
    #[error(
        "peer_listen = {0} is reachable from other machines, so peers must prove a secret: give \
         cluster_secret_file (or cluster_secret)"
    )]
    NoSecret(SocketAddr),
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
        for (setting, address) in listeners {
            let exposed = !address.ip().is_loopback();
            if exposed && self.enable_faults {
                return Err(Refusal::FaultsExposed { setting, address });
            }
            if exposed && !self.insecure {
                return Err(Refusal::Unencrypted { setting, address });
            }
        }
        let metrics = self.metrics_listen.map(|address| ("metrics_listen", address));
        if let Some((setting, address)) = metrics
            && !address.ip().is_loopback()
            && !self.insecure
        {
            return Err(Refusal::Unencrypted { setting, address });
        }
        if !self.peer_listen.ip().is_loopback() && self.cluster_secret.is_none() {
            return Err(Refusal::NoSecret(self.peer_listen));
        }
        for (index, (first, address)) in listeners.into_iter().enumerate() {
            let same = listeners[index + 1..].iter().find(|(_, other)| *other == address);
            if let Some((second, _)) = same.filter(|_| address.port() != 0) {
                return Err(Refusal::SameAddress { first, second, address });
            }
        }
        self.check_ranges()
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
            ("limits.hints_bytes_max", limits.hints_bytes_max, 0, u64::MAX),
            ("timings.replica_timeout_ms", timings.replica_timeout_ms, 1, 60_000),
            ("timings.request_timeout_ms", timings.request_timeout_ms, 1, 600_000),
            ("timings.store_open_timeout_ms", timings.store_open_timeout_ms, 1, 86_400_000),
        ];
        for (setting, value, least, most) in ranges {
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
    use crate::config::Secret;

    const ANYWHERE: &str = "0.0.0.0:7103";

    fn exposed() -> Config {
        Config { peer_listen: ANYWHERE.parse().expect("an address"), ..Config::default() }
    }

    #[test]
    fn beyond_loopback_takes_insecure_and_a_secret() {
        let mut config = exposed();
        let refusal = config.check().expect_err("unencrypted");
        assert!(matches!(refusal, Refusal::Unencrypted { setting: "peer_listen", .. }));
        config.insecure = true;
        assert!(matches!(config.check(), Err(Refusal::NoSecret(_))));
        config.cluster_secret = Some(Secret::new("open sesame"));
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn faults_stay_on_loopback_even_when_insecure() {
        let config = Config {
            insecure: true,
            enable_faults: true,
            cluster_secret: Some(Secret::new("open sesame")),
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
