//! Where a node is reached: `HOST:PORT`, read and checked in this one place.
//!
//! What nobody could dial is refused before anything starts or is sent: a missing or impossible
//! port, a scheme, a path, an address to listen on. Whether a name means anything is not asked
//! here, because names come and go: who dials finds out, each time anew.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest host name (RFC 1035).
const NAME_BYTES_MAX: usize = 253;
/// The longest part of one.
const LABEL_BYTES_MAX: usize = 63;

/// A text that is no address which can be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} cannot be dialled: {why}; write HOST:PORT, such as node-1:7103 or [::1]:7103")]
pub struct BadAddress {
    found: String,
    why: &'static str,
}

/// A host, by name or number, and a port: what can be dialled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Ip(IpAddr),
    /// In small letters: names are alike in either.
    Name(String),
}

impl HostPort {
    /// The address as numbers, if it is no name.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match &self.host {
            Host::Ip(ip) => Some(SocketAddr::new(*ip, self.port)),
            Host::Name(_) => None,
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl FromStr for HostPort {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        parse(text).map_err(|why| BadAddress { found: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<HostPort, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("white space is no part of an address");
    }
    if text.contains("://") {
        return Err("a scheme is no part of an address");
    }
    if text.contains('@') {
        return Err("a user is no part of an address");
    }
    if text.contains(['/', '?', '#', '\\']) {
        return Err("a path is no part of an address");
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']').ok_or("its bracket is not closed")?;
            let ip: Ipv6Addr = ip.parse().map_err(|_| "no IPv6 address is in its brackets")?;
            let port = port.strip_prefix(':').ok_or("it has no port")?;
            (Host::Ip(ip.into()), port)
        }
        None => {
            let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
            (self::host(host)?, port)
        }
    };
    let port = self::port(port)?;
    match &host {
        Host::Ip(ip) if !is_one_host(ip.to_canonical()) => {
            Err("that is where one listens or whom all hear, not where one node is")
        }
        _ => Ok(HostPort { host, port }),
    }
}

fn host(text: &str) -> Result<Host, &'static str> {
    if text.is_empty() {
        return Err("it has no host");
    }
    if text.contains(':') {
        return Err("an IPv6 address must be in brackets, and has a port behind them");
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into()));
    }
    let labels = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.chars().all(is_inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() > NAME_BYTES_MAX || !labels.split('.').all(is_label) {
        return Err("its host is neither a name nor an IP address");
    }
    // What ends in a number is meant as an IPv4 address by everyone who resolves names.
    if labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("its host is no IPv4 address");
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

fn port(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() {
        return Err("it has no port");
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("its port is no number");
    }
    match text.parse() {
        Ok(0) => Err("nobody listens at port 0"),
        Ok(port) => Ok(port),
        Err(_) => Err("a port is 65535 at most"),
    }
}

fn is_one_host(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

impl Serialize for HostPort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneAddress)
    }
}

/// Numbers are addresses without a port, whatever a source takes them for.
struct OneAddress;

impl Visitor<'_> for OneAddress {
    type Value = HostPort;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address as HOST:PORT")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HostPort, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<HostPort, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<HostPort, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<HostPort, E> {
        self.visit_str(&number.to_string())
    }
}

/// Several addresses: a list, or a text with commas between them.
///
/// # Errors
/// As of [`HostPort`].
pub fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HostPort>, D::Error> {
    struct Addresses;

    impl<'de> Visitor<'de> for Addresses {
        type Value = Vec<HostPort>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of addresses as HOST:PORT")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<HostPort>, E> {
            text.split(',').map(|part| part.trim().parse().map_err(E::custom)).collect()
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Vec<HostPort>, A::Error> {
            let mut found = Vec::new();
            while let Some(address) = all.next_element()? {
                found.push(address);
            }
            Ok(found)
        }
    }

    deserializer.deserialize_any(Addresses)
}

