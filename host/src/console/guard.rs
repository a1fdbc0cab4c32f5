//! Who is answered, and what browsers may do with the answer.
//!
//! A page of a hostile site can have its own name point at 127.0.0.1 and then read whatever answers
//! there (DNS rebinding). The browser tells in the `Host` header by which name it asked, so names that
//! are not this node's are refused. Numbers are let pass: nobody can point a number elsewhere. With
//! certificates every name passes: the browser has compared it with the certificate.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::{Request, State};
use axum::http::header::{HOST, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Console;
use super::answer::Refused;

/// With every answer.
const HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// The names by which this node may be asked.
#[derive(Debug)]
pub(super) struct Hosts {
    /// In small letters.
    names: Vec<String>,
    is_proved: bool,
}

impl Hosts {
    /// Those of `addresses`, HOST:PORT, that the node tells others; all if certificates prove them.
    pub(super) fn new<'a>(addresses: impl IntoIterator<Item = &'a str>, is_proved: bool) -> Self {
        let names = addresses.into_iter().filter_map(host_of).map(str::to_ascii_lowercase);
        Hosts { names: names.chain(["localhost".to_owned()]).collect(), is_proved }
    }

    fn is_here(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        let is_number = host.parse::<Ipv4Addr>().is_ok()
            || (authority.starts_with('[') && host.parse::<Ipv6Addr>().is_ok());
        is_number || self.is_proved || self.names.contains(&host.to_ascii_lowercase())
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        // A request line with a host counts above the header (RFC 9112, 3.2.2).
        let header = || headers.get(HOST).and_then(|host| host.to_str().ok());
        let asked = uri.authority().map(|authority| authority.as_str()).or_else(header);
        if !asked.is_some_and(|asked| self.is_here(asked)) {
            let message = format!(
                "this node is not called {:?}: open the console by a number, such as \
                 http://127.0.0.1:PORT, by localhost, or by a name in advertise_admin (or \
                 advertise_client, advertise_peer)",
                asked.unwrap_or_default()
            );
            return Err(Refused::new(StatusCode::MISDIRECTED_REQUEST, "OTHER_HOST", message));
        }
        let is_foreign = headers.get("sec-fetch-site").is_some_and(|site| {
            !["same-origin", "none"].iter().any(|own| site.as_bytes() == own.as_bytes())
        });
        if is_foreign && uri.path().starts_with("/api/") {
            let message = "a page of another site asked; nothing was done";
            return Err(Refused::new(StatusCode::FORBIDDEN, "OTHER_SITE", message));
        }
        Ok(())
    }
}

/// The host of `HOST` or `HOST:PORT`, without the brackets of an IPv6 address.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit());
    let is_whole = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (is_whole && !host.is_empty()).then_some(host)
}

pub(super) async fn guard(
    State(console): State<Console>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match console.hosts.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_with_and_without_its_port() {
        let table = [
            ("a.example:80", Some("a.example")),
            ("a.example", Some("a.example")),
            ("[::1]:80", Some("::1")),
            ("[::1]", Some("::1")),
            ("[::1", None),
            ("a:b", None),
            ("a:1:2", None),
            (":80", None),
            ("", None),
        ];
        for (authority, host) in table {
            assert_eq!(host_of(authority), host, "{authority:?}");
        }
    }

    #[test]
    fn with_certificates_the_browser_has_checked_the_name() {
        assert!(Hosts::new([], true).is_here("console.example:7105"));
        assert!(!Hosts::new([], false).is_here("console.example:7105"));
    }
}
