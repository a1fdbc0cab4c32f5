//! What every listener bears: settings of the section `[listeners]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::listen::{BodyLimits, DoorLimits};

/// What every listener bears. Counts and bytes are those of one listener, not of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listeners {
    /// Open connections. Beyond it a new one is told so and closed at once.
    pub connections_max: usize,
    /// Open connections from one address (of IPv6, one /64 network).
    pub connections_per_address_max: usize,
    /// A connection's TLS handshake and first bytes must be there by then, in milliseconds.
    pub opening_ms: u64,
    /// A connection that was silent for this long is asked for a sign of life, in milliseconds.
    /// Nodes send each other one every 2 s.
    pub keepalive_ms: u64,
    /// It is closed if none came for this long after that, in milliseconds; between nodes after
    /// 6 s of silence.
    pub keepalive_timeout_ms: u64,
    /// Requests that one connection may have under way. A client that knows HTTP/2 waits; of one
    /// that goes on, the stream is refused.
    pub streams_max: u32,
    /// Bytes of a request's headers.
    pub header_bytes_max: u32,
    /// A request's body must be there by then, in milliseconds, or keep coming at 16 KiB a second.
    pub body_ms: u64,
    /// Bytes of request bodies that are being read, of all clients together.
    pub body_bytes_max: usize,
    /// A connection must have read its answers by then, in milliseconds, or keep reading them at
    /// 16 KiB a second.
    pub answer_ms: u64,
    /// Bytes of answers that are not read yet, of all clients together; half of it of one
    /// connection.
    pub answer_bytes_max: usize,
}

impl Default for Listeners {
    fn default() -> Self {
        let door = DoorLimits::default();
        Listeners {
            connections_max: door.connections_max,
            connections_per_address_max: door.connections_per_address_max,
            opening_ms: door.opening_deadline.as_millis() as u64,
            keepalive_ms: 20_000,
            keepalive_timeout_ms: 10_000,
            streams_max: 1_024,
            header_bytes_max: 16 << 10,
            body_ms: 10_000,
            body_bytes_max: 256 << 20,
            answer_ms: door.answer_deadline.as_millis() as u64,
            answer_bytes_max: 128 << 20,
        }
    }
}

impl Listeners {
    /// What a listener's door lets in.
    pub fn door(&self) -> DoorLimits {
        DoorLimits {
            connections_max: self.connections_max,
            connections_per_address_max: self.connections_per_address_max,
            opening_deadline: Duration::from_millis(self.opening_ms),
            answer_deadline: Duration::from_millis(self.answer_ms),
            stranger_bytes_max: None,
        }
    }

    /// What request bodies may hold and how long they may take.
    pub fn bodies(&self) -> BodyLimits {
        BodyLimits { bytes_max: self.body_bytes_max, deadline: Duration::from_millis(self.body_ms) }
    }

    /// Settings with what they are and may be, least and most.
    pub(super) fn ranges(&self) -> [(&'static str, u64, u64, u64); 11] {
        const HOUR_MS: u64 = 3_600_000;
        let per_address = self.connections_per_address_max as u64;
        [
            ("listeners.connections_max", self.connections_max as u64, 1, 1_000_000),
            ("listeners.connections_per_address_max", per_address, 1, 1_000_000),
            ("listeners.opening_ms", self.opening_ms, 10, HOUR_MS),
            ("listeners.keepalive_ms", self.keepalive_ms, 10, HOUR_MS),
            ("listeners.keepalive_timeout_ms", self.keepalive_timeout_ms, 10, HOUR_MS),
            ("listeners.streams_max", u64::from(self.streams_max), 1, 100_000),
            ("listeners.header_bytes_max", u64::from(self.header_bytes_max), 1 << 10, 1 << 20),
            ("listeners.body_ms", self.body_ms, 10, HOUR_MS),
            // Room for the largest request there is.
            ("listeners.body_bytes_max", self.body_bytes_max as u64, 32 << 20, 1 << 40),
            ("listeners.answer_ms", self.answer_ms, 10, HOUR_MS),
            // Room for the two largest answers there are.
            ("listeners.answer_bytes_max", self.answer_bytes_max as u64, 128 << 20, 1 << 40),
        ]
    }
}

/// Certificates of the listeners; one without them speaks plain text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSections {
    /// Of the listener for clients.
    pub client: Option<crate::tls::TlsFiles>,
    /// Of the listener for operators.
    pub admin: Option<crate::tls::TlsFiles>,
    /// Of the console for browsers.
    pub console: Option<crate::tls::TlsFiles>,
    /// Between nodes, both ways.
    pub peer: Option<crate::tls::TlsFiles>,
}