/// An address to listen on: numbers only, port 0 takes a free one.
///
/// # Errors
/// What would be right.
pub fn listening(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{text:?} is no address to listen on: write IP:PORT, such as 127.0.0.1:7101, \
             0.0.0.0:7101 or [::]:7101"
        )
    })
}

/// As [`listening`], of a setting.
///
/// # Errors
/// What would be right.
pub fn listening_setting<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    listening(&String::deserialize(from)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_be_dialled_is_read_and_printed() {
        for (text, printed) in [
            ("node-1:7103", "node-1:7103"),
            ("Node_1.Example.:65535", "node_1.example.:65535"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]:7103", "[::1]:7103"),
            ("[2001:DB8:0:0::1]:7103", "[2001:db8::1]:7103"),
            ("1password:00080", "1password:80"),
        ] {
            assert_eq!(text.parse::<HostPort>().map(|a| a.to_string()), Ok(printed.to_owned()));
        }
    }

    #[test]
    fn what_nobody_could_dial_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "empty"),
            (" ", "white space"),
            ("no such host:1", "white space"),
            ("a:1\n", "white space"),
            ("node-1", "no port"),
            ("7103", "no port"),
            ("node-1:", "no port"),
            ("[::1]", "no port"),
            (":7103", "no host"),
            ("http://127.0.0.1:7103", "scheme"),
            ("127.0.0.1:7103/", "path"),
            ("me@node-1:7103", "user"),
            ("node-1:0", "port 0"),
            ("node-1:65536", "65535"),
            ("node-1:99999999999999999999", "65535"),
            ("node-1:http", "no number"),
            ("node-1:+80", "no number"),
            ("node-1:-1", "no number"),
            ("::1:7103", "brackets"),
            ("a:b:1", "brackets"),
            ("[::1:7103", "not closed"),
            ("[::1]7103", "no port"),
            ("[127.0.0.1]:1", "no IPv6"),
            ("[fe80::1%eth0]:1", "no IPv6"),
            ("0.0.0.0:7103", "listens"),
            ("[::]:7103", "listens"),
            ("[::ffff:0.0.0.0]:7103", "listens"),
            ("224.0.0.1:1", "listens"),
            ("255.255.255.255:1", "listens"),
            ("256.0.0.1:1", "no IPv4"),
            ("10.0.1:1", "no IPv4"),
            ("nöde:1", "neither"),
            ("a..b:1", "neither"),
            ("-a:1", "neither"),
            ("$HOST:1", "neither"),
            ("a,b:1", "neither"),
        ] {
            let words = text.parse::<HostPort>().expect_err(text).to_string();
            assert!(words.contains(why) && words.contains("HOST:PORT"), "{text}: {words}");
        }
    }

    #[test]
    fn a_list_is_a_list_or_a_text_with_commas() {
        #[derive(Deserialize)]
        struct Of {
            #[serde(deserialize_with = "list")]
            seeds: Vec<HostPort>,
        }
        let read = |json| {
            serde_json::from_value::<Of>(serde_json::json!({ "seeds": json })).map(|of| of.seeds)
        };
        let two = read("a:1, [::1]:2".into()).expect("two");
        assert_eq!(read(serde_json::json!(["a:1", "[::1]:2"])).expect("two"), two);
        assert!(read("a:1,".into()).is_err());
        assert!(read("".into()).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_that_reads_back_or_is_refused(text in ".{0,40}") {
            if let Ok(address) = text.parse::<HostPort>() {
                prop_assert_eq!(address.to_string().parse::<HostPort>(), Ok(address));
            }
        }

        #[test]
        fn what_looks_like_an_address_is_one_that_a_url_can_hold(
            text in r"(\[[0-9a-f:.]{2,12}\]|[a-zA-Z0-9_.-]{1,20}):[0-9]{1,6}",
        ) {
            if let Ok(address) = text.parse::<HostPort>() {
                let uri: tonic::codegen::http::Uri =
                    format!("http://{address}").parse().expect("a URL");
                prop_assert!(uri.port_u16().is_some_and(|port| port != 0), "{}", text);
            }
        }
    }
}
