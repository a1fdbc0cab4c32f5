//! Why connections did not get through, counted and logged.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A reason is logged at most this often: a flood must not fill the log.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Why a connection did not get through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// No place at all.
    #[error(
        "this listener holds as many connections as it may \
         (listeners.connections_max = {connections_max}); try again later"
    )]
    Full {
        /// The setting.
        connections_max: usize,
    },
    /// No place for this address.
    #[error(
        "your address holds as many connections as it may \
         (listeners.connections_per_address_max = {per_address_max}); close some"
    )]
    AddressFull {
        /// The setting.
        per_address_max: usize,
    },
    /// It had said too little by then.
    #[error(
        "the first bytes of the connection were not there by listeners.opening_ms = {}",
        .0.as_millis()
    )]
    TooSlow(Duration),
    /// It does not speak TLS.
    #[error("this listener speaks TLS: use https://")]
    NoTls,
    /// It speaks TLS.
    #[error("this listener does not speak TLS: use http://")]
    UnexpectedTls,
    /// It speaks something else than this.
    #[error("this listener speaks {0}")]
    OtherProtocol(&'static str),
    /// Why the handshake failed.
    #[error("no TLS came about: {0}")]
    TlsFailed(String),
    /// It reads too slowly.
    #[error(
        "its answers were not read by listeners.answer_ms = {} ms, nor at {} bytes a second",
        .0.as_millis(), super::hold::BYTES_PER_SECOND_MIN
    )]
    Unread(Duration),
    /// It proved nothing by then.
    #[error("it did not prove within {} ms to be a node of this cluster", .0.as_millis())]
    Stranger(Duration),
    /// It ended before it said anything.
    #[error("the connection broke before its first bytes")]
    Broken,
}

/// What a listener's door has done since the start.
#[derive(Debug, Default)]
pub struct Figures {
    full: AtomicU64,
    slow: AtomicU64,
    misspoken: AtomicU64,
    unaccepted: AtomicU64,
    last_logged: Mutex<Option<Instant>>,
}

impl Figures {
    /// Connections refused because there was no place.
    pub fn refused_full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    /// Connections closed because their first bytes did not come in time, their answers were not
    /// read, or they proved nothing.
    pub fn closed_slow(&self) -> u64 {
        self.slow.load(Ordering::Relaxed)
    }

    /// Connections closed because what they spoke is not served, or their certificate was
    /// missing or wrong.
    pub fn closed_misspoken(&self) -> u64 {
        self.misspoken.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, whom: &'static str, from: SocketAddr, why: &Closed) {
        let count = match why {
            Closed::Full { .. } | Closed::AddressFull { .. } => &self.full,
            Closed::TooSlow(_) | Closed::Unread(_) | Closed::Stranger(_) => &self.slow,
            // A scanner, or a load balancer that looks whether the port is open.
            Closed::Broken => return,
            _ => &self.misspoken,
        };
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.is_news() {
            tracing::warn!(whom, %from, %why, count, "a connection was closed");
        } else {
            tracing::debug!(whom, %from, %why, count, "a connection was closed");
        }
    }

    /// `accept` failed.
    pub(super) fn count_unaccepted(&self, whom: &'static str, error: &std::io::Error) {
        let count = self.unaccepted.fetch_add(1, Ordering::Relaxed) + 1;
        if self.is_news() {
            tracing::warn!(whom, %error, count, "connections cannot be accepted");
        }
    }

    fn is_news(&self) -> bool {
        let mut last = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = last.is_none_or(|last| last.elapsed() > LOG_PERIOD);
        if is_news {
            *last = Some(Instant::now());
        }
        is_news
    }
}
